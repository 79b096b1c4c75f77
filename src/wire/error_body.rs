//! The JSON of errors, out and back (`errors.md` §1): the body of an HTTP response, of a terminal frame, of an SSE event.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{ApiError, Effect, ErrorCode, FencingToken, Position, Retry, SeqNum};

/// Bytes of a message that are sent. A body must go into one DATA frame (`s2s.md` §1.3), which holds 16 KiB, and JSON
/// makes six bytes of a control character.
const MAX_MESSAGE_LEN: usize = 2048;

/// Bytes of a body that is not one of ours that are kept for people to read.
const MAX_UNREADABLE_LEN: usize = 512;

#[derive(Serialize, Deserialize)]
struct Coded<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

/// 412: exactly one of the keys.
#[derive(Serialize, Deserialize)]
struct ConditionFailed<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    fencing_token_mismatch: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq_num_mismatch: Option<u64>,
}

/// 416.
#[derive(Serialize, Deserialize)]
struct OutOfRange {
    tail: Tail,
}

#[derive(Serialize, Deserialize)]
struct Tail {
    seq_num: u64,
    timestamp: u64,
}

/// The body that tells a client of `error`, the same wherever it is sent.
pub fn error_json(error: &ApiError) -> Bytes {
    match error {
        ApiError::Coded { code, message } => {
            let message = &message[..message.floor_char_boundary(MAX_MESSAGE_LEN)];
            json(&Coded { code: code.as_str().into(), message: message.into() })
        }
        ApiError::FencingTokenMismatch { current } => {
            json(&ConditionFailed { fencing_token_mismatch: Some(current.as_str().into()), seq_num_mismatch: None })
        }
        ApiError::SeqNumMismatch { next } => {
            json(&ConditionFailed { fencing_token_mismatch: None, seq_num_mismatch: Some(next.get()) })
        }
        ApiError::OutOfRange { tail } => {
            json(&OutOfRange { tail: Tail { seq_num: tail.seq_num.get(), timestamp: tail.timestamp.get() } })
        }
    }
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("strings and numbers under fixed keys always serialize").into()
}

/// An error as a server told us of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// One that we know, under the status that goes with it.
    #[error("{0}")]
    Known(ApiError),
    /// A code that we do not know, or one that we know under another status.
    #[error("{status} {code}: {message}")]
    Coded {
        /// The HTTP status.
        status: u16,
        /// The code.
        code: String,
        /// What the server says.
        message: String,
    },
    /// A body that is not the JSON that goes with the status.
    #[error("{status} with a body that is not an error: {body:?}")]
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
}

impl RemoteError {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Known(error) => error.status(),
            Self::Coded { status, .. } | Self::Unreadable { status, .. } => *status,
        }
    }

    /// Whether trying the same again may help (`errors.md` §5.1).
    ///
    /// A known code under a foreign status is not trusted; an unknown one, or none at all, is judged by the status.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Known(error) => error.retry(),
            Self::Coded { code, .. } if ErrorCode::parse(code).is_some() => Retry::Futile,
            Self::Coded { status, .. } | Self::Unreadable { status, .. } => match status {
                408 | 429 | 500 | 502 | 503 | 504 => Retry::Worthwhile,
                _ => Retry::Futile,
            },
        }
    }

    /// What the server promises about the request's effect. Only a code that we know promises anything.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::Known(error) => error.effect(),
            Self::Coded { .. } | Self::Unreadable { .. } => Effect::Possible,
        }
    }
}

/// The error that a response with `status` and `body`, or a terminal frame, tells of. The status chooses the shape
/// (`s2s.md` §5.4).
pub fn parse_error(status: u16, body: &[u8]) -> RemoteError {
    let parsed = match status {
        412 => parse_condition_failed(body).map(RemoteError::Known),
        416 => parse_out_of_range(body).map(RemoteError::Known),
        _ => parse_coded(status, body),
    };
    parsed.unwrap_or_else(|| {
        let kept = &body[..body.len().min(MAX_UNREADABLE_LEN)];
        RemoteError::Unreadable { status, body: String::from_utf8_lossy(kept).into_owned() }
    })
}

fn parse_coded(status: u16, body: &[u8]) -> Option<RemoteError> {
    let Coded { code, message } = serde_json::from_slice(body).ok()?;
    Some(match ErrorCode::parse(&code).filter(|code| code.status() == status) {
        Some(code) => RemoteError::Known(ApiError::new(code, message.into_owned())),
        None => RemoteError::Coded { status, code: code.into_owned(), message: message.into_owned() },
    })
}

fn parse_condition_failed(body: &[u8]) -> Option<ApiError> {
    let failed: ConditionFailed<'_> = serde_json::from_slice(body).ok()?;
    match (failed.fencing_token_mismatch, failed.seq_num_mismatch) {
        (Some(current), None) => Some(ApiError::FencingTokenMismatch { current: FencingToken::new(&current).ok()? }),
        (None, Some(next)) => Some(ApiError::SeqNumMismatch { next: SeqNum::new(next) }),
        _ => None,
    }
}

fn parse_out_of_range(body: &[u8]) -> Option<ApiError> {
    let OutOfRange { tail } = serde_json::from_slice(body).ok()?;
    Some(ApiError::OutOfRange { tail: Position::new(tail.seq_num, tail.timestamp) })
}
