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
