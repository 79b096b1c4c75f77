//! The service: basins and streams, append sessions and read sessions. The only place that joins rules and storage.
//!
//! It knows no HTTP: requests come in as values, and go out as values or as a [`Failure`].

mod activity;
mod append;
mod background;
mod catalogue;
mod failure;
mod followed;
mod in_flight;
mod init;
mod neighbours;
mod pages;
mod portion;
mod provision;
mod read;
mod reconfigure;
mod retention;
mod ring;
mod rings;
mod stream;
#[cfg(test)]
mod tests;
mod waiters;
mod writers;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use self::{
    background::{Background, Job},
    catalogue::Catalogue,
    retention::Sweep,
    rings::Rings,
};
use crate::{
    clock::{self, Clock},
    encryption::{EncryptionKey, KeyError, KeyMaterial},
    memory::Share,
    sequence::ReadMode,
    store::{Store, StoreError},
    telemetry::{CommitLatency, MemoryUse},
    types::{BasinName, Cipher, MemoryShares, Position, ReadRequest, StreamConfigLayer, StreamEntry, StreamName},
    usage::{self, Usage, UsageConfig},
};

pub use append::AppendSession;
pub use failure::Failure;
pub use followed::Followed;
pub use init::EnsureError;
pub use portion::OnItsWay;
pub use provision::BasinWish;
pub use read::{ReadEvent, ReadSession, Stage};
pub use stream::Stream;

/// How the service is set up.
#[derive(Clone, Copy, Debug)]
pub struct StreamsConfig {
    /// What streams and sessions together may take of memory.
    pub memory: MemoryShares,
    /// How long a stream that nobody uses stays open.
    pub idle_after: Duration,
    /// How usage is counted and asked for.
    pub usage: UsageConfig,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self { memory: MemoryShares::default(), idle_after: Duration::from_secs(60), usage: UsageConfig::default() }
    }
}

/// What a request wants of a stream, which decides whether the stream is made when it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To append.
    Append,
    /// To read.
    Read,
    /// To check the tail: a read that needs no key.
    CheckTail,
}

impl Access {
    /// Whether `key` does for a stream with `cipher`, as far as anyone can tell without its records.
    fn check_key(self, cipher: Option<Cipher>, key: Option<&KeyMaterial>) -> Result<(), KeyError> {
        match (self, cipher) {
            (Access::Append | Access::Read, Some(cipher)) => EncryptionKey::required(cipher, key).map(|_| ()),
            (Access::CheckTail, _) | (_, None) => Ok(()),
        }
    }
}

type StreamKey = (BasinName, StreamName);

/// A name on which nobody else works meanwhile.
type HeldName = tokio::sync::OwnedMutexGuard<()>;

/// The service.
pub struct Streams {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    memory: MemoryShares,
    in_flight: Arc<Semaphore>,
    rings: Arc<Rings<Stream>>,
    sessions: Arc<Share>,
    background: Background,
    usage: Arc<Usage>,
    commit_latency: CommitLatency,
    open: Mutex<HashMap<StreamKey, Open>>,
    /// Opening, making, changing and deleting a name happen one after the other; names share a few locks.
    names: [Arc<tokio::sync::Mutex<()>>; 64],
    hasher: RandomState,
    sweep: tokio::sync::Mutex<Sweep>,
}

/// A stream in the table of open ones.
struct Open {
    stream: Arc<Stream>,
    used: Instant,
    /// When its entry was read last.
    checked: Instant,
}

impl Open {
    /// Whether a session or a request has the stream.
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.stream) > 1
    }
}

impl Streams {
    /// The service over `store`, with the time of day from `clock`. Needs a running tokio runtime.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, config: StreamsConfig) -> Arc<Self> {
        let (background, jobs) = Background::new();
        let usage = Usage::new(store.clone(), clock.clone(), config.usage);
        tokio::spawn(usage::run(Arc::downgrade(&usage)));
        let streams = Arc::new(Self {
            store,
            clock,
            memory: config.memory,
            in_flight: Arc::new(Semaphore::new(config.memory.in_flight().min(Semaphore::MAX_PERMITS))),
            rings: Arc::new(Rings::new(config.memory.recent)),
            sessions: Arc::new(Share::new(config.memory.sessions)),
            background,
            usage,
            commit_latency: CommitLatency::default(),
            open: Mutex::default(),
            names: std::array::from_fn(|_| Arc::default()),
            hasher: RandomState::new(),
            sweep: tokio::sync::Mutex::default(),
        });
        tokio::spawn(background::resume_deletions(Arc::downgrade(&streams)));
        tokio::spawn(background::sweep(Arc::downgrade(&streams)));
        tokio::spawn(background::run(Arc::downgrade(&streams), jobs));
        tokio::spawn(background::close_idle(Arc::downgrade(&streams), config.idle_after));
        if streams.is_shared() {
            tokio::spawn(neighbours::renew_on(Arc::downgrade(&streams)));
        }
        streams
    }

    /// Opens an append session with a stream; `key` encrypts what is appended if the stream has a cipher.
    pub fn append_session(&self, stream: Arc<Stream>, key: Option<&KeyMaterial>) -> Result<AppendSession, Failure> {
        let cipher = stream.record_cipher(key)?;
        Ok(AppendSession::new(stream, cipher, self.in_flight.clone(), self.clock.clone()))
    }

    /// Opens a read session with a stream; `key` decrypts what is read if the stream has a cipher. The start is resolved
    /// before this returns.
    pub async fn read_session(
        &self,
        stream: Arc<Stream>,
        key: Option<&KeyMaterial>,
        request: &ReadRequest,
    ) -> Result<ReadSession, Failure> {
        let cipher = stream.record_cipher(key)?;
        ReadSession::open(stream, cipher, request, ReadMode::Session, self.sessions.clone()).await
    }

    /// Reads up to one batch, waiting for it if the request says so. One record that cannot be decrypted fails it all.
    pub async fn read(
        &self,
        stream: Arc<Stream>,
        key: Option<&KeyMaterial>,
        request: &ReadRequest,
    ) -> Result<Option<ReadEvent>, Failure> {
        let cipher = stream.record_cipher(key)?;
        let mut session = ReadSession::open(stream, cipher, request, ReadMode::Unary, self.sessions.clone()).await?;
        loop {
            match session.next().await.transpose()? {
                Some(ReadEvent::Heartbeat(_)) => {}
                event => return session.take_undecryptable().map_or(Ok(event), Err),
            }
        }
    }

    /// The durable tail of a stream, whoever moved it: what was acknowledged anywhere before this was called is before it.
    pub async fn check_tail(&self, stream: &Stream) -> Result<Position, Failure> {
        stream.refreshed().await?;
        stream.check_tail()
    }

    /// The stream `name` of `basin`, opened if need be; made if it is missing and the basin says so.
    ///
    /// `layer` is the configuration that the request has for a stream it makes. Nothing is made for a request without a
    /// `encryption_key` that does for the cipher which the stream would get.
    pub async fn stream(
        &self,
        basin: &BasinName,
        name: &StreamName,
        access: Access,
        layer: Option<&StreamConfigLayer>,
        encryption_key: Option<&KeyMaterial>,
    ) -> Result<Arc<Stream>, Failure> {
        let key = (basin.clone(), name.clone());
        if let Some(stream) = self.open_stream(&key) {
            return Ok(stream);
        }
        let _name = self.lock_name(&key).await;
        if let Some(stream) = self.open_stream(&key) {
            return Ok(stream);
        }
        neighbours::settled(|| self.open_or_make(&key, access, layer, encryption_key)).await
    }

    /// The caller holds the name.
    async fn open_or_make(
        &self,
        key: &StreamKey,
        access: Access,
        layer: Option<&StreamConfigLayer>,
        encryption_key: Option<&KeyMaterial>,
    ) -> Result<Arc<Stream>, Failure> {
        let (basin, name) = key;
        let read_at = clock::instant();
        let found = self.catalogue().stream(basin, name).await?.map(|found| found.entry);
        if let Some(stream) = self.renew(key, found.as_ref(), read_at) {
            return Ok(stream);
        }
        let entry = match found {
            Some(entry) if entry.deleted_at.is_some() => return Err(Failure::StreamDeletionPending),
            Some(entry) => entry,
            None => self.make_on_access(basin, name, access, layer, encryption_key).await?,
        };
        let stream = self.open_log(key, &entry).await?;
        let open = Open { stream: stream.clone(), used: clock::instant(), checked: read_at };
        self.open_streams().insert(key.clone(), open);
        Ok(stream)
    }

    /// Opens the log of a stream whose name the caller holds, and which is not open.
    async fn open_log(&self, (basin, name): &StreamKey, entry: &StreamEntry) -> Result<Arc<Stream>, Failure> {
        let arrivals = self.catalogue().arrivals(entry.id).await?.map(|found| found.entry);
        let (background, commit_latency) = (self.background.clone(), self.commit_latency.clone());
        let (clock, rings) = (self.clock.clone(), self.rings.clone());
        let stream = Stream::open(&*self.store, entry, arrivals, clock, background, rings, commit_latency).await?;
        if stream.was_deleted() {
            // After the entry was read, or by the word of a server that had not heard of it.
            return Err(Failure::StreamDeletionPending);
        }
        stream.count_for(self.usage.open_stream(basin, name, &entry.config.storage_class, stream.stored()));
        Ok(stream)
    }

    async fn make_on_access(
        &self,
        basin: &BasinName,
        name: &StreamName,
        access: Access,
        layer: Option<&StreamConfigLayer>,
        encryption_key: Option<&KeyMaterial>,
    ) -> Result<StreamEntry, Failure> {
        let Some(found) = self.catalogue().basin(basin).await? else {
            return Err(Failure::BasinNotFound(basin.clone()));
        };
        let makes = match access {
            Access::Append => found.entry.config.create_stream_on_append,
            Access::Read | Access::CheckTail => found.entry.config.create_stream_on_read,
        };
        if !makes {
            return Err(Failure::StreamNotFound(basin.clone(), name.clone()));
        }
        if found.entry.deleted_at.is_some() {
            return Err(Failure::BasinDeletionPending(basin.clone()));
        }
        access.check_key(found.entry.config.stream_cipher, encryption_key)?;
        self.make_stream(basin, name, &found.entry, layer.unwrap_or(&StreamConfigLayer::default()), None).await
    }

    /// Where streams are kept, for what else is kept beside them.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The time of day that the service goes by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Whether the store takes writes.
    pub fn health(&self) -> Result<(), StoreError> {
        self.store.health()
    }

    /// Bytes that streams take on a disk, if they are on one.
    pub fn disk_used(&self) -> Option<u64> {
        self.store.disk_used()
    }

    /// What sessions hold is counted against this.
    pub fn session_memory(&self) -> &Arc<Share> {
        &self.sessions
    }

    /// Which memory may be taken for what.
    pub fn memory_shares(&self) -> &MemoryShares {
        &self.memory
    }

    /// How much of each share of memory is taken here.
    pub fn memory_used(&self) -> [MemoryUse; 4] {
        let written = self.store.unmoved().unwrap_or_default() as usize;
        let in_flight = self.memory.in_flight().saturating_sub(self.in_flight.available_permits());
        [
            MemoryUse { purpose: "appends", used: 2 * in_flight, limit: self.memory.appends },
            MemoryUse { purpose: "recent", used: self.rings.share().used(), limit: self.memory.recent },
            MemoryUse { purpose: "written", used: written, limit: self.memory.written },
            MemoryUse { purpose: "sessions", used: self.sessions.used(), limit: self.memory.sessions },
        ]
    }

    /// Ends the service: what was accepted becomes durable first.
    pub async fn close(&self) -> Result<(), StoreError> {
        match self.is_shared() {
            true => neighbours::unless_silent(self.save_what_was_noted()).await,
            false => self.save_what_was_noted().await,
        }
        self.store.close().await
    }

    async fn save_what_was_noted(&self) {
        self.save_arrivals().await;
        if let Err(error) = self.usage.finish().await {
            tracing::warn!(%error, "the last usage was not written down");
        }
    }

    /// What is counted of the use of all this.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// How long commits of the store take.
    pub fn commit_latency(&self) -> &CommitLatency {
        &self.commit_latency
    }

    /// How many streams are open.
    pub fn open_count(&self) -> usize {
        self.open_streams().len()
    }

    fn catalogue(&self) -> Catalogue<'_> {
        Catalogue::new(self.store.meta())
    }

    /// The stream of that name if it is open and can be used.
    fn open_stream(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        let mut open = self.open_streams();
        let found = open.get_mut(key)?;
        if found.stream.has_failed() {
            open.remove(key);
            return None;
        }
        found.used = clock::instant();
        self.is_trusted(found).then(|| found.stream.clone())
    }

    /// Lets go of streams that nobody holds and nobody used since `idle_after` ago.
    fn close_idle(&self, idle_after: Duration) {
        let now = clock::instant();
        self.open_streams().retain(|_, open| {
            let held = open.is_held() || !open.stream.is_settled() || open.stream.has_unsaved_arrivals();
            held || now.duration_since(open.used) < idle_after
        });
    }

    fn open_streams(&self) -> MutexGuard<'_, HashMap<StreamKey, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lock_name(&self, key: &StreamKey) -> HeldName {
        self.name_lock(key).lock_owned().await
    }

    async fn lock_basin(&self, name: &BasinName) -> HeldName {
        self.name_lock(name).lock_owned().await
    }

    fn name_lock(&self, name: impl std::hash::Hash) -> Arc<tokio::sync::Mutex<()>> {
        let hash = self.hasher.hash_one(name) as usize;
        self.names[hash % self.names.len()].clone()
    }
}
