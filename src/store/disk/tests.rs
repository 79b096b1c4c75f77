//! The store contract on disk, and what is this store's own: reopening, damage, space, removal.

mod last_end;
mod model;
mod on_runtime;
mod segments;
mod telling;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use futures::executor::block_on;
use tempfile::TempDir;

use super::{
    Audit, DiskStore, OpenError, READERS,
    engine::{Engine, Merged},
    format::{BatchKey, LogNumber, Place, Released, SegmentNumber},
    queue::{Progress, Removal, Request},
    segments::SegmentSizes,
    space::Free,
};
use crate::{
    store::{
        CommitSink, MetaWrite, Store, StoreError, StreamLog, Version,
        contract::{Backend, PATIENCE, Reports, suite},
    },
    types::{
        Batch, FencingToken, Head, MemoryShares, SeqNum, StreamId,
        testing::{self, fencing_token},
    },
};

const MEMORY: MemoryShares = MemoryShares::of(64 * 1024 * 1024);
/// Segments of a few batches of the size that tests write.
const SMALL: SegmentSizes =
    SegmentSizes { least_batch: 1000, worth_overlapping: 2000, full: 16 * 1024, ahead: 8 * 1024, worth_moving: 2000 };

struct OnDisk {
    // Dropped in this order.
    store: DiskStore,
    directory: Arc<TempDir>,
}

impl OnDisk {
    fn open(directory: Arc<TempDir>) -> Self {
        let store = DiskStore::open_with(directory.path(), MEMORY, SMALL, super::space::of_file_system).unwrap();
        Self { store, directory }
    }
}

impl Backend for OnDisk {
    fn create() -> Self {
        Self::open(Arc::new(tempfile::tempdir().unwrap()))
    }

    fn create_limited(_bytes: usize) -> Option<Self> {
        // The limit is the disk's.
        None
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn reopen(self) -> Option<Self> {
        let Self { store, directory } = self;
        drop(store);
        Some(Self::open(directory))
    }
}

suite!(super::OnDisk);

/// A log that is appended to, one batch after the other.
struct Writer {
    log: Arc<dyn StreamLog>,
    head: Head,
    reports: Arc<Reports>,
}

impl Writer {
    fn open(store: &dyn Store, stream: u128) -> Self {
        let reports = Arc::new(Reports::default());
        let opened = block_on(store.open(StreamId::new(stream), reports.clone())).unwrap();
        Self { log: opened.log, head: opened.head, reports }
    }

    fn append(&mut self, body: &str) -> Result<Batch, StoreError> {
        let batch = self.send(body)?;
        self.reports.wait_for(batch.end().seq_num)?;
        Ok(batch)
    }

    /// Does not wait for it to be durable.
    fn send(&mut self, body: &str) -> Result<Batch, StoreError> {
        let batch = testing::batch(self.head.tail.seq_num.get(), &[(body, 1)]);
        let head = Head { tail: batch.end(), ..self.head };
        self.log.append(batch.clone(), head)?;
        self.head = head;
        Ok(batch)
    }

    fn read(&self, from: u64) -> Result<usize, StoreError> {
        block_on(self.log.read(SeqNum::new(from), usize::MAX)).map(|batches| batches.len())
    }
}

/// Tries until `done`, which something in the background brings about.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if done() {
            return;
        }
        thread::yield_now();
    }
    panic!("{what}, it was not seen to happen");
}

fn with_engine<T>(directory: &Path, look: impl FnOnce(&Engine) -> T) -> T {
    look(&Engine::open(&directory.join("log"), MEMORY, SMALL).unwrap())
}

/// How many batches stand in the database, of whatever log.
fn batches_in(engine: &Engine) -> usize {
    let all = |log| engine.look().batch_keys(LogNumber(log), SeqNum::FIRST, SeqNum::MAX).count();
    (0..100).map(all).sum()
}

#[test]
fn one_directory_serves_one_store() {
    let disk = OnDisk::create();
    let refused = DiskStore::open(disk.directory.path(), MEMORY).unwrap_err();
    assert!(matches!(refused, OpenError::Directory(_)), "{refused}");
}

#[test]
fn a_database_that_was_never_finished_is_made_anew() {
    for version in [None, Some(""), Some("FJL")] {
        let directory = tempfile::tempdir().unwrap();
        drop(super::DataDirectory::open(directory.path()).unwrap());
        let database = directory.path().join("log");
        std::fs::create_dir_all(database.join("keyspaces")).unwrap();
        std::fs::write(database.join("0.jnl"), "").unwrap();
        if let Some(torn) = version {
            std::fs::write(database.join("version"), torn).unwrap();
        }
        let store = DiskStore::open(directory.path(), MEMORY).unwrap();
        Writer::open(&store, 1).append("x").unwrap();
    }
}

#[test]
fn a_database_without_its_version_is_not_made_anew() {
    for torn in [None, Some(""), Some("FJL")] {
        let disk = OnDisk::create();
        Writer::open(&disk.store, 1).append("x").unwrap();
        let OnDisk { store, directory } = disk;
        drop(store);
        let path = directory.path().join("log/version");
        let version = std::fs::read(&path).unwrap();
        match torn {
            Some(torn) => std::fs::write(&path, torn).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let refused = DiskStore::open(directory.path(), MEMORY).unwrap_err();
        assert!(refused.to_string().contains("log/version"), "{refused}");
        std::fs::write(&path, version).unwrap();
        let disk = OnDisk::open(directory);
        assert_eq!(Writer::open(&disk.store, 1).read(0), Ok(1), "it is all there");
    }
}

#[test]
fn a_damaged_batch_is_reported_and_its_neighbours_are_not() {
    let disk = OnDisk::create();
    let (mut damaged, mut whole) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
    let batches: Vec<_> = (0..3).map(|_| damaged.append("of the first").unwrap()).collect();
    whole.append("of the second").unwrap();
    drop((damaged, whole));
    let OnDisk { store, directory } = disk;
    drop(store);
    with_engine(directory.path(), |engine| {
        let (key, _) = batches.iter().fold((None, 0), |(_, before), batch| {
            (Some(BatchKey::of(LogNumber(1), batch, before, Place::Database)), before + batch.metered() as u64)
        });
        let mut writing = engine.write();
        writing.put_batch(&key.unwrap(), vec![1; 40].into());
        writing.commit().unwrap();
    });
    let disk = OnDisk::open(directory);
    let (mut damaged, whole) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
    let found = damaged.read(0).unwrap_err();
    assert!(matches!(found, StoreError::Damaged(_)), "{found}");
    assert_eq!(block_on(damaged.log.read(SeqNum::FIRST, 1)).unwrap().len(), 1, "what lies before is whole");
    assert_eq!(whole.read(0), Ok(1));
    damaged.append("more").unwrap();
    assert_eq!(damaged.read(3), Ok(1), "and so is what comes after");
}

#[test]
fn a_missing_batch_is_damage() {
    for missing in 0..3 {
        let disk = OnDisk::create();
        let mut writer = Writer::open(&disk.store, 1);
        let mut before = 0;
        let mut keys = Vec::new();
        for token in [FencingToken::NONE, FencingToken::NONE, fencing_token("a")] {
            // A tail that nothing but the last batch tells is as if it had never been, without that batch.
            writer.head.fencing_token = token;
            let batch = writer.append("x").unwrap();
            keys.push(BatchKey::of(LogNumber(1), &batch, before, Place::Database));
            before += batch.metered() as u64;
        }
        drop(writer);
        let OnDisk { store, directory } = disk;
        drop(store);
        with_engine(directory.path(), |engine| {
            let mut writing = engine.write();
            writing.remove_batch(&keys[missing]);
            writing.commit().unwrap();
        });
        let disk = OnDisk::open(directory);
        let opened = block_on(disk.store.open(StreamId::new(1), Arc::<Reports>::default()));
        let damaged = opened.and_then(|opened| block_on(opened.log.read(SeqNum::FIRST, usize::MAX))).unwrap_err();
        assert!(matches!(damaged, StoreError::Damaged(_)), "without batch {missing}: {damaged}");
    }
}

#[test]
fn a_head_is_written_only_when_more_than_the_tail_moved() {
    let disk = OnDisk::create();
    let mut writer = Writer::open(&disk.store, 1);
    let engine = &disk.store.shared.engine;
    let written = || engine.look().head(StreamId::new(1)).unwrap().unwrap().head;
    let first = writer.append("x").unwrap();
    (0..3).for_each(|_| drop(writer.append("x").unwrap()));
    assert_eq!(written(), Head { tail: first.end(), ..Head::default() });
    writer.head.fencing_token = fencing_token("a");
    writer.append("x").unwrap();
    assert_eq!(written(), writer.head);
    (0..3).for_each(|_| drop(writer.append("x").unwrap()));
    block_on(writer.log.trim(SeqNum::new(7))).unwrap();
    assert_eq!(written(), writer.head, "a trim writes it as it is");
    writer.append("x").unwrap();
    let (head, stored) = (writer.head, writer.log.stored());
    drop(writer);
    let disk = disk.reopen().unwrap();
    let writer = Writer::open(&disk.store, 1);
    assert_eq!((writer.head, writer.log.stored(), writer.read(7)), (head, stored, Ok(2)));
}

#[test]
fn what_was_trimmed_or_deleted_is_removed() {
    let disk = OnDisk::create();
    let mut writers: Vec<_> = (0..3).map(|stream| Writer::open(&disk.store, stream)).collect();
    for _ in 0..700 {
        writers.iter_mut().for_each(|writer| {
            let batch = testing::batch(writer.head.tail.seq_num.get(), &[("x", 1)]);
            writer.head.tail = batch.end();
            writer.log.append(batch, writer.head).unwrap();
        });
    }
    block_on(writers[0].log.trim(SeqNum::new(690))).unwrap();
    block_on(disk.store.delete(StreamId::new(1))).unwrap();
    let engine = &disk.store.shared.engine;
    eventually("removal", || batches_in(engine) == 710);
    eventually("the end of the removal", || engine.look().reclaims().unwrap().is_empty());
    assert_eq!((writers[0].read(690), writers[1].read(0), writers[2].read(0)), (Ok(10), Ok(0), Ok(700)));
}

#[test]
fn what_is_trimmed_while_a_read_waits_is_no_damage() {
    let disk = OnDisk::create();
    let mut writer = Writer::open(&disk.store, 1);
    let metered: usize = (0..10).map(|_| writer.append("x").unwrap().metered()).sum();
    for (to, left) in [(5, Some(5)), (10, None)] {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let shared = &disk.store.shared;
        let busy: Vec<_> = (0..READERS)
            .map(|_| {
                let held = held.clone();
                shared.readers.run(move || Ok(held.lock().unwrap().recv().is_err()))
            })
            .collect();
        let (first, by_time) = (SeqNum::FIRST, crate::types::Timestamp::new(1));
        let (read, seek) = (writer.log.read(first, usize::MAX), writer.log.seek(first, by_time));
        let trim = writer.log.trim(SeqNum::new(3));
        let log = shared.registry.find(StreamId::new(1)).unwrap();
        let released = Released { to: SeqNum::new(to), metered: metered as u64 / 10 * to };
        let (done, trimmed) = tokio::sync::oneshot::channel();
        shared.queue.push(Request::Trim { log, released, done }).unwrap();
        block_on(trimmed).unwrap().unwrap();
        eventually("removal", || batches_in(&shared.engine) == 10 - to as usize);
        drop(release);
        assert!(busy.into_iter().all(|busy| block_on(busy).unwrap()));
        let found: Vec<_> = block_on(read).unwrap().iter().map(|batch| batch.first_seq_num().get()).collect();
        assert_eq!(found, (to..10).collect::<Vec<_>>());
        assert_eq!(block_on(seek).unwrap().map(|found| found.seq_num.get()), left);
        block_on(trim).unwrap();
    }
}

#[test]
fn a_log_that_was_opened_anew_is_not_touched_by_the_one_before() {
    let disk = OnDisk::create();
    let mut before = Writer::open(&disk.store, 1);
    (0..3).for_each(|_| drop(before.append("x").unwrap()));
    let mut now = Writer::open(&disk.store, 1);
    (0..3).for_each(|_| drop(now.append("y").unwrap()));
    block_on(before.log.trim(SeqNum::new(2))).unwrap();
    drop((before, now));
    let disk = disk.reopen().unwrap();
    let mut found = Writer::open(&disk.store, 1);
    assert_eq!(found.head.tail.seq_num, SeqNum::new(6), "what was reported is there");
    found.append("z").unwrap();
    assert_eq!(found.read(2), Ok(5));
}

#[test]
fn removal_goes_on_after_a_restart() {
    let disk = OnDisk::create();
    let mut writer = Writer::open(&disk.store, 1);
    (0..3).for_each(|_| drop(writer.append("x").unwrap()));
    drop(writer);
    let OnDisk { store, directory } = disk;
    drop(store);
    with_engine(directory.path(), |engine| {
        // As a crash leaves it between the trim and the removal.
        let mut writing = engine.write();
        writing.put_reclaim(LogNumber(1), SeqNum::new(2));
        writing.commit().unwrap();
        assert_eq!(batches_in(engine), 3);
    });
    let disk = OnDisk::open(directory);
    eventually("removal", || batches_in(&disk.store.shared.engine) == 1);
}

#[test]
fn space_comes_back() {
    let disk = OnDisk::create();
    let mut writer = Writer::open(&disk.store, 1);
    let body = "x".repeat(1_000_000);
    (0..100).for_each(|_| drop(writer.append(&body).unwrap()));
    block_on(writer.log.trim(SeqNum::new(99))).unwrap();
    let used = || disk.store.disk_used().unwrap();
    eventually("space to come back", || used() < 4_000_000);
    assert_eq!(writer.read(99), Ok(1));
}

#[test]
fn files_are_not_merged_where_their_copies_have_no_room() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), MEMORY, SMALL).unwrap();
    let batch = testing::batch(0, &[("x", 1)]);
    let mut writing = engine.write();
    (1..100).for_each(|log| {
        let key = BatchKey::of(LogNumber(log), &batch, 0, Place::Database);
        // Beside its key, and apart from it.
        writing.put_batch(&key, vec![7; if log % 2 == 0 { 500 } else { 5000 }].into());
    });
    writing.commit().unwrap();
    let asked = std::cell::Cell::new(0);
    let merged = engine.give_back(|| false, |bytes| asked.replace(bytes) == 0 && bytes == 0).unwrap();
    assert_eq!(merged, Merged::NoRoom);
    assert!((25_000..50_000).contains(&asked.get()), "{} bytes beside keys would be copied", asked.get());
    assert_eq!(engine.give_back(|| false, |_| true).unwrap(), Merged::Done);
}

/// A store on a disk with so many free bytes.
fn store_with(directory: &Path, free: &Arc<AtomicU64>) -> DiskStore {
    let free = free.clone();
    let probe = move || Ok::<_, io::Error>(Free { free: free.load(Relaxed), total: 1 << 30 });
    DiskStore::open_with(directory, MEMORY, SMALL, |_, _| Box::new(probe)).unwrap()
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(100 << 20));
    let store = store_with(directory.path(), &free);
    let mut writer = Writer::open(&store, 1);
    let full = writer.append("x").unwrap_err();
    assert!(matches!(full, StoreError::Full(_)), "{full}");
    assert_eq!(writer.read(0), Ok(0));
    let row = block_on(store.meta().put(b"key", "value".into(), Version::ABSENT));
    assert!(row.is_ok(), "the catalogue may still change: {row:?}");
    store.health().unwrap();
    free.store(1 << 30, Relaxed);
    eventually("room", || writer.append("x").is_ok());
    assert_eq!(writer.read(0), Ok(1));
}

#[test]
fn a_commit_that_trims_passes_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(1 << 30));
    let store = store_with(directory.path(), &free);
    let mut writer = Writer::open(&store, 1);
    writer.append("x").unwrap();
    free.store(100 << 20, Relaxed);
    eventually("a full disk", || writer.append("x").is_err());
    writer.head.trim_point = writer.head.tail.seq_num;
    let batch = testing::batch(writer.head.tail.seq_num.get(), &[("trim", 1)]);
    let head = Head { tail: batch.end(), ..writer.head };
    let before = Writer { head: Head { trim_point: SeqNum::FIRST, ..writer.head }, ..writer };
    before.log.append(batch, head).unwrap();
    before.reports.wait_for(head.tail.seq_num).unwrap();
}

#[test]
fn a_key_that_the_engine_does_not_take_is_refused_and_harms_nobody() {
    let disk = OnDisk::create();
    let meta = disk.store.meta();
    let longest = vec![7; 65_535];
    for key in [&[][..], &[&longest[..], &[7]].concat()] {
        let refused = block_on(meta.put(key, "value".into(), Version::ABSENT)).unwrap_err();
        assert!(matches!(refused, StoreError::NotDone(_)), "{refused}");
        assert!(matches!(block_on(meta.remove(key, Version::ABSENT)), Err(StoreError::NotDone(_))));
        assert_eq!(block_on(meta.get(key)), Ok(None));
    }
    let written = block_on(meta.put(&longest, "value".into(), Version::ABSENT));
    assert!(matches!(written, Ok(MetaWrite::Done(_))), "{written:?}");
    let scan = |prefix: &[u8], after: Option<&[u8]>| block_on(meta.scan(prefix, after, 9)).unwrap().len();
    assert_eq!((scan(b"", None), scan(&longest, None), scan(b"", Some(&longest))), (1, 1, 0));
    let too_long = [&longest[..], &[7]].concat();
    assert_eq!((scan(&too_long, None), scan(b"", Some(&too_long))), (0, 0));
    disk.store.health().unwrap();
}

#[test]
fn numbers_are_not_given_again_after_a_restart() {
    let disk = OnDisk::create();
    (0..3).for_each(|stream| drop(Writer::open(&disk.store, stream).append("x").unwrap()));
    let highest = disk.store.shared.numbers.next();
    // Given, and never used for anything that was written.
    let disk = disk.reopen().unwrap();
    assert!(disk.store.shared.numbers.next() >= highest);
}

#[test]
fn a_number_that_batches_have_is_not_given_again() {
    let disk = OnDisk::create();
    (1..=3).for_each(|stream| drop(Writer::open(&disk.store, stream).append("of another").unwrap()));
    let OnDisk { store, directory } = disk;
    drop(store);
    with_engine(directory.path(), |engine| {
        // As it is when the end of the journal was lost: batches were moved out of it before.
        let mut writing = engine.write();
        (1..=3).for_each(|stream| writing.remove_head(StreamId::new(stream)));
        writing.put_last_number(1);
        writing.commit().unwrap();
    });
    // As it is given up.
    std::fs::remove_file(directory.path().join("end")).unwrap();
    let disk = OnDisk::open(directory);
    let mut writers = [4, 5, 6].map(|stream| Writer::open(&disk.store, stream));
    for writer in &mut writers {
        let batch = writer.append("its own").unwrap();
        let found = block_on(writer.log.read(SeqNum::FIRST, usize::MAX)).unwrap();
        assert!(found.iter().map(Batch::records_bytes).eq([batch.records_bytes()]), "{found:?}");
    }
}

#[test]
fn the_writer_reports_each_log_once_a_write() {
    #[derive(Default)]
    struct Counting(AtomicU64, Reports);
    impl CommitSink for Counting {
        fn durable(&self, end: SeqNum) {
            self.0.fetch_add(1, Relaxed);
            self.1.durable(end);
        }

        fn failed(&self, error: StoreError) {
            panic!("{error}");
        }
    }
    let disk = OnDisk::create();
    let sink = Arc::new(Counting::default());
    let log = block_on(disk.store.open(StreamId::new(1), sink.clone())).unwrap().log;
    for i in 0..5000 {
        let batch = testing::batch(i, &[("x", 1)]);
        let head = Head { tail: batch.end(), ..Head::default() };
        log.append(batch, head).unwrap();
    }
    sink.1.wait_for(SeqNum::new(5000)).unwrap();
    let reports = sink.0.load(Relaxed);
    assert!(reports < 5000, "{reports} reports of 5000 batches: nothing was written together");
}
