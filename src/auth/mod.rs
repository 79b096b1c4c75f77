//! Access tokens: issued, kept, recognised, revoked; who asks, and what they may (`control-plane.md` §7).
//!
//! | file | subject |
//! |---|---|
//! | `identity` | who asks; what they may, and until when |
//! | `bearer` | the text of a token, and its hash |
//! | `table` | entries in the meta table |
//! | `live` | the tokens in use, so that a request reads nothing |
//! | `failure` | what goes wrong |
//!
//! Of a secret only its hash is kept. This room knows no HTTP and no stream.

mod bearer;
mod failure;
mod identity;
mod live;
mod table;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::MissedTickBehavior;

use self::{
    live::LiveTokens,
    table::{Found, Table},
};
use crate::{
    clock::{self, Clock},
    store::{MetaWrite, Sharing, Store, StoreError, Version},
    to_the_end::to_the_end,
    types::{
        AccessTokenEntry, AccessTokenId, AccessTokenIdPart, AccessTokenInfo, Expiry, Operation, Page, ResourceSet,
        Scope, Secret, Timestamp, TokenHash,
    },
};

pub use failure::{AuthError, TokenFailure};
pub use identity::{Grant, Identity, IdentityWatch, Standing};

/// How often tokens in use are looked after: sessions of one that expired end at most so much later.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The id under which the root token is listed. It is the operator's, and is neither issued nor revoked here.
const ROOT_ID: &str = "root";

/// Whether it matters who asks.
#[derive(Clone, Debug, Default)]
pub enum AuthConfig {
    /// Everybody may do everything. Tokens can be issued and do no harm.
    #[default]
    Off,
    /// Every request needs a token.
    On {
        /// The token that may do everything, from which the first others are issued. Kept nowhere.
        root: Option<Secret>,
    },
}

/// Who knows all access tokens.
pub struct Authority {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    mode: Mode,
    live: Mutex<LiveTokens>,
}

enum Mode {
    Off,
    On { root: Option<TokenHash> },
}

impl Authority {
    /// The tokens that `store` keeps. Needs a running tokio runtime if authentication is on.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, config: &AuthConfig) -> Arc<Self> {
        let mode = match config {
            AuthConfig::Off => Mode::Off,
            AuthConfig::On { root } => Mode::On { root: root.as_ref().map(|root| bearer::hash(root.expose())) },
        };
        let authority = Arc::new(Self { store, clock, mode, live: Mutex::default() });
        if let Mode::On { .. } = authority.mode {
            tokio::spawn(sweep_on(Arc::downgrade(&authority)));
        }
        authority
    }

    /// Who asks, by the text behind `Bearer` (`control-plane.md` §7.1). Reads nothing for a token in use.
    pub async fn authenticate(&self, bearer: Option<&str>) -> Result<Identity, AuthError> {
        let Mode::On { root } = &self.mode else { return Ok(Identity::Unlimited) };
        let bearer = bearer.ok_or(AuthError::Missing)?;
        let hash = bearer::hash(bearer);
        if root.as_ref().is_some_and(|root| bearer::same(root, &hash)) {
            return Ok(Identity::Unlimited);
        }
        let id = bearer::id_of(bearer).ok_or(AuthError::Malformed)?;
        if self.is_root(&id) {
            // Issued when there was no root token; nobody could revoke it now.
            return Err(AuthError::Unknown);
        }
        let trusted = self.live().trusted(&id, clock::instant());
        let grant = match trusted {
            Some(grant) if bearer::same(grant.hash(), &hash) || !self.is_shared() => grant,
            // It is new, or another gateway issued the id anew.
            _ => self.read(&id).await?.ok_or(AuthError::Unknown)?,
        };
        // Whoever does not know the secret is told nothing about the token, not even that it has expired.
        match bearer::same(grant.hash(), &hash) {
            false => Err(AuthError::Unknown),
            true if grant.has_expired(self.clock.now()) => Err(AuthError::Expired),
            true => Ok(Identity::Token(grant)),
        }
    }

    /// Makes a token that may do no more than its issuer, and not for longer (`control-plane.md` §7.2).
    ///
    /// `wanted` without an expiry has the issuer's. The secret is told this once. An expired token's id is free again.
    pub async fn issue(&self, issuer: &Identity, wanted: AccessTokenInfo) -> Result<Secret, TokenFailure> {
        let now = self.clock.now();
        check_sense(&wanted, now)?;
        issuer.permit_any(&[Operation::IssueAccessToken])?;
        issuer.reach_access_token(&wanted.id)?;
        issuer.cover(&wanted.scope)?;
        if self.is_root(&wanted.id) {
            return Err(TokenFailure::Exists(wanted.id));
        }
        let expires_at = expiry_within(wanted.expires_at, issuer.expires_at())?;
        let info = AccessTokenInfo { expires_at, ..wanted };
        let token = bearer::draw(&info.id)?;
        self.add(&AccessTokenEntry { info, hash: bearer::hash(token.expose()), created_at: now }).await?;
        Ok(token)
    }

    /// Tokens that `who` reaches, with ids that begin with `prefix` and sort after `start_after`, in order
    /// (`control-plane.md` §7.6). Expired ones are among them until they are revoked.
    pub async fn list(
        &self,
        who: &Identity,
        prefix: AccessTokenIdPart,
        start_after: &AccessTokenIdPart,
        limit: usize,
    ) -> Result<Page<AccessTokenInfo>, TokenFailure> {
        who.permit_any(&[Operation::ListAccessTokens])?;
        match who.access_tokens_within(prefix) {
            ResourceSet::Nothing => Ok(Page::EMPTY),
            ResourceSet::Prefix(prefix) => {
                let page = self.table().list(&prefix, start_after, limit).await?;
                Ok(self.with_root(page, &prefix, start_after, limit))
            }
            ResourceSet::Exact(id) => {
                let found = match id.as_str() > start_after.as_str() {
                    true if self.is_root(&id) => Some(root_info()),
                    true => self.table().find(&id).await?.map(|found| found.entry.info),
                    false => None,
                };
                Ok(Page { entries: found.into_iter().collect(), has_more: false })
            }
        }
    }

    /// Ends a token at once, with all its sessions (`control-plane.md` §7.6). Tokens that were issued with it stay.
    pub async fn revoke(self: &Arc<Self>, who: &Identity, id: &AccessTokenId) -> Result<(), TokenFailure> {
        who.permit_any(&[Operation::RevokeAccessToken])?;
        who.reach_access_token(id)?;
        if self.is_root(id) {
            return Err(TokenFailure::Root);
        }
        let (authority, id) = (self.clone(), id.clone());
        to_the_end(async move { authority.remove(&id).await }).await
    }

    /// Removes a token from the table, and ends it here.
    async fn remove(&self, id: &AccessTokenId) -> Result<(), TokenFailure> {
        loop {
            let Some(Found { version, .. }) = self.table().find(id).await? else {
                return Err(TokenFailure::NotFound(id.clone()));
            };
            let write = self.table().remove(id, version).await?;
            if let MetaWrite::Done(_) = write {
                self.live().forget(id, version, clock::instant());
                return Ok(());
            }
        }
    }

    fn is_shared(&self) -> bool {
        self.store.sharing() == Sharing::Shared
    }

    fn is_root(&self, id: &AccessTokenId) -> bool {
        matches!(self.mode, Mode::On { root: Some(_) }) && id.as_str() == ROOT_ID
    }

    /// `page` with the root token in its place, if it belongs there: whoever lists tokens sees every one that works.
    fn with_root(
        &self,
        mut page: Page<AccessTokenInfo>,
        prefix: &AccessTokenIdPart,
        start_after: &AccessTokenIdPart,
        limit: usize,
    ) -> Page<AccessTokenInfo> {
        let root = root_info();
        let asked_for = ROOT_ID.starts_with(prefix.as_str()) && ROOT_ID > start_after.as_str();
        let place = page.entries.partition_point(|info| info.id < root.id);
        let on_a_later_page = page.has_more && place == page.entries.len();
        if !self.is_root(&root.id) || !asked_for || on_a_later_page {
            return page;
        }
        match page.entries.get_mut(place) {
            Some(shadowed) if shadowed.id == root.id => *shadowed = root,
            _ => page.entries.insert(place, root),
        }
        page.has_more |= page.entries.len() > limit;
        page.entries.truncate(limit);
        page
    }

    async fn add(&self, entry: &AccessTokenEntry) -> Result<(), TokenFailure> {
        let id = &entry.info.id;
        loop {
            let expected = match self.table().find(id).await? {
                Some(found) if expired(&found.entry, entry.created_at) => found.version,
                Some(_) => return Err(TokenFailure::Exists(id.clone())),
                None => Version::ABSENT,
            };
            let write = self.table().put(entry, expected).await?;
            if let MetaWrite::Done(_) = write {
                self.live().forget(id, expected, clock::instant());
                return Ok(());
            }
        }
    }

    /// What the table says of a token now; keeps it.
    async fn read(&self, id: &AccessTokenId) -> Result<Option<Arc<Grant>>, StoreError> {
        loop {
            let before_reading = self.live().before_reading();
            let found = self.table().find(id).await?;
            if let Ok(grant) = self.live().put(id, found, before_reading, clock::instant()) {
                return Ok(grant);
            }
        }
    }

    async fn sweep(&self) {
        let stale = self.live().sweep(self.clock.now(), clock::instant());
        // A store that does not answer must not keep others from expiring. Who is left comes first the next time.
        let reading = tokio::time::timeout(SWEEP_EVERY, self.reread(stale));
        if reading.await.is_err() {
            tracing::warn!("cannot tell which access tokens were revoked: the store does not answer in time");
        }
    }

    async fn reread(&self, stale: Vec<AccessTokenId>) {
        for id in stale {
            if let Err(error) = self.read(&id).await {
                tracing::warn!(%error, %id, "cannot tell whether an access token was revoked");
            }
        }
    }

    fn table(&self) -> Table<'_> {
        Table::new(self.store.meta())
    }

    fn live(&self) -> MutexGuard<'_, LiveTokens> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn root_info() -> AccessTokenInfo {
    let id = AccessTokenId::new(ROOT_ID).expect("a short word is an id");
    AccessTokenInfo { id, expires_at: None, auto_prefix_streams: false, scope: Scope::everything() }
}

async fn sweep_on(authority: Weak<Authority>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(authority) = authority.upgrade() else { return };
        authority.sweep().await;
    }
}

/// What is wrong with a token whoever asks for it (`control-plane.md` §7.2).
fn check_sense(wanted: &AccessTokenInfo, now: Timestamp) -> Result<(), TokenFailure> {
    let has_prefix = matches!(wanted.scope.streams, ResourceSet::Prefix(_));
    if wanted.auto_prefix_streams && !has_prefix {
        return Err(TokenFailure::NoPrefix);
    }
    if wanted.scope.operations().is_empty() {
        return Err(TokenFailure::NoOperations);
    }
    match wanted.expires_at {
        Some(expiry) if expiry.has_passed(now) => Err(TokenFailure::ExpiryPassed),
        _ => Ok(()),
    }
}

fn expiry_within(wanted: Option<Expiry>, issuers: Option<Expiry>) -> Result<Option<Expiry>, TokenFailure> {
    match (wanted, issuers) {
        (Some(wanted), Some(issuers)) if wanted > issuers => Err(TokenFailure::OutlivesIssuer),
        (wanted, issuers) => Ok(wanted.or(issuers)),
    }
}

fn expired(entry: &AccessTokenEntry, now: Timestamp) -> bool {
    entry.info.expires_at.is_some_and(|expiry| expiry.has_passed(now))
}
