//! The store contract on a real cluster, and what is this store's own: races of gateways, lost answers, damage.

#[path = "../../../tests/support/nats.rs"]
mod cluster;
mod faults;
mod gateway;
#[path = "../../../tests/support/proxy.rs"]
#[allow(dead_code, unreachable_pub, reason = "made for tests of another crate")]
mod proxy;
mod sharing;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::executor::block_on;
use tokio::runtime::Runtime;

use self::cluster::Cluster;
use super::{ConnectError, NatsConfig, NatsStore, SyncCheck};
use crate::store::{
    MemoryStore, Store,
    contract::{Backend, suite},
};

/// One cluster for all tests of this process, for it takes seconds to start; nothing where none can be installed.
fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start).as_ref()
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

/// A store of a test's own in `cluster`.
fn config(cluster: &Cluster) -> NatsConfig {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NatsConfig {
        servers: cluster.urls(),
        credentials: None,
        ca: None,
        prefix: format!("test{}", NEXT.fetch_add(1, Relaxed)),
        shards: Some(2),
        replicas: Some(cluster.len()),
        sync: SyncCheck::Ask(cluster.monitoring_urls()),
    }
}

fn connect(config: &NatsConfig) -> NatsStore {
    runtime().block_on(NatsStore::connect(config)).unwrap()
}

/// A store in the cluster; where there is none, the reference stands in for it, so that the suite can be run at all.
enum OnNats {
    Real(NatsStore, NatsConfig),
    Skipped(MemoryStore),
}

impl Backend for OnNats {
    fn create() -> Self {
        let Some(cluster) = cluster() else { return Self::Skipped(MemoryStore::new(usize::MAX)) };
        let config = config(cluster);
        Self::Real(connect(&config), config)
    }

    fn create_limited(_bytes: usize) -> Option<Self> {
        // The limit is the servers'.
        None
    }

    fn store(&self) -> &dyn Store {
        match self {
            Self::Real(store, _) => store,
            Self::Skipped(store) => store,
        }
    }

    fn reopen(self) -> Option<Self> {
        match self {
            Self::Real(store, config) => {
                drop(store);
                Some(Self::Real(connect(&config), config))
            }
            Self::Skipped(_) => None,
        }
    }
}

suite!(super::OnNats);

/// What the store counted under `name`.
fn count(store: &NatsStore, name: &str) -> u64 {
    store.counted().iter().find(|count| count.name == name).expect("something that is counted").value
}

#[test]
fn a_store_keeps_the_shape_it_was_made_in() {
    let Some(cluster) = cluster() else { return };
    let config = config(cluster);
    let store = connect(&config);
    assert_eq!(store.caveat(), None);
    let reopen = |config: NatsConfig| runtime().block_on(NatsStore::connect(&config)).map(|_| ());
    assert!(reopen(NatsConfig { shards: None, replicas: None, ..config.clone() }).is_ok());
    for other in [NatsConfig { shards: Some(3), ..config.clone() }, NatsConfig { replicas: Some(1), ..config.clone() }]
    {
        let refused = reopen(other).unwrap_err();
        assert!(matches!(refused, ConnectError::Shape { .. }), "{refused}");
    }
}

#[test]
fn a_server_that_is_named_twice_is_not_a_majority() {
    let Some(cluster) = cluster() else { return };
    let one = vec![cluster.monitoring_urls()[0].clone(); 3];
    let unseen = runtime().block_on(NatsStore::connect(&NatsConfig { sync: SyncCheck::Ask(one), ..config(cluster) }));
    let unseen = unseen.map(|_| ()).unwrap_err();
    assert!(matches!(unseen, ConnectError::SyncUnseen { seen: 1, needed: 2, .. }), "{unseen}");
}

#[test]
fn a_store_that_is_let_go_of_leaves_no_task_behind() {
    let Some(cluster) = cluster() else { return };
    let store = connect(&config(cluster));
    block_on(store.meta().scan(b"", None, 1)).unwrap();
    let engine = Arc::downgrade(&store.shared.engine);
    drop(store);
    let began = Instant::now();
    while engine.strong_count() > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "someone still has the connection");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn servers_that_may_lose_what_they_acknowledge_are_refused() {
    let late = |configuration: String| configuration.replace("sync_interval: always", "sync_interval: \"2m\"");
    let Some(node) = Cluster::start_single_with(late) else { return };
    let config = config(&node);
    let refused =
        |sync| runtime().block_on(NatsStore::connect(&NatsConfig { sync, ..config.clone() })).map(|_| ()).unwrap_err();
    assert!(matches!(refused(config.sync.clone()), ConnectError::NotSyncing(_)));
    // There is a server, but it is no monitoring; and there is nobody.
    for silent in [format!("http://{}", node.address(0)), "http://127.0.0.1:1".to_owned()] {
        let unseen = refused(SyncCheck::Ask(vec![silent]));
        assert!(matches!(unseen, ConnectError::SyncUnseen { seen: 0, needed: 1, .. }), "{unseen}");
    }
    let assumed = connect(&NatsConfig { sync: SyncCheck::Assume, ..config.clone() });
    assert!(assumed.caveat().is_some());
}

#[test]
fn servers_with_small_messages_are_refused() {
    let small = |configuration: String| configuration.replace("max_payload: 8MB", "max_payload: 1MB");
    let Some(node) = Cluster::start_single_with(small) else { return };
    let refused = runtime().block_on(NatsStore::connect(&config(&node))).map(|_| ()).unwrap_err();
    assert!(matches!(refused, ConnectError::Payload(_)), "{refused}");
}
