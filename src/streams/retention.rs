//! What grows old with nobody doing anything: records past their age, streams that stay empty, deletions that a process
//! did not come to the end of (`data-plane.md` §5).
//!
//! Open streams are looked at every time, all others in slices, one after the other; those are opened only if something
//! is due, and closed again at once. Nothing runs per stream.
//!
//! ```text
//! look:  what has expired? ─► write down that it is gone ─► readers start behind it ─► the log lets go of it
//!                                    (a/<stream id>)            (trim point)
//! ```
//!
//! In this order, because a log that was trimmed does not say so: what is written down first tells a process that comes
//! after where the records begin. The next commit also carries the trim point.

use std::sync::Arc;

use super::{
    Failure, Job, Stream, StreamKey, Streams,
    catalogue::{Cursor, Found},
    neighbours::settled,
};
use crate::types::{Arrivals, BasinNamePart, StreamEntry, Timestamp, limits::MAX_LIST_LIMIT};

/// Streams of the catalogue that one sweep looks at.
const SLICE: usize = 1000;

/// How far the sweeps have come through the catalogue.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Where the next slice begins; `None` at the beginning of a round.
    from: Option<Cursor>,
    round: Round,
}

/// In the first round after the start every stream is opened: the process before may have ended without writing down
/// when its last records came, or before its log let go of what was trimmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Round {
    #[default]
    First,
    Later,
}

impl Streams {
    /// Looks after all open streams, and the next slice of the catalogue.
    pub(super) async fn sweep(&self) {
        let mut sweep = self.sweep.lock().await;
        for key in self.open_streams_due() {
            self.look_after(&key, sweep.round).await;
        }
        if let Err(error) = self.sweep_slice(&mut sweep).await {
            tracing::warn!(%error, "the catalogue cannot be read, old records are removed later");
        }
    }

    /// Writes down the arrivals of all open streams, as far as the store lets it.
    pub(super) async fn save_arrivals(&self) {
        for key in self.open_streams_where(|open| open.stream.has_unsaved_arrivals()) {
            self.look_after(&key, Round::Later).await;
        }
    }

    /// Leaves the deletions that the catalogue says are pending to the background task.
    pub(super) async fn resume_deletions(&self) -> Result<(), Failure> {
        self.resume_basin_deletions().await?;
        let mut from = None;
        loop {
            let slice = self.catalogue().all_streams(from.as_ref(), SLICE).await?;
            for (key, entry) in &slice.streams {
                self.resume_stream_deletion(key, entry);
            }
            if slice.next.is_none() {
                return Ok(());
            }
            from = slice.next;
            tokio::task::yield_now().await;
        }
    }

    async fn resume_basin_deletions(&self) -> Result<(), Failure> {
        let mut start_after = BasinNamePart::default();
        loop {
            let page = self.catalogue().basins(&BasinNamePart::default(), &start_after, MAX_LIST_LIMIT).await?;
            for basin in page.entries.iter().filter(|basin| basin.deleted_at.is_some()) {
                self.background.leave(Job::RemoveBasin(basin.name.clone()));
            }
            match page.entries.last() {
                Some(last) if page.has_more => start_after = last.name.clone().into(),
                _ => return Ok(()),
            }
        }
    }

    fn resume_stream_deletion(&self, (basin, name): &StreamKey, entry: &StreamEntry) {
        if entry.deleted_at.is_some() {
            self.background.leave(Job::RemoveStream(basin.clone(), name.clone(), entry.id));
        }
    }

    async fn sweep_slice(&self, sweep: &mut Sweep) -> Result<(), Failure> {
        if sweep.from.is_none() {
            self.resume_basin_deletions().await?;
        }
        let slice = self.catalogue().all_streams(sweep.from.as_ref(), SLICE).await?;
        let now = self.clock.now();
        for (key, entry) in &slice.streams {
            self.resume_stream_deletion(key, entry);
            match self.is_due(key, entry, sweep.round, now).await {
                Ok(true) => self.look_after(key, sweep.round).await,
                Ok(false) => {}
                Err(error) => put_off(key, &error),
            }
        }
        sweep.from = slice.next;
        if sweep.from.is_none() {
            sweep.round = Round::Later;
        }
        Ok(())
    }

    /// Whether a stream is worth a look that the open streams did not have, as far as can be told without opening it.
    async fn is_due(
        &self,
        key: &StreamKey,
        entry: &StreamEntry,
        round: Round,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        if entry.deleted_at.is_some() {
            return Ok(false);
        }
        if round == Round::First {
            return Ok(true);
        }
        if self.open_streams().contains_key(key) {
            return Ok(false);
        }
        let found = self.catalogue().arrivals(entry.id).await?;
        let arrivals = found.map_or_else(|| Arrivals::new(entry.created_at), |found| found.entry);
        let expired = arrivals.expired_to(entry.config.retention_policy, now) > arrivals.removed_to();
        let min_age = entry.config.delete_on_empty_min_age_secs;
        Ok(expired || min_age > 0 && arrivals.unchanged_for(min_age, now))
    }

    fn open_streams_due(&self) -> Vec<StreamKey> {
        let now = self.clock.now();
        self.open_streams_where(|open| {
            let stream = &open.stream;
            let unsaved = stream.has_unsaved_arrivals() && (!open.is_held() || stream.has_long_unsaved_arrivals());
            unsaved || stream.has_expired_records(now) || stream.may_be_deleted_as_empty(now)
        })
    }

    pub(super) fn open_streams_where(&self, due: impl Fn(&super::Open) -> bool) -> Vec<StreamKey> {
        self.open_streams().iter().filter(|(_, open)| due(open)).map(|(key, _)| key.clone()).collect()
    }

    /// Does for one stream what is due. What cannot be done now is due again at the next look.
    async fn look_after(&self, key: &StreamKey, round: Round) {
        if let Err(error) = self.try_look_after(key, round).await {
            put_off(key, &error);
        }
    }

    async fn try_look_after(&self, key: &StreamKey, round: Round) -> Result<(), Failure> {
        let (basin, name) = key;
        let _name = self.lock_name(key).await;
        let Some(found) = self.catalogue().stream(basin, name).await?.filter(|found| found.entry.deleted_at.is_none())
        else {
            return Ok(());
        };
        let open = self.open_streams().get(key).map(|open| open.stream.clone());
        match open {
            // Recovered when it is next used; two logs of one stream must not be open.
            Some(stream) if stream.has_failed() => Ok(()),
            Some(stream) => self.look_after_stream(key, &found, &stream, round).await,
            // Opened for this look only, while nobody else can: the name is held until it is closed again.
            None => {
                let stream = self.open_log(key, &found.entry).await?;
                self.look_after_stream(key, &found, &stream, round).await
            }
        }
    }

    async fn look_after_stream(
        &self,
        key: &StreamKey,
        found: &Found<StreamEntry>,
        stream: &Arc<Stream>,
        round: Round,
    ) -> Result<(), Failure> {
        let now = self.clock.now();
        let before = stream.trim_point();
        let expired = stream.has_expired_records(now);
        if expired || stream.has_unsaved_arrivals() {
            settled(|| self.save_arrivals_of(stream, now)).await?;
        }
        if stream.trim_point() > before || round == Round::First {
            stream.trim().await?;
        }
        self.delete_if_empty(key, found, stream).await
    }

    /// What other gateways wrote down of a stream's arrivals is as true as what is known here.
    async fn save_arrivals_of(&self, stream: &Stream, now: Timestamp) -> Result<(), Failure> {
        let found = match self.is_shared() {
            true => self.catalogue().arrivals(stream.id()).await?,
            false => None,
        };
        if let Some(found) = &found {
            stream.merge_arrivals(&found.entry);
        }
        let arrivals = stream.aged_arrivals(now);
        match (self.is_shared(), &found) {
            (true, found) => self.catalogue().replace_arrivals(stream.id(), &arrivals, found.as_ref()).await?,
            (false, _) => self.catalogue().put_arrivals(stream.id(), &arrivals).await?,
        }
        stream.arrivals_are_saved(&arrivals, now);
        Ok(())
    }

    /// Deletes a stream that has been empty for as long as its configuration bears (`data-plane.md` §5.4).
    async fn delete_if_empty(
        &self,
        key: &StreamKey,
        found: &Found<StreamEntry>,
        stream: &Arc<Stream>,
    ) -> Result<(), Failure> {
        let min_age = found.entry.config.delete_on_empty_min_age_secs;
        if min_age == 0 || !stream.may_be_deleted_as_empty(self.clock.now()) {
            return Ok(());
        }
        stream.refreshed().await?;
        let Some(tail) = stream.seal_if_empty(min_age, self.clock.now()) else { return Ok(()) };
        let deleted = self.begin_deletion(key, found, self.is_shared().then_some(tail)).await;
        if deleted.is_err() {
            stream.reopen();
        }
        deleted
    }
}

fn put_off((basin, stream): &StreamKey, error: &Failure) {
    tracing::warn!(%basin, %stream, %error, "a stream's old records are removed later");
}

#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
