//! Who waits for a stream's durable tail, and how far it must have come for each. Knows no stream.
//!
//! A session has one place here for as long as it lives, so that waiting again costs no more than storing a waker.

use std::task::{Context, Waker};

use slab::Slab;

use crate::types::SeqNum;

/// A session's place among the waiters of its stream.
#[derive(Debug)]
pub(super) struct Place(usize);

/// Who is left among the waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Others,
    Nobody,
}

#[derive(Default)]
pub(super) struct Waiters {
    slots: Slab<Slot>,
}

#[derive(Default)]
struct Slot {
    /// The durable tail that wakes it; any tail at or past this one does.
    wanted: SeqNum,
    waker: Option<Waker>,
}

impl Waiters {
    pub(super) fn enter(&mut self) -> Place {
        Place(self.slots.insert(Slot::default()))
    }

    /// Says whether that was the last of them; then nothing is kept for them either.
    pub(super) fn leave(&mut self, place: &Place) -> Left {
        self.slots.remove(place.0);
        match self.slots.is_empty() {
            true => {
                self.slots = Slab::new();
                Left::Nobody
            }
            false => Left::Others,
        }
    }

    /// From now on the task of `cx` is woken once when the tail reaches `wanted`.
    pub(super) fn wait(&mut self, place: &Place, wanted: SeqNum, cx: &Context<'_>) {
        let slot = &mut self.slots[place.0];
        slot.wanted = wanted;
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Takes the wakers that a tail at `tail` concerns, to be woken when the stream's lock is free again.
    pub(super) fn reached(&mut self, tail: SeqNum) -> Wakers {
        let due = self.slots.iter_mut().filter(|(_, slot)| slot.wanted <= tail);
        Wakers(due.filter_map(|(_, slot)| slot.waker.take()).collect())
    }

    /// Takes all wakers: something happened that concerns everyone.
    pub(super) fn everyone(&mut self) -> Wakers {
        self.reached(SeqNum::MAX)
    }
}

/// Wakers to be woken outside the lock.
#[must_use = "who is not woken waits for ever"]
#[derive(Default)]
pub(super) struct Wakers(Vec<Waker>);

impl Wakers {
    pub(super) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_who_wanted_that_much_is_woken_and_only_once() {
        let (near, far) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (near_waker, far_waker) = (Waker::from(near.clone()), Waker::from(far.clone()));
        let mut waiters = Waiters::default();
        let (near_place, far_place) = (waiters.enter(), waiters.enter());
        waiters.wait(&near_place, SeqNum::new(5), &Context::from_waker(&near_waker));
        waiters.wait(&far_place, SeqNum::new(9), &Context::from_waker(&far_waker));

        waiters.reached(SeqNum::new(4)).wake();
        assert_eq!((near.0.load(Ordering::Relaxed), far.0.load(Ordering::Relaxed)), (0, 0));
        waiters.reached(SeqNum::new(5)).wake();
        waiters.reached(SeqNum::new(6)).wake();
        assert_eq!((near.0.load(Ordering::Relaxed), far.0.load(Ordering::Relaxed)), (1, 0));
        waiters.everyone().wake();
        assert_eq!((near.0.load(Ordering::Relaxed), far.0.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn a_place_left_is_free_again() {
        let mut waiters = Waiters::default();
        let (place, other) = (waiters.enter(), waiters.enter());
        assert_eq!(waiters.leave(&place), Left::Others);
        assert_eq!(waiters.enter().0, place.0);
        assert_eq!(waiters.leave(&place), Left::Others);
        assert_eq!(waiters.leave(&other), Left::Nobody);
        assert_eq!(waiters.slots.capacity(), 0);
    }
}
