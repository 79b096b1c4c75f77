//! What a query says about usage metrics: the set, the range, the interval (`control-plane.md` §8.1).
//!
//! Which set has which intervals, and which ranges can be asked for, the values know themselves.

use super::params::{ParamError, bad_value, number, select};
use crate::types::{Interval, MetricQuery, MetricQueryError, MetricSet, RangeLimits};

impl From<MetricQueryError> for ParamError {
    fn from(error: MetricQueryError) -> Self {
        ParamError::Invalid(error.to_string())
    }
}

/// The parameters of `GET /v1/metrics` and what lies below it, for the sets `S` of that level.
pub fn metric_query<S: MetricSet>(query: Option<&str>, limits: RangeLimits) -> Result<MetricQuery<S>, ParamError> {
    let [set, start, end, interval] = select(query, ["set", "start", "end", "interval"])?;
    let Some(set) = set else {
        return Err(ParamError::BadQuery("set: missing".into()));
    };
    let set = S::parse(&set).ok_or_else(|| bad_value("set", &set, "not a set of metrics here"))?;
    let (start, end) = (number("start", start)?, number("end", end)?);
    let interval = interval
        .map(|text| Interval::parse(&text).ok_or_else(|| bad_value("interval", &text, "must be minute, hour or day")));
    Ok(MetricQuery::new(set, start, end, interval.transpose()?, limits)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{AccountMetricSet, BasinMetricSet, StreamMetricSet, TimeRange};

    const LIMITS: RangeLimits = RangeLimits { now: 1_750_000_000, max_span: 30 * 86_400 };

    fn basin(query: &str) -> Result<MetricQuery<BasinMetricSet>, ParamError> {
        metric_query(Some(query), LIMITS)
    }

    #[test]
    fn every_parameter() {
        let expected = MetricQuery {
            set: BasinMetricSet::AppendOps,
            range: TimeRange { start: 60, end: 3600 },
            interval: Some(Interval::Day),
        };
        assert_eq!(basin("set=append-ops&start=60&end=3600&interval=day&other=1"), Ok(expected));
        let default = basin("end=3600&start=60&set=append-ops").unwrap();
        assert_eq!(default.interval, Some(Interval::Minute));
    }

    #[test]
    fn unreadable_parameters() {
        // control-plane.md §8.1
        let bad = |query: &str| match basin(query) {
            Err(ParamError::BadQuery(_)) => {}
            other => panic!("{query}: {other:?}"),
        };
        for query in [
            "",
            "start=0&end=1",
            "set=&start=0&end=1",
            "set=account-ops&start=0&end=1",
            "set=Storage&start=0&end=1",
            "set=storage&set=storage&start=0&end=1",
            "set=storage&start=-1&end=1",
            "set=storage&start=0&end=4294967296",
            "set=storage&start=0&end=x",
            "set=storage&start=0&end=1&interval=week",
            "set=storage&start=0&end=1&interval=",
        ] {
            bad(query);
        }
        assert!(matches!(metric_query::<AccountMetricSet>(None, LIMITS), Err(ParamError::BadQuery(_))));
    }

    #[test]
    fn readable_parameters_that_make_no_sense() {
        // control-plane.md §8.1, §8.2
        for query in [
            "set=storage",
            "set=storage&start=0",
            "set=append-ops&start=2&end=1",
            "set=append-ops&start=0&end=1750000600",
            "set=append-ops&start=0&end=2592001",
            "set=storage&start=0&end=1&interval=minute",
        ] {
            assert!(matches!(basin(query), Err(ParamError::Invalid(_))), "{query}: {:?}", basin(query));
        }
        let stream = metric_query::<StreamMetricSet>(Some("set=storage&start=0&end=1&interval=hour"), LIMITS);
        assert!(matches!(stream, Err(ParamError::Invalid(_))));
    }
}
