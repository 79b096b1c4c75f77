//! Throughput over the time that was measured. Knows no clock.

use std::{ops::Add, time::Duration};

use serde::Serialize;

/// Bytes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) appended: u64,
    pub(super) read: u64,
}

impl Add for Volume {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { appended: self.appended + other.appended, read: self.read + other.read }
    }
}

/// Throughput between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Rate {
    /// Seconds measured when the period ended.
    pub(super) at: f64,
    pub(super) appended_mib_s: f64,
    pub(super) read_mib_s: f64,
}

/// Looks at the volume, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    rates: Vec<Rate>,
    last: (Duration, Volume),
}

impl Timeline {
    /// Shorter periods say nothing.
    const LEAST: Duration = Duration::from_millis(20);

    /// When `measured` time has passed, it was `volume`.
    pub(super) fn look(&mut self, measured: Duration, volume: Volume) {
        let (then, before) = self.last;
        let passed = measured.saturating_sub(then);
        if passed < Self::LEAST {
            return;
        }
        let rate = |now: u64, before: u64| mib_per_second(now.saturating_sub(before), passed);
        self.rates.push(Rate {
            at: measured.as_secs_f64(),
            appended_mib_s: rate(volume.appended, before.appended),
            read_mib_s: rate(volume.read, before.read),
        });
        self.last = (measured, volume);
    }

    /// What was seen.
    pub(super) fn rates(&self) -> &[Rate] {
        &self.rates
    }
}

/// MiB per second.
pub(super) fn mib_per_second(bytes: u64, passed: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / passed.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_look_is_compared_with_the_one_before() {
        let mut timeline = Timeline::default();
        let volume = |appended: u64, read: u64| Volume { appended: appended << 20, read: read << 20 };
        timeline.look(Duration::from_secs(1), volume(10, 0));
        timeline.look(Duration::from_millis(1001), volume(500, 500));
        timeline.look(Duration::from_secs(3), volume(10, 8));
        let rates: Vec<_> =
            timeline.rates().iter().map(|rate| (rate.at, rate.appended_mib_s, rate.read_mib_s)).collect();
        assert_eq!(rates, [(1.0, 10.0, 0.0), (3.0, 0.0, 4.0)]);
    }
}
