//! A store in memory that accepts at once, and makes nothing durable before it is told to.

use std::sync::{Arc, Mutex};

use s2s_gateway::{
    store::{Commit, CommitSink, MemoryStore, MetaStore, OpenLog, Store, StoreError, StoreFuture, StreamLog},
    types::{Batch, Head, Position, SeqNum, StreamId, Timestamp},
};

pub struct LateStore {
    store: MemoryStore,
    logs: Mutex<Vec<Arc<LateLog>>>,
}

struct LateLog {
    log: Arc<dyn StreamLog>,
    sink: Arc<dyn CommitSink>,
    accepted: Mutex<Vec<(Batch, Head)>>,
}

impl LateStore {
    pub fn new(store: MemoryStore) -> Self {
        Self { store, logs: Mutex::default() }
    }

    /// How many batches are accepted and not durable.
    pub fn accepted(&self) -> usize {
        self.logs.lock().unwrap().iter().map(|log| log.accepted.lock().unwrap().len()).sum()
    }

    /// Makes durable what was accepted.
    pub fn settle(&self) {
        self.logs.lock().unwrap().iter().for_each(|log| log.settle());
    }
}

impl LateLog {
    fn settle(&self) {
        for (batch, head) in self.accepted.lock().unwrap().drain(..) {
            self.log.append(batch, head).unwrap();
            self.sink.durable(head.tail.seq_num);
        }
    }
}

impl Store for LateStore {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        Box::pin(async move {
            let OpenLog { log, head } = self.store.open(stream, sink.clone()).await?;
            let log = Arc::new(LateLog { log, sink, accepted: Mutex::default() });
            self.logs.lock().unwrap().push(log.clone());
            Ok(OpenLog { log, head })
        })
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
        self.settle();
        self.store.close()
    }
}

impl StreamLog for LateLog {
    fn append(&self, batch: Batch, head: Head) -> Result<Commit, StoreError> {
        self.accepted.lock().unwrap().push((batch, head));
        Ok(Commit::Pending)
    }

    fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'_, Vec<Batch>> {
        self.log.read(from, budget)
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> StoreFuture<'_, Option<Position>> {
        self.log.seek(from, timestamp)
    }

    fn trim(&self, to: SeqNum) -> StoreFuture<'_, ()> {
        self.log.trim(to)
    }

    fn stored(&self) -> u64 {
        self.log.stored()
    }
}
