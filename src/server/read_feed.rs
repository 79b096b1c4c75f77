//! What the body of a read session is made from, whatever its form: the session's events as they come or fall due, and
//! the ends that the server's stop and the reader's token put to it. Knows no frame and no event stream.
//!
//! Polled where the response is written; its one timer is the runtime's.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::time::Sleep;

use super::{
    drain::{DrainWatch, Phase},
    errors,
    identity::SessionGuard,
};
use crate::{
    clock,
    streams::{OnItsWay, ReadEvent, ReadSession},
    types::{ApiError, StreamId},
};

/// A read session, its timer, and its view of what may end it from outside.
pub(super) struct ReadFeed {
    session: ReadSession,
    drain: DrainWatch,
    guard: SessionGuard,
    /// How far the stop had come when this was last polled.
    phase: Phase,
    /// Made when something is first due; a reader that is sent records all the time never needs it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl ReadFeed {
    pub(super) fn new(session: ReadSession, drain: DrainWatch, guard: SessionGuard) -> Self {
        Self { session, drain, guard, phase: Phase::Serving, timer: None }
    }

    /// How far the server's stop had come at the last poll.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The stream whose records it shows as they are stored, if it does.
    pub(super) fn shared_stream(&self) -> Option<StreamId> {
        self.session.shared_stream()
    }

    /// What the reader is to be told next; nothing more at the regular end. After an error it is not polled again.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ReadEvent, ApiError>>> {
        self.phase = self.drain.poll(cx);
        if self.phase == Phase::Ending {
            return Poll::Ready(Some(Err(errors::draining("go on reading elsewhere"))));
        }
        if let Some(ended) = self.guard.poll_end(cx) {
            return Poll::Ready(Some(Err(ended)));
        }
        loop {
            if let Poll::Ready(next) = self.session.poll_next(cx, clock::instant()) {
                return Poll::Ready(next.map(|event| event.map_err(errors::api_error)));
            }
            match self.session.next_deadline() {
                Some(deadline) if self.poll_timer(deadline, cx).is_ready() => {}
                _ => return Poll::Pending,
            }
        }
    }

    /// What was just given, as memory that counts until the reader has taken it.
    pub(super) fn on_its_way(&mut self) -> Option<OnItsWay> {
        self.session.on_its_way()
    }

    /// Whether nothing is there behind the event that was just given, and the task is woken for what comes and for what
    /// falls due.
    pub(super) fn waits(&self) -> bool {
        let is_timed = match self.session.next_deadline() {
            None => true,
            // One that runs out early wakes the task, and is moved on then.
            Some(deadline) => self.timer.as_ref().is_some_and(|timer| wakes_by(timer, deadline)),
        };
        is_timed && self.session.waits()
    }

    /// Ready once `deadline` has passed. While records flow the deadline moves on with each of them; the timer is left
    /// where it was and moved only when it has run out, or is too late.
    fn poll_timer(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            match timer.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if timer.deadline() >= deadline => return Poll::Ready(()),
                Poll::Ready(()) => timer.as_mut().reset(deadline),
            }
        }
    }
}

/// Whether `timer`, which was polled, will wake its task at `deadline` at the latest.
fn wakes_by(timer: &Sleep, deadline: Instant) -> bool {
    !timer.is_elapsed() && timer.deadline().into_std() <= deadline
}
