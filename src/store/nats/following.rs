//! What other processes append, brought by the engine as it comes: one consumer for a stream that this gateway follows,
//! whatever number of readers follow it here.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use futures_core::Stream as _;
use tokio::sync::oneshot;

use super::{
    driver,
    engine::{Engine, Message, Pauses, Subject},
    locked,
    log::Log,
};

/// How often the engine says that it is there when it brings nothing. After two of them a consumer is made anew.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a consumer is kept that nobody listens to.
const INACTIVE_FOR: Duration = Duration::from_secs(30);

/// Whether and how a log is followed.
pub(super) struct Following {
    log: Weak<Log>,
    engine: Arc<Engine>,
    /// Dropped to end the task that follows.
    running: Mutex<Option<oneshot::Sender<()>>>,
}

impl Following {
    pub(super) fn of(log: &Arc<Log>) -> Self {
        Self { log: Arc::downgrade(log), engine: log.engine.clone(), running: Mutex::default() }
    }

    pub(super) fn begin(&self) {
        let mut running = locked(&self.running);
        if running.is_none() {
            let (end, ended) = oneshot::channel();
            self.engine.runtime.spawn(follow(self.log.clone(), ended));
            *running = Some(end);
        }
    }

    pub(super) fn end(&self) {
        *locked(&self.running) = None;
    }
}

/// Brings messages to the log until it is dropped, or told to end.
async fn follow(log: Weak<Log>, mut ended: oneshot::Receiver<()>) {
    let mut pauses = Pauses::new();
    while let Some((engine, subject, from)) =
        log.upgrade().map(|log| (log.engine.clone(), log.subject.clone(), log.known().last + 1))
    {
        let consuming = consume(&log, &engine, &subject, from);
        let reason = tokio::select! {
            biased;
            _ = &mut ended => return,
            reason = consuming => reason,
        };
        tracing::debug!(subject = subject.name, reason, "a consumer is made anew");
        tokio::select! {
            _ = &mut ended => return,
            more = pauses.pause() => if !more { pauses = Pauses::new() },
        }
    }
}

/// Brings messages from number `from` on; why it ended.
async fn consume(log: &Weak<Log>, engine: &Engine, subject: &Subject, from: u64) -> String {
    let config = push::Config {
        deliver_subject: engine.client.new_inbox(),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
        ack_policy: AckPolicy::None,
        filter_subject: subject.name.clone(),
        flow_control: true,
        idle_heartbeat: HEARTBEAT,
        inactive_threshold: INACTIVE_FOR,
        num_replicas: 1,
        memory_storage: true,
        ..push::Config::default()
    };
    let consumer = match engine.context.create_consumer_on_stream(config, &subject.stream).await {
        Ok(consumer) => consumer,
        Err(error) => return error.to_string(),
    };
    let _removal = Removal { engine, stream: &subject.stream, name: consumer.cached_info().name.clone() };
    let mut messages = match consumer.messages().await {
        Ok(messages) => messages,
        Err(error) => return error.to_string(),
    };
    loop {
        let message = match poll_fn(|cx| Pin::new(&mut messages).poll_next(cx)).await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return error.to_string(),
            None => return "the subscription ended".into(),
        };
        let Some(log) = log.upgrade() else { return "the log was closed".into() };
        match message.info().map(|info| info.stream_sequence) {
            Ok(sequence) => driver::deliver(&log, Message { sequence, payload: message.message.payload }),
            Err(error) => return error.to_string(),
        }
    }
}

/// Removes a consumer when this is dropped, which it also is when the task ends in the middle of something.
struct Removal<'a> {
    engine: &'a Engine,
    stream: &'a str,
    name: String,
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        let (context, stream, name) = (self.engine.context.clone(), self.stream.to_owned(), self.name.clone());
        self.engine.runtime.spawn(async move {
            // If it fails the engine removes it by itself, a little later.
            let _ = context.delete_consumer_from_stream(name, stream).await;
        });
    }
}
