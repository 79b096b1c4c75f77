//! Answers to questions about usage (`control-plane.md` §8). Nothing known is an empty answer, never an error.

use std::collections::BTreeSet;

use super::{
    Usage, UsageError,
    pages::{Scope, page_span, page_start, retention},
    series::{self, Buckets, STORED},
};
use crate::types::{
    AccountMetricSet, BasinMetricSet, BasinName, Interval, Metric, MetricQuery, MetricSet, MetricUnit, StreamMetricSet,
    StreamName, TimeRange,
};

/// Sets that tell that a basin had a stream.
const SIGNS_OF_A_STREAM: [&str; 3] = ["append-throughput/", "read-ops/", STORED];

impl Usage {
    /// Answers a question about the account. `with_streams` are basins known to have had a stream in the range.
    pub async fn account_metrics(
        &self,
        query: MetricQuery<AccountMetricSet>,
        with_streams: Vec<BasinName>,
    ) -> Result<Vec<Metric>, UsageError> {
        let interval = query.interval.unwrap_or(Interval::Hour);
        match query.set {
            AccountMetricSet::ActiveBasins => Ok(vec![self.active_basins(query.range, with_streams).await?]),
            AccountMetricSet::AccountOps => {
                self.sums(&Scope::Account, query.set.as_str(), MetricUnit::Operations, interval, query.range).await
            }
            // It costs nothing, and buckets of nothing are left out.
            AccountMetricSet::EstimatedBillableUsage => Ok(vec![Metric::Accumulation {
                name: "total".to_owned(),
                unit: MetricUnit::Usd,
                interval,
                values: Vec::new(),
            }]),
        }
    }

    /// Answers a question about a basin, also one that never was.
    pub async fn basin_metrics(
        &self,
        basin: BasinName,
        query: MetricQuery<BasinMetricSet>,
    ) -> Result<Vec<Metric>, UsageError> {
        let scope = Scope::Basin(basin);
        let interval = query.interval.unwrap_or(Interval::Hour);
        let unit = match query.set {
            BasinMetricSet::Storage => return self.stored_gauge(&scope, None, interval, query.range).await,
            BasinMetricSet::AppendOps | BasinMetricSet::ReadOps | BasinMetricSet::BasinOps => MetricUnit::Operations,
            BasinMetricSet::ReadThroughput | BasinMetricSet::AppendThroughput => MetricUnit::Bytes,
        };
        self.sums(&scope, query.set.as_str(), unit, interval, query.range).await
    }

    /// Answers a question about a stream, also one that never was.
    pub async fn stream_metrics(
        &self,
        basin: BasinName,
        stream: StreamName,
        query: MetricQuery<StreamMetricSet>,
    ) -> Result<Vec<Metric>, UsageError> {
        let StreamMetricSet::Storage = query.set;
        let now = self.pages().stored(&basin, &stream).await?;
        // Nothing changed since: no page has to be looked for.
        let unchanged = now.filter(|size| size.since < query.range.start).map(|size| size.bytes);
        let interval = query.interval.unwrap_or(Interval::Minute);
        self.stored_gauge(&Scope::Stream(basin, stream), unchanged, interval, query.range).await
    }

    async fn sums(
        &self,
        scope: &Scope,
        set: &str,
        unit: MetricUnit,
        interval: Interval,
        range: TimeRange,
    ) -> Result<Vec<Metric>, UsageError> {
        let buckets = self.buckets(scope, interval, range).await?;
        Ok(buckets.into_accumulations(set, unit, interval, range))
    }

    async fn stored_gauge(
        &self,
        scope: &Scope,
        before: Option<u64>,
        interval: Interval,
        range: TimeRange,
    ) -> Result<Vec<Metric>, UsageError> {
        let mut values = self.buckets(scope, interval, range).await?.into_stored();
        let minutes_from = page_start(Interval::Minute, self.now().saturating_sub(retention(Interval::Minute)));
        if interval == Interval::Minute && range.start < minutes_from {
            // The minutes are gone: each hour's last value has to stand for all of it.
            let hours = TimeRange { start: range.start, end: range.end.min(minutes_from) };
            values.extend(self.buckets(scope, Interval::Hour, hours).await?.into_stored());
        }
        let before = match before {
            Some(bytes) => Some(bytes),
            None => self.stored_before(scope, interval.start_of(range.start)).await?,
        };
        Ok(series::gauge(&values, before, interval, range, self.now()).into_iter().collect())
    }

    /// The buckets that `range` touches. The total of a page of shorter intervals comes before what it was rolled up to,
    /// which may not have happened yet.
    async fn buckets(&self, scope: &Scope, interval: Interval, range: TimeRange) -> Result<Buckets, UsageError> {
        let mut found = Buckets::default();
        let start = interval.start_of(range.start);
        let end = interval.start_of(range.end).saturating_add(interval.seconds());
        for &level in Interval::ALL.iter().take_while(|&&level| level <= interval) {
            found = found.coarsened(level);
            let oldest = page_start(level, self.now().saturating_sub(retention(level)));
            for page in pages_between(level, start.max(oldest), end) {
                found.fill_from(self.pages().page(scope, level, page).await?, page, level);
            }
        }
        Ok(found)
    }

    /// The last value of [`STORED`] before `time` that is kept, looked for from there back.
    async fn stored_before(&self, scope: &Scope, time: u32) -> Result<Option<u64>, UsageError> {
        for &level in Interval::ALL {
            let oldest = page_start(level, self.now().saturating_sub(retention(level)));
            let pages: Vec<_> = pages_between(level, oldest, time).collect();
            for page in pages.into_iter().rev() {
                let mut buckets = Buckets::default();
                buckets.fill_from(self.pages().page(scope, level, page).await?, page, level);
                if let Some((_, &bytes)) = buckets.into_stored().range(..level.start_of(time)).next_back() {
                    return Ok(Some(bytes));
                }
            }
        }
        Ok(None)
    }

    async fn active_basins(&self, range: TimeRange, with_streams: Vec<BasinName>) -> Result<Metric, UsageError> {
        let mut names: BTreeSet<String> = with_streams.iter().map(|basin| basin.to_string()).collect();
        self.basins_in_pages(Interval::Hour, range, &mut names).await?;
        // The minutes of the last hours are not rolled up yet.
        let start = range.start.max(self.now().saturating_sub(2 * page_span(Interval::Minute)));
        self.basins_in_pages(Interval::Minute, TimeRange { start, ..range }, &mut names).await?;
        Ok(Metric::Label { name: "active_basins".to_owned(), values: names.into_iter().collect() })
    }

    async fn basins_in_pages(
        &self,
        level: Interval,
        range: TimeRange,
        names: &mut BTreeSet<String>,
    ) -> Result<(), UsageError> {
        let (from, mut last) = (page_start(level, range.start), None);
        loop {
            let mut pages = self.pages().pages_after(level, from, range.end, last.as_ref()).await?;
            for found in &pages {
                let Some(basin) = found.scope.strip_prefix("b/") else { continue };
                let mut buckets = Buckets::default();
                buckets.fill_from(found.page.clone(), found.start, level);
                if had_stream(&buckets, level.start_of(range.start), range.end) {
                    names.insert(basin.to_owned());
                }
            }
            match pages.pop() {
                Some(page) => last = Some(page),
                None => return Ok(()),
            }
        }
    }
}

fn had_stream(buckets: &Buckets, start: u32, end: u32) -> bool {
    let telling = buckets.0.iter().filter(|(series, _)| SIGNS_OF_A_STREAM.iter().any(|sign| series.starts_with(sign)));
    start < end && telling.into_iter().any(|(_, values)| values.range(start..end).next().is_some())
}

/// Where the pages begin that have buckets from `start` on and before `end`.
fn pages_between(interval: Interval, start: u32, end: u32) -> impl Iterator<Item = u32> {
    (page_start(interval, start)..end).step_by(page_span(interval) as usize)
}
