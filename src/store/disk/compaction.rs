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
    format::{FrameHead, Pieces, SegmentNumber},
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
        let Some(segment) = self.walk.map(|walk| walk.segment).or_else(|| self.choose()) else { return Left::Nothing };
        match self.go_on_with(segment) {
            Ok(()) => {}
            // Too much waits to be written: the same again, later.
            Err(StoreError::Full(_)) => thread::sleep(NO_ROOM),
            // The next start goes on.
            Err(StoreError::Closed(_)) => return Left::Nothing,
            Err(error) => {
                tracing::warn!(segment = segment.0, %error, "giving back the space of a segment failed");
                self.walk = None;
                self.stuck.insert(segment);
            }
        }
        Left::More
    }

    fn choose(&self) -> Option<SegmentNumber> {
        self.engine.segments().worth_moving(&self.stuck)
    }

    fn delete_empty(&self) {
        for path in self.engine.segments().take_empty() {
            if let Err(error) = self.deletions.delete(&path) {
                tracing::warn!(path = %path.display(), %error, "a segment is deleted by the next start");
            }
        }
    }

    fn go_on_with(&mut self, segment: SegmentNumber) -> Result<(), StoreError> {
        let walk = match self.walk {
            Some(walk) => walk,
            None => self.begin(segment)?,
        };
        self.walk = Some(walk);
        self.walk = self.go_on(walk)?;
        Ok(())
    }

    /// Has the segment not written to any more.
    fn begin(&self, segment: SegmentNumber) -> Result<Walk, StoreError> {
        self.relocate(segment, Vec::new())?;
        let end = self.engine.segments().usage(segment).map_or(0, |usage| usage.written);
        Ok(Walk { segment, at: 0, end })
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
                        live.push(Relocated { key, pointer, value: Pieces::whole(value) });
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{
        store::disk::{format::Usage, queue::Next, space::Free},
        types::MemoryShares,
    };

    fn open(directory: &Path) -> Engine {
        Engine::open(directory, MemoryShares::of(8 << 20), Default::default()).unwrap()
    }

    /// An engine with a segment that is mostly dead.
    fn with_segment(directory: &Path) -> Engine {
        let engine = open(directory);
        let mut writing = engine.write();
        writing.put_usage(SegmentNumber(1), &Usage { live: 100, written: 1000 });
        writing.commit().unwrap();
        drop(engine);
        fs::write(directory.join("segments/1"), [0; 1000]).unwrap();
        open(directory)
    }

    #[test]
    fn a_full_queue_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, queue) = (with_segment(directory.path()), Queue::default());
        let space = Space::new(Box::new(|| Ok(Free { free: 1 << 40, total: 1 << 40 }))).unwrap();
        let deletions = Deletions::of(directory.path());
        let mut compaction = Compaction::new(&engine, &queue, &space, &deletions);
        while queue.push(Request::Barrier(oneshot::channel().0)).is_ok() {}
        assert_eq!(compaction.step(), Left::More, "it is to be tried again");
        let Next::Write(barriers) = queue.next() else { panic!("something waits") };
        drop(barriers);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                loop {
                    let Next::Write(mut requests) = queue.next() else { panic!("it writes something") };
                    match requests.pop() {
                        Some(Request::Move(Relocation { from, done, .. })) => return done.send(Ok(())).map(|()| from),
                        Some(_) => panic!("it moves something"),
                        // Nothing came for a while.
                        None => {}
                    }
                }
            });
            compaction.step();
            assert_eq!(writer.join().unwrap(), Ok(SegmentNumber(1)));
        });
    }
}
