//! Durability: where batches and heads are kept, and a small table for everything else.
//!
//! This room knows no rule of the protocol. It is handed records that already have their numbers, together with the
//! head that they leave behind, and gives them back as they were. What holds for every backend is tested by one suite
//! (`contract`).
//!
//! ```text
//!                  trim point        durable tail     assigned tail
//!    ──────────────────┼──────────────────┼────────────────┼────────►  sequence numbers
//!      gone or going   │   readable       │  accepted,     │
//!                                            not durable
//! ```
//!
//! * **Accepted is not durable.** [`StreamLog::append`] returns at once. Either it says that the commit is durable
//!   already, or the [`CommitSink`] that came with [`Store::open`] is told later, in order.
//! * **One commit carries batch and head**: both are durable, or neither.
//! * **An append is conditional on its position**: it is "write at sequence number n".
//! * **Errors say what is known**: [`StoreError`].
//! * **Others may write too**, where the store is [`Sharing::Shared`]: another process then appends to the same stream.
//!   The log says so ([`CommitSink::overtaken`], [`CommitSink::arrived`]), and [`StreamLog::refresh`] asks for the newest.

mod batch_bytes;
#[cfg(test)]
mod contract;
mod disk;
mod memory;
mod nats;
#[cfg(test)]
pub(crate) mod shared_memory;

use std::{fmt, pin::Pin, sync::Arc};

use bytes::Bytes;

use crate::{
    memory::pages::Pages,
    types::{Batch, Head, Position, SeqNum, StreamId, Timestamp},
};

pub use disk::{Audit, DirectoryError, DiskStore, OpenError};
pub use memory::MemoryStore;
pub use nats::{ConnectError, NatsConfig, NatsStore, SyncCheck};

/// What the calls that may take their time return.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Who writes to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This process alone.
    Alone,
    /// Several processes, each of which may append to any stream and change any key of the meta table.
    Shared,
}

/// A place where streams and the meta table are kept.
pub trait Store: Send + Sync + 'static {
    /// Opens the log of `stream`, empty if nothing was ever written, recovered up to what is durable otherwise.
    ///
    /// From then on `sink` hears of the commits of this log, until the log is dropped. The same stream is not opened
    /// twice at the same time.
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog>;

    /// Removes all there is of `stream`. Doing it again, or for a stream never written, does no harm.
    ///
    /// A log that is still open on it takes no more appends ([`StoreError::NotDone`]).
    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()>;

    /// Removes all there is of `stream`, as [`Store::delete`] does, if its durable tail is `tail`: an append anywhere comes
    /// before this, and is seen, or after it, and is refused. One that is gone already is removed.
    ///
    /// Not asked of a store that is [`Sharing::Alone`], where whoever closed the stream for appends knows its tail.
    fn delete_at(&self, stream: StreamId, tail: SeqNum) -> StoreFuture<'_, Removal> {
        let _ = (stream, tail);
        Box::pin(async { Err(StoreError::NotDone("this store has no other writers".into())) })
    }

    /// The table for the catalogue and whatever else is small and must survive.
    fn meta(&self) -> &dyn MetaStore;

    /// Whether other processes write to the same streams and the same table.
    fn sharing(&self) -> Sharing {
        Sharing::Alone
    }

    /// Whether the store takes writes; the reason if it does not.
    fn health(&self) -> Result<(), StoreError>;

    /// Bytes that streams take on a disk of this machine; nothing if they are not on one.
    fn disk_used(&self) -> Option<u64> {
        None
    }

    /// Bytes of memory that hold what was written and is not yet where it will stay; of the share for that
    /// (`MemoryShares::written`), if it has one.
    fn unmoved(&self) -> Option<u64> {
        None
    }

    /// What an operator should know of how far this store can be trusted; nothing if it is as the contract says.
    fn caveat(&self) -> Option<&'static str> {
        None
    }

    /// What the store counts of its own work, since it was opened.
    fn counted(&self) -> Vec<StoreCount> {
        Vec::new()
    }

    /// Makes durable what was accepted, reports it, and ends. Appends after this fail with [`StoreError::Closed`].
    fn close(&self) -> StoreFuture<'_, ()>;
}

/// What became of a stream that was to go with just the tail it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nothing is left of it.
    Removed,
    /// It has another tail, and all its records.
    Kept,
}

/// Something that a store counts. It only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCount {
    /// As Prometheus names it.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// How many.
    pub value: u64,
}

/// A log just opened, and the durable head it was found with.
pub struct OpenLog {
    /// The log.
    pub log: Arc<dyn StreamLog>,
    /// The head of what is durable.
    pub head: Head,
}

/// The log of one stream.
pub trait StreamLog: Send + Sync + 'static {
    /// Accepts `batch` and the `head` it leaves behind, both or neither, in the order of the calls.
    ///
    /// The batch begins at the end of the one accepted before it; one that begins elsewhere is refused with
    /// [`StoreError::NotDone`]. An error means that nothing was accepted, unless it says otherwise.
    ///
    /// A store that is full ([`StoreError::Full`]) still has some room for commits that move the trim point, so that it
    /// can be trimmed free.
    fn append(&self, batch: Batch, head: Head) -> Result<Commit, StoreError>;

    /// Memory of `len` bytes for those of a batch that is about to be appended, if the log has better than the allocator's.
    fn lend(&self, len: usize) -> Option<Pages> {
        let _ = len;
        None
    }

    /// Durable batches from the one that holds `from`, or the first one after it, on; in order and without a gap,
    /// except before the first. Stops at the first batch that makes it `budget` metered bytes or more. Empty at the tail.
    ///
    /// The first batch may begin before `from`.
    fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'_, Vec<Batch>>;

    /// The earliest durable record at or after `from` whose timestamp is `timestamp` or later.
    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> StoreFuture<'_, Option<Position>>;

    /// Lets go of records before `to`, in its own time: some of them may stay readable. Moves nothing of the head.
    fn trim(&self, to: SeqNum) -> StoreFuture<'_, ()>;

    /// The durable head as it is now, whoever moved it: whatever was acknowledged anywhere before this was called is in it.
    ///
    /// What other processes added up to there is reported to the sink before this is answered. Not asked of a store that
    /// is [`Sharing::Alone`], where the sink has heard of everything.
    fn refresh(&self) -> StoreFuture<'_, Head> {
        Box::pin(async { Err(StoreError::NotDone("this store has no other writers".into())) })
    }

    /// Whether the sink is to hear soon, and without asking, of what other processes append. Asked for while there are
    /// followers. Nothing to do for a store that is [`Sharing::Alone`].
    fn listen(&self, listening: Listening) {
        let _ = listening;
    }

    /// Goes on after [`CommitSink::overtaken`], from within that call: the next append begins at `tail`, and appends that
    /// were accepted before this are forgotten.
    fn resume_at(&self, tail: SeqNum) {
        let _ = tail;
    }

    /// Whether the log was opened after the stream's deletion, by a process that had not heard of it: such a log is not to
    /// be used. A store that is [`Sharing::Shared`] remembers that for longer than it takes to hear of it.
    fn was_deleted(&self) -> bool {
        false
    }

    /// Metered bytes of the durable batches that were not let go of; of one that is kept for some of its records, all.
    ///
    /// Asked after every batch, so it must not take long; it may be a moment late.
    fn stored(&self) -> u64;
}

/// What became of an append that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// It is durable; the sink is not told again.
    Durable,
    /// It will be reported to the sink.
    Pending,
}

/// Whether anyone waits for what other processes append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// Nobody.
    Idle,
    /// Followers do.
    Following,
}

/// Whoever is told that accepted appends became durable. Called from any thread, never from within a call to the log.
pub trait CommitSink: Send + Sync + 'static {
    /// All records before `end` are durable, with the head that the last of them left. `end` only grows.
    fn durable(&self, end: SeqNum);

    /// Another process committed `batch`, which begins at the durable tail and left `head`. Nothing that was accepted here
    /// is unreported; otherwise it would be [`CommitSink::overtaken`].
    ///
    /// An append may be accepted while this is on its way: the log accepts and forgets it, and the sink does as when it is
    /// overtaken: it calls [`StreamLog::resume_at`], and may then append again, before it returns.
    ///
    /// Never called by a store that is [`Sharing::Alone`]; a sink made for such a one takes it as a failure.
    fn arrived(&self, batch: Batch, head: Head) {
        let _ = (batch, head);
        self.failed(StoreError::Unknown("another process wrote where there was to be one writer".into()));
    }

    /// Another process was first: of what was accepted here and not reported, nothing is durable, nor will be. The log is
    /// durable up to `head` now. `missed` are the commits from the durable tail to there with the head that each left, or
    /// nothing if there are too many of them.
    ///
    /// What the log is handed between finding this out and [`StreamLog::resume_at`] it accepts and forgets. The sink calls
    /// that, and may then append again, before it returns.
    ///
    /// Never called by a store that is [`Sharing::Alone`]; a sink made for such a one takes it as a failure.
    fn overtaken(&self, head: Head, missed: Vec<(Batch, Head)>) {
        let _ = (head, missed);
        self.failed(StoreError::Unknown("another process wrote where there was to be one writer".into()));
    }

    /// Nothing accepted and not yet reported will be reported any more.
    fn failed(&self, error: StoreError);
}

/// A small ordered table. A write names the version it replaces, so that of two writers one learns that it was late.
///
/// A key has 1 to 65,535 bytes; a store may refuse to write others ([`StoreError::NotDone`]).
pub trait MetaStore: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> StoreFuture<'_, Option<Versioned>>;

    /// Keys that begin with `prefix` and sort after `after`, ascending by bytes, at most `limit` of them.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> StoreFuture<'_, Vec<(Bytes, Versioned)>>;

    /// Sets `key` to `value`, durably, if its version is `expected`.
    fn put(&self, key: &[u8], value: Bytes, expected: Version) -> StoreFuture<'_, MetaWrite>;

    /// Removes `key`, durably, if its version is `expected`.
    fn remove(&self, key: &[u8], expected: Version) -> StoreFuture<'_, MetaWrite>;
}

/// Which write of a key a value is from. Grows with every write, also across removals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub(crate) u64);

impl Version {
    /// The version of a key that has no value.
    pub const ABSENT: Version = Version(0);
}

/// A value of the meta table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// What stands there.
    pub value: Bytes,
    /// To name in the write that replaces it.
    pub version: Version,
}

/// What became of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a late writer must read again"]
pub enum MetaWrite {
    /// Done, and durable; after a removal the version is [`Version::ABSENT`].
    Done(Version),
    /// Another version stands there; nothing was changed.
    Conflict,
}

/// What a store knows about a call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no room. It did not happen, and may be tried again when there is.
    #[error("the log is full: {0}")]
    Full(Arc<str>),
    /// It did not happen.
    #[error("the log refused: {0}")]
    NotDone(Arc<str>),
    /// It may have happened.
    #[error("the log failed: {0}")]
    Unknown(Arc<str>),
    /// What was stored cannot be read back as it was.
    #[error("the log is damaged: {0}")]
    Damaged(Arc<str>),
    /// The store takes no more writes, for this reason. It did not happen.
    #[error("the log is closed: {0}")]
    Closed(Arc<str>),
}

impl fmt::Debug for OpenLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenLog").field("head", &self.head).finish_non_exhaustive()
    }
}
