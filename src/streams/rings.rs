//! What the rings of all streams keep together, and which of them give way when that is too much. Knows no record.
//!
//! ```text
//!            asked for batches           those that have something left
//!  ring ◄─────────────────────  line  ◄──────────────────────────────── ring, ring, …
//! ```
//!
//! A ring enters the line with its first batch and leaves it when it is empty. An append into a ring that is in the line
//! takes no lock here, and as long as there is room it costs no more than counting. When there is none, whoever put a
//! batch in asks the rings at the front of the line: what they give up is at least a batch each, so the work is that of
//! the batches that came in.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::ring::Rest;
use crate::memory::Share;

/// Has a ring.
pub(super) trait Keeper {
    /// Asks the ring to give up batches.
    fn give_up(&self) -> Rest;
}

/// The rings of all streams.
pub(super) struct Rings<K> {
    share: Arc<Share>,
    line: Mutex<Line<K>>,
}

struct Line<K> {
    keepers: VecDeque<Weak<K>>,
    /// How many must be in line before those that are gone are looked for.
    tidy_at: usize,
}

impl<K> Line<K> {
    const SHORT: usize = 64;

    /// Those that are gone would otherwise stay in it for as long as there is room.
    fn push(&mut self, keeper: Weak<K>) {
        if self.keepers.len() >= self.tidy_at {
            self.keepers.retain(|keeper| keeper.strong_count() > 0);
            self.tidy_at = Self::SHORT.max(2 * self.keepers.len());
        }
        self.keepers.push_back(keeper);
    }
}

impl<K: Keeper> Rings<K> {
    /// No ring yet; together they may keep `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        let line = Line { keepers: VecDeque::new(), tidy_at: Line::<K>::SHORT };
        Self { share: Arc::new(Share::new(limit)), line: Mutex::new(line) }
    }

    /// What batches in rings are counted against.
    pub(super) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// Puts a ring that has its first batch into the line.
    pub(super) fn join(&self, keeper: Weak<K>) {
        self.line().push(keeper);
    }

    /// Makes the rings give up what is too much. The caller holds no stream's lock.
    pub(super) fn make_room(&self) {
        while self.share.is_exceeded() {
            let Some(front) = self.line().keepers.pop_front() else { return };
            // One that is gone has given back what it kept.
            let Some(keeper) = front.upgrade() else { continue };
            if keeper.give_up() == Rest::Something {
                self.line().push(front);
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line<K>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        streams::ring::Ring,
        types::{SeqNum, testing},
    };

    struct Stream(Mutex<(Ring, u64)>);

    impl Keeper for Stream {
        fn give_up(&self) -> Rest {
            self.0.lock().unwrap().0.give_up()
        }
    }

    struct World {
        rings: Rings<Stream>,
        streams: Vec<Arc<Stream>>,
    }

    impl World {
        fn new(streams: usize, limit: usize) -> Self {
            let rings = Rings::new(limit);
            let stream = || Arc::new(Stream(Mutex::new((Ring::new(rings.share().clone()), 0))));
            Self { streams: (0..streams).map(|_| stream()).collect(), rings }
        }

        fn append(&self, stream: usize) {
            let mut guard = self.streams[stream].0.lock().unwrap();
            let (ring, next) = &mut *guard;
            ring.push(testing::batch(*next, &[("a body", 1)]));
            *next += 1;
            let joins = ring.joins();
            drop(guard);
            if joins {
                self.rings.join(Arc::downgrade(&self.streams[stream]));
            }
            self.rings.make_room();
        }

        fn kept(&self, stream: usize) -> usize {
            let mut guard = self.streams[stream].0.lock().unwrap();
            let (ring, next) = &mut *guard;
            (0..*next).filter(|&at| ring.starting_at(SeqNum::new(at), 1).is_some()).count()
        }
    }

    /// What a batch counts for.
    fn batch() -> usize {
        let world = World::new(1, usize::MAX);
        world.append(0);
        world.rings.share().used()
    }

    #[test]
    fn together_they_keep_to_the_limit() {
        let world = World::new(100, 50 * batch());
        for i in 0..1_000 {
            world.append(i * 7 % 100);
            assert!(world.rings.share().used() <= 50 * batch(), "after {i}");
        }
        assert!(world.rings.share().used() >= 25 * batch(), "and use it");
        let kept: usize = (0..100).map(|stream| world.kept(stream)).sum();
        assert!(kept <= 50, "what is counted is what is there: {kept}");
        drop(world.streams);
        assert_eq!(world.rings.share().used(), 0);
    }

    #[test]
    fn the_idle_give_way_to_the_busy() {
        let world = World::new(10, 40 * batch());
        for i in 0..40 {
            world.append(i % 10);
        }
        for _ in 0..200 {
            world.append(0);
        }
        assert!(world.kept(0) >= 20, "{}", world.kept(0));
        assert!((1..10).all(|idle| world.kept(idle) == 0));
        // And they are in the line again when they come back.
        for i in 0..400 {
            world.append(i % 10);
            assert!(world.rings.share().used() <= 40 * batch());
        }
    }

    #[test]
    fn one_that_is_gone_is_left_out() {
        let mut world = World::new(2, 2 * batch());
        world.append(0);
        world.streams.swap_remove(0);
        for _ in 0..10 {
            world.append(0);
        }
        assert!(world.kept(0) >= 1);
        assert_eq!(world.rings.line().keepers.len(), 1);
    }

    #[test]
    fn one_that_is_emptied_time_and_again_is_in_the_line_once() {
        let world = World::new(1, 20 * batch());
        for _ in 0..100 {
            world.append(0);
            world.streams[0].0.lock().unwrap().0.clear();
        }
        assert_eq!(world.rings.line().keepers.len(), 1);
        for _ in 0..100 {
            world.append(0);
            assert!(world.rings.share().used() <= 20 * batch(), "and gives way as ever");
        }
    }

    #[test]
    fn those_that_are_gone_do_not_pile_up() {
        let mut world = World::new(1, usize::MAX);
        for _ in 0..1_000 {
            world.append(0);
            let ring = Ring::new(world.rings.share().clone());
            world.streams = vec![Arc::new(Stream(Mutex::new((ring, 0))))];
        }
        assert!(world.rings.line().keepers.len() <= 64);
        assert_eq!(world.rings.share().used(), 0);
    }
}
