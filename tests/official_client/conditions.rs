//! Appends with conditions, and the commands: match_seq_num, fence, trim.

use s2_sdk::{
    error::{AppendConditionFailed, AppendError, AppendSessionError},
    types::{AppendInput, CommandRecord, FencingToken, Header, ReadInput},
};

use super::{
    sdk::{
        assert_numbered, caught_up, client, follow, from_seq_num, in_time, input, new_stream, next_batch, numbered,
        read_until, record, seq_nums, server_error,
    },
    support::Gateway,
};

fn token(token: &str) -> FencingToken {
    token.parse().unwrap()
}

fn fence(new: &str) -> AppendInput {
    input([CommandRecord::fence(token(new)).into()])
}

fn trim(to: u64) -> AppendInput {
    input([CommandRecord::trim(to).into()])
}

/// The number that a refused append would have got.
#[track_caller]
fn seq_num_mismatch(error: AppendError) -> u64 {
    match error {
        AppendError::ConditionFailed(AppendConditionFailed::SeqNumMismatch(next)) => next,
        other => panic!("{other:?}"),
    }
}

/// The token in force when an append was refused.
#[track_caller]
fn fencing_token_mismatch(error: AppendError) -> String {
    match error {
        AppendError::ConditionFailed(AppendConditionFailed::FencingTokenMismatch(current)) => current.to_string(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn of_session(error: AppendSessionError) -> AppendError {
    match error {
        AppendSessionError::Append(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_append_lands_where_it_must_or_not_at_all() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;

    let error = stream.append(numbered(5..6).with_match_seq_num(5)).await.unwrap_err();
    assert_eq!(seq_num_mismatch(error), 0);
    stream.append(numbered(0..3).with_match_seq_num(0)).await.unwrap();
    // Zero is a condition like any other.
    let error = stream.append(numbered(0..3).with_match_seq_num(0)).await.unwrap_err();
    assert_eq!(seq_num_mismatch(error), 3);
    let ack = stream.append(numbered(3..4).with_match_seq_num(3)).await.unwrap();
    assert_eq!(ack.start.seq_num, 3);
    assert_numbered(&stream.read(from_seq_num(0)).await.unwrap().records, 0..4);
}

#[tokio::test]
async fn conditions_are_pipelined_and_the_first_that_fails_ends_the_session() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;

    let session = stream.append_session(Default::default());
    let mut good = Vec::new();
    for n in [0, 10, 20] {
        good.push(session.submit(numbered(n..n + 10).with_match_seq_num(n)).await.unwrap());
    }
    let late = session.submit(numbered(20..30).with_match_seq_num(20)).await.unwrap();
    // Nothing would be wrong with this one, but it comes after.
    let after = session.submit(numbered(30..31)).await.unwrap();

    for (n, ticket) in (0..).step_by(10).zip(good) {
        assert_eq!(in_time(ticket).await.unwrap().start.seq_num, n);
    }
    assert_eq!(seq_num_mismatch(of_session(in_time(late).await.unwrap_err())), 30);
    assert!(in_time(after).await.is_err());
    let error = in_time(session.close()).await.unwrap_err();
    assert_eq!(seq_num_mismatch(of_session(error)), 30);
    assert_eq!(stream.check_tail().await.unwrap().seq_num, 30);
}

#[tokio::test]
async fn a_fence_keeps_out_whoever_names_another_token() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    let with = |text: &str| input([record("x")]).with_fencing_token(token(text));

    // No fence is the empty token.
    stream.append(with("")).await.unwrap();
    assert_eq!(fencing_token_mismatch(stream.append(with("writer-1")).await.unwrap_err()), "");

    // The append that sets a fence is judged by the one before it.
    stream.append(fence("writer-1").with_fencing_token(token(""))).await.unwrap();
    assert_eq!(fencing_token_mismatch(stream.append(with("")).await.unwrap_err()), "writer-1");
    assert_eq!(fencing_token_mismatch(stream.append(with("writer-2")).await.unwrap_err()), "writer-1");
    stream.append(with("writer-1")).await.unwrap();
    // Fencing is cooperative.
    stream.append(input([record("x")])).await.unwrap();

    // If both conditions fail, the fence is what is told.
    let both = with("writer-2").with_match_seq_num(999);
    assert_eq!(fencing_token_mismatch(stream.append(both).await.unwrap_err()), "writer-1");

    stream.append(fence("").with_fencing_token(token("writer-1"))).await.unwrap();
    stream.append(with("")).await.unwrap();
    assert_eq!(stream.check_tail().await.unwrap().seq_num, 6);
}

#[tokio::test]
async fn a_fence_holds_for_what_is_pipelined_behind_it() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;

    let old = stream.append_session(Default::default());
    let with = |text: &str| input([record("x")]).with_fencing_token(token(text));
    in_time(old.submit(with("")).await.unwrap()).await.unwrap();

    let new = stream.append_session(Default::default());
    let fenced = new.submit(fence("new").with_fencing_token(token(""))).await.unwrap();
    let behind = new.submit(with("new")).await.unwrap();
    assert_eq!(in_time(fenced).await.unwrap().start.seq_num, 1);
    assert_eq!(in_time(behind).await.unwrap().start.seq_num, 2);

    let kept_out = in_time(old.submit(with("")).await.unwrap()).await.unwrap_err();
    assert_eq!(fencing_token_mismatch(of_session(kept_out)), "new");
    in_time(new.close()).await.unwrap();
}

#[tokio::test]
async fn trimmed_records_are_gone_and_the_tail_stays() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    stream.append(numbered(0..10)).await.unwrap();

    let ack = stream.append(trim(4)).await.unwrap();
    assert_eq!((ack.start.seq_num, ack.tail.seq_num), (10, 11));
    assert_eq!(stream.check_tail().await.unwrap(), ack.tail);

    // A read from below begins with the earliest record there is.
    let read = stream.read(from_seq_num(0)).await.unwrap().records;
    assert_eq!(seq_nums(&read), [4, 5, 6, 7, 8, 9, 10]);
    assert!(read[6].is_command_record());
    assert_eq!(seq_nums(&read_until(&mut follow(&stream, 2).await, 11).await), [4, 5, 6, 7, 8, 9, 10]);

    // The trim point does not go back.
    stream.append(trim(1)).await.unwrap();
    let without_commands: ReadInput = from_seq_num(0).with_ignore_command_records(true);
    assert_numbered(&stream.read(without_commands).await.unwrap().records, 4..10);
}

#[tokio::test]
async fn a_stream_trimmed_empty_goes_on_where_it_was() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    stream.append(numbered(0..10)).await.unwrap();
    // As far as can be: up to the command itself.
    stream.append(trim(u64::MAX)).await.unwrap();

    assert_eq!(stream.check_tail().await.unwrap().seq_num, 11);
    assert!(stream.read(from_seq_num(0)).await.unwrap().records.is_empty());
    let mut follower = follow(&stream, 0).await;
    assert_eq!(caught_up(&mut follower).await, 11);
    assert_eq!(stream.append(numbered(11..12)).await.unwrap().start.seq_num, 11);
    assert_numbered(&next_batch(&mut follower).await.records, 11..12);
}

#[tokio::test]
async fn commands_that_make_no_sense_are_refused_as_invalid() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    let command =
        |name: &'static str, body: &'static str| input([record(body).with_headers([Header::new("", name)]).unwrap()]);
    for wrong in [command("compact", ""), command("trim", "1234567"), command("Fence", "x")] {
        let error = stream.append(wrong.clone()).await.unwrap_err();
        assert_eq!(server_error(error.request_error()), (422, "invalid"));
        let session = stream.append_session(Default::default());
        let error = in_time(session.submit(wrong).await.unwrap()).await.unwrap_err();
        assert_eq!(server_error(error.request_error()), (422, "invalid"));
    }
    assert_eq!(stream.check_tail().await.unwrap().seq_num, 0);
}
