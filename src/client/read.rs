//! A read session (`s2s.md` §7): batches come out, in order and each once, whatever becomes of connections.
//!
//! Like the append session it has no task of its own and can be given up between any two polls.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use tokio::time::{Sleep, sleep};

use super::{
    AtStake, Awaited, Client, ClientError, EncryptionKey, ProtocolError, StreamPath, Verdict,
    body::RequestBody,
    connection::Connection,
    query::read_query,
    request::Call,
    resume::ReadProgress,
    retry::{AdviceLimit, Attempts},
    session::{Message, Messages, Watchdog, unreadable},
};
use crate::{
    clock,
    types::{ApiError, Compression, Position, ReadRequest, SeqNum},
    wire::{self, Advice, ReadBatch, ReadPart, RemoteError},
};

/// Without a frame for this long a connection counts as dead (`s2s.md` §7.2): heartbeats come every 15 s at the latest.
const SILENCE: Duration = Duration::from_secs(20);

/// How to run a read session.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// How the server may compress batches.
    pub compression: Compression,
    /// What the records were encrypted with if the stream has a cipher.
    pub encryption_key: Option<EncryptionKey>,
}

/// A running read session.
pub struct ReadSession {
    client: Client,
    stream: StreamPath,
    options: ReadOptions,
    progress: ReadProgress,
    attempts: Attempts,
    advice: AdviceLimit,
    phase: Phase,
}

enum Phase {
    Pausing(Pin<Box<Sleep>>),
    Opening(Opening),
    Open(Live),
    Closed,
}

type Opening = Pin<Box<dyn Future<Output = Result<(Connection, Messages), ClientError>> + Send>>;

struct Live {
    connection: Connection,
    messages: Messages,
    watchdog: Watchdog,
}

impl ReadSession {
    pub(super) fn new(client: Client, stream: StreamPath, request: ReadRequest, options: ReadOptions) -> Self {
        Self {
            attempts: Attempts::new(client.retry_policy()),
            client,
            stream,
            options,
            progress: ReadProgress::new(request),
            advice: AdviceLimit::default(),
            phase: Phase::Pausing(Box::pin(sleep(Duration::ZERO))),
        }
    }

    /// The next batch, or a heartbeat, which has no records and says where the tail is; `None` when a bound is met or the
    /// wait has run out. After an error nothing more comes.
    ///
    /// Safe to give up at any time.
    pub async fn next_batch(&mut self) -> Option<Result<ReadBatch, ClientError>> {
        poll_fn(|cx| self.poll_batch(cx)).await
    }

    /// As [`ReadSession::next_batch`].
    pub fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ReadBatch, ClientError>>> {
        let batch = |message| wire::decode_read_batch(message).map_err(unreadable);
        self.poll_message(cx).map(|message| message.map(|message| message.and_then(batch)))
    }

    /// As [`ReadSession::next_batch`], but leaves the batch in the message that it came in, uncompressed, for
    /// [`read_parts`](wire::read_parts) to look at: nothing is made for each record.
    pub async fn next_message(&mut self) -> Option<Result<Bytes, ClientError>> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// As [`ReadSession::next_message`].
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClientError>>> {
        loop {
            let step = match &mut self.phase {
                Phase::Closed => return Poll::Ready(None),
                Phase::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.open()
                }
                Phase::Opening(opened) => match ready!(opened.as_mut().poll(cx)) {
                    Ok((connection, messages)) => {
                        let watchdog = Watchdog::new(SILENCE);
                        self.phase = Phase::Open(Live { connection, messages, watchdog });
                        Step::Go
                    }
                    Err(error) => self.failed(error),
                },
                Phase::Open(live) => match ready!(live.poll_heard(cx)) {
                    Some(Ok(message)) => self.received(message),
                    Some(Err(error)) => self.failed(error),
                    None => Step::End,
                },
            };
            match step {
                Step::Go => {}
                Step::Message(bytes) => return Poll::Ready(Some(Ok(bytes))),
                Step::End => self.phase = Phase::Closed,
                Step::Fail(error) => {
                    self.phase = Phase::Closed;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn open(&mut self) -> Step {
        let Some(rest) = self.progress.rest(now()) else { return Step::End };
        let path = format!("{}?{}", self.stream.records(), read_query(&rest));
        let mut call = Call::new(Method::GET, path, Some(&self.stream.basin));
        call.compression = self.options.compression;
        call.encryption_key = self.options.encryption_key.clone();
        let client = self.client.clone();
        self.phase = Phase::Opening(Box::pin(async move {
            let (connection, body) = client.sender().open(&call, RequestBody::whole(Bytes::new())).await?;
            Ok((connection, Messages::new(body)))
        }));
        Step::Go
    }

    fn received(&mut self, message: Message) -> Step {
        let summary = match summarize(&message.bytes) {
            Ok(summary) => summary,
            Err(error) => return Step::Fail(error),
        };
        if let Err(error) = self.account(&summary) {
            return Step::Fail(ClientError::Protocol(error));
        }
        self.attempts.succeeded();
        if message.advice == Advice::Reconnect && self.advice.follow(now()) {
            self.pause(Duration::ZERO);
        }
        Step::Message(message.bytes)
    }

    fn account(&mut self, summary: &Summary) -> Result<(), ProtocolError> {
        match (summary.first, summary.tail) {
            (Some(first), tail) => self.progress.delivered(first, summary.records, summary.metered, tail, now()),
            (None, Some(tail)) => {
                self.progress.heartbeat(tail, now());
                Ok(())
            }
            (None, None) => Err(ProtocolError::EmptyBatch),
        }
    }

    fn failed(&mut self, error: ClientError) -> Step {
        if out_of_range(&error).is_some_and(|tail| self.progress.ends_at(tail)) {
            return Step::End;
        }
        match self.attempts.failed(&error, AtStake::Nothing, rand::random()) {
            Verdict::GiveUp => Step::Fail(error),
            Verdict::Retry { after } => {
                tracing::debug!(%error, ?after, next = ?self.progress.next(), "a read session is tried again");
                self.pause(after);
                Step::Go
            }
        }
    }

    /// Leaves the connection, if there is one, and goes on after `pause`.
    fn pause(&mut self, pause: Duration) {
        if let Phase::Open(live) = &self.phase {
            self.client.sender().pool.retire(&live.connection);
        }
        self.phase = Phase::Pausing(Box::pin(sleep(pause)));
    }
}

/// What came of looking once.
enum Step {
    /// Look again.
    Go,
    /// A batch, as it came.
    Message(Bytes),
    End,
    Fail(ClientError),
}

impl Live {
    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, ClientError>>> {
        if let Poll::Ready(heard) = self.messages.poll_next(cx) {
            self.watchdog.touch();
            return Poll::Ready(heard);
        }
        ready!(self.watchdog.poll_silence(cx));
        Poll::Ready(Some(Err(ClientError::TimedOut { awaited: Awaited::Frame, after: SILENCE })))
    }
}

fn now() -> std::time::Instant {
    clock::instant()
}

/// What progress is made by a batch.
#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    first: Option<SeqNum>,
    records: u64,
    /// As the server counts them: what is left of a byte bound depends on it.
    metered: u64,
    tail: Option<Position>,
}

/// Looks over a batch. Within one there are no gaps.
fn summarize(message: &[u8]) -> Result<Summary, ClientError> {
    let mut summary = Summary::default();
    for part in wire::read_parts(message) {
        match part.map_err(unreadable)? {
            ReadPart::Tail(tail) => summary.tail = Some(tail),
            ReadPart::Record(record) => {
                let first = *summary.first.get_or_insert(record.seq_num);
                let expected = first.saturating_add(summary.records);
                if record.seq_num != expected {
                    return Err(ClientError::Protocol(ProtocolError::ReadOrder { expected, found: record.seq_num }));
                }
                summary.records += 1;
                summary.metered += record.metered() as u64;
            }
        }
    }
    Ok(summary)
}

fn out_of_range(error: &ClientError) -> Option<Position> {
    match error {
        ClientError::Server { error: RemoteError::Known(ApiError::OutOfRange { tail }), .. } => Some(*tail),
        _ => None,
    }
}
