//! For how long a stream keeps its records, and itself when it has none (`data-plane.md` §5.2, §5.4). It removes
//! nothing: it says what is due, and is told when that was written down.

use super::{Phase, Stream};
use crate::types::{Arrivals, SeqNum, Timestamp};

impl Stream {
    /// Whether, at `now`, records are older than the stream keeps them.
    pub(in crate::streams) fn has_expired_records(&self, now: Timestamp) -> bool {
        let state = self.lock();
        let expired_to = state.arrivals.expired_to(state.config.retention_policy, now);
        matches!(state.phase, Phase::Serving) && expired_to > state.arrivals.removed_to()
    }

    /// Whether arrivals would be lost with the process.
    pub(in crate::streams) fn has_unsaved_arrivals(&self) -> bool {
        let state = self.lock();
        matches!(state.phase, Phase::Serving) && state.arrivals.latest() != state.arrivals_saved
    }

    /// Whether so many arrivals would be lost with the process that it matters.
    pub(in crate::streams) fn has_long_unsaved_arrivals(&self) -> bool {
        let state = self.lock();
        let latest = state.arrivals.latest().map_or(0, |mark| mark.at.get());
        let saved = state.arrivals_saved.map_or(0, |mark| mark.at.get());
        matches!(state.phase, Phase::Serving)
            && latest.saturating_sub(saved) >= Arrivals::resolution(state.config.retention_policy)
    }

    /// The arrivals as they should be written down at `now`, with what has expired removed.
    pub(in crate::streams) fn aged_arrivals(&self, now: Timestamp) -> Arrivals {
        let state = self.lock();
        let mut aged = state.arrivals.clone();
        aged.remove_to(aged.expired_to(state.config.retention_policy, now), now);
        aged
    }

    /// `saved` is written down, as of `now`: what it says was removed is from now on gone for readers.
    pub(in crate::streams) fn arrivals_are_saved(&self, saved: &Arrivals, now: Timestamp) {
        let mut state = self.lock();
        state.arrivals.remove_to(saved.removed_to(), now);
        state.arrivals_saved = saved.latest();
        state.raise_trim_point(saved.removed_to());
    }

    /// Adds what another process noted of the arrivals.
    pub(in crate::streams) fn merge_arrivals(&self, other: &Arrivals) {
        let mut state = self.lock();
        state.arrivals.merge(other);
        let removed_to = state.arrivals.removed_to();
        state.raise_trim_point(removed_to);
    }

    /// Closes the stream for appends if, at `now`, it has been empty and unchanged for `seconds`; returns the tail then.
    ///
    /// An append comes before this, and is seen, or after it, and finds the stream deleted. Nobody is woken yet:
    /// [`Stream::delete`] does that, or [`Stream::reopen`] takes it back.
    pub(in crate::streams) fn seal_if_empty(&self, seconds: u64, now: Timestamp) -> Option<SeqNum> {
        let mut state = self.lock();
        let empty = state.pending.is_empty() && state.durable.trim_point >= state.durable.tail.seq_num;
        let due = matches!(state.phase, Phase::Serving) && empty && state.arrivals.unchanged_for(seconds, now);
        if due {
            state.phase = Phase::Deleted;
        }
        due.then_some(state.durable.tail.seq_num)
    }

    /// Takes back [`Stream::seal_if_empty`]: the deletion did not happen.
    pub(in crate::streams) fn reopen(&self) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Deleted) {
            state.phase = Phase::Serving;
        }
    }

    /// The earliest record that is not gone.
    pub(in crate::streams) fn trim_point(&self) -> SeqNum {
        self.lock().durable.trim_point
    }

    /// Whether, at `now`, a look could find it empty for long enough. Cheap, and not the last word.
    pub(in crate::streams) fn may_be_deleted_as_empty(&self, now: Timestamp) -> bool {
        let state = self.lock();
        let seconds = state.config.delete_on_empty_min_age_secs;
        let empty = state.durable.trim_point >= state.durable.tail.seq_num;
        seconds > 0 && empty && state.arrivals.unchanged_for(seconds, now)
    }
}
