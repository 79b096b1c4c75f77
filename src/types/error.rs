//! What a client can be told went wrong: the codes of the contract with their statuses and promises (`errors.md` §1, §2).
//!
//! How an error looks as JSON or as a terminal frame is `wire`'s; which failure becomes which error is the server's.

use std::{borrow::Cow, fmt};

use super::{FencingToken, Position, SeqNum};

/// Whether trying the same again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It may.
    Worthwhile,
    /// It fails again.
    Futile,
}

/// Whether the request may have changed something although it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It changed nothing.
    None,
    /// It may have.
    Possible,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal $status:literal $retry:ident $effect:ident;)*) => {
        /// A code of the catalogue. Code and status go together: clients distrust a code under another status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $code,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$code,)*];

            /// As it travels.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$code => $text,)* }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(ErrorCode::$code => $status,)* }
            }

            /// Whether trying again may help.
            pub const fn retry(self) -> Retry {
                match self { $(ErrorCode::$code => Retry::$retry,)* }
            }

            /// What it promises about the request's effect.
            pub const fn effect(self) -> Effect {
                match self { $(ErrorCode::$code => Effect::$effect,)* }
            }
        }
    };
}

codes! {
    /// A header is missing or invalid.
    BadHeader = "bad_header" 400 Futile None;
    /// A name in the path is invalid.
    BadPath = "bad_path" 400 Futile None;
    /// A query parameter is missing, unreadable or given twice.
    BadQuery = "bad_query" 400 Futile None;
    /// A JSON body is missing, malformed, of the wrong shape or content type, or too large.
    BadJson = "bad_json" 400 Futile None;
    /// A protobuf body does not decode or is too large.
    BadProto = "bad_proto" 400 Futile None;
    /// An S2S frame, or the message in it, does not decode.
    BadFrame = "bad_frame" 400 Futile None;
    /// A record does not decrypt with the key given.
    DecryptionFailed = "decryption_failed" 400 Futile None;
    /// The token is missing or not valid.
    Authn = "authn" 401 Futile None;
    /// The token does not reach that far.
    PermissionDenied = "permission_denied" 403 Futile None;
    /// A limit of the account is reached.
    QuotaExhausted = "quota_exhausted" 403 Futile None;
    /// No such basin.
    BasinNotFound = "basin_not_found" 404 Futile None;
    /// No such stream.
    StreamNotFound = "stream_not_found" 404 Futile None;
    /// No such access token.
    AccessTokenNotFound = "access_token_not_found" 404 Futile None;
    /// No such route. Not in the published catalogue: judged by its status.
    NotFound = "not_found" 404 Futile None;
    /// The route has no such method. Not in the published catalogue.
    MethodNotAllowed = "method_not_allowed" 405 Futile None;
    /// The service gave up on the request.
    RequestTimeout = "request_timeout" 408 Worthwhile Possible;
    /// The basin is being deleted.
    BasinDeletionPending = "basin_deletion_pending" 409 Futile None;
    /// The stream is being deleted.
    StreamDeletionPending = "stream_deletion_pending" 409 Futile None;
    /// What was to be made exists.
    ResourceAlreadyExists = "resource_already_exists" 409 Futile None;
    /// Someone else changed the same at the same time.
    TransactionConflict = "transaction_conflict" 409 Worthwhile None;
    /// The content type, or the content coding, is not one that is read here. Not in the published catalogue.
    UnsupportedMediaType = "unsupported_media_type" 415 Futile None;
    /// Readable, and against a rule.
    Invalid = "invalid" 422 Futile None;
    /// Too much at once.
    RateLimited = "rate_limited" 429 Worthwhile None;
    /// The client went away; only ever seen in logs.
    ClientHangup = "client_hangup" 499 Futile Possible;
    /// Something unexpected.
    Other = "other" 500 Worthwhile Possible;
    /// The storage layer failed.
    Storage = "storage" 500 Worthwhile Possible;
    /// Not offered here.
    NotImplemented = "not_implemented" 501 Futile None;
    /// Not the server for this, ask again.
    HotServer = "hot_server" 502 Worthwhile None;
    /// The stream cannot be served now.
    Unavailable = "unavailable" 503 Worthwhile Possible;
    /// The server stops; what it did not acknowledge did not happen.
    ServerDraining = "server_draining" 503 Worthwhile None;
    /// Something behind the server took too long.
    UpstreamTimeout = "upstream_timeout" 504 Worthwhile Possible;
}

impl ErrorCode {
    /// The code that travels as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

/// An error as a client is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// A code and what was wrong, in words.
    Coded {
        /// The code.
        code: ErrorCode,
        /// What was wrong, with the offending value and the limit.
        message: Cow<'static, str>,
    },
    /// 412: another fencing token is in force.
    FencingTokenMismatch {
        /// The one in force; empty if none is.
        current: FencingToken,
    },
    /// 412: the first record would have got another number.
    SeqNumMismatch {
        /// The one it would have got.
        next: SeqNum,
    },
    /// 416: the read starts where nothing is, and may not wait for it.
    OutOfRange {
        /// The tail of the stream.
        tail: Position,
    },
}

impl ApiError {
    /// `code` with `message`.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Coded { code, message: message.into() }
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Coded { code, .. } => code.status(),
            Self::FencingTokenMismatch { .. } | Self::SeqNumMismatch { .. } => 412,
            Self::OutOfRange { .. } => 416,
        }
    }

    /// Its code, or what stands for one in logs and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Coded { code, .. } => code.as_str(),
            Self::FencingTokenMismatch { .. } => "fencing_token_mismatch",
            Self::SeqNumMismatch { .. } => "seq_num_mismatch",
            Self::OutOfRange { .. } => "out_of_range",
        }
    }

    /// Whether trying the same again may help.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Coded { code, .. } => code.retry(),
            _ => Retry::Futile,
        }
    }

    /// What it promises about the request's effect.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::Coded { code, .. } => code.effect(),
            _ => Effect::None,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coded { code, message } => write!(f, "{}: {message}", code.as_str()),
            Self::FencingTokenMismatch { current } => write!(f, "the fencing token in force is {current:?}"),
            Self::SeqNumMismatch { next } => write!(f, "the next sequence number is {next}"),
            Self::OutOfRange { tail } => write!(f, "nothing to read there, the tail is {tail}"),
        }
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// `errors.md` §2, column by column: code, status, whether to retry, whether it promises that nothing happened. Ours
    /// behind it.
    const CATALOGUE: &[(&str, u16, &str, &str)] = &[
        ("bad_header", 400, "no", "yes"),
        ("bad_path", 400, "no", "yes"),
        ("bad_query", 400, "no", "yes"),
        ("bad_json", 400, "no", "yes"),
        ("bad_proto", 400, "no", "yes"),
        ("bad_frame", 400, "no", "yes"),
        ("decryption_failed", 400, "no", "yes"),
        ("authn", 401, "no", "yes"),
        ("permission_denied", 403, "no", "yes"),
        ("quota_exhausted", 403, "no", "yes"),
        ("basin_not_found", 404, "no", "yes"),
        ("stream_not_found", 404, "no", "yes"),
        ("access_token_not_found", 404, "no", "yes"),
        ("request_timeout", 408, "yes", "no"),
        ("basin_deletion_pending", 409, "no", "yes"),
        ("stream_deletion_pending", 409, "no", "yes"),
        ("resource_already_exists", 409, "no", "yes"),
        ("transaction_conflict", 409, "yes", "yes"),
        ("invalid", 422, "no", "yes"),
        ("rate_limited", 429, "yes", "yes"),
        ("client_hangup", 499, "no", "no"),
        ("other", 500, "yes", "no"),
        ("storage", 500, "yes", "no"),
        ("not_implemented", 501, "no", "yes"),
        ("hot_server", 502, "yes", "yes"),
        ("unavailable", 503, "yes", "no"),
        ("server_draining", 503, "yes", "yes"),
        ("upstream_timeout", 504, "yes", "no"),
        ("not_found", 404, "no", "yes"),
        ("method_not_allowed", 405, "no", "yes"),
        ("unsupported_media_type", 415, "no", "yes"),
    ];

    #[test]
    fn codes_have_the_statuses_and_promises_of_the_catalogue() {
        for &(text, status, retry, no_effect) in CATALOGUE {
            let code = ErrorCode::parse(text).unwrap_or_else(|| panic!("{text} is missing"));
            let yes = |it| if it { "yes" } else { "no" };
            let promised = (yes(code.retry() == Retry::Worthwhile), yes(code.effect() == Effect::None));
            assert_eq!((code.status(), promised), (status, (retry, no_effect)), "{text}");
        }
        assert_eq!(ErrorCode::ALL.len(), CATALOGUE.len());
    }

    #[test]
    fn what_has_no_code_changed_nothing_and_fails_again() {
        // errors.md §1, §5.1
        for (error, status) in [
            (ApiError::FencingTokenMismatch { current: FencingToken::default() }, 412),
            (ApiError::SeqNumMismatch { next: SeqNum::FIRST }, 412),
            (ApiError::OutOfRange { tail: Position::EMPTY }, 416),
        ] {
            assert_eq!((error.status(), error.retry(), error.effect()), (status, Retry::Futile, Effect::None));
        }
    }
}
