//! The store that a gateway is told of: opens it, and names it without secrets.

use std::sync::Arc;

use super::CliError;
use crate::{
    config::StoreConfig,
    store::{DiskStore, MemoryStore, NatsConfig, NatsStore, Store},
    types::MemoryShares,
};

/// With what is there, or made if nothing is. Of `memory` a store takes the shares that are meant for it.
pub(super) async fn open_store(config: &StoreConfig, memory: MemoryShares) -> Result<Arc<dyn Store>, CliError> {
    match config {
        StoreConfig::Nats(config) => match NatsStore::connect(config).await {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(CliError::Start(error.to_string())),
        },
        StoreConfig::Memory(limit) => Ok(Arc::new(MemoryStore::new(*limit))),
        StoreConfig::Disk(directory) => match DiskStore::open(directory, memory) {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(CliError::Start(error.to_string())),
        },
    }
}

/// Its servers, without the names and passwords that may stand before their hosts.
pub(super) fn servers(nats: &NatsConfig) -> String {
    nats.servers.iter().map(|server| without_user(server)).collect::<Vec<_>>().join(", ")
}

fn without_user(server: &str) -> String {
    match server.rsplit_once('@') {
        None => server.into(),
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://{host}"),
            None => host.into(),
        },
    }
}
