//! What waits for the writer: in the order it came, within a budget. Knows nothing of what becomes of it.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    format::{BatchKey, LogNumber, Pieces, Pointer, Released, SegmentNumber, StoredHead},
    locked,
    log::Log,
};
use crate::{
    store::{MetaWrite, StoreError, Version},
    types::{SeqNum, StreamId},
};

/// Bytes of batches that may wait. Whoever appends has a budget of its own; this is for those who have none.
const MOST_BYTES: usize = 256 * 1024 * 1024;
const MOST_REQUESTS: usize = 1 << 18;
/// Bytes after which the rest waits for the next write, so that the first need not wait for the last, and whoever was
/// told has sent more by the time that the next is written. With less, disks that are slow to sync would be slow at all.
const WRITE_BYTES: usize = 2 * 1024 * 1024;
/// How long the writer waits for requests before it looks whether the engine still works.
const IDLE: Duration = Duration::from_millis(500);

/// Something to be written.
pub(super) enum Request {
    Append(Append),
    /// To let go of the beginning of a log.
    Trim {
        log: Arc<Log>,
        released: Released,
        done: Reply<()>,
    },
    Delete {
        stream: StreamId,
        /// Its log, if that is open.
        log: Option<Arc<Log>>,
        done: Reply<()>,
    },
    /// To remove batches that were let go of.
    Remove(Removal),
    /// To write batches of one segment to another one.
    Move(Relocation),
    /// To write a row of the meta table, or to remove it.
    Row {
        key: Bytes,
        value: Option<Bytes>,
        expected: Version,
        done: Reply<MetaWrite>,
    },
    /// Nothing: its answer comes after what came before it.
    Barrier(Reply<()>),
}

/// A batch, as it will be stored, and the head it leaves behind.
pub(super) struct Append {
    pub(super) log: Arc<Log>,
    pub(super) key: BatchKey,
    pub(super) value: Value,
    /// Without what is known of the released beginning, which may have changed when this is written.
    pub(super) head: StoredHead,
    pub(super) moves: Moves,
}

/// What of the head an append changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moves {
    /// Only the tail, which the batch's key tells.
    Tail,
    /// More than that.
    More,
}

/// The value of a batch, for the place that its key names.
pub(super) enum Value {
    Database(Bytes),
    Segment(Pieces),
}

/// Some batches of a log that begin before `to`.
pub(super) struct Removal {
    pub(super) log: LogNumber,
    /// With pointers to those that stand in segments.
    pub(super) batches: Vec<(BatchKey, Option<Pointer>)>,
    pub(super) to: SeqNum,
    /// Whether these were all.
    pub(super) progress: Progress,
    pub(super) done: Reply<()>,
}

/// Some batches of a segment, which is not written to any more from then on.
///
/// Whoever asks also asks for all removals, and for one thing at a time: what is to be moved is still there then.
pub(super) struct Relocation {
    pub(super) from: SegmentNumber,
    pub(super) batches: Vec<Relocated>,
    pub(super) done: Reply<()>,
}

/// A batch, where it stands, and its bytes there.
pub(super) struct Relocated {
    pub(super) key: BatchKey,
    pub(super) pointer: Pointer,
    pub(super) value: Pieces,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Finished,
}

/// Where an answer is awaited.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// The queue of requests.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Each as much as one write takes, so that taking them moves none of them while others wait for the lock.
    full: VecDeque<Portion>,
    /// Those behind them.
    last: Portion,
    /// Of all.
    requests: usize,
    bytes: usize,
    phase: Phase,
    writer: WriterState,
    /// Those who wait for the writer to have ended.
    at_end: Vec<Reply<()>>,
}

/// Requests for one write.
#[derive(Default)]
struct Portion {
    requests: Vec<Request>,
    bytes: usize,
}

/// What the writer is to do next.
pub(super) enum Next {
    /// To write these at once; nothing, when there was nothing for a while.
    Write(Vec<Request>),
    /// To tell these that nothing is written any more, for this reason.
    Fail(Vec<Request>, Arc<str>),
    End,
}

/// ```text
/// Open ─┬─────────────┬─► Failed     takes no more, nothing is written
///       └─► Closed ───┘              takes no more, what waits is written
/// ```
#[derive(Default)]
enum Phase {
    #[default]
    Open,
    Closed,
    Failed(Arc<str>),
}

#[derive(Default, PartialEq, Eq)]
enum WriterState {
    #[default]
    Busy,
    Waiting,
    /// It is to end when nothing waits any more.
    Ending,
    Ended,
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.value.len(),
            Self::Move(relocation) => relocation.batches.iter().map(|batch| batch.value.len()).sum(),
            Self::Row { key, value, .. } => key.len() + value.as_ref().map_or(0, Bytes::len),
            Self::Trim { .. } | Self::Delete { .. } | Self::Remove(_) | Self::Barrier(_) => 0,
        }
    }

    /// The batches that go to a segment.
    pub(super) fn large(&self) -> impl Iterator<Item = (&BatchKey, &Pieces)> {
        let (appended, moved) = match self {
            Self::Append(Append { key, value: Value::Segment(pieces), .. }) => (Some((key, pieces)), &[][..]),
            Self::Move(relocation) => (None, &relocation.batches[..]),
            _ => (None, &[][..]),
        };
        appended.into_iter().chain(moved.iter().map(|batch| (&batch.key, &batch.value)))
    }

    /// The segment that is not written to any more from this request on.
    pub(super) fn leaves(&self) -> Option<SegmentNumber> {
        match self {
            Self::Move(relocation) => Some(relocation.from),
            _ => None,
        }
    }
}

impl Value {
    fn len(&self) -> usize {
        match self {
            Self::Database(value) => value.len(),
            Self::Segment(pieces) => pieces.len(),
        }
    }
}

impl Queue {
    /// Whether requests are taken; the reason if not.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.lock().phase.check()
    }

    /// Whether nothing is written any more.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().has_failed()
    }

    /// Puts `request` behind all others, if requests are taken.
    pub(super) fn push(&self, request: Request) -> Result<(), StoreError> {
        let waiting = self.lock();
        waiting.phase.check()?;
        waiting.check_room(request.bytes())?;
        self.add(waiting, request);
        Ok(())
    }

    /// Puts a barrier behind all others, also if nothing else is taken any more. Behind the end it stands as well: when the
    /// writer is to end, it is answered when that has.
    pub(super) fn push_barrier(&self, done: Reply<()>) {
        let mut waiting = self.lock();
        let answer = match (&waiting.phase, &waiting.writer) {
            (Phase::Failed(reason), _) => Err(StoreError::Closed(reason.clone())),
            (_, WriterState::Busy | WriterState::Waiting) => return self.add(waiting, Request::Barrier(done)),
            (_, WriterState::Ending) => return waiting.at_end.push(done),
            (_, WriterState::Ended) => Ok(()),
        };
        // Whoever does not wait for the answer does not need it.
        let _ = done.send(answer);
    }

    fn add(&self, mut waiting: MutexGuard<'_, Waiting>, request: Request) {
        waiting.add(request);
        // Waking is a system call: only for a writer that sleeps.
        if waiting.writer == WriterState::Waiting {
            waiting.writer = WriterState::Busy;
            drop(waiting);
            self.came.notify_one();
        }
    }

    /// From now on takes no more requests, for this reason, and has those that wait told so, by the writer: in their turn,
    /// after what it still has to tell. If there was a reason before, that stays.
    pub(super) fn fail(&self, reason: Arc<str>) {
        let mut waiting = self.lock();
        if !waiting.has_failed() {
            waiting.phase = Phase::Failed(reason);
        }
    }

    /// From now on takes no more requests, and tells the writer to end when it has written what waits.
    pub(super) fn end(&self) {
        let mut waiting = self.lock();
        if let Phase::Open = waiting.phase {
            waiting.phase = Phase::Closed;
        }
        if waiting.writer != WriterState::Ended {
            waiting.writer = WriterState::Ending;
        }
        drop(waiting);
        self.came.notify_one();
    }

    /// Called by the writer at its end: those who wait for it, and why nothing was written any more at last.
    pub(super) fn writer_ended(&self) -> (Vec<Reply<()>>, Option<Arc<str>>) {
        let mut waiting = self.lock();
        waiting.writer = WriterState::Ended;
        let failed = match &waiting.phase {
            Phase::Failed(reason) => Some(reason.clone()),
            Phase::Open | Phase::Closed => None,
        };
        (mem::take(&mut waiting.at_end), failed)
    }

    /// Waits for requests, or for the end; for a while only, if something could be written.
    pub(super) fn next(&self) -> Next {
        let mut waiting = self.lock();
        let mut idle = false;
        while waiting.requests == 0 {
            if waiting.writer == WriterState::Ending {
                return Next::End;
            }
            if idle && !waiting.has_failed() {
                waiting.writer = WriterState::Busy;
                return Next::Write(Vec::new());
            }
            waiting.writer = WriterState::Waiting;
            let (woken, timeout) = self.came.wait_timeout(waiting, IDLE).unwrap_or_else(PoisonError::into_inner);
            (waiting, idle) = (woken, timeout.timed_out());
        }
        let requests = waiting.take_for_one_write();
        match &waiting.phase {
            Phase::Failed(reason) => Next::Fail(requests, reason.clone()),
            Phase::Open | Phase::Closed => Next::Write(requests),
        }
    }

    /// The requests for one write, if so many bytes of batches wait and may be written.
    pub(super) fn take_if(&self, at_least: usize) -> Option<Vec<Request>> {
        let mut waiting = self.lock();
        (waiting.bytes >= at_least && !waiting.has_failed()).then(|| waiting.take_for_one_write())
    }

    /// Bytes of batches that wait.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        locked(&self.waiting)
    }
}

impl Waiting {
    const fn has_failed(&self) -> bool {
        matches!(self.phase, Phase::Failed(_))
    }

    fn check_room(&self, bytes: usize) -> Result<(), StoreError> {
        match self.requests < MOST_REQUESTS && self.bytes + bytes <= MOST_BYTES {
            true => Ok(()),
            false => Err(StoreError::Full("too much waits to be written".into())),
        }
    }

    fn add(&mut self, request: Request) {
        let bytes = request.bytes();
        self.requests += 1;
        self.bytes += bytes;
        self.last.requests.push(request);
        self.last.bytes += bytes;
        if self.last.bytes >= WRITE_BYTES {
            self.full.push_back(mem::take(&mut self.last));
        }
    }

    fn take_for_one_write(&mut self) -> Vec<Request> {
        let Portion { requests, bytes } = self.full.pop_front().unwrap_or_else(|| mem::take(&mut self.last));
        self.requests -= requests.len();
        self.bytes -= bytes;
        requests
    }
}

impl Phase {
    fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Open => Ok(()),
            Self::Closed => Err(StoreError::Closed("the store was closed".into())),
            Self::Failed(reason) => Err(StoreError::Closed(reason.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that is so large, as part of a test's own order.
    fn sized(number: u8, bytes: usize) -> Request {
        let (key, value) = (Bytes::copy_from_slice(&[number]), Some(vec![0; bytes - 1].into()));
        Request::Row { key, value, expected: Version::ABSENT, done: oneshot::channel().0 }
    }

    fn numbers(requests: Vec<Request>) -> Vec<u8> {
        let number = |request: &Request| match request {
            Request::Row { key, .. } => key[0],
            _ => panic!("nothing else was pushed"),
        };
        requests.iter().map(number).collect()
    }

    fn to_write(queue: &Queue) -> Vec<u8> {
        match queue.next() {
            Next::Write(requests) => numbers(requests),
            Next::Fail(..) | Next::End => panic!("they are to be written"),
        }
    }

    #[test]
    fn one_write_takes_what_is_large_enough_for_it() {
        let queue = Queue::default();
        for (number, bytes) in [(0, 10), (1, WRITE_BYTES - 11), (2, 1), (3, 1), (4, 10 * WRITE_BYTES), (5, 1), (6, 1)] {
            queue.push(sized(number, bytes)).unwrap();
        }
        assert_eq!(to_write(&queue), [0, 1, 2]);
        assert_eq!(to_write(&queue), [3, 4]);
        queue.push(sized(7, 1)).unwrap();
        assert_eq!(to_write(&queue), [5, 6, 7]);
        assert!(to_write(&queue).is_empty(), "there was nothing for a while");
    }

    #[test]
    fn what_was_taken_leaves_room() {
        let queue = Queue::default();
        for _ in 0..3 {
            queue.push(sized(0, MOST_BYTES - 1)).unwrap();
            queue.push(sized(1, 1)).unwrap();
            let full = queue.push(sized(2, 1)).unwrap_err();
            assert!(matches!(full, StoreError::Full(_)), "{full}");
            assert_eq!((to_write(&queue), to_write(&queue)), (vec![0], vec![1]));
        }
    }

    #[test]
    fn what_waits_at_the_end_is_written() {
        let queue = Queue::default();
        queue.push(sized(0, WRITE_BYTES)).unwrap();
        queue.push(sized(1, 1)).unwrap();
        queue.end();
        assert_eq!(queue.push(sized(2, 1)), queue.check());
        assert!(matches!(queue.check(), Err(StoreError::Closed(_))));
        assert_eq!((to_write(&queue), to_write(&queue)), (vec![0], vec![1]));
        assert!(matches!(queue.next(), Next::End));
    }

    #[test]
    fn a_barrier_at_the_end_stands_behind_it() {
        let answer = |queue: &Queue| {
            let (done, answer) = oneshot::channel();
            queue.push_barrier(done);
            answer
        };
        let queue = Queue::default();
        queue.end();
        let mut waits = answer(&queue);
        assert!(matches!(queue.next(), Next::End), "it is not a request");
        let (waiting, failed) = queue.writer_ended();
        assert_eq!((waiting.len(), failed), (1, None));
        assert!(waits.try_recv().is_err(), "the writer answers it");
        queue.end();
        assert_eq!(answer(&queue).try_recv(), Ok(Ok(())), "it ended long ago");

        let queue = Queue::default();
        queue.end();
        let _waits = answer(&queue);
        queue.fail("a reason".into());
        assert_eq!(answer(&queue).try_recv(), Ok(Err(StoreError::Closed("a reason".into()))));
        let (waiting, failed) = queue.writer_ended();
        assert_eq!((waiting.len(), failed.as_deref()), (1, Some("a reason")));
    }

    #[test]
    fn what_waits_after_a_failure_is_told_the_first_reason() {
        let queue = Queue::default();
        queue.push(sized(0, WRITE_BYTES)).unwrap();
        queue.push(sized(1, 1)).unwrap();
        queue.fail("a reason".into());
        queue.fail("another".into());
        assert_eq!(queue.push(sized(2, 1)), Err(StoreError::Closed("a reason".into())));
        for expected in [0, 1] {
            match queue.next() {
                Next::Fail(requests, reason) => assert_eq!((numbers(requests), &*reason), (vec![expected], "a reason")),
                Next::Write(_) | Next::End => panic!("they are to be failed"),
            }
        }
        queue.end();
        assert!(matches!(queue.next(), Next::End));
    }
}
