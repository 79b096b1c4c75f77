//! The service over a store that makes nothing durable until a test says so, and with the time in hand.

mod encryption;
mod neighbours;
mod shared;
mod shared_model;

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::*;
use crate::{
    clock::ManualClock,
    sequence::Rejection,
    store::{Commit, CommitSink, MemoryStore, MetaStore, OpenLog, StoreFuture, StreamLog},
    types::{
        AppendAck, AppendInput, BasinConfig, Batch, Compression, Head, MemoryShares, Metric, MetricQuery, Operations,
        Position, Provision, ReadBounds, ReadStart, RequestToken, SeqNum, StreamConfigLayer, StreamId, StreamMetricSet,
        TimeRange, Timestamp, TimestampingMode, testing,
    },
};

/// A store over memory whose commits wait until [`LateStore::release`].
pub(super) struct LateStore {
    pub(super) memory: MemoryStore,
    logs: Mutex<Vec<Arc<LateLog>>>,
    counts: Arc<Counts>,
}

/// What the logs of a store have in common.
#[derive(Default)]
struct Counts {
    reads: AtomicUsize,
    trims: AtomicUsize,
    /// Whether reads stay unanswered; who waits for one asks again by itself.
    reads_stall: AtomicBool,
}

struct LateLog {
    memory: Arc<dyn StreamLog>,
    sink: Arc<dyn CommitSink>,
    held: Mutex<Vec<(Batch, Head)>>,
    counts: Arc<Counts>,
}

impl LateStore {
    fn new() -> Arc<Self> {
        let memory = MemoryStore::new(64 * 1024 * 1024);
        Arc::new(Self { memory, logs: Mutex::default(), counts: Arc::default() })
    }

    /// Makes durable what all streams have accepted, and reports it once a stream.
    pub(super) fn release(&self) {
        for log in self.logs.lock().unwrap().iter() {
            log.release();
        }
    }

    /// Makes durable what all streams have accepted, and reports nothing yet.
    fn land(&self) {
        for log in self.logs.lock().unwrap().iter() {
            log.land();
        }
    }

    /// From now on reads are not answered, or again.
    fn stall_reads(&self, stall: bool) {
        self.counts.reads_stall.store(stall, Ordering::Relaxed);
    }

    /// Loses what all streams have accepted.
    pub(super) fn fail(&self, error: StoreError) {
        for log in self.logs.lock().unwrap().iter() {
            log.held.lock().unwrap().clear();
            log.sink.failed(error.clone());
        }
    }
}

impl LateLog {
    fn release(&self) {
        if let Some(end) = self.land() {
            self.sink.durable(end);
        }
    }

    fn land(&self) -> Option<SeqNum> {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let end = held.last().map(|(batch, _)| batch.end().seq_num);
        for (batch, head) in held {
            assert_eq!(self.memory.append(batch, head), Ok(Commit::Durable));
        }
        end
    }
}

impl Store for LateStore {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        Box::pin(async move {
            let OpenLog { log, head } = self.memory.open(stream, sink.clone()).await?;
            let log = Arc::new(LateLog { memory: log, sink, held: Mutex::default(), counts: self.counts.clone() });
            self.logs.lock().unwrap().push(log.clone());
            Ok(OpenLog { log, head })
        })
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        self.memory.delete(stream)
    }

    fn meta(&self) -> &dyn MetaStore {
        self.memory.meta()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.memory.health()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.memory.close()
    }
}

impl StreamLog for LateLog {
    fn append(&self, batch: Batch, head: Head) -> Result<Commit, StoreError> {
        self.held.lock().unwrap().push((batch, head));
        Ok(Commit::Pending)
    }

    fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'_, Vec<Batch>> {
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        let answered = |_: &mut Context<'_>| match self.counts.reads_stall.load(Ordering::Relaxed) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        };
        Box::pin(async move {
            poll_fn(answered).await;
            self.memory.read(from, budget).await
        })
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> StoreFuture<'_, Option<Position>> {
        self.memory.seek(from, timestamp)
    }

    fn trim(&self, to: SeqNum) -> StoreFuture<'_, ()> {
        self.counts.trims.fetch_add(1, Ordering::Relaxed);
        self.memory.trim(to)
    }

    fn stored(&self) -> u64 {
        self.memory.stored()
    }
}

/// A service with one basin, and the things that a test turns.
pub(super) struct World {
    pub(super) store: Arc<LateStore>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) streams: Arc<Streams>,
}

pub(super) const NOW: u64 = 1_000_000;

impl World {
    pub(super) async fn new() -> Self {
        Self::with(StreamsConfig::default()).await
    }

    /// Of inputs of six times 100,000 bytes, one and no second may be in flight.
    async fn with_room_for_one() -> Self {
        let memory = MemoryShares { appends: 2 * 1024 * 1024, ..Default::default() };
        Self::with(StreamsConfig { memory, ..Default::default() }).await
    }

    pub(super) async fn with(config: StreamsConfig) -> Self {
        let store = LateStore::new();
        let clock = Arc::new(ManualClock::at(Timestamp::new(NOW)));
        let streams = Streams::new(store.clone(), clock.clone(), config);
        let config = BasinConfig { create_stream_on_append: true, create_stream_on_read: true, ..Default::default() };
        streams.create_basin(&basin(), BasinWish { config, location: None }, None).await.unwrap();
        Self { store, clock, streams }
    }

    pub(super) async fn stream(&self) -> Arc<Stream> {
        self.streams.stream(&basin(), &orders(), Access::Append, None, None).await.unwrap()
    }

    pub(super) async fn writer(&self) -> AppendSession {
        self.streams.append_session(self.stream().await, None).unwrap()
    }

    /// Lets the background tasks do what they have to.
    async fn idle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn reader(&self, request: ReadRequest) -> ReadSession {
        self.streams.read_session(self.stream().await, None, &request).await.unwrap()
    }

    /// Appends and makes durable.
    pub(super) async fn append(&self, input: AppendInput) {
        let mut writer = self.writer().await;
        put(&mut writer, &input);
        self.store.release();
        assert!(matches!(ack(&mut writer), Poll::Ready(Some(Ok(_)))));
    }
}

pub(super) fn basin() -> BasinName {
    BasinName::new("my-basin-01").unwrap()
}

pub(super) fn orders() -> StreamName {
    StreamName::new("orders").unwrap()
}

pub(super) fn one(body: &str) -> AppendInput {
    testing::input(&[(body, None)])
}

pub(super) fn from_the_start() -> ReadRequest {
    ReadRequest { start: ReadStart::SeqNum(SeqNum::FIRST), ..Default::default() }
}

pub(super) fn put(writer: &mut AppendSession, input: &AppendInput) {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(writer.poll_append(cx, input).is_ready());
}

pub(super) fn ack(writer: &mut AppendSession) -> Poll<Option<Result<AppendAck, Failure>>> {
    writer.poll_ack(&mut Context::from_waker(Waker::noop()))
}

pub(super) fn acked_range(writer: &mut AppendSession) -> Option<(u64, u64, u64)> {
    match ack(writer) {
        Poll::Ready(Some(Ok(ack))) => Some((ack.start.seq_num.get(), ack.end.seq_num.get(), ack.tail.seq_num.get())),
        _ => None,
    }
}

pub(super) fn peek(reader: &mut ReadSession) -> Poll<Option<Result<ReadEvent, Failure>>> {
    reader.poll_next(&mut Context::from_waker(Waker::noop()), clock::instant())
}

/// Bodies of an event with records.
pub(super) fn bodies(event: Poll<Option<Result<ReadEvent, Failure>>>) -> Vec<String> {
    let slices = match event {
        Poll::Ready(Some(Ok(ReadEvent::Records { slices, .. }))) => slices,
        Poll::Ready(Some(Ok(ReadEvent::Followed(batches)))) => batches.iter().map(Batch::whole).collect(),
        other => panic!("no records: {other:?}"),
    };
    let records = slices.iter().flat_map(|slice| slice.records());
    records.map(|record| String::from_utf8(record.fields.body().to_vec()).unwrap()).collect()
}

pub(super) fn is_heartbeat(event: Poll<Option<Result<ReadEvent, Failure>>>, tail: u64) -> bool {
    matches!(event, Poll::Ready(Some(Ok(ReadEvent::Heartbeat(position)))) if position.seq_num.get() == tail)
}

fn closed() -> StoreError {
    StoreError::Unknown("the disk is gone".into())
}

#[tokio::test(start_paused = true)]
async fn acks_come_in_order_and_only_when_durable() {
    let world = World::new().await;
    let mut writer = world.writer().await;
    put(&mut writer, &testing::input(&[("a", None), ("b", None)]));
    put(&mut writer, &one("c"));
    assert!(ack(&mut writer).is_pending(), "nothing is durable yet");
    world.store.release();
    assert_eq!(acked_range(&mut writer), Some((0, 2, 3)));
    assert_eq!(acked_range(&mut writer), Some((2, 3, 3)));
    assert!(ack(&mut writer).is_pending(), "an idle session stays open");
    writer.close();
    assert!(matches!(ack(&mut writer), Poll::Ready(None)));
}

#[tokio::test(start_paused = true)]
async fn conditions_are_judged_against_what_is_not_durable_yet() {
    // s2s.md §6.2
    let world = World::new().await;
    let mut writer = world.writer().await;
    put(&mut writer, &testing::with_match(testing::input(&[("a", None), ("b", None)]), 0));
    put(&mut writer, &testing::with_match(one("c"), 2));
    assert!(writer.is_open());
    put(&mut writer, &testing::with_match(one("d"), 7));
    assert!(!writer.is_open(), "the first failure poisons the session");
    world.store.release();
    assert_eq!(acked_range(&mut writer), Some((0, 2, 3)));
    assert_eq!(acked_range(&mut writer), Some((2, 3, 3)));
    let next = SeqNum::new(3);
    let expected = Failure::Rejected(Rejection::SeqNumMismatch { next });
    assert!(matches!(ack(&mut writer), Poll::Ready(Some(Err(failure))) if failure == expected));
    assert!(matches!(ack(&mut writer), Poll::Ready(None)));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_waits_for_the_state_it_quotes() {
    // s2s.md §6.4: also when another session wrote that state.
    let world = World::new().await;
    let (mut writer, mut late) = (world.writer().await, world.writer().await);
    put(&mut writer, &one("a"));
    put(&mut late, &testing::with_match(one("b"), 0));
    assert!(ack(&mut late).is_pending());
    world.store.release();
    assert!(matches!(ack(&mut late), Poll::Ready(Some(Err(Failure::Rejected(_))))));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_by_a_state_that_never_was_is_not_told() {
    let world = World::new().await;
    let (mut writer, mut late) = (world.writer().await, world.writer().await);
    put(&mut writer, &one("a"));
    put(&mut late, &testing::with_match(one("b"), 0));
    world.store.fail(closed());
    let failed = |event| matches!(event, Poll::Ready(Some(Err(Failure::Store(StoreError::Unknown(_))))));
    assert!(failed(ack(&mut writer)));
    assert!(failed(ack(&mut late)), "not a 412: there is no record 0");
}

#[tokio::test(start_paused = true)]
async fn a_fence_holds_from_the_next_input_on() {
    let world = World::new().await;
    let mut writer = world.writer().await;
    put(&mut writer, &testing::Records::new().fence("w1").input());
    put(&mut writer, &testing::with_fence(one("a"), "w1"));
    assert!(writer.is_open());
    put(&mut writer, &testing::with_fence(one("b"), ""));
    world.store.release();
    assert_eq!(acked_range(&mut writer), Some((0, 1, 2)));
    assert_eq!(acked_range(&mut writer), Some((1, 2, 2)));
    let current = testing::fencing_token("w1");
    let expected = Failure::Rejected(Rejection::FencingTokenMismatch { current });
    assert!(matches!(ack(&mut writer), Poll::Ready(Some(Err(failure))) if failure == expected));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_failed_is_recovered_at_its_next_use() {
    let world = World::new().await;
    world.append(one("kept")).await;
    let mut writer = world.writer().await;
    put(&mut writer, &one("lost"));
    world.store.fail(closed());
    assert!(matches!(ack(&mut writer), Poll::Ready(Some(Err(Failure::Store(_))))));
    drop(writer);

    world.append(one("next")).await;
    let mut reader = world.reader(from_the_start()).await;
    assert_eq!(bodies(peek(&mut reader)), ["kept", "next"]);
}

#[tokio::test(start_paused = true)]
async fn readers_never_see_what_is_not_durable() {
    let world = World::new().await;
    let mut reader = world.reader(from_the_start()).await;
    let mut writer = world.writer().await;
    put(&mut writer, &one("a"));
    assert!(is_heartbeat(peek(&mut reader), 0));
    assert!(peek(&mut reader).is_pending());
    assert_eq!(world.stream().await.check_tail(), Ok(Position::EMPTY));
    world.store.release();
    assert_eq!(bodies(peek(&mut reader)), ["a"]);
    assert_eq!(world.stream().await.check_tail(), Ok(Position::new(1, NOW)));
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn readers_never_see_what_lies_beyond_the_tail_they_are_told() {
    // data-plane.md §7.6, §9: with the ring empty, they read from a log that knows a moment before the stream does.
    let memory = MemoryShares { recent: 0, ..MemoryShares::default() };
    let world = World::with(StreamsConfig { memory, ..StreamsConfig::default() }).await;
    world.append(one("a")).await;
    put(&mut world.writer().await, &one("b"));
    world.store.land();
    let mut reader = world.reader(from_the_start()).await;
    let Some(Ok(ReadEvent::Records { slices, tail, .. })) = reader.next().await else { panic!() };
    assert_eq!(slices.last().map(|slice| slice.end_seq_num()), Some(tail.seq_num));
    assert_eq!(world.stream().await.check_tail().unwrap(), tail);
}

#[tokio::test(start_paused = true)]
async fn followers_are_woken_once_a_commit_and_share_one_encoding() {
    let world = World::new().await;
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut readers = [world.reader(from_the_start()).await, world.reader(from_the_start()).await];
    let poll = |reader: &mut ReadSession| reader.poll_next(&mut Context::from_waker(&waker), clock::instant());
    for reader in &mut readers {
        assert!(is_heartbeat(poll(reader), 0));
        assert!(poll(reader).is_pending());
    }
    let mut writer = world.writer().await;
    put(&mut writer, &one("a"));
    put(&mut writer, &one("b"));
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    world.store.release();
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    let frames: Vec<_> = readers
        .iter_mut()
        .map(|reader| match poll(reader) {
            Poll::Ready(Some(Ok(ReadEvent::Followed(batches)))) => {
                assert_eq!(batches.len(), 2);
                batches.last().follow_frame(Compression::None, |_| None).unwrap().clone()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(frames[0].as_ptr(), frames[1].as_ptr(), "the same bytes, not equal ones");
}

/// A reader that was given what there is, says that it waits, and is not polled again: whatever comes next wakes it.
#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_is_woken_by_whatever_comes_next() {
    for event in ["a commit", "a deletion", "a failure"] {
        let world = World::new().await;
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut reader = world.reader(from_the_start()).await;
        let mut poll = || reader.poll_next(&mut Context::from_waker(&waker), clock::instant());
        assert!(is_heartbeat(poll(), 0));
        assert!(poll().is_pending());
        world.append(one("a")).await;
        assert_eq!((count.0.load(Ordering::Relaxed), bodies(poll())), (1, vec!["a".to_owned()]));
        assert!(reader.waits());
        match event {
            "a commit" => world.append(one("b")).await,
            "a deletion" => world.streams.delete_stream(&basin(), &orders()).await.unwrap(),
            _ => world.store.fail(closed()),
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_says_that_it_waits_only_when_it_was_given_all_there_is() {
    let world = World::new().await;
    let mut reader = world.reader(from_the_start()).await;
    assert!(!reader.waits());
    assert!(is_heartbeat(peek(&mut reader), 0));
    assert!(!reader.waits(), "a heartbeat is due at once, and only then it begins to wait");
    assert!(peek(&mut reader).is_pending());
    world.append(testing::uniform_input(1, 100_000)).await;
    assert!(matches!(peek(&mut reader), Poll::Ready(Some(Ok(ReadEvent::Followed(_))))));
    assert!(reader.waits(), "although it counts as memory: who keeps it lets go of it without being asked");
    // More than one portion.
    for _ in 0..3 {
        world.append(testing::uniform_input(10, 100_000)).await;
    }
    assert!(matches!(peek(&mut reader), Poll::Ready(Some(Ok(ReadEvent::Followed(_))))));
    assert!(!reader.waits());
}

#[tokio::test(start_paused = true)]
async fn a_thread_of_the_store_wakes_many_as_well_as_one() {
    for readers in [1, 2, 40] {
        let world = Arc::new(World::new().await);
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..readers {
            let mut reader = world.reader(from_the_start()).await;
            assert!(is_heartbeat(peek(&mut reader), 0));
            waiting.spawn(async move { bodies(Poll::Ready(reader.next().await)) });
        }
        tokio::task::yield_now().await;
        put(&mut world.writer().await, &one("a"));
        let store = world.store.clone();
        std::thread::spawn(move || store.release()).join().unwrap();
        assert!(waiting.join_all().await.iter().all(|bodies| bodies == &["a"]), "{readers}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_fell_behind_comes_back_without_loss() {
    let world = World::new().await;
    let mut reader = world.reader(from_the_start()).await;
    assert!(is_heartbeat(peek(&mut reader), 0));
    // Far more than the ring keeps.
    for _ in 0..12 {
        world.append(testing::uniform_input(10, 100_000)).await;
    }
    let mut seen = 0;
    while let Poll::Ready(event) = peek(&mut reader) {
        match event.unwrap().unwrap() {
            ReadEvent::Records { slices, .. } => seen += slices.iter().map(|slice| slice.len()).sum::<usize>(),
            ReadEvent::Followed(batches) => seen += batches.iter().map(Batch::len).sum::<usize>(),
            ReadEvent::Heartbeat(tail) => assert_eq!(tail.seq_num.get(), seen as u64, "told only at the tail"),
        }
    }
    assert_eq!(seen, 120);
    assert!(world.store.counts.reads.load(Ordering::Relaxed) > 0, "it had to go to the log");
    world.append(one("again at the tail")).await;
    assert_eq!(bodies(peek(&mut reader)), ["again at the tail"]);
}

#[tokio::test(start_paused = true)]
async fn pages_keep_the_limits_of_a_batch() {
    let world = World::new().await;
    for _ in 0..3 {
        world.append(testing::uniform_input(700, 10)).await;
    }
    let mut reader = world.reader(from_the_start()).await;
    let mut pages = Vec::new();
    while let Poll::Ready(Some(Ok(ReadEvent::Records { slices, .. }))) = peek(&mut reader) {
        pages.push(slices.iter().map(|slice| slice.len()).sum::<usize>());
    }
    assert_eq!(pages.iter().sum::<usize>(), 2100);
    assert!(pages.iter().all(|records| *records <= 1000), "{pages:?}");
}

#[tokio::test(start_paused = true)]
async fn bounds_end_a_read_across_batches_and_while_following() {
    let world = World::new().await;
    world.append(testing::input(&[("a", None), ("b", None)])).await;
    let bounds = ReadBounds { count: Some(3), ..Default::default() };
    let request = ReadRequest { bounds, wait: Some(Duration::from_secs(60)), ..from_the_start() };
    let mut reader = world.reader(request).await;
    assert_eq!(bodies(peek(&mut reader)), ["a", "b"]);
    assert!(is_heartbeat(peek(&mut reader), 2));
    world.append(testing::input(&[("c", None), ("d", None)])).await;
    assert_eq!(bodies(peek(&mut reader)), ["c"], "the allowed part of the batch");
    assert!(matches!(peek(&mut reader), Poll::Ready(None)));
}

#[tokio::test(start_paused = true)]
async fn a_bounded_read_without_wait_ends_at_the_tail_without_a_heartbeat() {
    let world = World::new().await;
    world.append(one("a")).await;
    let bounds = ReadBounds { count: Some(5), ..Default::default() };
    let mut reader = world.reader(ReadRequest { bounds, ..from_the_start() }).await;
    assert_eq!(bodies(peek(&mut reader)), ["a"]);
    assert!(matches!(peek(&mut reader), Poll::Ready(None)));
}

#[tokio::test(start_paused = true)]
async fn a_reader_at_the_tail_hears_heartbeats() {
    // s2s.md §7.2
    let world = World::new().await;
    let mut reader = world.reader(from_the_start()).await;
    let mut before = None;
    for _ in 0..5 {
        assert!(matches!(reader.next().await, Some(Ok(ReadEvent::Heartbeat(Position::EMPTY)))));
        let now = tokio::time::Instant::now();
        if let Some(before) = before.replace(now) {
            let gap = now - before;
            assert!(gap >= Duration::from_secs(5) && gap <= Duration::from_millis(15_001), "{gap:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_hears_nothing_of_the_tail_before_it_is_there() {
    // s2s.md §7.2: clients resume from the tail of a heartbeat, and would pass by what lies before it.
    let memory = MemoryShares { recent: 0, ..MemoryShares::default() };
    let world = World::with(StreamsConfig { memory, ..StreamsConfig::default() }).await;
    for _ in 0..12 {
        world.append(testing::uniform_input(10, 100_000)).await;
    }
    let mut reader = world.reader(from_the_start()).await;
    let mut seen = bodies(peek(&mut reader)).len();
    world.store.stall_reads(true);
    // What was read ahead.
    while let event @ Poll::Ready(_) = peek(&mut reader) {
        seen += bodies(event).len();
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(peek(&mut reader).is_pending() && reader.next_deadline().is_none(), "however long the log takes");
    world.store.stall_reads(false);
    while seen < 120 {
        seen += bodies(peek(&mut reader)).len();
    }
    assert!(is_heartbeat(peek(&mut reader), 120));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_the_session_in_time() {
    // s2s.md §10, 10
    let world = World::new().await;
    let request = ReadRequest { wait: Some(Duration::from_secs(2)), ..Default::default() };
    let mut reader = world.reader(request).await;
    let began = tokio::time::Instant::now();
    assert!(matches!(reader.next().await, Some(Ok(ReadEvent::Heartbeat(_)))));
    assert!(reader.next().await.is_none());
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_millis(2_100), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn records_restart_the_wait_at_the_tail_and_on_the_way_back_to_it() {
    // s2s.md §7.4
    let bounded = ReadBounds { count: Some(1000), ..Default::default() };
    for (bounds, batches) in [(ReadBounds::default(), 1), (bounded, 1), (ReadBounds::default(), 12), (bounded, 12)] {
        let world = World::new().await;
        let request = ReadRequest { bounds, wait: Some(Duration::from_secs(10)), ..from_the_start() };
        let mut reader = world.reader(request).await;
        assert!(is_heartbeat(peek(&mut reader), 0));
        tokio::time::advance(Duration::from_secs(8)).await;
        for _ in 0..batches {
            world.append(testing::uniform_input(10, 100_000)).await;
        }
        while let Poll::Ready(event) = peek(&mut reader) {
            assert!(event.is_some_and(|event| event.is_ok()), "{batches}");
        }
        // Twelve are far more than the ring keeps: it has to go to the log.
        assert_eq!(world.store.counts.reads.load(Ordering::Relaxed) > 0, batches > 1);
        let began = tokio::time::Instant::now();
        while let Some(event) = reader.next().await {
            assert!(matches!(event, Ok(ReadEvent::Heartbeat(_))));
        }
        let waited = began.elapsed();
        let in_time = Duration::from_secs(10)..Duration::from_millis(10_100);
        assert!(in_time.contains(&waited), "{waited:?} after {batches}, {bounds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_returns_with_the_first_batch_or_empty() {
    let world = World::new().await;
    let request = ReadRequest { wait: Some(Duration::from_secs(60)), ..Default::default() };
    let polling = tokio::spawn({
        let (streams, stream) = (world.streams.clone(), world.stream().await);
        async move { streams.read(stream, None, &request).await }
    });
    tokio::task::yield_now().await;
    world.append(one("a")).await;
    assert_eq!(bodies(Poll::Ready(polling.await.unwrap().transpose())), ["a"]);

    let stream = world.stream().await;
    assert!(world.streams.read(stream, None, &request).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_stream_ends_its_sessions_and_acks_what_it_accepted() {
    let world = World::new().await;
    let mut reader = world.reader(from_the_start()).await;
    assert!(is_heartbeat(peek(&mut reader), 0));
    let mut writer = world.writer().await;
    put(&mut writer, &one("a"));
    world.streams.delete_stream(&basin(), &orders()).await.unwrap();
    assert!(matches!(peek(&mut reader), Poll::Ready(Some(Err(Failure::StreamDeletionPending)))));
    for access in [Access::Append, Access::Read, Access::CheckTail] {
        // data-plane.md §12: nor is another one made in its place.
        let refused = world.streams.stream(&basin(), &orders(), access, None, None).await;
        assert_eq!(refused.err(), Some(Failure::StreamDeletionPending), "{access:?}");
    }
    put(&mut writer, &one("b"));
    assert!(ack(&mut writer).is_pending());
    world.store.release();
    assert_eq!(acked_range(&mut writer), Some((0, 1, 1)));
    assert!(matches!(ack(&mut writer), Poll::Ready(Some(Err(Failure::StreamDeletionPending)))));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_free_again_when_its_stream_is_gone() {
    let world = World::new().await;
    let first = world.stream().await.id();
    world.append(one("a")).await;
    world.streams.delete_stream(&basin(), &orders()).await.unwrap();
    world.streams.remove_stream(&basin(), &orders(), first).await.unwrap();
    let again = world.stream().await;
    assert_ne!(again.id(), first, "another life");
    assert_eq!(again.check_tail(), Ok(Position::EMPTY));
    // A job that was left twice, or late, does not touch the new one.
    world.streams.remove_stream(&basin(), &orders(), first).await.unwrap();
    assert!(world.streams.stream_config(&basin(), &orders()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_basin_takes_its_streams_with_it() {
    let world = World::new().await;
    world.append(one("a")).await;
    world.streams.delete_basin(&basin()).await.unwrap();
    let refused = world.streams.stream(&basin(), &StreamName::new("new").unwrap(), Access::Append, None, None).await;
    assert_eq!(refused.err(), Some(Failure::BasinDeletionPending(basin())));
    world.streams.remove_basin(&basin()).await.unwrap();
    assert_eq!(world.streams.basin_config(&basin()).await, Err(Failure::BasinNotFound(basin())));
    world.streams.create_basin(&basin(), BasinWish::default(), None).await.unwrap();
    assert!(world.streams.stream_config(&basin(), &orders()).await.is_err(), "no stream came back");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_comes_late_leaves_the_next_basin_of_the_name_alone() {
    let world = World::new().await;
    world.streams.delete_basin(&basin()).await.unwrap();
    world.streams.delete_basin(&basin()).await.unwrap();
    world.streams.remove_basin(&basin()).await.unwrap();
    let config = BasinConfig { create_stream_on_append: true, ..Default::default() };
    world.streams.create_basin(&basin(), BasinWish { config, location: None }, None).await.unwrap();
    world.append(one("a")).await;
    // What the second request left.
    world.streams.remove_basin(&basin()).await.unwrap();
    assert_eq!(world.stream().await.check_tail(), Ok(Position::new(1, NOW)));
}

#[tokio::test(start_paused = true)]
async fn the_same_create_request_again_changes_nothing() {
    // control-plane.md §5.2
    let world = World::new().await;
    let token = RequestToken::new("t1").unwrap();
    let create = |layer: StreamConfigLayer, token: Option<RequestToken>| {
        let streams = world.streams.clone();
        async move { streams.create_stream(&basin(), &orders(), layer, token).await.map(|(_, result)| result) }
    };
    let plain = StreamConfigLayer::default();
    let spelt_out = StreamConfigLayer { timestamping_uncapped: Some(false), ..Default::default() };
    assert_eq!(create(plain.clone(), Some(token.clone())).await, Ok(Provision::Created));
    assert_eq!(create(plain.clone(), Some(token.clone())).await, Ok(Provision::Noop));
    let exists = Err(Failure::StreamExists(basin(), orders()));
    assert_eq!(create(spelt_out, Some(token)).await, exists, "another request, though it means the same");
    assert_eq!(create(plain.clone(), None).await, exists);
    assert_eq!(create(plain, Some(RequestToken::new("t2").unwrap())).await, exists);
}

#[tokio::test(start_paused = true)]
async fn a_changed_configuration_holds_in_open_sessions() {
    // data-plane.md §4
    let world = World::new().await;
    let mut writer = world.writer().await;
    put(&mut writer, &testing::input(&[("a", Some(5))]));
    let layer = StreamConfigLayer { timestamping_mode: Some(TimestampingMode::Arrival), ..Default::default() };
    let (_, result) = world.streams.ensure_stream(&basin(), &orders(), layer, Operations::ALL).await.unwrap();
    assert_eq!(result, Provision::Updated);
    put(&mut writer, &testing::input(&[("b", Some(6))]));
    world.clock.set(Timestamp::new(NOW + 1));
    put(&mut writer, &testing::input(&[("c", Some(7))]));
    world.store.release();
    let ends: Vec<_> = (0..3)
        .map(|_| match ack(&mut writer) {
            Poll::Ready(Some(Ok(ack))) => ack.end.timestamp.get(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends, [5, NOW, NOW + 1]);
}

#[tokio::test(start_paused = true)]
async fn the_byte_budget_holds_inputs_back_and_lets_acks_go_on() {
    let world = World::with_room_for_one().await;
    let mut writer = world.writer().await;
    let large = testing::uniform_input(6, 100_000);
    put(&mut writer, &large);
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(writer.poll_append(cx, &large).is_pending());
    assert!(writer.poll_append(cx, &large).is_pending());
    world.store.release();
    assert_eq!(acked_range(&mut writer), Some((0, 6, 6)));
    assert!(writer.poll_append(cx, &large).is_ready(), "the first one's bytes came back");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_gives_up_waiting_leaves_its_bytes_to_others() {
    let world = World::with_room_for_one().await;
    let large = testing::uniform_input(6, 100_000);
    let (mut first, mut waiting, mut last) = (world.writer().await, world.writer().await, world.writer().await);
    put(&mut first, &large);
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(waiting.poll_append(cx, &large).is_pending());
    assert!(last.poll_append(cx, &large).is_pending());
    world.store.release();
    drop(waiting);
    assert!(last.poll_append(cx, &large).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_polls_keeps_no_bytes_from_others() {
    // A client that takes no acks: its session is not polled until it does, perhaps never.
    let world = World::with_room_for_one().await;
    let large = testing::uniform_input(6, 100_000);
    let (mut first, mut stalled, mut last) = (world.writer().await, world.writer().await, world.writer().await);
    put(&mut first, &large);
    assert!(stalled.poll_append(&mut Context::from_waker(Waker::noop()), &large).is_pending());
    let waits = Duration::from_secs(60);
    let too_early = tokio::time::timeout(waits, poll_fn(|cx| last.poll_append(cx, &large))).await;
    assert!(too_early.is_err(), "there is no room");
    world.store.release();
    let goes_on = tokio::time::timeout(waits, poll_fn(|cx| last.poll_append(cx, &large))).await;
    assert!(goes_on.is_ok(), "the room that there is, is kept for who does not come for it");
    world.store.release();
    assert!(stalled.poll_append(&mut Context::from_waker(Waker::noop()), &large).is_ready(), "when it does come");
}

#[tokio::test(start_paused = true)]
async fn first_writers_that_race_share_the_stream_they_make() {
    let world = World::new().await;
    let (a, b) = tokio::join!(world.stream(), world.stream());
    assert_eq!(a.id(), b.id());
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_is_let_go_of_and_found_again() {
    let world = World::new().await;
    world.append(one("a")).await;
    assert_eq!(world.streams.open_count(), 1);
    let idle = StreamsConfig::default().idle_after;
    // The sweep's own timer, turned by hand: each sleep yields until the sweep has run.
    tokio::time::sleep(3 * idle).await;
    assert_eq!(world.streams.open_count(), 0);
    assert_eq!(world.stream().await.check_tail(), Ok(Position::new(1, NOW)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_in_use_stays_open() {
    let world = World::new().await;
    let reader = world.reader(from_the_start()).await;
    tokio::time::sleep(3 * StreamsConfig::default().idle_after).await;
    assert_eq!(world.streams.open_count(), 1);
    drop(reader);
}

#[tokio::test(start_paused = true)]
async fn trimmed_records_are_gone_and_their_memory_is_free() {
    let world = World::new().await;
    for _ in 0..4 {
        world.append(testing::uniform_input(10, 1000)).await;
    }
    let used = world.store.memory.memory_used();
    world.append(testing::Records::new().trim(30).input()).await;
    let mut reader = world.reader(from_the_start()).await;
    let Poll::Ready(Some(Ok(ReadEvent::Records { slices, .. }))) = peek(&mut reader) else { panic!() };
    assert_eq!(slices[0].first_seq_num(), SeqNum::new(30));
    // The background task runs on this thread, when this test waits.
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        match world.store.memory.memory_used() < used / 2 {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    assert_eq!(world.stream().await.check_tail(), Ok(Position::new(41, NOW)));
}

#[tokio::test(start_paused = true)]
async fn usage_knows_what_is_stored_and_follows_trim_and_deletion() {
    let world = World::new().await;
    let start = (NOW / 1000 / 60 * 60) as u32;
    let stored = async |minute: u32| {
        world.clock.set(Timestamp::new(u64::from(start + minute * 60) * 1000));
        world.streams.usage().flush().await.unwrap();
        let range = TimeRange { start: start + minute * 60, end: start + minute * 60 + 1 };
        let query = MetricQuery { set: StreamMetricSet::Storage, range, interval: None };
        let metrics = world.streams.usage().stream_metrics(basin(), orders(), query).await.unwrap();
        match &metrics[..] {
            [Metric::Gauge { values, .. }] => values[0].1 as u64,
            other => panic!("{other:?}"),
        }
    };
    world.append(testing::uniform_input(10, 1000)).await;
    let first = stored(0).await;
    assert!(first >= 10_000, "{first}");
    world.append(testing::uniform_input(10, 1000)).await;
    assert_eq!(stored(1).await, 2 * first);
    world.append(testing::Records::new().trim(10).input()).await;
    let stream = world.stream().await;
    stream.trim().await.unwrap();
    let after = stored(2).await;
    assert!((first..first + 100).contains(&after), "{after}: the second batch and the trim command");
    world.streams.delete_stream(&basin(), &orders()).await.unwrap();
    assert_eq!(stored(3).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_becomes_durable_of_a_deleted_stream_does_not_count_as_stored() {
    let world = World::new().await;
    world.append(one("a")).await;
    let mut writer = world.writer().await;
    put(&mut writer, &one("b"));
    world.streams.delete_stream(&basin(), &orders()).await.unwrap();
    world.store.release();
    assert!(matches!(ack(&mut writer), Poll::Ready(Some(Ok(_)))), "it was accepted before");
    drop(writer);
    world.idle().await;
    world.streams.usage().flush().await.unwrap();
    let sizes = world.store.meta().scan(b"u/s/", None, 10).await.unwrap();
    assert!(sizes.is_empty(), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn trims_that_come_faster_than_the_log_lets_go_are_one() {
    let world = World::new().await;
    let mut writer = world.writer().await;
    let mut trim = |to| {
        put(&mut writer, &testing::Records::new().trim(to).input());
        world.store.release();
    };
    for to in 1..10 {
        trim(to);
    }
    world.idle().await;
    assert_eq!(world.store.counts.trims.load(Ordering::Relaxed), 1);
    trim(10);
    world.idle().await;
    assert_eq!(world.store.counts.trims.load(Ordering::Relaxed), 2, "what comes later is not forgotten");
    assert_eq!(world.stream().await.stored(), 0);
}
