//! Answers of the control plane as a client reads them: listings, and the secret of a token (`control-plane.md` §4.7,
//! §5.5, §7). Asking is [`calls`](super::super::calls)'s.
//!
//! Fields that are not known are passed over, and those that not every server sends may be absent.

use serde::Deserialize;

use super::{
    JsonError, config::CipherJson, decode_object, object::Object, rfc3339::Rfc3339, token::IssueAccessTokenJson,
};
use crate::types::{AccessTokenInfo, BasinInfo, BasinName, Page, Secret, StreamInfo, StreamName};

/// Reads a page of a listing of basins.
pub fn decode_basins(body: &[u8]) -> Result<Page<BasinInfo>, JsonError> {
    let BasinsJson { basins, has_more } = decode_object(body)?;
    page(basins, has_more)
}

/// Reads a page of a listing of streams.
pub fn decode_streams(body: &[u8]) -> Result<Page<StreamInfo>, JsonError> {
    let StreamsJson { streams, has_more } = decode_object(body)?;
    page(streams, has_more)
}

/// Reads a page of a listing of access tokens. An operation that is not known is an error, since nothing here could show
/// it.
pub fn decode_access_tokens(body: &[u8]) -> Result<Page<AccessTokenInfo>, JsonError> {
    let AccessTokensJson { access_tokens, has_more } = decode_object(body)?;
    page(access_tokens, has_more)
}

/// Reads the secret of a token that was issued.
pub fn decode_issued_token(body: &[u8]) -> Result<Secret, JsonError> {
    let IssuedTokenJson { access_token } = decode_object(body)?;
    Secret::new(access_token).map_err(|error| JsonError::Malformed(format!("access_token: {error}")))
}

fn page<J, T: TryFrom<J, Error = JsonError>>(entries: Vec<Object<J>>, has_more: bool) -> Result<Page<T>, JsonError> {
    let entries = entries.into_iter().map(|Object(entry)| entry.try_into()).collect::<Result<_, _>>()?;
    Ok(Page { entries, has_more })
}

#[derive(Deserialize)]
struct BasinsJson {
    basins: Vec<Object<BasinInfoJson>>,
    has_more: bool,
}

#[derive(Deserialize)]
struct StreamsJson {
    streams: Vec<Object<StreamInfoJson>>,
    has_more: bool,
}

#[derive(Deserialize)]
struct AccessTokensJson {
    access_tokens: Vec<Object<IssueAccessTokenJson>>,
    has_more: bool,
}

#[derive(Deserialize)]
struct IssuedTokenJson {
    access_token: String,
}

#[derive(Deserialize)]
struct BasinInfoJson {
    name: String,
    location: Option<String>,
    created_at: Rfc3339,
    deleted_at: Option<Rfc3339>,
}

#[derive(Deserialize)]
struct StreamInfoJson {
    name: String,
    created_at: Rfc3339,
    deleted_at: Option<Rfc3339>,
    cipher: Option<CipherJson>,
}

impl TryFrom<BasinInfoJson> for BasinInfo {
    type Error = JsonError;

    fn try_from(json: BasinInfoJson) -> Result<Self, JsonError> {
        Ok(Self {
            name: BasinName::new(&json.name).map_err(|error| JsonError::name("name", &error))?,
            location: json.location,
            created_at: json.created_at.0,
            deleted_at: json.deleted_at.map(|Rfc3339(at)| at),
        })
    }
}

impl TryFrom<StreamInfoJson> for StreamInfo {
    type Error = JsonError;

    fn try_from(json: StreamInfoJson) -> Result<Self, JsonError> {
        Ok(Self {
            name: StreamName::new(&json.name).map_err(|error| JsonError::name("name", &error))?,
            created_at: json.created_at.0,
            deleted_at: json.deleted_at.map(|Rfc3339(at)| at),
            cipher: json.cipher.map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        types::{AccessTokenId, Cipher, Expiry, Scope, Timestamp},
        wire::json::{encode_access_tokens, encode_basins, encode_issued_token, encode_streams},
    };

    #[test]
    fn what_is_shown_is_what_is_read() {
        let (created_at, deleted_at) = (Timestamp::new(1_713_812_735_012), Some(Timestamp::new(1_713_812_736_000)));
        let basin = |name: &str, location: Option<&str>| BasinInfo {
            name: BasinName::new(name).unwrap(),
            location: location.map(Into::into),
            created_at,
            deleted_at,
        };
        let basins = Page {
            entries: vec![
                basin("my-basin-01", None),
                BasinInfo { deleted_at: None, ..basin("my-basin-02", Some("x")) },
            ],
            has_more: true,
        };
        assert_eq!(decode_basins(&encode_basins(&basins)), Ok(basins));

        let stream = |name: &str, cipher| StreamInfo {
            name: StreamName::new(name).unwrap(),
            created_at,
            deleted_at: None,
            cipher,
        };
        let entries = vec![stream("a \"b\"/日", None), stream("c", Some(Cipher::Aegis256))];
        let streams = Page { entries, has_more: false };
        assert_eq!(decode_streams(&encode_streams(&streams)), Ok(streams));

        let token = |id: &str, expires_at| AccessTokenInfo {
            id: AccessTokenId::new(id).unwrap(),
            expires_at,
            auto_prefix_streams: false,
            scope: Scope::everything(),
        };
        let entries = vec![token("root", None), token("t", Some(Expiry::new(1_798_761_600, 7)))];
        let tokens = Page { entries, has_more: true };
        assert_eq!(decode_access_tokens(&encode_access_tokens(&tokens)), Ok(tokens));

        let secret = decode_issued_token(&encode_issued_token(&Secret::new("s2s_abc").unwrap())).unwrap();
        assert_eq!(secret.expose(), "s2s_abc");
    }

    #[test]
    fn other_servers_say_more_or_less() {
        // control-plane.md §4.1: any precision; `location` and `cipher` came later, `state` and `scope` are old.
        let basins = br#"{"basins":[{"name":"my-basin-01","scope":"aws:us-east-1","state":"active","created_at":"2024-04-22T19:05:35.012345678Z"}],"has_more":false,"new":1}"#;
        let read = decode_basins(basins).unwrap();
        assert_eq!((read.entries[0].created_at.get(), &read.entries[0].location), (1_713_812_735_012, &None));
        let streams = br#"{"streams":[{"name":"s","created_at":"2024-04-22T19:05:35Z"}],"has_more":false}"#;
        assert_eq!(decode_streams(streams).unwrap().entries[0].cipher, None);
    }

    #[test]
    fn what_is_no_answer() {
        for bad in [
            "",
            "[]",
            r#"{"basins":[]}"#,
            r#"{"basins":[["my-basin-01",null,"2024-04-22T19:05:35Z",null]],"has_more":false}"#,
            r#"{"basins":[{"name":"short","created_at":"2024-04-22T19:05:35Z"}],"has_more":false}"#,
            r#"{"basins":[{"name":"my-basin-01","created_at":"yesterday"}],"has_more":false}"#,
        ] {
            assert!(matches!(decode_basins(bad.as_bytes()), Err(JsonError::Malformed(_))), "{bad}");
        }
        let novel = br#"{"access_tokens":[{"id":"t","scope":{"ops":["fly"]}}],"has_more":false}"#;
        assert!(decode_access_tokens(novel).is_err());
        assert!(decode_issued_token(br#"{"access_token":""}"#).is_err());
    }
}
