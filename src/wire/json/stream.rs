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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Cipher, Timestamp};

    fn create(json: &str) -> Result<CreateStream, JsonError> {
        decode_create_stream(json.as_bytes())
    }

    #[test]
    fn creations() {
        // control-plane.md §5.2
        let bare = CreateStream { name: StreamName::new("orders/eu").unwrap(), config: StreamConfigLayer::default() };
        let config = StreamConfigLayer { delete_on_empty_min_age_secs: Some(5), ..Default::default() };
        let cases = [
            (r#"{"stream":"orders/eu"}"#, bare.clone()),
            (r#"{"config":null,"stream":"orders\/eu"}"#, bare.clone()),
            (
                r#"{"stream":"orders/eu","config":{"delete_on_empty":{"min_age_secs":5}}}"#,
                CreateStream { config, ..bare },
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(create(json), Ok(expected), "{json}");
        }
        let long = format!(r#"{{"stream":"{}"}}"#, "a".repeat(513));
        for json in [
            "",
            "null",
            "{}",
            r#"["orders/eu",null]"#,
            r#"{"stream":""}"#,
            r#"{"stream":".."}"#,
            r#"{"stream":"a\u0000"}"#,
            r#"{"stream":null}"#,
            r#"{"stream":"a","config":"x"}"#,
            &long,
        ] {
            assert!(matches!(create(json), Err(JsonError::Malformed(_))), "{json}: {:?}", create(json));
        }
        let no_age = create(r#"{"stream":"a","config":{"retention_policy":{"age":0}}}"#);
        assert_eq!(no_age, Err(JsonError::RetentionAgeZero));
    }

    #[test]
    fn ensured_streams() {
        // control-plane.md §5.3
        for nothing in ["", "\t", "null", "{}", r#"{"storage_class":null}"#] {
            assert_eq!(decode_ensure_stream(nothing.as_bytes()), Ok(StreamConfigLayer::default()), "{nothing:?}");
        }
        let uncapped = StreamConfigLayer { timestamping_uncapped: Some(true), ..Default::default() };
        assert_eq!(decode_ensure_stream(br#"{"timestamping":{"uncapped":true}}"#), Ok(uncapped));
        for bad in ["[]", "0", "nul", r#"{"retention_policy":1}"#] {
            assert!(matches!(decode_ensure_stream(bad.as_bytes()), Err(JsonError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn listings() {
        // control-plane.md §1, §5.1
        let info = StreamInfo {
            name: StreamName::new("orders/\"eu\"").unwrap(),
            created_at: Timestamp::new(0),
            deleted_at: None,
            cipher: None,
        };
        let plain =
            r#"{"name":"orders/\"eu\"","created_at":"1970-01-01T00:00:00.000Z","deleted_at":null,"cipher":null}"#;
        assert_eq!(String::from_utf8_lossy(&encode_stream_info(&info)), plain);
        let dying = StreamInfo { deleted_at: Some(Timestamp::new(1)), cipher: Some(Cipher::Aegis256), ..info.clone() };
        let deleting = r#"{"name":"orders/\"eu\"","created_at":"1970-01-01T00:00:00.000Z","deleted_at":"1970-01-01T00:00:00.001Z","cipher":"aegis-256"}"#;
        let page = Page { entries: vec![info, dying], has_more: false };
        let expected = format!(r#"{{"streams":[{plain},{deleting}],"has_more":false}}"#);
        assert_eq!(String::from_utf8_lossy(&encode_streams(&page)), expected);
    }
}
