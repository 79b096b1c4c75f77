//! Connections that break and gateways that stop: no record is lost, none comes twice.

use std::{collections::VecDeque, ops::Range, time::Duration};

use futures::StreamExt;
use s2_sdk::{
    S2, S2Stream,
    error::{AppendConditionFailed, AppendError, AppendSessionError},
    types::AppendRetryPolicy,
};

use super::{
    sdk::{
        assert_numbered, caught_up, client, config, follow, in_time, input, new_stream, next_batch, numbered,
        read_until, record, retries_at_once, same_stream, seq_nums,
    },
    support::{Gateway, Setup, peer::until, proxy::Proxy, still_time::StillTime},
};

const DRAINING: &str = "s2s_errors_total{code=\"server_draining\"}";
const WRITERS: &str = "s2s_sessions_open{kind=\"append\"}";
const READERS: &str = "s2s_sessions_open{kind=\"read\"}";

const READS: &str = "s2s_requests_total{operation=\"read\"}";
const APPENDS: &str = "s2s_requests_total{operation=\"append\"}";

const POLICIES: [AppendRetryPolicy; 2] = [AppendRetryPolicy::All, AppendRetryPolicy::NoSideEffects];

fn client_with(proxy: &Proxy, policy: AppendRetryPolicy) -> S2 {
    S2::new(config(proxy.address).with_retry(retries_at_once().with_append_retry_policy(policy))).unwrap()
}

#[tokio::test]
async fn a_reader_goes_on_where_its_connection_broke() {
    let gateway = Gateway::start().await;
    let writer = new_stream(&client(gateway.address)).await;
    let proxy = Proxy::to(gateway.address).await;
    let mut follower = follow(&same_stream(&client(proxy.address)), 0).await;

    let mut records = Vec::new();
    for n in 0..10 {
        // Cut while following, and while there is something to catch up with.
        writer.append(numbered(n * 100..n * 100 + 50)).await.unwrap();
        records.extend(next_batch(&mut follower).await.records);
        proxy.cut();
        writer.append(numbered(n * 100 + 50..n * 100 + 100)).await.unwrap();
        records.extend(read_until(&mut follower, n * 100 + 100).await);
        proxy.cut();
    }
    assert_numbered(&records, 0..1000);
    assert!(gateway.metric(READS) > 10.0, "nothing was cut");
}

#[tokio::test]
async fn a_batch_cut_in_the_middle_is_read_again_from_its_beginning() {
    let gateway = Gateway::start().await;
    let writer = new_stream(&client(gateway.address)).await;
    let proxy = Proxy::to(gateway.address).await;
    let mut follower = follow(&same_stream(&client(proxy.address)), 0).await;
    assert_eq!(caught_up(&mut follower).await, 0);

    let body = |n: u64| vec![n as u8; 100_000];
    proxy.cut_after_replies(420_000);
    for n in 0..2 {
        writer.append(input((n * 10..n * 10 + 10).map(|n| record(body(n))))).await.unwrap();
    }
    let records = read_until(&mut follower, 20).await;
    assert_eq!(seq_nums(&records), (0..20).collect::<Vec<_>>());
    assert!(records.iter().all(|record| record.body == body(record.seq_num)));
    assert_eq!(gateway.metric(READS), 2.0, "one cut, one more read");
}

#[tokio::test]
async fn a_writer_whose_acks_were_lost_learns_that_its_records_are_there() {
    for policy in POLICIES {
        let gateway = Gateway::start().await;
        let direct = new_stream(&client(gateway.address)).await;
        let proxy = Proxy::to(gateway.address).await;
        let stream = same_stream(&client_with(&proxy, policy));

        let session = stream.append_session(Default::default());
        in_time(session.submit(numbered(0..10).with_match_seq_num(0)).await.unwrap()).await.unwrap();
        proxy.hold_replies();
        let ticket = session.submit(numbered(10..20).with_match_seq_num(10)).await.unwrap();
        // Someone else sees the records before the writer hears of them.
        assert_numbered(&read_until(&mut follow(&direct, 0).await, 20).await, 0..20);
        proxy.cut();
        proxy.pass_replies();

        match (policy, in_time(ticket).await.unwrap_err()) {
            // Sent again, and told that the number is taken.
            (AppendRetryPolicy::All, AppendSessionError::IndefiniteFailure { final_attempt_error }) => {
                assert_eq!(next_seq_num(&final_attempt_error), Some(20));
            }
            (AppendRetryPolicy::NoSideEffects, error) => assert!(error.is_retryable(), "{error:?}"),
            (policy, error) => panic!("{policy:?}: {error:?}"),
        }
        assert_eq!(stream.check_tail().await.unwrap().seq_num, 20);
    }
}

/// The number that a refused append would have got.
fn next_seq_num(error: &AppendSessionError) -> Option<u64> {
    match error {
        AppendSessionError::Append(AppendError::ConditionFailed(AppendConditionFailed::SeqNumMismatch(next))) => {
            Some(*next)
        }
        _ => None,
    }
}

#[tokio::test]
async fn a_writer_that_says_where_each_batch_belongs_writes_it_once() {
    const END: u64 = 2000;
    for policy in POLICIES {
        let gateway = Gateway::start().await;
        let direct = new_stream(&client(gateway.address)).await;
        let proxy = Proxy::to(gateway.address).await;
        let stream = same_stream(&client_with(&proxy, policy));

        in_time(async {
            let mut next = 0;
            while next < END {
                write_until_it_breaks(&stream, next..END, &proxy).await;
                // What counts is what is there, not what was acknowledged.
                next = stream.check_tail().await.unwrap().seq_num;
            }
        })
        .await;
        assert_numbered(&read_until(&mut follow(&direct, 0).await, END).await, 0..END);
        assert!(gateway.metric(APPENDS) >= 5.0, "{policy:?}: four cuts make five sessions or more");
    }
}

/// Writes batches of ten, twenty of them in flight, each with the number it must get; the network breaks every 400
/// records, and in the end so does the session.
async fn write_until_it_breaks(stream: &S2Stream, seq_nums: Range<u64>, proxy: &Proxy) {
    let session = stream.append_session(Default::default());
    let mut tickets = VecDeque::new();
    let mut batches = seq_nums.step_by(10).peekable();
    while batches.peek().is_some() || !tickets.is_empty() {
        if let Some(n) = batches.next() {
            match session.submit(numbered(n..n + 10).with_match_seq_num(n)).await {
                Ok(ticket) => tickets.push_back(ticket),
                Err(error) => return assert_worth_another_try(&error),
            }
        }
        if tickets.len() == 20 || batches.peek().is_none() {
            match tickets.pop_front().expect("there is one").await {
                Ok(ack) if ack.end.seq_num % 400 == 0 => proxy.cut(),
                Ok(_) => {}
                Err(error) => return assert_worth_another_try(&error),
            }
        }
    }
}

#[track_caller]
fn assert_worth_another_try(error: &AppendSessionError) {
    let number_taken = match error {
        AppendSessionError::IndefiniteFailure { final_attempt_error } => next_seq_num(final_attempt_error).is_some(),
        error => next_seq_num(error).is_some(),
    };
    assert!(number_taken || error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn sessions_follow_the_advice_of_a_gateway_that_drains() {
    let (mut first, second) = Setup::default().start_two().await;
    let proxy = Proxy::to(first.address).await;
    // A writer without conditions, which may only send again what surely had no effect.
    let stream = {
        let s2 = client_with(&proxy, AppendRetryPolicy::NoSideEffects);
        new_stream(&s2).await
    };
    let session = stream.append_session(Default::default());
    let mut follower = follow(&stream, 0).await;
    let mut records = Vec::new();
    let mut append_and_read = async |n: u64| {
        let ack = in_time(session.submit(numbered(n * 10..n * 10 + 10)).await.unwrap()).await.unwrap();
        assert_eq!(ack.start.seq_num, n * 10);
        records.extend(read_until(&mut follower, n * 10 + 10).await);
    };
    append_and_read(0).await;
    assert_eq!((first.metric(WRITERS), first.metric(READERS)), (1.0, 1.0));

    proxy.point_to(second.address);
    first.tell_to_stop();
    let mut n = 1;
    in_time(async {
        while (second.metric(WRITERS), second.metric(READERS)) != (1.0, 1.0) {
            append_and_read(n).await;
            n += 1;
        }
    })
    .await;
    // It is over long before the deadline, with nobody sent away.
    assert_eq!(first.metric(DRAINING), 0.0);
    in_time(first.stop()).await;
    append_and_read(n).await;
    in_time(session.close()).await.unwrap();
    assert_numbered(&records, 0..(n + 1) * 10);
}

#[tokio::test]
async fn an_idle_reader_is_advised_by_a_heartbeat() {
    let (mut first, second) = Setup::drain_timeout(Duration::from_secs(3600)).start_two().await;
    let proxy = Proxy::to(first.address).await;
    let stream = new_stream(&client(proxy.address)).await;
    let mut follower = follow(&stream, 0).await;
    assert_eq!(caught_up(&mut follower).await, 0);
    proxy.point_to(second.address);
    first.tell_to_stop();

    // Until a heartbeat is due, and a little longer; what comes of it takes no time.
    let time = StillTime::begin();
    tokio::select! {
        next = follower.next() => panic!("{next:?}"),
        () = async {
            time.pass(Duration::from_secs(16)).await;
            until(|| (first.metric(READERS), second.metric(READERS)) == (0.0, 1.0)).await;
        } => {}
    }
    drop(time);
    in_time(first.stopped()).await;
    stream.append(numbered(0..1)).await.unwrap();
    assert_numbered(&next_batch(&mut follower).await.records, 0..1);
}

#[tokio::test]
async fn unary_calls_move_on_without_an_error() {
    let (mut first, second) = Setup::default().start_two().await;
    let proxy = Proxy::to(first.address).await;
    let stream = new_stream(&client_with(&proxy, AppendRetryPolicy::NoSideEffects)).await;
    stream.append(numbered(0..1)).await.unwrap();
    proxy.point_to(second.address);
    first.tell_to_stop();
    let mut n = 1;
    in_time(async {
        while second.metric(APPENDS) == 0.0 {
            assert_eq!(stream.append(numbered(n..n + 1)).await.unwrap().start.seq_num, n);
            n += 1;
        }
    })
    .await;
    in_time(first.stopped()).await;
    assert_eq!(stream.check_tail().await.unwrap().seq_num, n);
}

#[tokio::test]
async fn idle_sessions_are_sent_away_at_the_deadline_and_go_on_elsewhere() {
    let (mut first, second) = Setup::drain_timeout(Duration::ZERO).start_two().await;
    let proxy = Proxy::to(first.address).await;
    let stream = new_stream(&client_with(&proxy, AppendRetryPolicy::NoSideEffects)).await;
    let session = stream.append_session(Default::default());
    in_time(session.submit(numbered(0..10)).await.unwrap()).await.unwrap();
    let mut follower = follow(&stream, 0).await;
    assert_numbered(&read_until(&mut follower, 10).await, 0..10);

    proxy.point_to(second.address);
    first.tell_to_stop();
    in_time(first.stopped()).await;
    assert_eq!(first.metric(DRAINING), 2.0);

    in_time(session.submit(numbered(10..20)).await.unwrap()).await.unwrap();
    assert_numbered(&read_until(&mut follower, 20).await, 10..20);
    in_time(session.close()).await.unwrap();
    assert_eq!((second.metric(DRAINING), second.metric("s2s_acks_total")), (0.0, 1.0));
}

#[tokio::test]
async fn a_busy_writer_sent_away_at_the_deadline_writes_each_record_once() {
    const END: u64 = 20_000;
    let (mut first, second) = Setup::drain_timeout(Duration::ZERO).start_two().await;
    let proxy = Proxy::to(first.address).await;
    // Without conditions: it relies on the promise that what is not acknowledged was not written.
    let stream = new_stream(&client_with(&proxy, AppendRetryPolicy::NoSideEffects)).await;
    let mut follower = follow(&stream, 0).await;
    let session = stream.append_session(Default::default());
    proxy.point_to(second.address);

    let write = async {
        let mut tickets = Vec::new();
        for n in (0..END).step_by(10) {
            tickets.push(session.submit(numbered(n..n + 10)).await.unwrap());
        }
        for (n, ticket) in (0..END).step_by(10).zip(tickets) {
            assert_eq!(ticket.await.unwrap().start.seq_num, n);
        }
    };
    let read = async {
        let mut records = read_until(&mut follower, END / 10).await;
        first.tell_to_stop();
        records.extend(read_until(&mut follower, END).await);
        records
    };
    let ((), records) = in_time(async { tokio::join!(write, read) }).await;
    in_time(session.close()).await.unwrap();
    in_time(first.stop()).await;
    assert_numbered(&records, 0..END);
    assert!(second.metric("s2s_acks_total") > 0.0, "it was all over before the deadline");
}
