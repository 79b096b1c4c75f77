//! A socket from which a test takes nothing while it likes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};

/// Whether anything is taken from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    Open,
    Closed,
}

pub struct Tapped {
    socket: TcpStream,
    tap: watch::Receiver<Tap>,
    opened: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// `socket`, which is open, and what opens and closes it.
pub fn tapped(socket: TcpStream) -> (Tapped, watch::Sender<Tap>) {
    let (sender, tap) = watch::channel(Tap::Open);
    (Tapped { socket, tap, opened: None }, sender)
}

impl Tapped {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut tap = self.tap.clone();
        let opened = self.opened.get_or_insert_with(|| {
            Box::pin(async move {
                // Who holds the sender is gone: the socket stays as it is.
                let _ = tap.wait_for(|tap| *tap == Tap::Open).await;
            })
        });
        let polled = opened.as_mut().poll(cx);
        if polled.is_ready() {
            self.opened = None;
        }
        polled
    }
}

impl AsyncRead for Tapped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_open(cx));
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
