//! One figure that is taken, and what the gateway is to reach in it. Knows neither the load nor the table.

use crate::disk;

/// One figure.
pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) unit: &'static str,
    /// What the gateway is to reach in memory.
    pub(crate) memory: Reach,
    /// What it is to reach on disk.
    pub(crate) disk: Reach,
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
    pub(crate) fn judge(self, value: f64, hyper: Option<f64>) -> String {
        let times_hyper = |times: f64| hyper.map_or(f64::NAN, |hyper| times * hyper);
        let (words, limit, reached) = match self {
            Reach::AtLeast(times) => (format!("≥ {times} ×"), times_hyper(times), value >= times_hyper(times)),
            Reach::AtMost(times) => (format!("≤ {times} ×"), times_hyper(times), value <= times_hyper(times)),
            Reach::From(least) => (format!("≥ {least}"), least, value >= least),
            Reach::UpTo(most) => (format!("≤ {most}"), most, value <= most),
            Reach::OfDisk(part) => {
                let least = part * disk::rate();
                (format!("≥ {part} × disk = {least:.0}"), least, value >= least)
            }
            Reach::SyncOnTop(times, syncs) => {
                let most = times_hyper(times) + syncs * disk::sync_micros();
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
