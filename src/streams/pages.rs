//! Records on their way to a reader that catches up: batches in, pages out. A page becomes one batch on the wire. Knows
//! no stream, no log and no time.
//!
//! ```text
//! batches   [··················][·········][···][······················]
//! pages      ^next ──────────────────┤├──────────────────┤
//!                                1000·k             1000·(k+1)
//! ```
//!
//! The pages of sessions end at multiples of 1000 records, if 1 MiB does not end them before. So readers that began
//! anywhere are soon sent the same pages, and what one of them was sent compressed can be found again for the next.

use std::collections::VecDeque;

use crate::{
    sequence::{Progress, ReadMode, Remaining},
    types::{
        Batch, BatchSlice, Cut, SeqNum,
        limits::{MAX_BATCH_METERED, MAX_BATCH_RECORDS},
    },
};

/// Where pages end besides at 1000 records and 1 MiB metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageCut {
    /// Nowhere: the page is all that is read.
    Full,
    /// Where a multiple of 1000 is the next number.
    Aligned,
}

impl PageCut {
    pub(super) fn of(mode: ReadMode) -> Self {
        match mode {
            ReadMode::Unary => Self::Full,
            ReadMode::Session => Self::Aligned,
        }
    }

    /// Records that a page from `next` on may have.
    fn records(self, next: SeqNum) -> u64 {
        const MOST: u64 = MAX_BATCH_RECORDS as u64;
        match self {
            Self::Full => MOST,
            Self::Aligned => MOST - next.get() % MOST,
        }
    }
}

/// What was read from the log and is not yet delivered: batches that follow each other without a gap.
#[derive(Debug)]
pub(super) struct Pages {
    batches: VecDeque<Batch>,
    cut: PageCut,
}

/// Records for one batch on the wire.
pub(super) struct Page {
    pub(super) slices: Vec<BatchSlice>,
    pub(super) progress: Progress,
}

impl Pages {
    pub(super) fn new(cut: PageCut) -> Self {
        Self { batches: VecDeque::new(), cut }
    }

    /// The number after the last record that is here.
    pub(super) fn end(&self) -> Option<SeqNum> {
        self.batches.back().map(|batch| batch.end().seq_num)
    }

    /// Adds what follows. If it does not follow, what lies between was trimmed, and what was here with it.
    pub(super) fn extend(&mut self, batches: impl IntoIterator<Item = Batch>) {
        let mut batches = batches.into_iter().peekable();
        if batches.peek().is_some_and(|first| Some(first.first_seq_num()) != self.end()) {
            self.batches.clear();
        }
        self.batches.extend(batches);
    }

    /// Bytes of memory that are kept here.
    pub(super) fn memory(&self) -> usize {
        self.batches.iter().map(Batch::memory).sum()
    }

    /// Lets go of what was read and not delivered; it must be read again.
    pub(super) fn clear(&mut self) {
        self.batches.clear();
    }

    /// Whether a page of at most `room` bytes metered from `next` on would not be longer if there were more batches.
    pub(super) fn hold_page(&self, room: usize, next: SeqNum, remaining: &Remaining) -> bool {
        let (Some(front), Some(end)) = (self.batches.front(), self.end()) else { return false };
        if end.since(next) >= self.cut.records(next).min(remaining.count()) {
            return true;
        }
        let of_front = front.starting_at(next).map_or(0, |slice| slice.metered());
        let behind: usize = self.batches.iter().skip(1).map(Batch::metered).sum();
        (of_front + behind) as u64 >= remaining.bytes().min(room as u64)
    }

    /// Takes records from `next` on, at most 1000 and `room` bytes metered, as far as `remaining` allows. A record for
    /// which there is no room goes alone.
    pub(super) fn take(&mut self, room: usize, next: &mut SeqNum, remaining: &mut Remaining) -> Page {
        let mut page = Page { slices: Vec::new(), progress: Progress::More };
        let (mut count, mut bytes) = (self.cut.records(*next), room as u64);
        while let Some(batch) = self.batches.front() {
            let Some(mut slice) = batch.starting_at(*next) else {
                self.batches.pop_front();
                continue;
            };
            let mut room = slice.cut(count, bytes, None);
            if slice.is_empty() {
                if !page.slices.is_empty() {
                    break;
                }
                slice = batch.starting_at(*next).unwrap_or(slice);
                room = slice.cut(1, MAX_BATCH_METERED as u64, None);
            }
            page.progress = remaining.take(&mut slice);
            if !slice.is_empty() {
                *next = slice.end_seq_num();
                count -= slice.len() as u64;
                bytes = bytes.saturating_sub(slice.metered() as u64);
                page.slices.push(slice);
            }
            if page.progress == Progress::Done || room == Cut::Short {
                break;
            }
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{ReadBounds, Timestamp, testing};

    fn batches(first: u64, lens: &[usize], body: usize) -> Vec<Batch> {
        let mut next = SeqNum::new(first);
        let batch = |&len: &usize| {
            let input = testing::uniform_input(len, body);
            let batch = Batch::sequence(&input.batch, next, |_| Timestamp::new(1));
            next = batch.end().seq_num;
            batch
        };
        lens.iter().map(batch).collect()
    }

    fn unbounded() -> Remaining {
        Remaining::new(ReadBounds::default())
    }

    /// First number and length of each page that a reader from `next` on gets of `log`, read in pieces of `budget`.
    fn pages(log: &[Batch], mut next: SeqNum, cut: PageCut, budget: usize) -> Vec<(u64, usize)> {
        let (mut pages, mut made, mut remaining) = (Pages::new(cut), Vec::new(), unbounded());
        let tail = log.last().unwrap().end().seq_num;
        while next < tail {
            while !pages.hold_page(MAX_BATCH_METERED, next, &remaining) && pages.end() != Some(tail) {
                let from = pages.end().unwrap_or(next);
                let mut read = 0;
                let rest = log.iter().filter(|batch| batch.end().seq_num > from);
                pages.extend(rest.cloned().take_while(|batch| {
                    let more = read < budget;
                    read += batch.metered();
                    more
                }));
            }
            let first = next;
            let page = pages.take(MAX_BATCH_METERED, &mut next, &mut remaining);
            made.push((first.get(), page.slices.iter().map(BatchSlice::len).sum()));
        }
        made
    }

    #[test]
    fn readers_that_began_apart_get_the_same_pages() {
        let log = batches(0, &[700; 10], 10);
        let aligned = |from| pages(&log, SeqNum::new(from), PageCut::Aligned, 1 << 20);
        assert_eq!(aligned(0)[..3], [(0, 1000), (1000, 1000), (2000, 1000)]);
        assert_eq!(aligned(1234)[..2], [(1234, 766), (2000, 1000)]);
        assert_eq!(aligned(1234)[1..], aligned(0)[2..]);
        assert_eq!(pages(&log, SeqNum::new(1234), PageCut::Full, 1 << 20)[0], (1234, 1000));
    }

    #[test]
    fn what_was_trimmed_meanwhile_leaves_no_gap_in_a_page() {
        let mut pages = Pages::new(PageCut::Aligned);
        pages.extend(batches(0, &[3], 10));
        pages.extend(batches(5, &[2], 10));
        let mut next = SeqNum::FIRST;
        let page = pages.take(MAX_BATCH_METERED, &mut next, &mut unbounded());
        assert_eq!(page.slices.iter().map(BatchSlice::first_seq_num).collect::<Vec<_>>(), [SeqNum::new(5)]);
        assert_eq!(next, SeqNum::new(7));
    }

    proptest! {
        /// However the log was cut into batches and is read, pages end where they end.
        #[test]
        fn pages_do_not_depend_on_how_they_were_read(
            lens in prop::collection::vec(1usize..600, 1..12),
            body in prop_oneof![Just(20), Just(1200), Just(3000)],
            budget in prop_oneof![Just(1usize), Just(300_000), Just(1 << 20)],
            from in 0u64..100,
        ) {
            // A batch holds at most 1 MiB.
            let lens: Vec<_> = lens.into_iter().map(|len| len.min((1 << 20) / (body + 8))).collect();
            let (log, single) = (batches(0, &lens, body), batches(0, &vec![1; lens.iter().sum()], body));
            let from = SeqNum::new(from.min(lens.iter().sum::<usize>() as u64 - 1));
            let pieces = pages(&log, from, PageCut::Aligned, budget);
            prop_assert_eq!(&pieces, &pages(&single, from, PageCut::Aligned, 1 << 20));
            let most = (1usize << 20) / (body + 8);
            prop_assert!(pieces.iter().all(|&(_, records)| records >= 1 && records <= most.min(1000)));
            let full = |&(first, records): &(u64, usize)| records == most || (first + records as u64).is_multiple_of(1000);
            prop_assert!(pieces[..pieces.len() - 1].iter().all(full), "only the last page is short: {:?}", pieces);
        }
    }
}
