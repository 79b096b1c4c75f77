//! Whether anyone rang since a session was last looked at: one whose sources are all silent need not be asked again.
//! Knows no session.
//!
//! HTTP asks a body for more right behind each chunk, and again when the peer makes room. Most often nothing can have
//! come, and to find that out costs the locks of the request, the stream and the clock each time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Makes the chunks of a session.
pub(super) trait Chunks {
    type Chunk;

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Chunk>>;

    /// How the last poll that gave a chunk left everything that chunks are made from.
    fn after_chunk(&self) -> AfterChunk;
}

/// What is known of a session that just gave a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterChunk {
    /// There may be another one.
    MayHaveMore,
    /// Nothing is there, and the task will be woken when there is, as if the poll had been pending.
    Waits,
}

/// A session that is polled only when there is a reason.
pub(super) struct Belled<S> {
    session: S,
    /// The bell that everything the session waits for was given, and the waker that rings it.
    bell: Option<(Arc<Bell>, Waker)>,
    standing: Standing,
}

/// What is known of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has not waited with this bell yet, so that not everything it waits for may have the bell.
    New,
    /// It must be polled.
    Unknown,
    /// Nothing is there until someone rings.
    Waits,
}

/// Rung by what a session waits for; wakes its task.
struct Bell {
    rang: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl<S: Chunks> Belled<S> {
    pub(super) fn new(session: S) -> Self {
        Self { session, bell: None, standing: Standing::New }
    }

    pub(super) fn session(&self) -> &S {
        &self.session
    }

    /// The session's next chunk.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<S::Chunk>> {
        let (bell, waker) = match &mut self.bell {
            Some(known) if known.0.task.will_wake(cx.waker()) => known,
            other => {
                self.standing = Standing::New;
                let bell = Arc::new(Bell { rang: AtomicBool::new(false), task: cx.waker().clone() });
                other.insert((bell.clone(), bell.into()))
            }
        };
        // Who rings after this is heard the next time, and wakes the task for it.
        let rang = bell.rang.swap(false, Ordering::AcqRel);
        if !rang && self.standing == Standing::Waits {
            return Poll::Pending;
        }
        let polled = self.session.poll_chunk(&mut Context::from_waker(waker));
        self.standing = match (&polled, self.session.after_chunk(), self.standing) {
            (Poll::Pending, _, _) => Standing::Waits,
            (Poll::Ready(_), _, Standing::New) => Standing::New,
            (Poll::Ready(_), AfterChunk::Waits, _) => Standing::Waits,
            (Poll::Ready(_), AfterChunk::MayHaveMore, _) => Standing::Unknown,
        };
        polled
    }
}

#[cfg(test)]
mod sessions;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Count {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives what it has, and counts how often it was asked.
    struct Source {
        chunks: usize,
        asked: usize,
        after: AfterChunk,
        waiting: Option<Waker>,
    }

    impl Chunks for Source {
        type Chunk = ();

        fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
            self.asked += 1;
            self.waiting = Some(cx.waker().clone());
            match self.chunks.checked_sub(1) {
                Some(left) => {
                    self.chunks = left;
                    Poll::Ready(Some(()))
                }
                None => Poll::Pending,
            }
        }

        fn after_chunk(&self) -> AfterChunk {
            self.after
        }
    }

    fn source(after: AfterChunk) -> Belled<Source> {
        Belled::new(Source { chunks: 0, asked: 0, after, waiting: None })
    }

    fn ring(belled: &mut Belled<Source>, chunks: usize) {
        belled.session.chunks += chunks;
        belled.session.waiting.take().expect("it waits").wake();
    }

    #[test]
    fn it_is_not_asked_until_someone_rings() {
        let task = Arc::new(Count::default());
        let waker = Waker::from(task.clone());
        let mut cx = Context::from_waker(&waker);
        let mut belled = source(AfterChunk::Waits);
        for _ in 0..3 {
            assert!(belled.poll_chunk(&mut cx).is_pending());
        }
        assert_eq!((belled.session.asked, task.times()), (1, 0));
        ring(&mut belled, 1);
        assert_eq!(task.times(), 1);
        assert!(belled.poll_chunk(&mut cx).is_ready());
        assert!(belled.poll_chunk(&mut cx).is_pending());
        assert_eq!(belled.session.asked, 2, "it said that it waits");
    }

    #[test]
    fn it_is_asked_again_if_there_may_be_more() {
        let waker = Waker::from(Arc::new(Count::default()));
        let mut cx = Context::from_waker(&waker);
        let mut belled = source(AfterChunk::MayHaveMore);
        assert!(belled.poll_chunk(&mut cx).is_pending());
        ring(&mut belled, 2);
        assert!(belled.poll_chunk(&mut cx).is_ready());
        assert!(belled.poll_chunk(&mut cx).is_ready());
        assert!(belled.poll_chunk(&mut cx).is_pending());
        assert_eq!(belled.session.asked, 4);
    }

    #[test]
    fn who_rings_between_two_polls_is_heard() {
        let waker = Waker::from(Arc::new(Count::default()));
        let mut cx = Context::from_waker(&waker);
        let mut belled = source(AfterChunk::Waits);
        assert!(belled.poll_chunk(&mut cx).is_pending());
        ring(&mut belled, 1);
        assert!(belled.poll_chunk(&mut cx).is_ready());
        ring(&mut belled, 1);
        assert!(belled.poll_chunk(&mut cx).is_ready());
    }

    #[test]
    fn another_task_has_another_bell() {
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (first_waker, second_waker) = (Waker::from(first.clone()), Waker::from(second.clone()));
        let mut belled = source(AfterChunk::Waits);
        assert!(belled.poll_chunk(&mut Context::from_waker(&first_waker)).is_pending());
        assert!(belled.poll_chunk(&mut Context::from_waker(&second_waker)).is_pending());
        ring(&mut belled, 1);
        assert_eq!((first.times(), second.times()), (0, 1));
    }
}
