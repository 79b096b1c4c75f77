//! Usage metrics: what was used, counted where the data passes anyway, and kept in buckets in the meta table.
//!
//! ```text
//! sessions, requests ──► counters ──► one task, every few seconds ──► minutes ──► hours ──► days      meta table
//!                        (atomics)                                      └───────────┴─────────┴──► answers
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `counters` | counting: handed out once a stream or session, two additions a batch |
//! | `pages` | keys and pages of the meta table, added to by compare-and-set |
//! | `flush` | the one task: counters into minutes, minutes into hours, hours into days, old pages away |
//! | `query` | answers to questions |
//! | `series` | from buckets to the series of an answer |
//!
//! Counts are given to the minute in which they are written down, a few seconds late at most; what was counted since
//! the last write is lost when the process is killed. Knows no HTTP, and nothing of streams but their names.
//!
//! What is kept is bounded: the pages of an account and of each basin by their retention; of the streams of a basin, no
//! more than [`MAX_STREAMS_A_BASIN`] get pages in one hour. The others count in the basin, and are asked for with what
//! they keep now. Beside that there is one small entry for each stream that keeps something.

mod counters;
mod flush;
mod pages;
mod query;
mod series;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use self::{
    counters::AccountUsage,
    flush::{FlushState, Totals},
    pages::Pages,
};
use crate::{
    clock::Clock,
    store::{Store, StoreError},
    types::{AccountOperation, BasinName, BasinOperation, RangeLimits, StorageClass, StreamName, epoch_seconds},
    wire::catalogue::EntryError,
};

pub use counters::{AppendMeter, BasinUsage, ReadMeter, StreamUsage};
pub use flush::{BasinBytes, run};

/// Streams of one basin of which there can be pages in one hour.
pub const MAX_STREAMS_A_BASIN: usize = 1000;

/// How usage is counted and asked for.
#[derive(Clone, Copy, Debug)]
pub struct UsageConfig {
    /// How often what was counted is written down.
    pub flush_every: Duration,
    /// The longest range that can be asked for, in whole seconds (`control-plane.md` §8.1).
    pub max_range: Duration,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self { flush_every: Duration::from_secs(2), max_range: Duration::from_secs(30 * 86_400) }
    }
}

/// Why usage could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is kept cannot be read.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Others wrote the same page each time it was tried.
    #[error("usage is written by others all the time, try again")]
    Contended,
}

/// Usage of everything that goes through this process.
pub struct Usage {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    config: UsageConfig,
    account: AccountUsage,
    basins: Mutex<HashMap<BasinName, Arc<BasinUsage>>>,
    streams: Mutex<HashMap<(BasinName, StreamName), Arc<StreamUsage>>>,
    /// Since the process began, for Prometheus.
    totals: Mutex<Totals>,
    flush: tokio::sync::Mutex<FlushState>,
}

impl Usage {
    /// Nothing counted yet; what was kept earlier is in the meta table of `store`.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, config: UsageConfig) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            config,
            account: AccountUsage::new(),
            basins: Mutex::default(),
            streams: Mutex::default(),
            totals: Mutex::default(),
            flush: tokio::sync::Mutex::default(),
        })
    }

    /// Which ranges can be asked for now.
    pub fn range_limits(&self) -> RangeLimits {
        let max_span = u32::try_from(self.config.max_range.as_secs()).unwrap_or(u32::MAX);
        RangeLimits { now: self.now(), max_span }
    }

    /// Counts a request at the level of the account.
    pub fn account_operation(&self, operation: AccountOperation) {
        self.account.operation(operation);
    }

    /// Counts a request that managed streams of `basin`, which must exist: names that anyone can make up are not kept.
    pub fn basin_operation(&self, basin: &BasinName, operation: BasinOperation) {
        self.basin(basin).operation(operation);
    }

    /// The counters of a stream that was opened and keeps `stored` metered bytes.
    pub fn open_stream(
        &self,
        basin: &BasinName,
        stream: &StreamName,
        class: &StorageClass,
        stored: u64,
    ) -> Arc<StreamUsage> {
        let usage = self.stream(basin, stream);
        usage.set_class(class);
        usage.set_stored(stored);
        // What is kept may tell otherwise, after a crash.
        usage.renew_stored();
        usage
    }

    /// A stream was deleted, and keeps nothing.
    pub fn stream_deleted(&self, basin: &BasinName, stream: &StreamName) {
        let usage = self.stream(basin, stream);
        usage.set_stored(0);
        usage.renew_stored();
    }

    fn basin(&self, name: &BasinName) -> Arc<BasinUsage> {
        locked(&self.basins).entry(name.clone()).or_insert_with(|| Arc::new(BasinUsage::new())).clone()
    }

    fn stream(&self, basin: &BasinName, name: &StreamName) -> Arc<StreamUsage> {
        let of = self.basin(basin);
        let new = || Arc::new(StreamUsage::new(of, self.clock.clone()));
        locked(&self.streams).entry((basin.clone(), name.clone())).or_insert_with(new).clone()
    }

    fn pages(&self) -> Pages<'_> {
        Pages(self.store.meta())
    }

    fn now(&self) -> u32 {
        epoch_seconds(self.clock.now())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entries of a shared table, so that it is not locked while they are worked on.
fn entries<K: Clone + Eq + Hash, V>(table: &Mutex<HashMap<K, Arc<V>>>) -> Vec<(K, Arc<V>)> {
    locked(table).iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl std::fmt::Debug for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Usage").field("config", &self.config).finish_non_exhaustive()
    }
}
