//! What append and read sessions have in common: messages out of a response body, and a watch over its silence.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep_until};

use super::{ClientError, ProtocolError, connection::lost};
use crate::{
    clock,
    types::limits::MAX_FRAME_MESSAGE,
    wire::{self, Advice, Frame, FrameBuffer},
};

/// A message of a session, inflated.
pub(super) struct Message {
    pub(super) bytes: Bytes,
    pub(super) advice: Advice,
}

/// The frames of a response body.
pub(super) struct Messages {
    body: Incoming,
    frames: FrameBuffer,
}

impl Messages {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, frames: FrameBuffer::new() }
    }

    /// The next message; `None` at the clean end of the session. A terminal frame is an error.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, ClientError>>> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(Some(message(frame))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(unreadable(error)))),
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                // Trailers mean nothing here.
                Some(Ok(frame)) => frame.into_data().into_iter().for_each(|data| self.frames.push(data)),
                Some(Err(error)) => return Poll::Ready(Some(Err(lost(&error)))),
                None => return Poll::Ready(self.frames.finish().err().map(|error| Err(broken_off(error)))),
            }
        }
    }
}

fn message(frame: Frame) -> Result<Message, ClientError> {
    match frame {
        Frame::Message { compression, advice, body } => {
            let bytes = wire::inflate(compression, body, MAX_FRAME_MESSAGE).map_err(unreadable)?;
            Ok(Message { bytes, advice })
        }
        Frame::Terminal(terminal) => {
            let error = wire::parse_error(terminal.status, &terminal.body);
            Err(ClientError::Server { error, retry_after: None })
        }
    }
}

/// What does not decode.
pub(super) fn unreadable(error: impl ToString) -> ClientError {
    ClientError::Protocol(ProtocolError::Unreadable(error.to_string()))
}

/// The end came inside a frame: the transport's doing, and worth another try (`s2s.md` §6.5).
fn broken_off(error: impl ToString) -> ClientError {
    ClientError::Lost(error.to_string())
}

/// Measures silence. A sign of life costs no timer: the one that runs is put off when it fires.
pub(super) struct Watchdog {
    patience: Duration,
    last_sign: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Watchdog {
    /// Begins to measure.
    pub(super) fn new(patience: Duration) -> Self {
        let now = clock::instant();
        Self { patience, last_sign: now, sleep: Box::pin(sleep_until((now + patience).into())) }
    }

    /// Something was heard, or there is nothing to be heard yet.
    pub(super) fn touch(&mut self) {
        self.last_sign = clock::instant();
    }

    /// Ready when nothing was heard for as long as it is patient.
    pub(super) fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let due = self.last_sign + self.patience;
            if due <= clock::instant() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(due.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn silence_is_measured_from_the_last_sign() {
        let start = clock::instant();
        let mut watchdog = Watchdog::new(20 * SECOND);
        tokio::time::advance(15 * SECOND).await;
        watchdog.touch();
        poll_fn(|cx| watchdog.poll_silence(cx)).await;
        assert_eq!(clock::instant().duration_since(start).as_secs(), 35);
    }
}
