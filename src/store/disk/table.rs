//! The meta table on disk. Writes go through the writer, which alone compares versions.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Shared, answered, engine::EngineError, queue::Request, space::Purpose};
use crate::store::{MetaStore, MetaWrite, StoreError, StoreFuture, Version, Versioned};

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
        let key = Bytes::copy_from_slice(key);
        self.look(move |look| Ok(look.row(&key)?.map(versioned)))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> StoreFuture<'_, Vec<(Bytes, Versioned)>> {
        let prefix = Bytes::copy_from_slice(prefix);
        // The first key after `after` is `after` and a zero byte.
        let start = match after {
            Some(after) if after >= &*prefix => [after, &[0]].concat(),
            _ => prefix.to_vec(),
        };
        self.look(move |look| {
            let rows = look.rows(&start).take(limit).map(|row| {
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

fn versioned((version, value): (u64, Bytes)) -> Versioned {
    // The value shares its memory with the row that it is part of.
    Versioned { value, version: Version(version) }
}
