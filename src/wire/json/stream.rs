//! Streams in JSON: what is asked for, and what a listing shows (`control-plane.md` §5).

use serde::{Deserialize, Serialize};

use super::{
    JsonError,
    config::{CipherJson, StreamConfigJson},
    decode_object, decode_optional_object, encode, encode_with_capacity,
    object::Object,
    rfc3339::Rfc3339,
};
use crate::types::{Page, StreamConfigLayer, StreamInfo, StreamName};

/// What `POST /v1/streams` asks for (`control-plane.md` §5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateStream {
    /// Its name.
    pub name: StreamName,
    /// What was said of its configuration.
    pub config: StreamConfigLayer,
}

/// Reads the body of `POST /v1/streams`.
pub fn decode_create_stream(body: &[u8]) -> Result<CreateStream, JsonError> {
    let json: CreateStreamJson = decode_object(body)?;
    let name = StreamName::new(&json.stream).map_err(|error| JsonError::name("stream", &error))?;
    Ok(CreateStream { name, config: json.config.map(Object::into_inner).unwrap_or_default().try_into()? })
}

/// Reads the body of `PUT /v1/streams/{stream}`: a bare configuration; nothing and `null` leave all of it open.
pub fn decode_ensure_stream(body: &[u8]) -> Result<StreamConfigLayer, JsonError> {
    decode_optional_object::<StreamConfigJson>(body)?.try_into()
}

/// Writes a stream as a listing shows it.
pub fn encode_stream_info(info: &StreamInfo) -> Vec<u8> {
    encode(&StreamInfoJson::from(info))
}

/// Writes a page of a listing of streams.
pub fn encode_streams(page: &Page<StreamInfo>) -> Vec<u8> {
    let streams = page.entries.iter().map(StreamInfoJson::from).collect();
    encode_with_capacity(64 + page.entries.len() * 192, &StreamsJson { streams, has_more: page.has_more })
}

#[derive(Deserialize)]
struct CreateStreamJson {
    stream: String,
    config: Option<Object<StreamConfigJson>>,
}

#[derive(Serialize)]
struct StreamsJson<'a> {
    streams: Vec<StreamInfoJson<'a>>,
    has_more: bool,
}

#[derive(Serialize)]
struct StreamInfoJson<'a> {
    name: &'a str,
    created_at: Rfc3339,
    deleted_at: Option<Rfc3339>,
    cipher: Option<CipherJson>,
}

impl<'a> From<&'a StreamInfo> for StreamInfoJson<'a> {
    fn from(info: &'a StreamInfo) -> Self {
        Self {
            name: info.name.as_str(),
            created_at: Rfc3339(info.created_at),
            deleted_at: info.deleted_at.map(Rfc3339),
            cipher: info.cipher.map(Into::into),
        }
    }
}
