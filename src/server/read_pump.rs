//! The body of a read session: batches and heartbeats in, frames, chunks out (`s2s.md` §7).
//!
//! Polled where the response is written. It knows no HTTP.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    bell::{AfterChunk, Chunks},
    chunk::Chunk,
    page_cache::{PageCache, PageKey},
    read_feed::ReadFeed,
};
use crate::{
    streams::{ReadEvent, Stage},
    telemetry::{OpenGuard, Telemetry},
    types::{ApiError, BatchSlice, Compression, Position},
    wire::{self, Advice, FrameBuf},
};

/// A read session on its way into a response body.
pub(super) struct ReadPump {
    feed: ReadFeed,
    compression: Compression,
    pages: Arc<PageCache>,
    telemetry: Arc<Telemetry>,
    over: bool,
    _open: OpenGuard,
}

impl ReadPump {
    pub(super) fn new(
        feed: ReadFeed,
        compression: Compression,
        pages: Arc<PageCache>,
        telemetry: Arc<Telemetry>,
        open: OpenGuard,
    ) -> Self {
        Self { feed, compression, pages, telemetry, over: false, _open: open }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

impl Chunks for ReadPump {
    type Chunk = Chunk;

    /// The frames of what comes next, in one piece; nothing more when the session is over.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        if self.over {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.feed.poll_next(cx)) {
            Some(Ok(event)) => Some(self.chunk(event)),
            Some(Err(error)) => Some(self.fail(&error).into()),
            None => {
                self.over = true;
                None
            }
        })
    }

    fn after_chunk(&self) -> AfterChunk {
        match self.feed.waits() && !self.over {
            true => AfterChunk::Waits,
            false => AfterChunk::MayHaveMore,
        }
    }
}

impl ReadPump {
    fn chunk(&mut self, event: ReadEvent) -> Chunk {
        let is_shared = matches!(event, ReadEvent::Followed(_)) || self.compression == Compression::None;
        let frames = self.frames(event, self.feed.phase().advice());
        let on_its_way = self.feed.on_its_way().map(|sent| match is_shared {
            true => sent,
            // What was compressed is not in there. (If a page of it is kept for others, that counts as a page, too.)
            false => sent.made_into(frames.len()),
        });
        Chunk::of_reader(frames, on_its_way)
    }

    fn frames(&mut self, event: ReadEvent, advice: Advice) -> FrameBuf {
        let (count, frames) = match event {
            ReadEvent::Heartbeat(tail) => (1, wire::heartbeat_frame(tail, advice).into()),
            ReadEvent::Followed(batches) => {
                let mut frames = FrameBuf::default();
                for batch in batches.iter() {
                    frames.append(wire::follow_frame(batch, self.compression, advice));
                }
                (batches.len() as u64, frames)
            }
            ReadEvent::Records { slices, tail, stage } => (1, self.page(&slices, tail, stage, advice)),
        };
        self.telemetry.sent(count, frames.len());
        frames
    }

    /// The frames of a page, shared with the readers that come next if compressing it is worth keeping.
    ///
    /// A tail that lies ahead of the page moves on while others catch up, and would make another page of it for each;
    /// of what was just appended it is told all the same (`s2s.md` §7.3).
    fn page(&self, slices: &[BatchSlice], tail: Position, stage: Stage, advice: Advice) -> FrameBuf {
        let (first, last) = (slices.first(), slices.last());
        match (wire::is_worth_sharing(slices, self.compression), self.feed.shared_stream(), first, last) {
            (true, Some(stream), Some(first), Some(last)) => {
                let (first, end) = (first.first_seq_num(), last.end_seq_num());
                let tail = (stage == Stage::Following || tail.seq_num == end).then_some(tail);
                let key = PageKey { stream, first, end, tail, compression: self.compression };
                let frame = self.pages.frame(key, || wire::page_frame(slices, tail, self.compression));
                wire::with_advice(frame, advice)
            }
            _ => wire::read_frames(slices, Some(tail), self.compression, advice),
        }
    }

    fn fail(&mut self, error: &ApiError) -> FrameBuf {
        self.over = true;
        self.telemetry.error(error.label());
        let frame = wire::terminal_frame(error);
        self.telemetry.sent(1, frame.len());
        frame.into()
    }
}
