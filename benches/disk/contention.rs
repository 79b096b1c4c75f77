//! What appends feel of those who read from the disk, and of the space that is given back.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use futures::executor::block_on;
use s2s_gateway::{
    store::{DiskStore, StreamLog},
    types::{Batch, MemoryShares, SeqNum, StreamId},
};

use crate::{
    Effort,
    appends::{Appender, Shape},
    resources::{Meter, Work},
};

/// What is appended and measured.
const MEASURED: Shape = Shape { name: "", streams: 1, records: 10, len: 1024, in_flight: 1 };
/// What was there before, to be read or removed.
const OLD: Shape = Shape { name: "", streams: 1, records: 100, len: 1024, in_flight: 32 };
const OLD_BYTES: u64 = 512 << 20;
/// Metered bytes of one read.
const READ: usize = 1 << 20;
/// What one reader takes of a fast network: a gigabyte a second; and one of a common one.
const RATES: [u64; 2] = [1_000_000_000, 125_000_000];

/// Measures appends alone, beside readers, and beside the removal of everything else.
pub fn measure(effort: Effort) {
    let directory = tempfile::tempdir().unwrap();
    let disk = DiskStore::open(directory.path(), MemoryShares::default()).unwrap();
    let mut appender = Appender::open(&disk, StreamId::new(1));
    let old = fill(&disk, effort);
    println!("appends of 10 x 1 KiB, waited for, beside others");
    append("alone", &mut appender, effort);
    for (readers, rate) in [(1, RATES[0]), (1, RATES[1]), (8, RATES[1])] {
        beside_readers(&mut appender, &**old.log(), (readers, rate), effort);
    }
    block_on(old.log().trim(old.next())).unwrap();
    append("beside reclaim", &mut appender, effort);
}

fn fill(disk: &DiskStore, effort: Effort) -> Appender {
    let (mut old, input) = (Appender::open(disk, StreamId::new(2)), OLD.input());
    for _ in 0..effort.bytes.min(OLD_BYTES) / OLD.bytes() {
        assert!(old.append(&input, OLD.in_flight));
    }
    old.settle();
    old
}

fn append(name: &str, appender: &mut Appender, effort: Effort) {
    let (input, meter) = (MEASURED.input(), Meter::start());
    appender.latencies.clear();
    while meter.elapsed() < effort.time && appender.append(&input, 1) {
        appender.settle();
    }
    let latencies = std::mem::take(&mut appender.latencies);
    let operations = latencies.len() as u64;
    meter.report(name, Work { operations, bytes: operations * MEASURED.bytes(), latencies });
}

fn beside_readers(appender: &mut Appender, old: &dyn StreamLog, (readers, rate): (usize, u64), effort: Effort) {
    let (ended, read, began) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| read_at(old, rate, &ended, &read));
        }
        append(&format!("{readers} reading {} MB/s", rate / 1_000_000), appender, effort);
        ended.store(true, Relaxed);
    });
    let rate = read.load(Relaxed) as f64 / began.elapsed().as_secs_f64();
    println!("    they read {:.0} MB/s together", rate / 1e6);
}

/// Reads from the beginning again and again, at most at this rate, as a network would take it.
fn read_at(log: &dyn StreamLog, rate: u64, ended: &AtomicBool, read: &AtomicU64) {
    let (mut from, mut due) = (SeqNum::FIRST, Instant::now());
    while !ended.load(Relaxed) {
        let batches = block_on(log.read(from, READ)).unwrap();
        let bytes = batches.iter().map(Batch::metered).sum::<usize>() as u64;
        read.fetch_add(bytes, Relaxed);
        from = batches.last().map_or(SeqNum::FIRST, |last| last.end().seq_num);
        due = due.max(Instant::now() - Duration::from_millis(10)) + Duration::from_secs(bytes) / rate as u32;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
