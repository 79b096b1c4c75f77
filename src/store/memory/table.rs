//! The meta table in memory.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex},
};

use bytes::Bytes;

use super::{locked, ready, space::Space};
use crate::store::{MetaStore, MetaWrite, StoreError, StoreFuture, Version, Versioned};

pub(super) struct MemoryTable {
    space: Arc<Space>,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    by_key: BTreeMap<Bytes, Versioned>,
    /// Of the last write of all, so that no key sees a version twice, also not across its removal.
    last_version: u64,
}

impl MemoryTable {
    pub(super) fn new(space: Arc<Space>) -> Self {
        Self { space, rows: Mutex::default() }
    }

    fn write(&self, key: &[u8], value: Option<Bytes>, expected: Version) -> Result<MetaWrite, StoreError> {
        self.space.check_open()?;
        Ok(locked(&self.rows).write(key, value, expected))
    }
}

impl MetaStore for MemoryTable {
    fn get(&self, key: &[u8]) -> StoreFuture<'_, Option<Versioned>> {
        ready(Ok(locked(&self.rows).by_key.get(key).cloned()))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> StoreFuture<'_, Vec<(Bytes, Versioned)>> {
        ready(Ok(locked(&self.rows).scan(prefix, after, limit)))
    }

    fn put(&self, key: &[u8], value: Bytes, expected: Version) -> StoreFuture<'_, MetaWrite> {
        ready(self.write(key, Some(value), expected))
    }

    fn remove(&self, key: &[u8], expected: Version) -> StoreFuture<'_, MetaWrite> {
        ready(self.write(key, None, expected))
    }
}

impl Rows {
    fn write(&mut self, key: &[u8], value: Option<Bytes>, expected: Version) -> MetaWrite {
        if self.by_key.get(key).map_or(Version::ABSENT, |row| row.version) != expected {
            return MetaWrite::Conflict;
        }
        let Some(value) = value else {
            self.by_key.remove(key);
            return MetaWrite::Done(Version::ABSENT);
        };
        self.last_version += 1;
        let version = Version(self.last_version);
        self.by_key.insert(Bytes::copy_from_slice(key), Versioned { value, version });
        MetaWrite::Done(version)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Bytes, Versioned)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let rows = self.by_key.range::<[u8], _>((start, Bound::Unbounded));
        let matching = rows.take_while(|(key, _)| key.starts_with(prefix));
        matching.take(limit).map(|(key, row)| (key.clone(), row.clone())).collect()
    }
}
