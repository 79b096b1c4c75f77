//! Basins in JSON: what is asked for, and what a listing shows (`control-plane.md` §4).

use serde::{Deserialize, Serialize};

use super::{
    JsonError, config::BasinConfigJson, decode_object, decode_optional_object, encode, encode_with_capacity,
    object::Object, rfc3339::Rfc3339,
};
use crate::types::{BasinConfig, BasinInfo, BasinName, Page};

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

/// `control-plane.md` §2.
fn check_location(name: String) -> Result<String, JsonError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '.');
    match (1..=64).contains(&name.len()) && name.chars().all(legal) {
        true => Ok(name),
        false => Err(JsonError::Malformed(format!(
            "location: must be 1 to 64 letters, digits, colons, hyphens and dots, not {name:?}"
        ))),
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
