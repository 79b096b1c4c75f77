//! The first bytes of a connection. Knows no HTTP but how long an HTTP/2 preface is.
//!
//! Which version it will be is told by these bytes, and only from then on does anything see to it that the peer goes on:
//! HTTP/1.1 has a time for its head, HTTP/2 its PINGs. So whoever connects and says less would stay for as long as they
//! like, and the connections that there may be at one time are counted.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Bytes after which it is known what is spoken: the preface of HTTP/2. Of HTTP/1.1 only a bare `GET /ping` is shorter, and
/// whoever has that answer and says nothing more is given up as well.
const ENOUGH: usize = 24;

/// A socket whose peer must say something.
pub(super) struct Opening<I> {
    io: I,
    /// Bytes that were read, while they are not enough.
    read: usize,
    /// When it is over; none once enough was read.
    until: Option<Pin<Box<Sleep>>>,
}

impl<I> Opening<I> {
    /// Reading from `io` fails after `time` if its peer has not said enough by then.
    pub(super) fn within(time: Duration, io: I) -> Self {
        Self { io, read: 0, until: Some(Box::pin(tokio::time::sleep(time))) }
    }

    fn note(&mut self, read: usize) {
        self.read += read;
        if self.read >= ENOUGH {
            self.until = None;
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Opening<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(until) = &mut this.until else { return Pin::new(&mut this.io).poll_read(cx, into) };
        let before = into.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, into) {
            Poll::Ready(Ok(())) => {
                this.note(into.filled().len() - before);
                Poll::Ready(Ok(()))
            }
            Poll::Pending if until.as_mut().poll(cx).is_ready() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Opening<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const TIME: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn who_says_too_little_is_given_up_and_who_says_enough_is_not() {
        for (said, is_enough) in [(0, false), (ENOUGH - 1, false), (ENOUGH, true), (100, true)] {
            let (mut peer, socket) = duplex(1000);
            let mut socket = Opening::within(TIME, socket);
            peer.write_all(&vec![b'x'; said]).await.unwrap();
            let mut read = vec![0; said];
            socket.read_exact(&mut read).await.unwrap();
            let more = tokio::time::timeout(TIME * 10, socket.read(&mut [0])).await;
            match is_enough {
                true => assert!(more.is_err(), "it may be silent now"),
                false => assert_eq!(more.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut, "{said} bytes"),
            }
        }
    }
}
