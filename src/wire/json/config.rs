//! Configurations in JSON (`control-plane.md` §3).

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{JsonError, decode_object, encode, object::Object};
use crate::types::{
    BasinConfig, Cipher, RetentionPolicy, StorageClass, StreamConfig, StreamConfigLayer, TimestampingMode,
};

/// Reads some of a stream's configuration: a request body, or an `s2-stream-config` header (`control-plane.md` §3.1).
///
/// `null` leaves a setting open as its absence does.
pub fn decode_stream_config(body: &[u8]) -> Result<StreamConfigLayer, JsonError> {
    decode_object::<StreamConfigJson>(body)?.try_into()
}

/// Writes a stream's configuration, all of it (`control-plane.md` §3.4).
pub fn encode_stream_config(config: &StreamConfig) -> Vec<u8> {
    encode(&StreamConfigJson::from(&config.to_layer()))
}

/// Reads a basin's configuration (`control-plane.md` §3.2).
pub fn decode_basin_config(body: &[u8]) -> Result<BasinConfig, JsonError> {
    decode_object::<BasinConfigJson>(body)?.try_into()
}

/// Writes a basin's configuration (`control-plane.md` §3.4).
///
/// An unset storage class among set defaults is shown as the default: a client looks for it (`clients.md`).
pub fn encode_basin_config(config: &BasinConfig) -> Vec<u8> {
    let mut json = BasinConfigJson::from(config);
    if let Some(Object(defaults)) = &mut json.default_stream_config {
        defaults.storage_class.get_or_insert_with(|| StorageClass::default().as_str().into());
    }
    encode(&json)
}

/// A layer with `null` for what is open.
#[derive(Default, Serialize, Deserialize)]
pub(in crate::wire) struct StreamConfigJson {
    storage_class: Option<String>,
    retention_policy: Option<Object<RetentionPolicyJson>>,
    timestamping: Option<Object<TimestampingJson>>,
    delete_on_empty: Option<Object<DeleteOnEmptyJson>>,
}

/// `{"age":604800}` or `{"infinite":{}}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RetentionPolicyJson {
    Age(u64),
    Infinite(Object<NoFields>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct NoFields {}

#[derive(Serialize, Deserialize)]
struct TimestampingJson {
    mode: Option<TimestampingModeJson>,
    uncapped: Option<bool>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TimestampingModeJson {
    ClientPrefer,
    ClientRequire,
    Arrival,
}

/// An object without the age means 0, which is a value of its own: it overrides the basin's (`control-plane.md` §3.3).
#[derive(Serialize, Deserialize)]
struct DeleteOnEmptyJson {
    min_age_secs: Option<u64>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in crate::wire) enum CipherJson {
    #[serde(rename = "aegis-256")]
    Aegis256,
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

/// `default_stream_config` is `null` if nothing in it is set.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::wire) struct BasinConfigJson {
    default_stream_config: Option<Object<StreamConfigJson>>,
    stream_cipher: Option<CipherJson>,
    create_stream_on_append: bool,
    create_stream_on_read: bool,
}

impl From<&StreamConfigLayer> for StreamConfigJson {
    fn from(layer: &StreamConfigLayer) -> Self {
        let (mode, uncapped) = (layer.timestamping_mode, layer.timestamping_uncapped);
        let timestamping = TimestampingJson { mode: mode.map(Into::into), uncapped };
        let min_age = layer.delete_on_empty_min_age_secs;
        Self {
            storage_class: layer.storage_class.as_ref().map(|class| class.as_str().into()),
            retention_policy: layer.retention_policy.map(|policy| Object(policy.into())),
            timestamping: (mode.is_some() || uncapped.is_some()).then_some(Object(timestamping)),
            delete_on_empty: min_age.map(|age| Object(DeleteOnEmptyJson { min_age_secs: Some(age) })),
        }
    }
}

impl TryFrom<StreamConfigJson> for StreamConfigLayer {
    type Error = JsonError;

    fn try_from(json: StreamConfigJson) -> Result<Self, JsonError> {
        let timestamping = json.timestamping.map(Object::into_inner);
        Ok(Self {
            storage_class: json.storage_class.map(|class| StorageClass::new(&class)),
            retention_policy: json.retention_policy.map(|Object(policy)| policy.try_into()).transpose()?,
            timestamping_mode: timestamping.as_ref().and_then(|t| t.mode).map(Into::into),
            timestamping_uncapped: timestamping.and_then(|t| t.uncapped),
            delete_on_empty_min_age_secs: json.delete_on_empty.map(|Object(it)| it.min_age_secs.unwrap_or_default()),
        })
    }
}

impl From<&BasinConfig> for BasinConfigJson {
    fn from(config: &BasinConfig) -> Self {
        let defaults = &config.default_stream_config;
        Self {
            default_stream_config: (!defaults.is_empty()).then(|| Object(defaults.into())),
            stream_cipher: config.stream_cipher.map(Into::into),
            create_stream_on_append: config.create_stream_on_append,
            create_stream_on_read: config.create_stream_on_read,
        }
    }
}

impl TryFrom<BasinConfigJson> for BasinConfig {
    type Error = JsonError;

    fn try_from(json: BasinConfigJson) -> Result<Self, JsonError> {
        let defaults = json.default_stream_config.map(Object::into_inner).unwrap_or_default();
        Ok(Self {
            default_stream_config: defaults.try_into()?,
            stream_cipher: json.stream_cipher.map(Into::into),
            create_stream_on_append: json.create_stream_on_append,
            create_stream_on_read: json.create_stream_on_read,
        })
    }
}

impl From<RetentionPolicy> for RetentionPolicyJson {
    fn from(policy: RetentionPolicy) -> Self {
        match policy {
            RetentionPolicy::Age(seconds) => Self::Age(seconds.get()),
            RetentionPolicy::Infinite => Self::Infinite(Object(NoFields {})),
        }
    }
}

impl TryFrom<RetentionPolicyJson> for RetentionPolicy {
    type Error = JsonError;

    fn try_from(json: RetentionPolicyJson) -> Result<Self, JsonError> {
        match json {
            RetentionPolicyJson::Age(age) => NonZeroU64::new(age).map(Self::Age).ok_or(JsonError::RetentionAgeZero),
            RetentionPolicyJson::Infinite(_) => Ok(Self::Infinite),
        }
    }
}

impl From<TimestampingMode> for TimestampingModeJson {
    fn from(mode: TimestampingMode) -> Self {
        match mode {
            TimestampingMode::ClientPrefer => Self::ClientPrefer,
            TimestampingMode::ClientRequire => Self::ClientRequire,
            TimestampingMode::Arrival => Self::Arrival,
        }
    }
}

impl From<TimestampingModeJson> for TimestampingMode {
    fn from(json: TimestampingModeJson) -> Self {
        match json {
            TimestampingModeJson::ClientPrefer => Self::ClientPrefer,
            TimestampingModeJson::ClientRequire => Self::ClientRequire,
            TimestampingModeJson::Arrival => Self::Arrival,
        }
    }
}

impl From<Cipher> for CipherJson {
    fn from(cipher: Cipher) -> Self {
        match cipher {
            Cipher::Aegis256 => Self::Aegis256,
            Cipher::Aes256Gcm => Self::Aes256Gcm,
        }
    }
}

impl From<CipherJson> for Cipher {
    fn from(json: CipherJson) -> Self {
        match json {
            CipherJson::Aegis256 => Self::Aegis256,
            CipherJson::Aes256Gcm => Self::Aes256Gcm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(json: &str) -> Result<StreamConfigLayer, JsonError> {
        decode_stream_config(json.as_bytes())
    }

    fn age(seconds: u64) -> RetentionPolicy {
        RetentionPolicy::Age(NonZeroU64::new(seconds).unwrap())
    }

    #[test]
    fn every_stream_setting() {
        // control-plane.md §3.1
        let empty = StreamConfigLayer::default();
        let cases = [
            ("{}", empty.clone()),
            (
                r#"{"storage_class":null,"retention_policy":null,"timestamping":null,"delete_on_empty":null}"#,
                empty.clone(),
            ),
            (r#"{"timestamping":{"mode":null,"uncapped":null},"unknown":[{}]}"#, empty.clone()),
            (r#"{"timestamping":{}}"#, empty.clone()),
            (
                r#"{"storage_class":"standard"}"#,
                StreamConfigLayer { storage_class: Some(StorageClass::new("standard")), ..empty.clone() },
            ),
            (
                r#"{"retention_policy":{"age":86400}}"#,
                StreamConfigLayer { retention_policy: Some(age(86_400)), ..empty.clone() },
            ),
            (
                r#"{"retention_policy":{"infinite":{}}}"#,
                StreamConfigLayer { retention_policy: Some(RetentionPolicy::Infinite), ..empty.clone() },
            ),
            (
                r#"{"timestamping":{"mode":"client-prefer"}}"#,
                StreamConfigLayer { timestamping_mode: Some(TimestampingMode::ClientPrefer), ..empty.clone() },
            ),
            (
                r#"{"timestamping":{"mode":"client-require","uncapped":false}}"#,
                StreamConfigLayer {
                    timestamping_mode: Some(TimestampingMode::ClientRequire),
                    timestamping_uncapped: Some(false),
                    ..empty.clone()
                },
            ),
            (
                r#"{"timestamping":{"mode":"arrival","uncapped":true}}"#,
                StreamConfigLayer {
                    timestamping_mode: Some(TimestampingMode::Arrival),
                    timestamping_uncapped: Some(true),
                    ..empty.clone()
                },
            ),
            (
                r#"{"delete_on_empty":{"min_age_secs":60}}"#,
                StreamConfigLayer { delete_on_empty_min_age_secs: Some(60), ..empty.clone() },
            ),
            (
                r#"{"delete_on_empty":{"min_age_secs":0}}"#,
                StreamConfigLayer { delete_on_empty_min_age_secs: Some(0), ..empty.clone() },
            ),
            (r#"{"delete_on_empty":{}}"#, StreamConfigLayer { delete_on_empty_min_age_secs: Some(0), ..empty }),
        ];
        for (json, expected) in cases {
            assert_eq!(layer(json), Ok(expected), "{json}");
        }
    }

    #[test]
    fn refused_stream_settings() {
        // control-plane.md §3.1, errors.md §4.1
        for json in [
            "",
            "{",
            "null",
            "[]",
            r#""express""#,
            r#"{"storage_class":1}"#,
            r#"{"retention_policy":{}}"#,
            r#"{"retention_policy":"infinite"}"#,
            r#"{"retention_policy":{"infinite":null}}"#,
            r#"{"retention_policy":{"infinite":[]}}"#,
            r#"{"retention_policy":{"age":1,"infinite":{}}}"#,
            r#"{"retention_policy":{"age":-1}}"#,
            r#"{"retention_policy":{"age":1.5}}"#,
            r#"{"retention_policy":{"age":"1"}}"#,
            r#"{"retention_policy":{"age":null}}"#,
            r#"{"retention_policy":{"forever":{}}}"#,
            r#"{"timestamping":"arrival"}"#,
            r#"{"timestamping":[null,null]}"#,
            r#"{"timestamping":{"mode":"Arrival"}}"#,
            r#"{"timestamping":{"mode":"client_prefer"}}"#,
            r#"{"timestamping":{"uncapped":1}}"#,
            r#"{"delete_on_empty":{"min_age_secs":-1}}"#,
            r#"{"delete_on_empty":60}"#,
        ] {
            assert!(matches!(layer(json), Err(JsonError::Malformed(_))), "{json}: {:?}", layer(json));
        }
        assert_eq!(layer(r#"{"retention_policy":{"age":0}}"#), Err(JsonError::RetentionAgeZero));
        let syntax_first = layer(r#"{"retention_policy":{"age":0},"delete_on_empty":1}"#);
        assert!(matches!(syntax_first, Err(JsonError::Malformed(_))));
    }

    #[test]
    fn a_stream_configuration_is_shown_whole() {
        // control-plane.md §3.4
        let json = encode_stream_config(&StreamConfig::default());
        let expected = r#"{"storage_class":"express","retention_policy":{"age":604800},"timestamping":{"mode":"client-prefer","uncapped":false},"delete_on_empty":{"min_age_secs":0}}"#;
        assert_eq!(String::from_utf8_lossy(&json), expected);
        let infinite = StreamConfig { retention_policy: RetentionPolicy::Infinite, ..Default::default() };
        let json = String::from_utf8(encode_stream_config(&infinite)).unwrap();
        assert!(json.contains(r#""retention_policy":{"infinite":{}}"#), "{json}");
        assert_eq!(layer(&json).unwrap().over(&StreamConfigLayer::default()), infinite);
    }

    #[test]
    fn every_basin_setting() {
        // control-plane.md §3.2
        let default = BasinConfig::default();
        let cases = [
            ("{}", default.clone()),
            (r#"{"default_stream_config":null,"stream_cipher":null}"#, default.clone()),
            (r#"{"default_stream_config":{}}"#, default.clone()),
            (
                r#"{"default_stream_config":{"retention_policy":{"age":1}},"stream_cipher":"aegis-256"}"#,
                BasinConfig {
                    default_stream_config: StreamConfigLayer { retention_policy: Some(age(1)), ..Default::default() },
                    stream_cipher: Some(Cipher::Aegis256),
                    ..default.clone()
                },
            ),
            (
                r#"{"stream_cipher":"aes-256-gcm","create_stream_on_append":true}"#,
                BasinConfig {
                    stream_cipher: Some(Cipher::Aes256Gcm),
                    create_stream_on_append: true,
                    ..default.clone()
                },
            ),
            (r#"{"create_stream_on_read":true}"#, BasinConfig { create_stream_on_read: true, ..default }),
        ];
        for (json, expected) in cases {
            assert_eq!(decode_basin_config(json.as_bytes()), Ok(expected), "{json}");
        }
        for json in [
            r#"{"create_stream_on_append":null}"#,
            r#"{"create_stream_on_read":null}"#,
            r#"{"create_stream_on_read":"true"}"#,
            r#"{"stream_cipher":"aes"}"#,
            r#"{"default_stream_config":[]}"#,
        ] {
            assert!(matches!(decode_basin_config(json.as_bytes()), Err(JsonError::Malformed(_))), "{json}");
        }
        let no_age = br#"{"default_stream_config":{"retention_policy":{"age":0}}}"#;
        assert_eq!(decode_basin_config(no_age), Err(JsonError::RetentionAgeZero));
    }

    #[test]
    fn a_basin_configuration_is_shown_with_null_for_what_is_open() {
        // control-plane.md §3.4, clients.md
        let shown = |config: &BasinConfig| String::from_utf8(encode_basin_config(config)).unwrap();
        assert_eq!(
            shown(&BasinConfig::default()),
            r#"{"default_stream_config":null,"stream_cipher":null,"create_stream_on_append":false,"create_stream_on_read":false}"#
        );
        let uncapped = StreamConfigLayer { timestamping_uncapped: Some(true), ..Default::default() };
        let config = BasinConfig {
            default_stream_config: uncapped,
            stream_cipher: Some(Cipher::Aes256Gcm),
            create_stream_on_append: true,
            create_stream_on_read: false,
        };
        assert_eq!(
            shown(&config),
            r#"{"default_stream_config":{"storage_class":"express","retention_policy":null,"timestamping":{"mode":null,"uncapped":true},"delete_on_empty":null},"stream_cipher":"aes-256-gcm","create_stream_on_append":true,"create_stream_on_read":false}"#
        );
    }
}
