//! The durable log beside what the disk itself does: synced appends of several shapes, and reading them back.
//!
//! `cargo bench --bench disk`; `TMPDIR` says on which disk. Prints a line each; nothing is compared with former runs.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use futures::executor::block_on;
use s2s_gateway::{
    store::{Commit, CommitSink, DiskStore, MemoryStore, Store, StoreError, StreamLog},
    types::{AppendInput, Batch, Head, MemoryShares, SeqNum, StreamId, Timestamp, testing},
};

const TIME: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Reports {
    end: Mutex<SeqNum>,
    came: Condvar,
}

impl Reports {
    fn wait_for(&self, end: SeqNum) {
        drop(self.came.wait_while(self.end.lock().unwrap(), |reported| *reported < end).unwrap());
    }
}

impl CommitSink for Reports {
    fn durable(&self, end: SeqNum) {
        *self.end.lock().unwrap() = end;
        self.came.notify_all();
    }

    fn failed(&self, error: StoreError) {
        panic!("{error}");
    }
}

struct Writer {
    log: Arc<dyn StreamLog>,
    reports: Arc<Reports>,
    next: SeqNum,
}

impl Writer {
    fn open(store: &dyn Store, stream: u128) -> Self {
        let reports = Arc::new(Reports::default());
        let log = block_on(store.open(StreamId::new(stream), reports.clone())).unwrap().log;
        Self { log, reports, next: SeqNum::FIRST }
    }

    /// Appends a batch made of `input`, with at most `in_flight` records that are not durable; false if it is full.
    fn append(&mut self, input: &AppendInput, in_flight: u64) -> bool {
        let batch = Batch::sequence(&input.batch, self.next, |_| Timestamp::new(1));
        let end = batch.end().seq_num;
        let head = Head { tail: batch.end(), ..Head::default() };
        match self.log.append(batch, head) {
            Ok(Commit::Pending) => self.reports.wait_for(end.saturating_sub(in_flight)),
            Ok(Commit::Durable) => self.reports.durable(end),
            Err(StoreError::Full(_)) => return false,
            Err(error) => panic!("{error}"),
        }
        self.next = end;
        true
    }
}

/// So many batches of `input` a second over `streams` streams, each with `in_flight` batches on the way.
fn appends(name: &str, store: &dyn Store, streams: usize, records: usize, len: usize, in_flight: usize) {
    let input = testing::uniform_input(records, len);
    let began = Instant::now();
    let threads = streams.min(16);
    let batches: usize = std::thread::scope(|scope| {
        let run = |thread: usize| {
            let mine = (thread..streams).step_by(threads);
            let mut writers: Vec<_> =
                mine.map(|stream| Writer::open(store, (records * 1000 + stream) as u128)).collect();
            let mut batches = 0;
            'all: while began.elapsed() < TIME {
                for writer in &mut writers {
                    if !writer.append(&input, (in_flight * records) as u64) {
                        break 'all;
                    }
                    batches += 1;
                }
            }
            writers.iter().for_each(|writer| writer.reports.wait_for(writer.next));
            batches
        };
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let seconds = began.elapsed().as_secs_f64();
    let rate = batches as f64 / seconds;
    let mib = rate * (records * len) as f64 / (1 << 20) as f64;
    println!("{name:50} {rate:9.0} batches/s {mib:8.1} MiB/s {:8.1} µs/batch", 1e6 / rate);
}

fn catch_up(name: &str, store: &dyn Store, stream: u128) {
    let log = Writer::open(store, stream).log;
    let (mut from, mut bytes) = (SeqNum::FIRST, 0);
    let began = Instant::now();
    loop {
        let batches = block_on(log.read(from, 4 << 20)).unwrap();
        let Some(last) = batches.last() else { break };
        from = last.end().seq_num;
        bytes += batches.iter().map(Batch::metered).sum::<usize>();
        if began.elapsed() > TIME {
            break;
        }
    }
    let mib = bytes as f64 / (1 << 20) as f64;
    println!("{name:50} {:9.0} MiB {:8.1} MiB/s", mib, mib / began.elapsed().as_secs_f64());
}

/// What the disk does with one file and nothing else.
fn raw(len: usize) {
    let mut file = tempfile::tempfile().unwrap();
    preallocate(&mut file);
    let bytes = vec![7; len];
    let (began, mut at, mut writes) = (Instant::now(), 0, 0);
    while began.elapsed() < TIME && at + (len as u64) < (1 << 30) {
        file.write_all_at(&bytes, at).unwrap();
        file.sync_data().unwrap();
        at += len as u64;
        writes += 1;
    }
    let rate = f64::from(writes) / began.elapsed().as_secs_f64();
    let mib = rate * len as f64 / (1 << 20) as f64;
    println!(
        "{:50} {rate:9.0} writes/s  {mib:8.1} MiB/s {:8.1} µs/write",
        format!("write and fdatasync of {len} bytes"),
        1e6 / rate
    );
}

fn preallocate(file: &mut File) {
    file.write_all(&[]).unwrap();
    file.set_len(1 << 30).unwrap();
    file.sync_all().unwrap();
}

fn main() {
    raw(200);
    raw(102_400);
    raw(1 << 20);
    let directory = tempfile::tempdir().unwrap();
    let disk = DiskStore::open(directory.path(), MemoryShares::default()).unwrap();
    appends("disk: one record of 100 bytes, waited for", &disk, 1, 1, 100, 0);
    appends("disk: 100 × 1 KiB, waited for", &disk, 1, 100, 1024, 0);
    appends("disk: 100 × 1 KiB, 32 on the way", &disk, 2, 101, 1024, 32);
    appends("disk: 200 streams, one record of 100 bytes", &disk, 200, 2, 100, 1);
    appends("disk: 200 streams, 10 × 1 KiB", &disk, 200, 10, 1024, 1);
    catch_up("disk: catch-up read", &disk, 101 * 1000);
    // The disk is seldom ours alone: what it does now, after all that.
    raw(200);
    raw(102_400);
    let memory = MemoryStore::new(4 << 30);
    appends("memory: one record of 100 bytes", &memory, 1, 1, 100, 0);
    let memory = MemoryStore::new(4 << 30);
    appends("memory: 100 × 1 KiB", &memory, 1, 100, 1024, 0);
    catch_up("memory: catch-up read", &memory, 100 * 1000);
}
