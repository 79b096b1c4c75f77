//! The table: a row for each figure, a column for each server, and what is to be reached.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::{scenarios::Scenario, server::Kind};

/// One figure.
pub(crate) struct Row {
    work: &'static str,
    unit: &'static str,
    /// What the gateway is to reach in memory.
    memory: Reach,
    /// What it is to reach on disk.
    disk: Reach,
}

impl Row {
    pub(crate) const fn new(work: &'static str, unit: &'static str, memory: Reach, disk: Reach) -> Self {
        Self { work, unit, memory, disk }
    }
}

/// What a figure is to reach.
#[derive(Clone, Copy)]
pub(crate) enum Reach {
    /// So many times that of "hyper", or more.
    AtLeast(f64),
    /// So many times that of "hyper", or less.
    AtMost(f64),
    /// This, or more.
    From(f64),
    /// This, or less.
    UpTo(f64),
    /// So much of what the disk does, in MiB/s.
    OfDisk(f64),
    /// So many times that of "hyper" and so many syncs of the disk, in microseconds, or less.
    SyncOnTop(f64, f64),
    /// Anything: it is told to explain the others.
    Told,
}

impl Reach {
    /// In words, with the value that it comes to, and whether `value` reaches it.
    fn judge(self, value: f64, hyper: Option<f64>) -> String {
        let times_hyper = |times: f64| hyper.map_or(f64::NAN, |hyper| times * hyper);
        let (words, limit, reached) = match self {
            Reach::AtLeast(times) => (format!("≥ {times} ×"), times_hyper(times), value >= times_hyper(times)),
            Reach::AtMost(times) => (format!("≤ {times} ×"), times_hyper(times), value <= times_hyper(times)),
            Reach::From(least) => (format!("≥ {least}"), least, value >= least),
            Reach::UpTo(most) => (format!("≤ {most}"), most, value <= most),
            Reach::OfDisk(part) => {
                let least = part * disk_rate();
                (format!("≥ {part} × disk = {least:.0}"), least, value >= least)
            }
            Reach::SyncOnTop(times, syncs) => {
                let most = times_hyper(times) + syncs * sync_micros();
                (format!("≤ {times} × + {syncs} syncs = {most:.0}"), most, value <= most)
            }
            Reach::Told => return String::new(),
        };
        let mark = match (limit.is_nan(), reached) {
            (true, _) => "?",
            (false, true) => "ok",
            (false, false) => "MISSED",
        };
        format!("{words} {mark}")
    }
}

/// The head of the table.
pub(crate) fn head(kinds: &[Kind]) {
    print!("| {:45} | {:8} ", "work", "unit");
    for kind in kinds {
        print!("| {:>9} ", kind.name());
        if kind.is_gateway() {
            print!("| {:>7} | {:28} ", "× hyper", "reach");
        }
    }
    println!(
        "|\n|---|---{}|",
        kinds.iter().map(|kind| if kind.is_gateway() { "|--:|--:|---" } else { "|--:" }).collect::<String>()
    );
}

/// The rows of a scenario; `measured` has the values of each round for each server.
pub(crate) fn rows(scenario: &Scenario, kinds: &[Kind], measured: &[Vec<Vec<f64>>]) {
    for (i, row) in scenario.rows.iter().enumerate() {
        let value = |server: usize| median(measured[server].iter().map(|round| round[i]).collect());
        let hyper = kinds.iter().position(|kind| *kind == Kind::Hyper).and_then(value);
        print!("| {:45} | {:8} ", row.work, row.unit);
        for (server, kind) in kinds.iter().enumerate() {
            let value = value(server);
            print!("| {:>9} ", value.map_or("–".to_owned(), figure));
            if kind.is_gateway() {
                let reach = if *kind == Kind::Memory { row.memory } else { row.disk };
                let ratio = value.zip(hyper).map_or("–".to_owned(), |(value, hyper)| format!("{:.2}", value / hyper));
                let judged = value.map(|value| reach.judge(value, hyper)).unwrap_or_default();
                print!("| {ratio:>7} | {judged:28} ");
            }
        }
        println!("|");
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn figure(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// MiB a second that the disk takes, of writes of 4 MiB that are each synced, from as much memory as appends in flight
/// take. All of it counts, as it does in the row, and not the median: the disk has fast and slow moments.
fn disk_rate() -> f64 {
    const LEN: usize = 4 * 1024 * 1024;
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let times = sync_writes(&vec![vec![7; LEN]; 8]);
        (4 * times.len()) as f64 / times.iter().sum::<Duration>().as_secs_f64()
    })
}

/// Microseconds of a synced write of a record, in the median.
fn sync_micros() -> f64 {
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
