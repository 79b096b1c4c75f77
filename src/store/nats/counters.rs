//! What is counted of the work with the engine.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::answers::Published;
use crate::store::StoreCount;

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

    /// What was counted so far.
    pub(super) fn snapshot(&self) -> [StoreCount; 9] {
        let count = |name, help, counter: &AtomicU64| StoreCount { name, help, value: counter.load(Relaxed) };
        [
            count("s2s_nats_publications_total", "Messages that NATS acknowledged.", &self.published),
            count(
                "s2s_nats_answer_microseconds_total",
                "From publications to their acknowledgements, of all that were acknowledged together.",
                &self.answer_micros,
            ),
            count(
                "s2s_nats_conflicts_total",
                "Publications before which another one was first, or was about to be.",
                &self.conflicts,
            ),
            count("s2s_nats_ambiguous_total", "Publications whose answer did not come.", &self.ambiguous),
            count("s2s_nats_refused_total", "Publications that NATS refused.", &self.refused),
            count("s2s_nats_batches_total", "Batches that were committed.", &self.batches),
            count("s2s_nats_commits_total", "Messages that batches were committed in.", &self.commits),
            count(
                "s2s_nats_overtaken_total",
                "Commits before which another gateway was first, so that appends were judged again.",
                &self.overtaken,
            ),
            count("s2s_nats_refreshes_total", "Times that the newest head was asked for.", &self.refreshes),
        ]
    }
}
