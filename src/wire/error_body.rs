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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back() {
        for &code in ErrorCode::ALL {
            let error = ApiError::new(code, "what \"was\" wrong\n");
            let json = error_json(&error);
            assert_eq!(json, format!(r#"{{"code":"{}","message":"what \"was\" wrong\n"}}"#, code.as_str()));
            assert_eq!(parse_error(code.status(), &json), RemoteError::Known(error));
        }
    }

    #[test]
    fn conditions_and_ranges_come_back() {
        let token = |token| ApiError::FencingTokenMismatch { current: FencingToken::new(token).unwrap() };
        for error in [
            token(""),
            token("with \"quotes\" and é"),
            ApiError::SeqNumMismatch { next: SeqNum::FIRST },
            ApiError::SeqNumMismatch { next: SeqNum::MAX },
            ApiError::OutOfRange { tail: Position::EMPTY },
            ApiError::OutOfRange { tail: Position::new(u64::MAX, u64::MAX) },
        ] {
            assert_eq!(parse_error(error.status(), &error_json(&error)), RemoteError::Known(error));
        }
    }

    #[test]
    fn unknown_codes_are_judged_by_status() {
        // errors.md §5.1
        for (status, retry) in [
            (400, Retry::Futile),
            (404, Retry::Futile),
            (408, Retry::Worthwhile),
            (409, Retry::Futile),
            (429, Retry::Worthwhile),
            (499, Retry::Futile),
            (500, Retry::Worthwhile),
            (501, Retry::Futile),
            (502, Retry::Worthwhile),
            (503, Retry::Worthwhile),
            (504, Retry::Worthwhile),
        ] {
            let error = parse_error(status, br#"{"code":"new_code","message":"m","origin":"server"}"#);
            let expected = RemoteError::Coded { status, code: "new_code".into(), message: "m".into() };
            assert_eq!(error, expected);
            assert_eq!((error.status(), error.retry(), error.effect()), (status, retry, Effect::Possible));
            let unreadable = parse_error(status, b"<html>");
            assert_eq!(unreadable, RemoteError::Unreadable { status, body: "<html>".into() });
            assert_eq!((unreadable.retry(), unreadable.effect()), (retry, Effect::Possible));
        }
    }

    #[test]
    fn a_known_code_under_a_foreign_status_promises_nothing() {
        let error = parse_error(500, br#"{"code":"rate_limited","message":"m"}"#);
        assert_eq!((error.status(), error.retry(), error.effect()), (500, Retry::Futile, Effect::Possible));
    }

    #[test]
    fn bodies_that_do_not_go_with_the_status_are_unreadable() {
        let long_token = format!(r#"{{"fencing_token_mismatch":"{}"}}"#, "x".repeat(37));
        for (status, body) in [
            (412, r#"{"code":"invalid","message":"m"}"#),
            (412, r#"{"seq_num_mismatch":1,"fencing_token_mismatch":""}"#),
            (412, r#"{"seq_num_mismatch":-1}"#),
            (412, "{}"),
            (412, &long_token),
            (416, r#"{"tail":{"seq_num":1}}"#),
            (416, r#"{"seq_num_mismatch":1}"#),
            (400, r#"{"seq_num_mismatch":1}"#),
            (400, "null"),
            (503, ""),
        ] {
            let error = parse_error(status, body.as_bytes());
            assert_eq!(error, RemoteError::Unreadable { status, body: body.into() });
        }
        let RemoteError::Unreadable { body, .. } = parse_error(502, &[b'x'; 100_000]) else { panic!() };
        assert_eq!(body.len(), MAX_UNREADABLE_LEN);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        for (message, kept) in
            [("é".repeat(5000), MAX_MESSAGE_LEN), (format!("x{}", "é".repeat(5000)), MAX_MESSAGE_LEN - 1)]
        {
            let json = error_json(&ApiError::new(ErrorCode::Invalid, message.clone()));
            let expected = ApiError::new(ErrorCode::Invalid, message[..kept].to_owned());
            assert_eq!(parse_error(422, &json), RemoteError::Known(expected));
        }
    }
}
