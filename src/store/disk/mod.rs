//! The durable store: an embedded database in a directory of its own, one thread that writes and syncs for all streams.
//!
//! ```text
//!  append ─► queue ─► writer: one write, one sync ─► reports ─► sinks    a batch and the head it leaves, in one write
//!                        ▲  └─ before it, for large batches: one write, one sync of a segment
//!  trim, delete, meta ───┤
//!  reclaim: a few removals or moves at a time                     the space of what was trimmed or deleted
//!
//!  read, seek, get, scan ─► readers: threads that look at what is durable
//! ```
//!
//! * After a failed write or sync, or a panic, nothing is written any more: what the disk then holds is known only after
//!   the next start. Everyone who waits is told so.
//! * Before the disk is full appends are refused, and taken again when there is room (`space`).
//! * Opening reads no batch: a stream's head, and the key of its last batch, are read when the stream is opened.

mod audit;
mod compaction;
mod deletions;
mod directory;
mod engine;
mod file_names;
mod format;
mod hashing;
mod journal;
mod last_end;
mod log;
mod queue;
mod readers;
mod reading;
mod reclaim;
mod reports;
mod segments;
mod space;
mod stream_log;
mod syncing;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use self::{
    deletions::Deletions,
    directory::DataDirectory,
    engine::{Engine, EngineError},
    format::{LogNumber, StoredHead},
    last_end::LastEnd,
    log::{Log, Registry},
    queue::{Queue, Request},
    readers::Readers,
    reclaim::Reclaim,
    segments::{SegmentSizes, SegmentWriter},
    space::{Probe, Purpose, Space},
    stream_log::DiskLog,
    syncing::Syncing,
    table::DiskTable,
    writer::{Numbers, Writer},
};
use super::{CommitSink, MetaStore, OpenLog, Store, StoreError, StoreFuture};
use crate::types::{MemoryShares, StreamId};

pub use audit::Audit;
pub use directory::DirectoryError;

/// Threads that read; while one waits for the disk, others serve from memory.
const READERS: usize = 4;

/// A store that keeps everything in a directory, which it has for itself.
pub struct DiskStore {
    shared: Arc<Shared>,
    table: DiskTable,
    reclaim: Arc<Reclaim>,
    deletions: Arc<Deletions>,
    /// The writer, and those that remove and give back in the background.
    threads: Vec<JoinHandle<()>>,
    directory: DataDirectory,
}

/// What the store, its logs and its threads have in common.
struct Shared {
    queue: Arc<Queue>,
    readers: Readers,
    space: Arc<Space>,
    engine: Arc<Engine>,
    registry: Arc<Registry>,
    numbers: Arc<Numbers>,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The database in it cannot be opened.
    #[error("the log in {path} cannot be opened: {reason}")]
    Database {
        /// Where it lies.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl DiskStore {
    /// Opens the store in `path`, made if it is not there. Of `memory` it takes the shares for what is read often and for
    /// what is not yet moved to its place.
    ///
    /// Takes as long as reading the journal, of bounded size, and looking at the length of each segment, whatever else the
    /// store holds.
    pub fn open(path: &Path, memory: MemoryShares) -> Result<Self, OpenError> {
        let sizes = SegmentSizes::default();
        Self::open_with(path, memory, sizes, |directory, engine| space::of_file_system(directory, engine))
    }

    fn open_with(
        path: &Path,
        memory: MemoryShares,
        sizes: SegmentSizes,
        probe: impl FnOnce(&Path, &Arc<Engine>) -> Probe,
    ) -> Result<Self, OpenError> {
        let directory = DataDirectory::open(path)?;
        let database = directory.database();
        let failed = |reason: String| OpenError::Database { path: database.clone(), reason };
        let sizes = sizes.within(space::reserve_of(directory.path()).map_err(|error| failed(error.to_string()))?);
        let engine = Arc::new(Engine::open(&database, memory, sizes).map_err(|error| failed(error.to_string()))?);
        let last_end = LastEnd::find(&engine, directory.end()).map_err(|error| failed(error.to_string()))?;
        let last = last_number(&engine, &last_end).map_err(|error| failed(error.to_string()))?;
        // Only now: a journal that is missing its end may be found again, and what it points to must still be there.
        engine.clear_up().map_err(|error| failed(error.to_string()))?;
        let probe = probe(directory.path(), &engine);
        Self::start(engine, directory, probe, last, last_end).map_err(|error| failed(error.to_string()))
    }

    fn start(
        engine: Arc<Engine>,
        directory: DataDirectory,
        probe: Probe,
        last: u64,
        last_end: LastEnd,
    ) -> std::io::Result<Self> {
        let (queue, reclaim) = (Arc::<Queue>::default(), Arc::<Reclaim>::default());
        let deletions = Arc::new(Deletions::of(&directory.database()));
        let space = Arc::new(Space::new(probe)?);
        let shared = Arc::new(Shared {
            queue: queue.clone(),
            readers: Readers::start(READERS)?,
            space: space.clone(),
            engine: engine.clone(),
            registry: Arc::default(),
            numbers: Arc::new(Numbers::after(last)),
        });
        let table = DiskTable(shared.clone());
        let mut store = Self {
            shared,
            table,
            reclaim: reclaim.clone(),
            deletions: deletions.clone(),
            threads: Vec::new(),
            directory,
        };
        let writer = Writer {
            engine: engine.clone(),
            queue: queue.clone(),
            numbers: store.shared.numbers.clone(),
            reclaim: reclaim.clone(),
            deletions: deletions.clone(),
            segments: SegmentWriter::new(engine.segments().clone()),
            syncing: Syncing::start()?,
            journals: engine.journals(),
            noted_number: last,
            last_end,
            reports: writer::reports(queue.clone()),
        };
        // Whatever fails from here on, dropping `store` ends the threads that were started: first the writer, on which the
        // one that removes waits.
        store.threads.push(thread::Builder::new().name("log-writer".into()).spawn(move || writer.run())?);
        store.threads.push(deletions::start(deletions.clone())?);
        store.threads.push(reclaim::start(reclaim, engine, queue, space, deletions)?);
        Ok(store)
    }

    /// Tells the threads to end: the writer when it has written what waits.
    fn end(&self) {
        self.reclaim.end();
        self.deletions.end();
        self.shared.queue.end();
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Reads everything and says what is in order, or the first thing that is not. For tests; takes its time, on the
    /// calling thread.
    pub fn audit(&self) -> Result<Audit, StoreError> {
        audit::audit(&self.shared.engine).map_err(|error| error.of_read("what is stored"))
    }
}

/// The last number that was given. What says so is lost with the end of the journal, when batches may have been moved out of
/// it: a log with the number of another one would take these for its own.
fn last_number(engine: &Engine, last_end: &LastEnd) -> Result<u64, EngineError> {
    let look = engine.look();
    let noted = look.last_number()?;
    if last_end.is_certain() {
        return Ok(noted);
    }
    let of_batches = look.last_log().unwrap_or_else(|error| {
        tracing::warn!(%error, "the last batch cannot be read");
        LogNumber(0)
    });
    Ok(noted.max(of_batches.0))
}

impl Shared {
    /// Waits until everything that was accepted is written.
    async fn settle(&self) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.queue.push_barrier(done);
        answered(answer).await
    }

    /// What is durable of `stream`.
    async fn find(&self, stream: StreamId) -> Result<Option<StoredHead>, StoreError> {
        let engine = self.engine.clone();
        let look = move || -> Result<_, EngineError> {
            let look = engine.look();
            look.head(stream)?.map(|written| reading::head_after_last(&look, written)).transpose()
        };
        self.readers.run(move || look().map_err(|error| error.of_read(format_args!("stream {stream:?}")))).await
    }
}

impl Store for DiskStore {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        Box::pin(async move {
            let shared = &self.shared;
            // Someone may have let go of the log before all of it was written.
            if let Some(before) = shared.registry.find(stream) {
                before.end("the stream was opened again");
                shared.settle().await?;
            }
            let found = shared.find(stream).await?;
            let number = || LogNumber(shared.numbers.next());
            let log = Log::open(&shared.registry, stream, found, number, sink);
            let head = found.map(|found| found.head).unwrap_or_default();
            Ok(OpenLog { log: Arc::new(DiskLog::new(shared.clone(), log)), head })
        })
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        let (done, answer) = oneshot::channel();
        let pushed = self.shared.space.take(0, Purpose::Remove).and_then(|()| {
            let log = self.shared.registry.find(stream);
            if let Some(log) = &log {
                log.end("the stream was deleted");
            }
            self.shared.queue.push(Request::Delete { stream, log, done })
        });
        Box::pin(async move {
            pushed?;
            answered(answer).await
        })
    }

    fn meta(&self) -> &dyn MetaStore {
        &self.table
    }

    fn health(&self) -> Result<(), StoreError> {
        self.shared.queue.check()
    }

    fn disk_used(&self) -> Option<u64> {
        Some(self.shared.engine.disk_space())
    }

    fn unmoved(&self) -> Option<u64> {
        Some(self.shared.engine.unmoved())
    }

    /// Afterwards only the engine still writes, moving to its files what is in its journal, until the store is dropped.
    fn close(&self) -> StoreFuture<'_, ()> {
        self.end();
        Box::pin(self.shared.settle())
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.end();
        for thread in self.threads.drain(..) {
            // One that panicked said so already.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The writer's answer.
async fn answered<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the thread that writes to the disk ended".into())))
}

/// Locks; what is behind the locks here is whole between any two statements, so a panic elsewhere poisons nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
