//! What is counted of the work with the engine.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::engine::Published;

/// Counting is a few atomic operations.
#[derive(Debug, Default)]
pub(super) struct Counters {
    published: AtomicU64,
    conflicts: AtomicU64,
    ambiguous: AtomicU64,
    refused: AtomicU64,
    batches: AtomicU64,
    commits: AtomicU64,
    overtaken: AtomicU64,
    refreshes: AtomicU64,
    answer_micros: AtomicU64,
}

/// What was counted since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatsCounts {
    /// Messages that were acknowledged by the engine, of whatever kind.
    pub published: u64,
    /// Publications before which another one was first, or was about to be.
    pub conflicts: u64,
    /// Publications whose answer did not come.
    pub ambiguous: u64,
    /// Publications that the engine refused.
    pub refused: u64,
    /// Batches that were committed.
    pub batches: u64,
    /// Messages that they were committed in: the fewer of them for so many batches, the more went together.
    pub commits: u64,
    /// How often another process was first with a commit, so that appends had to be judged again.
    pub overtaken: u64,
    /// How often the newest head was asked for.
    pub refreshes: u64,
    /// Microseconds from publications to their acknowledgements, of all that were acknowledged together.
    pub answer_micros: u64,
}

impl Counters {
    pub(super) fn note_publish(&self, published: &Published, took: Duration) {
        let counter = match published {
            Published::Landed(_) => {
                self.answer_micros.fetch_add(took.as_micros() as u64, Relaxed);
                &self.published
            }
            Published::Conflict => &self.conflicts,
            Published::Unknown(_) => &self.ambiguous,
            Published::Refused(_) => &self.refused,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn note_commit(&self, batches: usize) {
        self.commits.fetch_add(1, Relaxed);
        self.batches.fetch_add(batches as u64, Relaxed);
    }

    pub(super) fn note_overtaken(&self) {
        self.overtaken.fetch_add(1, Relaxed);
    }

    pub(super) fn note_refresh(&self) {
        self.refreshes.fetch_add(1, Relaxed);
    }

    pub(super) fn snapshot(&self) -> NatsCounts {
        NatsCounts {
            published: self.published.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            ambiguous: self.ambiguous.load(Relaxed),
            refused: self.refused.load(Relaxed),
            batches: self.batches.load(Relaxed),
            commits: self.commits.load(Relaxed),
            overtaken: self.overtaken.load(Relaxed),
            refreshes: self.refreshes.load(Relaxed),
            answer_micros: self.answer_micros.load(Relaxed),
        }
    }
}
