//! Latencies: counted in a histogram, summed up in percentiles. Knows no clock.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies to three digits, from a nanosecond up.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// What is said of them, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) count: u64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

/// A point of a distribution: so much of all takes at most so long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Quantile {
    /// From 0 to 1.
    pub(super) quantile: f64,
    /// Microseconds.
    pub(super) micros: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(3).expect("three digits are among those that it takes"))
    }
}

impl Latencies {
    /// Counts `latency` for each of `times` things that took as long.
    pub(super) fn record(&mut self, latency: Duration, times: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).clamp(1, LONGEST);
        self.0.record_n(nanos, times).expect("it grows up to what is let in here");
    }

    /// Takes the others in.
    pub(super) fn add(&mut self, others: &Self) {
        self.0.add(&others.0).expect("it grows up to what was let into the other");
    }

    /// What is said of them; nothing if there are none.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| micros(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            mean: self.0.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: micros(self.0.max()),
        })
    }

    /// The distribution, with ever finer steps towards the slowest: each halves what is left, in four.
    pub(super) fn distribution(&self) -> Vec<Quantile> {
        let point = |quantile| Quantile { quantile, micros: micros(self.0.value_at_quantile(quantile)) };
        let steps = (0..).map(|step| 1.0 - 0.5_f64.powf(f64::from(step) / 4.0));
        // Beyond one in as many as there are, there is only the slowest.
        steps.map(point).take_while(|point| (1.0 - point.quantile) * self.0.len() as f64 >= 1.0).collect()
    }
}

/// An hour; what takes longer is not told apart.
const LONGEST: u64 = 3600 * 1_000_000_000;

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        micros.into_iter().for_each(|micros| latencies.record(Duration::from_micros(micros), 1));
        latencies
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= expected * 0.001, "{found} and not {expected}");
    }

    #[test]
    fn percentiles() {
        let found = of(1..=10_000).percentiles().unwrap();
        assert_eq!(found.count, 10_000);
        for (found, expected) in [
            (found.p50, 5000.0),
            (found.p90, 9000.0),
            (found.p99, 9900.0),
            (found.p99_9, 9990.0),
            (found.max, 10_000.0),
            (found.mean, 5000.5),
        ] {
            close(found, expected);
        }
        assert_eq!(of([]).percentiles(), None);
    }

    #[test]
    fn parts_add_up() {
        let mut parts = of(1..=100);
        parts.add(&of(101..=10_000));
        assert_eq!(parts.percentiles(), of(1..=10_000).percentiles());
        let mut many = Latencies::default();
        many.record(Duration::from_micros(5), 1000);
        many.record(Duration::from_secs(7200), 1);
        let found = many.percentiles().unwrap();
        assert_eq!(found.count, 1001);
        close(found.p99, 5.0);
        close(found.max, 3600e6);
    }

    #[test]
    fn distributions_rise_towards_the_slowest() {
        let points = of(1..=10_000).distribution();
        assert_eq!(points[0].quantile, 0.0);
        assert!(points.last().unwrap().quantile > 0.9998);
        assert!(points.is_sorted_by(|a, b| a.quantile < b.quantile && a.micros <= b.micros));
        assert!(of([]).distribution().is_empty());
    }
}
