//! What other gateways over the same store do to the names that this one knows: nothing of it is announced.
//!
//! ```text
//! entry read        1 s: read again while held        2 s: read again before use       5 s after its mark: removed
//! ────┼─────────────────────┼──────────────────────────────┼─────────────────────────────────┼──────────────►
//!     │   what is known of an open stream is used          │  not used                       │  the name is free
//! ```
//!
//! So a change of a stream's configuration is in force everywhere after two seconds, and so is its end. What was marked as
//! deleted is removed later than that: whoever finds the name free again meets nobody who still serves the old stream.
//! (To look at the entry at every request would cost each a round trip, and tell sessions nothing.)

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{Failure, Open, Stream, StreamKey, Streams, catalogue::Found};
use crate::{
    clock,
    store::{Removal, Sharing},
    types::StreamEntry,
};

/// How old what is known of a stream's entry may be when a request relies on it.
const TRUSTED_FOR: Duration = Duration::from_secs(2);

/// How often the entries of streams that sessions hold are read again.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// From the mark of a deletion to the removal: longer than anyone trusts an entry without the mark, by the time that
/// reading it again may take.
const NOTICED_AFTER: Duration = Duration::from_secs(5);

/// How long it may take to write down, before the process ends, what is good to know and not needed.
const LAST_NOTES: Duration = Duration::from_secs(10);

/// How often something is judged again that others changed in the meantime.
pub(super) const MAX_TRIES: usize = 16;

/// Does `attempt` until nobody else comes in between. It must begin with reading what it changes.
pub(super) async fn settled<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    for _ in 1..MAX_TRIES {
        match attempt().await {
            Err(Failure::Conflict) => {}
            outcome => return outcome,
        }
    }
    attempt().await
}

/// Does `last` before the end, unless nobody answers: arrivals that are not written down are noted later, and usage is lost.
pub(super) async fn unless_silent(last: impl Future<Output = ()>) {
    if tokio::time::timeout(LAST_NOTES, last).await.is_err() {
        tracing::warn!("not all arrivals and usage could be written down before the end");
    }
}

impl Streams {
    pub(super) fn is_shared(&self) -> bool {
        self.store.sharing() == Sharing::Shared
    }

    /// Whether what is known of `open` may be relied on.
    pub(super) fn is_trusted(&self, open: &Open) -> bool {
        !self.is_shared() || clock::instant().saturating_duration_since(open.checked) <= TRUSTED_FOR
    }

    /// Holds the open stream of `key` against its entry as it is now; one that is not that of the entry ends.
    ///
    /// The caller holds the name.
    pub(super) fn renew(&self, key: &StreamKey, entry: Option<&StreamEntry>, read_at: Instant) -> Option<Arc<Stream>> {
        let mut streams = self.open_streams();
        let open = streams.get_mut(key)?;
        match entry.filter(|entry| entry.id == open.stream.id() && entry.deleted_at.is_none()) {
            Some(entry) => {
                open.checked = read_at;
                let stream = open.stream.clone();
                drop(streams);
                stream.reconfigure_if_changed(&entry.config);
                Some(stream)
            }
            None => {
                let ended = streams.remove(key);
                drop(streams);
                ended.into_iter().for_each(|open| open.stream.delete());
                if entry.is_none_or(|entry| entry.deleted_at.is_some()) {
                    self.usage.stream_deleted(&key.0, &key.1);
                }
                None
            }
        }
    }

    async fn renew_held(&self) {
        let held = self.open_streams_where(|open| open.is_held());
        for key in held {
            if let Err(error) = self.renew_one(&key).await {
                let (basin, stream) = key;
                tracing::warn!(%basin, %stream, %error, "cannot tell whether a stream was changed");
            }
        }
    }

    async fn renew_one(&self, key: &StreamKey) -> Result<(), Failure> {
        let _name = self.lock_name(key).await;
        let read_at = clock::instant();
        let found = self.catalogue().stream(&key.0, &key.1).await?;
        self.renew(key, found.as_ref().map(|found| &found.entry), read_at);
        Ok(())
    }

    /// Waits until no other gateway uses what was marked as deleted before this was called.
    pub(super) async fn until_noticed(&self) {
        if self.is_shared() {
            tokio::time::sleep(NOTICED_AFTER).await;
        }
    }

    /// Removes the records of a stream that was to go as empty, if it still is; otherwise its entry is what it was. Whether
    /// it goes.
    ///
    /// Asked when everybody has noticed the mark. Whoever slept through that and appends now either comes before the
    /// removal, so that the stream stays, or is refused.
    pub(super) async fn goes_if_empty(&self, key: &StreamKey, found: &Found<StreamEntry>) -> Result<bool, Failure> {
        let Some(empty_at) = found.entry.empty_at else { return Ok(true) };
        if self.store.delete_at(found.entry.id, empty_at).await? == Removal::Removed {
            return Ok(true);
        }
        let entry = StreamEntry { deleted_at: None, empty_at: None, ..found.entry.clone() };
        self.catalogue().put_stream(&key.0, &key.1, &entry, Some(found)).await?;
        Ok(false)
    }
}

/// Reads again what sessions hold, until `streams` is gone.
pub(super) async fn renew_on(streams: Weak<Streams>) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        match streams.upgrade() {
            Some(streams) => streams.renew_held().await,
            None => return,
        }
    }
}
