//! The one thread that writes: takes what waits, of all streams, writes it at once, syncs, and reports.
//!
//! ```text
//! queue ──► requests ──► large batches: write, sync ──► Commit: each key once, pointers ──► write, sync
//!           durable heads, sinks, answers ◄── done ───────────────────────────────────────────┤
//!           everything fails, for good ◄── fails, or panics, as soon as any of it does ───────┘
//! ```
//!
//! While large batches are synced and more wait, those are written already, so that a disk that syncs slowly is not idle
//! meanwhile:
//!
//! ```text
//! writer       write 1 │ write 2         │ commit 1 │ write 3    │ commit 2 │
//! log-syncs            │ sync 1 ──────── │ sync 2 ──────────     │ sync 3 ──────
//! ```
//!
//! It knows the order of things, and neither how they are encoded nor who waits for them. Nobody else reports: what is
//! told of a request comes after what is told of those before it, also when everything fails.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    fs::File,
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    vec,
};

use bytes::Bytes;

use super::{
    deletions::Deletions,
    engine::{Engine, EngineError, Look, Writing},
    format::{BatchKey, LogNumber, Pointer, Released, SegmentNumber, StoredHead, Usage},
    hashing::BuildIdHasher,
    last_end::LastEnd,
    log::Log,
    queue::{Append, Moves, Next, Progress, Queue, Relocation, Removal, Reply, Request, Value},
    reclaim::Reclaim,
    reports::Reports,
    segments::{SegmentWriter, Written},
    syncing::{Sync, Syncing},
};
use crate::{
    store::{MetaWrite, StoreError, Version},
    types::{SeqNum, StreamId},
};

/// Numbers for logs and versions, each given once in the life of the store.
#[derive(Debug)]
pub(super) struct Numbers(AtomicU64);

impl Numbers {
    /// Those after `last`.
    pub(super) const fn after(last: u64) -> Self {
        Self(AtomicU64::new(last))
    }

    /// The next one. It counts as given when something is written after it was.
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed) + 1
    }

    fn last(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The writer and all it needs.
pub(super) struct Writer {
    pub(super) engine: Arc<Engine>,
    pub(super) queue: Arc<Queue>,
    pub(super) numbers: Arc<Numbers>,
    pub(super) reclaim: Arc<Reclaim>,
    pub(super) deletions: Arc<Deletions>,
    pub(super) segments: SegmentWriter,
    pub(super) syncing: Syncing,
    /// How many there were after the last write.
    pub(super) journals: usize,
    /// The last number that is written down as given.
    pub(super) noted_number: u64,
    pub(super) last_end: LastEnd,
    pub(super) reports: Reports<Report>,
}

/// The way to whoever waits for what `queue` takes. If telling one of them panics, nothing is taken any more.
pub(super) fn reports(queue: Arc<Queue>) -> Reports<Report> {
    Reports::start(Report::tell, move || {
        tracing::error!("telling of what was written panicked: nothing is written any more");
        queue.fail("telling of what was written panicked".into());
    })
}

/// What was taken from the queue, as long as nobody was told of it.
struct Untold {
    current: Requests,
    /// Those whose large batches are written while those of the current ones are synced.
    next: Option<Requests>,
}

/// The requests of one write.
struct Requests {
    /// Those that are not yet part of the write.
    left: vec::IntoIter<Request>,
    /// What will be told of the others.
    outcomes: Vec<Outcome>,
}

/// Large batches that are written, if there were any, and are being synced.
struct Begun {
    written: io::Result<Option<Written>>,
    sync: Sync,
}

impl Writer {
    /// Writes until the queue ends.
    pub(super) fn run(mut self) {
        loop {
            match self.queue.next() {
                Next::Write(requests) => self.write_or_fail(requests),
                Next::Fail(requests, reason) => {
                    self.report_failed(requests.into_iter().map(Outcome::unwritten), &reason)
                }
                Next::End => return self.end(),
            }
        }
    }

    fn end(&self) {
        if !self.queue.has_failed() {
            self.note_end();
        }
        let (waiting, failed) = self.queue.writer_ended();
        let outcomes = waiting.into_iter().map(Outcome::Done);
        match failed {
            None => self.report(outcomes.map(Report::Durable).collect()),
            Some(reason) => self.report_failed(outcomes, &reason),
        }
    }

    /// Without it, less is noticed at the next start.
    fn note_end(&self) {
        let noted = catch_unwind(AssertUnwindSafe(|| self.last_end.note(&self.engine)));
        match noted {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the end of what was written is not noted"),
            Err(_) => tracing::warn!("noting the end of what was written panicked"),
        }
    }

    /// After a failure nothing is written any more, and those who were not told that they are durable are told so: what the
    /// disk then holds is not known. The same after a panic of the engine.
    fn write_or_fail(&mut self, requests: Vec<Request>) {
        let mut untold = Untold { current: Requests::of(requests), next: None };
        // What a panic leaves half done is not used again.
        let written = catch_unwind(AssertUnwindSafe(|| self.write(&mut untold)));
        if let Err(reason) = written.unwrap_or_else(|_| Err("the thread that writes to the disk panicked".into())) {
            tracing::error!(%reason, "writing to the disk failed: nothing is written any more");
            self.queue.fail(reason.clone());
            let Untold { current, next } = untold;
            self.report_failed(current.failed().chain(next.into_iter().flat_map(Requests::failed)), &reason);
        }
    }

    /// Writes the current requests, and what it takes ahead meanwhile.
    fn write(&mut self, untold: &mut Untold) -> Result<(), Arc<str>> {
        let worth_overlapping = self.segments.sizes().worth_overlapping;
        let mut begun = Begun::of(self.copy(&untold.current), |file| match self.queue.bytes() >= worth_overlapping {
            true => self.syncing.sync(file),
            false => Sync::now(&file),
        });
        loop {
            if begun.sync.is_running() {
                untold.next = self.queue.take_if(worth_overlapping).map(Requests::of);
            }
            let copied = untold.next.as_ref().map(|next| self.copy(next));
            let written = begun.synced().map_err(|error| error.reason())?;
            let next = copied.map(|copied| Begun::of(copied, |file| self.syncing.sync(file)));
            self.commit(&mut untold.current, written)?;
            match (untold.next.take(), next) {
                (Some(requests), Some(next)) => (untold.current, begun) = (requests, next),
                _ => return Ok(()),
            }
        }
    }

    /// Writes the large batches, to be synced.
    fn copy(&mut self, requests: &Requests) -> io::Result<Option<Written>> {
        let requests = requests.left.as_slice();
        requests.iter().filter_map(Request::leaves).for_each(|segment| self.segments.leave(segment));
        let large: Vec<_> = requests.iter().flat_map(Request::large).collect();
        self.segments.append(&large)
    }

    fn commit(&mut self, requests: &mut Requests, written: Option<Written>) -> Result<(), Arc<str>> {
        let mut commit = Commit::new(&self.engine, &self.numbers, &mut requests.outcomes);
        for request in requests.left.by_ref() {
            commit.add(request);
        }
        let committed = commit.write(&mut self.noted_number, written).map_err(|error| error.reason())?;
        committed.settle(&self.reclaim);
        self.report(mem::take(&mut requests.outcomes).into_iter().map(Report::Durable).collect());
        self.look_after_journals();
        Ok(())
    }

    fn report_failed(&self, outcomes: impl Iterator<Item = Outcome>, reason: &Arc<str>) {
        self.report(outcomes.map(|outcome| Report::Failed(outcome, reason.clone())).collect());
    }

    /// The store's own threads are told on the spot: whoever drops the store waits for them, perhaps on the one thread that
    /// the runtime has.
    fn report(&self, mut reports: Vec<Report>) {
        reports.extract_if(.., |report| report.is_to_own_thread()).for_each(Report::tell);
        if !reports.is_empty() {
            self.reports.pass_on(reports);
        }
    }

    /// The engine says nothing when it begins a journal, or deletes one.
    fn look_after_journals(&mut self) {
        let journals = self.engine.journals();
        if journals != self.journals {
            self.journals = journals;
            self.deletions.look();
        }
    }
}

impl Requests {
    fn of(requests: Vec<Request>) -> Self {
        Self { left: requests.into_iter(), outcomes: Vec::new() }
    }

    /// In their order.
    fn failed(self) -> impl Iterator<Item = Outcome> {
        self.outcomes.into_iter().chain(self.left.map(Outcome::unwritten))
    }
}

impl Begun {
    /// `sync` is called for the file, if anything was written.
    fn of(written: io::Result<Option<Written>>, sync: impl FnOnce(Arc<File>) -> Sync) -> Self {
        let sync = match &written {
            Ok(Some(written)) => sync(written.file.clone()),
            Ok(None) | Err(_) => Sync::Done(Ok(())),
        };
        Self { written, sync }
    }

    /// Waits until what was written is durable.
    fn synced(self) -> Result<Option<Written>, EngineError> {
        let written = self.written.map_err(EngineError::failed)?;
        self.sync.wait().map_err(EngineError::failed)?;
        Ok(written)
    }
}

/// Requests on their way to becoming one write.
struct Commit<'a> {
    engine: &'a Engine,
    /// As it was when something was first asked of it; appends ask nothing.
    look: OnceCell<Look<'a>>,
    writing: Writing<'a>,
    numbers: &'a Numbers,
    batches: Vec<(BatchKey, Bytes)>,
    streams: Vec<StreamChange>,
    by_stream: HashMap<StreamId, usize, BuildIdHasher>,
    rows: HashMap<Bytes, Row>,
    reclaims: HashMap<LogNumber, Option<SeqNum>>,
    /// Of batches in segments, not pointed to any more.
    dead: Vec<Pointer>,
    /// Not its own, so that they outlive it, whatever happens.
    outcomes: &'a mut Vec<Outcome>,
}

/// What becomes of a stream's head.
struct StreamChange {
    stream: StreamId,
    head: Option<StoredHead>,
    moves: Moves,
    log: Option<Arc<Log>>,
    /// Which of the outcomes is that of its appends.
    appended: Option<usize>,
}

/// A row as it will stand after the write.
struct Row {
    version: u64,
    value: Option<Bytes>,
}

/// Whom to tell, and what, when the write is durable.
pub(super) enum Outcome {
    /// Of appends to one log, the last.
    Appended {
        log: Arc<Log>,
        end: SeqNum,
    },
    Done(Reply<()>),
    /// What a thread of the store itself asked for, which waits.
    OwnDone(Reply<()>),
    Row(Reply<MetaWrite>, MetaWrite),
}

impl<'a> Commit<'a> {
    fn new(engine: &'a Engine, numbers: &'a Numbers, outcomes: &'a mut Vec<Outcome>) -> Self {
        Self {
            engine,
            look: OnceCell::new(),
            writing: engine.write(),
            numbers,
            batches: Vec::new(),
            streams: Vec::new(),
            by_stream: HashMap::default(),
            rows: HashMap::new(),
            reclaims: HashMap::new(),
            dead: Vec::new(),
            outcomes,
        }
    }

    fn add(&mut self, request: Request) {
        match request {
            Request::Append(append) => self.append(append),
            Request::Trim { log, released, done } => self.trim(log, released, done),
            Request::Delete { stream, log, done } => self.delete(stream, log, done),
            Request::Remove(removal) => self.remove(removal),
            Request::Move(relocation) => self.relocate(relocation),
            Request::Row { key, value, expected, done } => self.row(key, value, expected, done),
            Request::Barrier(done) => self.outcomes.push(Outcome::Done(done)),
        }
    }

    fn append(&mut self, Append { log, key, value, head, moves }: Append) {
        if let Value::Database(value) = value {
            self.batches.push((key, value));
        }
        let before = self.head_of(&log);
        let moves = if before.is_some() { moves } else { Moves::More };
        let released = before.map_or(Released::default(), |head| head.released);
        let end = head.head.tail.seq_num;
        let change = self.change(log.stream(), Some(StoredHead { released, ..head }), moves, Some(&log));
        self.appended(change, log, end);
    }

    fn appended(&mut self, change: usize, log: Arc<Log>, to: SeqNum) {
        let before = self.streams[change].appended.map(|place| &mut self.outcomes[place]);
        match before {
            // The stream may have had another log.
            Some(Outcome::Appended { log: before, end }) if before.number() == log.number() => *end = to,
            _ => {
                self.streams[change].appended = Some(self.outcomes.len());
                self.outcomes.push(Outcome::Appended { log, end: to });
            }
        }
    }

    fn trim(&mut self, log: Arc<Log>, released: Released, done: Reply<()>) {
        if let Some(head) = self.head_of(&log).filter(|head| head.released.to < released.to) {
            self.change(log.stream(), Some(StoredHead { released, ..head }), Moves::More, Some(&log));
            self.reclaims.insert(head.log, Some(released.to));
        }
        self.outcomes.push(Outcome::Done(done));
    }

    fn delete(&mut self, stream: StreamId, log: Option<Arc<Log>>, done: Reply<()>) {
        let found = match self.by_stream.get(&stream) {
            Some(&place) => Ok(self.streams[place].head),
            None => self.look().head(stream),
        };
        match found {
            Ok(head) => {
                if let Some(head) = head {
                    self.reclaims.insert(head.log, Some(SeqNum::MAX));
                    self.change(stream, None, Moves::More, log.as_ref());
                }
                self.outcomes.push(Outcome::Done(done));
            }
            Err(error) => answer(done, Err(error.of_read(format_args!("the head of stream {stream:?}")))),
        }
    }

    fn remove(&mut self, Removal { log, batches, to, progress, done }: Removal) {
        for (batch, pointer) in &batches {
            self.writing.remove_batch(batch);
            self.dead.extend(pointer);
        }
        if progress == Progress::Finished {
            let noted = match self.reclaims.get(&log) {
                Some(&noted) => Ok(noted),
                None => self.look().reclaim(log),
            };
            // More may have been let go of since.
            if noted.is_ok_and(|noted| noted.is_some_and(|noted| noted <= to)) {
                self.reclaims.insert(log, None);
            }
        }
        self.outcomes.push(Outcome::OwnDone(done));
    }

    fn relocate(&mut self, Relocation { batches, done, .. }: Relocation) {
        self.dead.extend(batches.iter().map(|batch| batch.pointer));
        self.outcomes.push(Outcome::OwnDone(done));
    }

    fn row(&mut self, key: Bytes, value: Option<Bytes>, expected: Version, done: Reply<MetaWrite>) {
        let version = match self.version_of(&key) {
            Ok(version) => version,
            Err(error) => return answer(done, Err(error.of_read("a row of the meta table"))),
        };
        if version != expected {
            return self.outcomes.push(Outcome::Row(done, MetaWrite::Conflict));
        }
        let version = if value.is_some() { self.numbers.next() } else { Version::ABSENT.0 };
        self.rows.insert(key, Row { version, value });
        self.outcomes.push(Outcome::Row(done, MetaWrite::Done(Version(version))));
    }

    fn version_of(&self, key: &[u8]) -> Result<Version, EngineError> {
        let version = match self.rows.get(key) {
            Some(row) => Some(row.version),
            None => self.look().row(key)?.map(|(version, _)| version),
        };
        Ok(version.map_or(Version::ABSENT, Version))
    }

    /// The head that the requests so far leave to `log`; none if it has none, or no more.
    fn head_of(&self, log: &Log) -> Option<StoredHead> {
        let head = match self.by_stream.get(&log.stream()) {
            Some(&place) => self.streams[place].head,
            None => log.durable(),
        };
        // The stream may have been deleted and made again.
        head.filter(|head| head.log == log.number())
    }

    /// Notes what becomes of a head; returns the place of the change.
    fn change(&mut self, stream: StreamId, head: Option<StoredHead>, moves: Moves, log: Option<&Arc<Log>>) -> usize {
        let place = *self.by_stream.entry(stream).or_insert(self.streams.len());
        match self.streams.get_mut(place) {
            Some(change) => {
                change.head = head;
                if moves == Moves::More {
                    change.moves = moves;
                }
                if let Some(log) = log.filter(|log| change.log.as_ref().is_none_or(|known| !Arc::ptr_eq(known, log))) {
                    change.log = Some(log.clone());
                }
            }
            None => self.streams.push(StreamChange { stream, head, moves, log: log.cloned(), appended: None }),
        }
        place
    }

    fn look(&self) -> &Look<'a> {
        self.look.get_or_init(|| self.engine.look())
    }

    /// In their order: the place of one then lies near that of the one before, which the engine has just looked for.
    fn put_batches(&mut self) {
        self.batches.sort_unstable_by_key(|(key, _)| (key.log, key.first));
        for (key, value) in self.batches.drain(..) {
            self.writing.put_batch(&key, value);
        }
    }

    /// Pointers to the large batches that were written, and how their segments are used then.
    fn put_pointers(&mut self, written: Option<&Written>) -> BTreeMap<SegmentNumber, Usage> {
        let mut changed = BTreeMap::new();
        for (key, pointer) in written.iter().flat_map(|written| &written.pointers) {
            self.writing.put_pointer(key, pointer);
            change_usage(self.engine, &mut changed, pointer, Usage::add);
        }
        for pointer in &self.dead {
            change_usage(self.engine, &mut changed, pointer, Usage::remove);
        }
        for (segment, usage) in &changed {
            self.writing.put_usage(*segment, usage);
        }
        changed
    }

    /// Writes what the requests came to, and syncs.
    fn write(mut self, noted_number: &mut u64, written: Option<Written>) -> Result<Committed, EngineError> {
        self.put_batches();
        let usage = self.put_pointers(written.as_ref());
        for StreamChange { stream, head, moves, .. } in &self.streams {
            match (head, moves) {
                (Some(_), Moves::Tail) => {}
                (Some(head), Moves::More) => self.writing.put_head(*stream, head),
                (None, _) => self.writing.remove_head(*stream),
            }
        }
        for (key, Row { version, value }) in self.rows {
            match value {
                Some(value) => self.writing.put_row(key, version, &value),
                None => self.writing.remove_row(key),
            }
        }
        let mut reclaims = Vec::new();
        for (log, to) in self.reclaims {
            match to {
                Some(to) => {
                    self.writing.put_reclaim(log, to);
                    reclaims.push((log, to));
                }
                None => self.writing.remove_reclaim(log),
            }
        }
        let committed = Committed { streams: self.streams, reclaims };
        if self.writing.is_empty() {
            return self.engine.check().map(|()| committed);
        }
        let last_number = self.numbers.last();
        if last_number > *noted_number {
            self.writing.put_last_number(last_number);
        }
        self.engine.wait_for_room()?;
        self.writing.commit()?;
        *noted_number = last_number;
        self.engine.segments().settle(written.as_ref(), usage);
        Ok(committed)
    }
}

fn change_usage(
    engine: &Engine,
    changed: &mut BTreeMap<SegmentNumber, Usage>,
    pointer: &Pointer,
    change: fn(&mut Usage, &Pointer),
) {
    let known = || engine.segments().usage(pointer.segment);
    // Nothing is known of a segment only if its file was lost.
    if let Some(usage) = changed.get(&pointer.segment).copied().or_else(known) {
        let usage = changed.entry(pointer.segment).or_insert(usage);
        change(usage, pointer);
    }
}

/// What was written.
struct Committed {
    streams: Vec<StreamChange>,
    reclaims: Vec<(LogNumber, SeqNum)>,
}

impl Committed {
    /// From now on it is what readers find.
    fn settle(self, reclaim: &Reclaim) {
        for StreamChange { head, log, .. } in self.streams {
            if let Some(log) = log {
                log.set_durable(head);
            }
        }
        reclaim.add(self.reclaims);
    }
}

impl Outcome {
    /// What would have become of `request`.
    fn unwritten(request: Request) -> Self {
        match request {
            Request::Append(Append { log, head, .. }) => Self::Appended { log, end: head.head.tail.seq_num },
            Request::Trim { done, .. } | Request::Delete { done, .. } | Request::Barrier(done) => Self::Done(done),
            Request::Remove(removal) => Self::OwnDone(removal.done),
            Request::Move(relocation) => Self::OwnDone(relocation.done),
            Request::Row { done, .. } => Self::Row(done, MetaWrite::Conflict),
        }
    }
}

/// What became of a request.
pub(super) enum Report {
    /// It is durable.
    Durable(Outcome),
    /// It may have happened, and nothing more will, for this reason.
    Failed(Outcome, Arc<str>),
}

impl Report {
    fn tell(self) {
        let failed = |reason| StoreError::Unknown(reason);
        match self {
            Self::Durable(Outcome::Appended { log, end }) => log.tell_durable(end),
            Self::Durable(Outcome::Done(done) | Outcome::OwnDone(done)) => answer(done, Ok(())),
            Self::Durable(Outcome::Row(done, write)) => answer(done, Ok(write)),
            Self::Failed(Outcome::Appended { log, .. }, reason) => log.tell_failed(failed(reason)),
            Self::Failed(Outcome::Done(done) | Outcome::OwnDone(done), reason) => answer(done, Err(failed(reason))),
            Self::Failed(Outcome::Row(done, _), reason) => answer(done, Err(failed(reason))),
        }
    }

    const fn is_to_own_thread(&self) -> bool {
        matches!(self, Self::Durable(Outcome::OwnDone(_)) | Self::Failed(Outcome::OwnDone(_), _))
    }
}

fn answer<T>(done: Reply<T>, result: Result<T, StoreError>) {
    // Whoever does not wait for the answer does not need it.
    let _ = done.send(result);
}
