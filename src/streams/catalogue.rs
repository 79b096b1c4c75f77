//! Basins and streams in the meta table: their keys, their entries, their listings. Knows no rule of when to make one.
//!
//! ```text
//! b/<basin>            BasinEntry
//! s/<basin>/<stream>   StreamEntry      a basin's name has no slash, so its streams lie together, in the order of names
//! a/<stream id>        Arrivals         32 hexadecimal digits
//! ```

use bytes::Bytes;

use super::{Failure, StreamKey};
use crate::{
    store::{MetaStore, MetaWrite, StoreError, Version, Versioned},
    types::{
        Arrivals, BasinEntry, BasinInfo, BasinName, BasinNamePart, Page, StreamEntry, StreamId, StreamInfo, StreamName,
        StreamNamePart,
    },
    wire::catalogue::{
        decode_arrivals, decode_basin_entry, decode_stream_entry, encode_arrivals, encode_basin_entry,
        encode_stream_entry,
    },
};

pub(super) struct Catalogue<'a>(&'a dyn MetaStore);

/// An entry as it was found, to be replaced only if it is still that one.
#[derive(Debug)]
pub(super) struct Found<E> {
    pub(super) entry: E,
    version: Version,
}

/// Where a walk through the streams of all basins goes on.
#[derive(Debug)]
pub(super) struct Cursor(Bytes);

/// Some of the streams of all basins.
#[derive(Debug)]
pub(super) struct AllStreams {
    pub(super) streams: Vec<(StreamKey, StreamEntry)>,
    /// Where to go on; `None` at the end.
    pub(super) next: Option<Cursor>,
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

    /// What is known of the arrival of a stream's records, if it was ever written down.
    pub(super) async fn arrivals(&self, id: StreamId) -> Result<Option<Found<Arrivals>>, Failure> {
        self.find(&arrivals_key(id), |value| decode_arrivals(value).map_err(damaged)).await
    }

    /// Writes it down. The caller holds the stream's name.
    pub(super) async fn put_arrivals(&self, id: StreamId, arrivals: &Arrivals) -> Result<(), Failure> {
        let key = arrivals_key(id);
        let version = self.0.get(&key).await?.map_or(Version::ABSENT, |found| found.version);
        written(self.0.put(&key, encode_arrivals(arrivals).into(), version).await?)
    }

    /// Writes it down in the place of what was found.
    pub(super) async fn replace_arrivals(
        &self,
        id: StreamId,
        arrivals: &Arrivals,
        found: Option<&Found<Arrivals>>,
    ) -> Result<(), Failure> {
        self.put(&arrivals_key(id), encode_arrivals(arrivals).into(), found).await
    }

    /// Forgets it. The caller holds the stream's name.
    pub(super) async fn remove_arrivals(&self, id: StreamId) -> Result<(), Failure> {
        let key = arrivals_key(id);
        match self.0.get(&key).await? {
            Some(found) => written(self.0.remove(&key, found.version).await?),
            None => Ok(()),
        }
    }

    /// Streams of all basins in order, at most `limit` of them, from where an earlier call stopped.
    ///
    /// Entries that cannot be read, perhaps because a newer gateway wrote them, are left alone.
    pub(super) async fn all_streams(&self, from: Option<&Cursor>, limit: usize) -> Result<AllStreams, Failure> {
        let found = self.0.scan(b"s/", from.map(|Cursor(after)| &after[..]), limit).await?;
        let next = found.last().filter(|_| found.len() == limit).map(|(key, _)| Cursor(key.clone()));
        let readable = |(key, found): (Bytes, Versioned)| match parse_stream(&key, &found.value) {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::warn!(%error, "a stream's entry cannot be read, its records stay");
                None
            }
        };
        Ok(AllStreams { streams: found.into_iter().filter_map(readable).collect(), next })
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

fn parse_stream(key: &[u8], value: &[u8]) -> Result<(StreamKey, StreamEntry), Failure> {
    Ok((parse_stream_key(key)?, decode_stream_entry(value).map_err(damaged)?))
}

fn parse_stream_key(key: &[u8]) -> Result<StreamKey, Failure> {
    let text = str::from_utf8(key).map_err(damaged)?;
    let names = text.strip_prefix("s/").and_then(|names| names.split_once('/'));
    let (basin, name) = names.ok_or_else(|| damaged(format!("the key {text:?}")))?;
    Ok((BasinName::new(basin).map_err(damaged)?, StreamName::new(name).map_err(damaged)?))
}

fn arrivals_key(id: StreamId) -> Vec<u8> {
    format!("a/{id:?}").into_bytes()
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
