//! What a measurement took: time, processor time, bytes handed to the disk; and the lines that say so.

use std::{
    fs,
    time::{Duration, Instant},
};

/// The kernel counts in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// What was used up to a moment.
pub struct Meter {
    at: Instant,
    processor: Duration,
    written: u64,
}

/// What was done meanwhile.
pub struct Work {
    pub operations: u64,
    pub bytes: u64,
    /// How long some of them took.
    pub latencies: Vec<Duration>,
}

impl Meter {
    pub fn start() -> Self {
        Self { at: Instant::now(), processor: processor_time(), written: bytes_written() }
    }

    pub fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }

    /// Prints a line about `work`.
    pub fn report(self, name: &str, mut work: Work) {
        let seconds = self.at.elapsed().as_secs_f64();
        let processor = (processor_time() - self.processor).as_secs_f64();
        let written = (bytes_written() - self.written) as f64;
        let (operations, bytes) = (work.operations as f64, work.bytes as f64);
        work.latencies.sort_unstable();
        println!(
            "  {name:28} {:9.0} {:9.1} {:9.1} {:9.1} {:9.1} {:9.1} {:9.1} {:7.2}",
            operations / seconds,
            bytes / seconds / f64::from(1 << 20),
            1e6 * seconds / operations,
            quantile(&work.latencies, 0.5),
            quantile(&work.latencies, 0.99),
            quantile(&work.latencies, 0.999),
            1e6 * processor / operations,
            written / bytes,
        );
    }
}

/// Prints what the columns of all lines are.
pub fn head() {
    println!(
        "  {:28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "", "a second", "MiB/s", "µs", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs", "written"
    );
}

/// In microseconds; not a number if there is nothing.
fn quantile(sorted: &[Duration], part: f64) -> f64 {
    let place = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
}

/// Of this process, on all processors.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may have spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// Bytes that this process caused to be written to a disk.
fn bytes_written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}
