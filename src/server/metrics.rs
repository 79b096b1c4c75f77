//! The operations about usage (`control-plane.md` §8). What is not there was not used: never 404.

use http::{StatusCode, request::Parts};

use super::{
    Gateway, identity,
    operations::Answer,
    request,
    respond::{self, Refusal},
};
use crate::{
    auth::Identity,
    types::{AccountMetricSet, BasinName, ErrorCode, Metric, MetricQuery, MetricSet},
    wire::{json, metrics_query::metric_query, params::ParamError},
};

impl Gateway {
    pub(super) async fn account_metrics(&self, parts: &Parts) -> Answer {
        let query = self.metric_query(parts)?;
        let with_streams = match query.set {
            AccountMetricSet::ActiveBasins => self.streams.basins_with_streams(query.range.end).await?,
            AccountMetricSet::AccountOps | AccountMetricSet::EstimatedBillableUsage => Vec::new(),
        };
        let mut metrics = self.streams.usage().account_metrics(query, with_streams).await?;
        let who = identity::of(parts)?;
        metrics.iter_mut().for_each(|metric| keep_reached(metric, who));
        answer(&metrics)
    }

    pub(super) async fn basin_metrics(&self, basin: &str, parts: &Parts) -> Answer {
        let basin = identity::reached_basin(parts, request::basin_in_path(basin)?)?;
        let query = self.metric_query(parts)?;
        answer(&self.streams.usage().basin_metrics(basin, query).await?)
    }

    pub(super) async fn stream_metrics(&self, basin: &str, stream: &str, parts: &Parts) -> Answer {
        let basin = identity::reached_basin(parts, request::basin_in_path(basin)?)?;
        let stream = request::stream_in_path(stream)?;
        let stream = identity::reached_stream(parts, &basin, stream, ErrorCode::BadPath)?;
        let query = self.metric_query(parts)?;
        answer(&self.streams.usage().stream_metrics(basin, stream, query).await?)
    }

    fn metric_query<S: MetricSet>(&self, parts: &Parts) -> Result<MetricQuery<S>, ParamError> {
        metric_query(parts.uri.query(), self.streams.usage().range_limits())
    }
}

/// Leaves out the names of basins that `who` does not reach.
fn keep_reached(metric: &mut Metric, who: &Identity) {
    if let Metric::Label { values, .. } = metric {
        values.retain(|name| BasinName::new(name).is_ok_and(|basin| who.reach_basin(&basin).is_ok()));
    }
}

fn answer(metrics: &[Metric]) -> Result<http::Response<super::body::Body>, Refusal> {
    Ok(respond::json(StatusCode::OK, json::encode_metrics(metrics)))
}
