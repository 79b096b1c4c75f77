//! From kept buckets to the series of an answer: pure, with all times as arguments (`control-plane.md` §8.2, §8.3).

use std::collections::BTreeMap;

use crate::types::{Interval, Metric, MetricUnit, TimeRange, UsagePage};

/// The series of what is stored, in a stream or in a basin: the one that is a value and not a sum.
pub(super) const STORED: &str = "storage/storage_metered_size";

/// For each series, by where a bucket begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Buckets(pub(super) BTreeMap<String, BTreeMap<u32, u64>>);

impl Buckets {
    /// Adds the buckets of a page that begins at `start`; what is there already stays.
    pub(super) fn fill_from(&mut self, page: UsagePage, start: u32, interval: Interval) {
        for (series, values) in page.series {
            let known = self.0.entry(series).or_default();
            for (bucket, value) in values {
                known.entry(start.saturating_add(bucket.saturating_mul(interval.seconds()))).or_insert(value);
            }
        }
    }

    /// The same by longer intervals.
    pub(super) fn coarsened(self, interval: Interval) -> Self {
        let coarse = |(series, values): (String, _)| {
            let values = coarsened(&series, values, |start| interval.start_of(start));
            (series, values)
        };
        Self(self.0.into_iter().map(coarse).collect())
    }

    /// The values of [`STORED`].
    pub(super) fn into_stored(mut self) -> BTreeMap<u32, u64> {
        self.0.remove(STORED).unwrap_or_default()
    }

    /// One accumulation for each series of `set` that has anything in `range`.
    pub(super) fn into_accumulations(
        self,
        set: &str,
        unit: MetricUnit,
        interval: Interval,
        range: TimeRange,
    ) -> Vec<Metric> {
        let first = interval.start_of(range.start);
        let metric = |(series, values): (String, BTreeMap<u32, u64>)| {
            let name = series.strip_prefix(set)?.strip_prefix('/')?.to_owned();
            let values = values.into_iter().filter(|&(start, sum)| start >= first && start < range.end && sum > 0);
            let values: Vec<_> = values.map(|(start, sum)| (start, sum as f64)).collect();
            (!values.is_empty()).then_some(Metric::Accumulation { name, unit, interval, values })
        };
        self.0.into_iter().filter_map(metric).collect()
    }
}

/// What a page comes to as one bucket of the next longer interval.
pub(super) fn total(page: &UsagePage) -> BTreeMap<String, u64> {
    let total = |(series, values): (&String, &BTreeMap<u32, u64>)| {
        let whole = coarsened(series, values.clone(), |_| 0);
        (series.clone(), whole.get(&0).copied().unwrap_or_default())
    };
    page.series.iter().map(total).collect()
}

/// Whether a later value of `series` takes the place of an earlier one, where others add up.
pub(super) fn is_gauge(series: &str) -> bool {
    series == STORED
}

fn coarsened(series: &str, values: BTreeMap<u32, u64>, place: impl Fn(u32) -> u32) -> BTreeMap<u32, u64> {
    let mut coarse = BTreeMap::new();
    for (start, value) in values {
        let sum = coarse.entry(place(start)).or_insert(0u64);
        *sum = if is_gauge(series) { value } else { sum.saturating_add(value) };
    }
    coarse
}

/// One value for every interval of `range` that has begun by `now`: its own, or the one before it.
///
/// `before` is the last value before the range. Where nothing is known of any time up to the end, there is no series.
pub(super) fn gauge(
    values: &BTreeMap<u32, u64>,
    before: Option<u64>,
    interval: Interval,
    range: TimeRange,
    now: u32,
) -> Option<Metric> {
    let first = interval.start_of(range.start);
    let known = first < range.end && values.range(first..range.end).next().is_some();
    if !known && before.is_none() {
        return None;
    }
    let mut current = before.unwrap_or_default();
    let points = range.buckets(interval).take_while(|&start| start <= now).map(|start| {
        current = values.get(&start).copied().unwrap_or(current);
        (start, current as f64)
    });
    let (_set, name) = STORED.split_once('/').unwrap_or_default();
    Some(Metric::Gauge { name: name.to_owned(), unit: MetricUnit::Bytes, values: points.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(series: &str, values: &[(u32, u64)]) -> UsagePage {
        UsagePage { series: BTreeMap::from([(series.to_owned(), values.iter().copied().collect())]) }
    }

    fn buckets(series: &str, start: u32, interval: Interval, values: &[(u32, u64)]) -> Buckets {
        let mut buckets = Buckets::default();
        buckets.fill_from(page(series, values), start, interval);
        buckets
    }

    #[test]
    fn sums_leave_out_empty_buckets() {
        // control-plane.md §8.3
        let minutes = buckets("read-ops/unary", 3600, Interval::Minute, &[(0, 1), (1, 0), (3, 5), (59, 2)]);
        let metrics =
            |range| minutes.clone().into_accumulations("read-ops", MetricUnit::Operations, Interval::Minute, range);
        let expected = |values: Vec<(u32, f64)>| Metric::Accumulation {
            name: "unary".into(),
            unit: MetricUnit::Operations,
            interval: Interval::Minute,
            values,
        };
        let all = metrics(TimeRange { start: 3600, end: 7200 });
        assert_eq!(all, [expected(vec![(3600, 1.0), (3780, 5.0), (7140, 2.0)])]);
        let cut = metrics(TimeRange { start: 3790, end: 7140 });
        assert_eq!(cut, [expected(vec![(3780, 5.0)])], "the bucket in which the start lies, not the one at the end");
        assert_eq!(metrics(TimeRange { start: 0, end: 3600 }), []);
    }

    #[test]
    fn only_the_series_of_the_set() {
        let mut found = buckets("read-ops/unary", 0, Interval::Hour, &[(0, 1)]);
        for (series, count) in [("read-ops/streaming", 2), ("read-throughput/read", 3), ("read-ops-x/unary", 4)] {
            found.fill_from(page(series, &[(0, count)]), 0, Interval::Hour);
        }
        let range = TimeRange { start: 0, end: 1 };
        let metrics = found.into_accumulations("read-ops", MetricUnit::Operations, Interval::Hour, range);
        let names: Vec<_> = metrics
            .iter()
            .map(|metric| match metric {
                Metric::Accumulation { name, .. } => name.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["streaming", "unary"]);
    }

    #[test]
    fn longer_intervals_add_up_or_end_with_the_last_value() {
        let minutes = &[(0, 1), (59, 2), (60, 4)];
        let sums = buckets("append-ops/express", 7200, Interval::Minute, minutes).coarsened(Interval::Hour);
        assert_eq!(sums.0["append-ops/express"], BTreeMap::from([(7200, 3), (10_800, 4)]));
        let gauges = buckets(STORED, 7200, Interval::Minute, minutes).coarsened(Interval::Hour);
        assert_eq!(gauges.into_stored(), BTreeMap::from([(7200, 2), (10_800, 4)]));
        assert_eq!(total(&page("a/b", minutes)), BTreeMap::from([("a/b".into(), 7)]));
        assert_eq!(total(&page(STORED, minutes)), BTreeMap::from([(STORED.into(), 4)]));
    }

    #[test]
    fn what_is_known_already_stays() {
        let mut found = buckets("a/b", 0, Interval::Hour, &[(0, 10)]);
        found.fill_from(page("a/b", &[(0, 7), (1, 8)]), 0, Interval::Hour);
        assert_eq!(found.0["a/b"], BTreeMap::from([(0, 10), (3600, 8)]));
    }

    #[test]
    fn a_gauge_has_a_point_for_every_interval() {
        // control-plane.md §8.3
        let values = BTreeMap::from([(120, 5), (240, 0)]);
        let points = |before, start, end, now| {
            let found = gauge(&values, before, Interval::Minute, TimeRange { start, end }, now);
            found.map(|metric| match metric {
                Metric::Gauge { values, .. } => {
                    values.iter().map(|&(at, value)| (at, value as u64)).collect::<Vec<_>>()
                }
                other => panic!("{other:?}"),
            })
        };
        let expected = vec![(60, 0), (120, 5), (180, 5), (240, 0), (300, 0)];
        assert_eq!(points(None, 60, 360, 1000), Some(expected));
        assert_eq!(points(Some(9), 70, 121, 1000), Some(vec![(60, 9), (120, 5)]));
        assert_eq!(points(Some(7), 400, 480, 1000), Some(vec![(360, 7), (420, 7)]));
        assert_eq!(points(Some(7), 400, 600, 425), Some(vec![(360, 7), (420, 7)]), "the future has no points");
        assert_eq!(points(None, 0, 120, 1000), None, "nothing is known yet");
    }
}
