//! A double of a store that several processes share: one engine in memory, and a store for each gateway that uses it.
//!
//! ```text
//! gateway A   append ─► accepted ─┐ publish                       ┌─ report ─► sink
//!                                 ├──────► engine: one log a stream┤
//! gateway B   append ─► accepted ─┘                               └─ report ─► sink
//! ```
//!
//! Nothing happens by itself: a test says when what was accepted is published, and when a gateway hears what became of
//! it, so that anything can come in between. A gateway hears of what others commit when it listens, when it refreshes, or
//! when it finds that another one was first.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use super::{
    Commit, CommitSink, Listening, MemoryStore, MetaStore, MetaWrite, OpenLog, Removal, Sharing, Store, StoreError,
    StoreFuture, StreamLog, Version, Versioned,
};
use crate::types::{Batch, Head, Position, SeqNum, StreamId, Timestamp};

/// What all gateways share.
pub(crate) struct Engine {
    streams: Mutex<HashMap<StreamId, EngineLog>>,
    table: MemoryStore,
    silent: AtomicBool,
}

#[derive(Default)]
struct EngineLog {
    /// All that was ever committed.
    commits: Vec<(Batch, Head)>,
    trimmed_to: SeqNum,
    deleted: bool,
}

impl EngineLog {
    /// Of a stream that was deleted nothing is left.
    fn head(&self) -> Head {
        self.commits.last().filter(|_| !self.deleted).map_or(Head::default(), |(_, head)| *head)
    }

    fn after(&self, known: SeqNum) -> &[(Batch, Head)] {
        let from = self.commits.partition_point(|(batch, ..)| batch.first_seq_num() < known);
        &self.commits[from..]
    }

    /// The last commit stays, whatever is trimmed: it is the head.
    fn kept(&self) -> &[(Batch, Head)] {
        let trimmed = self.commits.partition_point(|(batch, ..)| batch.end().seq_num <= self.trimmed_to);
        &self.commits[trimmed.min(self.commits.len().saturating_sub(1))..]
    }
}

impl Engine {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            streams: Mutex::default(),
            table: MemoryStore::new(usize::MAX),
            silent: AtomicBool::new(false),
        })
    }

    /// From now on nobody is answered who asks for something in the table.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, SeqCst);
    }

    /// The store of one more gateway.
    pub(crate) fn gateway(self: &Arc<Self>) -> Arc<SharedMemory> {
        Arc::new(SharedMemory {
            engine: self.clone(),
            logs: Mutex::default(),
            table: Table(self.clone()),
            refreshes: Arc::default(),
            gate: Arc::default(),
        })
    }

    /// All that was ever committed to `stream`.
    pub(crate) fn commits(&self, stream: StreamId) -> Vec<(Batch, Head)> {
        locked(&self.streams).get(&stream).map(|log| log.commits.clone()).unwrap_or_default()
    }

    pub(crate) fn is_deleted(&self, stream: StreamId) -> bool {
        locked(&self.streams).get(&stream).is_some_and(|log| log.deleted)
    }
}

/// The store of one gateway.
pub(crate) struct SharedMemory {
    engine: Arc<Engine>,
    table: Table,
    logs: Mutex<Vec<Arc<SharedLog>>>,
    refreshes: Arc<AtomicUsize>,
    gate: Arc<RwLock<()>>,
}

impl SharedMemory {
    /// Commits what was accepted, as far as nobody was first. Nobody is told.
    pub(crate) fn publish(&self) {
        self.each(SharedLog::publish);
    }

    /// Tells what became of what was accepted, and to whoever listens what others committed.
    pub(crate) fn report(&self) {
        self.each(SharedLog::report);
    }

    /// Until all that was accepted is durable, or refused, and reported.
    pub(crate) fn settle(&self) {
        for _ in 0..100 {
            self.publish();
            self.report();
            if locked(&self.logs).iter().all(|log| log.is_settled()) {
                return;
            }
        }
        panic!("a gateway alone at work does not come to an end");
    }

    /// Nothing is known of what was accepted; some of it may have been published.
    pub(crate) fn fail(&self) {
        self.each(|log| log.fail(StoreError::Unknown("the engine does not answer".into())));
    }

    /// Tells the sinks that `batch` arrived, whatever was accepted in the meantime.
    pub(crate) fn tell_arrived(&self, batch: Batch, head: Head) {
        self.each(|log| {
            let end = batch.end().seq_num;
            {
                let mut state = log.state();
                (state.known, state.next) = (end, end);
                state.accepted.clear();
            }
            log.sink.arrived(batch.clone(), head);
        });
    }

    /// How often the engine was asked for a head.
    pub(crate) fn refreshes(&self) -> usize {
        self.refreshes.load(SeqCst)
    }

    /// No refresh is answered before this is dropped.
    pub(crate) fn hold_refreshes(&self) -> OwnedRwLockWriteGuard<()> {
        self.gate.clone().try_write_owned().expect("no refresh is under way")
    }

    /// Whether any of its logs listens.
    pub(crate) fn listens(&self) -> bool {
        locked(&self.logs).iter().any(|log| log.state().listening == Listening::Following)
    }

    /// From now on what others did in between is not told commit by commit.
    pub(crate) fn forget_what_was_missed(&self) {
        self.each(|log| log.state().tells_missed = false);
    }

    fn each(&self, f: impl Fn(&SharedLog)) {
        let logs: Vec<_> = locked(&self.logs).clone();
        logs.iter().for_each(|log| f(log));
    }
}

impl Store for SharedMemory {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        let head = locked(&self.engine.streams).entry(stream).or_default().head();
        let log = Arc::new(SharedLog {
            engine: self.engine.clone(),
            stream,
            sink,
            refreshes: self.refreshes.clone(),
            gate: self.gate.clone(),
            opened_deleted: self.engine.is_deleted(stream),
            state: Mutex::new(LogState {
                known: head.tail.seq_num,
                next: head.tail.seq_num,
                accepted: VecDeque::new(),
                forgets: false,
                failed: false,
                tells_missed: true,
                listening: Listening::Idle,
            }),
        });
        locked(&self.logs).push(log.clone());
        Box::pin(async move { Ok(OpenLog { log, head }) })
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        if let Some(log) = locked(&self.engine.streams).get_mut(&stream) {
            log.deleted = true;
        }
        Box::pin(async { Ok(()) })
    }

    fn delete_at(&self, stream: StreamId, tail: SeqNum) -> StoreFuture<'_, Removal> {
        let mut streams = locked(&self.engine.streams);
        let log = streams.entry(stream).or_default();
        log.deleted |= log.head().tail.seq_num == tail;
        let removal = if log.deleted { Removal::Removed } else { Removal::Kept };
        Box::pin(async move { Ok(removal) })
    }

    fn meta(&self) -> &dyn MetaStore {
        &self.table
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared
    }

    fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.settle();
        Box::pin(async { Ok(()) })
    }
}

/// The one table of all gateways. Others get their turn before each call, so that those who work together conflict.
struct Table(Arc<Engine>);

impl Table {
    async fn after_others(&self) -> &dyn MetaStore {
        tokio::task::yield_now().await;
        if self.0.silent.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        self.0.table.meta()
    }
}

impl MetaStore for Table {
    fn get(&self, key: &[u8]) -> StoreFuture<'_, Option<Versioned>> {
        let key = key.to_vec();
        Box::pin(async move { self.after_others().await.get(&key).await })
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> StoreFuture<'_, Vec<(Bytes, Versioned)>> {
        let (prefix, after) = (prefix.to_vec(), after.map(<[u8]>::to_vec));
        Box::pin(async move { self.after_others().await.scan(&prefix, after.as_deref(), limit).await })
    }

    fn put(&self, key: &[u8], value: Bytes, expected: Version) -> StoreFuture<'_, MetaWrite> {
        let key = key.to_vec();
        Box::pin(async move { self.after_others().await.put(&key, value, expected).await })
    }

    fn remove(&self, key: &[u8], expected: Version) -> StoreFuture<'_, MetaWrite> {
        let key = key.to_vec();
        Box::pin(async move { self.after_others().await.remove(&key, expected).await })
    }
}

struct SharedLog {
    engine: Arc<Engine>,
    stream: StreamId,
    sink: Arc<dyn CommitSink>,
    refreshes: Arc<AtomicUsize>,
    gate: Arc<RwLock<()>>,
    opened_deleted: bool,
    state: Mutex<LogState>,
}

struct LogState {
    /// What was reported ends here.
    known: SeqNum,
    /// Where the next append must begin.
    next: SeqNum,
    /// Not reported yet; some of it may be committed.
    accepted: VecDeque<(Batch, Head)>,
    /// Between finding out that another was first and being told where to go on.
    forgets: bool,
    failed: bool,
    tells_missed: bool,
    listening: Listening,
}

/// What is to be reported next.
enum Report {
    Durable(SeqNum),
    Arrived(Batch, Head),
    Overtaken(Head, Vec<(Batch, Head)>),
}

impl SharedLog {
    fn state(&self) -> MutexGuard<'_, LogState> {
        locked(&self.state)
    }

    fn publish(&self) {
        let state = self.state();
        let mut streams = locked(&self.engine.streams);
        let Some(log) = streams.get_mut(&self.stream).filter(|log| !log.deleted) else { return };
        for (batch, head) in &state.accepted {
            if log.commits.iter().any(|(committed, ..)| is_same(committed, batch)) {
                continue;
            }
            // Whoever comes too late, so does all that was accepted behind it.
            if log.head().tail.seq_num != batch.first_seq_num() {
                return;
            }
            log.commits.push((batch.clone(), *head));
        }
    }

    fn report(&self) {
        let asks = {
            let state = self.state();
            state.listening == Listening::Following || !state.accepted.is_empty()
        };
        if asks {
            self.report_to_end();
        }
        if self.state().accepted.front().is_some() && self.look(|_, _| ()).is_err() {
            self.fail(deleted());
        }
    }

    fn fail(&self, error: StoreError) {
        {
            let mut state = self.state();
            state.failed = true;
            state.accepted.clear();
        }
        self.sink.failed(error);
    }

    fn report_to_end(&self) {
        while let Some(report) = self.next_report() {
            match report {
                Report::Durable(end) => self.sink.durable(end),
                Report::Arrived(batch, head) => self.sink.arrived(batch, head),
                Report::Overtaken(head, missed) => self.sink.overtaken(head, missed),
            }
            let state = self.state();
            assert!(state.failed || !state.forgets, "the sink says where to go on");
        }
    }

    fn next_report(&self) -> Option<Report> {
        let mut state = self.state();
        let streams = locked(&self.engine.streams);
        let log = streams.get(&self.stream)?;
        let new = log.after(state.known);
        let first = new.first()?;
        if state.failed {
            return None;
        }
        if state.accepted.front().is_some_and(|(own, _)| is_same(own, &first.0)) {
            state.accepted.pop_front();
            state.known = first.0.end().seq_num;
            return Some(Report::Durable(state.known));
        }
        if state.accepted.is_empty() {
            state.known = first.0.end().seq_num;
            state.next = state.known;
            return Some(Report::Arrived(first.0.clone(), first.1));
        }
        let missed = match state.tells_missed {
            true => new.to_vec(),
            false => Vec::new(),
        };
        let head = log.head();
        state.known = head.tail.seq_num;
        state.accepted.clear();
        state.forgets = true;
        Some(Report::Overtaken(head, missed))
    }

    fn is_settled(&self) -> bool {
        let state = self.state();
        state.failed || state.accepted.is_empty()
    }

    fn look<T>(&self, look: impl FnOnce(&EngineLog, SeqNum) -> T) -> Result<T, StoreError> {
        let known = self.state().known;
        match locked(&self.engine.streams).get(&self.stream) {
            Some(log) if !log.deleted => Ok(look(log, known)),
            _ => Err(deleted()),
        }
    }
}

impl StreamLog for SharedLog {
    fn append(&self, batch: Batch, head: Head) -> Result<Commit, StoreError> {
        let mut state = self.state();
        if locked(&self.engine.streams).get(&self.stream).is_none_or(|log| log.deleted) {
            return Err(deleted());
        }
        if state.forgets {
            return Ok(Commit::Pending);
        }
        if state.next != batch.first_seq_num() {
            let (next, first) = (state.next, batch.first_seq_num());
            return Err(StoreError::NotDone(format!("the next record is {next}, not {first}").into()));
        }
        state.next = batch.end().seq_num;
        state.accepted.push_back((batch, head));
        Ok(Commit::Pending)
    }

    fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'_, Vec<Batch>> {
        let read = self.look(|log, known| {
            let (mut batches, mut metered) = (Vec::new(), 0);
            for (batch, ..) in log.kept() {
                if batch.end().seq_num > from && batch.end().seq_num <= known && metered < budget {
                    metered += batch.metered();
                    batches.push(batch.clone());
                }
            }
            batches
        });
        Box::pin(async { read })
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> StoreFuture<'_, Option<Position>> {
        let found = self.look(|log, known| {
            let mut records = log.kept().iter().flat_map(|(batch, ..)| {
                let slice = batch.whole();
                let positions: Vec<_> = slice
                    .records()
                    .map(|record| Position { seq_num: record.seq_num, timestamp: record.timestamp })
                    .collect();
                positions
            });
            records.find(|at| at.seq_num >= from && at.seq_num < known && at.timestamp >= timestamp)
        });
        Box::pin(async { found })
    }

    fn trim(&self, to: SeqNum) -> StoreFuture<'_, ()> {
        if let Some(log) = locked(&self.engine.streams).get_mut(&self.stream) {
            log.trimmed_to = log.trimmed_to.max(to);
        }
        Box::pin(async { Ok(()) })
    }

    fn refresh(&self) -> StoreFuture<'_, Head> {
        Box::pin(async {
            self.refreshes.fetch_add(1, SeqCst);
            let _open = self.gate.read().await;
            let head = self.look(|log, _| log.head())?;
            if self.state().failed {
                return Err(StoreError::Closed("the log failed".into()));
            }
            self.report_to_end();
            Ok(head)
        })
    }

    fn listen(&self, listening: Listening) {
        self.state().listening = listening;
    }

    fn resume_at(&self, tail: SeqNum) {
        let mut state = self.state();
        (state.next, state.forgets) = (tail, false);
        state.accepted.clear();
    }

    fn was_deleted(&self) -> bool {
        self.opened_deleted
    }

    fn stored(&self) -> u64 {
        let stored = self.look(|log, _| log.kept().iter().map(|(batch, ..)| batch.metered() as u64).sum());
        stored.unwrap_or_default()
    }
}

fn deleted() -> StoreError {
    StoreError::NotDone("the stream was deleted".into())
}

/// Whether two handles are to one batch: those of two gateways may look alike.
fn is_same(a: &Batch, b: &Batch) -> bool {
    a.records_bytes().as_ptr() == b.records_bytes().as_ptr()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
