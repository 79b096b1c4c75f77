//! How much a reader is sent at a time: the less memory is left for sessions, the less. Knows no stream.
//!
//! A reader is asked for more only when there is room on its way for it. So what it was sent last is taken to be held
//! until then, and a reader that stalls holds one portion, not a queue.

use std::sync::Arc;

use super::ReadEvent;
use crate::{
    memory::{Held, Share},
    types::{Batch, BatchSlice, limits::MAX_BATCH_METERED},
};

/// Metered bytes of a portion at the least; a record larger than that is sent all the same.
const LEAST: usize = 8 * 1024;

/// What is left of the share is enough for so many portions.
const PORTIONS: usize = 32;

/// Portions below this size are not counted: thousands of them are little, and each costs the same to count.
const NOT_COUNTED: usize = 4 * 1024;

/// What one reader holds.
pub(super) struct Portion {
    held: Held,
}

impl Portion {
    /// Nothing yet.
    pub(super) fn of(share: Arc<Share>) -> Self {
        Self { held: Held::nothing_of(share) }
    }

    /// Metered bytes that the reader may be sent now.
    pub(super) fn room(&self) -> usize {
        (self.held.share().left() / PORTIONS).clamp(LEAST, MAX_BATCH_METERED)
    }

    /// Whether memory is so short that nothing is to be kept for the reader beyond what it is sent.
    pub(super) fn is_tight(&self) -> bool {
        let share = self.held.share();
        share.left() < share.limit() / 8
    }

    /// The reader has taken what it was sent.
    pub(super) fn taken(&mut self) {
        self.held.set(0);
    }

    /// Whether nothing of what the reader was sent counts.
    pub(super) fn is_nothing(&self) -> bool {
        self.held.bytes() == 0
    }

    /// The reader is sent `event`, and `kept` is kept for it.
    pub(super) fn sent(&mut self, event: &mut ReadEvent, kept: usize) {
        if let ReadEvent::Records { slices, .. } = event
            && self.is_tight()
        {
            slices.iter_mut().for_each(let_go_of_the_rest);
        }
        let bytes = kept + memory(event);
        if bytes >= NOT_COUNTED {
            self.held.set(bytes);
        }
    }
}

/// A small part of a batch keeps all of it in memory.
fn let_go_of_the_rest(slice: &mut BatchSlice) {
    if slice.encoded_len() < slice.batch().memory() / 2 {
        *slice = slice.copied().whole();
    }
}

/// Bytes of the batches that `event` keeps in memory.
fn memory(event: &ReadEvent) -> usize {
    match event {
        ReadEvent::Records { slices, .. } => slices.iter().map(|slice| slice.batch().memory()).sum(),
        ReadEvent::Followed(batches) => batches.iter().map(Batch::memory).sum(),
        ReadEvent::Heartbeat(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        streams::Followed,
        types::{Position, testing},
    };

    fn large() -> Batch {
        let body = "x".repeat(10_000);
        testing::batch(0, &[(body.as_str(), 1); 10])
    }

    #[test]
    fn portions_shrink_with_what_is_left() {
        let share = Arc::new(Share::new(64 << 20));
        let mut readers: Vec<_> = (0..100).map(|_| Portion::of(share.clone())).collect();
        let mut last = usize::MAX;
        for reader in &mut readers {
            let room = reader.room();
            assert!(room <= last);
            last = room;
            reader.held.set(room);
        }
        assert!((LEAST..MAX_BATCH_METERED / 4).contains(&last), "{last}");
        assert!(!share.is_exceeded() && readers[0].is_tight());
        share.take(64 << 20);
        assert_eq!(readers[0].room(), LEAST);
        readers.iter_mut().for_each(Portion::taken);
        assert_eq!(share.used(), 64 << 20);
    }

    fn followed(batches: &[&Batch]) -> ReadEvent {
        let slices: Vec<_> = batches.iter().map(|batch| batch.whole()).collect();
        ReadEvent::Followed(Followed::whole(&slices).expect("they are whole"))
    }

    #[test]
    fn what_is_sent_is_held_until_more_is_asked_for() {
        let share = Arc::new(Share::new(64 << 20));
        let mut reader = Portion::of(share.clone());
        let batch = large();
        reader.sent(&mut followed(&[&batch, &batch]), 5);
        assert_eq!(share.used(), 2 * batch.memory() + 5);
        reader.taken();
        reader.sent(&mut followed(&[&testing::batch(0, &[("small", 1)])]), 0);
        assert_eq!(share.used(), 0);
        reader.sent(&mut followed(&[&batch]), 0);
        drop(reader);
        assert_eq!(share.used(), 0);
    }

    #[test]
    fn where_memory_is_short_a_record_does_not_keep_its_batch() {
        for (limit, is_alone) in [(64 << 20, false), (1 << 10, true)] {
            let mut reader = Portion::of(Arc::new(Share::new(limit)));
            reader.held.share().take(if is_alone { limit } else { 0 });
            let slice = large().starting_at(crate::types::SeqNum::new(8)).unwrap();
            let mut event = ReadEvent::Records { slices: vec![slice.clone()], tail: Position::default() };
            reader.sent(&mut event, 0);
            let ReadEvent::Records { slices, .. } = event else { panic!() };
            assert_eq!(slices[0].batch().memory() < 30_000, is_alone, "{limit}");
            assert_eq!((slices[0].bytes(), slices[0].metered()), (slice.bytes(), slice.metered()));
            assert!(slices[0].records().eq(slice.records()));
        }
    }
}
