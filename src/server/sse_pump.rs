//! The body of a read session as server-sent events: batches, pings, an error or `[DONE]` (`data-plane.md` §8).
//!
//! Polled where the response is written. It knows no HTTP.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::{chunk::Chunk, read_feed::ReadFeed};
use crate::{
    clock::Clock,
    streams::ReadEvent,
    telemetry::{OpenGuard, Telemetry},
    types::{ApiError, BatchSlice, Position},
    wire::{
        FrameBuf,
        negotiate::S2Format,
        sse::{self, EventId},
    },
};

/// A read session on its way into an event stream.
pub(super) struct SsePump {
    feed: ReadFeed,
    format: S2Format,
    /// How far the reader has come, over all its connections; `None` before its first record.
    delivered: Option<EventId>,
    clock: Arc<dyn Clock>,
    telemetry: Arc<Telemetry>,
    over: bool,
    _open: OpenGuard,
}

/// What a client asked of its event stream.
pub(super) struct SseRequest {
    /// How records stand in the events.
    pub(super) format: S2Format,
    /// What it had got before it lost its connection.
    pub(super) resumes: Option<EventId>,
}

impl SsePump {
    pub(super) fn new(
        feed: ReadFeed,
        request: SseRequest,
        clock: Arc<dyn Clock>,
        telemetry: Arc<Telemetry>,
        open: OpenGuard,
    ) -> Self {
        let SseRequest { format, resumes } = request;
        Self { feed, format, delivered: resumes, clock, telemetry, over: false, _open: open }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The events of what comes next, in one piece; nothing more after the last one.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        while !self.over {
            let events = match ready!(self.feed.poll_next(cx)) {
                Some(Ok(event)) => self.events(event),
                Some(Err(error)) => self.failed(&error),
                None => self.done(),
            };
            // A batch without records is no event.
            if !events.is_empty() {
                let on_its_way = self.feed.on_its_way().map(|sent| sent.made_into(events.len()));
                return Poll::Ready(Some(Chunk::of_reader(events, on_its_way)));
            }
        }
        Poll::Ready(None)
    }

    fn events(&mut self, event: ReadEvent) -> FrameBuf {
        let mut events = FrameBuf::default();
        match event {
            ReadEvent::Heartbeat(tail) => events.push(sse::ping_event(self.clock.now(), tail)),
            ReadEvent::Followed(batches) => {
                batches.iter().for_each(|batch| events.push(self.batch(&[batch.whole()], batch.end())));
            }
            ReadEvent::Records { slices, tail, .. } => events.push(self.batch(&slices, tail)),
        }
        events
    }

    fn batch(&mut self, slices: &[BatchSlice], tail: Position) -> Bytes {
        let Some(id) = EventId::after(self.delivered, slices) else { return Bytes::new() };
        self.delivered = Some(id);
        sse::batch_event(id, slices, Some(tail), self.format)
    }

    fn failed(&mut self, error: &ApiError) -> FrameBuf {
        self.over = true;
        self.telemetry.error(error.label());
        sse::error_event(error).into()
    }

    fn done(&mut self) -> FrameBuf {
        self.over = true;
        sse::DONE_EVENT.into()
    }
}
