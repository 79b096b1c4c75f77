//! What a follower is given of a stream that moved: whole batches, in order. Mostly it is one, which needs no list.

use crate::types::{Batch, BatchSlice, SeqNum};

/// Whole batches that follow each other, at least one.
#[derive(Clone, Debug)]
pub struct Followed {
    first: Batch,
    rest: Vec<Batch>,
}

impl Followed {
    /// The batches that `slices` are all of; nothing if there is none, or one is only a part of its batch.
    pub(super) fn whole(slices: &[BatchSlice]) -> Option<Self> {
        let (first, rest) = slices.split_first()?;
        let are_whole = slices.iter().all(BatchSlice::is_whole);
        let batch = |slice: &BatchSlice| slice.batch().clone();
        are_whole.then(|| Self { first: batch(first), rest: rest.iter().map(batch).collect() })
    }

    /// The batches in order.
    pub fn iter(&self) -> impl Iterator<Item = &Batch> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The last of them.
    pub fn last(&self) -> &Batch {
        self.rest.last().unwrap_or(&self.first)
    }

    /// How many.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        1 + self.rest.len()
    }

    /// The number after the last record.
    pub fn end_seq_num(&self) -> SeqNum {
        self.last().end().seq_num
    }
}

impl From<Batch> for Followed {
    fn from(only: Batch) -> Self {
        Self { first: only, rest: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::testing;

    #[test]
    fn only_whole_batches_are_passed_on() {
        let batches = [testing::batch(0, &[("a", 1), ("b", 1)]), testing::batch(2, &[("c", 1)])];
        let mut slices: Vec<_> = batches.iter().map(Batch::whole).collect();
        let followed = Followed::whole(&slices).expect("they are whole");
        assert_eq!((followed.len(), followed.end_seq_num().get()), (2, 3));
        assert!(followed.iter().map(Batch::start).eq(batches.iter().map(Batch::start)));
        slices[0] = batches[0].starting_at(SeqNum::new(1)).expect("it is in there");
        assert!(Followed::whole(&slices).is_none());
        assert!(Followed::whole(&[]).is_none());
    }
}
