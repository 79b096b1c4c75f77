//! Tokens in use: what was last read of each, how long ago, and who must hear when one ends. Knows no store.
//!
//! ```text
//!            last read      2 s: the sweep reads again      5 s: a request reads again
//! ──────────────┼───────────────────────┼──────────────────────────────┼──────────────►
//!               │     trusted           │      trusted                 │  not trusted
//! ```
//!
//! What this gateway revokes it forgets at once. The times are for what another one revokes in the same table.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{identity::Grant, table::Found};
use crate::{
    store::Version,
    types::{AccessTokenId, Timestamp},
};

/// How old what was read may be when a request relies on it.
const TRUSTED_FOR: Duration = Duration::from_secs(5);

/// How old what was read is when the sweep reads it again.
const REREAD_AFTER: Duration = Duration::from_secs(2);

/// How long a token that nobody uses is remembered.
const IDLE_AFTER: Duration = Duration::from_secs(30);

/// How long it is remembered which tokens were ended here: longer than a server of a shared table answers without having
/// heard of it.
const ENDED_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct LiveTokens {
    by_id: HashMap<AccessTokenId, Live>,
    ended: HashMap<AccessTokenId, Ended>,
    /// Grows with each token forgotten, so that what was read before cannot bring it back.
    forgotten: u64,
}

#[derive(Debug)]
struct Live {
    grant: Arc<Grant>,
    version: Version,
    read_at: Instant,
    used_at: Instant,
}

/// The end of a token, for reads that are older.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// Its last.
    version: Version,
    at: Instant,
}

/// What was read is older than a revocation: it must be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outdated;

impl LiveTokens {
    /// To be named when putting what is read from now on.
    pub(super) fn before_reading(&self) -> u64 {
        self.forgotten
    }

    /// The token, if what is known of it can be relied on.
    pub(super) fn trusted(&mut self, id: &AccessTokenId, now: Instant) -> Option<Arc<Grant>> {
        let live = self.by_id.get_mut(id)?;
        if now.saturating_duration_since(live.read_at) > TRUSTED_FOR {
            return None;
        }
        live.used_at = now;
        Some(live.grant.clone())
    }

    /// Keeps what was found of a token, and ends what it was before if that was another.
    pub(super) fn put(
        &mut self,
        id: &AccessTokenId,
        found: Option<Found>,
        before_reading: u64,
        now: Instant,
    ) -> Result<Option<Arc<Grant>>, Outdated> {
        if before_reading != self.forgotten {
            return Err(Outdated);
        }
        let Some(Found { entry, version }) = found else {
            self.end(id);
            return Ok(None);
        };
        if self.ended.get(id).is_some_and(|ended| version <= ended.version) {
            // From a server that has not heard of it.
            return Ok(self.by_id.get(id).map(|live| live.grant.clone()));
        }
        match self.by_id.get_mut(id) {
            // Two reads may come in another order than they were made; versions only grow.
            Some(live) if live.version >= version => live.read_at = now,
            _ => {
                let live = Live { grant: Grant::new(entry), version, read_at: now, used_at: now };
                if let Some(before) = self.by_id.insert(id.clone(), live) {
                    before.grant.end();
                }
            }
        }
        Ok(self.by_id.get(id).map(|live| live.grant.clone()))
    }

    /// Ends a token that was revoked or replaced just now, when it had the version `last`.
    pub(super) fn forget(&mut self, id: &AccessTokenId, last: Version, now: Instant) {
        self.end(id);
        let before = self.ended.get(id).map_or(Version::ABSENT, |ended| ended.version);
        self.ended.insert(id.clone(), Ended { version: last.max(before), at: now });
        self.forgotten += 1;
    }

    fn end(&mut self, id: &AccessTokenId) {
        if let Some(live) = self.by_id.remove(id) {
            live.grant.end();
        }
    }

    /// Ends what has expired, lets go of what nobody uses, and says what should be read again, the oldest first.
    pub(super) fn sweep(&mut self, time: Timestamp, now: Instant) -> Vec<AccessTokenId> {
        self.ended.retain(|_, ended| now.saturating_duration_since(ended.at) < ENDED_FOR);
        self.by_id.retain(|_, live| {
            if live.grant.has_expired(time) {
                live.grant.end();
                return false;
            }
            let held = Arc::strong_count(&live.grant) > 1;
            held || now.saturating_duration_since(live.used_at) < IDLE_AFTER
        });
        let is_stale = |live: &&Live| now.saturating_duration_since(live.read_at) >= REREAD_AFTER;
        let mut stale: Vec<_> = self.by_id.iter().filter(|(_, live)| is_stale(live)).collect();
        stale.sort_by_key(|(_, live)| live.read_at);
        stale.into_iter().map(|(id, _)| id.clone()).collect()
    }
}
