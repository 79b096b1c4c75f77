//! A session's turn at the bytes that all sessions together may have in flight. Knows no batch and no stream.
//!
//! ```text
//! in line ──► given ──► fetched
//!               └────── not fetched in time ──► given back; the session waits anew when it comes
//! ```
//!
//! Whoever is next in line is given bytes whether or not they come for them, and a session does not come while its
//! client takes no acks: nobody polls it. Some dozens of such clients would otherwise keep everybody's bytes for good.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that were given are given back if they are not fetched for so long, and less than twice as long at most.
const FETCHED_WITHIN: Duration = Duration::from_secs(1);

/// A session's place before the budget of all.
pub(super) struct InFlight {
    budget: Arc<Semaphore>,
    /// None before the session has to wait for the first time.
    wait: Option<Arc<Mutex<Wait>>>,
}

#[derive(Default)]
struct Wait {
    turn: Turn,
    /// Whether a task looks after it.
    is_watched: bool,
}

#[derive(Default)]
enum Turn {
    #[default]
    NotWanted,
    InLine {
        permit: Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>,
        session: Waker,
    },
    Given(OwnedSemaphorePermit),
}

impl InFlight {
    pub(super) fn of(budget: Arc<Semaphore>) -> Self {
        Self { budget, wait: None }
    }

    /// So many bytes, as soon as it is this session's turn. They must not be more than there are at all.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, bytes: u32) -> Poll<OwnedSemaphorePermit> {
        let is_wanted = self.wait.as_ref().is_some_and(|wait| locked(wait).is_wanted());
        if !is_wanted && let Ok(permit) = self.budget.clone().try_acquire_many_owned(bytes) {
            return Poll::Ready(permit);
        }
        let wait = self.wait.get_or_insert_default();
        let mut waits = locked(wait);
        if let Turn::NotWanted = waits.turn {
            let permit = self.budget.clone().acquire_many_owned(bytes);
            let permit = Box::pin(async { permit.await.expect("the budget is never closed") });
            waits.turn = Turn::InLine { permit, session: cx.waker().clone() };
        }
        let turn = waits.poll(cx);
        if turn.is_pending() && !waits.is_watched {
            waits.is_watched = true;
            tokio::spawn(watch(Arc::downgrade(wait)));
        }
        turn
    }

    /// Leaves the line.
    pub(super) fn give_up(&mut self) {
        self.wait = None;
    }
}

impl Wait {
    const fn is_wanted(&self) -> bool {
        !matches!(self.turn, Turn::NotWanted)
    }

    /// The session comes for what it waits for.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        match &mut self.turn {
            Turn::InLine { permit, session } => {
                session.clone_from(cx.waker());
                let permit = ready!(permit.as_mut().poll(cx));
                self.turn = Turn::NotWanted;
                Poll::Ready(permit)
            }
            turn => match std::mem::take(turn) {
                Turn::Given(permit) => Poll::Ready(permit),
                Turn::NotWanted | Turn::InLine { .. } => Poll::Pending,
            },
        }
    }

    /// Gives back what was there already at the last look. Says whether to look again.
    fn look(&mut self) -> bool {
        match &mut self.turn {
            Turn::InLine { permit, session } => {
                if let Poll::Ready(permit) = permit.as_mut().poll(&mut Context::from_waker(session)) {
                    session.wake_by_ref();
                    self.turn = Turn::Given(permit);
                }
            }
            Turn::Given(_) | Turn::NotWanted => *self = Self::default(),
        }
        self.is_watched
    }
}

/// Looks after a session's wait while it goes on.
async fn watch(wait: Weak<Mutex<Wait>>) {
    loop {
        tokio::time::sleep(FETCHED_WITHIN).await;
        match wait.upgrade() {
            Some(wait) if locked(&wait).look() => {}
            _ => return,
        }
    }
}

fn locked(wait: &Mutex<Wait>) -> MutexGuard<'_, Wait> {
    wait.lock().unwrap_or_else(PoisonError::into_inner)
}
