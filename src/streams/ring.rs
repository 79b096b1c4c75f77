//! The latest durable batches of a stream, kept for its followers. Knows no lock and no store.

use std::collections::VecDeque;

use crate::types::{Batch, BatchSlice, SeqNum};

/// Bytes of batches that a stream keeps for followers that are a little late; the latest batch stays in any case.
const MAX_BYTES: usize = 4 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Ring {
    batches: VecDeque<Batch>,
    bytes: usize,
}

impl Ring {
    pub(super) fn push(&mut self, batch: Batch) {
        self.bytes += batch.memory();
        self.batches.push_back(batch);
        while self.bytes > MAX_BYTES && self.batches.len() > 1 {
            self.bytes -= self.batches.pop_front().map_or(0, |batch| batch.memory());
        }
    }

    /// The records from `from` on, one slice a batch, until there are none or `budget` metered bytes are reached.
    ///
    /// `None`: the ring does not reach back that far.
    pub(super) fn starting_at(&self, from: SeqNum, budget: usize) -> Option<Vec<BatchSlice>> {
        let after = self.batches.partition_point(|batch| batch.first_seq_num() <= from);
        let at = after.checked_sub(1)?;
        let mut slices = Vec::new();
        let mut metered = 0;
        for batch in self.batches.range(at..) {
            let Some(slice) = batch.starting_at(from) else { continue };
            metered += slice.metered();
            slices.push(slice);
            if metered >= budget {
                break;
            }
        }
        Some(slices)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
