//! A copy of the meta table in this process, fed by a consumer, from which scans are answered.
//!
//! On its own it would be late. So a scan first publishes a message into the bucket and waits until the copy has come to
//! it: what was acknowledged anywhere before the scan has a lower number. The keys of all streams take memory, a few
//! hundred bytes each; asking the engine would transfer all of them for every page of a listing, for it has no order of
//! keys to go by.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    ops::Bound,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use async_nats::{
    HeaderMap, StatusCode,
    jetstream::consumer::{AckPolicy, DeliverPolicy, push},
};
use bytes::Bytes;
use futures_core::Stream as _;
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use super::{
    answers::Published,
    engine::{ANSWER_WITHIN, Engine, PATIENCE, Pauses},
    keys, locked,
    markers::OPERATION,
};
use crate::{
    clock,
    store::{StoreError, Version, Versioned},
};

/// How often the engine says that it is there when it brings nothing.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a consumer may be away without missing a removal: its marker is kept longer than that (`markers`).
const RESUMABLE_FOR: Duration = Duration::from_secs(600);

pub(super) struct Mirror {
    shared: Arc<Shared>,
    /// Dropped to end the task that fills it.
    feeding: Mutex<Option<oneshot::Sender<()>>>,
}

struct Shared {
    engine: Arc<Engine>,
    rows: Mutex<BTreeMap<Bytes, Versioned>>,
    /// Number of the last message that is in the rows.
    applied: watch::Sender<u64>,
}

impl Mirror {
    /// A copy that begins to be filled when it is first asked for.
    pub(super) fn of(engine: Arc<Engine>) -> Self {
        let shared = Arc::new(Shared { engine, rows: Mutex::default(), applied: watch::channel(0).0 });
        Self { shared, feeding: Mutex::default() }
    }

    /// Waits until the copy has whatever was acknowledged before this call.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        self.begin();
        let milestone = self.shared.publish_milestone().await?;
        let mut applied = self.shared.applied.subscribe();
        match timeout(PATIENCE, applied.wait_for(|applied| *applied >= milestone)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(StoreError::Unknown("the copy of the meta table does not catch up".into())),
        }
    }

    fn begin(&self) {
        let mut feeding = locked(&self.feeding);
        if feeding.is_none() {
            let (end, ended) = oneshot::channel();
            self.shared.engine.runtime.spawn(feed(Arc::downgrade(&self.shared), ended));
            *feeding = Some(end);
        }
    }

    /// As [`MetaStore::scan`](crate::store::MetaStore::scan).
    pub(super) fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Bytes, Versioned)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let rows = locked(&self.shared.rows);
        let matching = rows.range::<[u8], _>((start, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
        matching.take(limit).map(|(key, row)| (key.clone(), row.clone())).collect()
    }
}

impl Shared {
    /// Publishes a message that only has a number; the bucket keeps one for each gateway, for a while.
    async fn publish_milestone(&self) -> Result<u64, StoreError> {
        let mut pauses = Pauses::new();
        loop {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-TTL", "1h");
            // Not what a key looks like.
            let subject = self.engine.names.meta_subject(&format!("=at-{:016x}", self.engine.writer()));
            match self.engine.publish_if(subject, Bytes::new(), headers).await {
                Published::Landed(sequence) => return Ok(sequence),
                Published::Refused(error) => return Err(error),
                // Another one does as well.
                Published::Conflict | Published::Unknown(_) if pauses.pause().await => {}
                Published::Conflict => return Err(StoreError::Unknown("others write".into())),
                Published::Unknown(reason) => return Err(StoreError::Unknown(reason.into())),
            }
        }
    }

    fn apply(&self, subject: &str, sequence: u64, value: Option<Bytes>) {
        let key = subject.rsplit('.').next().and_then(keys::decode);
        if let Some(key) = key {
            let mut rows = locked(&self.rows);
            match value {
                // The bytes are those of the connection's buffer, of which little is to be kept.
                Some(value) => {
                    let value = Bytes::copy_from_slice(&value);
                    rows.insert(key.into(), Versioned { value, version: Version(sequence) })
                }
                None => rows.remove(&key[..]),
            };
        }
        self.applied.send_replace(sequence);
    }

    /// From which message on the copy goes on; everything, if it may have missed a removal.
    fn resume(&self, away: Duration) -> u64 {
        if away > RESUMABLE_FOR {
            // Kept until what is there comes again would be worse than missed for a moment: scans wait for it.
            locked(&self.rows).clear();
            self.applied.send_replace(0);
        }
        *self.applied.borrow() + 1
    }
}

/// Fills the copy until it is dropped.
async fn feed(shared: Weak<Shared>, mut ended: oneshot::Receiver<()>) {
    let mut heard = clock::instant();
    let mut pauses = Pauses::new();
    while let Some(engine) = shared.upgrade().map(|shared| shared.engine.clone()) {
        let reason = tokio::select! {
            biased;
            _ = &mut ended => return,
            reason = consume(&shared, &engine, &mut heard) => reason,
        };
        tracing::debug!(reason, "the consumer of the meta table is made anew");
        if !pauses.pause().await {
            pauses = Pauses::new();
        }
    }
}

async fn consume(shared: &Weak<Shared>, engine: &Engine, heard: &mut Instant) -> String {
    let away = clock::instant().saturating_duration_since(*heard);
    let Some(from) = shared.upgrade().map(|shared| shared.resume(away)) else { return "the store was closed".into() };
    let config = push::Config {
        deliver_subject: engine.client.new_inbox(),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
        ack_policy: AckPolicy::None,
        flow_control: true,
        idle_heartbeat: HEARTBEAT,
        inactive_threshold: ANSWER_WITHIN * 10,
        num_replicas: 1,
        memory_storage: true,
        ..push::Config::default()
    };
    let consumer = match engine.context.create_consumer_on_stream(config, engine.names.meta_stream()).await {
        Ok(consumer) => consumer,
        Err(error) => return error.to_string(),
    };
    let mut messages = match consumer.messages().await {
        Ok(messages) => messages,
        Err(error) => return error.to_string(),
    };
    let mut expected = 1;
    loop {
        let message = match poll_fn(|cx| Pin::new(&mut messages).poll_next(cx)).await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return error.to_string(),
            None => return "the subscription ended".into(),
        };
        let (sequence, delivered) = match message.info() {
            Ok(info) => (info.stream_sequence, info.consumer_sequence),
            Err(error) => return error.to_string(),
        };
        if delivered != expected {
            return format!("delivery {delivered} came where {expected} was due");
        }
        expected += 1;
        *heard = clock::instant();
        let Some(shared) = shared.upgrade() else { return "the store was closed".into() };
        shared.apply(&message.subject, sequence, value_of(&message.message));
    }
}

/// The value that a message of the bucket is; nothing if it is the marker of a removal.
fn value_of(message: &async_nats::Message) -> Option<Bytes> {
    let marker = message.headers.as_ref().is_some_and(|headers| headers.get(OPERATION).is_some());
    debug_assert!(message.status.is_none_or(|status| status == StatusCode::OK), "a message, not a status");
    (!marker).then(|| message.payload.clone())
}
