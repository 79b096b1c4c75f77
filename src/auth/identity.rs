//! Who asks, and what they may do: the one value that a request is judged by.
//!
//! A token's [`Grant`] is shared by all its requests and sessions. When it ends, by revocation or by the clock, the
//! sessions that watch it are woken, and nobody else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Context,
};

use crate::{
    types::{
        AccessTokenEntry, AccessTokenId, AccessTokenIdPart, AccessTokenSet, BasinName, BasinNamePart, BasinSet, Denied,
        Expiry, NameError, Operation, Operations, OutOfScope, ResourceSet, Scope, StreamName, StreamNamePart,
        StreamSet, Timestamp, TokenHash,
    },
    watchers::{Watchers, Watching},
};

/// Who asks.
#[derive(Clone, Debug)]
pub enum Identity {
    /// The operator with the root token, or anybody while authentication is off: may do everything, and never expires.
    Unlimited,
    /// The bearer of an access token.
    Token(Arc<Grant>),
}

impl Identity {
    /// All the operations that they may do.
    pub fn operations(&self) -> Operations {
        match self {
            Self::Unlimited => Operations::ALL,
            Self::Token(grant) => grant.operations,
        }
    }

    /// That they may do one of `ops`. At least one is named; the first one is told.
    pub fn permit_any(&self, ops: &[Operation]) -> Result<(), Denied> {
        let own = self.operations();
        match ops.iter().any(|op| own.contains(*op)) {
            true => Ok(()),
            false => ops.first().map_or(Ok(()), |op| Err(Denied::Operation(*op))),
        }
    }

    /// That they reach `basin`.
    pub fn reach_basin(&self, basin: &BasinName) -> Result<(), Denied> {
        self.scope().map_or(Ok(()), |scope| scope.reach_basin(basin))
    }

    /// That they reach `stream` of `basin`, both. `stream` is the full name.
    pub fn reach_stream(&self, basin: &BasinName, stream: &StreamName) -> Result<(), Denied> {
        self.scope().map_or(Ok(()), |scope| scope.reach_stream(basin, stream))
    }

    /// That they reach the access token `id`.
    pub fn reach_access_token(&self, id: &AccessTokenId) -> Result<(), Denied> {
        self.scope().map_or(Ok(()), |scope| scope.reach_access_token(id))
    }

    /// The basins that they reach among those whose names begin with `prefix`.
    pub fn basins_within(&self, prefix: BasinNamePart) -> BasinSet {
        match self.scope() {
            Some(scope) => scope.basins.within(&prefix),
            None => ResourceSet::Prefix(prefix),
        }
    }

    /// The streams that they reach among those whose full names begin with `prefix`.
    pub fn streams_within(&self, prefix: StreamNamePart) -> StreamSet {
        match self.scope() {
            Some(scope) => scope.streams.within(&prefix),
            None => ResourceSet::Prefix(prefix),
        }
    }

    /// The access tokens that they reach among those whose ids begin with `prefix`.
    pub fn access_tokens_within(&self, prefix: AccessTokenIdPart) -> AccessTokenSet {
        match self.scope() {
            Some(scope) => scope.access_tokens.within(&prefix),
            None => ResourceSet::Prefix(prefix),
        }
    }

    /// That whoever has `scope` can do nothing that they cannot.
    pub fn cover(&self, scope: &Scope) -> Result<(), OutOfScope> {
        self.scope().map_or(Ok(()), |own| own.covers(scope))
    }

    /// When they stop being who they are.
    pub fn expires_at(&self) -> Option<Expiry> {
        match self {
            Self::Unlimited => None,
            Self::Token(grant) => grant.entry.info.expires_at,
        }
    }

    /// The stream that they mean by `name` (`control-plane.md` §7.5). Fails when the full name is too long.
    pub fn full_stream(&self, name: StreamName) -> Result<StreamName, NameError> {
        match self.stream_prefix() {
            Some(prefix) => StreamName::new(&format!("{prefix}{name}")),
            None => Ok(name),
        }
    }

    /// The beginning of a full name, or a full name to list after, that they mean by `part`. Fails when it is too long.
    ///
    /// With a prefix this is never empty: what is listed after it leaves out the stream that is called like the prefix
    /// itself, for which the bearer of the token has no name.
    pub fn full_stream_part(&self, part: StreamNamePart) -> Result<StreamNamePart, NameError> {
        match self.stream_prefix() {
            Some(prefix) => StreamNamePart::new(&format!("{prefix}{part}")),
            None => Ok(part),
        }
    }

    /// What they call the stream of this full name.
    pub fn shown_stream(&self, full: StreamName) -> StreamName {
        let shown = self.stream_prefix().and_then(|prefix| full.as_str().strip_prefix(prefix.as_str()));
        shown.and_then(|shown| StreamName::new(shown).ok()).unwrap_or(full)
    }

    /// Tells a session when they stop being who they are.
    pub fn watch(&self) -> IdentityWatch {
        IdentityWatch(match self {
            Self::Unlimited => None,
            Self::Token(grant) => Some(GrantWatch::new(grant.clone())),
        })
    }

    /// Whether they still are who they were.
    pub fn standing(&self) -> Standing {
        match self {
            Self::Token(grant) if grant.has_ended() => Standing::Ended,
            Self::Token(_) | Self::Unlimited => Standing::Valid,
        }
    }

    fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Unlimited => None,
            Self::Token(grant) => Some(&grant.entry.info.scope),
        }
    }

    fn stream_prefix(&self) -> Option<&StreamNamePart> {
        match self {
            Self::Token(grant) if grant.entry.info.auto_prefix_streams => match &grant.entry.info.scope.streams {
                ResourceSet::Prefix(prefix) => Some(prefix),
                _ => None,
            },
            _ => None,
        }
    }
}

/// An access token in use: what it allows, and whether it still does.
#[derive(Debug)]
pub struct Grant {
    entry: AccessTokenEntry,
    operations: Operations,
    ended: AtomicBool,
    sessions: Arc<Watchers>,
}

impl Grant {
    pub(super) fn new(entry: AccessTokenEntry) -> Arc<Self> {
        let operations = entry.info.scope.operations();
        Arc::new(Self { entry, operations, ended: AtomicBool::new(false), sessions: Arc::default() })
    }

    pub(super) fn hash(&self) -> &TokenHash {
        &self.entry.hash
    }

    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.entry.info.expires_at.is_some_and(|expiry| expiry.has_passed(now))
    }

    /// From now on it allows nothing more; its sessions hear of it.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.sessions.wake();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Whether somebody is still who they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They are.
    Valid,
    /// Their token expired or was revoked.
    Ended,
}

/// A session's view of its identity.
#[derive(Debug)]
pub struct IdentityWatch(Option<GrantWatch>);

impl IdentityWatch {
    /// Whether they still are who they were; the task of `cx` is woken when that ends. Cheap when nothing changed.
    pub fn poll(&mut self, cx: &Context<'_>) -> Standing {
        match &mut self.0 {
            None => Standing::Valid,
            Some(watch) => watch.poll(cx),
        }
    }
}

#[derive(Debug)]
struct GrantWatch {
    grant: Arc<Grant>,
    watching: Watching,
}

impl GrantWatch {
    fn new(grant: Arc<Grant>) -> Self {
        Self { watching: grant.sessions.watch(), grant }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Standing {
        self.watching.register(cx);
        match self.grant.has_ended() {
            true => Standing::Ended,
            false => Standing::Valid,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicUsize,
        task::{Wake, Waker},
    };

    use super::*;
    use crate::types::AccessTokenInfo;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn identity(prefix: &str, auto_prefix_streams: bool) -> (Identity, Arc<Grant>) {
        let streams = ResourceSet::Prefix(StreamNamePart::new(prefix).unwrap());
        let info = AccessTokenInfo {
            id: AccessTokenId::new("t").unwrap(),
            expires_at: None,
            auto_prefix_streams,
            scope: Scope { streams, ..Scope::default() },
        };
        let grant = Grant::new(AccessTokenEntry { info, hash: TokenHash::new([1; 32]), created_at: Timestamp::new(0) });
        (Identity::Token(grant.clone()), grant)
    }

    fn name(text: &str) -> StreamName {
        StreamName::new(text).unwrap()
    }

    #[test]
    fn names_go_in_with_the_prefix_and_come_out_without() {
        // control-plane.md §7.5
        let (tenant, _) = identity("tenant/", true);
        assert_eq!(tenant.full_stream(name("a")), Ok(name("tenant/a")));
        assert_eq!(tenant.full_stream(name("tenant/a")), Ok(name("tenant/tenant/a")), "never by guessing");
        assert_eq!(tenant.shown_stream(name("tenant/a")), name("a"));
        let part = |text| StreamNamePart::new(text).unwrap();
        assert_eq!(tenant.full_stream_part(part("")), Ok(part("tenant/")));
        assert_eq!(tenant.full_stream_part(part("a")), Ok(part("tenant/a")));
        assert_eq!(tenant.full_stream(name(&"a".repeat(505))), Ok(name(&format!("tenant/{}", "a".repeat(505)))));
        assert!(tenant.full_stream(name(&"a".repeat(506))).is_err(), "the limit is that of the full name");
        assert!(tenant.full_stream_part(part(&"a".repeat(506))).is_err());
    }

    #[test]
    fn others_say_and_see_full_names() {
        let (plain, _) = identity("tenant/", false);
        for identity in [plain, Identity::Unlimited] {
            assert_eq!(identity.full_stream(name("a")), Ok(name("a")));
            assert_eq!(identity.shown_stream(name("tenant/a")), name("tenant/a"));
        }
    }

    #[test]
    fn sessions_hear_of_the_end() {
        let (identity, grant) = identity("", false);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        let mut watch = identity.watch();
        assert_eq!(watch.poll(&cx), Standing::Valid);
        grant.end();
        assert_eq!((watch.poll(&cx), count.0.load(Ordering::Relaxed)), (Standing::Ended, 1));
        assert_eq!(identity.watch().poll(&cx), Standing::Ended, "also one that comes later");
        assert_eq!(Identity::Unlimited.watch().poll(&cx), Standing::Valid);
    }

    #[test]
    fn either_of_several_operations_will_do() {
        let (nobody, _) = identity("", false);
        assert_eq!(nobody.permit_any(&[Operation::Read, Operation::Append]), Err(Denied::Operation(Operation::Read)));
        assert_eq!(nobody.permit_any(&[]), Ok(()));
        assert_eq!(Identity::Unlimited.permit_any(&[Operation::Read]), Ok(()));
    }
}
