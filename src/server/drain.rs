//! Stopping gently: who is told what, and when (`s2s.md` §8). Knows no connection and no session.
//!
//! ```text
//! Serving ── told to stop ──► Advising ── deadline ──► Ending
//!                             frames carry             sessions end with
//!                             the reconnect flag       `server_draining`
//! ```

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Waker},
};

use slab::Slab;

use crate::wire::Advice;

/// How far the stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    Advising,
    Ending,
}

impl Phase {
    const ALL: [Phase; 3] = [Phase::Serving, Phase::Advising, Phase::Ending];

    /// What the frames of sessions carry.
    pub(super) const fn advice(self) -> Advice {
        match self {
            Phase::Serving => Advice::None,
            Phase::Advising | Phase::Ending => Advice::Reconnect,
        }
    }
}

/// The stop of the whole process. It only goes forward.
#[derive(Debug, Default)]
pub(super) struct Drain {
    phase: AtomicU8,
    /// Sessions, to be woken at the end. Frames that go out anyway carry the advice, so that wakes nobody.
    sessions: Mutex<Slab<Option<Waker>>>,
}

impl Drain {
    pub(super) fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Acquire))]
    }

    pub(super) fn advise(&self) {
        self.phase.fetch_max(Phase::Advising as u8, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.phase.fetch_max(Phase::Ending as u8, Ordering::Release);
        let wakers: Vec<_> = self.sessions().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn watch(self: &Arc<Self>) -> DrainWatch {
        let place = self.sessions().insert(None);
        DrainWatch { drain: self.clone(), place, registered: None }
    }

    fn sessions(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's view of the stop.
#[derive(Debug)]
pub(super) struct DrainWatch {
    drain: Arc<Drain>,
    place: usize,
    /// The waker left with the drain, so that polling again by the same task takes no lock.
    registered: Option<Waker>,
}

impl DrainWatch {
    /// How far the stop has come; the task of `cx` is woken at the end.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Phase {
        if !self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.registered = Some(cx.waker().clone());
            self.drain.sessions()[self.place] = Some(cx.waker().clone());
        }
        // After registering, or an end in between would be missed.
        self.drain.phase()
    }
}

impl Drop for DrainWatch {
    fn drop(&mut self) {
        self.drain.sessions().remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Wake};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn sessions_are_woken_at_the_end_and_not_before() {
        let drain = Arc::new(Drain::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        let mut watch = drain.watch();
        assert_eq!(watch.poll(&cx), Phase::Serving);
        drain.advise();
        assert_eq!((watch.poll(&cx), count.0.load(Ordering::Relaxed)), (Phase::Advising, 0));
        drain.end();
        assert_eq!((watch.poll(&cx), count.0.load(Ordering::Relaxed)), (Phase::Ending, 1));
        drain.advise();
        assert_eq!(watch.poll(&cx), Phase::Ending, "it only goes forward");
    }

    #[test]
    fn a_session_that_is_gone_is_forgotten() {
        let drain = Arc::new(Drain::default());
        drop(drain.watch());
        assert!(drain.sessions().is_empty());
    }
}
