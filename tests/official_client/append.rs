//! Appends: one by one, in sessions, by the producer.

use std::{num::NonZeroU32, time::Duration};

use futures::future::join_all;
use s2_sdk::{
    S2Stream,
    append_session::{AppendSession, AppendSessionConfig},
    batching::{BatchLimits, BatchingConfig},
    producer::ProducerConfig,
    types::{
        AppendRecord, CreateStreamInput, Header, MeteredBytes, StreamConfig, TimestampingConfig, TimestampingMode,
    },
};

use super::{
    sdk::{
        assert_numbered, client, follow, from_seq_num, in_time, input, new_basin, new_stream, numbered, read_until,
        record, server_error, stream_name,
    },
    support::Gateway,
};

#[tokio::test]
async fn a_batch_is_acknowledged_read_back_and_counted_in_the_tail() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;

    assert_eq!(stream.check_tail().await.unwrap().seq_num, 0);
    let first = stream.append(numbered(0..1)).await.unwrap();
    let second = stream.append(numbered(1..4)).await.unwrap();
    assert_eq!((first.start.seq_num, first.end.seq_num), (0, 1));
    assert_eq!((second.start.seq_num, second.end.seq_num), (1, 4));
    assert_eq!(second.tail, second.end);
    assert_eq!(stream.check_tail().await.unwrap(), second.tail);

    let read = stream.read(from_seq_num(0)).await.unwrap();
    assert_numbered(&read.records, 0..4);
    assert_eq!(read.tail, Some(second.tail));
    assert_eq!(read.records[0].timestamp, first.end.timestamp);
    assert_eq!(read.records[3].timestamp, second.end.timestamp);
}

#[tokio::test]
async fn a_session_acknowledges_what_was_pipelined_in_order_also_after_it_was_closed() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;

    let session = stream.append_session(Default::default());
    let mut tickets = Vec::new();
    for n in 0..100 {
        tickets.push(session.submit(numbered(n * 10..n * 10 + 10)).await.unwrap());
    }
    // Closing ends the request; what is under way is still acknowledged.
    in_time(session.close()).await.unwrap();
    for (n, ticket) in (0..).zip(tickets) {
        let ack = ticket.await.unwrap();
        assert_eq!((ack.start.seq_num, ack.end.seq_num), (n * 10, n * 10 + 10));
        assert!(ack.tail.seq_num >= ack.end.seq_num);
    }
    assert_numbered(&read_until(&mut follow(&stream, 0).await, 1000).await, 0..1000);
}

#[tokio::test]
async fn a_session_that_sent_nothing_ends_cleanly() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    in_time(stream.append_session(Default::default()).close()).await.unwrap();
}

#[tokio::test]
async fn a_session_with_one_batch_in_flight_at_a_time_goes_on() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    let one = NonZeroU32::new(1).unwrap();
    let session = stream.append_session(AppendSessionConfig::new().with_max_unacked_batches(one));
    append_and_wait(&session, 0, 50).await;
    in_time(session.close()).await.unwrap();
}

#[tokio::test]
async fn batches_of_several_writers_stay_whole() {
    let gateway = Gateway::start().await;
    let s2 = client(gateway.address);
    let stream = new_stream(&s2).await;

    let write = async |writer: &str| {
        let session = stream.append_session(Default::default());
        for _ in 0..50 {
            session.submit(input((0..10).map(|_| record(writer.to_owned())))).await.unwrap();
        }
        in_time(session.close()).await.unwrap();
    };
    tokio::join!(write("a"), write("b"), write("c"));

    let records = read_until(&mut follow(&stream, 0).await, 1500).await;
    for batch in records.chunks(10) {
        assert!(batch.iter().all(|record| record.body == batch[0].body), "a batch was broken up");
    }
    for writer in ["a", "b", "c"] {
        assert_eq!(records.iter().filter(|record| record.body == writer).count(), 500);
    }
}

#[tokio::test]
async fn the_producer_makes_batches_of_records() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;

    let never = Duration::from_secs(3600);
    let limits = BatchLimits::new().with_max_batch_records(10).unwrap();
    let batching = BatchingConfig::new().with_linger(never).with_limits(limits);
    let producer = stream.producer(ProducerConfig::new().with_batching(batching).with_match_seq_num(0));
    let mut tickets = Vec::new();
    for n in 0..25u64 {
        tickets.push(producer.submit(record(n.to_string())).await.unwrap());
    }
    // Two batches are full; the third goes out because it is asked for.
    in_time(producer.flush()).await.unwrap();
    for (n, ticket) in (0..).zip(tickets) {
        let ack = ticket.await.unwrap();
        assert_eq!(ack.seq_num, n);
        assert_eq!(ack.batch.end.seq_num, (n / 10 * 10 + 10).min(25));
    }
    in_time(producer.close()).await.unwrap();
    assert_numbered(&stream.read(from_seq_num(0)).await.unwrap().records, 0..25);
}

#[tokio::test]
async fn the_producer_sends_what_lingered() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    let batching = BatchingConfig::new().with_linger(Duration::from_millis(1));
    let producer = stream.producer(ProducerConfig::new().with_batching(batching));
    let ticket = producer.submit(record("0")).await.unwrap();
    assert_eq!(in_time(ticket).await.unwrap().seq_num, 0);
    in_time(producer.close()).await.unwrap();
}

#[tokio::test]
async fn records_of_all_sizes_come_back_byte_for_byte() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    let batches = batches_of_all_sizes();
    let expected: Vec<_> = batches.iter().flatten().cloned().collect();

    // Unary first, then in a session.
    for batch in &batches {
        stream.append(input(batch.clone())).await.unwrap();
    }
    let session = stream.append_session(Default::default());
    for batch in &batches {
        session.submit(input(batch.clone())).await.unwrap();
    }
    in_time(session.close()).await.unwrap();

    let all = 2 * expected.len() as u64;
    let read = read_until(&mut follow(&stream, 0).await, all).await;
    for (record, expected) in read.iter().zip(expected.iter().chain(&expected)) {
        assert_eq!(record.headers, expected.headers());
        assert!(record.body == expected.body(), "record {} is not as it was", record.seq_num);
    }
    assert_eq!(read.len() as u64, all);
    let unary = stream.read(from_seq_num(0)).await.unwrap();
    assert_eq!(unary.records.len(), 1, "a unary read stops at 1 MiB");
    assert_eq!(unary.records[0].metered_bytes(), 1024 * 1024);
}

fn batches_of_all_sizes() -> Vec<Vec<AppendRecord>> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let bytes = |len: usize| record((0..len).map(|n| (n * 31 % 251) as u8).collect::<Vec<_>>());
    // A record of a header, of nothing else: name and value of bytes that are no text, doubled, and empty.
    let odd_headers = [
        Header::new(every_byte.clone(), every_byte.clone()),
        Header::new("k", vec![0xff, 0x00]),
        Header::new("k", vec![0xff, 0x00]),
        Header::new("empty", ""),
    ];
    let largest = 1024 * 1024 - 8;
    let mixed = [0, 1, 127, 128, 1023, 1024, 16_383, 16_384, 65_535, 65_536, 300_000];
    vec![
        vec![bytes(largest)],
        (0..1000).map(|n| bytes(n % 200)).collect(),
        vec![record("").with_headers(odd_headers.clone()).unwrap(), bytes(9).with_headers(odd_headers).unwrap()],
        mixed.into_iter().map(bytes).collect(),
        // The largest batch: 1000 records, together 1 MiB.
        std::iter::repeat_with(|| bytes(1040)).take(999).chain([bytes(1024 * 1024 - 999 * 1048 - 8)]).collect(),
        vec![bytes(0)],
    ]
}

#[tokio::test]
async fn timestamps_are_whose_the_stream_says() {
    let gateway = Gateway::start().await;
    let basin = new_basin(&client(gateway.address)).await;
    let stream = async |mode: TimestampingMode| {
        let name = stream_name(&format!("{mode:?}"));
        let timestamping = TimestampingConfig::new().with_mode(mode);
        let config = StreamConfig::new().with_timestamping(timestamping);
        basin.create_stream(CreateStreamInput::new(name.clone()).with_config(config)).await.unwrap();
        basin.stream(name)
    };
    let records = || input([record("a").with_timestamp(2000), record("b").with_timestamp(1000)]);

    // Never backwards; beyond that as the client says.
    let preferred = stream(TimestampingMode::ClientPrefer).await;
    preferred.append(records()).await.unwrap();
    assert_eq!(timestamps(&preferred).await, [2000, 2000]);

    let arrival = stream(TimestampingMode::Arrival).await;
    let ack = arrival.append(records()).await.unwrap();
    assert!(ack.start.timestamp > 2000);

    let required = stream(TimestampingMode::ClientRequire).await;
    required.append(records()).await.unwrap();
    let error = required.append(numbered(2..3)).await.unwrap_err();
    assert_eq!(server_error(error.request_error()), (422, "invalid"));
    let session = required.append_session(Default::default());
    let error = session.submit(numbered(2..3)).await.unwrap().await.unwrap_err();
    assert_eq!(server_error(error.request_error()), (422, "invalid"));
}

async fn timestamps(stream: &S2Stream) -> Vec<u64> {
    stream.read(from_seq_num(0)).await.unwrap().records.iter().map(|record| record.timestamp).collect()
}

#[tokio::test]
async fn many_sessions_share_a_client() {
    let gateway = Gateway::start().await;
    let stream = new_stream(&client(gateway.address)).await;
    // More than one connection takes.
    let write = async |_| {
        let session = stream.append_session(Default::default());
        let ack = in_time(session.submit(numbered(0..1)).await.unwrap()).await.unwrap();
        in_time(session.close()).await.unwrap();
        ack.start.seq_num
    };
    let mut seq_nums = join_all((0..200).map(write)).await;
    seq_nums.sort_unstable();
    assert_eq!(seq_nums, (0..200).collect::<Vec<_>>());
}

async fn append_and_wait(session: &AppendSession, first: u64, count: u64) {
    for n in first..first + count {
        let ticket = in_time(session.submit(numbered(n..n + 1))).await.unwrap();
        assert_eq!(in_time(ticket).await.unwrap().start.seq_num, n);
    }
}
