//! The contract that every backend keeps, as tests: a function per rule, run for a backend by `suite!`.
//!
//! It knows no backend. One that reports durability later and one that survives its process pass the same suite: it waits
//! for reports, and leaves out what a [`Backend`] says it cannot do.

use std::{
    cell::Cell,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures::executor::block_on;

use super::{Commit, CommitSink, MetaStore, MetaWrite, OpenLog, Store, StoreError, StreamLog, Version, Versioned};
use crate::types::{
    Batch, Head, Position, SeqNum, StreamId, Timestamp,
    testing::{self, Records, fencing_token},
};

/// A kind of store, and the place where one is kept.
pub(crate) trait Backend: Sized {
    /// A store in a place where nothing was ever written.
    fn create() -> Self;

    /// A store that has room for about `bytes` of batches; `None` if this kind has no limit of its own.
    fn create_limited(bytes: usize) -> Option<Self>;

    /// The store.
    fn store(&self) -> &dyn Store;

    /// Drops the store, closed or not, and opens one in the same place; `None` if nothing of this kind survives.
    fn reopen(self) -> Option<Self>;
}

/// Runs every case for a [`Backend`], in a module of their own.
macro_rules! suite {
    ($backend:ty) => {
        $crate::store::contract::suite! { $backend:
            an_unwritten_stream_is_empty
            batches_come_back_as_they_were
            the_head_comes_back_with_the_batches
            a_read_stops_at_its_budget
            a_read_begins_with_the_batch_that_holds_its_start
            positions_are_dense
            a_batch_at_another_position_is_refused
            seek_finds_the_earliest_record
            trim_keeps_what_it_must
            a_log_trimmed_empty_goes_on_at_its_tail
            stored_bytes_follow_the_batches
            delete_leaves_nothing
            delete_does_no_harm_twice
            a_deleted_log_takes_no_appends
            streams_do_not_see_each_other
            streams_are_written_at_the_same_time
            a_full_store_refuses_and_loses_nothing
            a_full_store_can_be_trimmed
            close_reports_what_was_accepted
            a_closed_store_takes_no_writes
            everything_survives_a_close
            what_was_reported_survives_a_loss
            values_are_put_and_got
            late_writers_of_a_value_learn_it
            versions_never_come_back
            scans_are_in_order_and_bounded
            of_racing_writers_each_counts_once
        }
    };
    ($backend:ty: $($case:ident)*) => {
        mod contract {
            $(#[test] fn $case() { $crate::store::contract::$case::<$backend>(); })*
        }
    };
}
pub(crate) use suite;

/// How long a backend may take for anything before a test gives up on it: longer than a slow machine with much to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

thread_local! {
    /// Whether this thread is in a call to a log, which must not call the sink from within.
    static IN_A_CALL: Cell<bool> = const { Cell::new(false) };
}

/// What a store reported of one log.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    last: Mutex<Option<Result<SeqNum, StoreError>>>,
    came: Condvar,
}

impl Reports {
    fn add(&self, report: Result<SeqNum, StoreError>) {
        assert!(!IN_A_CALL.get(), "the sink is never called from within a call to the log");
        let mut last = self.last.lock().unwrap();
        match (&*last, &report) {
            (Some(Ok(before)), Ok(end)) => assert!(before <= end, "reports only grow"),
            (Some(Err(error)), _) => panic!("{report:?} came after the log had failed: {error}"),
            _ => {}
        }
        *last = Some(report);
        self.came.notify_all();
    }

    /// Waits until everything up to `end` was reported, or that the log failed.
    pub(crate) fn wait_for(&self, end: SeqNum) -> Result<(), StoreError> {
        let missing = |last: &mut Option<_>| match last {
            None => true,
            Some(Ok(reported)) => *reported < end,
            Some(Err(_)) => false,
        };
        let (last, timeout) = self.came.wait_timeout_while(self.last.lock().unwrap(), PATIENCE, missing).unwrap();
        assert!(!timeout.timed_out(), "the end {end} was not reported, the last report is {last:?}");
        last.clone().map_or(Ok(()), |report| report.map(drop))
    }

    fn end(&self) -> Option<SeqNum> {
        self.last.lock().unwrap().clone().map(|report| report.expect("the log did not fail"))
    }
}

impl CommitSink for Reports {
    fn durable(&self, end: SeqNum) {
        self.add(Ok(end));
    }

    fn failed(&self, error: StoreError) {
        self.add(Err(error));
    }
}

/// A log and whoever writes it.
struct Writer {
    log: Arc<dyn StreamLog>,
    head: Head,
    reports: Arc<Reports>,
}

impl Writer {
    fn open(backend: &impl Backend, stream: u128) -> Self {
        let reports = Arc::new(Reports::default());
        let opened = backend.store().open(StreamId::new(stream), reports.clone());
        let OpenLog { log, head } = block_on(opened).unwrap();
        Self { log, head, reports }
    }

    /// Appends, without waiting for durability; the writer goes on from `head` if it was accepted.
    fn accept(&mut self, batch: &Batch, head: Head) -> Result<Commit, StoreError> {
        IN_A_CALL.set(true);
        let result = self.log.append(batch.clone(), head);
        IN_A_CALL.set(false);
        if result.is_ok() {
            self.head = head;
        }
        result
    }

    /// The head that `batch` leaves when it changes nothing else.
    fn after(&self, batch: &Batch) -> Head {
        Head { tail: batch.end(), ..self.head }
    }

    /// Makes the next batch, of records with these bodies and times.
    fn next(&self, records: &[(&str, u64)]) -> Batch {
        testing::batch(self.head.tail.seq_num.get(), records)
    }

    /// Appends records with these bodies and times, and waits until they are durable.
    fn append(&mut self, records: &[(&str, u64)]) -> Batch {
        let batch = self.next(records);
        let head = self.after(&batch);
        self.commit(&batch, head);
        batch
    }

    fn commit(&mut self, batch: &Batch, head: Head) {
        if self.accept(batch, head).unwrap() == Commit::Pending {
            self.reports.wait_for(batch.end().seq_num).unwrap();
        }
    }

    fn read(&self, from: u64, budget: usize) -> Vec<Batch> {
        block_on(self.log.read(SeqNum::new(from), budget)).unwrap()
    }

    fn read_all(&self) -> Vec<Batch> {
        self.read(0, usize::MAX)
    }

    fn seek(&self, from: u64, timestamp: u64) -> Option<Position> {
        block_on(self.log.seek(SeqNum::new(from), Timestamp::new(timestamp))).unwrap()
    }

    fn trim(&self, to: u64) {
        block_on(self.log.trim(SeqNum::new(to))).unwrap();
    }
}

/// All there is to tell of some batches.
fn contents(batches: &[Batch]) -> Vec<(Position, Position, usize, Bytes)> {
    batches.iter().map(|batch| (batch.start(), batch.end(), batch.metered(), batch.records_bytes().clone())).collect()
}

fn assert_same(found: &[Batch], expected: &[Batch]) {
    assert_eq!(contents(found), contents(expected));
    let records = |batches: &[Batch]| {
        let slices = batches.iter().map(Batch::whole);
        slices
            .flat_map(|slice| slice.records().map(|record| format!("{record:?}")).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    assert_eq!(records(found), records(expected));
}

pub(crate) fn an_unwritten_stream_is_empty<B: Backend>() {
    let backend = B::create();
    backend.store().health().unwrap();
    let writer = Writer::open(&backend, 1);
    assert_eq!(writer.head, Head::default());
    assert_same(&writer.read_all(), &[]);
    assert_eq!(writer.seek(0, 0), None);
    writer.trim(0);
    assert_eq!(writer.reports.end(), None);
}

pub(crate) fn batches_come_back_as_they_were<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    let first = writer.append(&[("", 0), ("b", 0), ("c", 7)]);
    let records = Records::new()
        .record(Some(7), &[(b"name", b"value"), (b"name", b""), (b"\xff", b"\0")], b"\xf0\0body")
        .fence("writer-1")
        .trim(2)
        .body(None, &[7; 100_000]);
    let stamped = |given: Option<Timestamp>| given.unwrap_or(Timestamp::new(u64::MAX));
    let second = Batch::sequence(&records.input().batch, SeqNum::new(3), stamped);
    let head = writer.after(&second);
    writer.commit(&second, head);
    assert_same(&writer.read_all(), &[first.clone(), second.clone()]);
    drop(writer);
    assert_same(&Writer::open(&backend, 1).read_all(), &[first, second]);
}

pub(crate) fn the_head_comes_back_with_the_batches<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    writer.append(&[("a", 3)]);
    let batch = writer.next(&[("b", 9), ("c", 9)]);
    let head = Head {
        tail: batch.end(),
        fencing_token: fencing_token("a token of thirty-six bytes, no less"),
        trim_point: SeqNum::new(2),
    };
    writer.commit(&batch, head);
    drop(writer);
    assert_eq!(Writer::open(&backend, 1).head, head);
}

pub(crate) fn a_read_stops_at_its_budget<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    // 10 metered bytes a record: batches of 10, 20 and 30.
    let batches = [
        writer.append(&[("xx", 1)]),
        writer.append(&[("xx", 1), ("xx", 1)]),
        writer.append(&[("xx", 1), ("xx", 1), ("xx", 1)]),
    ];
    for (budget, expected) in [(0, 1), (1, 1), (10, 1), (11, 2), (30, 2), (31, 3), (60, 3), (usize::MAX, 3)] {
        assert_same(&writer.read(0, budget), &batches[..expected]);
    }
    assert_same(&writer.read(1, 20), &batches[1..2]);
    assert_same(&writer.read(1, 21), &batches[1..]);
}

pub(crate) fn a_read_begins_with_the_batch_that_holds_its_start<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    let batches = [writer.append(&[("a", 1); 3]), writer.append(&[("b", 1)]), writer.append(&[("c", 1); 2])];
    for (from, skipped) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3), (u64::MAX, 3)] {
        assert_same(&writer.read(from, usize::MAX), &batches[skipped..]);
    }
}

pub(crate) fn positions_are_dense<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    for i in 0..200 {
        writer.append(&vec![("x", i); 1 + i as usize % 7]);
    }
    let mut next = SeqNum::FIRST;
    for batch in writer.read_all() {
        assert_eq!(batch.first_seq_num(), next);
        next = batch.end().seq_num;
    }
    assert_eq!(next, writer.head.tail.seq_num);
}

pub(crate) fn a_batch_at_another_position_is_refused<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    let first = writer.append(&[("a", 1), ("b", 2)]);
    for position in [0, 1, 3, 100] {
        let batch = testing::batch(position, &[("x", 5)]);
        let refused = writer.accept(&batch, Head { tail: batch.end(), ..Head::default() });
        assert!(matches!(refused, Err(StoreError::NotDone(_))), "at {position}: {refused:?}");
    }
    let second = writer.append(&[("c", 3)]);
    assert_same(&writer.read_all(), &[first, second]);
}

pub(crate) fn seek_finds_the_earliest_record<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    // Numbers 0 to 2, 3 and 4, 5 and 6.
    writer.append(&[("a", 10), ("a", 20), ("a", 20)]);
    writer.append(&[("b", 20), ("b", 40)]);
    writer.append(&[("c", 40), ("c", 50)]);
    let cases = [
        (0, 0, Some((0, 10))),
        (0, 10, Some((0, 10))),
        (0, 11, Some((1, 20))),
        (0, 20, Some((1, 20))),
        (0, 21, Some((4, 40))),
        (0, 40, Some((4, 40))),
        (0, 41, Some((6, 50))),
        (0, 51, None),
        (2, 20, Some((2, 20))),
        (2, 0, Some((2, 20))),
        (3, 20, Some((3, 20))),
        (5, 20, Some((5, 40))),
        (6, 0, Some((6, 50))),
        (7, 0, None),
        (99, 0, None),
    ];
    for (from, timestamp, expected) in cases {
        let expected = expected.map(|(seq_num, timestamp)| Position::new(seq_num, timestamp));
        assert_eq!(writer.seek(from, timestamp), expected, "from {from}, time {timestamp}");
    }
}

pub(crate) fn trim_keeps_what_it_must<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    let batches: Vec<_> = (0..10).map(|i| writer.append(&[("x", i), ("y", i)])).collect();
    let mut trimmed = 0;
    for to in [0, 1, 2, 9, 5, 10] {
        writer.trim(to);
        trimmed = trimmed.max(to);
        let to = trimmed;
        let left = writer.read(to, usize::MAX);
        assert_same(&left, &batches[to as usize / 2..]);
        let all = writer.read_all();
        assert_same(&all, &batches[batches.len() - all.len()..]);
        assert_eq!(writer.seek(to, 0), Some(Position::new(to, to / 2)));
    }
    let head = writer.head;
    drop(writer);
    let writer = Writer::open(&backend, 1);
    assert_eq!(writer.head, head, "trimming moves nothing of the head");
    assert_same(&writer.read(10, usize::MAX), &batches[5..]);
}

pub(crate) fn a_log_trimmed_empty_goes_on_at_its_tail<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    writer.append(&[("a", 1), ("b", 2)]);
    writer.trim(2);
    drop(writer);
    let mut writer = Writer::open(&backend, 1);
    assert_eq!(writer.head.tail, Position::new(2, 2));
    let next = writer.append(&[("c", 3)]);
    assert_same(&writer.read(2, usize::MAX), &[next]);
    assert_eq!(writer.seek(2, 0), Some(Position::new(2, 3)));
}

pub(crate) fn stored_bytes_follow_the_batches<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    assert_eq!(writer.log.stored(), 0);
    let batches = [writer.append(&[("a", 1), ("bb", 1)]), writer.append(&[("ccc", 2)])];
    let all = (batches[0].metered() + batches[1].metered()) as u64;
    assert_eq!(writer.log.stored(), all);
    let first = writer.next(&[("x", 3)]);
    let refused =
        Batch::sequence(&Records::new().body(None, b"x").input().batch, SeqNum::new(9), |_| Timestamp::new(3));
    assert!(writer.accept(&refused, writer.after(&first)).is_err());
    assert_eq!(writer.log.stored(), all, "what was refused is not stored");
    drop(writer);
    let writer = Writer::open(&backend, 1);
    assert_eq!(writer.log.stored(), all);
    writer.trim(1);
    assert_eq!(writer.log.stored(), all, "a batch counts as long as one of its records is kept");
    writer.trim(3);
    assert_eq!(writer.log.stored(), 0);
    assert_eq!(Writer::open(&backend, 2).log.stored(), 0);
}

pub(crate) fn delete_leaves_nothing<B: Backend>() {
    let backend = B::create();
    let mut neighbours = [Writer::open(&backend, 1), Writer::open(&backend, 3)];
    let kept = neighbours.each_mut().map(|writer| writer.append(&[("kept", 1)]));
    let mut writer = Writer::open(&backend, 2);
    writer.append(&[("gone", 1)]);
    drop(writer);
    block_on(backend.store().delete(StreamId::new(2))).unwrap();
    let mut writer = Writer::open(&backend, 2);
    assert_eq!(writer.head, Head::default());
    assert_same(&writer.read_all(), &[]);
    assert_eq!(writer.seek(0, 0), None);
    let anew = writer.append(&[("anew", 0)]);
    assert_same(&writer.read_all(), &[anew]);
    for (neighbour, kept) in neighbours.iter().zip(kept) {
        assert_same(&neighbour.read_all(), &[kept]);
    }
}

pub(crate) fn delete_does_no_harm_twice<B: Backend>() {
    let backend = B::create();
    Writer::open(&backend, 1).append(&[("gone", 1)]);
    for stream in [1, 1, 7] {
        block_on(backend.store().delete(StreamId::new(stream))).unwrap();
    }
    assert_eq!(Writer::open(&backend, 1).head, Head::default());
}

pub(crate) fn a_deleted_log_takes_no_appends<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    writer.append(&[("gone", 1)]);
    block_on(backend.store().delete(StreamId::new(1))).unwrap();
    for position in [0, 1] {
        let batch = testing::batch(position, &[("late", 1)]);
        let refused = writer.accept(&batch, Head { tail: batch.end(), ..Head::default() });
        assert!(matches!(refused, Err(StoreError::NotDone(_))), "at {position}: {refused:?}");
    }
    writer.trim(1);
    drop(writer);
    let writer = Writer::open(&backend, 1);
    assert_eq!(writer.head, Head::default());
    assert_same(&writer.read_all(), &[]);
}

pub(crate) fn streams_do_not_see_each_other<B: Backend>() {
    let backend = B::create();
    let bodies: Vec<_> = (0..100).map(|stream| format!("of stream {stream}")).collect();
    // Identities that differ in one place only, at either end.
    let identity = |i: usize| if i.is_multiple_of(2) { i as u128 } else { u128::MAX - i as u128 };
    let mut writers: Vec<_> = (0..bodies.len()).map(|i| Writer::open(&backend, identity(i))).collect();
    let mut written = vec![Vec::new(); bodies.len()];
    for round in 0..3 {
        for (i, writer) in writers.iter_mut().enumerate() {
            written[i].push(writer.append(&[(&bodies[i], round)]));
        }
    }
    for (writer, written) in writers.iter().zip(&written) {
        assert_same(&writer.read_all(), written);
    }
}

pub(crate) fn streams_are_written_at_the_same_time<B: Backend>() {
    let backend = B::create();
    let mut writers: Vec<_> = (0..8).map(|i| Writer::open(&backend, i)).collect();
    thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(move || {
                for i in 0..200 {
                    let batch = writer.next(&[("x", i), ("y", i)]);
                    let head = writer.after(&batch);
                    let commit = writer.accept(&batch, head).unwrap();
                    if commit == Commit::Pending && i % 16 == 0 {
                        writer.reports.wait_for(batch.end().seq_num).unwrap();
                    }
                }
                writer.append(&[("last", 1000)]);
            });
        }
    });
    for writer in &writers {
        assert_eq!(writer.read_all().iter().map(Batch::len).sum::<usize>(), 401);
    }
}

/// Appends until the store is full; what it took.
fn fill(writer: &mut Writer, body: &str) -> Vec<Batch> {
    let mut accepted = Vec::new();
    loop {
        let batch = writer.next(&[(body, 1)]);
        let head = writer.after(&batch);
        match writer.accept(&batch, head) {
            Ok(Commit::Durable) => {}
            Ok(Commit::Pending) => writer.reports.wait_for(batch.end().seq_num).unwrap(),
            Err(StoreError::Full(_)) => return accepted,
            Err(error) => panic!("full, it should say: {error}"),
        }
        accepted.push(batch);
    }
}

pub(crate) fn a_full_store_refuses_and_loses_nothing<B: Backend>() {
    let Some(backend) = B::create_limited(100_000) else { return };
    let mut writer = Writer::open(&backend, 1);
    let accepted = fill(&mut writer, &"x".repeat(10_000));
    assert!((5..=10).contains(&accepted.len()), "{} batches of 10 kB", accepted.len());
    assert_same(&writer.read_all(), &accepted);
    let head = writer.head;
    drop(writer);
    let mut writer = Writer::open(&backend, 1);
    assert_eq!(writer.head, head);
    assert!(fill(&mut writer, &"x".repeat(10_000)).is_empty(), "it is still full");
}

pub(crate) fn a_full_store_can_be_trimmed<B: Backend>() {
    let Some(backend) = B::create_limited(100_000) else { return };
    let mut writer = Writer::open(&backend, 1);
    let filled = fill(&mut writer, &"x".repeat(10_000)).len();
    fill(&mut writer, "");
    let tail = writer.head.tail.seq_num;
    let command = Batch::sequence(&Records::new().trim(tail.get()).input().batch, tail, |_| Timestamp::new(1));
    let head = Head { trim_point: tail, ..writer.after(&command) };
    writer.commit(&command, head);
    writer.trim(tail.get());
    let again = fill(&mut writer, &"x".repeat(10_000)).len();
    assert!(again >= filled - 1, "{again} after trimming, {filled} before");
    assert_same(&writer.read(tail.get(), 1), &[command]);
}

pub(crate) fn close_reports_what_was_accepted<B: Backend>() {
    let backend = B::create();
    let mut writers: Vec<_> = (0..4).map(|i| Writer::open(&backend, i)).collect();
    let mut pending = [None; 4];
    for i in 0..50 {
        for (writer, pending) in writers.iter_mut().zip(&mut pending) {
            let batch = writer.next(&[("x", i)]);
            let head = writer.after(&batch);
            if writer.accept(&batch, head).unwrap() == Commit::Pending {
                *pending = Some(batch.end().seq_num);
            }
        }
    }
    block_on(backend.store().close()).unwrap();
    for (writer, pending) in writers.iter().zip(pending) {
        assert_eq!(writer.reports.end(), pending);
    }
}

pub(crate) fn a_closed_store_takes_no_writes<B: Backend>() {
    let backend = B::create();
    let mut writer = Writer::open(&backend, 1);
    writer.append(&[("x", 1)]);
    block_on(backend.store().close()).unwrap();
    let batch = writer.next(&[("late", 1)]);
    let refused = writer.accept(&batch, writer.after(&batch));
    assert!(matches!(refused, Err(StoreError::Closed(_))), "{refused:?}");
    assert!(matches!(backend.store().health(), Err(StoreError::Closed(_))));
    let refused = block_on(backend.store().meta().put(b"late", Bytes::new(), Version::ABSENT));
    assert!(matches!(refused, Err(StoreError::Closed(_))), "{refused:?}");
    block_on(backend.store().close()).unwrap();
}

/// Writes two streams and a value, deletes a third stream.
fn write_some(backend: &impl Backend) -> ([Batch; 2], Head, Version) {
    let mut writer = Writer::open(backend, 1);
    let first = writer.append(&[("a", 1), ("b", 2)]);
    let second = writer.next(&[("c", 3)]);
    let head = Head { tail: second.end(), fencing_token: fencing_token("writer"), trim_point: SeqNum::new(1) };
    writer.commit(&second, head);
    Writer::open(backend, 2).append(&[("other", 9)]);
    Writer::open(backend, 3).append(&[("gone", 9)]);
    block_on(backend.store().delete(StreamId::new(3))).unwrap();
    let version = put(backend.store().meta(), "key", "value", Version::ABSENT);
    ([first, second], head, version)
}

fn check_written(backend: &impl Backend, (batches, head, version): ([Batch; 2], Head, Version)) {
    let mut writer = Writer::open(backend, 1);
    assert_eq!(writer.head, head);
    assert_same(&writer.read_all(), &batches);
    assert_eq!(writer.reports.end(), None, "what was found is not reported");
    let third = writer.append(&[("d", 4)]);
    assert_same(&writer.read(3, usize::MAX), &[third]);
    assert_eq!(Writer::open(backend, 2).head.tail, Position::new(1, 9));
    assert_eq!(Writer::open(backend, 3).head, Head::default());
    assert_eq!(get(backend.store().meta(), "key"), Some(("value".into(), version)));
}

pub(crate) fn everything_survives_a_close<B: Backend>() {
    let backend = B::create();
    let written = write_some(&backend);
    block_on(backend.store().close()).unwrap();
    if let Some(backend) = backend.reopen() {
        check_written(&backend, written);
    }
}

pub(crate) fn what_was_reported_survives_a_loss<B: Backend>() {
    let backend = B::create();
    let written = write_some(&backend);
    if let Some(backend) = backend.reopen() {
        check_written(&backend, written);
    }
}

fn get(meta: &dyn MetaStore, key: &str) -> Option<(Bytes, Version)> {
    block_on(meta.get(key.as_bytes())).unwrap().map(|Versioned { value, version }| (value, version))
}

fn try_put(meta: &dyn MetaStore, key: &str, value: &str, expected: Version) -> MetaWrite {
    block_on(meta.put(key.as_bytes(), Bytes::copy_from_slice(value.as_bytes()), expected)).unwrap()
}

fn put(meta: &dyn MetaStore, key: &str, value: &str, expected: Version) -> Version {
    match try_put(meta, key, value, expected) {
        MetaWrite::Done(version) => version,
        MetaWrite::Conflict => panic!("{key:?} is not at {expected:?}"),
    }
}

fn remove(meta: &dyn MetaStore, key: &str, expected: Version) -> MetaWrite {
    block_on(meta.remove(key.as_bytes(), expected)).unwrap()
}

pub(crate) fn values_are_put_and_got<B: Backend>() {
    let backend = B::create();
    let meta = backend.store().meta();
    assert_eq!(get(meta, "a"), None);
    let first = put(meta, "a", "one", Version::ABSENT);
    assert_eq!(get(meta, "a"), Some(("one".into(), first)));
    let second = put(meta, "a", "", first);
    assert_eq!(get(meta, "a"), Some(("".into(), second)), "an empty value is a value");
    assert_eq!(get(meta, "aa"), None);
    assert_eq!(get(meta, ""), None);
    assert_eq!(remove(meta, "a", second), MetaWrite::Done(Version::ABSENT));
    assert_eq!(get(meta, "a"), None);
}

pub(crate) fn late_writers_of_a_value_learn_it<B: Backend>() {
    let backend = B::create();
    let meta = backend.store().meta();
    let first = put(meta, "a", "one", Version::ABSENT);
    let second = put(meta, "a", "two", first);
    for late in [Version::ABSENT, first] {
        assert_eq!(try_put(meta, "a", "late", late), MetaWrite::Conflict);
        assert_eq!(remove(meta, "a", late), MetaWrite::Conflict);
    }
    assert_eq!(get(meta, "a"), Some(("two".into(), second)));
    assert_eq!(try_put(meta, "b", "never there", second), MetaWrite::Conflict);
    assert_eq!(remove(meta, "b", second), MetaWrite::Conflict);
    assert_eq!(get(meta, "b"), None);
}

/// Writes a value and removes it, when the last write of it was `newest`; the newest version then.
fn put_and_remove(meta: &dyn MetaStore, newest: Version) -> Version {
    let first = put(meta, "a", "x", Version::ABSENT);
    let second = put(meta, "a", "y", first);
    assert!(newest < first && first < second, "{newest:?}, {first:?}, {second:?}");
    assert_eq!(remove(meta, "a", second), MetaWrite::Done(Version::ABSENT));
    assert_eq!(try_put(meta, "a", "late", second), MetaWrite::Conflict);
    second
}

pub(crate) fn versions_never_come_back<B: Backend>() {
    let backend = B::create();
    let newest = (0..3).fold(Version::ABSENT, |newest, _| put_and_remove(backend.store().meta(), newest));
    if let Some(backend) = backend.reopen() {
        put_and_remove(backend.store().meta(), newest);
    }
}

pub(crate) fn scans_are_in_order_and_bounded<B: Backend>() {
    let backend = B::create();
    let meta = backend.store().meta();
    let keys: [&[u8]; 8] = [b"a", b"a/", b"a/\x00", b"a/b", b"a/b/c", b"a/\xff", b"a0", b"b"];
    for i in [3, 0, 7, 5, 1, 6, 2, 4] {
        let written = block_on(meta.put(keys[i], Bytes::copy_from_slice(keys[i]), Version::ABSENT)).unwrap();
        assert!(matches!(written, MetaWrite::Done(_)));
    }
    type Case<'a> = (&'a [u8], Option<&'a [u8]>, usize, &'a [&'a [u8]]);
    let cases: [Case<'_>; 14] = [
        (b"", None, 100, &keys),
        (b"", None, 3, &keys[..3]),
        (b"", Some(b"a/b"), 2, &keys[4..6]),
        (b"", Some(b"a/c"), 2, &keys[5..7]),
        (b"a/", None, 100, &keys[1..6]),
        (b"a/", None, 0, &[]),
        (b"a/", Some(b""), 100, &keys[1..6]),
        (b"a/", Some(b"a"), 2, &keys[1..3]),
        (b"a/", Some(b"a/"), 100, &keys[2..6]),
        (b"a/", Some(b"a/\xff"), 100, &[]),
        (b"a/", Some(b"b"), 100, &[]),
        (b"a0", Some(b"a"), 100, &keys[6..7]),
        (b"b", Some(b""), 100, &keys[7..]),
        (b"c", None, 100, &[]),
    ];
    for (prefix, after, limit, expected) in cases {
        let rows = block_on(meta.scan(prefix, after, limit)).unwrap();
        let found: Vec<_> = rows.iter().map(|(key, _)| &key[..]).collect();
        assert_eq!(found, expected, "{prefix:?} after {after:?}, at most {limit}");
        for (key, row) in &rows {
            assert_eq!(block_on(meta.get(key)).unwrap().as_ref(), Some(row));
            assert_eq!(key, &row.value);
        }
    }
}

pub(crate) fn of_racing_writers_each_counts_once<B: Backend>() {
    let backend = B::create();
    let meta = backend.store().meta();
    let count_once = || loop {
        let (count, version) = get(meta, "count").unwrap_or(("".into(), Version::ABSENT));
        let next = format!("{}|", std::str::from_utf8(&count).unwrap());
        if let MetaWrite::Done(_) = try_put(meta, "count", &next, version) {
            break;
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| count_once()));
        }
    });
    assert_eq!(get(meta, "count").unwrap().0.len(), 100);
}
