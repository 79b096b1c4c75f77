//! A histogram of times that is written for every batch: two additions to memory that no other thread writes.
//!
//! Prometheus' own takes five, to memory that all threads write.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus::{
    core::{Collector, Desc},
    proto::{Bucket, Histogram, Metric, MetricFamily, MetricType},
};

use super::{LATENCY_BUCKETS, sharded::Sharded};

/// How often something took how long.
#[derive(Clone, Debug)]
pub(super) struct Latency(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    desc: Desc,
    counts: Sharded<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By the bucket; the last has what is over all bounds.
    buckets: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    nanos: AtomicU64,
}

impl Latency {
    pub(super) fn new(name: &str, help: &str) -> prometheus::Result<Self> {
        let desc = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new())?;
        Ok(Self(Arc::new(Inner { desc, counts: Sharded::default() })))
    }

    pub(super) fn observe(&self, after: Duration) {
        let seconds = after.as_secs_f64();
        // Most are in one of the first.
        let bucket = LATENCY_BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(LATENCY_BUCKETS.len());
        let counts = self.0.counts.mine();
        counts.buckets[bucket].fetch_add(1, Relaxed);
        counts.nanos.fetch_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// How many times were observed.
    pub(super) fn count(&self) -> u64 {
        (0..=LATENCY_BUCKETS.len()).map(|bucket| self.in_bucket(bucket)).sum()
    }

    fn in_bucket(&self, bucket: usize) -> u64 {
        self.0.counts.sum(|counts| counts.buckets[bucket].load(Relaxed))
    }

    fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::default();
        let mut count = 0;
        let buckets = LATENCY_BUCKETS.iter().enumerate().map(|(i, bound)| {
            count += self.in_bucket(i);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(count + self.in_bucket(LATENCY_BUCKETS.len()));
        histogram
            .set_sample_sum(Duration::from_nanos(self.0.counts.sum(|counts| counts.nanos.load(Relaxed))).as_secs_f64());
        histogram
    }
}

impl Collector for Latency {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut metric = Metric::default();
        metric.set_histogram(self.histogram());
        let mut family = MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;

    #[test]
    fn it_is_shown_as_prometheus_shows_its_own() {
        let (name, help) = ("test_seconds", "How long.");
        let options = prometheus::HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
        let (theirs, ours) = (prometheus::Histogram::with_opts(options).unwrap(), Latency::new(name, help).unwrap());
        for micros in [0, 100, 101, 250_000, 2_500_000, 9_000_000] {
            let after = Duration::from_micros(micros);
            theirs.observe(after.as_secs_f64());
            ours.observe(after);
        }
        let text = |families: Vec<MetricFamily>| {
            let mut text = Vec::new();
            TextEncoder::new().encode(&families, &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(text(ours.collect()), text(theirs.collect()));
        assert_eq!(ours.count(), 6);
    }
}
