//! The file of basins and streams that are to be there at the start: `--init-file`.
//!
//! ```json
//! {
//!   "basins": [
//!     {
//!       "name": "my-basin-01",
//!       "config": {
//!         "create_stream_on_append": true,
//!         "default_stream_config": { "retention_policy": { "age": 86400 } }
//!       },
//!       "streams": [
//!         { "name": "orders/eu" },
//!         { "name": "audit", "config": { "retention_policy": { "infinite": {} } } }
//!       ]
//!     }
//!   ]
//! }
//! ```
//!
//! * `config` of a basin and of a stream are those of the API (`control-plane.md` §3), and may be left out; a basin may
//!   have a `location`.
//! * What is missing is made. What is there gets the configuration of the file, as with `PUT`: what the file leaves out
//!   returns to its default. Nothing is deleted: basins and streams that the file does not name stay as they are.
//! * A field that is not known is an error, and so is a name that stands there twice: a typo in a file must not pass.
//!   Nothing is changed then.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    JsonError,
    basin::check_location,
    config::{BasinConfigJson, StreamConfigJson},
    object::Object,
};
use crate::types::{BasinName, InitBasin, InitStream, StreamName};

/// Reads an init file.
pub fn decode_init_file(text: &[u8]) -> Result<Vec<InitBasin>, JsonError> {
    let file: Object<InitFileJson> = serde_json::from_slice(text)?;
    let (given, understood) = (serde_json::from_slice(text)?, serde_json::to_value(&file)?);
    if let Some(path) = not_understood(&given, &understood) {
        return Err(JsonError::Malformed(format!("unknown field {}", path.trim_start_matches('.'))));
    }
    let basins: Vec<InitBasin> =
        file.into_inner().basins.into_iter().map(|Object(basin)| basin.decode()).collect::<Result<_, _>>()?;
    once_each("basin", basins.iter().map(|basin| basin.name.as_str()))?;
    Ok(basins)
}

#[derive(Serialize, Deserialize)]
struct InitFileJson {
    basins: Vec<Object<InitBasinJson>>,
}

#[derive(Serialize, Deserialize)]
struct InitBasinJson {
    name: String,
    config: Option<Object<BasinConfigJson>>,
    location: Option<String>,
    #[serde(default)]
    streams: Vec<Object<InitStreamJson>>,
}

#[derive(Serialize, Deserialize)]
struct InitStreamJson {
    name: String,
    config: Option<Object<StreamConfigJson>>,
}

impl InitBasinJson {
    fn decode(self) -> Result<InitBasin, JsonError> {
        let name = BasinName::new(&self.name).map_err(|error| named(&self.name, error))?;
        let config = self.config.map(Object::into_inner).unwrap_or_default().try_into();
        let streams: Vec<_> =
            self.streams.into_iter().map(|Object(stream)| stream.decode(&name)).collect::<Result<_, _>>()?;
        once_each("stream", streams.iter().map(|stream| stream.name.as_str())).map_err(|error| named(&name, error))?;
        Ok(InitBasin {
            config: config.map_err(|error: JsonError| named(&name, error))?,
            location: self.location.map(check_location).transpose().map_err(|error| named(&name, error))?,
            name,
            streams,
        })
    }
}

impl InitStreamJson {
    fn decode(self, basin: &BasinName) -> Result<InitStream, JsonError> {
        let place = format!("{basin}, {:?}", self.name);
        let name = StreamName::new(&self.name).map_err(|error| named(&place, error))?;
        let config = self.config.map(Object::into_inner).unwrap_or_default().try_into();
        Ok(InitStream { name, config: config.map_err(|error: JsonError| named(&place, error))? })
    }
}

/// What is wrong, and with which basin or stream of the file.
fn named(name: impl std::fmt::Display, error: impl std::fmt::Display) -> JsonError {
    JsonError::Malformed(format!("{name}: {error}"))
}

fn once_each<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), JsonError> {
    let mut seen = HashSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(twice) => Err(JsonError::Malformed(format!("{what} {twice:?} stands there twice"))),
        None => Ok(()),
    }
}

/// The path of the first field that was given and is not among those that were read.
///
/// The API passes unknown fields over, so the types do. Written out again they show every field that they know, though,
/// and with that no second list of them is needed here.
fn not_understood(given: &Value, understood: &Value) -> Option<String> {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => given.iter().find_map(|(name, value)| {
            let inside = understood.get(name).map_or(Some(String::new()), |known| not_understood(value, known));
            inside.map(|inside| format!(".{name}{inside}"))
        }),
        (Value::Array(given), Value::Array(understood)) => {
            given.iter().zip(understood).enumerate().find_map(|(i, (given, understood))| {
                not_understood(given, understood).map(|inside| format!("[{i}]{inside}"))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BasinConfig, RetentionPolicy, StreamConfigLayer};

    fn decode(text: &str) -> Result<Vec<InitBasin>, JsonError> {
        decode_init_file(text.as_bytes())
    }

    /// The file that the head of this module shows.
    fn documented() -> String {
        let lines = include_str!("init_file.rs").lines();
        let example = lines.skip_while(|line| !line.ends_with("```json")).skip(1);
        example.take_while(|line| !line.ends_with("```")).map(|line| line.trim_start_matches("//!")).collect()
    }

    #[test]
    fn the_documented_example() {
        let basins = decode(&documented()).unwrap();
        let [basin] = &basins[..] else { panic!("{basins:?}") };
        assert_eq!(basin.name.as_str(), "my-basin-01");
        assert!(basin.config.create_stream_on_append);
        assert!(matches!(basin.config.default_stream_config.retention_policy, Some(RetentionPolicy::Age(_))));
        let streams: Vec<_> =
            basin.streams.iter().map(|stream| (stream.name.as_str(), stream.config.retention_policy)).collect();
        assert_eq!(streams, [("orders/eu", None), ("audit", Some(RetentionPolicy::Infinite))]);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(decode(r#"{"basins":[]}"#), Ok(vec![]));
        for bare in [
            r#"{"basins":[{"name":"my-basin-01"}]}"#,
            r#"{"basins":[{"name":"my-basin-01","config":null,"location":null,"streams":[]}]}"#,
            r#"{"basins":[{"name":"my-basin-01","config":{"default_stream_config":null,"stream_cipher":null}}]}"#,
        ] {
            let basins = decode(bare).unwrap();
            assert_eq!((&basins[0].config, basins[0].streams.len()), (&BasinConfig::default(), 0), "{bare}");
        }
        let located = r#"{"basins":[{"name":"my-basin-01","location":"here","streams":[{"name":"a","config":{}}]}]}"#;
        let basins = decode(located).unwrap();
        assert_eq!(basins[0].location.as_deref(), Some("here"));
        assert_eq!(basins[0].streams[0].config, StreamConfigLayer::default());
    }

    #[test]
    fn typos_do_not_pass() {
        let basin = |fields: &str| format!(r#"{{"basins":[{{"name":"my-basin-01"{fields}}}]}}"#);
        let stream = |fields: &str| basin(&format!(r#","streams":[{{"name":"a"}},{{"name":"b"{fields}}}]"#));
        for (text, mentions) in [
            (r#"{"basins":[],"streams":[]}"#.to_owned(), "unknown field streams"),
            (basin(r#","configuration":{}"#), "unknown field basins[0].configuration"),
            (
                basin(r#","config":{"create_streams_on_append":true}"#),
                "unknown field basins[0].config.create_streams_on_append",
            ),
            (
                basin(r#","config":{"default_stream_config":{"retention":{"age":1}}}"#),
                "unknown field basins[0].config.default_stream_config.retention",
            ),
            (stream(r#","age":1"#), "unknown field basins[0].streams[1].age"),
            (
                stream(r#","config":{"timestamping":{"modus":"arrival"}}"#),
                "unknown field basins[0].streams[1].config.timestamping.modus",
            ),
            (
                stream(r#","config":{"delete_on_empty":{"min_age":1}}"#),
                "unknown field basins[0].streams[1].config.delete_on_empty.min_age",
            ),
            (
                stream(r#","config":{"retention_policy":{"infinite":{"age":1}}}"#),
                "unknown field basins[0].streams[1].config.retention_policy.infinite.age",
            ),
        ] {
            let Err(JsonError::Malformed(message)) = decode(&text) else { panic!("{text}") };
            assert_eq!(message, mentions, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, mentions) in [
            ("", "EOF"),
            ("[]", "object"),
            ("{}", "basins"),
            (r#"{"basins":[{}]}"#, "name"),
            (r#"{"basins":[{"name":"no"}]}"#, "no: a basin name must be at least 8"),
            (r#"{"basins":[{"name":"my-basin-01"},{"name":"my-basin-01"}]}"#, "\"my-basin-01\" stands there twice"),
            (
                r#"{"basins":[{"name":"my-basin-01","streams":[{"name":"a"},{"name":"a"}]}]}"#,
                "my-basin-01: stream \"a\" stands there twice",
            ),
            (r#"{"basins":[{"name":"my-basin-01","streams":[{"name":""}]}]}"#, "my-basin-01, \"\": a stream name"),
            (
                r#"{"basins":[{"name":"my-basin-01","streams":[{"name":"a","config":{"retention_policy":{"age":0}}}]}]}"#,
                "my-basin-01, \"a\": retention_policy",
            ),
            (r#"{"basins":[{"name":"my-basin-01","location":"a b"}]}"#, "my-basin-01: location"),
            (r#"{"basins":[{"name":"my-basin-01","config":{"stream_cipher":"rot13"}}]}"#, "rot13"),
        ] {
            let Err(JsonError::Malformed(message)) = decode(text) else { panic!("{text}") };
            assert!(message.contains(mentions), "{text}: {message}");
        }
    }
}
