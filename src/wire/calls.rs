//! The JSON that a client asks with in the unary calls that this crate's own client makes (`control-plane.md` §4.2, §5.2,
//! §7.2; `data-plane.md` §6.2). Reading it, and reading the answers, is `json`'s.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::Serialize;

use super::json::{AccessTokenInfoJson, BasinConfigJson, StreamConfigJson};
use crate::types::{AccessTokenInfo, BasinConfig, BasinName, StreamConfigLayer, StreamName};

/// The body of `POST /v1/basins`.
pub fn create_basin(basin: &BasinName, config: &BasinConfig) -> Bytes {
    let config = (*config != BasinConfig::default()).then(|| config.into());
    encode(&CreateBasin { basin: basin.as_str(), config })
}

/// The body of `POST /v1/streams`; what `config` leaves open is as the basin has it.
pub fn create_stream(stream: &StreamName, config: &StreamConfigLayer) -> Bytes {
    let config = (!config.is_empty()).then(|| config.into());
    encode(&CreateStream { stream: stream.as_str(), config })
}

/// The body of `POST /v1/access-tokens`; without an expiry the token ends when its issuer does.
pub fn issue_access_token(wanted: &AccessTokenInfo) -> Bytes {
    encode(&AccessTokenInfoJson::from(wanted))
}

/// The body of `POST …/records` with `s2-format: base64`: records of these bodies and nothing else.
pub fn append_records<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    // Written by hand, since nothing in it needs escaping: the work for each record is the base64 of its body.
    let mut json = String::from(r#"{"records":["#);
    for (i, body) in bodies.into_iter().enumerate() {
        json.push_str(if i == 0 { r#"{"body":""# } else { r#",{"body":""# });
        BASE64.encode_string(body, &mut json);
        json.push_str(r#""}"#);
    }
    json.push_str("]}");
    json.into()
}

#[derive(Serialize)]
struct CreateBasin<'a> {
    basin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<BasinConfigJson>,
}

#[derive(Serialize)]
struct CreateStream<'a> {
    stream: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<StreamConfigJson>,
}

fn encode(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("strings and numbers under fixed keys always serialize").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        types::{AccessTokenId, Cipher, Expiry, RetentionPolicy, Scope, TimestampingMode},
        wire::{json, negotiate::S2Format},
    };

    fn unusual() -> StreamConfigLayer {
        StreamConfigLayer {
            storage_class: None,
            retention_policy: Some(RetentionPolicy::Infinite),
            timestamping_mode: Some(TimestampingMode::Arrival),
            timestamping_uncapped: None,
            delete_on_empty_min_age_secs: Some(0),
        }
    }

    #[test]
    fn basins_that_are_asked_for_are_heard_of() {
        let name = BasinName::new("my-basin-01").unwrap();
        assert_eq!(&create_basin(&name, &BasinConfig::default())[..], br#"{"basin":"my-basin-01"}"#);
        let config = BasinConfig {
            default_stream_config: unusual(),
            stream_cipher: Some(Cipher::Aes256Gcm),
            create_stream_on_append: true,
            create_stream_on_read: false,
        };
        for config in [BasinConfig::default(), config] {
            let heard = json::decode_create_basin(&create_basin(&name, &config)).unwrap();
            assert_eq!((heard.name, heard.config, heard.location), (name.clone(), config, None));
        }
    }

    #[test]
    fn streams_that_are_asked_for_are_heard_of() {
        let name = StreamName::new("orders \"eu\"/日").unwrap();
        for config in [StreamConfigLayer::default(), unusual()] {
            let heard = json::decode_create_stream(&create_stream(&name, &config)).unwrap();
            assert_eq!((heard.name, heard.config), (name.clone(), config));
        }
    }

    #[test]
    fn records_that_are_appended_are_heard_of() {
        let bodies = [&b"hello"[..], b"", b"\xff\0\"\\"];
        let request = append_records(bodies);
        assert_eq!(&append_records([&b"hello"[..]])[..], br#"{"records":[{"body":"aGVsbG8="}]}"#);
        let heard = json::decode_append_input(&request, S2Format::Base64).unwrap();
        assert_eq!((heard.match_seq_num, heard.fencing_token), (None, None));
        let heard: Vec<_> = heard.batch.records().map(|record| record.fields().body().to_vec()).collect();
        assert_eq!(heard, bodies.map(<[u8]>::to_vec));
    }

    #[test]
    fn tokens_that_are_asked_for_are_heard_of() {
        for (expires_at, scope) in [(None, Scope::default()), (Some(Expiry::new(5, 6)), Scope::everything())] {
            let id = AccessTokenId::new("tenant-42").unwrap();
            let wanted = AccessTokenInfo { id, expires_at, auto_prefix_streams: true, scope };
            assert_eq!(json::decode_issue_access_token(&issue_access_token(&wanted)), Ok(wanted));
        }
    }
}
