//! Basins in JSON: what is asked for, and what a listing shows (`control-plane.md` §4).

use serde::{Deserialize, Serialize};

use super::{
    JsonError, config::BasinConfigJson, decode_object, decode_optional_object, encode, encode_with_capacity,
    object::Object, rfc3339::Rfc3339,
};
use crate::types::{BasinConfig, BasinInfo, BasinName, LocationName, Page};

/// What `POST /v1/basins` asks for (`control-plane.md` §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateBasin {
    /// Its name.
    pub name: BasinName,
    /// Its configuration, all defaults if none was given.
    pub config: BasinConfig,
    /// Where it shall live, if that was said: 1 to 64 characters. Whether there is such a place is not checked here.
    pub location: Option<String>,
}

/// What `PUT /v1/basins/{basin}` asks for (`control-plane.md` §4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnsureBasin {
    /// The configuration it shall have, all defaults if none was given.
    pub config: BasinConfig,
    /// Where it shall live, if that was said: 1 to 64 characters.
    pub location: Option<String>,
}

/// Reads the body of `POST /v1/basins`.
pub fn decode_create_basin(body: &[u8]) -> Result<CreateBasin, JsonError> {
    let json: CreateBasinJson = decode_object(body)?;
    let name = BasinName::new(&json.basin).map_err(|error| JsonError::name("basin", &error))?;
    let EnsureBasin { config, location } =
        EnsureBasinJson { config: json.config, location: json.location }.try_into()?;
    Ok(CreateBasin { name, config, location })
}

/// Reads the body of `PUT /v1/basins/{basin}`; nothing and `null` ask for the defaults.
pub fn decode_ensure_basin(body: &[u8]) -> Result<EnsureBasin, JsonError> {
    decode_optional_object::<EnsureBasinJson>(body)?.try_into()
}

/// Writes a basin as a listing shows it.
pub fn encode_basin_info(info: &BasinInfo) -> Vec<u8> {
    encode(&BasinInfoJson::from(info))
}

/// Writes a page of a listing of basins.
pub fn encode_basins(page: &Page<BasinInfo>) -> Vec<u8> {
    let basins = page.entries.iter().map(BasinInfoJson::from).collect();
    encode_with_capacity(64 + page.entries.len() * 192, &BasinsJson { basins, has_more: page.has_more })
}

#[derive(Deserialize)]
struct CreateBasinJson {
    basin: String,
    config: Option<Object<BasinConfigJson>>,
    location: Option<String>,
}

#[derive(Default, Deserialize)]
struct EnsureBasinJson {
    config: Option<Object<BasinConfigJson>>,
    location: Option<String>,
}

impl TryFrom<EnsureBasinJson> for EnsureBasin {
    type Error = JsonError;

    fn try_from(json: EnsureBasinJson) -> Result<Self, JsonError> {
        let location = json.location.map(check_location).transpose()?;
        Ok(Self { config: json.config.map(Object::into_inner).unwrap_or_default().try_into()?, location })
    }
}

pub(super) fn check_location(name: String) -> Result<String, JsonError> {
    match LocationName::new(&name) {
        Ok(_) => Ok(name),
        Err(error) => Err(JsonError::name("location", &error)),
    }
}

#[derive(Serialize)]
struct BasinsJson<'a> {
    basins: Vec<BasinInfoJson<'a>>,
    has_more: bool,
}

#[derive(Serialize)]
struct BasinInfoJson<'a> {
    name: &'a str,
    location: Option<&'a str>,
    created_at: Rfc3339,
    deleted_at: Option<Rfc3339>,
    /// Says what `deleted_at` says; older clients require it.
    state: &'static str,
}

impl<'a> From<&'a BasinInfo> for BasinInfoJson<'a> {
    fn from(info: &'a BasinInfo) -> Self {
        Self {
            name: info.name.as_str(),
            location: info.location.as_deref(),
            created_at: Rfc3339(info.created_at),
            deleted_at: info.deleted_at.map(Rfc3339),
            state: if info.deleted_at.is_some() { "deleting" } else { "active" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Timestamp;

    fn create(json: &str) -> Result<CreateBasin, JsonError> {
        decode_create_basin(json.as_bytes())
    }

    fn ensure(json: &str) -> Result<EnsureBasin, JsonError> {
        decode_ensure_basin(json.as_bytes())
    }

    #[test]
    fn creations() {
        // control-plane.md §4.2
        let name = BasinName::new("my-basin-01").unwrap();
        let bare = CreateBasin { name, config: BasinConfig::default(), location: None };
        let config = BasinConfig { create_stream_on_append: true, ..Default::default() };
        let cases = [
            (r#"{"basin":"my-basin-01"}"#, bare.clone()),
            (r#"{"basin":"my-basin-01","config":null,"location":null,"scope":"aws:us-east-1"}"#, bare.clone()),
            (
                r#"{"basin":"my-basin-01","config":{"create_stream_on_append":true},"location":"aws:us-east-1"}"#,
                CreateBasin { config, location: Some("aws:us-east-1".into()), ..bare },
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(create(json), Ok(expected), "{json}");
        }
    }

    #[test]
    fn refused_creations() {
        // control-plane.md §2; errors.md §4.1
        let long_location = format!(r#"{{"basin":"my-basin-01","location":"{}"}}"#, "a".repeat(65));
        for json in [
            "",
            "null",
            "{}",
            r#"["my-basin-01",null,null]"#,
            r#"{"basin":null}"#,
            r#"{"basin":1}"#,
            r#"{"basin":"short"}"#,
            r#"{"basin":"My-Basin-01"}"#,
            r#"{"basin":"my-basin-01\u0000"}"#,
            r#"{"basin":"my-basin-01","config":[]}"#,
            r#"{"basin":"my-basin-01","location":""}"#,
            r#"{"basin":"my-basin-01","location":"a b"}"#,
            r#"{"basin":"my-basin-01","location":1}"#,
            &long_location,
        ] {
            assert!(matches!(create(json), Err(JsonError::Malformed(_))), "{json}: {:?}", create(json));
        }
        let no_age = r#"{"basin":"my-basin-01","config":{"default_stream_config":{"retention_policy":{"age":0}}}}"#;
        assert_eq!(create(no_age), Err(JsonError::RetentionAgeZero));
    }

    #[test]
    fn ensured_basins() {
        // control-plane.md §4.3
        for nothing in ["", " \n", "null", "{}", r#"{"config":null,"location":null}"#, r#"{"config":{}}"#] {
            assert_eq!(ensure(nothing), Ok(EnsureBasin::default()), "{nothing:?}");
        }
        let config = BasinConfig { create_stream_on_read: true, ..Default::default() };
        let asked = ensure(r#"{"config":{"create_stream_on_read":true},"location":"eu.1"}"#);
        assert_eq!(asked, Ok(EnsureBasin { config, location: Some("eu.1".into()) }));
        for bad in ["[]", "1", "{", r#"{"config":1}"#, r#"{"location":""}"#] {
            assert!(matches!(ensure(bad), Err(JsonError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn listings() {
        // control-plane.md §1, §4.1
        let info = |name: &str| BasinInfo {
            name: BasinName::new(name).unwrap(),
            location: None,
            created_at: Timestamp::new(1_713_812_735_012),
            deleted_at: None,
        };
        let active = r#"{"name":"my-basin-01","location":null,"created_at":"2024-04-22T19:05:35.012Z","deleted_at":null,"state":"active"}"#;
        let dying = BasinInfo {
            location: Some("aws:us-east-1".into()),
            deleted_at: Some(Timestamp::new(1_713_812_736_000)),
            ..info("my-basin-02")
        };
        let deleting = r#"{"name":"my-basin-02","location":"aws:us-east-1","created_at":"2024-04-22T19:05:35.012Z","deleted_at":"2024-04-22T19:05:36.000Z","state":"deleting"}"#;
        assert_eq!(String::from_utf8_lossy(&encode_basin_info(&dying)), deleting);
        let page = Page { entries: vec![info("my-basin-01"), dying], has_more: true };
        let expected = format!(r#"{{"basins":[{active},{deleting}],"has_more":true}}"#);
        assert_eq!(String::from_utf8_lossy(&encode_basins(&page)), expected);
        let empty = Page { entries: vec![], has_more: false };
        assert_eq!(encode_basins(&empty), br#"{"basins":[],"has_more":false}"#);
    }
}
