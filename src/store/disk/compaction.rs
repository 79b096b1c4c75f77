//! Gives back the space of segments: deletes those that nobody needs, and moves what is needed out of those that are
//! mostly not, a little at a time. Knows not why something is not needed any more.
//!
//! ```text
//! less than half live ──► walk: (key, length, batch), (key, length, batch), …
//!                               still what the key points to? ──► the writer writes it to the current segment
//! nothing live ──► deleted
//! ```
//!
//! What cannot be read is left where it is, with the segment that it stands in.

use std::{collections::BTreeSet, thread, time::Duration};

use tokio::sync::oneshot;

use super::{
    deletions::Deletions,
    engine::{Engine, EngineError},
    format::{FrameHead, SegmentNumber},
    queue::{Queue, Relocated, Relocation, Request},
    space::{Purpose, Space},
};
use crate::store::StoreError;

/// Bytes that are moved in one write.
const STEP: u64 = 4 * 1024 * 1024;
/// Batches that are looked at for one write.
const MOST_LOOKED_AT: usize = 512;
/// How long to wait for room.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    More,
}

/// The segments, and how far it has come with one of them.
pub(super) struct Compaction<'a> {
    engine: &'a Engine,
    queue: &'a Queue,
    space: &'a Space,
    deletions: &'a Deletions,
    walk: Option<Walk>,
    /// What is live in them cannot be moved.
    stuck: BTreeSet<SegmentNumber>,
}

#[derive(Clone, Copy)]
struct Walk {
    segment: SegmentNumber,
    at: u64,
    end: u64,
}

impl<'a> Compaction<'a> {
    pub(super) const fn new(engine: &'a Engine, queue: &'a Queue, space: &'a Space, deletions: &'a Deletions) -> Self {
        Self { engine, queue, space, deletions, walk: None, stuck: BTreeSet::new() }
    }

    /// Does a little.
    pub(super) fn step(&mut self) -> Left {
        self.delete_empty();
        let Some(walk) = self.walk.take().or_else(|| self.begin()) else { return Left::Nothing };
        match self.go_on(walk) {
            Ok(walk) => self.walk = walk,
            // Too much waits to be written: the same again, later.
            Err(StoreError::Full(_)) => self.walk = Some(walk),
            // The next start goes on.
            Err(StoreError::Closed(_)) => return Left::Nothing,
            Err(error) => {
                tracing::warn!(segment = walk.segment.0, %error, "giving back the space of a segment failed");
                self.stuck.insert(walk.segment);
            }
        }
        Left::More
    }

    fn delete_empty(&self) {
        for path in self.engine.segments().take_empty() {
            if let Err(error) = self.deletions.delete(&path) {
                tracing::warn!(path = %path.display(), %error, "a segment is deleted by the next start");
            }
        }
    }

    /// Chooses a segment, which is not written to any more.
    fn begin(&mut self) -> Option<Walk> {
        let segment = self.engine.segments().worth_moving(&self.stuck)?;
        // Refused by a store that ends or failed, or by a full queue: the next removal tries again.
        self.relocate(segment, Vec::new()).ok()?;
        let end = self.engine.segments().usage(segment)?.written;
        Some(Walk { segment, at: 0, end })
    }

    /// Moves some batches; where to go on, if that was not all.
    fn go_on(&mut self, mut walk: Walk) -> Result<Option<Walk>, StoreError> {
        // It may have become empty by itself.
        if self.engine.segments().usage(walk.segment).is_none() {
            return Ok(None);
        }
        if self.space.take(STEP, Purpose::Free).is_err() {
            thread::sleep(NO_ROOM);
            return Ok(Some(walk));
        }
        let live = self.collect(&mut walk).map_err(|error| error.of_read("a segment"))?;
        if !live.is_empty() {
            self.relocate(walk.segment, live)?;
        }
        if walk.at + FrameHead::LEN as u64 <= walk.end {
            return Ok(Some(walk));
        }
        if self.engine.segments().usage(walk.segment).is_some_and(|usage| usage.live > 0) {
            self.stuck.insert(walk.segment);
        }
        Ok(None)
    }

    /// Live batches from where `walk` is on.
    fn collect(&self, walk: &mut Walk) -> Result<Vec<Relocated>, EngineError> {
        let look = self.engine.look();
        let (mut live, mut bytes) = (Vec::new(), 0);
        for _ in 0..MOST_LOOKED_AT {
            if walk.at + FrameHead::LEN as u64 > walk.end || bytes >= STEP {
                break;
            }
            let (key, pointer) = self.engine.segments().frame(walk.segment, walk.at).map_err(EngineError::failed)?;
            walk.at = pointer.end();
            if pointer.end() <= walk.end && look.has_pointer(&key, &pointer)? {
                match self.engine.value_behind(&key, &pointer) {
                    Ok(value) => {
                        bytes += value.len() as u64;
                        live.push(Relocated { key, pointer, value });
                    }
                    Err(error) => tracing::warn!(segment = walk.segment.0, %error, "a batch is left where it is"),
                }
            }
        }
        Ok(live)
    }

    fn relocate(&self, from: SegmentNumber, batches: Vec<Relocated>) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.queue.push(Request::Move(Relocation { from, batches, done }))?;
        answer.blocking_recv().unwrap_or_else(|_| Err(StoreError::Closed("the writer ended".into())))
    }
}
