//! The body of a read session: batches and heartbeats in, frames, chunks out (`s2s.md` §7).
//!
//! Polled where the response is written. It knows no HTTP; its one timer is the runtime's.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::time::Sleep;

use super::{
    append_pump::advice,
    drain::{DrainWatch, Phase},
    identity::SessionGuard,
    respond,
};
use crate::{
    clock,
    streams::{ReadEvent, ReadSession},
    telemetry::{OpenGuard, Telemetry},
    types::{ApiError, Compression, ErrorCode},
    wire::{self, Advice, FrameBuf},
};

/// A read session on its way into a response body.
pub(super) struct ReadPump {
    session: ReadSession,
    compression: Compression,
    drain: DrainWatch,
    guard: SessionGuard,
    telemetry: Arc<Telemetry>,
    /// Made when something is first due; a reader that is sent records all the time never needs it.
    timer: Option<Pin<Box<Sleep>>>,
    over: bool,
    _open: OpenGuard,
}

impl ReadPump {
    pub(super) fn new(
        session: ReadSession,
        compression: Compression,
        drain: DrainWatch,
        guard: SessionGuard,
        telemetry: Arc<Telemetry>,
        open: OpenGuard,
    ) -> Self {
        Self { session, compression, drain, guard, telemetry, timer: None, over: false, _open: open }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The frames of what comes next, in one piece; nothing more when the session is over.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<FrameBuf>> {
        if self.over {
            return Poll::Ready(None);
        }
        let phase = self.drain.poll(cx);
        if phase == Phase::Ending {
            let error = ApiError::new(ErrorCode::ServerDraining, "the server stops; go on reading elsewhere");
            return Poll::Ready(Some(self.fail(&error)));
        }
        if let Some(ended) = self.guard.poll_end(cx) {
            return Poll::Ready(Some(self.fail(&ended)));
        }
        loop {
            match self.session.poll_next(cx, clock::instant()) {
                Poll::Ready(Some(Ok(event))) => return Poll::Ready(Some(self.frames(event, advice(phase)))),
                Poll::Ready(Some(Err(failure))) => {
                    return Poll::Ready(Some(self.fail(&respond::api_error(failure))));
                }
                Poll::Ready(None) => {
                    self.over = true;
                    return Poll::Ready(None);
                }
                Poll::Pending => match self.session.next_deadline() {
                    Some(deadline) if self.poll_timer(deadline, cx).is_ready() => {}
                    _ => return Poll::Pending,
                },
            }
        }
    }

    fn frames(&mut self, event: ReadEvent, advice: Advice) -> FrameBuf {
        let (count, frames) = match event {
            ReadEvent::Heartbeat(tail) => (1, wire::heartbeat_frame(tail, advice).into()),
            ReadEvent::Followed(batches) => {
                let mut frames = FrameBuf::default();
                for batch in &batches {
                    frames.append(wire::follow_frame(batch, self.compression, advice));
                }
                (batches.len() as u64, frames)
            }
            ReadEvent::Records { slices, tail } => {
                (1, wire::read_frames(&slices, Some(tail), self.compression, advice))
            }
        };
        self.telemetry.sent(count, frames.len());
        frames
    }

    fn fail(&mut self, error: &ApiError) -> FrameBuf {
        self.over = true;
        self.telemetry.error(error.label());
        let frame = wire::terminal_frame(error);
        self.telemetry.sent(1, frame.len());
        frame.into()
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
