//! Where messages lie, as far as it was seen: enough to begin a search near its end. Plain values.

use std::collections::BTreeMap;

use super::chain::Place;
use crate::types::SeqNum;

/// Places that are kept when they have become twice as many, evenly spread over the stream.
const KEPT: usize = 256;

/// Some places, by the number of their message.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<u64, Place>);

/// Between which messages the one that is looked for lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Between {
    /// The last one before it that is known.
    pub(super) before: Option<Place>,
    /// The first one that is known to be it, or to come after it.
    pub(super) at_most: Option<Place>,
}

impl Places {
    pub(super) fn insert(&mut self, place: Place) {
        self.0.insert(place.sequence, place);
        if self.0.len() > 2 * KEPT {
            self.thin_out();
        }
    }

    fn thin_out(&mut self) {
        let ends = self.0.first_key_value().zip(self.0.last_key_value());
        let Some(((&first, _), (&last, _))) = ends else { return };
        let stride = (last - first) / KEPT as u64;
        let mut next = first;
        self.0.retain(|&sequence, _| {
            let keep = sequence >= next || sequence == last;
            if keep {
                next = sequence + stride;
            }
            keep
        });
    }

    /// What is known of where the first message lies of which `reaches` is true; of none after it, it is false.
    pub(super) fn around(&self, reaches: impl Fn(&Place) -> bool) -> Between {
        // Few enough to look at one after the other, beside a question over the network.
        let mut before = None;
        for place in self.0.values() {
            match reaches(place) {
                true => return Between { before, at_most: Some(*place) },
                false => before = Some(*place),
            }
        }
        Between { before, at_most: None }
    }

    /// Forgets messages all of whose records lie before `to`.
    pub(super) fn forget_before(&mut self, to: SeqNum) {
        self.0.retain(|_, place| place.end.seq_num > to);
    }
}

impl Between {
    /// The number from which the engine is to be asked, if nothing lies between: the next message is the one.
    pub(super) fn exact(&self) -> Option<u64> {
        let (before, at_most) = (self.before?, self.at_most?);
        (before.end.seq_num == at_most.start).then_some(at_most.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Position;

    /// A message with two records.
    fn place(i: u64) -> Place {
        Place { sequence: 10 + 10 * i, start: SeqNum::new(2 * i), end: Position::new(2 * i + 2, i) }
    }

    #[test]
    fn a_search_begins_between_neighbours() {
        let mut places = Places::default();
        [0, 1, 5].into_iter().for_each(|i| places.insert(place(i)));
        let around = |from: u64| places.around(|place| place.end.seq_num > SeqNum::new(from));
        assert_eq!(around(1), Between { before: None, at_most: Some(place(0)) });
        assert_eq!(around(2).exact(), Some(20));
        assert_eq!(around(6), Between { before: Some(place(1)), at_most: Some(place(5)) });
        assert_eq!(around(6).exact(), None);
        assert_eq!(around(12), Between { before: Some(place(5)), at_most: None });
        places.forget_before(SeqNum::new(4));
        assert_eq!(places.around(|_| true), Between { before: None, at_most: Some(place(5)) });
    }

    #[test]
    fn a_long_stream_keeps_a_few_places_from_all_over() {
        let mut places = Places::default();
        (0..100_000).for_each(|i| places.insert(place(i)));
        assert!(places.0.len() <= 2 * KEPT + 1);
        for from in [30_000, 100_000, 150_000] {
            let Between { before, at_most } = places.around(|place| place.end.seq_num > SeqNum::new(from));
            let gap = at_most.unwrap().start.get() - before.unwrap().start.get();
            assert!(gap <= 4_000, "{gap} of 200,000 records between two places at {from}");
        }
    }
}
