//! How results and errors are told to clients over HTTP. What is an error, `errors` says.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Body as _;

use super::{body::Body, chunk::Chunk, route::NoRoute};
use crate::{
    memory::{Held, Share},
    streams::Failure,
    types::{ApiError, Compression, ErrorCode, Provision},
    wire::{self, FrameBuf},
};

/// Responses of this size and more are compressed when the client accepts it.
const COMPRESSED_FROM: usize = 1024;

/// Responses of this size and more count as memory: thousands of smaller ones are little.
const COUNTED_FROM: usize = 4 * 1024;

/// How long a client shall wait before it tries again what was refused for want of room.
const RETRY_AFTER_MS: &str = "500";

const RETRY_AFTER_MS_HEADER: HeaderName = HeaderName::from_static("retry-after-ms");
const PROVISION_RESULT: HeaderName = HeaderName::from_static("s2-provision-result");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No such operation.
    NoRoute(NoRoute),
    /// The service did not do it. Streams have their full names in it.
    Failed(Failure),
    /// Anything else.
    Api(ApiError),
}

impl From<NoRoute> for Refusal {
    fn from(no_route: NoRoute) -> Self {
        Self::NoRoute(no_route)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Api(error.into())
    }
}

/// The response that tells that there is no such operation.
pub(super) fn no_route(no_route: NoRoute) -> Response<Body> {
    match no_route {
        NoRoute::NotFound => error(&ApiError::new(ErrorCode::NotFound, "there is no such route")),
        NoRoute::MethodNotAllowed { allow } => {
            let message = format!("this route has the methods {allow}");
            let mut response = error(&ApiError::new(ErrorCode::MethodNotAllowed, message));
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
            response
        }
    }
}

/// The response that tells of `error`.
pub(super) fn error(error: &ApiError) -> Response<Body> {
    let mut response = json(status(error.status()), wire::error_json(error));
    match error.status() {
        429 | 503 => response.headers_mut().insert(RETRY_AFTER_MS_HEADER, HeaderValue::from_static(RETRY_AFTER_MS)),
        401 => response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        _ => None,
    };
    response
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("the statuses of the catalogue are legal")
}

/// A JSON document.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    whole(status, "application/json", body.into())
}

/// A protobuf message.
pub(super) fn protobuf(body: impl Into<FrameBuf>) -> Response<Body> {
    whole(StatusCode::OK, "application/protobuf", body)
}

/// Text for people and for Prometheus.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    whole(status, content_type, body.into())
}

/// What became of a basin or a stream that was to be there.
pub(super) fn provisioned(status: StatusCode, result: Provision, body: Vec<u8>) -> Response<Body> {
    let mut response = json(status, body);
    response.headers_mut().insert(PROVISION_RESULT, HeaderValue::from_static(result.as_str()));
    response
}

/// Accepted; nothing to say about it.
pub(super) fn accepted() -> Response<Body> {
    empty(StatusCode::ACCEPTED)
}

/// Done; nothing to say about it.
pub(super) fn no_content() -> Response<Body> {
    empty(StatusCode::NO_CONTENT)
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::EMPTY);
    *response.status_mut() = status;
    // Some clients parse a body of unknown length.
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// The response of an established session (`s2s.md` §1.1).
pub(super) fn session(body: Body) -> Response<Body> {
    streaming("s2s/proto", body)
}

/// The response of an established session of server-sent events (`data-plane.md` §8).
pub(super) fn event_stream(body: Body) -> Response<Body> {
    streaming("text/event-stream", body)
}

/// No one between here and the client may change a session's chunks or keep them back.
fn streaming(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn whole(status: StatusCode, content_type: &'static str, body: impl Into<FrameBuf>) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Some(Chunk::from(body))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Compresses a body that is all there and large enough, as the client accepts it (`http.md` §6).
pub(super) fn compressed(mut response: Response<Body>, accepted: Compression) -> Response<Body> {
    let Body::Whole(Some(whole)) = response.body_mut() else { return response };
    if accepted == Compression::None || whole.len() < COMPRESSED_FROM {
        return response;
    }
    let plain = std::mem::take(whole).into_bytes();
    match wire::deflate(accepted, &plain) {
        Ok(deflated) => {
            *whole = deflated.into();
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(accepted.coding()));
        }
        Err(_) => *whole = plain.into(),
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// What of a response answers HEAD: all but the body. Over HTTP/1.1 the body would be left out anyway; over HTTP/2 it
/// would go out, and break the stream.
pub(super) fn head_of(mut response: Response<Body>) -> Response<Body> {
    let body = std::mem::replace(response.body_mut(), Body::EMPTY);
    if let Some(len) = body.size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, len.into());
    }
    response
}

/// Counts a body that is all there, unless it is small, against `memory` until the client has taken it.
pub(super) fn counted(mut response: Response<Body>, memory: &Arc<Share>) -> Response<Body> {
    if let Body::Whole(Some(whole)) = response.body_mut()
        && whole.len() >= COUNTED_FROM
    {
        let mut held = Held::nothing_of(memory.clone());
        held.set(whole.len());
        *whole = std::mem::take(whole).counted(held);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ErrorCode;

    #[test]
    fn who_is_refused_for_want_of_room_is_told_when_to_come_back() {
        // errors.md §5.3
        for &code in ErrorCode::ALL {
            let told = error(&ApiError::new(code, "wrong")).headers().get("retry-after-ms").cloned();
            let expected = [429, 503].contains(&code.status()).then(|| HeaderValue::from_static(RETRY_AFTER_MS));
            assert_eq!(told, expected, "{code:?}");
        }
    }

    #[test]
    fn who_is_not_known_is_told_how_to_say_it() {
        let response = error(&ApiError::new(ErrorCode::Authn, "who are you?"));
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }

    #[test]
    fn only_large_bodies_are_compressed() {
        let encoding = |len, accepted| {
            let response = compressed(json(StatusCode::OK, vec![b'x'; len]), accepted);
            response.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(encoding(COMPRESSED_FROM - 1, Compression::Zstd), None);
        assert_eq!(encoding(COMPRESSED_FROM, Compression::None), None);
        assert_eq!(encoding(COMPRESSED_FROM, Compression::Zstd).as_deref(), Some("zstd"));
        assert_eq!(encoding(COMPRESSED_FROM, Compression::Gzip).as_deref(), Some("gzip"));
    }
}
