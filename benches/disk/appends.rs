//! Appends of one shape to any store, and reading them back.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use futures::executor::block_on;
use s2s_gateway::{
    store::{Commit, CommitSink, Store, StoreError, StreamLog},
    types::{AppendInput, Batch, Head, SeqNum, StreamId, Timestamp, testing},
};

use crate::{
    Effort,
    resources::{Meter, Work},
};

/// Who appends what.
pub struct Shape {
    pub name: &'static str,
    pub streams: usize,
    /// Of a batch.
    pub records: usize,
    /// Bytes of a record's body.
    pub len: usize,
    /// Batches of a stream that are on the way at once.
    pub in_flight: usize,
}

/// The stream that is read back.
const READ_BACK: StreamId = StreamId::new(7);
/// Metered bytes of one read.
const READ: usize = 1 << 20;
const MOST_THREADS: usize = 16;

impl Shape {
    /// Bytes of a batch's bodies.
    pub fn bytes(&self) -> u64 {
        (self.records * self.len) as u64
    }

    pub fn input(&self) -> AppendInput {
        testing::uniform_input(self.records, self.len)
    }
}

/// Appends to one stream.
pub struct Appender {
    log: Arc<dyn StreamLog>,
    reports: Arc<Reports>,
    next: SeqNum,
    /// Ends of the batches on the way, and when they were appended.
    on_the_way: VecDeque<(SeqNum, Instant)>,
    pub latencies: Vec<Duration>,
}

#[derive(Default)]
struct Reports {
    end: Mutex<(SeqNum, Option<Instant>)>,
    came: Condvar,
}

impl Reports {
    /// When this was reported, or later.
    fn wait_for(&self, end: SeqNum) -> Instant {
        let reported = self.came.wait_while(self.end.lock().unwrap(), |reported| reported.0 < end).unwrap();
        reported.1.unwrap_or_else(Instant::now)
    }
}

impl CommitSink for Reports {
    fn durable(&self, end: SeqNum) {
        *self.end.lock().unwrap() = (end, Some(Instant::now()));
        self.came.notify_all();
    }

    fn failed(&self, error: StoreError) {
        panic!("{error}");
    }
}

impl Appender {
    pub fn open(store: &dyn Store, stream: StreamId) -> Self {
        let reports = Arc::new(Reports::default());
        let open = block_on(store.open(stream, reports.clone())).unwrap();
        Self {
            log: open.log,
            reports,
            next: open.head.tail.seq_num,
            on_the_way: VecDeque::new(),
            latencies: Vec::new(),
        }
    }

    pub fn log(&self) -> &Arc<dyn StreamLog> {
        &self.log
    }

    pub fn next(&self) -> SeqNum {
        self.next
    }

    /// Appends a batch made of `input`, after others of which fewer than `in_flight` may be on the way; false if the
    /// store is full.
    pub fn append(&mut self, input: &AppendInput, in_flight: usize) -> bool {
        while self.on_the_way.len() >= in_flight {
            self.settle_one();
        }
        let began = Instant::now();
        let batch = Batch::sequence(&input.batch, self.next, |_| Timestamp::new(1));
        let end = batch.end();
        match self.log.append(batch, Head { tail: end, ..Head::default() }) {
            Ok(Commit::Pending) => self.on_the_way.push_back((end.seq_num, began)),
            Ok(Commit::Durable) => self.latencies.push(began.elapsed()),
            Err(StoreError::Full(_)) => return false,
            Err(error) => panic!("{error}"),
        }
        self.next = end.seq_num;
        true
    }

    pub fn settle(&mut self) {
        while !self.on_the_way.is_empty() {
            self.settle_one();
        }
    }

    fn settle_one(&mut self) {
        if let Some((end, began)) = self.on_the_way.pop_front() {
            let reported = self.reports.wait_for(end);
            self.latencies.push(reported.saturating_duration_since(began));
        }
    }
}

/// Appends as `shape` says for as long as `effort` allows, and prints what came of it.
pub fn run(name: &str, store: &dyn Store, shape: &Shape, effort: Effort) {
    let meter = Meter::start();
    let most = effort.bytes / shape.bytes() / shape.streams as u64;
    let latencies = append_all(store, shape, |batches| batches >= most || meter.elapsed() > effort.time);
    let operations = latencies.len() as u64;
    meter.report(name, Work { operations, bytes: operations * shape.bytes(), latencies });
}

/// Appends so many batches to each stream.
pub fn append_some(store: &dyn Store, shape: &Shape, count: u64) {
    append_all(store, shape, |batches| batches >= count);
}

/// Appends to every stream until `ended` says so of the number of batches it has.
fn append_all(store: &dyn Store, shape: &Shape, ended: impl Fn(u64) -> bool + Sync) -> Vec<Duration> {
    let (input, threads) = (shape.input(), shape.streams.min(MOST_THREADS));
    let run = |thread: usize| {
        let streams = (thread..shape.streams).step_by(threads);
        let mut appenders: Vec<_> =
            streams.map(|stream| Appender::open(store, StreamId::new(stream as u128))).collect();
        let mut batches = 0;
        while !ended(batches) && appenders.iter_mut().all(|appender| appender.append(&input, shape.in_flight)) {
            batches += 1;
        }
        appenders.iter_mut().for_each(Appender::settle);
        appenders.into_iter().flat_map(|appender| appender.latencies).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Writes the stream that is read back.
pub fn fill(store: &dyn Store, shape: &Shape, effort: Effort) {
    let (mut appender, input) = (Appender::open(store, READ_BACK), shape.input());
    for _ in 0..effort.bytes.min(256 << 20) / shape.bytes() {
        assert!(appender.append(&input, shape.in_flight));
    }
    appender.settle();
}

/// Reads the stream that was filled, from its beginning, again and again, and prints how fast that went.
pub fn catch_up(name: &str, store: &dyn Store, effort: Effort) {
    let log = Appender::open(store, READ_BACK).log;
    let (meter, mut latencies, mut bytes) = (Meter::start(), Vec::new(), 0);
    let mut from = SeqNum::FIRST;
    while meter.elapsed() < effort.time {
        let began = Instant::now();
        let batches = block_on(log.read(from, READ)).unwrap();
        latencies.push(began.elapsed());
        bytes += batches.iter().map(Batch::metered).sum::<usize>() as u64;
        from = batches.last().map_or(SeqNum::FIRST, |last| last.end().seq_num);
    }
    meter.report(name, Work { operations: latencies.len() as u64, bytes, latencies });
}
