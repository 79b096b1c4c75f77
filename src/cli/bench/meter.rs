//! The time that is measured, and what is looked at while it runs: volume and processes. What lies between two measured
//! periods is left out.

use std::time::Duration;

use super::{
    process::{self, ProcessError, ProcessReport, Usage, Watch},
    timeline::{Rate, Timeline, Volume},
};

/// Adds up measured periods.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Of the periods before this one.
    measured: Duration,
    /// When this one began.
    begun: Option<Duration>,
    timeline: Timeline,
    watches: Vec<Watch>,
}

impl Meter {
    /// Watches `pid` as well.
    pub(super) fn watch(&mut self, role: &'static str, pid: u32) -> Result<(), ProcessError> {
        self.watches.push(Watch::new(role, pid, process::usage(pid)?));
        Ok(())
    }

    /// A measured period begins.
    pub(super) fn begin(&mut self, now: Duration) {
        self.begun = Some(now);
        self.each_watch(Watch::begin);
    }

    /// It ends.
    pub(super) fn end(&mut self, now: Duration, volume: Volume) {
        let Some(begun) = self.begun.take() else { return };
        self.measured += now.saturating_sub(begun);
        self.timeline.look(self.measured, volume);
        self.each_watch(Watch::end);
    }

    /// Looks, now and then, while it runs.
    pub(super) fn look(&mut self, now: Duration, volume: Volume) {
        if self.begun.is_some() {
            self.timeline.look(self.measured(now), volume);
            self.each_watch(Watch::look);
        }
    }

    /// How much was measured until `now`.
    pub(super) fn measured(&self, now: Duration) -> Duration {
        self.measured + self.begun.map_or(Duration::ZERO, |begun| now.saturating_sub(begun))
    }

    /// What the processes used.
    pub(super) fn processes(&self) -> Vec<ProcessReport> {
        self.watches.iter().map(|watch| watch.report(self.measured)).collect()
    }

    /// Throughput over time.
    pub(super) fn rates(&self) -> &[Rate] {
        self.timeline.rates()
    }

    /// A process that has ended keeps what was last seen of it.
    fn each_watch(&mut self, mut note: impl FnMut(&mut Watch, Usage)) {
        for watch in &mut self.watches {
            if let Ok(now) = process::usage(watch.pid()) {
                note(watch, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_measured_periods_add_up() {
        let (seconds, volume) = (Duration::from_secs, |mib: u64| Volume { appended: mib << 20, read: 0 });
        let mut meter = Meter::default();
        meter.look(seconds(1), volume(7));
        meter.begin(seconds(2));
        meter.look(seconds(3), volume(10));
        assert_eq!(meter.measured(seconds(4)), seconds(2));
        meter.end(seconds(4), volume(30));
        meter.look(seconds(50), volume(40));
        meter.begin(seconds(60));
        meter.end(seconds(61), volume(40));
        assert_eq!(meter.measured(seconds(99)), seconds(3));
        let rates: Vec<_> = meter.rates().iter().map(|rate| (rate.at, rate.appended_mib_s)).collect();
        assert_eq!(rates, [(1.0, 10.0), (2.0, 20.0), (3.0, 10.0)]);
    }
}
