//! Entries of the catalogue ↔ the bytes under which the meta table keeps them.
//!
//! JSON with the version of its form in front, so that a gateway recognises what a newer one has written and leaves it
//! alone. What is written here stays readable for ever: the tests hold it down byte for byte.
//!
//! ```text
//! basin   {"v":1,"config":{…},"location":null,"created_at":ms,"deleted_at":null,"creation":{"token":"…","config":{…}}}
//! stream  {"v":1,"id":"<32 hex>","config":{…},"cipher":null,"created_at":ms,"deleted_at":null,"creation":null}
//! ```

use serde::{Deserialize, Serialize};

use super::json::{BasinConfigJson, CipherJson, JsonError, StreamConfigJson};
use crate::types::{
    BasinConfig, BasinEntry, Creation, NameError, RequestToken, StreamConfigLayer, StreamEntry, StreamId, Timestamp,
};

/// The form that is written.
const VERSION: u64 = 1;

/// Why bytes of the meta table are not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A newer gateway wrote it.
    #[error("a catalogue entry has version {found}, this gateway reads up to {VERSION}")]
    NewerVersion {
        /// Its version.
        found: u64,
    },
    /// No gateway wrote it.
    #[error("a catalogue entry is damaged: {0}")]
    Damaged(String),
}

impl From<serde_json::Error> for EntryError {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<JsonError> for EntryError {
    fn from(error: JsonError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<NameError> for EntryError {
    fn from(error: NameError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Writes a basin's entry.
pub fn encode_basin_entry(entry: &BasinEntry) -> Vec<u8> {
    encode(&BasinEntryJson {
        v: VERSION,
        config: (&entry.config).into(),
        location: entry.location.clone(),
        created_at: entry.created_at.get(),
        deleted_at: entry.deleted_at.map(Timestamp::get),
        creation: entry.creation.as_ref().map(CreationJson::from),
    })
}

/// Reads a basin's entry.
pub fn decode_basin_entry(bytes: &[u8]) -> Result<BasinEntry, EntryError> {
    let json: BasinEntryJson = decode(bytes)?;
    Ok(BasinEntry {
        config: json.config.try_into()?,
        location: json.location,
        created_at: Timestamp::new(json.created_at),
        deleted_at: json.deleted_at.map(Timestamp::new),
        creation: json.creation.map(Creation::<BasinConfig>::try_from).transpose()?,
    })
}

/// Writes a stream's entry.
pub fn encode_stream_entry(entry: &StreamEntry) -> Vec<u8> {
    encode(&StreamEntryJson {
        v: VERSION,
        id: format!("{:032x}", u128::from_be_bytes(entry.id.to_bytes())),
        config: (&entry.config.to_layer()).into(),
        cipher: entry.cipher.map(Into::into),
        created_at: entry.created_at.get(),
        deleted_at: entry.deleted_at.map(Timestamp::get),
        creation: entry.creation.as_ref().map(CreationJson::from),
    })
}

/// Reads a stream's entry.
pub fn decode_stream_entry(bytes: &[u8]) -> Result<StreamEntry, EntryError> {
    let json: StreamEntryJson = decode(bytes)?;
    let config: StreamConfigLayer = json.config.try_into()?;
    Ok(StreamEntry {
        id: decode_stream_id(&json.id)?,
        // Every setting is there; one that a later version of the form adds takes its default in old entries.
        config: config.over(&StreamConfigLayer::default()),
        cipher: json.cipher.map(Into::into),
        created_at: Timestamp::new(json.created_at),
        deleted_at: json.deleted_at.map(Timestamp::new),
        creation: json.creation.map(Creation::<StreamConfigLayer>::try_from).transpose()?,
    })
}

#[derive(Deserialize)]
struct VersionJson {
    v: u64,
}

#[derive(Serialize, Deserialize)]
struct BasinEntryJson {
    v: u64,
    config: BasinConfigJson,
    location: Option<String>,
    created_at: u64,
    deleted_at: Option<u64>,
    creation: Option<CreationJson<BasinConfigJson>>,
}

#[derive(Serialize, Deserialize)]
struct StreamEntryJson {
    v: u64,
    id: String,
    config: StreamConfigJson,
    cipher: Option<CipherJson>,
    created_at: u64,
    deleted_at: Option<u64>,
    creation: Option<CreationJson<StreamConfigJson>>,
}

#[derive(Serialize, Deserialize)]
struct CreationJson<C> {
    token: String,
    config: C,
}

impl<'a, C, J: From<&'a C>> From<&'a Creation<C>> for CreationJson<J> {
    fn from(creation: &'a Creation<C>) -> Self {
        Self { token: creation.token.as_str().into(), config: (&creation.config).into() }
    }
}

impl<C, J> TryFrom<CreationJson<J>> for Creation<C>
where
    C: TryFrom<J, Error = JsonError>,
{
    type Error = EntryError;

    fn try_from(json: CreationJson<J>) -> Result<Self, EntryError> {
        Ok(Self { token: RequestToken::new(&json.token)?, config: json.config.try_into()? })
    }
}

fn encode(entry: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(entry).expect("structs go into memory")
}

fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, EntryError> {
    match serde_json::from_slice(bytes)? {
        VersionJson { v: 1 } => Ok(serde_json::from_slice(bytes)?),
        VersionJson { v: 0 } => Err(EntryError::Damaged("there is no version 0".into())),
        VersionJson { v } => Err(EntryError::NewerVersion { found: v }),
    }
}

/// 32 lowercase hexadecimal digits.
fn decode_stream_id(text: &str) -> Result<StreamId, EntryError> {
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let id = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32 && text.bytes().all(digits));
    id.map(StreamId::new).ok_or_else(|| EntryError::Damaged(format!("{text:?} is not a stream id")))
}
