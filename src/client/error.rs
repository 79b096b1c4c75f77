//! What can go wrong on this side of the protocol: whose fault it was, and whether it happened.

use std::time::Duration;

use crate::{
    types::{ApiError, Effect, ErrorCode, Retry, SeqNum},
    wire::RemoteError,
};

/// A call or a session that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The server could not be reached. It did not happen.
    #[error("cannot connect to {origin}: {reason}")]
    Connect {
        /// Scheme, host and port.
        origin: String,
        /// What stood in the way.
        reason: String,
    },
    /// The connection went away before the request was on it. It did not happen.
    #[error("the connection closed before the request was sent")]
    NotSent,
    /// The connection or the response broke off. Whatever was sent may have happened.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The server was silent for too long. Whatever was sent may have happened.
    #[error("no {awaited} within {} s", after.as_secs_f32())]
    TimedOut {
        /// What did not come.
        awaited: Awaited,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server said no, or that it could not.
    #[error("the server {}: {error}", if error.status() < 500 { "refused" } else { "failed" })]
    Server {
        /// What it said.
        error: RemoteError,
        /// How long it asks to be left alone (`retry-after-ms`, `errors.md` §5.3).
        retry_after: Option<Duration>,
    },
    /// The server's bytes make no sense. Whatever was sent may have happened.
    #[error("the server broke the protocol: {0}")]
    Protocol(ProtocolError),
}

/// What a peer's silence was measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The head, or the whole, of a response.
    Response,
    /// The next ack.
    Ack,
    /// The end of a session that was asked to end.
    End,
    /// The next batch or heartbeat.
    Frame,
}

impl std::fmt::Display for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Awaited::Response => "response",
            Awaited::Ack => "ack",
            Awaited::End => "end of the session",
            Awaited::Frame => "batch or heartbeat",
        })
    }
}

/// Whose doing a failure was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for.
    Caller,
    /// What lies between.
    Network,
    /// What answered.
    Server,
}

/// How a peer broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame, or the message in it, does not decode.
    #[error("{0}")]
    Unreadable(String),
    /// An ack for nothing.
    #[error("an ack came while no input was waiting for one")]
    StrayAck,
    /// An ack for another number of records than were sent.
    #[error("{sent} records were sent and {acked} acknowledged")]
    AckCount {
        /// Records of the input.
        sent: u64,
        /// Records between the ack's positions.
        acked: u64,
    },
    /// An ack that ends before or where the one before it ended.
    #[error("an ack ends at {end}, the one before it ended at {previous}")]
    AckOrder {
        /// The end in the ack before.
        previous: SeqNum,
        /// The end in this one.
        end: SeqNum,
    },
    /// The session ended, without an error, before everything was acknowledged.
    #[error("the session ended with {unacked} inputs not acknowledged")]
    EarlyEnd {
        /// Inputs without an ack.
        unacked: usize,
    },
    /// A record that was delivered before, or one out of order.
    #[error("record {found} came where {expected} or a later one was due")]
    ReadOrder {
        /// The least number that was due.
        expected: SeqNum,
        /// The number that came.
        found: SeqNum,
    },
    /// A batch without records and without a tail.
    #[error("a batch had neither records nor a tail")]
    EmptyBatch,
    /// A session that is not one.
    #[error("the answer to a session request was status {status} of type {content_type:?}")]
    NotASession {
        /// HTTP status.
        status: u16,
        /// Its content type.
        content_type: String,
    },
}

impl ClientError {
    /// An error of the catalogue, as an answer.
    pub fn answered(error: ApiError) -> Self {
        Self::Server { error: RemoteError::Known(error), retry_after: None }
    }

    /// Whose doing it was.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Connect { .. } | Self::NotSent | Self::Lost(_) | Self::TimedOut { .. } => Fault::Network,
            Self::Server { error, .. } if error.status() < 500 => Fault::Caller,
            Self::Server { .. } | Self::Protocol(_) => Fault::Server,
        }
    }

    /// Whether trying the same again may help (`errors.md` §5.1).
    pub fn retry(&self) -> Retry {
        match self {
            Self::Connect { .. } | Self::NotSent | Self::Lost(_) | Self::TimedOut { .. } => Retry::Worthwhile,
            Self::Server { error, .. } => error.retry(),
            Self::Protocol(_) => Retry::Futile,
        }
    }

    /// Whether what was sent may have changed something.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Connect { .. } | Self::NotSent => Effect::None,
            Self::Lost(_) | Self::TimedOut { .. } | Self::Protocol(_) => Effect::Possible,
            Self::Server { error, .. } => error.effect(),
        }
    }

    /// How long the server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether a stopping server ended the session (`s2s.md` §8).
    pub fn is_draining(&self) -> bool {
        matches!(
            self,
            Self::Server { error: RemoteError::Known(ApiError::Coded { code: ErrorCode::ServerDraining, .. }), .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(status: u16, code: &str) -> ClientError {
        let error = RemoteError::Coded { status, code: code.into(), message: String::new() };
        ClientError::Server { error, retry_after: None }
    }

    #[test]
    fn codes_outside_the_catalogue_are_judged_by_status() {
        // errors.md §5.1
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(unknown(status, "novel").retry(), Retry::Worthwhile, "{status}");
        }
        for status in [400, 401, 403, 404, 409, 412, 416, 422, 499, 501] {
            assert_eq!(unknown(status, "novel").retry(), Retry::Futile, "{status}");
        }
        assert_eq!(unknown(503, "rate_limited").retry(), Retry::Futile, "a known code under another status");
        assert_eq!(unknown(503, "rate_limited").effect(), Effect::Possible);
    }

    #[test]
    fn what_never_left_did_not_happen() {
        let connect = ClientError::Connect { origin: "http://h:1".into(), reason: "refused".into() };
        assert_eq!((connect.effect(), connect.fault()), (Effect::None, Fault::Network));
        assert_eq!(ClientError::Lost("reset".into()).effect(), Effect::Possible);
        assert_eq!(ClientError::answered(ApiError::new(ErrorCode::Invalid, "no")).fault(), Fault::Caller);
    }
}
