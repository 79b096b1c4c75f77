//! The meta table: a key-value bucket of the engine, with compare-and-set by the number of a key's last message.
//!
//! * A value's version is its message's number, which only grows, also across removals.
//! * A removal is a message, too: a marker, as key-value buckets have them, that goes by itself after a while.
//! * `get` asks the leader. `scan` reads a copy that every gateway keeps (`mirror`), after it has caught up with a message
//!   published for the scan: so it sees whatever was done before, and costs the engine one small message however many
//!   keys there are.
//! * A write whose answer was lost is decided as commits are (`driver`): read, and if nothing followed, published again
//!   on the same condition. Its header says whose it is.

use std::sync::Arc;

use async_nats::{HeaderMap, jetstream::message::StreamMessage};
use bytes::Bytes;

use super::{
    answers::{NoAnswer, Published},
    engine::{Engine, Pauses, expecting},
    keys,
    markers::{self, OPERATION},
    mirror::Mirror,
};
use crate::store::{MetaStore, MetaWrite, StoreError, StoreFuture, Version, Versioned};

/// Who wrote a value.
const WRITE: &str = "S2S-Write";

pub(super) struct NatsTable(pub(super) Arc<Table>);

pub(super) struct Table {
    engine: Arc<Engine>,
    mirror: Mirror,
}

/// What stands at a key.
struct Found {
    /// Number of its last message; 0 if there is none.
    last: u64,
    value: Option<Bytes>,
    written_by: Option<String>,
}

impl Table {
    pub(super) fn new(engine: Arc<Engine>) -> Arc<Self> {
        Arc::new(Self { mirror: Mirror::of(engine.clone()), engine })
    }

    async fn find(&self, key: &[u8]) -> Result<Found, NoAnswer> {
        let subject = self.engine.names.meta_subject(&keys::encode(key));
        let stream = self.engine.names.meta_stream();
        let found = self.engine.leader_get_raw(&stream, |get| get.last_by_subject(subject)).await?;
        Ok(found.map_or(Found { last: 0, value: None, written_by: None }, Found::of))
    }

    async fn find_patiently(&self, key: &[u8], pauses: &mut Pauses) -> Result<Found, StoreError> {
        loop {
            match self.find(key).await {
                Ok(found) => return Ok(found),
                Err(error) if !pauses.pause().await => return Err(StoreError::Unknown(error.to_string().into())),
                Err(_) => {}
            }
        }
    }

    /// What a leader says, and not what a majority does, which would cost a publication for each request that asks for a
    /// stream or a token. A leader that was replaced unawares may answer with a value that was there seconds ago. So a
    /// token that was revoked, or a stream that was deleted, can look alive for that long, as caches of other gateways let
    /// it do anyway; and one that was just made can be missing. Nothing is written on the strength of it: a write has the
    /// version as its condition, and a deleted stream's log has its end in it.
    async fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        let found = self.find_patiently(key, &mut Pauses::new()).await?;
        Ok(found.value.map(|value| Versioned { value, version: Version(found.last) }))
    }

    /// Writes `value`, or a removal, if the version of `key` is `expected`.
    async fn write(&self, key: &[u8], value: Option<Bytes>, expected: Version) -> Result<MetaWrite, StoreError> {
        self.engine.check_open()?;
        let id = self.engine.next_write();
        let id = format!("{:016x}-{:x}", id.writer, id.write);
        let mut pauses = Pauses::new();
        let mut last = expected.0;
        let mut certain = true;
        loop {
            let reason = match self.publish(key, value.clone(), last, &id).await {
                Published::Landed(sequence) => return Ok(done(value.is_some(), sequence)),
                Published::Refused(error) if certain => return Err(error),
                Published::Refused(error) => error.to_string(),
                Published::Conflict => "others write".into(),
                Published::Unknown(reason) => {
                    certain = false;
                    reason
                }
            };
            let found = self.find_patiently(key, &mut pauses).await?;
            match () {
                () if found.written_by.as_ref() == Some(&id) => return Ok(done(value.is_some(), found.last)),
                // Nothing has changed: the same may be tried again, on the same condition.
                () if found.last == last => {}
                // A key without a value may have the marker of a removal, or have lost one: that is no other version.
                () if expected == Version::ABSENT && found.value.is_none() && certain => last = found.last,
                () if certain => return Ok(MetaWrite::Conflict),
                // It may have been written, and replaced since.
                () => return Err(unresolved(&reason)),
            }
            if !pauses.pause().await {
                return Err(unresolved(&reason));
            }
        }
    }

    async fn publish(&self, key: &[u8], value: Option<Bytes>, last: u64, id: &str) -> Published {
        let mut headers: HeaderMap = expecting(last);
        headers.insert(WRITE, id);
        if value.is_none() {
            headers.insert(OPERATION, "DEL");
            headers.insert("Nats-TTL", markers::KEPT_FOR);
        }
        let subject = self.engine.names.meta_subject(&keys::encode(key));
        self.engine.publish_if(subject, value.unwrap_or_default(), headers).await
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Versioned)>, StoreError> {
        self.mirror.catch_up().await?;
        Ok(self.mirror.scan(prefix, after, limit))
    }
}

fn unresolved(reason: &str) -> StoreError {
    StoreError::Unknown(format!("it did not become known whether NATS took a value: {reason}").into())
}

fn done(is_value: bool, sequence: u64) -> MetaWrite {
    MetaWrite::Done(if is_value { Version(sequence) } else { Version::ABSENT })
}

impl Found {
    fn of(message: StreamMessage) -> Self {
        let is_value = message.headers.get(OPERATION).is_none();
        Self {
            last: message.sequence,
            written_by: message.headers.get(WRITE).map(|id| id.as_str().to_owned()),
            value: is_value.then_some(message.payload),
        }
    }
}

impl NatsTable {
    fn write(&self, key: &[u8], value: Option<Bytes>, expected: Version) -> StoreFuture<'_, MetaWrite> {
        let (table, key) = (self.0.clone(), key.to_owned());
        Box::pin(self.0.engine.run(async move { table.write(&key, value, expected).await }))
    }
}

impl MetaStore for NatsTable {
    fn get(&self, key: &[u8]) -> StoreFuture<'_, Option<Versioned>> {
        let (table, key) = (self.0.clone(), key.to_owned());
        Box::pin(self.0.engine.run(async move { table.get(&key).await }))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> StoreFuture<'_, Vec<(Bytes, Versioned)>> {
        let (table, prefix, after) = (self.0.clone(), prefix.to_owned(), after.map(<[u8]>::to_owned));
        Box::pin(self.0.engine.run(async move { table.scan(&prefix, after.as_deref(), limit).await }))
    }

    fn put(&self, key: &[u8], value: Bytes, expected: Version) -> StoreFuture<'_, MetaWrite> {
        self.write(key, Some(value), expected)
    }

    fn remove(&self, key: &[u8], expected: Version) -> StoreFuture<'_, MetaWrite> {
        self.write(key, None, expected)
    }
}
