//! The one task that writes usage down: counters into minutes, minutes into hours, hours into days.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{Arc, Weak},
};

use super::{
    MAX_STREAMS_A_BASIN, Usage, UsageError, counters, entries, locked,
    pages::{Scope, page_span, page_start, retention},
    series::STORED,
};
use crate::{
    store::Sharing,
    types::{BasinName, Interval, StoredSize, StreamName},
};

/// Seconds after its end at which a page is taken to be complete: others write a little later.
const GRACE: u32 = 120;

/// Basins that Prometheus sees by name; the others are counted together.
const MAX_NAMED_BASINS: usize = 100;

/// Writes down what `usage` counts until that is gone.
pub async fn run(usage: Weak<Usage>) {
    while let Some(every) = usage.upgrade().map(|usage| usage.config.flush_every) {
        tokio::time::sleep(every).await;
        let Some(usage) = usage.upgrade() else { return };
        if let Err(error) = usage.flush().await {
            tracing::warn!(%error, "usage was not written down, it is tried again");
        }
    }
}

/// What the task remembers from one round to the next.
#[derive(Debug, Default)]
pub(super) struct FlushState {
    /// What the streams of a basin keep together; counted anew each hour, so that nothing goes astray for long.
    stored: HashMap<BasinName, u64>,
    /// The streams that have pages in this hour.
    paged: HashMap<BasinName, HashSet<StreamName>>,
    /// The minute in which a stream's size was last written.
    sampled: HashMap<(BasinName, StreamName), u32>,
    /// The hour that all this is of.
    hour: u32,
    /// The minute that `stored` is of, where other gateways' streams belong to it too.
    stored_at: u32,
    /// Where the pages begin that were not rolled up, and looked at for their age, yet.
    worked_through: HashMap<Interval, u32>,
}

/// What is to be done with a page.
#[derive(Clone, Copy)]
enum Chore {
    /// Its total becomes a bucket of this interval.
    RollUp(Interval),
    Remove,
}

const fn longer(interval: Interval) -> Option<Interval> {
    match interval {
        Interval::Minute => Some(Interval::Hour),
        Interval::Hour => Some(Interval::Day),
        Interval::Day => None,
    }
}

/// Metered bytes of a basin since the process began, for Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BasinBytes {
    /// Appended and durable.
    pub appended: u64,
    /// Sent to readers.
    pub read: u64,
}

#[derive(Debug, Default)]
pub(super) struct Totals {
    by_basin: HashMap<BasinName, BasinBytes>,
    others: BasinBytes,
}

impl Totals {
    fn add(&mut self, basin: &BasinName, (appended, read): (u64, u64)) {
        let known = self.by_basin.contains_key(basin) || self.by_basin.len() < MAX_NAMED_BASINS;
        let bytes = match known {
            true => self.by_basin.entry(basin.clone()).or_default(),
            false => &mut self.others,
        };
        bytes.appended += appended;
        bytes.read += read;
    }
}

impl Usage {
    /// Metered bytes by basin since the process began, as far as they were written down: of 100 basins, and of all
    /// others as `None`.
    pub fn basin_bytes(&self) -> Vec<(Option<BasinName>, BasinBytes)> {
        let totals = locked(&self.totals);
        let named = totals.by_basin.iter().map(|(basin, bytes)| (Some(basin.clone()), *bytes));
        named.chain([(None, totals.others)]).collect()
    }

    /// Writes down what was counted so far. What cannot be written now is counted again the next time.
    pub async fn flush(&self) -> Result<(), UsageError> {
        let mut state = self.flush.lock().await;
        let now = self.now();
        state.turn_to(now);
        if self.store.sharing() == Sharing::Shared {
            state.forget_totals_of_before(now);
        }
        let (account, basins) = (self.flush_account(now).await, self.flush_basins(now).await);
        let streams = self.flush_streams(now, &mut state).await;
        let rolled = self.roll_up(now, &mut state).await;
        self.forget_idle(&mut state);
        account.and(basins).and(streams).and(rolled)
    }

    /// Writes down everything, before the store is closed.
    pub async fn finish(&self) -> Result<(), UsageError> {
        self.flush.lock().await.sampled.clear();
        self.flush().await
    }

    async fn flush_account(&self, now: u32) -> Result<(), UsageError> {
        let counted = self.account.take();
        let written = self.write(&Scope::Account, now, &counted).await;
        written.inspect_err(|_| self.account.give_back(&counted))
    }

    async fn flush_basins(&self, now: u32) -> Result<(), UsageError> {
        for (basin, usage) in entries(&self.basins) {
            let counted = usage.take();
            let written = self.write(&Scope::Basin(basin.clone()), now, &counted).await;
            written.inspect_err(|_| usage.give_back(&counted))?;
            locked(&self.totals).add(&basin, counters::bytes(&counted));
        }
        Ok(())
    }

    async fn write(&self, scope: &Scope, now: u32, counted: &[(&'static str, u64)]) -> Result<(), UsageError> {
        match counted {
            [] => Ok(()),
            counted => self.pages().add(scope, Interval::Minute, now, counted).await,
        }
    }

    /// Writes the sizes that changed, of each stream at most once a minute, and what they come to in their basins.
    async fn flush_streams(&self, now: u32, state: &mut FlushState) -> Result<(), UsageError> {
        let mut basins = HashSet::new();
        for (key, usage) in entries(&self.streams) {
            let minute = Interval::Minute.start_of(now);
            if state.sampled.get(&key) == Some(&minute) {
                continue;
            }
            let Some(bytes) = usage.take_stored() else { continue };
            let written = self.write_stored(&key, bytes, now, state).await;
            let changed = written.inspect_err(|_| usage.renew_stored())?;
            if changed {
                basins.insert(key.0.clone());
                state.sampled.insert(key, minute);
            }
        }
        for basin in basins {
            let total = state.stored.get(&basin).copied().unwrap_or_default();
            self.write(&Scope::Basin(basin), now, &[(STORED, total)]).await?;
        }
        Ok(())
    }

    /// Whether the stream kept something else before.
    async fn write_stored(
        &self,
        (basin, stream): &(BasinName, StreamName),
        bytes: u64,
        now: u32,
        state: &mut FlushState,
    ) -> Result<bool, UsageError> {
        if !state.stored.contains_key(basin) {
            state.stored.insert(basin.clone(), self.pages().stored_in(basin).await?);
        }
        let before = self.pages().put_stored(basin, stream, StoredSize { bytes, since: now }).await?;
        if before == bytes {
            return Ok(false);
        }
        if let Some(total) = state.stored.get_mut(basin) {
            *total = total.saturating_add(bytes).saturating_sub(before);
        }
        if state.gets_page(basin, stream) {
            self.write(&Scope::Stream(basin.clone(), stream.clone()), now, &[(STORED, bytes)]).await?;
        }
        Ok(true)
    }

    /// Rolls up the pages that are complete and lets go of those that are too old.
    async fn roll_up(&self, now: u32, state: &mut FlushState) -> Result<(), UsageError> {
        for &interval in Interval::ALL {
            let complete = page_start(interval, now.saturating_sub(GRACE));
            let from = state.worked_through.get(&interval).copied().unwrap_or_default();
            if from >= complete {
                continue;
            }
            if let Some(longer) = longer(interval) {
                self.each_page(interval, from..complete, Chore::RollUp(longer)).await?;
            }
            let expired = complete.saturating_sub(retention(interval) + page_span(interval));
            self.each_page(interval, 0..expired, Chore::Remove).await?;
            state.worked_through.insert(interval, complete);
        }
        Ok(())
    }

    async fn each_page(&self, interval: Interval, starts: Range<u32>, chore: Chore) -> Result<(), UsageError> {
        let mut last = None;
        loop {
            let mut found = self.pages().pages_after(interval, starts.start, starts.end, last.as_ref()).await?;
            for page in &found {
                match chore {
                    Chore::RollUp(longer) => self.pages().roll_up(page, longer).await?,
                    Chore::Remove => self.pages().remove(page).await?,
                }
            }
            match found.pop() {
                Some(page) => last = Some(page),
                None => return Ok(()),
            }
        }
    }

    /// Lets go of the counters that nobody holds and that hold nothing.
    fn forget_idle(&self, state: &mut FlushState) {
        locked(&self.streams).retain(|_, usage| Arc::strong_count(usage) > 1 || !usage.is_settled());
        locked(&self.basins).retain(|_, usage| Arc::strong_count(usage) > 1 || !usage.is_settled());
        let streams = locked(&self.streams);
        state.sampled.retain(|key, _| streams.contains_key(key));
    }
}

impl FlushState {
    fn turn_to(&mut self, now: u32) {
        let hour = Interval::Hour.start_of(now);
        if self.hour != hour {
            self.hour = hour;
            self.stored.clear();
            self.paged.clear();
        }
    }

    /// What basins keep is counted anew each minute: others add to it unseen.
    fn forget_totals_of_before(&mut self, now: u32) {
        let minute = Interval::Minute.start_of(now);
        if self.stored_at != minute {
            self.stored_at = minute;
            self.stored.clear();
        }
    }

    /// Whether a stream has pages in this hour, or can still get them.
    fn gets_page(&mut self, basin: &BasinName, stream: &StreamName) -> bool {
        let paged = self.paged.entry(basin.clone()).or_default();
        paged.contains(stream) || paged.len() < MAX_STREAMS_A_BASIN && paged.insert(stream.clone())
    }
}
