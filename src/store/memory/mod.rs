//! The reference store: everything in order in memory, under a configured limit, gone when the process ends.
//!
//! A commit is durable the moment it is accepted, as durable as memory is. Batches are kept as the handles they came as,
//! so storing one copies nothing. Streams share nothing but one counter of bytes.

mod log;
mod space;
mod table;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::{log::MemoryLog, space::Space, table::MemoryTable};
use super::{CommitSink, MetaStore, OpenLog, Store, StoreError, StoreFuture};
use crate::types::StreamId;

/// A store that keeps everything in memory.
pub struct MemoryStore {
    space: Arc<Space>,
    logs: Mutex<HashMap<StreamId, Arc<MemoryLog>>>,
    table: MemoryTable,
}

impl MemoryStore {
    /// An empty store that keeps batches of at most `limit` bytes together, as [`Batch::memory`] counts them.
    ///
    /// The meta table and the heads of the streams come on top; they are small.
    ///
    /// [`Batch::memory`]: crate::types::Batch::memory
    pub fn new(limit: usize) -> Self {
        let space = Arc::new(Space::new(limit));
        Self { table: MemoryTable::new(space.clone()), logs: Mutex::default(), space }
    }

    /// Bytes that the batches of all streams take.
    pub fn memory_used(&self) -> usize {
        self.space.used()
    }

    /// Bytes that the batches of all streams may take.
    pub fn limit(&self) -> usize {
        self.space.limit()
    }
}

impl Store for MemoryStore {
    fn open(&self, stream: StreamId, _sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        let log =
            locked(&self.logs).entry(stream).or_insert_with(|| Arc::new(MemoryLog::new(self.space.clone()))).clone();
        let head = log.head();
        ready(Ok(OpenLog { log, head }))
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        let removed = locked(&self.logs).remove(&stream);
        if let Some(log) = removed {
            log.delete();
        }
        ready(Ok(()))
    }

    fn meta(&self) -> &dyn MetaStore {
        &self.table
    }

    fn health(&self) -> Result<(), StoreError> {
        self.space.check_open()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.space.close();
        ready(Ok(()))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("used", &self.memory_used()).field("limit", &self.limit()).finish()
    }
}

fn ready<'a, T: Send + 'a>(result: Result<T, StoreError>) -> StoreFuture<'a, T> {
    Box::pin(std::future::ready(result))
}

/// Locks; what is behind the locks here is whole between any two statements, so a panic elsewhere poisons nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
