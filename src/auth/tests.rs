//! The authority over a store in memory, with both clocks in hand.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Waker},
};

use bytes::Bytes;

use super::*;
use crate::{
    clock::ManualClock,
    store::{CommitSink, MemoryStore, MetaStore, OpenLog, StoreFuture, Versioned, shared_memory::Engine},
    types::{Denied, OpGroup, OpGroups, OutOfScope, Scope, StreamId, StreamName, StreamNamePart},
};

/// Memory that counts the reads of single entries.
struct CountingStore {
    inner: MemoryStore,
    reads: AtomicUsize,
}

impl Store for CountingStore {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        self.inner.open(stream, sink)
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        self.inner.delete(stream)
    }

    fn meta(&self) -> &dyn MetaStore {
        self
    }

    fn health(&self) -> Result<(), StoreError> {
        self.inner.health()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.inner.close()
    }
}

impl MetaStore for CountingStore {
    fn get(&self, key: &[u8]) -> StoreFuture<'_, Option<Versioned>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.meta().get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> StoreFuture<'_, Vec<(Bytes, Versioned)>> {
        self.inner.meta().scan(prefix, after, limit)
    }

    fn put(&self, key: &[u8], value: Bytes, expected: Version) -> StoreFuture<'_, MetaWrite> {
        self.inner.meta().put(key, value, expected)
    }

    fn remove(&self, key: &[u8], expected: Version) -> StoreFuture<'_, MetaWrite> {
        self.inner.meta().remove(key, expected)
    }
}

struct World {
    store: Arc<CountingStore>,
    clock: Arc<ManualClock>,
    authority: Arc<Authority>,
}

const ROOT: &str = "the operator's own";

impl World {
    fn new() -> Self {
        let store = Arc::new(CountingStore { inner: MemoryStore::new(1 << 20), reads: AtomicUsize::new(0) });
        let clock = Arc::new(ManualClock::at(Timestamp::new(1_000_000)));
        let authority = another(&store, &clock);
        Self { store, clock, authority }
    }

    fn reads(&self) -> usize {
        self.store.reads.load(Ordering::Relaxed)
    }

    async fn root(&self) -> Identity {
        self.authority.authenticate(Some(ROOT)).await.unwrap()
    }

    async fn issue(&self, wanted: AccessTokenInfo) -> Secret {
        self.authority.issue(&Identity::Unlimited, wanted).await.unwrap()
    }

    async fn recognise(&self, token: &Secret) -> Result<Identity, AuthError> {
        self.authority.authenticate(Some(token.expose())).await
    }
}

/// One more gateway on the same table.
fn another(store: &Arc<CountingStore>, clock: &Arc<ManualClock>) -> Arc<Authority> {
    let root = Some(Secret::new(ROOT).unwrap());
    Authority::new(store.clone(), clock.clone(), &AuthConfig::On { root })
}

fn id(text: &str) -> AccessTokenId {
    AccessTokenId::new(text).unwrap()
}

fn part(text: &str) -> AccessTokenIdPart {
    AccessTokenIdPart::new(text).unwrap()
}

fn wanted(text: &str, scope: Scope) -> AccessTokenInfo {
    AccessTokenInfo { id: id(text), expires_at: None, auto_prefix_streams: false, scope }
}

fn lasting(secs: u64, wanted: AccessTokenInfo) -> AccessTokenInfo {
    AccessTokenInfo { expires_at: Some(Expiry::new(secs, 0)), ..wanted }
}

fn reader() -> Scope {
    Scope { ops: [Operation::Read].into_iter().collect(), ..Scope::everything() }
}

/// Time passes for the sweep and for what is trusted; the time of day stands still.
async fn pass(time: Duration) {
    // The sweep is polled when its time has come, not only once after all of it.
    for _ in 0..time.as_millis() / 100 {
        tokio::time::advance(Duration::from_millis(100)).await;
        tokio::task::yield_now().await;
    }
}

fn standing(watch: &mut IdentityWatch) -> Standing {
    watch.poll(&Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn without_authentication_everybody_may_do_everything() {
    let world = World::new();
    let authority = Authority::new(world.store.clone(), world.clock.clone(), &AuthConfig::Off);
    for bearer in [None, Some(""), Some("anything")] {
        assert!(matches!(authority.authenticate(bearer).await, Ok(Identity::Unlimited)));
    }
}

#[tokio::test]
async fn who_is_recognised() {
    // control-plane.md §7.1
    let world = World::new();
    assert!(matches!(world.root().await, Identity::Unlimited));
    let token = world.issue(wanted("t", reader())).await;
    assert!(matches!(world.recognise(&token).await, Ok(Identity::Token(_))));
    let (head, tail) = token.expose().split_at(8);
    let (same, changed) = (&tail[..1], if tail.starts_with('A') { "B" } else { "A" });
    let other = Secret::new(format!("{head}{}", tail.replacen(same, changed, 1))).unwrap();
    let unknown = {
        let elsewhere = World::new();
        elsewhere.issue(wanted("u", reader())).await
    };
    for (bearer, expected) in [
        (None, AuthError::Missing),
        (Some(""), AuthError::Malformed),
        (Some("nonsense"), AuthError::Malformed),
        (Some(&ROOT[1..]), AuthError::Malformed),
        (Some(unknown.expose()), AuthError::Unknown),
        (Some(other.expose()), AuthError::Unknown),
    ] {
        assert_eq!(world.authority.authenticate(bearer).await.err(), Some(expected), "{bearer:?}");
    }
}

#[tokio::test]
async fn without_a_root_token_nobody_is_the_operator() {
    let world = World::new();
    let authority = Authority::new(world.store.clone(), world.clock.clone(), &AuthConfig::On { root: None });
    for bearer in ["", ROOT, "null"] {
        assert_eq!(authority.authenticate(Some(bearer)).await.err(), Some(AuthError::Malformed));
    }
}

#[tokio::test]
async fn of_a_secret_only_the_hash_is_kept() {
    let world = World::new();
    let token = world.issue(wanted("tenant-42", reader())).await;
    let rows = world.store.scan(b"", None, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    let (key, row) = &rows[0];
    assert_eq!(key.as_ref(), b"t/tenant-42");
    let kept = String::from_utf8(row.value.to_vec()).unwrap();
    assert!(!kept.contains(token.expose()) && !kept.contains(&token.expose()[4..20]), "{kept}");
    let found = world.authority.table().find(&id("tenant-42")).await.unwrap().unwrap();
    assert!(bearer::same(&found.entry.hash, &bearer::hash(token.expose())));
    assert_eq!(format!("{:?}", found.entry.hash), "[redacted]");
}

#[tokio::test(start_paused = true)]
async fn a_token_in_use_costs_no_read() {
    let world = World::new();
    let token = world.issue(wanted("t", reader())).await;
    world.recognise(&token).await.unwrap();
    let before = world.reads();
    for _ in 0..100 {
        world.recognise(&token).await.unwrap();
    }
    assert_eq!(world.reads(), before);
    // The sweep looks after it, so that later requests need not either; once nobody uses it, nothing is read any more.
    pass(Duration::from_secs(20)).await;
    let swept = world.reads();
    assert!((before + 5..=before + 20).contains(&swept), "{swept}");
    world.recognise(&token).await.unwrap();
    assert_eq!(world.reads(), swept);
    pass(Duration::from_secs(60)).await;
    let idle = world.reads();
    pass(Duration::from_secs(60)).await;
    assert_eq!(world.reads(), idle);
}

#[tokio::test(start_paused = true)]
async fn a_token_expires_by_the_clock_and_takes_its_sessions_along() {
    let world = World::new();
    let token = world.issue(lasting(1001, wanted("t", reader()))).await;
    let mut session = world.recognise(&token).await.unwrap().watch();
    world.clock.set(Timestamp::new(1_000_999));
    pass(Duration::from_secs(2)).await;
    assert!(world.recognise(&token).await.is_ok());
    assert_eq!(standing(&mut session), Standing::Valid);
    world.clock.set(Timestamp::new(1_001_000));
    assert_eq!(world.recognise(&token).await.err(), Some(AuthError::Expired));
    pass(Duration::from_secs(2)).await;
    assert_eq!(standing(&mut session), Standing::Ended);
    assert_eq!(world.recognise(&token).await.err(), Some(AuthError::Expired));
}

#[tokio::test]
async fn revocation_takes_effect_at_once() {
    // control-plane.md §7.6
    let world = World::new();
    let token = world.issue(wanted("t", reader())).await;
    let mut session = world.recognise(&token).await.unwrap().watch();
    assert_eq!(standing(&mut session), Standing::Valid);
    world.authority.revoke(&Identity::Unlimited, &id("t")).await.unwrap();
    assert_eq!(standing(&mut session), Standing::Ended);
    assert_eq!(world.recognise(&token).await.err(), Some(AuthError::Unknown));
    let again = world.authority.revoke(&Identity::Unlimited, &id("t")).await;
    assert_eq!(again, Err(TokenFailure::NotFound(id("t"))));
    let second = world.issue(wanted("t", reader())).await;
    assert_eq!(world.recognise(&token).await.err(), Some(AuthError::Unknown), "the first secret stays dead");
    assert!(world.recognise(&second).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_another_gateway_revokes_ends_here_within_seconds() {
    let world = World::new();
    let there = another(&world.store, &world.clock);
    let token = world.issue(wanted("t", reader())).await;
    let mut session = world.recognise(&token).await.unwrap().watch();
    there.revoke(&Identity::Unlimited, &id("t")).await.unwrap();
    pass(Duration::from_secs(4)).await;
    assert_eq!(standing(&mut session), Standing::Ended);
    assert_eq!(world.recognise(&token).await.err(), Some(AuthError::Unknown));

    let replaced = world.issue(wanted("u", reader())).await;
    let mut session = world.recognise(&replaced).await.unwrap().watch();
    there.revoke(&Identity::Unlimited, &id("u")).await.unwrap();
    there.issue(&Identity::Unlimited, wanted("u", reader())).await.unwrap();
    pass(Duration::from_secs(4)).await;
    assert_eq!(standing(&mut session), Standing::Ended, "another token of the same id is another token");
    assert_eq!(world.recognise(&replaced).await.err(), Some(AuthError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_another_gateway_issued_anew_is_recognised_at_once() {
    let (engine, clock) = (Engine::new(), Arc::new(ManualClock::default()));
    let on = AuthConfig::On { root: Some(Secret::new(ROOT).unwrap()) };
    let [here, there] = [(); 2].map(|()| Authority::new(engine.gateway(), clock.clone(), &on));
    let recognise = async |token: &Secret| here.authenticate(Some(token.expose())).await;
    let first = there.issue(&Identity::Unlimited, wanted("t", reader())).await.unwrap();
    assert!(recognise(&first).await.is_ok());
    there.revoke(&Identity::Unlimited, &id("t")).await.unwrap();
    let second = there.issue(&Identity::Unlimited, wanted("t", reader())).await.unwrap();
    assert!(recognise(&second).await.is_ok());
    assert_eq!(recognise(&first).await.err(), Some(AuthError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_token_expires_although_the_table_does_not_answer() {
    let (engine, clock) = (Engine::new(), Arc::new(ManualClock::at(Timestamp::new(1_000_000))));
    let on = AuthConfig::On { root: Some(Secret::new(ROOT).unwrap()) };
    let here = Authority::new(engine.gateway(), clock.clone(), &on);
    let token = here.issue(&Identity::Unlimited, lasting(1010, wanted("t", reader()))).await.unwrap();
    let mut session = here.authenticate(Some(token.expose())).await.unwrap().watch();
    engine.fall_silent();
    // By now the sweep asks what became of the token.
    pass(Duration::from_secs(5)).await;
    assert_eq!(standing(&mut session), Standing::Valid);
    clock.set(Timestamp::new(1_010_000));
    pass(Duration::from_secs(3)).await;
    assert_eq!(standing(&mut session), Standing::Ended);
}

#[tokio::test]
async fn of_gateways_that_issue_the_same_id_one_does() {
    let (engine, clock) = (Engine::new(), Arc::new(ManualClock::default()));
    let gateways = [(); 2].map(|()| Authority::new(engine.gateway(), clock.clone(), &AuthConfig::Off));
    let [first, second] = &gateways;
    let issued = tokio::join!(
        first.issue(&Identity::Unlimited, wanted("t", reader())),
        second.issue(&Identity::Unlimited, wanted("t", reader()))
    );
    let exists = |issued: &Result<Secret, TokenFailure>| matches!(issued, Err(TokenFailure::Exists(_)));
    assert!(issued.0.is_ok() && exists(&issued.1) || exists(&issued.0) && issued.1.is_ok());
}

#[test]
fn what_was_read_before_a_revocation_does_not_bring_the_token_back() {
    let mut live = LiveTokens::default();
    let entry =
        AccessTokenEntry { info: wanted("t", reader()), hash: TokenHash::new([1; 32]), created_at: Timestamp::new(0) };
    let now = clock::instant();
    let before_reading = live.before_reading();
    let found = Some(Found { entry, version: Version(1) });
    live.forget(&id("t"), Version(1), now);
    assert!(live.put(&id("t"), found, before_reading, now).is_err());
    assert!(live.trusted(&id("t"), now).is_none());
}

#[test]
fn a_server_that_lags_does_not_bring_a_token_back() {
    let mut live = LiveTokens::default();
    let now = clock::instant();
    let found = |version| {
        let info = wanted("t", reader());
        let entry = AccessTokenEntry { info, hash: TokenHash::new([1; 32]), created_at: Timestamp::new(0) };
        Some(Found { entry, version: Version(version) })
    };
    let read = |live: &mut LiveTokens, found| live.put(&id("t"), found, live.before_reading(), now).unwrap();
    live.forget(&id("t"), Version(3), now);
    assert!(read(&mut live, found(3)).is_none());
    // Issued anew, where there was nothing any more.
    live.forget(&id("t"), Version::ABSENT, now);
    assert!(read(&mut live, found(3)).is_none());
    assert!(read(&mut live, found(5)).is_some());
    let kept = read(&mut live, found(3)).expect("the one that is known already");
    assert!(!kept.has_ended());
    live.forget(&id("t"), Version(5), now);
    assert!(kept.has_ended());
    assert!(read(&mut live, found(5)).is_none());
    assert!(read(&mut live, found(7)).is_some());
    // Nothing is remembered for ever.
    live.forget(&id("t"), Version(7), now);
    live.sweep(Timestamp::new(0), now + Duration::from_secs(60));
    assert!(read(&mut live, found(7)).is_some());
}

#[tokio::test]
async fn what_a_token_must_not_be() {
    // control-plane.md §7.2
    let world = World::new();
    let root = Identity::Unlimited;
    let exact = ResourceSet::Exact(StreamName::new("orders").unwrap());
    let prefixed =
        |streams| AccessTokenInfo { auto_prefix_streams: true, ..wanted("t", Scope { streams, ..reader() }) };
    let nothing = Scope { op_groups: OpGroups::default(), ops: Default::default(), ..Scope::everything() };
    let cases = [
        (wanted("t", nothing), TokenFailure::NoOperations, "Access token permissions cannot be empty"),
        (prefixed(exact), TokenFailure::NoPrefix, "Auto prefixing is only allowed for streams with prefix matching"),
        (
            prefixed(ResourceSet::Nothing),
            TokenFailure::NoPrefix,
            "Auto prefixing is only allowed for streams with prefix matching",
        ),
        (lasting(1000, wanted("t", reader())), TokenFailure::ExpiryPassed, "expires_at must lie in the future"),
    ];
    for (wanted, expected, message) in cases {
        let refused = world.authority.issue(&root, wanted).await.unwrap_err();
        assert_eq!((refused.clone(), refused.to_string().as_str()), (expected, message));
    }
    world.issue(prefixed(ResourceSet::Prefix(StreamNamePart::new("tenant/").unwrap()))).await;
    let twice = world.authority.issue(&root, wanted("t", reader())).await;
    assert_eq!(twice.map(drop), Err(TokenFailure::Exists(id("t"))));
}

#[tokio::test]
async fn an_expired_tokens_id_is_free_again() {
    let world = World::new();
    let first = world.issue(lasting(1001, wanted("t", reader()))).await;
    world.clock.set(Timestamp::new(1_002_000));
    let second = world.issue(wanted("t", reader())).await;
    assert_eq!(world.recognise(&first).await.err(), Some(AuthError::Unknown));
    assert!(world.recognise(&second).await.is_ok());
}

fn issuer_scope() -> Scope {
    let ops = [Operation::IssueAccessToken, Operation::ListAccessTokens, Operation::RevokeAccessToken, Operation::Read];
    Scope {
        streams: ResourceSet::Prefix(StreamNamePart::new("tenant/").unwrap()),
        access_tokens: ResourceSet::Prefix(part("tenant-")),
        op_groups: OpGroups::default(),
        ops: ops.into_iter().collect(),
        ..Scope::everything()
    }
}

#[tokio::test]
async fn a_child_is_never_more_than_its_parent() {
    // control-plane.md §7.2, §7.4
    let world = World::new();
    let issuer = world.issue(lasting(2000, wanted("issuer", issuer_scope()))).await;
    let issuer = world.recognise(&issuer).await.unwrap();
    let issue = |wanted| world.authority.issue(&issuer, wanted);

    issue(wanted("tenant-1", issuer_scope())).await.unwrap();
    let more_ops = Scope { ops: [Operation::Append].into_iter().collect(), ..issuer_scope() };
    let group = OpGroups::default().with(OpGroup::Stream, crate::types::GroupLevel::Read);
    let group = Scope { op_groups: group, ..issuer_scope() };
    let more_streams = Scope { streams: ResourceSet::everything(), ..issuer_scope() };
    let more_tokens = Scope { access_tokens: ResourceSet::everything(), ..issuer_scope() };
    for (wanted, expected) in [
        (wanted("other", issuer_scope()), TokenFailure::Denied(Denied::AccessToken(id("other")))),
        (wanted("tenant-2", more_ops), OutOfScope::Operation(Operation::Append).into()),
        (wanted("tenant-2", group), OutOfScope::Operation(Operation::GetStreamConfig).into()),
        (wanted("tenant-2", more_streams), OutOfScope::Resources("streams").into()),
        (wanted("tenant-2", more_tokens), OutOfScope::Resources("access tokens").into()),
        (lasting(2001, wanted("tenant-2", issuer_scope())), TokenFailure::OutlivesIssuer),
    ] {
        assert_eq!(issue(wanted).await.map(drop), Err(expected));
    }
    let reader = world.issue(wanted("reader", reader_only())).await;
    let reader = world.recognise(&reader).await.unwrap();
    let refused = world.authority.issue(&reader, wanted("x", reader_only())).await;
    assert_eq!(refused.map(drop), Err(Denied::Operation(Operation::IssueAccessToken).into()));
}

fn reader_only() -> Scope {
    Scope { op_groups: OpGroups::default(), ..reader() }
}

#[tokio::test]
async fn a_child_without_an_expiry_has_its_parents() {
    let world = World::new();
    let issuer = world.issue(lasting(2000, wanted("issuer", issuer_scope()))).await;
    let issuer = world.recognise(&issuer).await.unwrap();
    world.authority.issue(&issuer, wanted("tenant-1", issuer_scope())).await.unwrap();
    world.authority.issue(&issuer, lasting(1500, wanted("tenant-2", issuer_scope()))).await.unwrap();
    let expiry =
        async |text: &str| world.authority.table().find(&id(text)).await.unwrap().unwrap().entry.info.expires_at;
    assert_eq!(expiry("tenant-1").await, Some(Expiry::new(2000, 0)));
    assert_eq!(expiry("tenant-2").await, Some(Expiry::new(1500, 0)));
}

#[tokio::test]
async fn listings_show_what_is_reached() {
    // control-plane.md §4.7, §7.4, §7.6
    let world = World::new();
    for text in ["other", "tenant-1", "tenant-2", "tenant-3"] {
        world.issue(wanted(text, reader())).await;
    }
    let lister = |access_tokens| {
        let scope = Scope { access_tokens, ..issuer_scope() };
        Identity::Token(Grant::new(AccessTokenEntry {
            info: wanted("lister", scope),
            hash: TokenHash::new([0; 32]),
            created_at: Timestamp::new(0),
        }))
    };
    let tenants = || lister(ResourceSet::Prefix(part("tenant-")));
    let one = || lister(ResourceSet::Exact(id("tenant-2")));
    let cases = [
        (Identity::Unlimited, "", "", 10, vec!["other", "root", "tenant-1", "tenant-2", "tenant-3"], false),
        (Identity::Unlimited, "tenant", "tenant-1", 1, vec!["tenant-2"], true),
        (tenants(), "", "", 10, vec!["tenant-1", "tenant-2", "tenant-3"], false),
        (tenants(), "", "", 3, vec!["tenant-1", "tenant-2", "tenant-3"], false),
        (tenants(), "", "", 2, vec!["tenant-1", "tenant-2"], true),
        (tenants(), "", "tenant-2", 10, vec!["tenant-3"], false),
        (tenants(), "other", "", 10, vec![], false),
        (tenants(), "tenant-3", "", 10, vec!["tenant-3"], false),
        (one(), "", "", 10, vec!["tenant-2"], false),
        (one(), "tenant-1", "", 10, vec![], false),
        (one(), "", "tenant-2", 10, vec![], false),
        (lister(ResourceSet::Nothing), "", "", 10, vec![], false),
    ];
    for (who, prefix, start_after, limit, ids, has_more) in cases {
        let page = world.authority.list(&who, part(prefix), &part(start_after), limit).await.unwrap();
        let listed: Vec<_> = page.entries.iter().map(|info| info.id.to_string()).collect();
        assert_eq!(
            (listed, page.has_more),
            (ids.iter().map(ToString::to_string).collect(), has_more),
            "{prefix} {who:?}"
        );
    }
    let denied = world.authority.revoke(&tenants(), &id("other")).await;
    assert_eq!(denied, Err(Denied::AccessToken(id("other")).into()));
    world.authority.revoke(&tenants(), &id("tenant-1")).await.unwrap();
}

#[tokio::test]
async fn the_root_token_is_listed_in_its_place_and_belongs_to_the_operator() {
    let world = World::new();
    let root = world.root().await;
    for name in ["a", "z"] {
        world.issue(wanted(name, reader())).await;
    }
    let listed = async |prefix: &str, start_after: &str, limit: usize| {
        let page = world.authority.list(&root, part(prefix), &part(start_after), limit).await.unwrap();
        (page.entries.iter().map(|info| info.id.to_string()).collect::<Vec<_>>().join(" "), page.has_more)
    };
    for (prefix, start_after, limit, ids, has_more) in [
        ("", "", 3, "a root z", false),
        ("", "", 2, "a root", true),
        ("", "", 1, "a", true),
        ("", "a", 1, "root", true),
        ("", "root", 1, "z", false),
        ("ro", "", 1, "root", false),
        ("rooted", "", 1, "", false),
        ("z", "", 1, "z", false),
    ] {
        assert_eq!(
            listed(prefix, start_after, limit).await,
            (ids.to_owned(), has_more),
            "{prefix} {start_after} {limit}"
        );
    }
    assert!(matches!(world.authority.revoke(&root, &id("root")).await, Err(TokenFailure::Root)));
    let again = world.authority.issue(&root, wanted("root", reader())).await;
    assert!(matches!(again, Err(TokenFailure::Exists(_))));
}

#[tokio::test]
async fn a_token_that_was_issued_as_root_before_there_was_one_is_nobodys() {
    // It could not be revoked, and stood in the listing beside the operator's.
    let world = World::new();
    let before = Authority::new(world.store.clone(), world.clock.clone(), &AuthConfig::Off);
    let token = before.issue(&Identity::Unlimited, wanted("root", reader())).await.unwrap();
    assert!(matches!(world.recognise(&token).await, Err(AuthError::Unknown)));
    let root = world.root().await;
    world.issue(wanted("z", reader())).await;
    for (limit, ids, has_more) in [(1, &["root"][..], true), (2, &["root", "z"], false)] {
        let page = world.authority.list(&root, part(""), &part(""), limit).await.unwrap();
        let listed: Vec<_> = page.entries.iter().map(|info| info.id.as_str()).collect();
        assert_eq!((&listed[..], page.has_more), (ids, has_more));
        assert_eq!(page.entries[0], root_info(), "the one that works");
    }
}
