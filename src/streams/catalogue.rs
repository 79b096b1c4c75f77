//! Basins and streams in the meta table: their keys, their entries, their listings. Knows no rule of when to make one.
//!
//! ```text
//! b/<basin>            BasinEntry
//! s/<basin>/<stream>   StreamEntry      a basin's name has no slash, so its streams lie together, in the order of names
//! ```

use bytes::Bytes;

use super::Failure;
use crate::{
    store::{MetaStore, MetaWrite, StoreError, Version, Versioned},
    types::{
        BasinEntry, BasinInfo, BasinName, BasinNamePart, Page, StreamEntry, StreamInfo, StreamName, StreamNamePart,
    },
    wire::catalogue::{decode_basin_entry, decode_stream_entry, encode_basin_entry, encode_stream_entry},
};

pub(super) struct Catalogue<'a>(&'a dyn MetaStore);

/// An entry as it was found, to be replaced only if it is still that one.
#[derive(Debug)]
pub(super) struct Found<E> {
    pub(super) entry: E,
    version: Version,
}

impl<'a> Catalogue<'a> {
    pub(super) fn new(table: &'a dyn MetaStore) -> Self {
        Self(table)
    }

    pub(super) async fn basin(&self, name: &BasinName) -> Result<Option<Found<BasinEntry>>, Failure> {
        self.find(&basin_key(name), |value| decode_basin_entry(value).map_err(damaged)).await
    }

    pub(super) async fn stream(
        &self,
        basin: &BasinName,
        name: &StreamName,
    ) -> Result<Option<Found<StreamEntry>>, Failure> {
        self.find(&stream_key(basin, name), |value| decode_stream_entry(value).map_err(damaged)).await
    }

    /// Writes a basin's entry in the place of what was found.
    pub(super) async fn put_basin<E>(
        &self,
        name: &BasinName,
        entry: &BasinEntry,
        found: Option<&Found<E>>,
    ) -> Result<(), Failure> {
        self.put(&basin_key(name), encode_basin_entry(entry).into(), found).await
    }

    /// Writes a stream's entry in the place of what was found.
    pub(super) async fn put_stream<E>(
        &self,
        basin: &BasinName,
        name: &StreamName,
        entry: &StreamEntry,
        found: Option<&Found<E>>,
    ) -> Result<(), Failure> {
        self.put(&stream_key(basin, name), encode_stream_entry(entry).into(), found).await
    }

    pub(super) async fn remove_basin(&self, name: &BasinName, found: &Found<BasinEntry>) -> Result<(), Failure> {
        written(self.0.remove(&basin_key(name), found.version).await?)
    }

    pub(super) async fn remove_stream(
        &self,
        basin: &BasinName,
        name: &StreamName,
        found: &Found<StreamEntry>,
    ) -> Result<(), Failure> {
        written(self.0.remove(&stream_key(basin, name), found.version).await?)
    }

    /// Basins whose names begin with `prefix` and sort after `start_after`, in order.
    pub(super) async fn basins(
        &self,
        prefix: &BasinNamePart,
        start_after: &BasinNamePart,
        limit: usize,
    ) -> Result<Page<BasinInfo>, Failure> {
        let range = Range { table: "b/".to_owned(), prefix: prefix.as_str(), start_after: start_after.as_str() };
        self.list(range, limit, |name, value| {
            let entry = decode_basin_entry(value).map_err(damaged)?;
            Ok(BasinInfo {
                name: BasinName::new(name).map_err(damaged)?,
                location: entry.location,
                created_at: entry.created_at,
                deleted_at: entry.deleted_at,
            })
        })
        .await
    }

    /// Streams of `basin` whose names begin with `prefix` and sort after `start_after`, in order.
    pub(super) async fn streams(
        &self,
        basin: &BasinName,
        prefix: &StreamNamePart,
        start_after: &StreamNamePart,
        limit: usize,
    ) -> Result<Page<StreamInfo>, Failure> {
        let range = Range { table: format!("s/{basin}/"), prefix: prefix.as_str(), start_after: start_after.as_str() };
        self.list(range, limit, |name, value| {
            let entry = decode_stream_entry(value).map_err(damaged)?;
            Ok(StreamInfo {
                name: StreamName::new(name).map_err(damaged)?,
                created_at: entry.created_at,
                deleted_at: entry.deleted_at,
                cipher: entry.cipher,
            })
        })
        .await
    }

    async fn find<E>(
        &self,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<E, Failure>,
    ) -> Result<Option<Found<E>>, Failure> {
        match self.0.get(key).await? {
            Some(Versioned { value, version }) => Ok(Some(Found { entry: decode(&value)?, version })),
            None => Ok(None),
        }
    }

    async fn put<E>(&self, key: &[u8], value: Bytes, found: Option<&Found<E>>) -> Result<(), Failure> {
        let expected = found.map_or(Version::ABSENT, |found| found.version);
        written(self.0.put(key, value, expected).await?)
    }

    async fn list<T>(
        &self,
        range: Range<'_>,
        limit: usize,
        decode: impl Fn(&str, &[u8]) -> Result<T, Failure>,
    ) -> Result<Page<T>, Failure> {
        // One more than asked for tells whether there are more.
        let mut found = self.0.scan(&range.prefix(), range.after().as_deref(), limit.saturating_add(1)).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let name = |key: &'_ Bytes| String::from_utf8(key[range.table.len()..].to_vec()).map_err(damaged);
        let entries = found.iter().map(|(key, found)| decode(&name(key)?, &found.value)).collect::<Result<_, _>>()?;
        Ok(Page { entries, has_more })
    }
}

/// Which part of the table a listing covers.
struct Range<'a> {
    table: String,
    prefix: &'a str,
    start_after: &'a str,
}

impl Range<'_> {
    fn prefix(&self) -> Vec<u8> {
        [self.table.as_bytes(), self.prefix.as_bytes()].concat()
    }

    fn after(&self) -> Option<Vec<u8>> {
        (!self.start_after.is_empty()).then(|| [self.table.as_bytes(), self.start_after.as_bytes()].concat())
    }
}

fn basin_key(name: &BasinName) -> Vec<u8> {
    format!("b/{name}").into_bytes()
}

fn stream_key(basin: &BasinName, name: &StreamName) -> Vec<u8> {
    format!("s/{basin}/{name}").into_bytes()
}

fn written(write: MetaWrite) -> Result<(), Failure> {
    match write {
        MetaWrite::Done(_) => Ok(()),
        MetaWrite::Conflict => Err(Failure::Conflict),
    }
}

fn damaged(error: impl std::fmt::Display) -> Failure {
    Failure::Store(StoreError::Damaged(format!("an entry of the catalogue: {error}").into()))
}
