//! The operations about usage (`control-plane.md` §8). What is not there was not used: never 404.

use http::{StatusCode, request::Parts};

use super::{
    Gateway,
    operations::Answer,
    request,
    respond::{self, Refusal},
};
use crate::{
    types::{AccountMetricSet, Metric, MetricQuery, MetricSet},
    wire::{json, metrics_query::metric_query, params::ParamError},
};

impl Gateway {
    pub(super) async fn account_metrics(&self, parts: &Parts) -> Answer {
        let query = self.metric_query(parts)?;
        let with_streams = match query.set {
            AccountMetricSet::ActiveBasins => self.streams.basins_with_streams(query.range.end).await?,
            AccountMetricSet::AccountOps | AccountMetricSet::EstimatedBillableUsage => Vec::new(),
        };
        answer(&self.streams.usage().account_metrics(query, with_streams).await?)
    }

    pub(super) async fn basin_metrics(&self, basin: &str, parts: &Parts) -> Answer {
        let basin = request::basin_in_path(basin)?;
        let query = self.metric_query(parts)?;
        answer(&self.streams.usage().basin_metrics(basin, query).await?)
    }

    pub(super) async fn stream_metrics(&self, basin: &str, stream: &str, parts: &Parts) -> Answer {
        let (basin, stream) = (request::basin_in_path(basin)?, request::stream_in_path(stream)?);
        let query = self.metric_query(parts)?;
        answer(&self.streams.usage().stream_metrics(basin, stream, query).await?)
    }

    fn metric_query<S: MetricSet>(&self, parts: &Parts) -> Result<MetricQuery<S>, ParamError> {
        metric_query(parts.uri.query(), self.streams.usage().range_limits())
    }
}

fn answer(metrics: &[Metric]) -> Result<http::Response<super::body::Body>, Refusal> {
    Ok(respond::json(StatusCode::OK, json::encode_metrics(metrics)))
}
