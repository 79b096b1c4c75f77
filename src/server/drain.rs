//! Stopping gently: who is told what, and when (`s2s.md` §8). Knows no connection and no session.
//!
//! ```text
//! Serving ── told to stop ──► Advising ── deadline ──► Ending
//!                             frames carry             sessions end with
//!                             the reconnect flag       `server_draining`
//! ```

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use crate::{
    watchers::{Watchers, Watching},
    wire::Advice,
};

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
    /// To be woken when the stop begins, to say so to their peers.
    connections: Arc<Watchers>,
    /// To be woken at the end. Frames that go out anyway carry the advice, so that wakes none of them.
    sessions: Arc<Watchers>,
}

impl Drain {
    pub(super) fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Acquire))]
    }

    pub(super) fn advise(&self) {
        self.phase.fetch_max(Phase::Advising as u8, Ordering::Release);
        self.connections.wake();
    }

    pub(super) fn end(&self) {
        self.phase.fetch_max(Phase::Ending as u8, Ordering::Release);
        self.sessions.wake();
    }

    /// Waits until the deadline of the stop has come.
    pub(super) async fn ending(self: &Arc<Self>) {
        let mut watch = self.watch();
        poll_fn(|cx| match watch.poll(cx) {
            Phase::Ending => Poll::Ready(()),
            Phase::Serving | Phase::Advising => Poll::Pending,
        })
        .await;
    }

    /// A session's view of it.
    pub(super) fn watch(self: &Arc<Self>) -> DrainWatch {
        DrainWatch { drain: self.clone(), watching: self.sessions.watch() }
    }

    /// A connection's view of it.
    pub(super) fn watch_beginning(self: &Arc<Self>) -> DrainWatch {
        DrainWatch { drain: self.clone(), watching: self.connections.watch() }
    }
}

/// The view of the stop that a session or a connection has.
#[derive(Debug)]
pub(super) struct DrainWatch {
    drain: Arc<Drain>,
    watching: Watching,
}

impl DrainWatch {
    /// How far the stop has come; the task of `cx` is woken at the end, or that of a connection at the beginning.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Phase {
        self.watching.register(cx);
        self.drain.phase()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn it_only_goes_forward() {
        let drain = Arc::new(Drain::default());
        let cx = Context::from_waker(Waker::noop());
        let mut watch = drain.watch();
        assert_eq!(watch.poll(&cx), Phase::Serving);
        drain.advise();
        assert_eq!(watch.poll(&cx), Phase::Advising);
        drain.end();
        assert_eq!(watch.poll(&cx), Phase::Ending);
        drain.advise();
        assert_eq!(watch.poll(&cx), Phase::Ending);
    }
}
