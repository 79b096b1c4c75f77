//! JSON ↔ values: the text form of everything that the API says and hears (`data-plane.md` §6, `control-plane.md` §3–5).
//!
//! The one place that names serde_json, beside the catalogue's stored form. Knows shapes and which values they hold, not
//! what becomes of them.

mod answers;
mod append;
mod basin;
mod config;
#[doc(hidden)]
pub mod fuzz;
mod init_file;
mod location;
mod metrics;
mod object;
mod read_batch;
mod reconfigure;
mod report;
mod rfc3339;
mod stream;
mod token;

pub use answers::{decode_access_tokens, decode_basins, decode_issued_token, decode_streams};
pub use append::{decode_append_ack, decode_append_input, encode_append_ack};
pub use basin::{CreateBasin, EnsureBasin, decode_create_basin, decode_ensure_basin, encode_basin_info, encode_basins};
pub use config::{decode_basin_config, decode_stream_config, encode_basin_config, encode_stream_config};
pub use init_file::decode_init_file;
pub use location::{decode_location_name, encode_location, encode_locations};
pub use metrics::encode_metrics;
pub use read_batch::{JsonRecord, decode_read_batch, decode_tail, encode_read_batch, encode_tail};
pub use reconfigure::{decode_basin_reconfiguration, decode_stream_reconfiguration};
pub use report::encode_report;
pub use rfc3339::{ExpiryText, NotATime, Rfc3339};
pub use stream::{CreateStream, decode_create_stream, decode_ensure_stream, encode_stream_info, encode_streams};
pub use token::{decode_issue_access_token, encode_access_token_info, encode_access_tokens, encode_issued_token};

pub(super) use config::{BasinConfigJson, CipherJson, StreamConfigJson};
pub(super) use read_batch::{put_ping, put_read_batch};
pub(super) use token::{AccessTokenInfoJson, ScopeJson};

use serde::{Deserialize, Serialize};

use self::object::Object;
use crate::types::{ApiError, BatchError, ErrorCode, FencingTokenTooLong, NameError};

/// Why a JSON body is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, of another shape, or with a bad name or an unknown word in it (400 `bad_json`).
    #[error("{0}")]
    Malformed(String),
    /// Records that are not a batch (422 `invalid`).
    #[error(transparent)]
    Invalid(#[from] BatchError),
    /// A name, value or body of a record that should be base64 and is not (422 `invalid`).
    #[error("record {index} has a string that is not standard base64 with padding")]
    Base64 {
        /// Which record, from 0.
        index: usize,
    },
    /// A fencing token of more than 36 bytes (422 `invalid`).
    #[error(transparent)]
    FencingTokenTooLong(#[from] FencingTokenTooLong),
    /// A retention policy that keeps nothing (422 `invalid`).
    #[error("retention_policy: age must be greater than 0 seconds")]
    RetentionAgeZero,
}

impl JsonError {
    fn name(field: &str, error: &NameError) -> Self {
        Self::Malformed(format!("{field}: {error}"))
    }
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<JsonError> for ApiError {
    fn from(error: JsonError) -> Self {
        let code = match error {
            JsonError::Malformed(_) => ErrorCode::BadJson,
            _ => ErrorCode::Invalid,
        };
        ApiError::new(code, error.to_string())
    }
}

/// Reads one JSON object.
fn decode_object<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, JsonError> {
    let Object(value) = serde_json::from_slice(body)?;
    Ok(value)
}

/// Reads one JSON object where nothing, or `null`, means the empty one.
fn decode_optional_object<'de, T: Deserialize<'de> + Default>(body: &'de [u8]) -> Result<T, JsonError> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    let value: Option<Object<T>> = serde_json::from_slice(body)?;
    Ok(value.map(Object::into_inner).unwrap_or_default())
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    encode_with_capacity(128, value)
}

/// Writes `value` as compact JSON into a buffer that begins with room for `capacity` bytes.
fn encode_with_capacity(capacity: usize, value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    put(&mut out, value);
    out
}

/// Writes `value` as compact JSON behind what is in `out` already.
fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    // Only a map with keys that are no strings, or a writer, can fail; neither is here.
    serde_json::to_writer(out, value).expect("structs and sequences go into memory");
}
