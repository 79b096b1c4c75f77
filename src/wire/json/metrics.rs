//! Usage metrics in JSON (`control-plane.md` §8.3).

use serde::Serialize;

use super::encode_with_capacity;
use crate::types::Metric;

/// Writes the answer to a question about usage.
pub fn encode_metrics(metrics: &[Metric]) -> Vec<u8> {
    let points: usize = metrics.iter().map(points).sum();
    let values = metrics.iter().map(MetricJson::from).collect();
    encode_with_capacity(64 + metrics.len() * 96 + points * 24, &MetricsJson { values })
}

fn points(metric: &Metric) -> usize {
    match metric {
        Metric::Scalar { .. } => 1,
        Metric::Accumulation { values, .. } | Metric::Gauge { values, .. } => values.len(),
        Metric::Label { values, .. } => values.len(),
    }
}

#[derive(Serialize)]
struct MetricsJson<'a> {
    values: Vec<MetricJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum MetricJson<'a> {
    Scalar { name: &'a str, unit: &'static str, value: f64 },
    Accumulation { name: &'a str, unit: &'static str, interval: &'static str, values: &'a [(u32, f64)] },
    Gauge { name: &'a str, unit: &'static str, values: &'a [(u32, f64)] },
    Label { name: &'a str, values: &'a [String] },
}

impl<'a> From<&'a Metric> for MetricJson<'a> {
    fn from(metric: &'a Metric) -> Self {
        match metric {
            Metric::Scalar { name, unit, value } => Self::Scalar { name, unit: unit.as_str(), value: *value },
            Metric::Accumulation { name, unit, interval, values } => {
                Self::Accumulation { name, unit: unit.as_str(), interval: interval.as_str(), values }
            }
            Metric::Gauge { name, unit, values } => Self::Gauge { name, unit: unit.as_str(), values },
            Metric::Label { name, values } => Self::Label { name, values },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Interval, MetricUnit};

    #[test]
    fn the_metrics_of_the_contract() {
        // control-plane.md §8.3
        let metrics = [
            Metric::Scalar { name: "cost".into(), unit: MetricUnit::Usd, value: 1.0 },
            Metric::Accumulation {
                name: "append".into(),
                unit: MetricUnit::Operations,
                interval: Interval::Hour,
                values: vec![(1_704_067_200, 12.0), (1_704_070_800, 3.0)],
            },
            Metric::Gauge {
                name: "metered_size".into(),
                unit: MetricUnit::Bytes,
                values: vec![(1_748_473_860, 589.0)],
            },
            Metric::Label { name: "active_basins".into(), values: vec!["my-basin-01".into()] },
        ];
        let expected = concat!(
            r#"{"values":[{"scalar":{"name":"cost","unit":"usd","value":1.0}},"#,
            r#"{"accumulation":{"name":"append","unit":"operations","interval":"hour","values":[[1704067200,12.0],[1704070800,3.0]]}},"#,
            r#"{"gauge":{"name":"metered_size","unit":"bytes","values":[[1748473860,589.0]]}},"#,
            r#"{"label":{"name":"active_basins","values":["my-basin-01"]}}]}"#,
        );
        assert_eq!(String::from_utf8(encode_metrics(&metrics)).unwrap(), expected);
        assert_eq!(encode_metrics(&[]), br#"{"values":[]}"#);
    }
}
