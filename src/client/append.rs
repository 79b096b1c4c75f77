//! An append session (`s2s.md` §6): inputs go in, pipelined; acks come out, in order, whatever becomes of connections.
//!
//! The session has no task of its own. It moves when it is polled for acks, and everything that waits in it (a
//! connection being made, a pause before the next attempt) survives a poll that is given up, so that
//! [`AppendSession::next_ack`] can stand in a `select!`.
//!
//! ```text
//!            ┌──── retry, after a pause ────┐
//!            ▼                              │
//!   Idle → Pausing → Opening → Open ──── failure ──► Closed
//!    ▲                ▲         │ advice to reconnect
//!    │                │         ▼
//!    │                └────── Leaving: half-closed, collecting acks
//!    └─ the connection went away while nothing waited for an ack
//! ```

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Method;
use tokio::time::{Sleep, sleep};

use super::{
    Awaited, Client, ClientError, EncodedInput, EncryptionKey, ProtocolError, StreamPath, Verdict,
    body::{FrameQueue, frame_queue},
    connection::{Connection, REQUEST_TIMEOUT},
    request::Call,
    retry::{AdviceLimit, Attempts},
    session::{Message, Messages, Watchdog, unreadable},
    window::Window,
};
use crate::{
    clock,
    types::{AppendAck, Compression, Retry},
    wire::{self, Advice},
};

/// Metered bytes that may wait for their acks, unless told otherwise.
pub const DEFAULT_UNACKED_LIMIT: usize = 5 * 1024 * 1024;

/// How to run an append session.
#[derive(Clone, Debug)]
pub struct AppendOptions {
    /// Of the acks, which the server compresses only if they are long. Inputs are compressed when they are built.
    pub compression: Compression,
    /// Metered bytes that may wait for their acks.
    pub unacked_limit: usize,
    /// What the records are encrypted with if the stream has a cipher.
    pub encryption_key: Option<EncryptionKey>,
}

impl Default for AppendOptions {
    fn default() -> Self {
        Self { compression: Compression::None, unacked_limit: DEFAULT_UNACKED_LIMIT, encryption_key: None }
    }
}

/// A running append session.
pub struct AppendSession {
    client: Client,
    call: Call,
    window: Window,
    attempts: Attempts,
    advice: AdviceLimit,
    input: Input,
    phase: Phase,
}

/// Whether more inputs will come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    Finished,
}

enum Phase {
    /// No connection, and nothing that needs one.
    Idle,
    Pausing(Pin<Box<Sleep>>),
    Opening {
        opened: Opening,
        queue: FrameQueue,
    },
    Open(Live),
    /// Advised to go elsewhere: half-closed, waiting for the acks of what was sent, for at most 5 s.
    Leaving {
        live: Live,
        deadline: Pin<Box<Sleep>>,
    },
    Closed,
}

type Opening = Pin<Box<dyn Future<Output = Result<(Connection, Messages), ClientError>> + Send>>;

/// A session as the server has it.
struct Live {
    connection: Connection,
    queue: FrameQueue,
    messages: Messages,
    watchdog: Watchdog,
    /// Pieces that the connection had taken when that was last looked at.
    taken: u64,
}

impl AppendSession {
    pub(super) fn new(client: Client, stream: &StreamPath, options: AppendOptions) -> Self {
        let mut call = Call::new(Method::POST, stream.records(), Some(&stream.basin));
        call.compression = options.compression;
        call.encryption_key = options.encryption_key;
        Self {
            attempts: Attempts::new(client.retry_policy()),
            client,
            call,
            window: Window::new(options.unacked_limit),
            advice: AdviceLimit::default(),
            input: Input::Open,
            phase: Phase::Pausing(Box::pin(sleep(Duration::ZERO))),
        }
    }

    /// Whether an input of `metered` bytes fits beside those that wait for their acks.
    pub fn has_room(&self, metered: usize) -> bool {
        self.window.has_room(metered)
    }

    /// Inputs without an ack.
    pub fn unacked(&self) -> usize {
        self.window.len()
    }

    /// Metered bytes of the inputs without an ack.
    pub fn unacked_bytes(&self) -> usize {
        self.window.metered()
    }

    /// Takes `input` on, without waiting. It is sent at once if the session is open, otherwise when acks are next asked
    /// for. Whoever ignores [`AppendSession::has_room`] pays with memory.
    ///
    /// An input given after [`AppendSession::finish`] is not accepted and comes back.
    pub fn submit(&mut self, input: EncodedInput) -> Result<(), EncodedInput> {
        if self.input == Input::Finished || matches!(self.phase, Phase::Closed) {
            return Err(input);
        }
        self.window.push(input);
        if let Phase::Open(live) = &mut self.phase {
            live.send(&mut self.window);
        }
        Ok(())
    }

    /// Says that no more inputs will come: after the last ack the session ends.
    pub fn finish(&mut self) {
        self.input = Input::Finished;
        if let Phase::Open(live) = &mut self.phase {
            live.finish();
        }
    }

    /// The ack of the oldest input that has none; `None` when the session has ended with all of them.
    ///
    /// After an error nothing more comes; the inputs without an ack may or may not be in the stream, as the error says.
    /// Safe to give up at any time.
    pub async fn next_ack(&mut self) -> Option<Result<AppendAck, ClientError>> {
        poll_fn(|cx| self.poll_ack(cx)).await
    }

    /// As [`AppendSession::next_ack`].
    pub fn poll_ack(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AppendAck, ClientError>>> {
        loop {
            let step = match &mut self.phase {
                Phase::Closed => return Poll::Ready(None),
                Phase::Idle => ready!(self.poll_idle()),
                Phase::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.open()
                }
                Phase::Opening { opened, .. } => {
                    let opened = ready!(opened.as_mut().poll(cx));
                    self.opened(opened)
                }
                Phase::Open(live) => {
                    let heard = ready!(live.poll_heard(cx, self.window.awaits_ack() || self.input == Input::Finished));
                    self.heard(heard)
                }
                Phase::Leaving { live, deadline } => {
                    let heard = match live.messages.poll_next(cx) {
                        Poll::Ready(heard) => heard,
                        Poll::Pending => {
                            ready!(deadline.as_mut().poll(cx));
                            Some(Err(silence(Awaited::End)))
                        }
                    };
                    self.heard(heard)
                }
            };
            match step {
                Step::Go => {}
                Step::Ack(ack) => return Poll::Ready(Some(Ok(ack))),
                Step::End => self.phase = Phase::Closed,
                Step::Fail(error) => {
                    self.phase = Phase::Closed;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn poll_idle(&mut self) -> Poll<Step> {
        match (self.window.is_empty(), self.input) {
            (false, _) => Poll::Ready(self.open()),
            (true, Input::Finished) => Poll::Ready(Step::End),
            // Inputs come through `&mut self`, and whoever brings one asks for acks again.
            (true, Input::Open) => Poll::Pending,
        }
    }

    fn open(&mut self) -> Step {
        let (queue, body) = frame_queue();
        let (client, call) = (self.client.clone(), self.call.clone());
        let opened = Box::pin(async move {
            let (connection, body) = client.sender().open(&call, body).await?;
            Ok((connection, Messages::new(body)))
        });
        self.phase = Phase::Opening { opened, queue };
        Step::Go
    }

    fn opened(&mut self, opened: Result<(Connection, Messages), ClientError>) -> Step {
        let (connection, messages) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.failed(error),
        };
        let Phase::Opening { queue, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            unreachable!("only an opening session is opened");
        };
        let mut live = Live { connection, queue, messages, watchdog: Watchdog::new(REQUEST_TIMEOUT), taken: 0 };
        live.send(&mut self.window);
        if self.input == Input::Finished {
            live.finish();
        }
        self.phase = Phase::Open(live);
        Step::Go
    }

    fn heard(&mut self, heard: Option<Result<Message, ClientError>>) -> Step {
        match heard {
            Some(Ok(message)) => self.acked(&message),
            Some(Err(error)) => self.failed(error),
            None => self.ended(),
        }
    }

    fn acked(&mut self, message: &Message) -> Step {
        let ack = match wire::decode_append_ack(message.bytes.clone()) {
            Ok(ack) => ack,
            Err(error) => return Step::Fail(unreadable(error)),
        };
        if let Err(error) = self.window.acknowledge(&ack) {
            return Step::Fail(ClientError::Protocol(error));
        }
        self.attempts.succeeded();
        if message.advice == Advice::Reconnect {
            self.advised();
        }
        Step::Ack(ack)
    }

    /// The server is about to stop: half-close, and go elsewhere when the acks are in (`s2s.md` §8).
    fn advised(&mut self) {
        let Phase::Open(_) = self.phase else { return };
        if self.input == Input::Finished || !self.advice.follow(clock::instant()) {
            return;
        }
        if let Phase::Open(mut live) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.client.sender().pool.retire(&live.connection);
            live.finish();
            self.phase = Phase::Leaving { live, deadline: Box::pin(sleep(REQUEST_TIMEOUT)) };
        }
    }

    /// The body ended without an error.
    fn ended(&mut self) -> Step {
        if self.window.awaits_ack() {
            let unacked = self.window.len();
            return Step::Fail(ClientError::Protocol(ProtocolError::EarlyEnd { unacked }));
        }
        self.phase = Phase::Idle;
        Step::Go
    }

    fn failed(&mut self, error: ClientError) -> Step {
        let was_open = matches!(self.phase, Phase::Open(_) | Phase::Leaving { .. });
        if was_open && self.window.is_empty() && self.may_forget(&error) {
            self.retire();
            self.phase = Phase::Idle;
            return Step::Go;
        }
        let verdict = self.attempts.failed(&error, self.window.at_stake(), rand::random());
        match verdict {
            Verdict::GiveUp => Step::Fail(error),
            Verdict::Retry { after } => {
                tracing::debug!(%error, ?after, unacked = self.window.len(), "an append session is tried again");
                self.retire();
                self.window.rewind();
                self.phase = Phase::Pausing(Box::pin(sleep(after)));
                Step::Go
            }
        }
    }

    /// Whether a failure is of no matter to a session that has all its acks: it goes on when there is more to send.
    fn may_forget(&self, error: &ClientError) -> bool {
        self.input == Input::Finished || error.retry() == Retry::Worthwhile
    }

    fn retire(&self) {
        if let Phase::Open(live) | Phase::Leaving { live, .. } = &self.phase {
            self.client.sender().pool.retire(&live.connection);
        }
    }
}

/// What came of looking once.
enum Step {
    /// Look again.
    Go,
    Ack(AppendAck),
    End,
    Fail(ClientError),
}

impl Live {
    /// Sends what was not sent.
    fn send(&mut self, window: &mut Window) {
        if !window.awaits_ack() {
            self.watchdog.touch();
        }
        while let Some(input) = window.take_unsent() {
            self.queue.push(input.frame());
        }
    }

    fn finish(&mut self) {
        self.watchdog.touch();
        self.queue.finish();
    }

    /// The next message, or what silence amounts to, if something is `due`.
    fn poll_heard(&mut self, cx: &mut Context<'_>, due: bool) -> Poll<Option<Result<Message, ClientError>>> {
        if let Poll::Ready(heard) = self.messages.poll_next(cx) {
            self.watchdog.touch();
            return Poll::Ready(heard);
        }
        if !due {
            return Poll::Pending;
        }
        loop {
            ready!(self.watchdog.poll_silence(cx));
            // A peer that still reads is slow, or its network is, but not dead.
            let taken = self.queue.taken();
            if taken == self.taken {
                return Poll::Ready(Some(Err(silence(Awaited::Ack))));
            }
            self.taken = taken;
            self.watchdog.touch();
        }
    }
}

fn silence(awaited: Awaited) -> ClientError {
    ClientError::TimedOut { awaited, after: REQUEST_TIMEOUT }
}
