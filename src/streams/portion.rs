//! How much a reader is sent at a time, and how much of it may be on its way: the less memory is left for sessions, the
//! less. Knows no stream.
//!
//! ```text
//! kept here ──► sent ──► on its way: with HTTP, in full until the last byte of it is written ──► gone
//!               └── not before less than two portions are on their way
//! ```
//!
//! HTTP takes what it is given whether or not the reader takes it, and holds it then. So what was sent counts for as long
//! as it is there ([`OnItsWay`]), and a reader that stalls holds a few portions, not a queue. It waits for nothing but its
//! own: whatever others hold, each reader is sent the least portion once all that it was sent before is gone.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use super::ReadEvent;
use crate::{
    memory::{Held, Share},
    types::{Batch, BatchSlice, Loans, Others, limits::MAX_BATCH_METERED},
};

/// Metered bytes of a portion at the least; a record larger than that is sent all the same.
const LEAST: usize = 8 * 1024;

/// What is left of the share is enough for so many portions.
const PORTIONS: usize = 32;

/// Less is not counted by itself: to count costs the same, however little it is.
const NOT_COUNTED: usize = 4 * 1024;

/// What was not counted by itself is once there is so much of it together.
const TOGETHER: usize = 8 * 1024;

/// What one reader holds.
pub(super) struct Portion {
    /// What is kept for it.
    kept: Held,
    share: Arc<Share>,
    /// None before anything of it was counted.
    way: Option<Arc<Way>>,
    /// Bytes that it was sent and that were too few to be counted.
    uncounted: usize,
    /// What was sent last, until whoever sends it asks for it.
    sent: Option<OnItsWay>,
    /// Whether it was found that too much is on its way.
    waits: bool,
}

/// What is on its way to one reader.
#[derive(Debug)]
struct Way {
    share: Arc<Share>,
    bytes: AtomicUsize,
    /// Who waits for it to become less.
    session: Mutex<Option<Waker>>,
}

/// A part of what a reader was sent: counted as memory of sessions until this is dropped, which is to be kept with the
/// bytes that were made of it.
#[derive(Debug)]
pub struct OnItsWay {
    way: Arc<Way>,
    /// All of it.
    bytes: usize,
    /// As much of it was sent before, and was too little to be counted then.
    before: usize,
    /// What is there for this reader alone, and counted for it alone.
    alone: usize,
    /// What other readers have too.
    first: Option<Lent>,
    rest: Vec<Lent>,
}

/// A batch that is sent as it is: counted once, however many readers have it on their way.
#[derive(Debug)]
struct Lent {
    loans: Arc<Loans>,
    bytes: usize,
}

impl Portion {
    /// Nothing yet.
    pub(super) fn of(share: Arc<Share>) -> Self {
        let kept = Held::nothing_of(share.clone());
        Self { kept, share, way: None, uncounted: 0, sent: None, waits: false }
    }

    /// Metered bytes that the reader may be sent now.
    pub(super) fn room(&self) -> usize {
        (self.share.left() / PORTIONS).clamp(LEAST, MAX_BATCH_METERED)
    }

    /// Whether memory is so short that nothing is to be kept for the reader beyond what it is sent.
    pub(super) fn is_tight(&self) -> bool {
        self.share.left() < self.share.limit() / 8
    }

    /// Ready once the reader may be sent more. Until then the task of `cx` is woken whenever something is gone.
    #[inline]
    pub(super) fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.sent.is_some() {
            self.sent = None;
        }
        self.waits = false;
        match &self.way {
            Some(way) if way.bytes() >= 2 * LEAST => self.poll_way(cx),
            _ => Poll::Ready(()),
        }
    }

    fn poll_way(&mut self, cx: &Context<'_>) -> Poll<()> {
        let Some(way) = &self.way else { return Poll::Ready(()) };
        let room = 2 * self.room();
        // Looked at again when the waker is there: what is gone before that wakes nobody.
        self.waits = way.bytes() >= room && {
            *way.session() = Some(cx.waker().clone());
            way.bytes() >= room
        };
        match self.waits {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// Whether the last look was in vain.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// `bytes` are kept for the reader.
    pub(super) fn keeps(&mut self, bytes: usize) {
        self.kept.set(if bytes < NOT_COUNTED { 0 } else { bytes });
    }

    /// The reader is sent `event`.
    pub(super) fn send(&mut self, event: &mut ReadEvent) {
        if let ReadEvent::Records { slices, .. } = event
            && self.is_tight()
        {
            slices.iter_mut().for_each(let_go_of_the_rest);
        }
        let (before, bytes) = (self.uncounted, memory(event));
        self.uncounted += bytes;
        if bytes >= NOT_COUNTED || self.uncounted >= TOGETHER {
            self.uncounted = 0;
            self.sent = Some(self.count(event, before, bytes));
        }
    }

    /// What was sent last, if it counts: to be kept until the reader has taken it.
    #[inline]
    pub(super) fn take_sent(&mut self) -> Option<OnItsWay> {
        match self.sent {
            Some(_) => self.sent.take(),
            None => None,
        }
    }

    /// Counts `event`, which is `bytes`, and what was not counted `before`.
    fn count(&mut self, event: &ReadEvent, before: usize, bytes: usize) -> OnItsWay {
        let new = || Arc::new(Way { share: self.share.clone(), bytes: AtomicUsize::new(0), session: Mutex::default() });
        let way = self.way.get_or_insert_with(new).clone();
        let bytes = before + bytes;
        let mut lent = lent(event).map(|batch| Lent::of(batch, &way.share));
        let (first, rest) = (lent.next(), lent.collect::<Vec<_>>());
        let alone = bytes - first.iter().chain(&rest).map(|lent| lent.bytes).sum::<usize>();
        way.bytes.fetch_add(bytes, Relaxed);
        way.share.take(alone);
        OnItsWay { way, bytes, before, alone, first, rest }
    }
}

impl Way {
    fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    fn session(&self) -> MutexGuard<'_, Option<Waker>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OnItsWay {
    /// What was sent last was made into `bytes` bytes, for this reader alone, and nothing of what it was made from is in
    /// there.
    #[must_use]
    pub fn made_into(mut self, bytes: usize) -> Self {
        let bytes = self.before + bytes;
        self.way.share.take(bytes);
        self.way.share.give_back(self.alone);
        self.way.bytes.fetch_add(bytes, Relaxed);
        self.way.bytes.fetch_sub(self.bytes, Relaxed);
        self.give_back_lent();
        (self.bytes, self.alone) = (bytes, bytes);
        self
    }

    fn give_back_lent(&mut self) {
        let Some(first) = self.first.take() else { return };
        first.give_back(&self.way.share);
        for lent in self.rest.drain(..) {
            lent.give_back(&self.way.share);
        }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.give_back_lent();
        self.way.share.give_back(self.alone);
        self.way.bytes.fetch_sub(self.bytes, Relaxed);
        let session = self.way.session().take();
        if let Some(session) = session {
            session.wake();
        }
    }
}

impl Lent {
    fn of(batch: &Batch, share: &Share) -> Self {
        let (loans, bytes) = (batch.loans().clone(), batch.memory());
        if loans.begin() == Others::Nobody {
            share.take(bytes);
        }
        Self { loans, bytes }
    }

    fn give_back(self, share: &Share) {
        if self.loans.end() == Others::Nobody {
            share.give_back(self.bytes);
        }
    }
}

/// The batches that the reader is sent as they are, unless they are small.
fn lent(event: &ReadEvent) -> impl Iterator<Item = &Batch> {
    let followed = match event {
        ReadEvent::Followed(batches) => Some(batches.iter()),
        ReadEvent::Records { .. } | ReadEvent::Heartbeat(_) => None,
    };
    followed.into_iter().flatten().filter(|batch| batch.memory() >= NOT_COUNTED)
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
    use std::task::Wake;

    use super::*;
    use crate::{
        streams::{Followed, Stage},
        types::{Position, testing},
    };

    fn large() -> Batch {
        let body = "x".repeat(10_000);
        testing::batch(0, &[(body.as_str(), 1); 10])
    }

    fn share() -> Arc<Share> {
        Arc::new(Share::new(64 << 20))
    }

    fn followed(batches: &[&Batch]) -> ReadEvent {
        let slices: Vec<_> = batches.iter().map(|batch| batch.whole()).collect();
        ReadEvent::Followed(Followed::whole(&slices).expect("they are whole"))
    }

    fn records(batch: &Batch) -> ReadEvent {
        ReadEvent::Records { slices: vec![batch.whole()], tail: Position::default(), stage: Stage::CatchingUp }
    }

    /// What counts of `event` when it is sent.
    fn sent(reader: &mut Portion, mut event: ReadEvent) -> Option<OnItsWay> {
        reader.send(&mut event);
        reader.take_sent()
    }

    fn may_be_sent_more(reader: &mut Portion) -> bool {
        reader.poll_sent(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn portions_shrink_with_what_is_left() {
        let share = share();
        let mut readers: Vec<_> = (0..100).map(|_| Portion::of(share.clone())).collect();
        let mut last = usize::MAX;
        for reader in &mut readers {
            let room = reader.room();
            assert!(room <= last);
            last = room;
            reader.keeps(room);
        }
        assert!((LEAST..MAX_BATCH_METERED / 4).contains(&last), "{last}");
        assert!(!share.is_exceeded() && readers[0].is_tight());
        share.take(64 << 20);
        assert_eq!(readers[0].room(), LEAST);
        drop(readers);
        assert_eq!(share.used(), 64 << 20);
    }

    #[test]
    fn what_is_sent_counts_until_it_is_gone() {
        let (share, batch) = (share(), large());
        let mut reader = Portion::of(share.clone());
        let first = sent(&mut reader, records(&batch));
        assert_eq!(share.used(), batch.memory());
        assert!(may_be_sent_more(&mut reader), "of two portions it is less");
        let second = sent(&mut reader, records(&batch));
        assert_eq!(share.used(), 2 * batch.memory(), "the first is on its way still");
        drop(reader);
        assert_eq!(share.used(), 2 * batch.memory(), "although its session is over");
        drop(first);
        assert_eq!(share.used(), batch.memory());
        drop(second);
        assert_eq!(share.used(), 0);
    }

    #[test]
    fn what_nobody_keeps_is_gone_when_the_next_is_asked_for() {
        let share = share();
        let mut reader = Portion::of(share.clone());
        reader.send(&mut records(&large()));
        assert!(share.used() > 0);
        assert!(may_be_sent_more(&mut reader));
        assert_eq!(share.used(), 0);
    }

    #[test]
    fn a_batch_that_many_follow_counts_once() {
        let (share, batch) = (share(), large());
        let mut readers: Vec<_> = (0..10).map(|_| Portion::of(share.clone())).collect();
        let mut on_their_way: Vec<_> =
            readers.iter_mut().map(|reader| sent(reader, followed(&[&batch, &batch]))).collect();
        assert_eq!(share.used(), batch.memory());
        assert_eq!(
            readers[0].way.as_ref().expect("counted").bytes(),
            2 * batch.memory(),
            "each has its own on its way"
        );
        while let Some(_gone) = on_their_way.pop() {
            assert_eq!(share.used(), batch.memory(), "somebody has it");
        }
        assert_eq!(share.used(), 0);
    }

    #[test]
    fn what_is_made_for_one_reader_alone_counts_for_it_alone() {
        let (share, batch) = (share(), large());
        let mut readers = [Portion::of(share.clone()), Portion::of(share.clone())];
        let events = readers.each_mut().map(|reader| sent(reader, followed(&[&batch])).map(|sent| sent.made_into(9)));
        assert_eq!(share.used(), 18);
        assert_eq!(readers[0].way.as_ref().expect("counted").bytes(), 9);
        drop(events);
        assert_eq!((share.used(), readers[0].way.as_ref().expect("counted").bytes()), (0, 0));
    }

    #[test]
    fn little_counts_once_it_is_enough() {
        let (share, small) = (share(), testing::batch(0, &[("small", 1)]));
        let mut reader = Portion::of(share.clone());
        let enough = TOGETHER.div_ceil(small.memory());
        for _ in 1..enough {
            assert!(sent(&mut reader, followed(&[&small])).is_none());
        }
        let counted = sent(&mut reader, followed(&[&small]));
        assert_eq!(share.used(), enough * small.memory());
        drop(counted);
        assert_eq!(share.used(), 0);
        for _ in 1..enough {
            assert!(sent(&mut reader, followed(&[&small])).is_none(), "from the beginning");
        }
        let alone = sent(&mut reader, followed(&[&small])).map(|sent| sent.made_into(9));
        assert_eq!(share.used(), (enough - 1) * small.memory() + 9);
        drop(alone);
        assert_eq!(share.used(), 0);
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_waits_until_what_it_has_on_its_way_is_gone() {
        let (share, batch, woken) = (share(), large(), Arc::new(Count::default()));
        let waker = Waker::from(woken.clone());
        let mut reader = Portion::of(share.clone());
        share.take(64 << 20);
        let (first, second) = (sent(&mut reader, records(&batch)), sent(&mut reader, records(&batch)));
        for (gone, times) in [(first, 1), (second, 2)] {
            assert!(reader.poll_sent(&Context::from_waker(&waker)).is_pending());
            assert!(reader.waits());
            drop(gone);
            assert_eq!(woken.0.load(Relaxed), times);
        }
        assert!(reader.poll_sent(&Context::from_waker(&waker)).is_ready(), "whatever others hold");
        assert!(!reader.waits());
    }

    #[test]
    fn where_memory_is_short_a_record_does_not_keep_its_batch() {
        for (limit, is_alone) in [(64 << 20, false), (1 << 10, true)] {
            let mut reader = Portion::of(Arc::new(Share::new(limit)));
            reader.share.take(if is_alone { limit } else { 0 });
            let slice = large().starting_at(crate::types::SeqNum::new(8)).unwrap();
            let mut event =
                ReadEvent::Records { slices: vec![slice.clone()], tail: Position::default(), stage: Stage::CatchingUp };
            reader.send(&mut event);
            let ReadEvent::Records { slices, .. } = event else { panic!() };
            assert_eq!(slices[0].batch().memory() < 30_000, is_alone, "{limit}");
            assert_eq!((slices[0].bytes(), slices[0].metered()), (slice.bytes(), slice.metered()));
            assert!(slices[0].records().eq(slice.records()));
        }
    }
}
