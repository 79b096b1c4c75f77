//! The store contract on disk, and what is this store's own: reopening, locking, damage, space.

use std::sync::Arc;

use tempfile::TempDir;

use super::DiskStore;
use crate::store::{
    Store,
    contract::{Backend, suite},
};

const CACHE: usize = 8 * 1024 * 1024;

struct OnDisk {
    // Dropped in this order.
    store: DiskStore,
    directory: Arc<TempDir>,
}

impl OnDisk {
    fn open(directory: Arc<TempDir>) -> Self {
        Self { store: DiskStore::open(directory.path(), CACHE).unwrap(), directory }
    }
}

impl Backend for OnDisk {
    fn create() -> Self {
        Self::open(Arc::new(tempfile::tempdir().unwrap()))
    }

    fn create_limited(_bytes: usize) -> Option<Self> {
        // The limit is the disk's.
        None
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn reopen(self) -> Option<Self> {
        let Self { store, directory } = self;
        drop(store);
        Some(Self::open(directory))
    }
}

suite!(super::OnDisk);
