//! The store contract on a real cluster, and what is this store's own: races of gateways, lost answers, damage.

#[path = "../../../tests/support/nats.rs"]
mod cluster;

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::runtime::Runtime;

use self::cluster::Cluster;
use super::{NatsConfig, NatsStore, SyncCheck};
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
