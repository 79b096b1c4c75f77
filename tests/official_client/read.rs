//! Reads: where they start, where they stop, and what a follower sees.

use std::time::Duration;

use futures::StreamExt;
use s2_sdk::{
    S2Stream,
    error::{ReadError, ReadSessionError},
    read_session::ReadSession,
    types::{ReadFrom, ReadInput, ReadLimits, ReadStart, ReadStop},
};

use super::{
    sdk::{
        assert_numbered, caught_up, client, follow, from, from_seq_num, in_time, input, new_stream, next_batch,
        numbered, read_to_end, read_until, record, seq_nums,
    },
    support::Gateway,
};

/// Records 0 to 9 with timestamps 1000, 1100 … 1900, each metered 9 bytes, in two batches.
async fn ten_records(gateway: &Gateway) -> S2Stream {
    let stream = new_stream(&client(gateway.address)).await;
    for half in [0..5, 5..10] {
        let records = half.map(|n: u64| record(n.to_string()).with_timestamp(1000 + n * 100));
        stream.append(input(records)).await.unwrap();
    }
    stream
}

fn count(count: usize) -> ReadStop {
    ReadStop::new().with_limits(ReadLimits::new().with_count(count))
}

fn bytes(bytes: usize) -> ReadStop {
    ReadStop::new().with_limits(ReadLimits::new().with_bytes(bytes))
}

fn wait(seconds: u32) -> ReadStop {
    ReadStop::new().with_wait(seconds)
}

fn clamped(start: ReadFrom) -> ReadInput {
    ReadInput::new().with_start(ReadStart::new().with_from(start).with_clamp_to_tail(true))
}

async fn session(stream: &S2Stream, input: ReadInput) -> ReadSession {
    stream.read_session(input, Default::default()).await.unwrap()
}

#[tokio::test]
async fn reads_start_and_stop_where_they_are_told() {
    let gateway = Gateway::start().await;
    let stream = ten_records(&gateway).await;
    let unbounded = ReadStop::new;
    let cases = [
        (ReadFrom::SeqNum(0), unbounded(), 0..10),
        (ReadFrom::SeqNum(3), unbounded(), 3..10),
        (ReadFrom::TailOffset(4), unbounded(), 6..10),
        (ReadFrom::TailOffset(100), unbounded(), 0..10),
        (ReadFrom::Timestamp(0), unbounded(), 0..10),
        (ReadFrom::Timestamp(1500), unbounded(), 5..10),
        (ReadFrom::Timestamp(1501), unbounded(), 6..10),
        (ReadFrom::Timestamp(1900), unbounded(), 9..10),
        (ReadFrom::SeqNum(3), count(4), 3..7),
        (ReadFrom::SeqNum(3), count(7), 3..10),
        (ReadFrom::SeqNum(3), count(99), 3..10),
        (ReadFrom::SeqNum(3), count(0), 3..3),
        (ReadFrom::SeqNum(0), bytes(9), 0..1),
        (ReadFrom::SeqNum(0), bytes(26), 0..2),
        (ReadFrom::SeqNum(0), bytes(27), 0..3),
        (ReadFrom::SeqNum(0), bytes(8), 0..0),
        (ReadFrom::SeqNum(2), unbounded().with_until(..1700), 2..7),
        (ReadFrom::SeqNum(2), unbounded().with_until(..1701), 2..8),
        (ReadFrom::SeqNum(2), unbounded().with_until(..1100), 2..2),
        (ReadFrom::Timestamp(1200), count(3).with_until(..1400), 2..4),
        (ReadFrom::TailOffset(8), count(2), 2..4),
    ];
    for (start, stop, expected) in cases {
        let case = format!("{start:?} {stop:?}");
        let input = from(start).with_stop(stop.clone());
        let unary = stream.read(input.clone()).await.unwrap();
        assert_eq!(seq_nums(&unary.records), expected.clone().collect::<Vec<_>>(), "{case}");
        // A session without any bound goes on for ever.
        let bounded = stop.limits.count.is_some() || stop.limits.bytes.is_some() || stop.until.is_some();
        let mut session = session(&stream, input).await;
        let records = if bounded { read_to_end(session).await } else { read_until(&mut session, expected.end).await };
        assert_eq!(seq_nums(&records), expected.collect::<Vec<_>>(), "{case}, session");
    }
}

#[tokio::test]
async fn a_read_beyond_what_was_written_is_told_the_tail() {
    let gateway = Gateway::start().await;
    let stream = ten_records(&gateway).await;
    let tail = stream.check_tail().await.unwrap();
    assert_eq!((tail.seq_num, tail.timestamp), (10, 1900));

    let unwritten = [
        from_seq_num(10),
        from_seq_num(11),
        from_seq_num(11).with_stop(wait(5)),
        clamped(ReadFrom::SeqNum(11)),
        from(ReadFrom::Timestamp(1901)),
        from(ReadFrom::TailOffset(0)),
    ];
    for input in unwritten {
        match stream.read(input.clone()).await {
            Err(ReadError::ReadUnwritten(told)) => assert_eq!(told, tail),
            other => panic!("{input:?}: {other:?}"),
        }
    }
    let unwritten = [
        from_seq_num(11),
        from(ReadFrom::Timestamp(1901)),
        from_seq_num(10).with_stop(count(1)),
        clamped(ReadFrom::SeqNum(99)).with_stop(count(1)),
    ];
    for input in unwritten {
        match stream.read_session(input.clone(), Default::default()).await {
            Err(ReadSessionError::Read(ReadError::ReadUnwritten(told))) => assert_eq!(told, tail),
            Err(other) => panic!("{input:?}: {other:?}"),
            Ok(_) => panic!("{input:?}"),
        }
    }
}

#[tokio::test]
async fn a_reader_at_the_tail_hears_where_it_is() {
    let gateway = Gateway::start().await;
    let stream = ten_records(&gateway).await;
    // None of these says by itself where the next record will be.
    let starts = [from(ReadFrom::TailOffset(0)), clamped(ReadFrom::SeqNum(99)), clamped(ReadFrom::Timestamp(5000))];
    for input in starts {
        let mut session = session(&stream, input.clone()).await;
        assert_eq!(session.resume_seq_num(), None, "{input:?}");
        assert_eq!(caught_up(&mut session).await, 10, "{input:?}");
        assert_eq!(session.resume_seq_num(), Some(10), "{input:?}");
    }
}

#[tokio::test]
async fn a_reader_of_an_empty_stream_is_caught_up() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    assert_eq!(caught_up(&mut follow(&stream, 0).await).await, 0);
}

#[tokio::test]
async fn a_follower_catches_up_and_then_sees_appends_as_they_come() {
    let gateway = Gateway::start().await;
    let stream = ten_records(&gateway).await;
    let mut session = session(&stream, from(ReadFrom::TailOffset(3))).await;
    let first = next_batch(&mut session).await;
    assert_numbered(&first.records, 7..10);
    // The last record abuts the tail that came with it.
    assert_eq!(first.tail.unwrap().seq_num, 10);
    assert!(session.is_caught_up());

    for n in (10..60).step_by(5) {
        let ack = stream.append(numbered(n..n + 5)).await.unwrap();
        let batch = next_batch(&mut session).await;
        assert_numbered(&batch.records, n..n + 5);
        assert_eq!(batch.tail, Some(ack.end));
        assert!(session.is_caught_up());
    }
}

#[tokio::test]
async fn many_followers_see_the_same() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    let followers = (0..50).map(|_| async {
        let mut follower = follow(&stream, 0).await;
        assert_numbered(&read_until(&mut follower, 300).await, 0..300);
    });
    let writer = async {
        let session = stream.append_session(Default::default());
        for n in (0..300).step_by(3) {
            in_time(session.submit(numbered(n..n + 3)).await.unwrap()).await.unwrap();
        }
    };
    tokio::join!(futures::future::join_all(followers), writer);
}

#[tokio::test]
async fn a_reader_that_falls_behind_misses_nothing() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    let mut follower = follow(&stream, 0).await;
    assert_eq!(caught_up(&mut follower).await, 0);

    // More than the windows, buffers and the ring of recent batches hold, while nobody reads.
    let body = |n: u64| vec![n as u8; 1024 * 1024 - 8];
    let session = stream.append_session(Default::default());
    for n in 0..24 {
        session.submit(input([record(body(n))])).await.unwrap();
    }
    in_time(session.close()).await.unwrap();

    let records = read_until(&mut follower, 24).await;
    assert_eq!(seq_nums(&records), (0..24).collect::<Vec<_>>());
    assert!(records.iter().all(|record| record.body == body(record.seq_num)));
    // And it is back among those who follow.
    let ack = stream.append(numbered(24..25)).await.unwrap();
    let batch = next_batch(&mut follower).await;
    assert_numbered(&batch.records, 24..25);
    assert_eq!(batch.tail, Some(ack.tail));
}

#[tokio::test]
async fn bounds_hold_while_following() {
    let stops = [count(4), bytes(4 * 10), ReadStop::new().with_until(..2400)];
    for stop in stops {
        let gateway = Gateway::start().await;
        let stream = ten_records(&gateway).await;
        let stop = stop.with_wait(60);
        let mut session = session(&stream, from(ReadFrom::TailOffset(0)).with_stop(stop.clone())).await;
        assert_eq!(caught_up(&mut session).await, 10);

        // The bound lies inside of what is appended.
        let records = (10..16).map(|n: u64| record(n.to_string()).with_timestamp(1000 + n * 100));
        let ack = stream.append(input(records)).await.unwrap();
        let batch = next_batch(&mut session).await;
        assert_numbered(&batch.records, 10..14);
        assert_eq!(batch.tail, Some(ack.tail));
        assert!(in_time(session.next()).await.is_none(), "{stop:?}");
    }
}

#[tokio::test]
async fn a_unary_read_waits_for_the_next_append() {
    let gateway = Gateway::start().await;
    let stream = ten_records(&gateway).await;
    let (read, ack) = tokio::join!(stream.read(from_seq_num(10).with_stop(wait(60))), stream.append(numbered(10..12)));
    let read = read.unwrap();
    assert_numbered(&read.records, 10..12);
    assert_eq!(read.tail, Some(ack.unwrap().tail));
}

#[tokio::test]
async fn a_wait_that_runs_out_ends_the_read() {
    let gateway = Gateway::start().await;
    let stream = ten_records(&gateway).await;
    let unary = async || in_time(stream.read(clamped(ReadFrom::SeqNum(99)).with_stop(wait(1)))).await.unwrap();
    let follower = async || read_to_end(session(&stream, from_seq_num(8).with_stop(wait(1))).await).await;
    let bounded = async || read_to_end(session(&stream, from_seq_num(10).with_stop(count(5).with_wait(1))).await).await;
    let (unary, follower, bounded) = tokio::join!(unary(), follower(), bounded());
    assert!(unary.records.is_empty());
    assert_numbered(&follower, 8..10);
    assert!(bounded.is_empty());
}

#[tokio::test]
async fn heartbeats_keep_a_silent_session_alive() {
    let gateway = Gateway::start().await;
    let stream = ten_records(&gateway).await;
    let mut session = session(&stream, from_seq_num(10)).await;
    assert_eq!(caught_up(&mut session).await, 10);
    let frames = || gateway.metric("s2s_frames_total{direction=\"out\"}");
    let before = frames();

    // The client gives up on a session that is silent for 20 seconds, and heartbeats come every 5 to 15.
    tokio::time::pause();
    tokio::select! {
        next = session.next() => panic!("{next:?}"),
        () = tokio::time::sleep(Duration::from_secs(600)) => {}
    }
    tokio::time::resume();
    let heartbeats = frames() - before;
    assert!((39.0..=121.0).contains(&heartbeats), "{heartbeats} in ten minutes");
    assert_eq!(gateway.metric("s2s_requests_total{operation=\"read\"}"), 1.0, "the client came back");
    stream.append(numbered(10..11)).await.unwrap();
    assert_numbered(&next_batch(&mut session).await.records, 10..11);
}
