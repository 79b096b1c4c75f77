//! Wakes tasks at a time, to within some hundredths of a millisecond: the runtime's own timers tick once a millisecond,
//! which is more than an append takes. One thread, for all tasks of a run. Knows nothing of what is paced.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::Waker,
    thread,
    time::Instant,
};

use crate::clock;

/// The thread that wakes; it ends when this is dropped.
pub(super) struct Pacer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    alarms: Mutex<Alarms>,
    changed: Condvar,
}

#[derive(Default)]
struct Alarms {
    /// The next one on top.
    set: BinaryHeap<Reverse<Alarm>>,
    ended: bool,
}

struct Alarm {
    due: Instant,
    waker: Waker,
}

impl Pacer {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        thread::Builder::new().name("pacer".into()).spawn(move || watched.run())?;
        Ok(Self(shared))
    }

    /// Has `waker` woken at `due`.
    pub(super) fn wake_at(&self, due: Instant, waker: Waker) {
        let mut alarms = self.0.lock();
        let is_next = alarms.set.peek().is_none_or(|Reverse(next)| due < next.due);
        alarms.set.push(Reverse(Alarm { due, waker }));
        drop(alarms);
        if is_next {
            self.0.changed.notify_one();
        }
    }

    /// Wakes everyone now: there is something to look at.
    pub(super) fn wake_all(&self) {
        let woken = mem::take(&mut self.0.lock().set);
        woken.into_iter().for_each(|Reverse(alarm)| alarm.waker.wake());
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        let mut alarms = self.lock();
        while !alarms.ended {
            let now = clock::instant();
            alarms = match alarms.set.peek() {
                None => self.changed.wait(alarms).unwrap_or_else(PoisonError::into_inner),
                Some(Reverse(next)) if next.due > now => {
                    let wait = next.due.duration_since(now);
                    self.changed.wait_timeout(alarms, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    let woken = alarms.set.pop();
                    drop(alarms);
                    woken.into_iter().for_each(|Reverse(alarm)| alarm.waker.wake());
                    self.lock()
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Alarms> {
        // Nothing panics while it is held.
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        self.due.cmp(&other.due)
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Alarm {}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, task::Wake, time::Duration};

    use super::*;

    struct Bell {
        name: &'static str,
        rung: mpsc::Sender<&'static str>,
    }

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            let _ = self.rung.send(self.name);
        }
    }

    #[test]
    fn alarms_ring_in_order_and_not_before_their_time() {
        let pacer = Pacer::start().unwrap();
        let (rung, heard) = mpsc::channel();
        let bell = |name| Waker::from(Arc::new(Bell { name, rung: rung.clone() }));
        let now = clock::instant();
        let at = |millis| now + Duration::from_millis(millis);
        pacer.wake_at(at(20), bell("second"));
        pacer.wake_at(at(10), bell("first"));
        pacer.wake_at(at(3_600_000), bell("never"));
        assert_eq!(heard.recv(), Ok("first"));
        assert!(clock::instant() >= at(10));
        assert_eq!(heard.recv(), Ok("second"));
        assert!(clock::instant() >= at(20));
        pacer.wake_all();
        assert_eq!(heard.recv(), Ok("never"));
    }
}
