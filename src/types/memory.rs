//! The memory that the gateway may take, and how it is shared out.
//!
//! ```text
//! budget   ├── appends 1/4 ──┼─ recent 1/8 ─┼─ pages 1/8 ─┼── written 1/4 ──┼─ cache 1/8 ─┼─ sessions 1/8 ─┤
//! ```
//!
//! On top come the program itself, a few kilobytes for each open stream, session and connection, and the records of a
//! store that keeps them in memory, which have a limit of their own.

use super::limits::MAX_BATCH_METERED;

/// Bytes of memory for each purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShares {
    /// For batches that are accepted and not durable, and their copies on the way to the disk.
    pub appends: usize,
    /// For the latest durable batches of all streams, which followers get without asking the store.
    pub recent: usize,
    /// For pages of older records that were compressed for one reader and may be wanted by the next.
    pub pages: usize,
    /// For what a store on disk has written and not yet moved to where it will stay.
    pub written: usize,
    /// For what a store on disk reads often.
    pub cache: usize,
    /// For what sessions and single requests have received and not yet admitted, and what they are about to send.
    pub sessions: usize,
}

impl MemoryShares {
    /// The least that can be shared out: the largest batch must have room among the appends.
    pub const LEAST: usize = 32 * MAX_BATCH_METERED;

    /// The shares of `budget` bytes.
    pub const fn of(budget: usize) -> Self {
        let eighth = budget / 8;
        Self {
            appends: 2 * eighth,
            recent: eighth,
            pages: eighth,
            written: 2 * eighth,
            cache: eighth,
            sessions: eighth,
        }
    }

    /// Bytes of batches that may be in flight: each is there a second time while it is written.
    pub const fn in_flight(&self) -> usize {
        self.appends / 2
    }
}

impl Default for MemoryShares {
    /// Those of 512 MiB.
    fn default() -> Self {
        Self::of(512 * 1024 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::limits::MAX_FRAME_MESSAGE;

    #[test]
    fn the_shares_are_the_budget() {
        for budget in [MemoryShares::LEAST, 1 << 30] {
            let MemoryShares { appends, recent, pages, written, cache, sessions } = MemoryShares::of(budget);
            assert_eq!(appends + recent + pages + written + cache + sessions, budget);
        }
    }

    #[test]
    fn the_largest_batch_has_room_in_the_least_budget() {
        assert!(MemoryShares::of(MemoryShares::LEAST).in_flight() >= 2 * MAX_FRAME_MESSAGE);
    }
}
