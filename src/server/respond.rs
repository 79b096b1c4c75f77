//! How things are told to clients over HTTP: results, and the one place where failures become errors of the API.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::{body::Body, route::NoRoute};
use crate::{
    auth::{AuthError, TokenFailure},
    sequence::Rejection,
    store::StoreError,
    streams::Failure,
    types::{ApiError, Compression, Denied, ErrorCode, Provision},
    usage::UsageError,
    wire::{self, FrameBuf, InputError},
};

/// Responses of this size and more are compressed when the client accepts it.
const COMPRESSED_FROM: usize = 1024;

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
    /// Anything else.
    Api(ApiError),
}

impl From<NoRoute> for Refusal {
    fn from(no_route: NoRoute) -> Self {
        Self::NoRoute(no_route)
    }
}

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Api(error.into())
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        api_error(failure)
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        ApiError::new(ErrorCode::PermissionDenied, denied.to_string())
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let code = match &error {
            AuthError::Missing | AuthError::Malformed | AuthError::Unknown | AuthError::Expired => ErrorCode::Authn,
            AuthError::Store(error) => store_code(error),
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<TokenFailure> for ApiError {
    fn from(failure: TokenFailure) -> Self {
        let code = match &failure {
            TokenFailure::Denied(_)
            | TokenFailure::OutOfScope(_)
            | TokenFailure::OutlivesIssuer
            | TokenFailure::Root => ErrorCode::PermissionDenied,
            TokenFailure::NoOperations | TokenFailure::NoPrefix | TokenFailure::ExpiryPassed => ErrorCode::Invalid,
            TokenFailure::Exists(_) => ErrorCode::ResourceAlreadyExists,
            TokenFailure::NotFound(_) => ErrorCode::AccessTokenNotFound,
            TokenFailure::NoRandomness(_) => ErrorCode::Other,
            TokenFailure::Store(error) => store_code(error),
        };
        ApiError::new(code, failure.to_string())
    }
}

/// What a failure of the service is to a client (`errors.md` §2).
pub(super) fn api_error(failure: Failure) -> ApiError {
    let code = match &failure {
        Failure::BasinNotFound(_) => ErrorCode::BasinNotFound,
        Failure::StreamNotFound(..) => ErrorCode::StreamNotFound,
        Failure::BasinDeletionPending(_) => ErrorCode::BasinDeletionPending,
        Failure::StreamDeletionPending => ErrorCode::StreamDeletionPending,
        Failure::BasinExists(_) | Failure::StreamExists(..) => ErrorCode::ResourceAlreadyExists,
        Failure::BasinElsewhere(..) => ErrorCode::Invalid,
        Failure::Conflict => ErrorCode::TransactionConflict,
        Failure::Key(_) => ErrorCode::BadHeader,
        Failure::Decryption(_) => ErrorCode::DecryptionFailed,
        Failure::Rejected(rejection) => match *rejection {
            Rejection::FencingTokenMismatch { current } => return ApiError::FencingTokenMismatch { current },
            Rejection::SeqNumMismatch { next } => return ApiError::SeqNumMismatch { next },
            _ => ErrorCode::Invalid,
        },
        Failure::OutOfRange(out_of_range) => return ApiError::OutOfRange { tail: out_of_range.tail },
        Failure::Denied(_) => ErrorCode::PermissionDenied,
        Failure::Store(error) => store_code(error),
    };
    ApiError::new(code, failure.to_string())
}

const fn store_code(error: &StoreError) -> ErrorCode {
    match error {
        // The one code that says both "later" and "nothing happened", whatever the client's policy.
        StoreError::Full(_) => ErrorCode::RateLimited,
        StoreError::NotDone(_) | StoreError::Unknown(_) | StoreError::Damaged(_) => ErrorCode::Storage,
        StoreError::Closed(_) => ErrorCode::Unavailable,
    }
}

impl From<UsageError> for ApiError {
    fn from(error: UsageError) -> Self {
        let code = match &error {
            UsageError::Store(error) => store_code(error),
            UsageError::Entry(_) => ErrorCode::Storage,
            UsageError::Contended => ErrorCode::TransactionConflict,
        };
        ApiError::new(code, error.to_string())
    }
}

/// What an input that could not be read is to a client; `malformed` is the code for bytes that do not decode.
pub(super) fn input_error(error: InputError, malformed: ErrorCode) -> ApiError {
    let code = match error {
        InputError::Malformed(_) => malformed,
        InputError::Invalid(_) | InputError::FencingTokenTooLong(_) => ErrorCode::Invalid,
    };
    ApiError::new(code, error.to_string())
}

/// The response that tells of a refusal.
pub(super) fn refusal(refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Api(error) => error_response(&error),
        Refusal::NoRoute(NoRoute::NotFound) => {
            error_response(&ApiError::new(ErrorCode::NotFound, "there is no such route"))
        }
        Refusal::NoRoute(NoRoute::MethodNotAllowed { allow }) => {
            let error = ApiError::new(ErrorCode::MethodNotAllowed, format!("this route has the methods {allow}"));
            let mut response = error_response(&error);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
            response
        }
    }
}

fn error_response(error: &ApiError) -> Response<Body> {
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
    let mut response = Response::new(Body::Whole(Some(body.into())));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        encryption::{DecryptionFailed, KeyError},
        sequence::OutOfRange,
        types::{AccessTokenId, BasinName, Cipher, FencingToken, OutOfScope, Position, SeqNum, StreamName},
    };

    #[test]
    fn failures_become_the_errors_of_the_catalogue() {
        let basin = BasinName::new("my-basin-01").unwrap();
        let other = BasinName::new("my-basin-02").unwrap();
        let stream = StreamName::new("orders").unwrap();
        let token = FencingToken::new("writer-2").unwrap();
        let reason = || "because".into();
        let cases = [
            (Failure::BasinNotFound(basin.clone()), 404, "basin_not_found"),
            (Failure::StreamNotFound(basin.clone(), stream.clone()), 404, "stream_not_found"),
            (Failure::BasinDeletionPending(basin.clone()), 409, "basin_deletion_pending"),
            (Failure::StreamDeletionPending, 409, "stream_deletion_pending"),
            (Failure::BasinExists(basin.clone()), 409, "resource_already_exists"),
            (Failure::StreamExists(basin, stream), 409, "resource_already_exists"),
            (Failure::BasinElsewhere(BasinName::new("my-basin-01").unwrap(), "eu".into()), 422, "invalid"),
            (Failure::Conflict, 409, "transaction_conflict"),
            (KeyError::Missing { cipher: Cipher::Aegis256 }.into(), 400, "bad_header"),
            (DecryptionFailed { seq_num: SeqNum::FIRST }.into(), 400, "decryption_failed"),
            (Rejection::PastLastEncrypted { last: SeqNum::FIRST, attempted: SeqNum::new(1) }.into(), 422, "invalid"),
            (Failure::Denied(Denied::Basin(other)), 403, "permission_denied"),
            (Rejection::FencingTokenMismatch { current: token }.into(), 412, "fencing_token_mismatch"),
            (Rejection::SeqNumMismatch { next: SeqNum::new(45) }.into(), 412, "seq_num_mismatch"),
            (Rejection::TimestampMissing { index: 3 }.into(), 422, "invalid"),
            (OutOfRange { tail: Position::EMPTY }.into(), 416, "out_of_range"),
            (StoreError::Full(reason()).into(), 429, "rate_limited"),
            (StoreError::NotDone(reason()).into(), 500, "storage"),
            (StoreError::Unknown(reason()).into(), 500, "storage"),
            (StoreError::Damaged(reason()).into(), 500, "storage"),
            (StoreError::Closed(reason()).into(), 503, "unavailable"),
        ];
        for (failure, status, label) in cases {
            let error = api_error(failure.clone());
            assert_eq!((error.status(), error.label()), (status, label), "{failure:?}");
        }
    }

    #[test]
    fn failures_of_tokens_become_the_errors_of_the_catalogue() {
        // control-plane.md §7.1, §7.2, §7.6
        let id = || AccessTokenId::new("tenant-42").unwrap();
        let reason = || "because".into();
        let unknown = [AuthError::Missing, AuthError::Malformed, AuthError::Unknown, AuthError::Expired];
        for error in unknown {
            let error = ApiError::from(error);
            assert_eq!((error.status(), error.label()), (401, "authn"));
        }
        assert_eq!(ApiError::from(AuthError::Store(StoreError::Closed(reason()))).status(), 503);
        let cases = [
            (Denied::AccessToken(id()).into(), 403, "permission_denied"),
            (OutOfScope::Resources("streams").into(), 403, "permission_denied"),
            (TokenFailure::OutlivesIssuer, 403, "permission_denied"),
            (TokenFailure::Root, 403, "permission_denied"),
            (TokenFailure::NoOperations, 422, "invalid"),
            (TokenFailure::NoPrefix, 422, "invalid"),
            (TokenFailure::ExpiryPassed, 422, "invalid"),
            (TokenFailure::Exists(id()), 409, "resource_already_exists"),
            (TokenFailure::NotFound(id()), 404, "access_token_not_found"),
            (TokenFailure::NoRandomness(String::new()), 500, "other"),
            (TokenFailure::Store(StoreError::NotDone(reason())), 500, "storage"),
        ];
        for (failure, status, label) in cases {
            let error = ApiError::from(failure.clone());
            assert_eq!((error.status(), error.label()), (status, label), "{failure:?}");
        }
        let response = refusal(Refusal::Api(AuthError::Missing.into()));
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }

    #[test]
    fn who_is_refused_for_want_of_room_is_told_when_to_come_back() {
        let response = refusal(Refusal::Api(ApiError::new(ErrorCode::RateLimited, "full")));
        assert_eq!(response.headers()["retry-after-ms"], RETRY_AFTER_MS);
        let response = refusal(Refusal::Api(ApiError::new(ErrorCode::Invalid, "wrong")));
        assert!(!response.headers().contains_key("retry-after-ms"));
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
