//! The operations about locations (`control-plane.md` §6). There is one location, which is the default.

use http::{Response, StatusCode, request::Parts};

use super::{
    Gateway,
    body::Body,
    operations::{Answer, json_body},
    request_body::RequestBody,
    respond,
};
use crate::{
    types::{ApiError, BasinInfo, ErrorCode, LocationInfo},
    wire::json,
};

/// The storage classes that streams can have; they behave alike here.
const STORAGE_CLASSES: &[&str] = &["standard", "express"];

const DEFAULT_STORAGE_CLASS: &str = "express";

impl Gateway {
    pub(super) fn list_locations(&self) -> Response<Body> {
        respond::json(StatusCode::OK, json::encode_locations(&[self.location_info()]))
    }

    pub(super) fn get_default_location(&self) -> Response<Body> {
        respond::json(StatusCode::OK, json::encode_location(&self.location_info()))
    }

    /// Takes the one location there is, and changes nothing.
    pub(super) async fn set_default_location(&self, parts: &Parts, body: &mut RequestBody) -> Answer {
        let name = json::decode_location_name(&json_body(parts, body).await?)?;
        self.known_location(Some(name.as_str().to_owned()))?;
        Ok(self.get_default_location())
    }

    /// The location that a request names, if it names one and there is such a place.
    pub(super) fn known_location(&self, asked: Option<String>) -> Result<Option<String>, ApiError> {
        match asked {
            Some(name) if name != self.location.as_str() => {
                Err(ApiError::new(ErrorCode::Invalid, format!("there is no location {name:?}")))
            }
            asked => Ok(asked),
        }
    }

    /// A basin that was made without a location is in the default one.
    pub(super) fn with_location(&self, mut info: BasinInfo) -> BasinInfo {
        info.location.get_or_insert_with(|| self.location.as_str().to_owned());
        info
    }

    fn location_info(&self) -> LocationInfo {
        LocationInfo {
            name: self.location.clone(),
            is_private: false,
            storage_classes: STORAGE_CLASSES,
            default_storage_class: DEFAULT_STORAGE_CLASS,
        }
    }
}
