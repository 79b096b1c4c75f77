//! Who waits for a stream's durable tail, and how far it must have come for each. Knows no stream.
//!
//! A session has one place here for as long as it lives, so that waiting again costs little more than storing a waker.
//! Those for whom the tail has not come far enough cost nothing when it moves: a thousand sessions that append to one
//! stream each wait for an ack of their own.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, binary_heap::PeekMut},
    mem,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Wake, Waker},
};

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
    /// Whoever waits for a tail that can come is in here; what nobody waits for any more may be too.
    wanted: BinaryHeap<Wanted>,
    /// Nothing in `wanted` is more.
    most_wanted: SeqNum,
}

/// What is wanted in which slot. Only what is wanted counts in comparisons, and less of it is the greater: a heap gives
/// the greatest first, and has little to do where many want the same.
#[derive(Clone, Copy)]
struct Wanted {
    tail: SeqNum,
    slot: usize,
}

/// Entries that may be in the queue for nobody beside as many as there are slots: fewer are not worth looking for.
const SPARE: usize = 32;

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
                *self = Self::default();
                Left::Nobody
            }
            false => {
                self.forget_the_gone();
                Left::Others
            }
        }
    }

    /// Those that came and went while the tail stood still must not pile up.
    fn forget_the_gone(&mut self) {
        if self.wanted.len() > 2 * self.slots.len() + SPARE {
            let Self { slots, wanted, .. } = self;
            wanted.retain(|wanted| slots.get(wanted.slot).is_some_and(|slot| slot.waits_for(wanted.tail)));
        }
    }

    /// From now on the task of `cx` is woken once when the tail reaches `wanted`, and [`SeqNum::MAX`] it never reaches.
    pub(super) fn wait(&mut self, place: &Place, wanted: SeqNum, cx: &Context<'_>) {
        let slot = &mut self.slots[place.0];
        if wanted < SeqNum::MAX && !slot.waits_for(wanted) {
            self.wanted.push(Wanted { tail: wanted, slot: place.0 });
            self.most_wanted = self.most_wanted.max(wanted);
        }
        slot.wanted = wanted;
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Takes the wakers that a tail at `tail` concerns, to be woken when the stream's lock is free again.
    pub(super) fn reached(&mut self, tail: SeqNum) -> Wakers {
        let Self { slots, wanted, most_wanted } = self;
        let are_all_due = *most_wanted <= tail;
        let mut due = Vec::with_capacity(if are_all_due { wanted.len() } else { 0 });
        let mut take = |wanted: Wanted| {
            let waiting = slots.get_mut(wanted.slot).filter(|slot| slot.waits_for(wanted.tail));
            due.extend(waiting.and_then(|slot| slot.waker.take()));
        };
        if are_all_due {
            // Followers mostly want the same, and then there is no order to be kept.
            wanted.drain().for_each(&mut take);
        }
        while let Some(least) = wanted.peek_mut()
            && least.tail <= tail
        {
            take(PeekMut::pop(least));
        }
        Wakers(due)
    }

    /// Takes all wakers: something happened that concerns everyone.
    pub(super) fn everyone(&mut self) -> Wakers {
        self.wanted.clear();
        Wakers(self.slots.iter_mut().filter_map(|(_, slot)| slot.waker.take()).collect())
    }
}

impl Ord for Wanted {
    fn cmp(&self, other: &Self) -> Ordering {
        other.tail.cmp(&self.tail)
    }
}

impl PartialOrd for Wanted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Wanted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Wanted {}

impl Slot {
    fn waits_for(&self, tail: SeqNum) -> bool {
        self.waker.is_some() && self.wanted == tail
    }
}

/// Wakers to be woken outside the lock.
#[must_use = "who is not woken waits for ever"]
#[derive(Debug, Default)]
pub(super) struct Wakers(Vec<Waker>);

impl Wakers {
    /// Whether to wake them one by one costs more than to have it done.
    pub(super) fn are_many(&self) -> bool {
        self.0.len() > 2
    }

    pub(super) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }

    /// Wakes everyone when the worker of the runtime that this is called on next looks for I/O: when it has nothing else
    /// to do, or in between. Outside of the runtime, at once.
    ///
    /// Who is woken by a task is offered at once to a worker that sleeps. For the first of many, that one wakes up, maybe
    /// on the processor of the one that wakes them, finds a single task to take, and sleeps again, and the same for the
    /// next. Who is woken while a worker looks for I/O is offered afterwards, and half of them are taken in one go. The
    /// way to be woken there is to yield.
    pub(super) fn wake_together(self) {
        let waker = Waker::from(Arc::new(Together(Mutex::new(self))));
        // Woken in any case, at the latest when the last one lets go of the waker.
        let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
    }
}

/// Wakes them all when it is woken itself, or when nobody can wake it any more.
struct Together(Mutex<Wakers>);

impl Together {
    fn wake_all(&self) {
        let wakers = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.wake();
    }
}

impl Wake for Together {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn ten(count: &Arc<Count>) -> Wakers {
        Wakers((0..10).map(|_| Waker::from(count.clone())).collect())
    }

    #[test]
    fn outside_of_the_runtime_all_are_woken_at_once() {
        let count = Arc::new(Count::default());
        ten(&count).wake_together();
        assert_eq!(count.0.load(Relaxed), 10);
    }

    #[tokio::test]
    async fn inside_they_are_woken_when_the_task_has_given_way() {
        let count = Arc::new(Count::default());
        ten(&count).wake_together();
        assert_eq!(count.0.load(Relaxed), 0);
        tokio::task::yield_now().await;
        assert_eq!(count.0.load(Relaxed), 10, "each once");
    }

    #[test]
    fn they_are_woken_although_the_runtime_ends() {
        let count = Arc::new(Count::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (waking, inside) = (count.clone(), runtime.handle().clone());
        drop(inside.spawn(async move { ten(&waking).wake_together() }));
        drop(runtime);
        assert_eq!(count.0.load(Relaxed) % 10, 0, "all, or the task never ran");
        assert_eq!(Arc::strong_count(&count), 1, "and nobody is left");
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
        assert_eq!((near.0.load(Relaxed), far.0.load(Relaxed)), (0, 0));
        waiters.reached(SeqNum::new(5)).wake();
        waiters.reached(SeqNum::new(6)).wake();
        assert_eq!((near.0.load(Relaxed), far.0.load(Relaxed)), (1, 0));
        waiters.everyone().wake();
        assert_eq!((near.0.load(Relaxed), far.0.load(Relaxed)), (1, 1));
    }

    /// What a session does, or what happens to all of them.
    #[derive(Clone, Debug)]
    enum Step {
        Enter,
        Leave(usize),
        Wait(usize, u64),
        Reached(u64),
        Everyone,
    }

    fn step() -> impl Strategy<Value = Step> {
        let wanted = prop_oneof![8 => 0..20u64, 1 => Just(u64::MAX)];
        prop_oneof![
            2 => Just(Step::Enter),
            2 => any::<usize>().prop_map(Step::Leave),
            8 => (any::<usize>(), wanted).prop_map(|(who, wanted)| Step::Wait(who, wanted)),
            4 => (0..20u64).prop_map(Step::Reached),
            1 => Just(Step::Everyone),
        ]
    }

    /// A session, what wakes it, and what it waits for.
    type Session = (Place, Arc<Count>, Option<u64>);

    fn expect(sessions: &mut [Session], wakers: Wakers, is_due: impl Fn(u64) -> bool) {
        let woken = |session: &Session| session.1.0.load(Relaxed);
        let before: Vec<_> = sessions.iter().map(woken).collect();
        wakers.wake();
        for (session, before) in sessions.iter_mut().zip(before) {
            let due = session.2.take_if(|wanted| is_due(*wanted)).is_some();
            assert_eq!(woken(session) - before, usize::from(due));
        }
    }

    proptest! {
        #[test]
        fn whoever_is_due_is_woken_and_nobody_else(steps in vec(step(), 0..200)) {
            let (mut waiters, mut sessions) = (Waiters::default(), Vec::<Session>::new());
            for step in steps {
                let who = |who: usize| who.checked_rem(sessions.len());
                match step {
                    Step::Enter => sessions.push((waiters.enter(), Arc::default(), None)),
                    Step::Leave(session) => if let Some(session) = who(session) {
                        waiters.leave(&sessions.swap_remove(session).0);
                    },
                    Step::Wait(session, wanted) => if let Some(session) = who(session) {
                        let (place, count, waits_for) = &mut sessions[session];
                        let waker = Waker::from(count.clone());
                        waiters.wait(place, SeqNum::new(wanted), &Context::from_waker(&waker));
                        *waits_for = Some(wanted);
                    },
                    Step::Reached(tail) => {
                        let wakers = waiters.reached(SeqNum::new(tail));
                        expect(&mut sessions, wakers, |wanted| wanted <= tail);
                    }
                    Step::Everyone => {
                        let wakers = waiters.everyone();
                        expect(&mut sessions, wakers, |_| true);
                    }
                }
            }
        }
    }

    #[test]
    fn who_comes_and_goes_leaves_nothing() {
        let mut waiters = Waiters::default();
        let _stays = waiters.enter();
        for wanted in 1..10_000 {
            let place = waiters.enter();
            waiters.wait(&place, SeqNum::new(wanted), &Context::from_waker(Waker::noop()));
            waiters.leave(&place);
        }
        assert!(waiters.wanted.len() <= SPARE + 4, "{}", waiters.wanted.len());
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
