//! The meta table on disk. Writes go through the writer, which alone compares versions.

use std::{future::ready, ops::Bound, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Shared, answered, engine::EngineError, queue::Request, space::Purpose};
use crate::store::{MetaStore, MetaWrite, StoreError, StoreFuture, Version, Versioned};

/// Bytes that a key has at most, and it has one at least: the engine panics on others.
const MOST_KEY_BYTES: usize = u16::MAX as usize;

pub(super) struct DiskTable(pub(super) Arc<Shared>);

impl DiskTable {
    fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&super::engine::Look<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let engine = self.0.engine.clone();
        self.0.readers.run(move || look(&engine.look()).map_err(|error| error.of_read("the meta table")))
    }

    fn write(&self, key: &[u8], value: Option<Bytes>, expected: Version) -> StoreFuture<'_, MetaWrite> {
        if !can_be_key(key) {
            let reason = format!("a key has 1 to {MOST_KEY_BYTES} bytes, and not {}", key.len());
            return Box::pin(ready(Err(StoreError::NotDone(reason.into()))));
        }
        let (done, answer) = oneshot::channel();
        let request = Request::Row { key: Bytes::copy_from_slice(key), value, expected, done };
        let pushed = self.take_space(&request).and_then(|()| self.0.queue.push(request));
        Box::pin(async move {
            pushed?;
            answered(answer).await
        })
    }

    /// The table is small, and what makes room begins there: it may use what appends must leave.
    fn take_space(&self, request: &Request) -> Result<(), StoreError> {
        match request {
            Request::Row { value: Some(value), .. } => self.0.space.take(value.len() as u64, Purpose::Free),
            _ => self.0.space.take(0, Purpose::Remove),
        }
    }
}

impl MetaStore for DiskTable {
    fn get(&self, key: &[u8]) -> StoreFuture<'_, Option<Versioned>> {
        if !can_be_key(key) {
            return Box::pin(ready(Ok(None)));
        }
        let key = Bytes::copy_from_slice(key);
        self.look(move |look| Ok(look.row(&key)?.map(versioned)))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> StoreFuture<'_, Vec<(Bytes, Versioned)>> {
        if prefix.len() > MOST_KEY_BYTES {
            return Box::pin(ready(Ok(Vec::new())));
        }
        let prefix = Bytes::copy_from_slice(prefix);
        let start = match after {
            // What sorts after the longest key that it begins with sorts after it.
            Some(after) if after >= &*prefix => Bound::Excluded(after[..after.len().min(MOST_KEY_BYTES)].to_vec()),
            _ => Bound::Included(prefix.to_vec()),
        };
        self.look(move |look| {
            let rows = look.rows(start).take(limit).map(|row| {
                let (key, version, value) = row?;
                Ok((key, versioned((version, value))))
            });
            rows.take_while(|row| !matches!(row, Ok((key, _)) if !key.starts_with(&prefix))).collect()
        })
    }

    fn put(&self, key: &[u8], value: Bytes, expected: Version) -> StoreFuture<'_, MetaWrite> {
        self.write(key, Some(value), expected)
    }

    fn remove(&self, key: &[u8], expected: Version) -> StoreFuture<'_, MetaWrite> {
        self.write(key, None, expected)
    }
}

const fn can_be_key(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= MOST_KEY_BYTES
}

fn versioned((version, value): (u64, Bytes)) -> Versioned {
    // The value shares its memory with the row that it is part of.
    Versioned { value, version: Version(version) }
}
