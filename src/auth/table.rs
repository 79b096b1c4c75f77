//! Access tokens in the meta table: keys, entries, listings. Knows no secret, and no rule of when to issue one.
//!
//! ```text
//! t/<id>    AccessTokenEntry
//! ```

use bytes::Bytes;

use crate::{
    store::{MetaStore, MetaWrite, StoreError, Version, Versioned},
    types::{AccessTokenEntry, AccessTokenId, AccessTokenIdPart, AccessTokenInfo, Page},
    wire::token::{decode_token_entry, encode_token_entry},
};

const TABLE: &str = "t/";

pub(super) struct Table<'a>(&'a dyn MetaStore);

/// An entry as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entry: AccessTokenEntry,
    pub(super) version: Version,
}

impl<'a> Table<'a> {
    pub(super) fn new(table: &'a dyn MetaStore) -> Self {
        Self(table)
    }

    pub(super) async fn find(&self, id: &AccessTokenId) -> Result<Option<Found>, StoreError> {
        match self.0.get(&key(id.as_str())).await? {
            Some(Versioned { value, version }) => Ok(Some(Found { entry: decode(id.clone(), &value)?, version })),
            None => Ok(None),
        }
    }

    /// Writes `entry` in the place of what has the version `expected`.
    pub(super) async fn put(&self, entry: &AccessTokenEntry, expected: Version) -> Result<MetaWrite, StoreError> {
        self.0.put(&key(entry.info.id.as_str()), encode_token_entry(entry).into(), expected).await
    }

    pub(super) async fn remove(&self, id: &AccessTokenId, expected: Version) -> Result<MetaWrite, StoreError> {
        self.0.remove(&key(id.as_str()), expected).await
    }

    /// Tokens whose ids begin with `prefix` and sort after `start_after`, in order.
    pub(super) async fn list(
        &self,
        prefix: &AccessTokenIdPart,
        start_after: &AccessTokenIdPart,
        limit: usize,
    ) -> Result<Page<AccessTokenInfo>, StoreError> {
        let after = (!start_after.as_str().is_empty()).then(|| key(start_after.as_str()));
        // One more than asked for tells whether there are more.
        let mut rows = self.0.scan(&key(prefix.as_str()), after.as_deref(), limit.saturating_add(1)).await?;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let entries =
            rows.iter().map(|(key, row)| Ok(decode(id_of(key)?, &row.value)?.info)).collect::<Result<_, _>>()?;
        Ok(Page { entries, has_more })
    }
}

fn key(id: &str) -> Vec<u8> {
    [TABLE, id].concat().into_bytes()
}

fn id_of(key: &Bytes) -> Result<AccessTokenId, StoreError> {
    let id = std::str::from_utf8(&key[TABLE.len()..]).map_err(damaged)?;
    AccessTokenId::new(id).map_err(damaged)
}

fn decode(id: AccessTokenId, value: &[u8]) -> Result<AccessTokenEntry, StoreError> {
    decode_token_entry(id, value).map_err(damaged)
}

fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("an access token's entry: {error}").into())
}
