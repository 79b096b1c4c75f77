//! A store over memory that makes nothing durable before it is told to.

use std::sync::{Arc, Mutex};

use s2s_gateway::{
    store::{Commit, CommitSink, MemoryStore, MetaStore, OpenLog, Store, StoreError, StoreFuture, StreamLog},
    types::{Batch, Head, Position, SeqNum, StreamId, Timestamp},
};

pub struct LateStore {
    memory: MemoryStore,
    logs: Mutex<Vec<Arc<LateLog>>>,
}

struct LateLog {
    memory: Arc<dyn StreamLog>,
    sink: Arc<dyn CommitSink>,
    held: Mutex<Vec<(Batch, Head)>>,
}

impl LateStore {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { memory: MemoryStore::new(64 * 1024 * 1024), logs: Mutex::default() })
    }

    /// Batches that were accepted and are not durable.
    pub fn held(&self) -> usize {
        self.logs.lock().unwrap().iter().map(|log| log.held.lock().unwrap().len()).sum()
    }

    /// Makes durable what was accepted.
    pub fn release(&self) {
        self.logs.lock().unwrap().iter().for_each(|log| log.release());
    }

    /// Loses what was accepted.
    pub fn fail(&self, error: &StoreError) {
        for log in self.logs.lock().unwrap().iter() {
            log.held.lock().unwrap().clear();
            log.sink.failed(error.clone());
        }
    }
}

impl LateLog {
    fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let Some(end) = held.last().map(|(batch, _)| batch.end().seq_num) else { return };
        for (batch, head) in held {
            assert_eq!(self.memory.append(batch, head), Ok(Commit::Durable));
        }
        self.sink.durable(end);
    }
}

impl Store for LateStore {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        Box::pin(async move {
            let OpenLog { log, head } = self.memory.open(stream, sink.clone()).await?;
            let log = Arc::new(LateLog { memory: log, sink, held: Mutex::default() });
            self.logs.lock().unwrap().push(log.clone());
            Ok(OpenLog { log, head })
        })
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        self.memory.delete(stream)
    }

    fn meta(&self) -> &dyn MetaStore {
        self.memory.meta()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.memory.health()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.memory.close()
    }
}

impl StreamLog for LateLog {
    fn append(&self, batch: Batch, head: Head) -> Result<Commit, StoreError> {
        self.held.lock().unwrap().push((batch, head));
        Ok(Commit::Pending)
    }

    fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'_, Vec<Batch>> {
        self.memory.read(from, budget)
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> StoreFuture<'_, Option<Position>> {
        self.memory.seek(from, timestamp)
    }

    fn trim(&self, to: SeqNum) -> StoreFuture<'_, ()> {
        self.memory.trim(to)
    }

    fn stored(&self) -> u64 {
        self.memory.stored()
    }
}
