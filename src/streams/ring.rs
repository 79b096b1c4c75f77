//! The latest durable batches of a stream, kept for its followers. Knows no lock and no store.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    memory::Share,
    types::{Batch, BatchSlice, SeqNum},
};

/// Bytes of batches that a stream keeps for followers that are a little late; the latest batch stays in any case.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The same for a stream whose batches nobody has taken from here yet.
const MAX_UNREAD_BYTES: usize = 256 * 1024;

/// What it keeps is counted against the share of all rings, until it is dropped.
pub(super) struct Ring {
    batches: VecDeque<Weighed>,
    bytes: usize,
    /// Whether anyone ever looked for records here.
    is_read: bool,
    standing: Standing,
    share: Arc<Share>,
}

/// A batch and the bytes that were counted for it.
struct Weighed {
    batch: Batch,
    bytes: usize,
}

/// What those who make room know of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing: it had nothing left when they last came by, or they never did.
    Out,
    /// It is in the line, and nothing was put in or taken since they last came by, or it was emptied.
    Idle,
    /// It is in the line, and in use.
    Used,
}

/// What is left of a ring that gave up batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    Something,
}

impl Ring {
    /// An empty one, whose batches count against `share`.
    pub(super) fn new(share: Arc<Share>) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, is_read: false, standing: Standing::Out, share }
    }

    pub(super) fn push(&mut self, batch: Batch) {
        if self.is_read {
            self.weigh_again();
        }
        let bytes = weight(&batch);
        self.count(bytes);
        self.batches.push_back(Weighed { batch, bytes });
        let most = if self.is_read { MAX_BYTES } else { MAX_UNREAD_BYTES };
        while self.bytes > most && self.batches.len() > 1 {
            self.drop_oldest();
        }
        self.use_it();
    }

    /// Says, once, that the ring has something in it and must be put into the line of those that can make room.
    pub(super) fn joins(&mut self) -> bool {
        let joins = self.standing == Standing::Out && !self.batches.is_empty();
        if joins {
            self.standing = Standing::Used;
        }
        joins
    }

    /// The latest batch if it begins at `from`: all that there is for a follower that kept up.
    pub(super) fn latest_from(&mut self, from: SeqNum) -> Option<&Batch> {
        let latest = &self.batches.back()?.batch;
        (latest.first_seq_num() == from).then(|| {
            self.is_read = true;
            if self.standing == Standing::Idle {
                self.standing = Standing::Used;
            }
            latest
        })
    }

    /// The records from `from` on, one slice a batch, until there are none or `budget` metered bytes are reached.
    ///
    /// `None`: the ring does not reach back that far.
    pub(super) fn starting_at(&mut self, from: SeqNum, budget: usize) -> Option<Vec<BatchSlice>> {
        self.is_read = true;
        self.use_it();
        let after = self.batches.partition_point(|kept| kept.batch.first_seq_num() <= from);
        let at = after.checked_sub(1)?;
        let mut slices = Vec::new();
        let mut metered = 0;
        for kept in self.batches.range(at..) {
            let Some(slice) = kept.batch.starting_at(from) else { continue };
            metered += slice.metered();
            slices.push(slice);
            if metered >= budget {
                break;
            }
        }
        Some(slices)
    }

    /// Gives up batches for others: all of them if it was not used since it was last asked, or else the older half.
    ///
    /// At least one goes, so that making room costs no more than filling it did.
    pub(super) fn give_up(&mut self) -> Rest {
        let keep = match self.standing {
            Standing::Used => self.bytes / 2,
            Standing::Idle | Standing::Out => 0,
        };
        self.drop_oldest();
        while self.bytes > keep {
            self.drop_oldest();
        }
        match self.batches.is_empty() {
            true => {
                self.clear();
                self.standing = Standing::Out;
                Rest::Nothing
            }
            false => {
                self.standing = Standing::Idle;
                Rest::Something
            }
        }
    }

    /// Keeps nothing any more, not even room. One that is in the line stays there, or each time that it has something
    /// again it would be in there once more.
    pub(super) fn clear(&mut self) {
        self.share.give_back(self.bytes);
        self.bytes = 0;
        self.batches = VecDeque::new();
        self.is_read = false;
        if self.standing == Standing::Used {
            self.standing = Standing::Idle;
        }
    }

    /// Followers add the frames that they need after a batch came: mostly to the latest one before the next comes, and
    /// those who are late to any. The one in the middle is on its way through the ring, as all have been or will be. Where
    /// nobody reads, nothing is added, and to look would be to wait for memory that was long in no cache.
    fn weigh_again(&mut self) {
        for at in [self.batches.len().checked_sub(1), Some(self.batches.len() / 2)].into_iter().flatten() {
            let Some(kept) = self.batches.get_mut(at) else { continue };
            let more = weight(&kept.batch) - kept.bytes;
            kept.bytes += more;
            self.count(more);
        }
    }

    fn use_it(&mut self) {
        if self.standing == Standing::Idle {
            self.standing = Standing::Used;
        }
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.share.take(bytes);
    }

    fn drop_oldest(&mut self) {
        let bytes = self.batches.pop_front().map_or(0, |kept| kept.bytes);
        self.bytes -= bytes;
        self.share.give_back(bytes);
    }
}

/// Bytes that a batch costs here, with what the allocator and the ring need for it.
fn weight(batch: &Batch) -> usize {
    batch.memory_with_frames() + 128
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.share.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Compression, testing};

    struct Filled {
        ring: Ring,
        share: Arc<Share>,
        next: u64,
    }

    impl Filled {
        fn new() -> Self {
            let share = Arc::new(Share::new(usize::MAX));
            Self { ring: Ring::new(share.clone()), share, next: 0 }
        }

        /// A batch of one record.
        fn push(&mut self, body: usize) -> Batch {
            let body = "x".repeat(body);
            let batch = testing::batch(self.next, &[(&body, 1)]);
            self.next += 1;
            self.ring.push(batch.clone());
            batch
        }

        fn first(&self) -> Option<u64> {
            self.ring.batches.front().map(|kept| kept.batch.first_seq_num().get())
        }
    }

    #[test]
    fn it_grows_when_it_is_read() {
        let mut filled = Filled::new();
        for _ in 0..300 {
            filled.push(64 * 1024);
        }
        assert!(filled.share.used() <= MAX_UNREAD_BYTES, "{}", filled.share.used());
        assert_eq!(filled.first(), Some(297), "three of 64 KiB and a little more");
        assert!(filled.ring.starting_at(SeqNum::new(296), 1).is_none());
        for _ in 0..300 {
            filled.push(64 * 1024);
        }
        assert!(filled.share.used() <= MAX_BYTES && filled.share.used() > MAX_BYTES - 70_000);
        drop(filled.ring);
        assert_eq!(filled.share.used(), 0);
    }

    #[test]
    fn only_who_kept_up_is_given_the_latest_as_it_is() {
        let mut filled = Filled::new();
        assert!(filled.ring.latest_from(SeqNum::FIRST).is_none());
        filled.push(1);
        filled.push(1);
        let found = [0, 1, 2].map(|from| filled.ring.latest_from(SeqNum::new(from)).map(|batch| batch.start().seq_num));
        assert_eq!(found, [None, Some(SeqNum::new(1)), None]);
        assert!(filled.ring.is_read);
    }

    #[test]
    fn the_latest_stays_however_large() {
        let mut filled = Filled::new();
        filled.push(1);
        filled.push(2 * MAX_UNREAD_BYTES);
        assert_eq!(filled.first(), Some(1));
    }

    #[test]
    fn frames_that_followers_made_are_counted() {
        let mut filled = Filled::new();
        let batch = filled.push(100);
        assert!(filled.ring.starting_at(SeqNum::FIRST, usize::MAX).is_some());
        batch.follow_frame(Compression::Zstd, |_| Some(Bytes::from(vec![0; 5_000])));
        let other = filled.push(100);
        assert_eq!(filled.share.used(), weight(&batch) + weight(&other));
        assert!(filled.share.used() > 5_000);
        filled.ring.clear();
        assert_eq!(filled.share.used(), 0);
    }

    #[test]
    fn it_joins_the_line_once_it_has_something() {
        let mut filled = Filled::new();
        assert!(!filled.ring.joins());
        filled.push(1);
        assert!(filled.ring.joins() && !filled.ring.joins());
        filled.ring.clear();
        filled.push(1);
        assert!(!filled.ring.joins(), "it is in the line still");
        filled.ring.clear();
        assert_eq!(filled.ring.give_up(), Rest::Nothing, "and out of it, asked for room");
        assert!(!filled.ring.joins());
        filled.push(1);
        assert!(filled.ring.joins());
    }

    #[test]
    fn what_is_used_gives_up_half_and_what_is_idle_all() {
        let mut filled = Filled::new();
        for _ in 0..9 {
            filled.push(1_000);
        }
        assert!(filled.ring.joins());
        assert_eq!(filled.ring.give_up(), Rest::Something);
        assert_eq!(filled.first(), Some(5), "four of nine are left");
        filled.push(1_000);
        assert_eq!(filled.ring.give_up(), Rest::Something);
        assert_eq!(filled.first(), Some(8), "two of five");
        assert_eq!(filled.ring.give_up(), Rest::Nothing);
        assert_eq!((filled.first(), filled.share.used()), (None, 0));
        filled.push(1);
        assert!(filled.ring.joins());
        assert_eq!(filled.ring.give_up(), Rest::Nothing, "at least one goes");
    }
}
