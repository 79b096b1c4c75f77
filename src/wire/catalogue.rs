//! Entries of the catalogue ↔ the bytes under which the meta table keeps them.
//!
//! JSON with the version of its form in front, so that a gateway recognises what a newer one has written and leaves it
//! alone. What is written here stays readable for ever: the tests hold it down byte for byte.
//!
//! ```text
//! basin   {"v":1,"config":{…},"location":null,"created_at":ms,"deleted_at":null,"creation":{"token":"…","config":{…}}}
//! stream  {"v":1,"id":"<32 hex>","config":{…},"cipher":null,"created_at":ms,"deleted_at":null,"creation":null}
//!         and "empty_at":seq behind "deleted_at" while a stream goes because several gateways have it empty
//!
//! arrivals of a stream   {"v":1,"removed_to":seq,"changed_at":ms,"marks":[[ms,seq],…]}
//! ```

use serde::{Deserialize, Serialize};

use super::json::{BasinConfigJson, CipherJson, JsonError, StreamConfigJson};
use crate::types::{
    ArrivalMark, Arrivals, BasinConfig, BasinEntry, Creation, NameError, RequestToken, SeqNum, StreamConfigLayer,
    StreamEntry, StreamId, Timestamp,
};

/// The form that is written.
pub(super) const VERSION: u64 = 1;

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
        empty_at: entry.empty_at.map(SeqNum::get),
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
        empty_at: json.empty_at.map(SeqNum::new),
        creation: json.creation.map(Creation::<StreamConfigLayer>::try_from).transpose()?,
    })
}

/// Writes what is known of the arrival of a stream's records.
pub fn encode_arrivals(arrivals: &Arrivals) -> Vec<u8> {
    encode(&ArrivalsJson {
        v: VERSION,
        removed_to: arrivals.removed_to().get(),
        changed_at: arrivals.changed_at().get(),
        marks: arrivals.marks().map(|mark| (mark.at.get(), mark.end.get())).collect(),
    })
}

/// Reads what is known of the arrival of a stream's records.
pub fn decode_arrivals(bytes: &[u8]) -> Result<Arrivals, EntryError> {
    let json: ArrivalsJson = decode(bytes)?;
    let mark = |(at, end)| ArrivalMark { at: Timestamp::new(at), end: SeqNum::new(end) };
    let (removed_to, changed_at) = (SeqNum::new(json.removed_to), Timestamp::new(json.changed_at));
    Arrivals::of_marks(json.marks.into_iter().map(mark), removed_to, changed_at)
        .ok_or_else(|| EntryError::Damaged("marks of arrival that are not in order".into()))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArrivalsJson {
    v: u64,
    removed_to: u64,
    changed_at: u64,
    marks: Vec<(u64, u64)>,
}

#[derive(Deserialize)]
struct VersionJson {
    v: u64,
}

// No field is passed over: what adds one makes a new version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BasinEntryJson {
    v: u64,
    config: BasinConfigJson,
    location: Option<String>,
    created_at: u64,
    deleted_at: Option<u64>,
    creation: Option<CreationJson<BasinConfigJson>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamEntryJson {
    v: u64,
    id: String,
    config: StreamConfigJson,
    cipher: Option<CipherJson>,
    created_at: u64,
    deleted_at: Option<u64>,
    /// Only where several gateways share a store, and while a stream goes; no older gateway reads such a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    empty_at: Option<u64>,
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

pub(super) fn encode(entry: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(entry).expect("structs go into memory")
}

pub(super) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, EntryError> {
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::{option, prelude::*};

    use super::*;
    use crate::types::{Cipher, RetentionPolicy, StorageClass, TimestampingMode};

    fn layers() -> impl Strategy<Value = StreamConfigLayer> {
        let age = any::<NonZeroU64>().prop_map(RetentionPolicy::Age);
        let retention = prop_oneof![age, Just(RetentionPolicy::Infinite)];
        let modes = [TimestampingMode::ClientPrefer, TimestampingMode::ClientRequire, TimestampingMode::Arrival];
        (
            option::of(any::<String>().prop_map(|class| StorageClass::new(&class))),
            option::of(retention),
            option::of(prop::sample::select(modes.to_vec())),
            option::of(any::<bool>()),
            option::of(any::<u64>()),
        )
            .prop_map(|(class, retention, mode, uncapped, min_age)| StreamConfigLayer {
                storage_class: class,
                retention_policy: retention,
                timestamping_mode: mode,
                timestamping_uncapped: uncapped,
                delete_on_empty_min_age_secs: min_age,
            })
    }

    fn ciphers() -> impl Strategy<Value = Option<Cipher>> {
        option::of(prop_oneof![Just(Cipher::Aegis256), Just(Cipher::Aes256Gcm)])
    }

    fn basin_configs() -> impl Strategy<Value = BasinConfig> {
        (layers(), ciphers(), any::<bool>(), any::<bool>()).prop_map(|(layer, cipher, on_append, on_read)| {
            BasinConfig {
                default_stream_config: layer,
                stream_cipher: cipher,
                create_stream_on_append: on_append,
                create_stream_on_read: on_read,
            }
        })
    }

    fn creations<C: std::fmt::Debug>(configs: impl Strategy<Value = C>) -> impl Strategy<Value = Option<Creation<C>>> {
        let creation = (".{0,9}", configs);
        option::of(creation.prop_map(|(token, config)| Creation { token: RequestToken::new(&token).unwrap(), config }))
    }

    fn times() -> impl Strategy<Value = (Timestamp, Option<Timestamp>)> {
        let time = any::<u64>().prop_map(Timestamp::new);
        (time.clone(), option::of(time))
    }

    proptest! {
        #[test]
        fn basins_come_back(
            config in basin_configs(),
            location in option::of(any::<String>()),
            (created_at, deleted_at) in times(),
            creation in creations(basin_configs()),
        ) {
            let entry = BasinEntry { config, location, created_at, deleted_at, creation };
            prop_assert_eq!(decode_basin_entry(&encode_basin_entry(&entry)), Ok(entry));
        }

        #[test]
        fn streams_come_back(
            id in any::<u128>(),
            config in layers(),
            cipher in ciphers(),
            (created_at, deleted_at) in times(),
            empty_at in option::of(any::<u64>().prop_map(SeqNum::new)),
            creation in creations(layers()),
        ) {
            let config = config.over(&StreamConfigLayer::default());
            let entry =
                StreamEntry { id: StreamId::new(id), config, cipher, created_at, deleted_at, empty_at, creation };
            prop_assert_eq!(decode_stream_entry(&encode_stream_entry(&entry)), Ok(entry));
        }
    }

    const STREAM: &str = r#"{"v":1,"id":"000000000000000000000000000000ff","config":{"storage_class":"express","retention_policy":{"age":604800},"timestamping":{"mode":"client-prefer","uncapped":false},"delete_on_empty":{"min_age_secs":0}},"cipher":"aegis-256","created_at":5,"deleted_at":6,"creation":{"token":"t","config":{"storage_class":null,"retention_policy":{"infinite":{}},"timestamping":{"mode":"arrival","uncapped":null},"delete_on_empty":null}}}"#;
    const BASIN: &str = r#"{"v":1,"config":{"default_stream_config":null,"stream_cipher":"aes-256-gcm","create_stream_on_append":true,"create_stream_on_read":false},"location":"here","created_at":5,"deleted_at":null,"creation":null}"#;

    #[test]
    fn the_stored_form_stays_as_it_is() {
        let stream = decode_stream_entry(STREAM.as_bytes()).unwrap();
        assert_eq!(stream.id, StreamId::new(0xff));
        assert_eq!(stream.creation.as_ref().unwrap().config.timestamping_mode, Some(TimestampingMode::Arrival));
        assert_eq!(String::from_utf8_lossy(&encode_stream_entry(&stream)), STREAM);
        let basin = decode_basin_entry(BASIN.as_bytes()).unwrap();
        assert_eq!(basin.location.as_deref(), Some("here"));
        assert_eq!(String::from_utf8_lossy(&encode_basin_entry(&basin)), BASIN);
    }

    const ARRIVALS: &str = r#"{"v":1,"removed_to":3,"changed_at":99,"marks":[[50,4],[60,9]]}"#;

    #[test]
    fn arrivals_stay_as_they_are() {
        let arrivals = decode_arrivals(ARRIVALS.as_bytes()).unwrap();
        assert_eq!((arrivals.removed_to(), arrivals.changed_at()), (SeqNum::new(3), Timestamp::new(99)));
        let latest = ArrivalMark { at: Timestamp::new(60), end: SeqNum::new(9) };
        assert_eq!((arrivals.marks().len(), arrivals.latest()), (2, Some(latest)));
        assert_eq!(String::from_utf8_lossy(&encode_arrivals(&arrivals)), ARRIVALS);
        for damaged in ["", "{}", &ARRIVALS.replace("60,9", "60,4"), &ARRIVALS.replace("60,9", "49,9")] {
            assert!(matches!(decode_arrivals(damaged.as_bytes()), Err(EntryError::Damaged(_))), "{damaged}");
        }
        let newer = ARRIVALS.replace("\"v\":1", "\"v\":2");
        assert_eq!(decode_arrivals(newer.as_bytes()), Err(EntryError::NewerVersion { found: 2 }));
    }

    #[test]
    fn a_newer_version_is_recognised_whatever_else_it_says() {
        let newer = Err(EntryError::NewerVersion { found: 2 });
        assert_eq!(decode_stream_entry(br#"{"v":2,"id":7,"rest":"else"}"#).map(drop), newer);
        assert_eq!(decode_basin_entry(&BASIN.replace("\"v\":1", "\"v\":2").into_bytes()).map(drop), newer);
    }

    #[test]
    fn damage_is_told() {
        let damaged_streams = [
            String::new(),
            "{}".into(),
            "[]".into(),
            STREAM[..STREAM.len() - 1].into(),
            STREAM.replace("\"v\":1", "\"v\":0"),
            STREAM.replace("00ff", "00FF"),
            STREAM.replace("00ff", "0ff"),
            STREAM.replace("604800", "0"),
            STREAM.replace("\"t\"", "\"ttttttttttttttttttttttttttttttttttttt\""),
        ];
        for bytes in damaged_streams {
            let decoded = decode_stream_entry(bytes.as_bytes());
            assert!(matches!(decoded, Err(EntryError::Damaged(_))), "{bytes}: {decoded:?}");
        }
        assert!(matches!(decode_basin_entry(STREAM.as_bytes()), Err(EntryError::Damaged(_))), "another kind of entry");
    }
}
