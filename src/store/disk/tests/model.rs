//! Memory and disk, driven with the same operations, restarts included: all that can be observed must be the same.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use proptest::prelude::*;

use super::{Backend, OnDisk, Reports};
use crate::{
    store::{Commit, MemoryStore, MetaWrite, Store, StoreError, StreamLog, Version},
    types::{
        Batch, FencingToken, Head, SeqNum, StreamId, Timestamp,
        testing::{Records, fencing_token},
    },
};

const STREAMS: usize = 3;
const KEYS: [&[u8]; 4] = [b"a", b"a/", b"a/b", b"b"];

/// What is done to both, with the place of a stream or a key where one is meant.
#[derive(Clone, Debug)]
enum Operation {
    Append {
        stream: usize,
        bodies: Vec<usize>,
        step: u64,
        change: HeadChange,
    },
    AppendElsewhere {
        stream: usize,
        off: u64,
    },
    Read {
        stream: usize,
        from: u64,
        budget: usize,
    },
    Seek {
        stream: usize,
        from: u64,
        timestamp: u64,
    },
    Trim {
        stream: usize,
        to: u64,
    },
    Delete {
        stream: usize,
    },
    Put {
        key: usize,
        value: u8,
        late: bool,
    },
    RemoveRow {
        key: usize,
        late: bool,
    },
    Scan {
        prefix: usize,
        after: Option<usize>,
        limit: usize,
    },
    /// The disk's store is dropped and opened again.
    Reopen,
    /// Every log is dropped and opened again.
    OpenAll,
}

#[derive(Clone, Copy, Debug)]
enum HeadChange {
    Nothing,
    Fence,
    Trim,
}

fn operation() -> impl Strategy<Value = Operation> {
    let stream = 0..STREAMS;
    let change = prop_oneof![8 => Just(HeadChange::Nothing), 1 => Just(HeadChange::Fence), 1 => Just(HeadChange::Trim)];
    let bodies = prop::collection::vec(prop_oneof![5 => 0usize..40, 1 => 900usize..3000], 1..6);
    prop_oneof![
        10 => (stream.clone(), bodies, 0u64..4, change)
            .prop_map(|(stream, bodies, step, change)| Operation::Append { stream, bodies, step, change }),
        1 => (stream.clone(), 1u64..5).prop_map(|(stream, off)| Operation::AppendElsewhere { stream, off }),
        4 => (stream.clone(), 0u64..60, 0usize..300).prop_map(|(stream, from, budget)| Operation::Read { stream, from, budget }),
        4 => (stream.clone(), 0u64..60, 0u64..60).prop_map(|(stream, from, timestamp)| Operation::Seek { stream, from, timestamp }),
        2 => (stream.clone(), 0u64..60).prop_map(|(stream, to)| Operation::Trim { stream, to }),
        1 => stream.prop_map(|stream| Operation::Delete { stream }),
        3 => (0..KEYS.len(), any::<u8>(), prop::bool::weighted(0.2)).prop_map(|(key, value, late)| Operation::Put { key, value, late }),
        1 => (0..KEYS.len(), prop::bool::weighted(0.2)).prop_map(|(key, late)| Operation::RemoveRow { key, late }),
        2 => (0..KEYS.len(), prop::option::of(0..KEYS.len()), 0usize..5)
            .prop_map(|(prefix, after, limit)| Operation::Scan { prefix, after, limit }),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::OpenAll),
    ]
}

/// A store of either kind with its logs, and what its user knows of it.
struct Side {
    logs: Vec<Opened>,
    versions: [Version; KEYS.len()],
}

struct Opened {
    log: Arc<dyn StreamLog>,
    head: Head,
    reports: Arc<Reports>,
    trimmed: SeqNum,
}

impl Opened {
    fn open(store: &dyn Store, stream: usize) -> Self {
        let reports = Arc::new(Reports::default());
        let opened = block_on(store.open(StreamId::new(stream as u128), reports.clone())).unwrap();
        Self { log: opened.log, head: opened.head, reports, trimmed: SeqNum::FIRST }
    }

    fn append(&mut self, batch: Batch, head: Head) -> Result<(), &'static str> {
        let end = batch.end().seq_num;
        match self.log.append(batch, head) {
            Ok(Commit::Durable) => {}
            Ok(Commit::Pending) => self.reports.wait_for(end).unwrap(),
            Err(StoreError::NotDone(_)) => return Err("not done"),
            Err(error) => panic!("{error}"),
        }
        self.head = head;
        Ok(())
    }
}

impl Side {
    fn new(store: &dyn Store) -> Self {
        Self {
            logs: (0..STREAMS).map(|stream| Opened::open(store, stream)).collect(),
            versions: [Version::ABSENT; KEYS.len()],
        }
    }

    fn open_all(&mut self, store: &dyn Store) -> String {
        let trimmed: Vec<_> = self.logs.iter().map(|log| log.trimmed).collect();
        self.logs.clear();
        self.logs.extend((0..STREAMS).map(|stream| Opened::open(store, stream)));
        self.logs.iter_mut().zip(trimmed).for_each(|(log, trimmed)| log.trimmed = trimmed);
        let heads: Vec<_> = self.logs.iter().map(|log| log.head).collect();
        format!("{heads:?}")
    }

    /// Does it, and says what there was to be seen.
    fn perform(&mut self, store: &dyn Store, operation: &Operation) -> String {
        let seen = match operation {
            Operation::Append { stream, bodies, step, change } => self.append(*stream, bodies, *step, *change),
            Operation::AppendElsewhere { stream, off } => {
                let log = &mut self.logs[*stream];
                let batch = batch(log.head.tail.seq_num.saturating_add(*off), &[1], 0);
                let head = Head { tail: batch.end(), ..log.head };
                format!("{:?}", log.append(batch, head))
            }
            Operation::Read { stream, from, budget } => {
                let log = &self.logs[*stream];
                let from = SeqNum::new(*from).max(log.trimmed);
                contents(&block_on(log.log.read(from, *budget)).unwrap())
            }
            Operation::Seek { stream, from, timestamp } => {
                let log = &self.logs[*stream];
                let from = SeqNum::new(*from).max(log.trimmed);
                format!("{:?}", block_on(log.log.seek(from, Timestamp::new(*timestamp))).unwrap())
            }
            Operation::Trim { stream, to } => {
                let log = &mut self.logs[*stream];
                let to = SeqNum::new(*to).min(log.head.tail.seq_num);
                block_on(log.log.trim(to)).unwrap();
                log.trimmed = log.trimmed.max(to);
                String::new()
            }
            Operation::Delete { stream } => self.delete(store, *stream),
            Operation::Put { key, value, late } => self.put(store, *key, *value, *late),
            Operation::RemoveRow { key, late } => self.remove_row(store, *key, *late),
            Operation::Scan { prefix, after, limit } => {
                let rows = block_on(store.meta().scan(KEYS[*prefix], after.map(|after| KEYS[after]), *limit)).unwrap();
                let rows: Vec<_> = rows.into_iter().map(|(key, row)| (key, row.value)).collect();
                format!("{rows:?}")
            }
            Operation::Reopen | Operation::OpenAll => unreachable!("done for all at once"),
        };
        let stored: Vec<_> = self.logs.iter().map(|log| log.log.stored()).collect();
        format!("{seen}, {stored:?} stored")
    }

    fn append(&mut self, stream: usize, bodies: &[usize], step: u64, change: HeadChange) -> String {
        let log = &mut self.logs[stream];
        let batch = batch(log.head.tail.seq_num, bodies, log.head.tail.timestamp.get() + step);
        let Head { fencing_token, trim_point, .. } = log.head;
        let (fencing_token, trim_point) = match change {
            HeadChange::Nothing => (fencing_token, trim_point),
            HeadChange::Fence if fencing_token == FencingToken::NONE => (fencing_token_of(step), trim_point),
            HeadChange::Fence => (FencingToken::NONE, trim_point),
            HeadChange::Trim => (fencing_token, batch.first_seq_num()),
        };
        let head = Head { tail: batch.end(), fencing_token, trim_point };
        format!("{:?}", log.append(batch, head))
    }

    fn delete(&mut self, store: &dyn Store, stream: usize) -> String {
        block_on(store.delete(StreamId::new(stream as u128))).unwrap();
        let log = &mut self.logs[stream];
        let batch = batch(log.head.tail.seq_num, &[1], 0);
        let head = Head { tail: batch.end(), ..log.head };
        let late = log.append(batch, head);
        let left = contents(&block_on(log.log.read(SeqNum::FIRST, usize::MAX)).unwrap());
        *log = Opened::open(store, stream);
        format!("{late:?}, {left}, {:?}", log.head)
    }

    fn put(&mut self, store: &dyn Store, key: usize, value: u8, late: bool) -> String {
        let expected = if late { Version(u64::MAX) } else { self.versions[key] };
        self.wrote(key, block_on(store.meta().put(KEYS[key], Bytes::from(vec![value]), expected)).unwrap())
    }

    fn remove_row(&mut self, store: &dyn Store, key: usize, late: bool) -> String {
        let expected = if late { Version(u64::MAX) } else { self.versions[key] };
        self.wrote(key, block_on(store.meta().remove(KEYS[key], expected)).unwrap())
    }

    /// Versions themselves may differ; that they grow may not.
    fn wrote(&mut self, key: usize, write: MetaWrite) -> String {
        match write {
            MetaWrite::Done(version) => {
                let grown = version == Version::ABSENT || version > self.versions[key];
                self.versions[key] = version;
                format!("done, {grown}")
            }
            MetaWrite::Conflict => "conflict".into(),
        }
    }

    /// Everything that can be seen.
    fn everything(&self, store: &dyn Store) -> String {
        let logs = self.logs.iter().map(|log| {
            let records = contents(&block_on(log.log.read(log.trimmed, usize::MAX)).unwrap());
            format!("{:?}: {records}, {}", log.head, log.log.stored())
        });
        let rows = KEYS.iter().zip(self.versions).map(|(key, version)| {
            let row = block_on(store.meta().get(key)).unwrap();
            let as_known = row.as_ref().map_or(Version::ABSENT, |row| row.version) == version;
            format!("{:?} {as_known}", row.map(|row| row.value))
        });
        logs.chain(rows).collect::<Vec<_>>().join("\n")
    }
}

fn fencing_token_of(step: u64) -> FencingToken {
    fencing_token(&format!("writer-{step}"))
}

/// Records with bodies of these lengths, the first at this time, each a little later than the one before.
fn batch(first: SeqNum, bodies: &[usize], time: u64) -> Batch {
    let records = bodies.iter().enumerate().fold(Records::new(), |records, (i, len)| {
        records.record(Some(time + i as u64 / 2), &[(b"n", b"v")], &vec![b'x'; *len])
    });
    Batch::sequence(&records.input().batch, first, Option::unwrap_or_default)
}

fn contents(batches: &[Batch]) -> String {
    let records = batches.iter().map(|batch| {
        let sizes: Vec<_> = batch.stored_index().collect();
        format!("{batch:?} {sizes:?} {:?}", batch.records_bytes())
    });
    records.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn disk_and_memory_are_the_same_to_those_who_use_them(operations in prop::collection::vec(operation(), 1..80)) {
        let memory = MemoryStore::new(usize::MAX);
        let mut disk = OnDisk::create();
        let (mut in_memory, mut on_disk) = (Side::new(&memory), Side::new(disk.store()));
        for operation in &operations {
            match operation {
                Operation::Reopen => {
                    on_disk.logs.iter_mut().for_each(|log| log.log = in_memory.logs[0].log.clone());
                    disk = disk.reopen().unwrap();
                    prop_assert_eq!(on_disk.open_all(disk.store()), in_memory.open_all(&memory));
                }
                Operation::OpenAll => {
                    prop_assert_eq!(on_disk.open_all(disk.store()), in_memory.open_all(&memory));
                }
                operation => {
                    let (found, expected) = (on_disk.perform(disk.store(), operation), in_memory.perform(&memory, operation));
                    prop_assert_eq!(found, expected, "{:?}", operation);
                }
            }
        }
        prop_assert_eq!(on_disk.everything(disk.store()), in_memory.everything(&memory));
        prop_assert!(disk.store.audit().is_ok(), "{:?}", disk.store.audit());
    }
}
