//! Bytes of memory that are counted against a limit. Knows not what they are used for.

pub mod pages;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// A part of the process's memory, and how much of it is taken. It counts and refuses nothing: whoever takes more than
/// there is sees to it that it becomes less.
#[derive(Debug)]
pub struct Share {
    limit: usize,
    used: AtomicUsize,
}

impl Share {
    /// So many bytes, none of them taken.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// Bytes that it is.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether more is taken than there is.
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// Bytes that are not taken.
    pub fn left(&self) -> usize {
        self.limit.saturating_sub(self.used())
    }

    /// Counts `bytes` as taken.
    pub fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Relaxed);
    }

    /// Counts `bytes`, which were taken, as free again.
    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

/// Bytes of a share that are taken until this is dropped.
#[derive(Debug)]
pub struct Held {
    share: Arc<Share>,
    bytes: usize,
}

impl Held {
    /// None yet.
    pub fn nothing_of(share: Arc<Share>) -> Self {
        Self { share, bytes: 0 }
    }

    /// The share.
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// Bytes that are taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// From now on `bytes` are taken.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.share.take(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.share.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// All that is taken, for another to give back.
    #[must_use]
    pub fn hand_over(&mut self) -> Self {
        let nothing = Self::nothing_of(self.share.clone());
        std::mem::replace(self, nothing)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Entries that an empty queue keeps room for at most.
const ROOM: usize = 64;

/// Lets go of the room that `queue` grew to, if it is empty: whoever was busy once may be idle for long, and there may be
/// thousands of them. One that is busy again soon grows again at little cost.
pub(crate) fn let_go_of_room<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > ROOM {
        queue.shrink_to(ROOM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_queue_lets_go_of_its_room() {
        let mut queue: VecDeque<_> = (0..1000).collect();
        queue.truncate(1);
        let_go_of_room(&mut queue);
        assert!(queue.capacity() >= 1000, "it is in use");
        queue.clear();
        let_go_of_room(&mut queue);
        assert!((1..=2 * ROOM).contains(&queue.capacity()), "{}", queue.capacity());
    }

    #[test]
    fn what_is_taken_is_given_back() {
        let share = Arc::new(Share::new(10));
        let (mut one, mut two) = (Held::nothing_of(share.clone()), Held::nothing_of(share.clone()));
        one.set(4);
        two.set(8);
        assert_eq!((share.used(), share.left(), share.is_exceeded()), (12, 0, true));
        one.set(2);
        assert_eq!((share.used(), share.left(), share.is_exceeded()), (10, 0, false));
        drop(two);
        assert_eq!((share.used(), share.left()), (2, 8));
        let handed_over = one.hand_over();
        drop(one);
        assert_eq!((share.used(), handed_over.bytes()), (2, 2));
        drop(handed_over);
        assert_eq!(share.used(), 0);
    }
}
