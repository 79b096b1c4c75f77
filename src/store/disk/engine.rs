//! The database, by what is kept in it: the only place that names its crate.
//!
//! ```text
//! batches   key of a batch   → batch      large values lie apart from the keys, and are not moved by merges
//!                            → pointer    to a batch that is larger still, in a segment
//! segments  segment number   → usage
//! heads     stream id        → head, as it was when more than its tail last moved
//! meta      key              → version, value
//! reclaim   log number       → number before which its batches may be removed
//! state     "numbers"        → the greatest number that was ever given to a log or as a version
//!           "ends"           → how often the store was ended without a crash
//!           "past"           → nothing
//! ```
//!
//! What is written in one [`Writing`] is durable together, or not at all.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    ops::Bound,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use fjall::{
    AbstractTree, AnyTree, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, LsmError, OwnedWriteBatch,
    PersistMode, Readable, Slice,
    config::{BlockSizePolicy, FilterPolicy, PinningPolicy},
};

use super::{
    directory::{create, sync_directories},
    file_names::FileNames,
    format::{self, BatchKey, Damage, LogNumber, Place, Pointer, SegmentNumber, StoredHead, Usage},
    journal::{self, JournalError},
    segments::{SegmentSizes, Segments},
};
use crate::{
    store::StoreError,
    types::{Batch, MemoryShares, SeqNum, StreamId},
};

/// Bytes of what is small that are kept in memory until they are moved from the journal to files, at most.
const OTHERS_IN_MEMORY: u64 = 8 * 1024 * 1024;
/// Bytes of journal that may wait for that; they are read again when the database is opened after a crash.
const JOURNAL: u64 = 128 * 1024 * 1024;
/// Batches of this size and more lie apart from their keys.
const APART: u32 = 1024;
/// A file of records is rewritten without its removed ones when they are this much of it.
const STALE: f32 = 0.5;
/// One to move records out of the journal, one to merge and to give space back.
const WORKERS: usize = 2;
/// How many moves or merges may lie behind before writes wait for them. The engine itself would begin to wait at 4 and
/// at 30, and then without noticing that it failed.
const MOST_UNMOVED: usize = 3;
const MOST_UNMERGED: usize = 24;

const LAST_NUMBER: &[u8] = b"numbers";
const ENDS: &[u8] = b"ends";
/// Written only for the sake of having written.
const PAST: &[u8] = b"past";

/// Where large batches are.
const SEGMENTS: &str = "segments";
/// What the engine writes, and makes durable, before it holds anything: these bytes and one more.
const VERSION_FILE: &str = "version";
const VERSION_MAGIC: &[u8] = b"FJL";

/// The database.
pub(super) struct Engine {
    db: Database,
    batches: Keyspace,
    heads: Keyspace,
    meta: Keyspace,
    reclaim: Keyspace,
    state: Keyspace,
    usage: Keyspace,
    segments: Arc<Segments>,
    /// Bytes that may be written and not yet moved.
    most_unmoved: u64,
    /// Of the files of records that lie apart from the keys.
    file_names: FileNames,
}

/// What became of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merged {
    /// It was done, or as much of it as was wanted.
    Done,
    /// There is no room for it, or for all of it.
    NoRoom,
}

/// Why the engine did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// What was stored does not come back as it was.
    #[error("{0}")]
    Damaged(String),
    /// Reading or writing failed, or the engine stopped after an earlier failure.
    #[error("{0}")]
    Failed(String),
    /// What was to be read was moved or removed meanwhile, and is to be looked for again.
    #[error("it is not where it was")]
    Moved,
}

impl Engine {
    /// Opens the database in `directory`, made if it is not there, within these shares of memory. Of what is in it nothing
    /// is given back before [`Self::clear_up`].
    pub(super) fn open(directory: &Path, memory: MemoryShares, sizes: SegmentSizes) -> Result<Self, EngineError> {
        if is_unfinished(directory)? {
            fs::remove_dir_all(directory).map_err(EngineError::failed)?;
        }
        create(directory).map_err(EngineError::failed)?;
        journal::repair(directory).map_err(|error| match error {
            JournalError::Damaged { .. } => EngineError::Damaged(error.to_string()),
            JournalError::Io { .. } => EngineError::Failed(error.to_string()),
        })?;
        let db = Database::builder(directory)
            .cache_size(memory.cache as u64)
            .max_journaling_size(JOURNAL)
            .worker_threads(WORKERS)
            .manual_journal_persist(true)
            .open()?;
        // What is written to goes on growing while others wait to be moved.
        let each = memory.written as u64 / (1 + MOST_UNMOVED as u64);
        let others = || {
            let size = OTHERS_IN_MEMORY.min(each / 4);
            KeyspaceCreateOptions::default().max_memtable_size(size).manual_journal_persist(true)
        };
        let batches = db.keyspace("batches", || batches_options(each))?;
        let usage = db.keyspace("segments", others)?;
        let segments = Segments::open(&directory.join(SEGMENTS), sizes, usage_in(&db.snapshot(), &usage)?);
        let engine = Self {
            file_names: FileNames::open(&batches.path().join("blobs")).map_err(EngineError::failed)?,
            batches,
            heads: db.keyspace("heads", others)?,
            meta: db.keyspace("meta", others)?,
            reclaim: db.keyspace("reclaim", others)?,
            state: db.keyspace("state", others)?,
            usage,
            segments: Arc::new(segments.map_err(EngineError::failed)?),
            most_unmoved: memory.written as u64,
            db,
        };
        // The engine makes directories for its keyspaces without making their names durable.
        sync_directories(directory).map_err(EngineError::failed)?;
        Ok(engine)
    }

    /// Gives back what earlier processes left in segments that is not needed.
    pub(super) fn clear_up(&self) -> Result<(), EngineError> {
        self.segments.clear_up().map_err(EngineError::failed)?;
        self.forget_missing_segments()
    }

    /// Where large batches are.
    pub(super) fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// Removes what is noted of segments that were deleted.
    fn forget_missing_segments(&self) -> Result<(), EngineError> {
        let mut writing = self.write();
        for number in self.look().usage()?.into_keys().filter(|number| !self.segments.has(*number)) {
            writing.remove_usage(number);
        }
        match writing.is_empty() {
            true => Ok(()),
            false => writing.commit(),
        }
    }

    /// The batch that a key and its value stand for.
    fn batch_of(&self, key: &BatchKey, value: Bytes) -> Result<Batch, EngineError> {
        match key.place {
            Place::Database => Ok(format::decode_batch(key, value)?),
            Place::Segment => self.behind(&Pointer::decode(key, &value)?, |value| format::decode_batch(key, value)),
        }
    }

    /// The bytes of a batch in a segment, whole.
    pub(super) fn value_behind(&self, key: &BatchKey, pointer: &Pointer) -> Result<Bytes, EngineError> {
        self.behind(pointer, |value| format::check_batch(key, &value).map(|()| value))
    }

    /// What `look` makes of what `pointer` leads to. A segment that was deleted meanwhile may have been cut while it was
    /// read, which is no damage.
    fn behind<T>(&self, pointer: &Pointer, look: impl FnOnce(Bytes) -> Result<T, Damage>) -> Result<T, EngineError> {
        let read = self.segments.read(pointer).map_err(EngineError::of_segment);
        match read.and_then(|value| Ok(look(value)?)) {
            Err(_) if !self.segments.has(pointer.segment) => Err(EngineError::Moved),
            read => read,
        }
    }

    /// Begins a write.
    pub(super) fn write(&self) -> Writing<'_> {
        let batch = OwnedWriteBatch::with_capacity(self.db.clone(), 64).durability(Some(PersistMode::SyncData));
        Writing { engine: self, batch }
    }

    /// The database as it is now.
    pub(super) fn look(&self) -> Look<'_> {
        Look { engine: self, snapshot: self.db.snapshot() }
    }

    /// Waits until what was written lately has been moved to its place far enough that more may be written.
    pub(super) fn wait_for_room(&self) -> Result<(), EngineError> {
        self.file_names.keep_ready().map_err(EngineError::failed)?;
        while self.is_behind() {
            self.check()?;
            // The engine is asked for this when a keyspace has grown, but does it on the threads that also move.
            if self.has_too_much_unmoved() && self.batches.sealed_memtable_count() == 0 {
                self.batches.rotate_memtable()?;
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn has_too_much_unmoved(&self) -> bool {
        self.unmoved() > self.most_unmoved
    }

    fn is_behind(&self) -> bool {
        let behind = |keyspace: &Keyspace| {
            keyspace.sealed_memtable_count() >= MOST_UNMOVED || keyspace.l0_table_count() >= MOST_UNMERGED
        };
        let keyspaces = [&self.batches, &self.heads, &self.meta, &self.usage];
        self.has_too_much_unmoved() || keyspaces.into_iter().any(behind)
    }

    /// Whether the engine still works, its own threads included.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        self.file_names.keep_ready().map_err(EngineError::failed)?;
        // Nothing is written: every write was persisted when it was made. It is the only call that tells.
        Ok(self.db.persist(PersistMode::Buffer)?)
    }

    /// Merges the removals of batches with what they removed, so that files without records are given back, and files
    /// that are mostly without are rewritten.
    ///
    /// Takes as long as reading and writing the keys of all batches; `stop` is asked now and then. Before anything is given
    /// back, what is kept is there twice: `may_merge` is asked whether so many bytes may be written.
    pub(super) fn give_back(
        &self,
        stop: impl Fn() -> bool,
        may_merge: impl Fn(u64) -> bool,
    ) -> Result<Merged, EngineError> {
        if !may_merge(self.most_to_merge()) {
            return Ok(Merged::NoRoom);
        }
        self.move_out_of_journal(&self.batches, &stop)?;
        // The first merge finds out which files have how much that is stale, the second rewrites those.
        for _ in 0..2 {
            if !may_merge(self.most_to_merge()) {
                return Ok(Merged::NoRoom);
            }
            if stop() {
                break;
            }
            self.batches.major_compact()?;
            self.let_go_of_the_past(&stop)?;
            if self.batches.fragmented_blob_bytes() == 0 {
                break;
            }
        }
        Ok(Merged::Done)
    }

    /// Bytes that a merge writes at most: all that stands beside the keys, and what is not stale in files that mostly are.
    fn most_to_merge(&self) -> u64 {
        let beside_keys = match &self.batches.tree {
            AnyTree::Blob(tree) => tree.index.disk_space(),
            AnyTree::Standard(tree) => tree.disk_space(),
        };
        let apart = self.batches.disk_space().saturating_sub(beside_keys);
        let stale = self.batches.fragmented_blob_bytes();
        beside_keys + stale.min(apart.saturating_sub(stale))
    }

    /// The engine keeps files for readers of the past, and looks which are not needed any more when memory is moved to
    /// files and something was written since.
    fn let_go_of_the_past(&self, stop: &impl Fn() -> bool) -> Result<(), EngineError> {
        let mut writing = self.write();
        writing.batch.insert(&self.state, PAST, []);
        writing.commit()?;
        self.move_out_of_journal(&self.state, stop)
    }

    fn move_out_of_journal(&self, keyspace: &Keyspace, stop: &impl Fn() -> bool) -> Result<(), EngineError> {
        keyspace.rotate_memtable()?;
        while keyspace.sealed_memtable_count() > 0 && !stop() {
            self.check()?;
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Bytes on the disk, without the journal, whose size only its writer knows.
    pub(super) fn disk_space(&self) -> u64 {
        let keyspaces = [&self.batches, &self.heads, &self.meta, &self.reclaim, &self.state, &self.usage];
        keyspaces.into_iter().map(|keyspace| keyspace.disk_space()).sum::<u64>() + self.segments.disk_space()
    }

    /// How many journals there are: changes when another one is begun, and when one is deleted.
    pub(super) fn journals(&self) -> usize {
        self.db.journal_count()
    }

    /// Bytes that were written and are still to be moved to their place, which takes as much room again.
    pub(super) fn unmoved(&self) -> u64 {
        self.db.write_buffer_size()
    }
}

fn stored_batch(found: fjall::Guard) -> Result<(BatchKey, Option<Pointer>), EngineError> {
    let (key, value) = found.into_inner_if(|key| BatchKey::is_in_segment(key))?;
    let key = BatchKey::decode(&key)?;
    Ok((key, value.and_then(|value| Pointer::decode(&key, &value).ok())))
}

fn usage_in(snapshot: &fjall::Snapshot, usage: &Keyspace) -> Result<BTreeMap<SegmentNumber, Usage>, EngineError> {
    let rows = snapshot.iter(usage).map(|found| {
        let (key, value) = found.into_inner()?;
        let number = SegmentNumber(format::decode_number(&key)?);
        Ok((number, Usage::decode(number, &value)?))
    });
    rows.collect()
}

/// Whether a crash left a database half made, which the engine refuses: it has no version yet, and never held anything,
/// because the directory of segments is made when the engine is done. Without its version, what has that is damaged.
fn is_unfinished(directory: &Path) -> Result<bool, EngineError> {
    let version = directory.join(VERSION_FILE);
    if !directory.try_exists().map_err(EngineError::failed)? || is_version(&version).map_err(EngineError::failed)? {
        return Ok(false);
    }
    match directory.join(SEGMENTS).try_exists().map_err(EngineError::failed)? {
        true => Err(EngineError::Damaged(format!("{} is missing or torn, of a database in use", version.display()))),
        false => Ok(true),
    }
}

/// Whether it is one, of whatever version.
fn is_version(path: &Path) -> io::Result<bool> {
    match fs::read(path) {
        Ok(version) => Ok(version.len() > VERSION_MAGIC.len() && version.starts_with(VERSION_MAGIC)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// `size`: bytes that are kept in memory until they are moved from the journal to their own files.
fn batches_options(size: u64) -> KeyspaceCreateOptions {
    let apart = KvSeparationOptions::default().separation_threshold(APART).staleness_threshold(STALE).age_cutoff(1.0);
    KeyspaceCreateOptions::default()
        .max_memtable_size(size)
        .manual_journal_persist(true)
        .with_kv_separation(Some(apart))
        .data_block_size_policy(BlockSizePolicy::all(16 * 1024))
        // Batches are looked for by range only, where a filter of keys says nothing.
        .filter_policy(FilterPolicy::disabled())
        .filter_block_pinning_policy(PinningPolicy::all(false))
}

/// What will be written at once. Of two writes to one key in it, neither is the last: the caller writes each key once.
pub(super) struct Writing<'a> {
    engine: &'a Engine,
    batch: OwnedWriteBatch,
}

impl Writing<'_> {
    pub(super) fn put_batch(&mut self, key: &BatchKey, value: Bytes) {
        self.batch.insert(&self.engine.batches, key.to_bytes(), &value[..]);
    }

    pub(super) fn put_pointer(&mut self, key: &BatchKey, pointer: &Pointer) {
        self.put_batch(key, pointer.encode(key));
    }

    pub(super) fn put_usage(&mut self, segment: SegmentNumber, usage: &Usage) {
        self.batch.insert(&self.engine.usage, segment.0.to_be_bytes(), usage.encode(segment));
    }

    fn remove_usage(&mut self, segment: SegmentNumber) {
        self.batch.remove(&self.engine.usage, segment.0.to_be_bytes());
    }

    pub(super) fn remove_batch(&mut self, key: &BatchKey) {
        self.batch.remove(&self.engine.batches, key.to_bytes());
    }

    pub(super) fn put_head(&mut self, stream: StreamId, head: &StoredHead) {
        let key = stream.to_bytes();
        self.batch.insert(&self.engine.heads, key, head.encode(&key));
    }

    pub(super) fn remove_head(&mut self, stream: StreamId) {
        self.batch.remove(&self.engine.heads, stream.to_bytes());
    }

    pub(super) fn put_row(&mut self, key: Bytes, version: u64, value: &[u8]) {
        self.batch.insert(&self.engine.meta, &key[..], format::encode_row(version, value));
    }

    pub(super) fn remove_row(&mut self, key: Bytes) {
        self.batch.remove(&self.engine.meta, &key[..]);
    }

    /// Batches of `log` that begin before `to` are to be removed.
    pub(super) fn put_reclaim(&mut self, log: LogNumber, to: SeqNum) {
        self.batch.insert(&self.engine.reclaim, log.0.to_be_bytes(), to.get().to_be_bytes());
    }

    pub(super) fn remove_reclaim(&mut self, log: LogNumber) {
        self.batch.remove(&self.engine.reclaim, log.0.to_be_bytes());
    }

    pub(super) fn put_last_number(&mut self, number: u64) {
        self.batch.insert(&self.engine.state, LAST_NUMBER, number.to_be_bytes());
    }

    pub(super) fn put_ends(&mut self, number: u64) {
        self.batch.insert(&self.engine.state, ENDS, number.to_be_bytes());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Writes it all and syncs.
    pub(super) fn commit(self) -> Result<(), EngineError> {
        Ok(self.batch.commit()?)
    }
}

/// The database as it was at one moment.
pub(super) struct Look<'a> {
    engine: &'a Engine,
    snapshot: fjall::Snapshot,
}

impl Look<'_> {
    /// The keys of batches of `log` that begin at `from` or later and before `to`, in order.
    pub(super) fn batch_keys(
        &self,
        log: LogNumber,
        from: SeqNum,
        to: SeqNum,
    ) -> impl DoubleEndedIterator<Item = Result<BatchKey, EngineError>> {
        let range = BatchKey::lower(log, from)..BatchKey::lower(log, to);
        self.snapshot.range(&self.engine.batches, range).map(|found| Ok(BatchKey::decode(&found.key()?)?))
    }

    /// The batches of `log` that begin at `from` or later and before `to`, in order.
    pub(super) fn batches(
        &self,
        log: LogNumber,
        from: SeqNum,
        to: SeqNum,
    ) -> impl Iterator<Item = Result<Batch, EngineError>> {
        let range = BatchKey::lower(log, from)..BatchKey::lower(log, to);
        self.snapshot.range(&self.engine.batches, range).map(|found| {
            let (key, value) = found.into_inner()?;
            self.engine.batch_of(&BatchKey::decode(&key)?, shared(value))
        })
    }

    /// Keys of batches as [`Self::batch_keys`] gives them, with pointers to those that stand in segments. Of a pointer
    /// that is damaged nothing is known.
    pub(super) fn stored_batches(
        &self,
        log: LogNumber,
        from: SeqNum,
        to: SeqNum,
    ) -> impl Iterator<Item = Result<(BatchKey, Option<Pointer>), EngineError>> {
        let range = BatchKey::lower(log, from)..BatchKey::lower(log, to);
        self.snapshot.range(&self.engine.batches, range).map(stored_batch)
    }

    /// The same of all logs.
    pub(super) fn all_batches(&self) -> impl Iterator<Item = Result<(BatchKey, Option<Pointer>), EngineError>> {
        self.snapshot.iter(&self.engine.batches).map(stored_batch)
    }

    /// How the segments are used.
    pub(super) fn usage(&self) -> Result<BTreeMap<SegmentNumber, Usage>, EngineError> {
        usage_in(&self.snapshot, &self.engine.usage)
    }

    /// Whether `pointer` is what the database has of this batch.
    pub(super) fn has_pointer(&self, key: &BatchKey, pointer: &Pointer) -> Result<bool, EngineError> {
        let value = self.snapshot.get(&self.engine.batches, key.to_bytes())?;
        Ok(value.is_some_and(|value| Pointer::decode(key, &value).as_ref() == Ok(pointer)))
    }

    pub(super) fn batch(&self, key: &BatchKey) -> Result<Batch, EngineError> {
        let value = self.snapshot.get(&self.engine.batches, key.to_bytes())?.ok_or(Damage::Missing)?;
        self.engine.batch_of(key, shared(value))
    }

    pub(super) fn head(&self, stream: StreamId) -> Result<Option<StoredHead>, EngineError> {
        let key = stream.to_bytes();
        let value = self.snapshot.get(&self.engine.heads, key)?;
        Ok(value.map(|value| StoredHead::decode(&key, &value)).transpose()?)
    }

    pub(super) fn row(&self, key: &[u8]) -> Result<Option<(u64, Bytes)>, EngineError> {
        let row = self.snapshot.get(&self.engine.meta, key)?;
        Ok(row.map(|row| format::decode_row(shared(row))).transpose()?)
    }

    /// Rows whose keys sort from `start` on.
    pub(super) fn rows(&self, start: Bound<Vec<u8>>) -> impl Iterator<Item = Result<(Bytes, u64, Bytes), EngineError>> {
        self.snapshot.range(&self.engine.meta, (start, Bound::Unbounded)).map(|found| {
            let (key, row) = found.into_inner()?;
            let (version, value) = format::decode_row(shared(row))?;
            Ok((shared(key), version, value))
        })
    }

    /// What was to be removed and is not yet, as far as anyone noted.
    pub(super) fn reclaims(&self) -> Result<Vec<(LogNumber, SeqNum)>, EngineError> {
        let rows = self.snapshot.iter(&self.engine.reclaim).map(|found| {
            let (key, value) = found.into_inner()?;
            Ok((LogNumber(format::decode_number(&key)?), SeqNum::new(format::decode_number(&value)?)))
        });
        rows.collect()
    }

    /// Before which number batches of `log` are to be removed, if any are.
    pub(super) fn reclaim(&self, log: LogNumber) -> Result<Option<SeqNum>, EngineError> {
        let to = self.snapshot.get(&self.engine.reclaim, log.0.to_be_bytes())?;
        Ok(to.map(|to| format::decode_number(&to).map(SeqNum::new)).transpose()?)
    }

    pub(super) fn last_number(&self) -> Result<u64, EngineError> {
        self.state(LAST_NUMBER)
    }

    /// The greatest number of the logs that still have batches, as long as numbers have 32 bits; zero if there are none.
    ///
    /// Takes its time if those of the last ones were removed lately.
    pub(super) fn last_log(&self) -> Result<LogNumber, EngineError> {
        let last = self.snapshot.last_key_value(&self.engine.batches).map(|found| found.key()).transpose()?;
        Ok(last.map(|key| BatchKey::decode(&key)).transpose()?.map_or(LogNumber(0), |key| key.log))
    }

    pub(super) fn ends(&self) -> Result<u64, EngineError> {
        self.state(ENDS)
    }

    fn state(&self, key: &[u8]) -> Result<u64, EngineError> {
        let number = self.snapshot.get(&self.engine.state, key)?;
        Ok(number.map(|number| format::decode_number(&number)).transpose()?.unwrap_or(0))
    }
}

/// The same bytes, for those who know nothing of the engine.
fn shared(bytes: Slice) -> Bytes {
    Bytes::from_owner(bytes)
}

impl From<fjall::Error> for EngineError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => Self::failed(error),
            fjall::Error::Poisoned => {
                Self::Failed("moving records out of the journal, or merging files, failed in the background".into())
            }
            fjall::Error::Locked => Self::Failed("the database is in use".into()),
            fjall::Error::Storage(error) => Self::Damaged(format!("{error:?}")),
            error => Self::Damaged(format!("{error:?}")),
        }
    }
}

impl From<LsmError> for EngineError {
    fn from(error: LsmError) -> Self {
        fjall::Error::from(error).into()
    }
}

impl From<Damage> for EngineError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage.to_string())
    }
}

impl EngineError {
    pub(super) fn failed(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }

    /// A segment that is not there, or shorter than what was durable in it, is damage.
    fn of_segment(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::UnexpectedEof => Damage::Missing.into(),
            _ => Self::failed(error),
        }
    }

    /// What it means for a call that was to read.
    pub(super) fn of_read(self, what: impl std::fmt::Display) -> StoreError {
        match self {
            Self::Damaged(how) => StoreError::Damaged(format!("{what}: {how}").into()),
            Self::Failed(how) => StoreError::NotDone(format!("{what} could not be read: {how}").into()),
            Self::Moved => StoreError::NotDone(format!("{what} could not be read: it is being moved").into()),
        }
    }

    /// Why nothing can be written any more.
    pub(super) fn reason(&self) -> Arc<str> {
        self.to_string().into()
    }
}
