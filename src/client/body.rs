//! The request body of a session: frames that are put in at one end and taken by the connection at the other.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// Frames are gathered into pieces up to this size, so that small ones do not each pay for an HTTP/2 frame of their own.
const PIECE: usize = 64 * 1024;

/// Makes both ends of a body.
pub(super) fn frame_queue() -> (FrameQueue, RequestBody) {
    let shared = Arc::new(Mutex::new(Queue::default()));
    (FrameQueue(shared.clone()), RequestBody(Kind::Frames(shared)))
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    end: End,
    /// Pieces that the connection has taken.
    taken: u64,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// After what is queued.
    Finished,
    /// Now, and not as if all had been said.
    Abandoned,
}

/// The session's end.
pub(super) struct FrameQueue(Arc<Mutex<Queue>>);

impl FrameQueue {
    /// Adds a frame.
    pub(super) fn push(&self, frame: Bytes) {
        let mut queue = lock(&self.0);
        queue.frames.push_back(frame);
        wake(queue);
    }

    /// Lets the body end after what was pushed: the session is half-closed.
    pub(super) fn finish(&self) {
        let mut queue = lock(&self.0);
        queue.end = End::Finished;
        wake(queue);
    }

    /// How many pieces the connection has taken so far: while this grows, the peer reads.
    pub(super) fn taken(&self) -> u64 {
        lock(&self.0).taken
    }
}

impl Drop for FrameQueue {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        if queue.end == End::Open {
            queue.end = End::Abandoned;
            queue.frames.clear();
            wake(queue);
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // Nothing in here panics half way through a change.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes after unlocking, so that whoever wakes does not find the lock taken.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Queue {
    /// The next piece: one large frame, or as many small ones as fit.
    fn next_piece(&mut self) -> Option<Bytes> {
        let first = self.frames.pop_front()?;
        self.taken += 1;
        let fits = |len: usize, next: Option<&Bytes>| next.is_some_and(|next| len + next.len() <= PIECE);
        if !fits(first.len(), self.frames.front()) {
            return Some(first);
        }
        let mut piece = BytesMut::with_capacity(PIECE);
        piece.extend_from_slice(&first);
        while fits(piece.len(), self.frames.front()) {
            piece.extend_from_slice(&self.frames.pop_front().unwrap_or_default());
        }
        Some(piece.freeze())
    }
}

/// The connection's end: a session's frames, or a body that is there from the beginning.
pub(super) struct RequestBody(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Frames(Arc<Mutex<Queue>>),
}

impl RequestBody {
    /// A body that is there from the beginning; empty for none.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }
}

/// The session was dropped before it was finished: the peer must not take what it got for all.
#[derive(Debug, thiserror::Error)]
#[error("the session was dropped before it was finished")]
pub(super) struct Abandoned;

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Abandoned;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abandoned>>> {
        let queue = match &mut self.0 {
            Kind::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Frames(queue) => queue,
        };
        let mut queue = lock(queue);
        match (queue.next_piece(), queue.end) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, End::Finished) => Poll::Ready(None),
            (None, End::Abandoned) => Poll::Ready(Some(Err(Abandoned))),
            (None, End::Open) => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Frames(queue) => {
                let queue = lock(queue);
                queue.end == End::Finished && queue.frames.is_empty()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Frames(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn frame(len: usize) -> Bytes {
        vec![b'x'; len].into()
    }

    async fn next(body: &mut RequestBody) -> Option<Result<usize, Abandoned>> {
        body.frame().await.map(|frame| frame.map(|frame| frame.into_data().map_or(0, |data| data.len())))
    }

    #[tokio::test]
    async fn small_frames_share_a_piece_and_large_ones_are_not_copied() {
        let (queue, mut body) = frame_queue();
        let large = frame(PIECE + 1);
        let at = large.as_ptr();
        for frame in [frame(10), frame(20), large, frame(PIECE - 1), frame(2)] {
            queue.push(frame);
        }
        queue.finish();
        assert!(matches!(next(&mut body).await, Some(Ok(30))));
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((piece.len(), piece.as_ptr()), (PIECE + 1, at));
        assert!(matches!(next(&mut body).await, Some(Ok(len)) if len == PIECE - 1));
        assert!(matches!(next(&mut body).await, Some(Ok(2))));
        assert!(body.is_end_stream());
        assert!(next(&mut body).await.is_none());
        assert_eq!(queue.taken(), 4);
    }

    #[tokio::test]
    async fn what_is_pushed_wakes_the_connection() {
        let (queue, mut body) = frame_queue();
        let taker = tokio::spawn(async move { (next(&mut body).await, next(&mut body).await) });
        tokio::task::yield_now().await;
        queue.push(frame(7));
        tokio::task::yield_now().await;
        queue.finish();
        assert!(matches!(taker.await.unwrap(), (Some(Ok(7)), None)));
    }

    #[tokio::test]
    async fn a_dropped_session_is_not_a_finished_one() {
        let (queue, mut body) = frame_queue();
        queue.push(frame(7));
        drop(queue);
        assert!(matches!(next(&mut body).await, Some(Err(Abandoned))));
    }
}
