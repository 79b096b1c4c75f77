//! What a request says in its headers and its address, each read once into a value.

use http::{HeaderMap, request::Parts};

use crate::{
    encryption::KeyMaterial,
    types::{
        AccessTokenId, ApiError, BasinName, Compression, ConnectionId, ErrorCode, NameError, RequestToken,
        StreamConfigLayer, StreamName,
    },
    wire::{
        json,
        negotiate::{self, Accept, BodyType, S2Format},
        params::decode_path_segment,
        sse::EventId,
    },
};

/// The suffix of host names that name a basin in their first label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasinHost(String);

impl BasinHost {
    /// Hosts like `{basin}.suffix`; a dot in front of the suffix and its case do not matter.
    pub fn new(suffix: &str) -> Self {
        Self(format!(".{}", suffix.trim_start_matches('.').to_ascii_lowercase()))
    }

    /// The basin that `host` names, in lower case: to hosts it does not matter, and basins have no other.
    fn basin(&self, host: &str) -> Option<String> {
        // The port is not part of the name; an IPv6 address has no basin in front.
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        let (basin, suffix) = name.split_at_checked(name.len().checked_sub(self.0.len())?)?;
        suffix.eq_ignore_ascii_case(&self.0).then(|| basin.to_ascii_lowercase())
    }
}

/// The basin that the request is about, from `s2-basin` or from its host (`http.md` §3).
pub(super) fn basin(parts: &Parts, basin_host: Option<&BasinHost>) -> Result<BasinName, ApiError> {
    let host = parts.uri.host().or_else(|| parts.headers.get("host")?.to_str().ok());
    let of_host = basin_host.zip(host).and_then(|(suffix, host)| suffix.basin(host));
    let of_header = header_text(&parts.headers, "s2-basin")?;
    match (of_header, of_host) {
        (Some(header), Some(host)) if header != host => {
            Err(invalid_header("s2-basin", format_args!("it says {header:?} where the host says {host:?}")))
        }
        (Some(name), _) => BasinName::new(name).map_err(|error| invalid_header("s2-basin", error)),
        (None, Some(name)) => BasinName::new(&name).map_err(|error| invalid_header("host", error)),
        (None, None) => Err(ApiError::new(ErrorCode::BadHeader, "Missing header `s2-basin`")),
    }
}

/// The connection that the request came over.
pub(super) fn connection(parts: &Parts) -> ConnectionId {
    *parts.extensions.get().expect("the listener puts it on every request")
}

/// A basin's name from a path.
pub(super) fn basin_in_path(segment: &str) -> Result<BasinName, ApiError> {
    BasinName::new(&path_segment(segment)?).map_err(bad_path)
}

/// A stream's name from a path.
pub(super) fn stream_in_path(segment: &str) -> Result<StreamName, ApiError> {
    StreamName::new(&path_segment(segment)?).map_err(bad_path)
}

/// An access token's id from a path.
pub(super) fn access_token_in_path(segment: &str) -> Result<AccessTokenId, ApiError> {
    AccessTokenId::new(&path_segment(segment)?).map_err(bad_path)
}

/// The stream's name from `s2-stream`, percent-encoded UTF-8, for clients that cannot put it in a path.
pub(super) fn stream_in_header(headers: &HeaderMap) -> Result<StreamName, ApiError> {
    let Some(text) = header_text(headers, "s2-stream")? else {
        return Err(ApiError::new(ErrorCode::BadHeader, "Missing header `s2-stream`"));
    };
    let name = decode_path_segment(text).map_err(|error| invalid_header("s2-stream", error))?;
    StreamName::new(&name).map_err(|error| invalid_header("s2-stream", error))
}

fn path_segment(segment: &str) -> Result<std::borrow::Cow<'_, str>, ApiError> {
    decode_path_segment(segment).map_err(|error| ApiError::new(ErrorCode::BadPath, error.to_string()))
}

fn bad_path(error: NameError) -> ApiError {
    ApiError::new(ErrorCode::BadPath, error.to_string())
}

/// The token of a create request.
pub(super) fn request_token(headers: &HeaderMap) -> Result<Option<RequestToken>, ApiError> {
    let Some(text) = header_text(headers, "s2-request-token")? else { return Ok(None) };
    RequestToken::new(text).map(Some).map_err(|error| invalid_header("s2-request-token", error))
}

/// The configuration for a stream that the request may make (`data-plane.md` §10).
pub(super) fn stream_config(headers: &HeaderMap) -> Result<Option<StreamConfigLayer>, ApiError> {
    let Some(text) = header_text(headers, "s2-stream-config")? else { return Ok(None) };
    json::decode_stream_config(text.as_bytes()).map(Some).map_err(|error| invalid_header("s2-stream-config", error))
}

/// The key for the records of an encrypted stream. Its length is checked whether the stream is one or not; the rest is
/// for the stream's cipher to say (`data-plane.md` §11).
pub(super) fn encryption_key(headers: &HeaderMap) -> Result<Option<KeyMaterial>, ApiError> {
    let Some(text) = header_text(headers, "s2-encryption-key")? else { return Ok(None) };
    KeyMaterial::new(text).map(Some).map_err(|error| invalid_header("s2-encryption-key", error))
}

/// How records stand in JSON.
pub(super) fn s2_format(headers: &HeaderMap) -> Result<S2Format, ApiError> {
    S2Format::of(first(headers, "s2-format")).map_err(|error| invalid_header("s2-format", error))
}

/// How far a reader of server-sent events had come (`data-plane.md` §8).
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<EventId>, ApiError> {
    let Some(text) = header_text(headers, "last-event-id")? else { return Ok(None) };
    text.parse().map(Some).map_err(|error| invalid_header("last-event-id", error))
}

/// What the body is.
pub(super) fn body_type(headers: &HeaderMap) -> BodyType {
    BodyType::of(first(headers, "content-type"))
}

/// What the response should be.
pub(super) fn accept(headers: &HeaderMap) -> Accept {
    Accept::of(first(headers, "accept"))
}

/// The compression for what is sent back.
pub(super) fn accept_encoding(headers: &HeaderMap) -> Compression {
    negotiate::accept_encoding(headers.get_all("accept-encoding").iter().map(|value| value.as_bytes()))
}

/// How the body is compressed.
pub(super) fn content_encoding(headers: &HeaderMap) -> Result<Compression, ApiError> {
    negotiate::content_encoding(first(headers, "content-encoding"))
        .map_err(|error| ApiError::new(ErrorCode::UnsupportedMediaType, error.to_string()))
}

/// The first value of a header; clients that send two mean the first.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get(name).map(|value| value.as_bytes())
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| invalid_header(name, "not visible ASCII"))
}

fn invalid_header(name: &str, reason: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::BadHeader, format!("Invalid header `{name}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn basin_of(uri: &str, headers: &[(&str, &str)]) -> Result<String, &'static str> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let suffix = BasinHost::new("b.example.org");
        basin(&parts, Some(&suffix)).map(|name| name.to_string()).map_err(|error| error.label())
    }

    #[test]
    fn the_basin_comes_from_header_or_host() {
        // http.md §3
        let named = |name: &str| Ok(name.to_owned());
        assert_eq!(basin_of("/v1/streams", &[("s2-basin", "my-basin-01")]), named("my-basin-01"));
        assert_eq!(basin_of("http://my-basin-01.b.example.org/v1", &[]), named("my-basin-01"));
        assert_eq!(basin_of("http://my-basin-01.B.Example.org:8080/v1", &[]), named("my-basin-01"));
        assert_eq!(basin_of("/v1", &[("host", "my-basin-01.b.example.org:80")]), named("my-basin-01"));
        assert_eq!(basin_of("http://My-Basin-01.b.example.org/v1", &[]), named("my-basin-01"), "hosts have no case");
        assert_eq!(basin_of("http://localhost/v1", &[("s2-basin", "my-basin-01")]), named("my-basin-01"));
        let both = basin_of("http://MY-basin-01.b.example.org/", &[("s2-basin", "my-basin-01")]);
        assert_eq!(both, named("my-basin-01"));
        let first_counts = basin_of("/v1", &[("s2-basin", "my-basin-01"), ("s2-basin", "my-basin-02")]);
        assert_eq!(first_counts, named("my-basin-01"));
    }

    #[test]
    fn a_basin_that_is_missing_wrong_or_contradictory_is_a_bad_header() {
        for (uri, headers) in [
            ("/v1", &[][..]),
            ("http://b.example.org/", &[]),
            ("/v1", &[("s2-basin", "short")]),
            ("/v1", &[("s2-basin", "Upper-Case-1")]),
            ("http://my-basin-01.b.example.org/", &[("s2-basin", "my-basin-02")]),
            ("http://x.y.b.example.org/", &[]),
        ] {
            assert_eq!(basin_of(uri, headers), Err("bad_header"), "{uri} {headers:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_basin_is_said_of_where_it_was_said() {
        let message = |uri: &str, header: Option<&str>| {
            let request =
                header.into_iter().fold(Request::builder().uri(uri), |it, basin| it.header("s2-basin", basin));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            basin(&parts, Some(&BasinHost::new("b.example.org"))).unwrap_err().to_string()
        };
        let of_host = message("http://short.b.example.org/", None);
        assert!(of_host.contains("`host`") && !of_host.contains("s2-basin"), "{of_host}");
        assert!(message("http://localhost/", Some("short")).contains("`s2-basin`"));
    }

    #[test]
    fn names_in_paths_are_decoded_and_checked() {
        assert_eq!(stream_in_path("a%2Fb%20c").unwrap().as_str(), "a/b c");
        for bad in ["%00", "%ff", "..", "%2E"] {
            assert_eq!(stream_in_path(bad).unwrap_err().label(), "bad_path", "{bad}");
        }
        assert_eq!(access_token_in_path("tenant%2F42").unwrap().as_str(), "tenant/42");
        assert_eq!(access_token_in_path("..").unwrap_err().label(), "bad_path");
        assert_eq!(basin_in_path("Nope").unwrap_err().label(), "bad_path");
    }
}
