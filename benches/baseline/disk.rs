//! What the disk of this machine does by itself: the measure of figures that it bounds. Knows no server.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// MiB a second that the disk takes, of writes of 4 MiB that are each synced, from as much memory as appends in flight
/// take. All of it counts, as it does in the row, and not the median: the disk has fast and slow moments.
pub(crate) fn rate() -> f64 {
    const LEN: usize = 4 * 1024 * 1024;
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let times = sync_writes(&vec![vec![7; LEN]; 8]);
        (4 * times.len()) as f64 / times.iter().sum::<Duration>().as_secs_f64()
    })
}

/// Microseconds of a synced write of a record, in the median.
pub(crate) fn sync_micros() -> f64 {
    static MICROS: OnceLock<f64> = OnceLock::new();
    *MICROS.get_or_init(|| {
        let mut times = sync_writes(&[vec![7; 200]]);
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    })
}

/// The times of writes, each with its fdatasync, to one file for a second: of `buffers` by turns.
fn sync_writes(buffers: &[Vec<u8>]) -> Vec<Duration> {
    const ROOM: u64 = 8 * 1024 * 1024 * 1024;
    let file: File = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.set_len(ROOM).unwrap();
    let (began, mut at, mut times) = (Instant::now(), 0, Vec::new());
    for bytes in buffers.iter().cycle() {
        if began.elapsed() >= Duration::from_secs(1) || at + bytes.len() as u64 > ROOM {
            break;
        }
        let before = Instant::now();
        file.write_all_at(bytes, at).unwrap();
        file.sync_data().unwrap();
        times.push(before.elapsed());
        at += bytes.len() as u64;
    }
    times
}
