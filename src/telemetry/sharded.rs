//! What all threads write and hardly anybody reads: one copy for each of some threads, put together when it is asked for.
//!
//! ```text
//! thread 0, 16 … ──► copy 0 ─┐
//! thread 1, 17 … ──► copy 1 ─┼─► sum, when Prometheus asks
//!        …              …   ─┘
//! ```
//!
//! A number that two processors count up in turns is moved from one to the other each time, which takes longer than all
//! else that is done for a small batch.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// More than that many threads share copies, which costs time and nothing else.
const COPIES: usize = 16;

/// A copy of its own for each of some threads.
#[derive(Debug, Default)]
pub(super) struct Sharded<T>([Apart<T>; COPIES]);

/// Processors move memory in pieces of 64 bytes, some of them two at a time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T> Sharded<T> {
    /// The copy of this thread.
    pub(super) fn mine(&self) -> &T {
        &self.0[PLACE.with(|place| *place)].0
    }

    /// Adds up `part` of all copies. Each is read as it is at some moment.
    pub(super) fn sum(&self, part: impl Fn(&T) -> u64) -> u64 {
        self.0.iter().map(|copy| part(&copy.0)).sum()
    }
}

static NEXT_PLACE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: usize = NEXT_PLACE.fetch_add(1, Relaxed) % COPIES;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn nothing_is_lost_whoever_counts() {
        let count = Sharded::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * COPIES {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        count.mine().fetch_add(1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(count.sum(|copy| copy.load(Relaxed)), 2000 * COPIES as u64);
    }

    #[test]
    fn copies_lie_apart() {
        assert!(align_of::<Apart<u8>>() >= 128 && size_of::<Sharded<u8>>() >= 128 * COPIES);
    }
}
