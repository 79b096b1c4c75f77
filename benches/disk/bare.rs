//! What the disk does with one file and nothing else.

use std::{
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use crate::{
    Effort,
    resources::{Meter, Work},
};

/// The file's size, set before, so that writing changes where blocks lie and not how long the file is: as in a journal.
const FILE: u64 = 1 << 30;

/// Writes `len` bytes, one behind the other, and syncs each time.
pub fn write_and_sync(len: u64, effort: Effort) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(FILE).unwrap();
    file.sync_all().unwrap();
    let bytes = vec![7; len as usize];
    let (meter, mut latencies) = (Meter::start(), Vec::new());
    let (mut written, limit) = (0, effort.bytes.min(FILE));
    while meter.elapsed() < effort.time && written + len <= limit {
        let began = Instant::now();
        file.write_all_at(&bytes, written).unwrap();
        file.sync_data().unwrap();
        latencies.push(began.elapsed());
        written += len;
    }
    meter.report("write and fdatasync", Work { operations: latencies.len() as u64, bytes: written, latencies });
    // What the disk has still to do is not to be paid by whoever comes next.
    drop(file);
    std::thread::sleep(Duration::from_millis(200));
}
