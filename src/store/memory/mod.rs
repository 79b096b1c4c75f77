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

#[cfg(test)]
mod tests {
    use std::thread;

    use futures::executor::block_on;

    use super::*;
    use crate::{
        store::{
            Commit, StreamLog,
            contract::{Backend, suite},
        },
        types::{Batch, Head, SeqNum, testing},
    };

    struct InMemory(MemoryStore);

    impl Backend for InMemory {
        fn create() -> Self {
            Self(MemoryStore::new(usize::MAX))
        }

        fn create_limited(bytes: usize) -> Option<Self> {
            Some(Self(MemoryStore::new(bytes)))
        }

        fn store(&self) -> &dyn Store {
            &self.0
        }

        fn reopen(self) -> Option<Self> {
            None
        }
    }

    suite!(super::InMemory);

    struct Deaf;

    impl CommitSink for Deaf {
        fn durable(&self, _end: SeqNum) {
            unreachable!("what is durable at once is not reported")
        }

        fn failed(&self, error: StoreError) {
            unreachable!("nothing is left open that could fail: {error}")
        }
    }

    fn open(store: &MemoryStore, stream: u128) -> Arc<dyn StreamLog> {
        block_on(store.open(StreamId::new(stream), Arc::new(Deaf))).unwrap().log
    }

    fn append(log: &dyn StreamLog, batch: &Batch) -> Result<Commit, StoreError> {
        log.append(batch.clone(), Head { tail: batch.end(), ..Head::default() })
    }

    #[test]
    fn a_batch_is_stored_as_the_handle_it_came_as() {
        let store = MemoryStore::new(usize::MAX);
        let log = open(&store, 1);
        let batch = testing::batch(0, &[("x", 1)]);
        assert_eq!(append(&*log, &batch), Ok(Commit::Durable));
        let read = block_on(log.read(SeqNum::FIRST, 1)).unwrap();
        assert_eq!(read[0].records_bytes().as_ptr(), batch.records_bytes().as_ptr());
    }

    #[test]
    fn pages_are_lent_while_the_store_grows() {
        const LARGE: usize = 100 * 1024;
        let store = MemoryStore::new(usize::MAX);
        let log = open(&store, 1);
        let body = "x".repeat(LARGE);
        let batches = [testing::batch(0, &[(&body, 1)]), testing::batch(1, &[(&body, 1)])];
        assert!(log.lend(LARGE).is_some_and(|pages| pages.as_ref().len() == LARGE), "it never had any");
        assert!(log.lend(1024).is_none(), "not for little");
        batches.iter().for_each(|batch| assert_eq!(append(&*log, batch), Ok(Commit::Durable)));
        assert!(log.lend(LARGE).is_some(), "all it ever had is in use");
        block_on(log.trim(SeqNum::new(1))).unwrap();
        assert!(log.lend(LARGE).is_none(), "as much was just let go of");
    }

    #[test]
    fn what_is_let_go_of_is_given_back() {
        let store = MemoryStore::new(usize::MAX);
        let logs = [open(&store, 1), open(&store, 2)];
        let batches = [testing::batch(0, &[("x", 1); 3]), testing::batch(3, &[("x", 1); 40])];
        let (first, second) = (batches[0].memory(), batches[1].memory());
        for log in &logs {
            batches.iter().for_each(|batch| assert_eq!(append(&**log, batch), Ok(Commit::Durable)));
        }
        assert_eq!(store.memory_used(), 2 * (first + second));
        block_on(logs[0].trim(SeqNum::new(2))).unwrap();
        assert_eq!(store.memory_used(), 2 * (first + second), "a batch is kept as long as one of its records is");
        block_on(logs[0].trim(SeqNum::new(42))).unwrap();
        assert_eq!(store.memory_used(), first + 2 * second);
        block_on(store.delete(StreamId::new(1))).unwrap();
        assert_eq!(store.memory_used(), first + second);
        block_on(logs[0].trim(SeqNum::new(43))).unwrap();
        block_on(logs[1].trim(SeqNum::new(43))).unwrap();
        assert_eq!(store.memory_used(), 0);
    }

    #[test]
    fn a_full_store_names_its_limit_and_its_use() {
        let batch = testing::batch(0, &[("x", 1)]);
        let store = MemoryStore::new(batch.memory() - 1);
        let StoreError::Full(message) = append(&*open(&store, 1), &batch).unwrap_err() else { panic!() };
        assert!(message.contains(&format!("0 of {} bytes", store.limit())), "{message}");
        assert_eq!(store.memory_used(), 0);
    }

    #[test]
    fn the_reserve_for_trimming_has_an_end_too() {
        let store = MemoryStore::new(0);
        let log = open(&store, 1);
        let mut next = 0;
        let refused = loop {
            let batch = testing::batch(next, &[("x", 1)]);
            next += 1;
            let head = Head { tail: batch.end(), trim_point: SeqNum::new(next), ..Head::default() };
            if let Err(error) = log.append(batch, head) {
                break error;
            }
        };
        assert!(matches!(refused, StoreError::Full(_)), "{refused}");
        assert!(next > 100, "{next} trim commands fit");
        block_on(log.trim(SeqNum::new(next))).unwrap();
        assert_eq!(store.memory_used(), 0);
    }

    #[test]
    fn writers_together_do_not_exceed_the_limit() {
        let batches: Vec<_> = (0..200).map(|i| testing::batch(i, &[("x", 1)])).collect();
        let largest = batches.iter().map(Batch::memory).max().unwrap();
        let store = MemoryStore::new(400 * largest);
        let accepted: usize = thread::scope(|scope| {
            let fill = |stream| {
                let log = open(&store, stream);
                let accepted = batches.iter().take_while(|batch| append(&*log, batch).is_ok());
                accepted.map(Batch::memory).sum::<usize>()
            };
            let writers: Vec<_> = (0..4).map(|stream| scope.spawn(move || fill(stream))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).sum()
        });
        assert_eq!(store.memory_used(), accepted);
        assert!(accepted <= store.limit() && accepted > store.limit() - largest, "{accepted} of {}", store.limit());
    }

    #[test]
    fn an_empty_log_is_small() {
        assert!(size_of::<MemoryLog>() <= 192, "{} bytes", size_of::<MemoryLog>());
    }
}
