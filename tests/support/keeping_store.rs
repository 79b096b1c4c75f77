//! A store over memory that a test keeps waiting: for the removal of streams, for the answer to a write of the catalogue.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use s2s_gateway::{
    store::{
        CommitSink, MemoryStore, MetaStore, MetaWrite, OpenLog, Store, StoreError, StoreFuture, Version, Versioned,
    },
    types::StreamId,
};
use tokio::sync::Semaphore;

pub struct KeepingStore {
    memory: MemoryStore,
    removals: Semaphore,
    answers: Semaphore,
    unanswered: AtomicUsize,
}

/// As many as there will be.
const ALL: usize = Semaphore::MAX_PERMITS / 2;

impl KeepingStore {
    /// Answers as memory does, and lets go of no stream.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: MemoryStore::new(64 * 1024 * 1024),
            removals: Semaphore::new(0),
            answers: Semaphore::new(ALL),
            unanswered: AtomicUsize::new(0),
        })
    }

    /// From now on streams that were deleted are let go of.
    pub fn let_go(&self) {
        self.removals.add_permits(ALL);
    }

    /// From now on writes of the catalogue are done, and nobody hears of it.
    pub fn keep_silent(&self) {
        self.answers.forget_permits(ALL);
    }

    /// Answers what was written, and again at once.
    pub fn speak(&self) {
        self.answers.add_permits(ALL);
    }

    /// Writes that are done, and of which somebody waits to hear.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    async fn answer<T>(&self, written: T) -> T {
        let _unanswered = Unanswered::one_more(&self.unanswered);
        let _answer = self.answers.acquire().await.expect("it is never closed");
        written
    }
}

struct Unanswered<'a>(&'a AtomicUsize);

impl<'a> Unanswered<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Store for KeepingStore {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        self.memory.open(stream, sink)
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let _removal = self.removals.acquire().await.expect("it is never closed");
            self.memory.delete(stream).await
        })
    }

    fn meta(&self) -> &dyn MetaStore {
        self
    }

    fn health(&self) -> Result<(), StoreError> {
        self.memory.health()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.memory.close()
    }
}

impl MetaStore for KeepingStore {
    fn get(&self, key: &[u8]) -> StoreFuture<'_, Option<Versioned>> {
        self.memory.meta().get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> StoreFuture<'_, Vec<(Bytes, Versioned)>> {
        self.memory.meta().scan(prefix, after, limit)
    }

    fn put(&self, key: &[u8], value: Bytes, expected: Version) -> StoreFuture<'_, MetaWrite> {
        let written = self.memory.meta().put(key, value, expected);
        Box::pin(async move { Ok(self.answer(written.await?).await) })
    }

    fn remove(&self, key: &[u8], expected: Version) -> StoreFuture<'_, MetaWrite> {
        let written = self.memory.meta().remove(key, expected);
        Box::pin(async move { Ok(self.answer(written.await?).await) })
    }
}
