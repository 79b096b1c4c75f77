//! Locations in JSON (`control-plane.md` §6).

use serde::Serialize;

use super::{JsonError, encode};
use crate::types::{LocationInfo, LocationName};

/// Writes a location.
pub fn encode_location(info: &LocationInfo) -> Vec<u8> {
    encode(&LocationInfoJson::from(info))
}

/// Writes all locations: a bare array.
pub fn encode_locations(infos: &[LocationInfo]) -> Vec<u8> {
    encode(&infos.iter().map(LocationInfoJson::from).collect::<Vec<_>>())
}

/// Reads the body of `PUT /v1/locations/default`: a bare string.
pub fn decode_location_name(body: &[u8]) -> Result<LocationName, JsonError> {
    let name: String = serde_json::from_slice(body)?;
    LocationName::new(&name).map_err(|error| JsonError::name("location", &error))
}

#[derive(Serialize)]
struct LocationInfoJson<'a> {
    name: &'a str,
    is_private: bool,
    storage_classes: &'static [&'static str],
    default_storage_class: &'static str,
}

impl<'a> From<&'a LocationInfo> for LocationInfoJson<'a> {
    fn from(info: &'a LocationInfo) -> Self {
        Self {
            name: info.name.as_str(),
            is_private: info.is_private,
            storage_classes: info.storage_classes,
            default_storage_class: info.default_storage_class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        // control-plane.md §6
        let info = LocationInfo {
            name: LocationName::new("aws:us-west-2").unwrap(),
            is_private: false,
            storage_classes: &["standard", "express"],
            default_storage_class: "express",
        };
        let one = r#"{"name":"aws:us-west-2","is_private":false,"storage_classes":["standard","express"],"default_storage_class":"express"}"#;
        assert_eq!(String::from_utf8(encode_location(&info)).unwrap(), one);
        assert_eq!(String::from_utf8(encode_locations(&[info])).unwrap(), format!("[{one}]"));
    }

    #[test]
    fn a_location_is_named_by_a_bare_string() {
        // control-plane.md §6
        assert_eq!(decode_location_name(br#""aws:us-west-2""#).unwrap().as_str(), "aws:us-west-2");
        for bad in ["", "null", "aws", r#"{"name":"aws"}"#, r#""""#, r#""a b""#, r#""a_b""#, "1"] {
            assert!(matches!(decode_location_name(bad.as_bytes()), Err(JsonError::Malformed(_))), "{bad}");
        }
    }
}
