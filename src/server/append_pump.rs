//! The body of an append session: chunks in, frames, inputs; acks, frames, chunks out (`s2s.md` §6).
//!
//! It is polled where the response is written, so reading, admitting and acknowledging cost no task and no channel. It
//! knows no HTTP: any body of bytes can drive it.
//!
//! ```text
//! request body ─► FrameBuffer ─► AppendInput ─► AppendSession
//!                                                     │
//! response body ◄─ one chunk a wake-up ◄─ ack frames ◄┘      last of all, a terminal frame if something failed
//! ```

use std::{
    collections::VecDeque,
    fmt::Display,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;

use super::{
    bell::{AfterChunk, Chunks},
    chunk::Chunk,
    discard,
    drain::{DrainWatch, Phase},
    errors,
    identity::SessionGuard,
};
use crate::{
    clock,
    memory::{Held, Share, let_go_of_room},
    streams::AppendSession,
    telemetry::{OpenGuard, Telemetry},
    types::{ApiError, AppendInput, ErrorCode},
    wire::{self, Advice, FrameBuffer, FrameError},
};

/// Bytes of frames read ahead while an input waits to be admitted: enough to keep h2's small frames from piling up
/// unread, little enough for thousands of sessions.
const READ_AHEAD: usize = 64 * 1024;

/// Bytes of batches admitted before the acks collected so far are sent and others have their turn: on a fast link more
/// input is always there. As they are in memory, where the smallest take some hundred bytes: inputs of a few bytes each
/// would be tens of thousands otherwise, and a tenth of a second for everybody else.
const ADMITTED_A_CHUNK: usize = 512 * 1024;

/// Bytes that a session may have received and not yet admitted without being counted: an idle session has none, and
/// thousands of busy ones have little.
const NOT_COUNTED: usize = 4 * 1024;

/// An append session between a request body and a response body.
pub(super) struct AppendPump<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    request: Rest<B>,
    frames: FrameBuffer,
    session: AppendSession,
    /// Decoded, and waiting for room in the process's byte budget.
    waiting: Option<AppendInput>,
    /// What of this was counted as memory of sessions.
    held: Held,
    /// When each input in flight had come in, in order.
    came_in: VecDeque<Instant>,
    /// What ended the session on this side of the stream; told when all that was accepted is acknowledged.
    refusal: Option<ApiError>,
    drain: DrainWatch,
    guard: SessionGuard,
    telemetry: Arc<Telemetry>,
    /// What came in since that was last told.
    untold: CameIn,
    /// How taking inputs ended the last time.
    intake: Intake,
    over: bool,
    _open: OpenGuard,
}

/// What of a request is still to come.
enum Rest<B> {
    More(B),
    Nothing,
    /// It broke off, for this reason, before its end came.
    Lost(String),
}

/// Counted for itself and told once a wake-up: what all sessions count together is written by all processors.
#[derive(Default)]
struct CameIn {
    frames: u64,
    bytes: usize,
}

impl<B: Body<Data = Bytes, Error: Display> + Send + Unpin + 'static> AppendPump<B> {
    pub(super) fn new(
        request: B,
        session: AppendSession,
        drain: DrainWatch,
        guard: SessionGuard,
        telemetry: Arc<Telemetry>,
        memory: Arc<Share>,
        open: OpenGuard,
    ) -> Self {
        Self {
            held: Held::nothing_of(memory),
            request: Rest::More(request),
            frames: FrameBuffer::new(),
            session,
            waiting: None,
            came_in: VecDeque::new(),
            refusal: None,
            drain,
            guard,
            telemetry,
            untold: CameIn::default(),
            intake: Intake::Waits,
            over: false,
            _open: open,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Inputs of which it could note when they came in without taking more memory.
    #[cfg(test)]
    pub(super) fn room_for_times(&self) -> usize {
        self.came_in.capacity()
    }
}

impl<B: Body<Data = Bytes, Error: Display> + Send + Unpin + 'static> Chunks for AppendPump<B> {
    type Chunk = Chunk;

    /// The frames that are ready, in one piece; nothing more when the session is over.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        if self.over {
            return Poll::Ready(None);
        }
        let phase = self.drain.poll(cx);
        if phase == Phase::Ending && self.session.is_open() {
            self.refuse(errors::draining("send what is not acknowledged again"));
        }
        if let Some(ended) = self.guard.poll_end(cx)
            && self.session.is_open()
        {
            self.refuse(ended);
        }
        self.intake = self.take_inputs(cx);
        self.tell_what_came_in();
        let mut out = BytesMut::new();
        self.put_outcomes(cx, phase.advice(), &mut out);
        if self.over {
            self.let_go();
        }
        self.count_memory();
        match (out.is_empty(), self.over) {
            (false, _) => Poll::Ready(Some(out.freeze().into())),
            (true, true) => Poll::Ready(None),
            (true, false) => {
                if self.intake == Intake::Full {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    /// All inputs that had come in were taken, and all that can be told of them was.
    fn after_chunk(&self) -> AfterChunk {
        match (self.intake, self.over) {
            (Intake::Waits, false) => AfterChunk::Waits,
            _ => AfterChunk::MayHaveMore,
        }
    }
}

impl<B: Body<Data = Bytes, Error: Display> + Send + Unpin + 'static> AppendPump<B> {
    /// Admits what has arrived.
    fn take_inputs(&mut self, cx: &mut Context<'_>) -> Intake {
        // One time for all inputs of a wake-up: they had come in before it.
        let (mut admitted, mut now) = (0, None);
        while self.session.is_open() {
            if admitted >= ADMITTED_A_CHUNK {
                return Intake::Full;
            }
            if let Some(input) = &self.waiting {
                if self.session.poll_append(cx, input).is_pending() {
                    self.read_ahead(cx);
                    return Intake::Waits;
                }
                admitted += input.batch.sequenced_memory();
                self.waiting = None;
                continue;
            }
            match self.next_input(cx) {
                Poll::Ready(Ok(Some(input))) => {
                    self.came_in.push_back(*now.get_or_insert_with(clock::instant));
                    self.waiting = Some(input);
                }
                Poll::Ready(Ok(None)) => self.session.close(),
                Poll::Ready(Err(error)) => self.refuse(error),
                Poll::Pending => return Intake::Waits,
            }
        }
        Intake::Waits
    }

    fn tell_what_came_in(&mut self) {
        let CameIn { frames, bytes } = mem::take(&mut self.untold);
        if bytes > 0 {
            self.telemetry.received(frames, bytes);
        }
    }

    fn next_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<AppendInput>, ApiError>> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => {
                    self.untold.frames += 1;
                    let input = wire::append_input_of_frame(frame);
                    let input = input.map_err(|error| errors::input_error(error, ErrorCode::BadFrame));
                    return Poll::Ready(input.and_then(|input| self.guard.permit(&input).map(|()| Some(input))));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(bad_frame(error))),
            }
            match self.poll_request(cx) {
                Poll::Ready(Some(chunk)) => self.frames.push(chunk),
                Poll::Ready(None) => return Poll::Ready(self.finish().map(|()| None)),
                Poll::Pending if self.is_in_the_way() => {
                    let error = "too much memory is taken by frames that are not complete; send this one again";
                    return Poll::Ready(Err(ApiError::new(ErrorCode::RateLimited, error)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether the end may come here: behind a frame, and not of a request of which more should have come (`s2s.md` §3.4).
    fn finish(&self) -> Result<(), ApiError> {
        if let Rest::Lost(reason) = &self.request {
            return Err(ApiError::new(ErrorCode::BadFrame, format!("the request broke off: {reason}")));
        }
        self.frames.finish().map_err(bad_frame)
    }

    /// The next chunk of the request.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while let Rest::More(request) = &mut self.request {
            match Pin::new(request).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) if chunk.has_remaining() => {
                        self.untold.bytes += chunk.len();
                        return Poll::Ready(Some(chunk));
                    }
                    // An empty chunk, or trailers, which mean nothing here.
                    _ => {}
                },
                Poll::Ready(Some(Err(error))) => self.request = Rest::Lost(error.to_string()),
                Poll::Ready(None) => self.request = Rest::Nothing,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        while self.frames.buffered() < READ_AHEAD && !self.held.share().is_exceeded() {
            match self.poll_request(cx) {
                Poll::Ready(Some(chunk)) => self.frames.push(chunk),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// Whether memory is used up while a large part of a frame is kept here, of which the rest may never come.
    fn is_in_the_way(&self) -> bool {
        self.frames.buffered() > READ_AHEAD && self.held.share().is_exceeded()
    }

    /// The client may take its time with the last frames; nothing is kept for it meanwhile.
    fn let_go(&mut self) {
        self.waiting = None;
        self.frames = FrameBuffer::new();
        if let Rest::More(request) = mem::replace(&mut self.request, Rest::Nothing) {
            discard::rest(request);
        }
    }

    fn count_memory(&mut self) {
        let waiting = self.waiting.as_ref().map_or(0, |input| input.batch.sequenced_memory());
        let bytes = self.frames.buffered() + waiting;
        self.held.set(if bytes < NOT_COUNTED { 0 } else { bytes });
    }

    fn refuse(&mut self, error: ApiError) {
        self.waiting = None;
        self.refusal = Some(error);
        self.session.close();
    }

    fn put_outcomes(&mut self, cx: &mut Context<'_>, advice: Advice, out: &mut BytesMut) {
        let (mut acks, mut now) = (0, None);
        let end = loop {
            match self.session.poll_ack(cx) {
                Poll::Ready(Some(Ok(ack))) => {
                    wire::put_append_ack(out, &ack, advice);
                    acks += 1;
                    if let Some(came_in) = self.came_in.pop_front() {
                        // One time for all acks of a wake-up, and none for a wake-up without acks.
                        let now = *now.get_or_insert_with(clock::instant);
                        self.telemetry.acked(now.saturating_duration_since(came_in));
                    }
                }
                Poll::Ready(Some(Err(failure))) => break Some(Some(errors::api_error(failure))),
                Poll::Ready(None) => break Some(self.refusal.take()),
                Poll::Pending => break None,
            }
        };
        if let Some(error) = end {
            self.over = true;
            if let Some(error) = error {
                self.telemetry.error(error.label());
                out.extend_from_slice(&wire::terminal_frame(&error));
                acks += 1;
            }
        }
        if acks > 0 {
            self.telemetry.sent(acks, out.len());
            let_go_of_room(&mut self.came_in);
        }
    }
}

/// How taking inputs ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// Nothing more is to be had now; the task is woken when there is.
    Waits,
    /// There may be more, once what was admitted is on its way.
    Full,
}

fn bad_frame(error: FrameError) -> ApiError {
    ApiError::new(ErrorCode::BadFrame, error.to_string())
}
