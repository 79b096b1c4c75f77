//! The engine, as the rest of this folder sees it: conditional publishing, reading through the leader, reading in
//! batches, purging. Knows subjects and messages, and not what they mean.
//!
//! ```text
//! stream PREFIX_log_K     subjects PREFIX.log.K.STREAM            one for each life of an S2 stream
//!                                  PREFIX.barrier.K.GATEWAY       see `Engine::milestone`
//! stream KV_PREFIX_meta   subjects $KV.PREFIX_meta.KEY            the meta table
//! ```

use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use async_nats::{
    Client, HeaderMap,
    connection::State,
    header,
    jetstream::{
        self, Context,
        message::StreamMessage,
        stream::{RawMessageBuilder, RawMessageErrorKind},
    },
};
use bytes::Bytes;
use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::{
    answers::{NoAnswer, Published, published, with_source},
    counters::Counters,
    envelope::WriteId,
};
use crate::{clock, store::StoreError, types::StreamId};

/// How long an answer may take before it is taken for lost. Leaders are chosen anew within ten seconds.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long something is tried, through lost answers and elections, before it fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the end of a deleted stream is kept. Gateways that have it open hear of it long before.
const ENDS_KEPT_FOR: &str = "24h";
/// Bytes that a message's headers and its protocol line take, or more.
pub(super) const HEADERS_BOUND: usize = 1024;

const ROLLUP: &str = "Nats-Rollup";
const TTL: &str = "Nats-TTL";

/// A connection to the engine, and what this gateway is to it.
pub(super) struct Engine {
    pub(super) context: Context,
    pub(super) client: Client,
    pub(super) names: Names,
    /// Servers that have every message.
    replicas: usize,
    pub(super) counters: Counters,
    pub(super) runtime: Handle,
    /// Goes up by one when the connection is lost; answers that were awaited will not come.
    losses: watch::Receiver<u64>,
    closed: AtomicBool,
    /// Since when no write was answered, in milliseconds after `started`, and one; zero if they are.
    unanswered_since: AtomicU64,
    started: Instant,
    writer: u64,
    next_write: AtomicU64,
}

/// What the streams and subjects of one store are called.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) prefix: String,
    pub(super) shards: u64,
}

/// Where the messages of an S2 stream are.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) shard: u64,
    /// The engine's stream.
    pub(super) stream: String,
    pub(super) name: String,
}

/// A message of the engine, and its number there.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) sequence: u64,
    pub(super) payload: Bytes,
}

impl Names {
    pub(super) fn log_stream(&self, shard: u64) -> String {
        format!("{}_log_{shard}", self.prefix)
    }

    pub(super) fn log_subjects(&self, shard: u64) -> Vec<String> {
        vec![format!("{}.log.{shard}.*", self.prefix), format!("{}.barrier.{shard}.*", self.prefix)]
    }

    pub(super) fn meta_stream(&self) -> String {
        format!("KV_{}_meta", self.prefix)
    }

    pub(super) fn meta_subject(&self, key: &str) -> String {
        format!("$KV.{}_meta.{key}", self.prefix)
    }

    /// Where the messages of `stream` are. Identities are random, so any of their bits spread them.
    pub(super) fn subject(&self, stream: StreamId) -> Subject {
        let shard = (u128::from_be_bytes(stream.to_bytes()) % u128::from(self.shards)) as u64;
        let name = format!("{}.log.{shard}.{stream:?}", self.prefix);
        Subject { shard, stream: self.log_stream(shard), name }
    }
}

impl Engine {
    pub(super) fn new(
        client: Client,
        losses: watch::Receiver<u64>,
        names: Names,
        replicas: usize,
        writer: u64,
    ) -> Self {
        let context = jetstream::context::ContextBuilder::new()
            .timeout(ANSWER_WITHIN)
            .backpressure_on_inflight(true)
            .build(client.clone());
        Self {
            context,
            client,
            names,
            replicas,
            counters: Counters::default(),
            runtime: Handle::current(),
            losses,
            closed: AtomicBool::new(false),
            unanswered_since: AtomicU64::new(0),
            started: clock::instant(),
            writer,
            next_write: AtomicU64::new(0),
        }
    }

    /// Takes no more writes.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        match self.closed.load(Relaxed) {
            true => Err(StoreError::Closed("the store was closed".into())),
            false => Ok(()),
        }
    }

    /// Whether writes are answered, as far as was seen.
    pub(super) fn health(&self) -> Result<(), StoreError> {
        const TOO_LONG: Duration = Duration::from_secs(10);
        self.check_open()?;
        if self.client.connection_state() != State::Connected {
            return Err(StoreError::NotDone("there is no connection to NATS".into()));
        }
        match self.unanswered_since.load(Relaxed).checked_sub(1) {
            Some(since) if self.now() - since.min(self.now()) > TOO_LONG.as_millis() as u64 => {
                Err(StoreError::NotDone("NATS has not answered writes for some time".into()))
            }
            _ => Ok(()),
        }
    }

    fn now(&self) -> u64 {
        clock::instant().saturating_duration_since(self.started).as_millis() as u64
    }

    fn note_answer(&self, answered: bool) {
        match answered {
            true => self.unanswered_since.store(0, Relaxed),
            false => {
                let _ = self.unanswered_since.compare_exchange(0, self.now() + 1, Relaxed, Relaxed);
            }
        }
    }

    /// The largest message that can be published.
    pub(super) fn message_limit(&self) -> usize {
        /// More in a message saves nothing, and lets others of the shard wait.
        const WORTHWHILE: usize = 4 * 1024 * 1024;
        self.client.max_payload().saturating_sub(HEADERS_BOUND).min(WORTHWHILE)
    }

    /// What tells this gateway from others.
    pub(super) const fn writer(&self) -> u64 {
        self.writer
    }

    /// What makes the next message another one than all that were ever published.
    pub(super) fn next_write(&self) -> WriteId {
        WriteId { writer: self.writer, write: self.next_write.fetch_add(1, Relaxed) }
    }

    /// Runs `work` on the runtime that the connection lives on, whoever waits for it.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
        let running = self.runtime.spawn(work);
        async move { running.await.unwrap_or_else(|_| Err(StoreError::Unknown("the work on it ended early".into()))) }
    }

    /// Publishes `payload` on `subject` if its last message is number `last`; 0 is none at all.
    pub(super) async fn publish(&self, subject: &Subject, payload: Bytes, last: u64) -> Published {
        self.publish_if(subject.name.clone(), payload, expecting(last)).await
    }

    /// Publishes `payload` as the only message of `subject`, whatever was there, or if its last message is number `last`.
    /// Doing it again does no harm.
    pub(super) async fn publish_end(&self, subject: &Subject, payload: Bytes, last: Option<u64>) -> Published {
        let mut headers = last.map_or_else(HeaderMap::new, expecting);
        headers.insert(ROLLUP, "sub");
        headers.insert(TTL, ENDS_KEPT_FOR);
        self.publish_if(subject.name.clone(), payload, headers).await
    }

    /// Publishes a message on a subject of this gateway's own, which keeps only the newest: whatever was acknowledged
    /// before this call has a lower number, because a majority took it.
    ///
    /// It expects nothing. One that expected the last message of the stream's subject would be an answer by itself, but
    /// the engine refuses publications on a subject while it works on another one that expects something of it.
    pub(super) async fn milestone(&self, subject: &Subject) -> Published {
        let mut headers = HeaderMap::new();
        headers.insert(ROLLUP, "sub");
        self.publish_if(self.milestones(subject), Bytes::new(), headers).await
    }

    fn milestones(&self, subject: &Subject) -> String {
        format!("{}.barrier.{}.{:016x}", self.names.prefix, subject.shard, self.writer)
    }

    /// The last message of `subject` as a server knows it that has `milestone` already.
    ///
    /// Leaders are not asked: one that was cut off or stopped may answer before it learns that there is another one. Here
    /// one server says both at once, what is last on the subject and that it is far enough. Why that is enough:
    ///
    /// * A server applies the messages of a shard in the order of their numbers. One that has `milestone` has every message
    ///   before it, and so every one that was acknowledged before the milestone was published. One that lags does not have
    ///   it, and is asked again, or another one is.
    /// * What is last on the stream's subject may be newer than the milestone, which does no harm: only what a majority
    ///   took is applied. It may also be trimmed away, because it was not the last one any more, between the moment when
    ///   the server looked up its number and the one when it read it; so that nothing there is asked once more.
    /// * A milestone that is in the answer was put there by this gateway in this life: its subject bears a random number.
    ///   A later one of the same gateway has a higher number, and shows as much.
    pub(super) async fn last_after(&self, subject: &Subject, milestone: u64) -> Result<Option<Message>, NoAnswer> {
        let own = self.milestones(subject);
        let request = format!(r#"{{"multi_last":["{}","{own}"],"batch":2}}"#, subject.name);
        let (of_own, of_stream): (Vec<_>, Vec<_>) =
            self.ask_for_several(subject, request).await?.into_iter().partition(|(name, _)| *name == own);
        match of_own.first() {
            Some((_, message)) if message.sequence >= milestone => match of_stream.into_iter().next() {
                Some((_, message)) => Ok(Some(message)),
                None => self.check_empty(subject).await.map(|()| None),
            },
            _ => Err(NoAnswer("a server lags".into())),
        }
    }

    async fn check_empty(&self, subject: &Subject) -> Result<(), NoAnswer> {
        match self.several(subject, 1, 1, 1).await?.is_empty() {
            true => Ok(()),
            false => Err(NoAnswer("a message was removed while it was looked up".into())),
        }
    }

    pub(super) async fn publish_if(&self, subject: String, payload: Bytes, headers: HeaderMap) -> Published {
        let began = clock::instant();
        let mut losses = self.losses.clone();
        losses.mark_unchanged();
        let sending = async { self.context.publish_with_headers(subject, headers, payload).await?.await };
        let published = tokio::select! {
            biased;
            answer = sending => published(answer.map(|ack| ack.sequence), self.replicas),
            Ok(()) = losses.changed() => Published::Unknown("the connection was lost".into()),
        };
        self.note_answer(!matches!(published, Published::Unknown(_)));
        self.counters.note_publish(&published, clock::instant().saturating_duration_since(began));
        published
    }

    /// The last message of `subject`, as its leader knows it.
    ///
    /// One that was replaced and has not heard of it may answer as well, with what was last some time ago: a server that
    /// was held up, or cut off, until it notices that nobody follows it, which takes seconds. Whoever asks must be content
    /// with an answer that was true then. Those who ask are:
    ///
    /// * opening a log: it begins at an older message of the same chain. Reads and tails refresh before they answer, and
    ///   the first append has the condition that this message is the last one, so that it fails and catches up.
    /// * a lost answer, see `driver`: a message that is found decides, and one that is not found is asked for again.
    /// * the meta table, see `table`.
    pub(super) async fn last(&self, stream: &str, subject: &str) -> Result<Option<Message>, NoAnswer> {
        self.leader_get(stream, |get| get.last_by_subject(subject)).await
    }

    /// The first message of `subject` with number `from` or a higher one, as its leader knows it.
    pub(super) async fn next(&self, subject: &Subject, from: u64) -> Result<Option<Message>, NoAnswer> {
        self.leader_get(&subject.stream, |get| get.sequence(from).next_by_subject(subject.name.as_str())).await
    }

    async fn leader_get(
        &self,
        stream: &str,
        which: impl FnOnce(RawMessageBuilder) -> RawMessageBuilder,
    ) -> Result<Option<Message>, NoAnswer> {
        self.leader_get_raw(stream, which).await.map(|found| found.map(Message::from))
    }

    /// The same, with its headers.
    pub(super) async fn leader_get_raw(
        &self,
        stream: &str,
        which: impl FnOnce(RawMessageBuilder) -> RawMessageBuilder,
    ) -> Result<Option<StreamMessage>, NoAnswer> {
        let handle = self.context.get_stream_no_info(stream).await.map_err(|error| NoAnswer(error.to_string()))?;
        match which(handle.raw_message_builder()).send().await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(NoAnswer(format!("reading through the leader: {}", with_source(&error)))),
        }
    }

    /// Messages of `subject` from the first one with number `from` or a higher one on: at most `count`, and at most about
    /// `bytes` of them, but one. Any server answers, and one that lags may not have the newest.
    pub(super) async fn several(
        &self,
        subject: &Subject,
        from: u64,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<Message>, NoAnswer> {
        let request = format!(
            r#"{{"seq":{from},"next_by_subj":"{}","batch":{count},"max_bytes":{}}}"#,
            subject.name,
            bytes.clamp(1, 1 << 30)
        );
        let messages = self.ask_for_several(subject, request).await?;
        Ok(messages.into_iter().map(|(_, message)| message).collect())
    }

    /// The messages that `request` asks any server for, with their subjects.
    async fn ask_for_several(&self, subject: &Subject, request: String) -> Result<Vec<(String, Message)>, NoAnswer> {
        let answer = self.client.new_inbox();
        let failed = |error: String| NoAnswer(format!("reading in batches: {error}"));
        let mut answers = self.client.subscribe(answer.clone()).await.map_err(|error| failed(error.to_string()))?;
        let question = format!("$JS.API.DIRECT.GET.{}", subject.stream);
        let asked = self.client.publish_with_reply(question, answer, request.into()).await;
        asked.map_err(|error| failed(error.to_string()))?;
        let mut messages = Vec::new();
        loop {
            let next = std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut answers), cx));
            let answer = match timeout(ANSWER_WITHIN, next).await {
                Ok(Some(answer)) => answer,
                Ok(None) | Err(_) => return Err(failed("no answer".into())),
            };
            match answer.status.map(|status| status.as_u16()) {
                // The end of the batch, or nothing there.
                Some(204 | 404) => return Ok(messages),
                Some(status) => return Err(failed(format!("status {status}"))),
                None => messages.push(numbered(answer).ok_or_else(|| failed("a message without a number".into()))?),
            }
        }
    }

    /// Removes the messages of `subject` with numbers below `to`.
    pub(super) async fn purge(&self, subject: &Subject, to: u64) -> Result<(), NoAnswer> {
        let failed = |error: String| NoAnswer(format!("purging: {error}"));
        let handle =
            self.context.get_stream_no_info(&subject.stream).await.map_err(|error| failed(error.to_string()))?;
        handle.purge().filter(subject.name.as_str()).sequence(to).await.map_err(|error| failed(with_source(&error)))?;
        Ok(())
    }
}

impl From<StreamMessage> for Message {
    fn from(message: StreamMessage) -> Self {
        Self { sequence: message.sequence, payload: message.payload }
    }
}

/// Headers of a message that is to follow number `last` of its subject.
pub(super) fn expecting(last: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string().as_str());
    headers
}

/// A message as it was stored, with its subject.
fn numbered(message: async_nats::Message) -> Option<(String, Message)> {
    let headers = message.headers.as_ref()?;
    let sequence = headers.get(header::NATS_SEQUENCE)?.as_str().parse().ok()?;
    let subject = headers.get(header::NATS_SUBJECT)?.as_str().to_owned();
    Some((subject, Message { sequence, payload: message.payload }))
}

/// Something to wait for between two tries: short at first, since most conflicts are over at once.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
    until: Instant,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self { next: Duration::ZERO, until: clock::instant() + PATIENCE }
    }

    /// Waits for a moment; `false` if it was tried long enough.
    pub(super) async fn pause(&mut self) -> bool {
        const FIRST: Duration = Duration::from_millis(2);
        const LONGEST: Duration = Duration::from_millis(250);
        if clock::instant() > self.until {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).clamp(FIRST, LONGEST);
        true
    }
}
