//! Changes to configurations in JSON, where absence, `null` and a value are three things (`control-plane.md` §4.4, §5.4).

use serde::{Deserialize, Deserializer};

use super::{
    JsonError,
    config::{CipherJson, RetentionPolicyJson, TimestampingModeJson},
    decode_object,
    object::Object,
};
use crate::types::{BasinReconfiguration, Change, StorageClass, StreamReconfiguration};

/// Reads what a PATCH of a stream asks for.
pub fn decode_stream_reconfiguration(body: &[u8]) -> Result<StreamReconfiguration, JsonError> {
    decode_object::<StreamReconfigurationJson>(body)?.try_into()
}

/// Reads what a PATCH of a basin asks for.
pub fn decode_basin_reconfiguration(body: &[u8]) -> Result<BasinReconfiguration, JsonError> {
    let json: BasinReconfigurationJson = decode_object(body)?;
    Ok(BasinReconfiguration {
        default_stream_config: match json.default_stream_config {
            Patch::Absent => StreamReconfiguration::default(),
            Patch::Null => StreamReconfiguration::CLEAR_ALL,
            Patch::Value(Object(changes)) => changes.try_into()?,
        },
        stream_cipher: json.stream_cipher.into(),
        create_stream_on_append: json.create_stream_on_append,
        create_stream_on_read: json.create_stream_on_read,
    })
}

/// What a field of a PATCH says.
#[derive(Default)]
enum Patch<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> Patch<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Patch<U> {
        self.and_then(|value| Patch::Value(f(value)))
    }

    /// What a field inside of this one says: `null` and absence are said of all that is inside.
    fn and_then<U>(self, inner: impl FnOnce(T) -> Patch<U>) -> Patch<U> {
        match self {
            Self::Absent => Patch::Absent,
            Self::Null => Patch::Null,
            Self::Value(value) => inner(value),
        }
    }
}

impl<T, U: From<T>> From<Patch<T>> for Change<U> {
    fn from(patch: Patch<T>) -> Self {
        match patch {
            Patch::Absent => Change::Keep,
            Patch::Null => Change::Clear,
            Patch::Value(value) => Change::Set(value.into()),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamReconfigurationJson {
    storage_class: Patch<String>,
    retention_policy: Patch<Object<RetentionPolicyJson>>,
    timestamping: Patch<Object<TimestampingPatchJson>>,
    delete_on_empty: Patch<Object<DeleteOnEmptyPatchJson>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TimestampingPatchJson {
    mode: Patch<TimestampingModeJson>,
    uncapped: Patch<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeleteOnEmptyPatchJson {
    min_age_secs: Patch<u64>,
}

/// `null` changes nothing in the two booleans: they have nothing to fall back on.
#[derive(Default, Deserialize)]
#[serde(default)]
struct BasinReconfigurationJson {
    default_stream_config: Patch<Object<StreamReconfigurationJson>>,
    stream_cipher: Patch<CipherJson>,
    create_stream_on_append: Option<bool>,
    create_stream_on_read: Option<bool>,
}

impl TryFrom<StreamReconfigurationJson> for StreamReconfiguration {
    type Error = JsonError;

    fn try_from(json: StreamReconfigurationJson) -> Result<Self, JsonError> {
        let timestamping = match json.timestamping {
            Patch::Absent => TimestampingPatchJson::default(),
            Patch::Null => TimestampingPatchJson { mode: Patch::Null, uncapped: Patch::Null },
            Patch::Value(Object(changes)) => changes,
        };
        Ok(Self {
            storage_class: json.storage_class.map(|class| StorageClass::new(&class)).into(),
            retention_policy: match json.retention_policy {
                Patch::Value(Object(policy)) => Change::Set(policy.try_into()?),
                Patch::Absent => Change::Keep,
                Patch::Null => Change::Clear,
            },
            timestamping_mode: timestamping.mode.into(),
            timestamping_uncapped: timestamping.uncapped.into(),
            delete_on_empty_min_age_secs: json.delete_on_empty.and_then(|Object(it)| it.min_age_secs).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::types::{Cipher, RetentionPolicy, TimestampingMode};

    #[test]
    fn changes_to_a_stream() {
        // control-plane.md §5.4
        let keep = StreamReconfiguration::default();
        let cases = [
            ("{}", keep.clone()),
            (r#"{"timestamping":{},"delete_on_empty":{},"unknown":null}"#, keep.clone()),
            (
                r#"{"storage_class":"standard","retention_policy":{"age":9},"timestamping":{"mode":"arrival","uncapped":true},"delete_on_empty":{"min_age_secs":0}}"#,
                StreamReconfiguration {
                    storage_class: Change::Set(StorageClass::new("standard")),
                    retention_policy: Change::Set(RetentionPolicy::Age(NonZeroU64::new(9).unwrap())),
                    timestamping_mode: Change::Set(TimestampingMode::Arrival),
                    timestamping_uncapped: Change::Set(true),
                    delete_on_empty_min_age_secs: Change::Set(0),
                },
            ),
            (
                r#"{"storage_class":null,"retention_policy":null,"timestamping":null,"delete_on_empty":null}"#,
                StreamReconfiguration::CLEAR_ALL,
            ),
            (
                r#"{"timestamping":{"mode":null,"uncapped":null},"delete_on_empty":{"min_age_secs":null}}"#,
                StreamReconfiguration {
                    storage_class: Change::Keep,
                    retention_policy: Change::Keep,
                    ..StreamReconfiguration::CLEAR_ALL
                },
            ),
            (
                r#"{"timestamping":{"mode":null}}"#,
                StreamReconfiguration { timestamping_mode: Change::Clear, ..keep.clone() },
            ),
            (
                r#"{"retention_policy":{"infinite":{}}}"#,
                StreamReconfiguration { retention_policy: Change::Set(RetentionPolicy::Infinite), ..keep },
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(decode_stream_reconfiguration(json.as_bytes()), Ok(expected), "{json}");
        }
    }

    #[test]
    fn changes_to_a_basin() {
        // control-plane.md §4.4
        let keep = BasinReconfiguration::default();
        let defaults = |default_stream_config| BasinReconfiguration { default_stream_config, ..keep.clone() };
        let cases = [
            ("{}", keep.clone()),
            (r#"{"default_stream_config":{}}"#, keep.clone()),
            (r#"{"default_stream_config":null}"#, defaults(StreamReconfiguration::CLEAR_ALL)),
            (
                r#"{"default_stream_config":{"retention_policy":null,"timestamping":{"uncapped":false}}}"#,
                defaults(StreamReconfiguration {
                    retention_policy: Change::Clear,
                    timestamping_uncapped: Change::Set(false),
                    ..Default::default()
                }),
            ),
            (r#"{"stream_cipher":null}"#, BasinReconfiguration { stream_cipher: Change::Clear, ..keep.clone() }),
            (
                r#"{"stream_cipher":"aegis-256"}"#,
                BasinReconfiguration { stream_cipher: Change::Set(Cipher::Aegis256), ..keep.clone() },
            ),
            (r#"{"create_stream_on_append":null,"create_stream_on_read":null}"#, keep.clone()),
            (
                r#"{"create_stream_on_append":true,"create_stream_on_read":false}"#,
                BasinReconfiguration {
                    create_stream_on_append: Some(true),
                    create_stream_on_read: Some(false),
                    ..keep.clone()
                },
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(decode_basin_reconfiguration(json.as_bytes()), Ok(expected), "{json}");
        }
    }

    #[test]
    fn refused_changes() {
        for json in [
            "",
            "null",
            "[]",
            r#"{"storage_class":1}"#,
            r#"{"retention_policy":{}}"#,
            r#"{"retention_policy":{"age":-1}}"#,
            r#"{"timestamping":{"mode":"never"}}"#,
            r#"{"timestamping":[]}"#,
            r#"{"delete_on_empty":{"min_age_secs":true}}"#,
        ] {
            let stream = decode_stream_reconfiguration(json.as_bytes());
            assert!(matches!(stream, Err(JsonError::Malformed(_))), "{json}: {stream:?}");
            let nested = format!(r#"{{"default_stream_config":{}}}"#, if json == "null" { "1" } else { json });
            let basin = decode_basin_reconfiguration(nested.as_bytes());
            assert!(matches!(basin, Err(JsonError::Malformed(_))), "{nested}: {basin:?}");
        }
        let no_age = r#"{"retention_policy":{"age":0}}"#;
        assert_eq!(decode_stream_reconfiguration(no_age.as_bytes()), Err(JsonError::RetentionAgeZero));
        let nested = format!(r#"{{"default_stream_config":{no_age}}}"#);
        assert_eq!(decode_basin_reconfiguration(nested.as_bytes()), Err(JsonError::RetentionAgeZero));
    }
}
