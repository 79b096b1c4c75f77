//! A store that several gateways of one process use: a gateway that ends closes it, and it is closed with the last.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use s2s_gateway::{
    store::{CommitSink, MemoryStore, MetaStore, OpenLog, Store, StoreError, StoreFuture},
    types::StreamId,
};

pub struct SharedStore {
    store: MemoryStore,
    users: AtomicUsize,
}

impl SharedStore {
    pub fn new(store: MemoryStore, users: usize) -> Self {
        Self { store, users: AtomicUsize::new(users) }
    }
}

impl Store for SharedStore {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        self.store.open(stream, sink)
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        self.store.delete(stream)
    }

    fn meta(&self) -> &dyn MetaStore {
        self.store.meta()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.store.health()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        match self.users.fetch_sub(1, Ordering::Relaxed) {
            1 => self.store.close(),
            _ => Box::pin(async { Ok(()) }),
        }
    }
}
