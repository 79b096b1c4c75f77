//! The client as these tests set it up, and short words for what they ask of it.

use std::{net::SocketAddr, ops::Range, time::Duration};

use futures::StreamExt;
use s2_sdk::{
    S2, S2Basin, S2Stream,
    error::{RequestError, ServerError},
    read_session::ReadSession,
    types::{
        AppendInput, AppendRecord, AppendRecordBatch, BasinName, CreateBasinInput, CreateStreamInput, ReadBatch,
        ReadFrom, ReadInput, ReadStart, RetryConfig, S2Config, S2Endpoints, SequencedRecord, StreamName,
    },
};

/// Nothing here takes so long; what does hangs.
const TOO_LONG: Duration = Duration::from_secs(60);

/// A client as users have it, but for retries that come at once.
pub fn config(gateway: SocketAddr) -> S2Config {
    let endpoints = S2Endpoints::for_endpoint(&format!("http://{gateway}")).unwrap();
    S2Config::new("a token").with_endpoints(endpoints).with_retry(retries_at_once())
}

pub fn retries_at_once() -> RetryConfig {
    RetryConfig::new().with_min_base_delay(Duration::from_millis(1))
}

pub fn client(gateway: SocketAddr) -> S2 {
    S2::new(config(gateway)).unwrap()
}

pub fn basin_name(name: &str) -> BasinName {
    name.parse().unwrap()
}

pub fn stream_name(name: &str) -> StreamName {
    name.parse().unwrap()
}

pub async fn new_basin(s2: &S2) -> S2Basin {
    let name = basin_name("my-basin-01");
    s2.create_basin(CreateBasinInput::new(name.clone())).await.unwrap();
    s2.basin(name)
}

pub async fn new_stream(s2: &S2) -> S2Stream {
    let name = stream_name("orders/eu");
    let basin = new_basin(s2).await;
    basin.create_stream(CreateStreamInput::new(name.clone())).await.unwrap();
    basin.stream(name)
}

/// The stream of [`new_stream`], for another client.
pub fn same_stream(s2: &S2) -> S2Stream {
    s2.basin(basin_name("my-basin-01")).stream(stream_name("orders/eu"))
}

pub fn record(body: impl Into<bytes::Bytes>) -> AppendRecord {
    AppendRecord::new(body).unwrap()
}

pub fn input(records: impl IntoIterator<Item = AppendRecord>) -> AppendInput {
    AppendInput::new(AppendRecordBatch::try_from_iter(records).unwrap())
}

/// Records that say in their bodies which numbers they should get.
pub fn numbered(seq_nums: Range<u64>) -> AppendInput {
    input(seq_nums.map(|n| record(n.to_string())))
}

pub fn from(start: ReadFrom) -> ReadInput {
    ReadInput::new().with_start(ReadStart::new().with_from(start))
}

pub fn from_seq_num(seq_num: u64) -> ReadInput {
    from(ReadFrom::SeqNum(seq_num))
}

pub async fn follow(stream: &S2Stream, seq_num: u64) -> ReadSession {
    stream.read_session(from_seq_num(seq_num), Default::default()).await.unwrap()
}

pub async fn in_time<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(TOO_LONG, wait).await.expect("it hangs")
}

pub async fn next_batch(session: &mut ReadSession) -> ReadBatch {
    in_time(session.next()).await.expect("the session ended").expect("the session failed")
}

/// Reads on until the record before `end` has come.
pub async fn read_until(session: &mut ReadSession, end: u64) -> Vec<SequencedRecord> {
    let mut records = Vec::new();
    while records.last().is_none_or(|last: &SequencedRecord| last.seq_num + 1 < end) {
        records.extend(next_batch(session).await.records);
    }
    records
}

/// Reads on until the session ends by itself.
pub async fn read_to_end(session: ReadSession) -> Vec<SequencedRecord> {
    let batches: Vec<_> = in_time(session.collect()).await;
    batches.into_iter().flat_map(|batch| batch.unwrap().records).collect()
}

/// Reads, without records being expected, until the session says that it has caught up; with which tail.
pub async fn caught_up(session: &mut ReadSession) -> u64 {
    let mut caught_up = session.caught_up();
    in_time(async {
        tokio::select! {
            tail = &mut caught_up => tail.unwrap().seq_num,
            next = session.next() => panic!("{next:?}"),
        }
    })
    .await
}

pub fn seq_nums(records: &[SequencedRecord]) -> Vec<u64> {
    records.iter().map(|record| record.seq_num).collect()
}

/// Each record of [`numbered`] once, in order, from `first` on.
#[track_caller]
pub fn assert_numbered(records: &[SequencedRecord], expected: Range<u64>) {
    let found: Vec<_> = records.iter().map(|record| (record.seq_num, record.body.clone())).collect();
    let expected: Vec<_> = expected.map(|n| (n, bytes::Bytes::from(n.to_string()))).collect();
    assert_eq!(found, expected);
}

/// What the gateway said was wrong.
#[track_caller]
pub fn server_error(error: Option<&RequestError>) -> (u16, &str) {
    let Some(ServerError { status, code, .. }) = error.and_then(RequestError::server_error) else {
        panic!("not an error of the gateway: {error:?}")
    };
    (status.as_u16(), code)
}
