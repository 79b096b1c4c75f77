//! Usage in the meta table: buckets in pages, and what each stream keeps now.
//!
//! ```text
//! u/<m|h|d>/<start of the page, 8 hex>/a                   UsagePage of the account
//!                                     /b/<basin>           … of a basin
//!                                     /s/<basin>/<stream>  … of a stream
//! u/s/<basin>/<stream>                                     StoredSize
//!
//! m  minutes, an hour a page, kept for 2 days         the total of a page is one bucket of the next longer interval
//! h  hours, a day a page, kept for 90 days
//! d  days, 32 a page, kept for 2 years
//! ```
//!
//! The time stands before the name, so that old pages lie together. Several gateways may add to the same page: a write
//! names the version that it replaces, and is done again on what the other one wrote.

use bytes::Bytes;

use super::{
    UsageError,
    series::{self, is_gauge},
};
use crate::{
    store::{MetaStore, MetaWrite, Version},
    types::{BasinName, Interval, StoredSize, StreamName, UsagePage},
    wire::{
        catalogue::EntryError,
        usage::{decode_stored_size, decode_usage_page, encode_stored_size, encode_usage_page},
    },
};

/// How often a write is tried again after another writer came first.
const MAX_TRIES: usize = 16;

/// Rows that are looked at in one go.
const ROWS_A_SCAN: usize = 256;

const DAY: u32 = 86_400;

/// Seconds that a page spans: one bucket of the next longer interval.
pub(super) const fn page_span(interval: Interval) -> u32 {
    match interval {
        Interval::Minute => Interval::Hour.seconds(),
        Interval::Hour => Interval::Day.seconds(),
        Interval::Day => 32 * DAY,
    }
}

/// Seconds for which pages are kept after their end.
pub(super) const fn retention(interval: Interval) -> u32 {
    match interval {
        Interval::Minute => 2 * DAY,
        Interval::Hour => 90 * DAY,
        Interval::Day => 2 * 365 * DAY,
    }
}

/// Where the page that `time` lies in begins.
pub(super) const fn page_start(interval: Interval, time: u32) -> u32 {
    time - time % page_span(interval)
}

const fn tag(interval: Interval) -> char {
    match interval {
        Interval::Minute => 'm',
        Interval::Hour => 'h',
        Interval::Day => 'd',
    }
}

/// Whose usage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    Account,
    Basin(BasinName),
    Stream(BasinName, StreamName),
}

impl Scope {
    fn page_key(&self, interval: Interval, start: u32) -> Vec<u8> {
        let page = page_prefix(interval, start);
        match self {
            Scope::Account => format!("{page}a"),
            Scope::Basin(basin) => format!("{page}b/{basin}"),
            Scope::Stream(basin, stream) => format!("{page}s/{basin}/{stream}"),
        }
        .into_bytes()
    }
}

fn page_prefix(interval: Interval, start: u32) -> String {
    format!("{}{start:08x}/", table(interval))
}

fn table(interval: Interval) -> String {
    format!("u/{}/", tag(interval))
}

fn stored_prefix(basin: &BasinName) -> String {
    format!("u/s/{basin}/")
}

/// A page as it was found in a scan.
pub(super) struct FoundPage {
    key: Bytes,
    version: Version,
    pub(super) start: u32,
    /// Whose it is, as it stands in the key.
    pub(super) scope: String,
    pub(super) page: UsagePage,
}

pub(super) struct Pages<'a>(pub(super) &'a dyn MetaStore);

impl Pages<'_> {
    /// The page that begins at `start`; an empty one if nothing was counted.
    pub(super) async fn page(&self, scope: &Scope, interval: Interval, start: u32) -> Result<UsagePage, UsageError> {
        match self.0.get(&scope.page_key(interval, start)).await? {
            Some(found) => Ok(decode_usage_page(&found.value)?),
            None => Ok(UsagePage::default()),
        }
    }

    /// Adds what was counted around `time` to its bucket; a gauge gets the value instead.
    pub(super) async fn add(
        &self,
        scope: &Scope,
        interval: Interval,
        time: u32,
        counted: &[(&'static str, u64)],
    ) -> Result<(), UsageError> {
        let start = page_start(interval, time);
        let bucket = (time - start) / interval.seconds();
        self.update(&scope.page_key(interval, start), |page| {
            for &(series, count) in counted {
                let sum = page.series.entry(series.to_owned()).or_default().entry(bucket).or_default();
                *sum = if is_gauge(series) { count } else { sum.saturating_add(count) };
            }
        })
        .await
    }

    /// Makes the total of `found` the bucket of the next longer interval, however often that is done.
    pub(super) async fn roll_up(&self, found: &FoundPage, to: Interval) -> Result<(), UsageError> {
        let start = page_start(to, found.start);
        let bucket = (found.start - start) / to.seconds();
        let key = [page_prefix(to, start).as_bytes(), found.scope.as_bytes()].concat();
        let totals = series::total(&found.page);
        self.update(&key, |page| {
            for (series, total) in &totals {
                page.series.entry(series.clone()).or_default().insert(bucket, *total);
            }
        })
        .await
    }

    async fn update(&self, key: &[u8], change: impl Fn(&mut UsagePage)) -> Result<(), UsageError> {
        for _ in 0..MAX_TRIES {
            let found = self.0.get(key).await?;
            let (before, version) = match &found {
                Some(found) => (Some(readable(&found.value)?), found.version),
                None => (None, Version::ABSENT),
            };
            let mut page = before.clone().unwrap_or_default();
            change(&mut page);
            if before.as_ref() == Some(&page) {
                return Ok(());
            }
            match self.0.put(key, encode_usage_page(&page).into(), version).await? {
                MetaWrite::Done(_) => return Ok(()),
                MetaWrite::Conflict => {}
            }
        }
        Err(UsageError::Contended)
    }

    /// The next pages that begin at `from` or later, and before `to`, after the one found last; none at the end.
    pub(super) async fn pages_after(
        &self,
        interval: Interval,
        from: u32,
        to: u32,
        last: Option<&FoundPage>,
    ) -> Result<Vec<FoundPage>, UsageError> {
        let first = page_prefix(interval, from).into_bytes();
        let after = last.map_or(&first[..], |found| &found.key);
        let rows = self.0.scan(table(interval).as_bytes(), Some(after), ROWS_A_SCAN).await?;
        let pages = rows.into_iter().map(|(key, row)| {
            let (start, scope) = parse_page_key(&key)?;
            Some(FoundPage { start, scope, version: row.version, page: readable(&row.value).ok()?, key })
        });
        Ok(pages.flatten().take_while(|found| found.start < to).collect())
    }

    pub(super) async fn remove(&self, found: &FoundPage) -> Result<(), UsageError> {
        // Whoever wrote it meanwhile was late by the whole retention: the next round takes it.
        let _ = self.0.remove(&found.key, found.version).await?;
        Ok(())
    }

    /// What a stream keeps, as last written.
    pub(super) async fn stored(
        &self,
        basin: &BasinName,
        stream: &StreamName,
    ) -> Result<Option<StoredSize>, UsageError> {
        let found = self.0.get(&stored_key(basin, stream)).await?;
        Ok(found.and_then(|found| decode_stored_size(&found.value).ok()))
    }

    /// Writes what a stream keeps, and tells what it kept before. Nothing is no entry.
    pub(super) async fn put_stored(
        &self,
        basin: &BasinName,
        stream: &StreamName,
        size: StoredSize,
    ) -> Result<u64, UsageError> {
        let key = stored_key(basin, stream);
        for _ in 0..MAX_TRIES {
            let found = self.0.get(&key).await?;
            let version = found.as_ref().map_or(Version::ABSENT, |found| found.version);
            let before = found.and_then(|found| decode_stored_size(&found.value).ok()).map_or(0, |size| size.bytes);
            let written = match size.bytes {
                bytes if bytes == before => return Ok(before),
                0 => self.0.remove(&key, version).await?,
                _ => self.0.put(&key, encode_stored_size(size).into(), version).await?,
            };
            if let MetaWrite::Done(_) = written {
                return Ok(before);
            }
        }
        Err(UsageError::Contended)
    }

    /// What all streams of a basin keep together, as last written.
    pub(super) async fn stored_in(&self, basin: &BasinName) -> Result<u64, UsageError> {
        let prefix = stored_prefix(basin).into_bytes();
        let (mut total, mut after) = (0u64, None::<Bytes>);
        loop {
            let rows = self.0.scan(&prefix, after.as_deref(), ROWS_A_SCAN).await?;
            for (_, row) in &rows {
                total = total.saturating_add(decode_stored_size(&row.value).map_or(0, |size| size.bytes));
            }
            match rows.last() {
                Some((key, _)) => after = Some(key.clone()),
                None => return Ok(total),
            }
        }
    }
}

/// The page in `value`; one that is damaged counts as empty, so that counting goes on.
fn readable(value: &[u8]) -> Result<UsagePage, EntryError> {
    match decode_usage_page(value) {
        Err(EntryError::Damaged(reason)) => {
            tracing::warn!(reason, "a page of usage is damaged and begins anew");
            Ok(UsagePage::default())
        }
        read => read,
    }
}

fn stored_key(basin: &BasinName, stream: &StreamName) -> Vec<u8> {
    format!("{}{stream}", stored_prefix(basin)).into_bytes()
}

/// Start and scope out of `u/m/6650a1b0/b/my-basin-01`.
fn parse_page_key(key: &[u8]) -> Option<(u32, String)> {
    let (start, scope) = std::str::from_utf8(key).ok()?.get("u/m/".len()..)?.split_once('/')?;
    Some((u32::from_str_radix(start, 16).ok()?, scope.to_owned()))
}
