//! The one place where failures become errors of the API (`errors.md` §2). Knows no HTTP but their statuses.

use crate::{
    auth::{AuthError, TokenFailure},
    sequence::Rejection,
    store::StoreError,
    streams::Failure,
    types::{ApiError, Denied, ErrorCode},
    usage::UsageError,
    wire::InputError,
};

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

/// What the server's stop is to whom it ends; `advice` says what to do instead. Nothing happened that was not told.
pub(super) fn draining(advice: &str) -> ApiError {
    ApiError::new(ErrorCode::ServerDraining, format!("the server stops; {advice}"))
}

/// What an input that could not be read is to a client; `malformed` is the code for bytes that do not decode.
pub(super) fn input_error(error: InputError, malformed: ErrorCode) -> ApiError {
    let code = match error {
        InputError::Malformed(_) => malformed,
        InputError::Invalid(_) | InputError::FencingTokenTooLong(_) => ErrorCode::Invalid,
    };
    ApiError::new(code, error.to_string())
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
    }
}
