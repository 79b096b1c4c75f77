//! The shared store: NATS JetStream, which replicates, behind any number of gateways that may all write to any stream.
//!
//! ```text
//!  append ─► waiting ─► driver ─► one message, on the condition that ours was the last one ─► sink
//!                         ▲  └─► another was first: read on, tell the sink, judge again
//!  refresh ───────────────┤
//!  consumer, if followed ─┘                         what others append
//!
//!  read, seek, trim ─► any server                   what is durable does not change
//!  get, put, remove ─► the leader of the bucket     scan ─► a copy in memory that is caught up for it
//! ```
//!
//! * Streams of S2 are subjects, spread over a fixed number of the engine's streams: those are dear, subjects are not.
//! * A commit is one message: everything that waited, with a checksum, and with a hash of the message before it, so that
//!   damage and rollback are seen (`envelope`, `chain`).
//! * Why nothing is lost and nothing is there twice when answers are: `driver`.
//! * A stream that is deleted leaves a message that says so, for a day. Gateways that still have it open find that out at
//!   their next write, since it changed which message is the last one.
//!
//! The engine's crate is named in this folder only. A file here imports only those that its arrows lead to:
//!
//! ```text
//! stream_log ─► following ─► driver ─► reading ─► log ─► places ─► chain ─┬─► engine ─┬─► envelope
//! table ─► mirror ──┬─────────────────────────────────────────────────────┤           └─► counters ─► answers
//!                   └─► keys, markers                                     │
//! setup ──┬───────────────────────────────────────────────────────────────┘
//!         └─► checks ─► connect_error
//! ```

mod answers;
mod chain;
mod checks;
mod connect_error;
mod counters;
mod driver;
mod engine;
mod envelope;
mod following;
mod keys;
mod log;
mod markers;
mod mirror;
mod places;
mod reading;
mod setup;
mod stream_log;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use self::{
    answers::{NoAnswer, Published},
    chain::{Known, Stored},
    engine::{Engine, Pauses, Subject},
    envelope::{Content, Envelope, Link},
    log::{Log, Registry},
    stream_log::NatsLog,
    table::{NatsTable, Table},
};
use super::{CommitSink, MetaStore, OpenLog, Removal, Sharing, Store, StoreCount, StoreError, StoreFuture};
use crate::types::{SeqNum, StreamId};

pub use self::{
    connect_error::ConnectError,
    setup::{NatsConfig, SyncCheck},
};

/// A store that other gateways use as well.
pub struct NatsStore {
    shared: Arc<Shared>,
    table: NatsTable,
    syncing: checks::Syncing,
}

struct Shared {
    engine: Arc<Engine>,
    logs: Registry,
}

impl NatsStore {
    /// Connects, checks that the engine keeps what it acknowledges, and makes what is missing of the store there.
    ///
    /// Needs a running tokio runtime, which must outlive the store.
    pub async fn connect(config: &NatsConfig) -> Result<Self, ConnectError> {
        let (engine, syncing) = setup::connect(config).await?;
        let engine = Arc::new(engine);
        let table = NatsTable(Table::new(engine.clone()));
        Ok(Self { shared: Arc::new(Shared { engine, logs: Registry::default() }), table, syncing })
    }
}

impl Shared {
    async fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> Result<OpenLog, StoreError> {
        // Someone may have let go of the log before all of it was written.
        if let Some(before) = self.logs.find(stream) {
            before.end(StoreError::NotDone("the stream was opened again".into()));
            before.settle().await;
        }
        let known = self.find(stream).await?;
        let log = Log::new(self.engine.clone(), stream, sink, known);
        self.logs.insert(&log);
        Ok(OpenLog { log: Arc::new(NatsLog::new(log, known.has_ended())), head: known.head })
    }

    async fn find(&self, stream: StreamId) -> Result<Known, StoreError> {
        let subject = self.engine.names.subject(stream);
        let mut pauses = Pauses::new();
        loop {
            match self.ends(stream, &subject).await? {
                Ok(Some((first, last))) => return Ok(Known::after(&first, &last)),
                Ok(None) => return Ok(Known::default()),
                Err(NoAnswer(reason)) if !pauses.pause().await => return Err(StoreError::Unknown(reason.into())),
                Err(NoAnswer(_)) => {}
            }
        }
    }

    /// The earliest and the last message of `stream`, if there are any.
    async fn ends(
        &self,
        stream: StreamId,
        subject: &Subject,
    ) -> Result<Result<Option<(Stored, Stored)>, NoAnswer>, StoreError> {
        let damaged = |sequence, damage: &dyn fmt::Display| {
            StoreError::Damaged(format!("stream {stream:?}: message {sequence}: {damage}").into())
        };
        let decode = |message| Stored::decode(stream, message).map_err(|error| damaged(message.sequence, &error));
        let (last, first) =
            tokio::join!(self.engine.last(&subject.stream, &subject.name), self.engine.several(subject, 1, 1, 1),);
        let (last, first) = match (last, first) {
            (Ok(Some(last)), Ok(first)) => (last, first),
            (Ok(None), _) => return Ok(Ok(None)),
            (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
        };
        let last = decode(&last)?;
        // A server that lags may have none, or one that is gone by now; the bytes are counted a little wrong then.
        let first = first.first().map(decode).transpose()?.filter(|first| first.sequence <= last.sequence);
        Ok(Ok(Some((first.unwrap_or_else(|| last.clone()), last))))
    }

    async fn delete(&self, stream: StreamId) -> Result<(), StoreError> {
        let message = self.begin_end(stream).await?;
        let subject = self.engine.names.subject(stream);
        let mut pauses = Pauses::new();
        loop {
            let reason = match self.engine.publish_end(&subject, message.clone(), None).await {
                Published::Landed(_) => return Ok(()),
                Published::Refused(error) => return Err(error),
                Published::Conflict => "others write".into(),
                Published::Unknown(reason) => reason,
            };
            if !pauses.pause().await {
                return Err(StoreError::Unknown(reason.into()));
            }
        }
    }

    /// The end is published on the condition that nothing follows the message that left `tail`, as a commit would be; so
    /// that of the two one lands.
    async fn delete_at(&self, stream: StreamId, tail: SeqNum) -> Result<Removal, StoreError> {
        let message = self.begin_end(stream).await?;
        let subject = self.engine.names.subject(stream);
        let mut pauses = Pauses::new();
        loop {
            let known = self.find(stream).await?;
            let found = known.head.tail.seq_num;
            let reason = match () {
                // Also when it is this one, whose answer was lost.
                () if known.has_ended() => return Ok(Removal::Removed),
                () if found > tail => return Ok(Removal::Kept),
                () if found < tail && known.last > 0 => "a server lags".into(),
                // A subject that had messages and has none has forgotten even the stream's end.
                () => match self.engine.publish_end(&subject, message.clone(), Some(known.last)).await {
                    Published::Landed(_) => return Ok(Removal::Removed),
                    Published::Refused(error) => return Err(error),
                    Published::Conflict => "others write".into(),
                    Published::Unknown(reason) => reason,
                },
            };
            if !pauses.pause().await {
                return Err(StoreError::Unknown(reason.into()));
            }
        }
    }

    /// Ends the log of `stream` if it is open here; the message that ends it everywhere.
    async fn begin_end(&self, stream: StreamId) -> Result<Bytes, StoreError> {
        self.engine.check_open()?;
        if let Some(log) = self.logs.find(stream) {
            log.end(StoreError::NotDone("the stream was deleted".into()));
            // What was accepted before is reported first.
            log.settle().await;
        }
        let envelope =
            Envelope { id: self.engine.next_write(), previous: Link::default(), ordinal: 0, content: Content::End };
        Ok(envelope.encode(stream).0)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.engine.close();
        for log in self.logs.all() {
            log.settle().await;
        }
        Ok(())
    }
}

impl Store for NatsStore {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        let shared = self.shared.clone();
        Box::pin(self.shared.engine.run(async move { shared.open(stream, sink).await }))
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        let shared = self.shared.clone();
        Box::pin(self.shared.engine.run(async move { shared.delete(stream).await }))
    }

    fn delete_at(&self, stream: StreamId, tail: SeqNum) -> StoreFuture<'_, Removal> {
        let shared = self.shared.clone();
        Box::pin(self.shared.engine.run(async move { shared.delete_at(stream, tail).await }))
    }

    fn meta(&self) -> &dyn MetaStore {
        &self.table
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared
    }

    fn health(&self) -> Result<(), StoreError> {
        self.shared.engine.health()
    }

    fn caveat(&self) -> Option<&'static str> {
        self.syncing.caveat()
    }

    fn counted(&self) -> Vec<StoreCount> {
        self.shared.engine.counters.snapshot().into()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        let shared = self.shared.clone();
        Box::pin(self.shared.engine.run(async move { shared.close().await }))
    }
}

impl fmt::Debug for NatsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsStore").field("names", &self.shared.engine.names).finish_non_exhaustive()
    }
}

/// Locks; what is behind the locks here is whole between any two statements, so a panic elsewhere poisons nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
