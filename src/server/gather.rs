//! The writes of a connection, gathered: what the sessions of one connection have to say at one time goes out in one
//! system call. Knows no HTTP.
//!
//! h2 writes every DATA frame of 256 bytes or more by itself and flushes behind it. A hundred followers of one writer on
//! a connection cost a hundred writes then, which is most of what a small record costs. So small writes are copied
//! behind each other here, a flush waits until the connection's task has done all it can do now, and before the first
//! byte leaves, the task lets those run who are ready to run: they may have more to say on the same connection.
//!
//! Where that brings nothing, because a connection has one session that speaks, it is left out most of the time.
//!
//! ```text
//! task polled ─► connection polled ─► little to write? ─► once: behind all that is ready to run ──┐
//!                       ▲                   └─► otherwise, or the second time: write              │
//!                       └─────────────────────────────────────────────────────────────────────────┘
//! ```

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Writes of so many bytes and more are not copied: the call costs less than the copy.
const LARGE: usize = 16 * 1024;

/// With so much to write there is no waiting for more.
const ENOUGH: usize = 64 * 1024;

/// A connection on which nothing came of giving way [`TRIES`] times in a row writes so many times at once before it tries
/// again: one with a single session that speaks would only be slower for it.
const AT_ONCE: u8 = 32;

/// See [`AT_ONCE`]; with several sessions it happens now and then that no other has anything to say.
const TRIES: u8 = 4;

/// The socket as the HTTP side sees it: flushing it does nothing, [`Gathered::poll_write_out`] does it later.
pub(super) struct GatheringSocket<I>(Shared<I>);

/// What was written to the socket and is still to go out. Whoever polls the connection writes it out after each poll.
pub(super) struct Gathered<I> {
    socket: Shared<I>,
    turn: Turn,
}

/// Whether those who are ready to run go first.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// They do, the next time there is a little to write. Nothing came of the last `vain` times.
    GivesWay { vain: u8 },
    /// They had their turn when there were this many bytes.
    GaveWay { bytes: usize, vain: u8 },
    /// They do not, for so many times.
    AtOnce { times: u8 },
}

type Shared<I> = Arc<Mutex<Socket<I>>>;

struct Socket<I> {
    io: I,
    /// To be written before anything else; the first `written` bytes of it are out.
    waiting: Vec<u8>,
    written: usize,
}

/// Divides a connection's socket into what the HTTP side gets and what writes it out.
pub(super) fn gather<I>(io: I) -> (GatheringSocket<I>, Gathered<I>) {
    let socket = Arc::new(Mutex::new(Socket { io, waiting: Vec::new(), written: 0 }));
    (GatheringSocket(socket.clone()), Gathered { socket, turn: Turn::GivesWay { vain: 0 } })
}

fn locked<I>(socket: &Shared<I>) -> MutexGuard<'_, Socket<I>> {
    // One task has both sides, so that nobody ever waits here; a panic in between ends the connection anyway.
    socket.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<I: AsyncWrite + Unpin> Gathered<I> {
    /// Writes out what was gathered, unless it is little and this task has not yet given way to others for it: then it
    /// is woken to be polled again behind those that are ready to run now.
    pub(super) fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = locked(&self.socket);
        let left = socket.left();
        self.turn = match self.turn {
            Turn::GivesWay { vain } if (1..ENOUGH).contains(&left) => {
                self.turn = Turn::GaveWay { bytes: left, vain };
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Turn::GaveWay { bytes, vain } if (1..=bytes).contains(&left) => match vain + 1 {
                TRIES => Turn::AtOnce { times: AT_ONCE },
                vain => Turn::GivesWay { vain },
            },
            Turn::AtOnce { times } if left > 0 => match times - 1 {
                0 => Turn::GivesWay { vain: TRIES - 1 },
                times => Turn::AtOnce { times },
            },
            turn @ (Turn::AtOnce { .. } | Turn::GivesWay { .. }) => turn,
            Turn::GaveWay { .. } => Turn::GivesWay { vain: 0 },
        };
        socket.poll_flush(cx)
    }

    /// Writes out everything and gives way to nobody, for a connection that is over.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        locked(&self.socket).poll_flush(cx)
    }
}

impl<I: AsyncWrite + Unpin> Socket<I> {
    /// Bytes that are waiting.
    fn left(&self) -> usize {
        self.waiting.len() - self.written
    }

    /// Some of `parts`, which are `len` bytes: copied if they are few, written behind what waits if they are many.
    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>], len: usize) -> Poll<io::Result<usize>> {
        if len >= LARGE {
            return self.poll_write_through(cx, parts);
        }
        if self.waiting.len() + len > ENOUGH {
            ready!(self.poll_drain(cx))?;
        }
        parts.iter().for_each(|part| self.waiting.extend_from_slice(part));
        Poll::Ready(Ok(len))
    }

    /// Writes what waits and some of `parts`, together where that is possible.
    fn poll_write_through(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        while self.left() > 0 {
            let mut all = [IoSlice::new(&[]); 16];
            all[0] = IoSlice::new(&self.waiting[self.written..]);
            let count = all[1..].iter_mut().zip(parts).map(|(slot, part)| *slot = *part).count();
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &all[..=count]))?;
            let waiting = self.left();
            self.advance(written.min(waiting))?;
            if written > waiting {
                return Poll::Ready(Ok(written - waiting));
            }
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.left() > 0 {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting[self.written..]))?;
            self.advance(written)?;
        }
        Poll::Ready(Ok(()))
    }

    /// `written` bytes of what waits are out.
    fn advance(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += written;
        if self.left() == 0 {
            self.written = 0;
            self.waiting.clear();
            // A connection that is silent again keeps little.
            self.waiting.shrink_to(LARGE);
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for GatheringSocket<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut locked(&self.0).io).poll_read(cx, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for GatheringSocket<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, part: &[u8]) -> Poll<io::Result<usize>> {
        locked(&self.0).poll_write(cx, &[IoSlice::new(part)], part.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        locked(&self.0).poll_write(cx, parts, parts.iter().map(|part| part.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = locked(&self.0);
        ready!(socket.poll_flush(cx))?;
        Pin::new(&mut socket.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// A socket that takes what it is allowed to, and remembers it.
    #[derive(Default)]
    struct Pipe {
        out: Vec<u8>,
        calls: usize,
        /// Bytes that it takes before it makes one wait; at least one a call.
        room: usize,
    }

    impl AsyncWrite for Pipe {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, part: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(part)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Poll::Pending;
            }
            self.room -= taken;
            self.calls += 1;
            self.out.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn pipe(room: usize) -> (GatheringSocket<Pipe>, Gathered<Pipe>) {
        gather(Pipe { room, ..Pipe::default() })
    }

    fn write(socket: &mut GatheringSocket<Pipe>, bytes: &[u8]) -> Poll<usize> {
        let parts = [IoSlice::new(&bytes[..bytes.len() / 2]), IoSlice::new(&bytes[bytes.len() / 2..])];
        let cx = &mut Context::from_waker(Waker::noop());
        Pin::new(socket).poll_write_vectored(cx, &parts).map(|written| written.unwrap())
    }

    fn write_out(gathered: &mut Gathered<Pipe>) -> Poll<()> {
        gathered.poll_write_out(&mut Context::from_waker(Waker::noop())).map(|done| done.unwrap())
    }

    #[test]
    fn small_writes_go_out_together_after_others_had_their_turn() {
        let (mut socket, mut gathered) = pipe(usize::MAX);
        assert_eq!(write(&mut socket, b"ab"), Poll::Ready(2));
        assert_eq!(write_out(&mut gathered), Poll::Pending, "gives way");
        assert_eq!(write(&mut socket, b"cd"), Poll::Ready(2));
        assert_eq!(locked(&socket.0).io.calls, 0);
        assert_eq!(write_out(&mut gathered), Poll::Ready(()));
        let socket = locked(&socket.0);
        assert_eq!((&socket.io.out[..], socket.io.calls), (&b"abcd"[..], 1));
    }

    #[test]
    fn who_gains_nothing_by_giving_way_seldom_does() {
        let (mut socket, mut gathered) = pipe(usize::MAX);
        let mut gave_way = 0;
        for _ in 0..TRIES + AT_ONCE {
            assert!(write(&mut socket, b"alone").is_ready());
            while write_out(&mut gathered).is_pending() {
                gave_way += 1;
            }
            assert_eq!(write_out(&mut gathered), Poll::Ready(()), "woken for nothing");
        }
        assert_eq!(gave_way, TRIES);
        for round in 0..3 {
            while write(&mut socket, b"a").is_ready() && write_out(&mut gathered).is_ready() {}
            assert!(write(&mut socket, b"b").is_ready());
            assert_eq!(write_out(&mut gathered), Poll::Ready(()), "two spoke, {round}");
        }
    }

    #[test]
    fn nothing_to_write_is_nothing_to_wait_for() {
        let (_socket, mut gathered) = pipe(0);
        assert_eq!(write_out(&mut gathered), Poll::Ready(()));
    }

    #[test]
    fn much_is_written_at_once_and_with_what_waits() {
        let (mut socket, _gathered) = pipe(usize::MAX);
        assert_eq!(write(&mut socket, b"ab"), Poll::Ready(2));
        let large = [b'x'; LARGE];
        assert_eq!(write(&mut socket, &large), Poll::Ready(LARGE));
        let socket = locked(&socket.0);
        assert_eq!((socket.io.out.len(), socket.io.calls), (2 + LARGE, 1));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut socket, _gathered) = pipe(0);
        let taken = std::iter::repeat_with(|| write(&mut socket, &[b'x'; 1000])).take_while(Poll::is_ready).count();
        assert_eq!(taken, ENOUGH / 1000);
    }

    #[test]
    fn a_silent_connection_keeps_little() {
        let (mut socket, mut gathered) = pipe(usize::MAX);
        (0..60).for_each(|_| assert!(write(&mut socket, &[b'x'; 1000]).is_ready()));
        assert_eq!((write_out(&mut gathered), write_out(&mut gathered)), (Poll::Pending, Poll::Ready(())));
        assert!(locked(&socket.0).waiting.capacity() <= LARGE);
    }

    proptest! {
        /// Whatever sizes are written and however little the socket takes at a time, the bytes arrive in order.
        #[test]
        fn bytes_arrive_in_order(
            writes in prop::collection::vec(prop_oneof![0usize..2000, LARGE - 2..LARGE + 2, 20_000usize..90_000], 1..20),
            rooms in prop::collection::vec(1usize..50_000, 1..20),
        ) {
            let (mut socket, mut gathered) = pipe(0);
            let mut rooms = rooms.into_iter().cycle();
            let mut sent = Vec::new();
            for (i, len) in writes.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..len).map(|at| (at + i) as u8).collect();
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    match write(&mut socket, rest) {
                        Poll::Ready(written) => rest = &rest[written..],
                        Poll::Pending => locked(&socket.0).io.room = rooms.next().unwrap_or(1),
                    }
                }
                sent.extend(bytes);
            }
            while write_out(&mut gathered).is_pending() {
                locked(&socket.0).io.room = rooms.next().unwrap_or(1);
            }
            prop_assert!(locked(&socket.0).io.out == sent);
        }
    }
}
