//! How often an append writes and syncs, counted by strace in a process of its own.

use std::{env, fs, process::Command};

use s2s_gateway::{store::DiskStore, types::MemoryShares};

use crate::appends::{self, Shape};

/// Tells the process that is counted which shape it is to append.
const VARIABLE: &str = "COUNTED_SHAPE";
/// Batches, on all streams together.
const BATCHES: u64 = 4000;
const CALLS: &str = "write,writev,pwrite64,pwritev,fdatasync,fsync,msync,sync_file_range";

/// Which shape this process is to append to be counted, if it is.
pub fn asked_for() -> Option<usize> {
    env::var(VARIABLE).ok()?.parse().ok()
}

/// Appends to be counted.
pub fn run(shape: &Shape) {
    let directory = tempfile::tempdir().unwrap();
    let disk = DiskStore::open(directory.path(), MemoryShares::default()).unwrap();
    appends::append_some(&disk, shape, BATCHES / shape.streams as u64);
}

/// Counts and prints.
pub fn count(place: usize, shape: &Shape) {
    let counts = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-e", &format!("trace={CALLS}"), "-o"]).arg(counts.path());
    let status = strace.arg(env::current_exe().unwrap()).env(VARIABLE, place.to_string()).status();
    assert!(status.expect("strace is installed").success());
    println!("{}, {BATCHES} batches:", shape.name);
    for line in fs::read_to_string(counts.path()).unwrap().lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let [_, _, _, calls, .., name] = words[..]
            && let Ok(calls) = calls.parse::<f64>()
        {
            println!("  {name:12} {calls:8} {:8.3} a batch", calls / BATCHES as f64);
        }
    }
}
