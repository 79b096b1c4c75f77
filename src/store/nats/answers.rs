//! What answers of the engine mean, and that none came. Plain values: knows neither connections nor subjects.

use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
};

use crate::store::StoreError;

/// What became of a publication.
#[derive(Debug)]
pub(super) enum Published {
    /// It is on a majority of disks, under this number.
    Landed(u64),
    /// Another message was last on the subject, or is about to be.
    Conflict,
    /// It was refused for a reason of its own, and did not happen.
    Refused(StoreError),
    /// Nobody knows.
    Unknown(String),
}

/// Why a question has no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(pub(super) String);

/// What the answer to a publication means, where `replicas` servers have every message.
pub(super) fn published(answer: Result<u64, PublishError>, replicas: usize) -> Published {
    let error = match answer {
        Ok(sequence) => return Published::Landed(sequence),
        Err(error) => error,
    };
    let code = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<jetstream::Error>())
        .map(jetstream::Error::error_code);
    match meaning(error.kind(), code, replicas) {
        Meaning::Conflict => Published::Conflict,
        Meaning::TooLarge => {
            Published::Refused(StoreError::NotDone("the servers' max_payload is smaller than it was".into()))
        }
        Meaning::Full => Published::Refused(StoreError::Full(format!("NATS: {}", with_source(&error)).into())),
        Meaning::Nothing => Published::Unknown(with_source(&error)),
    }
}

/// What an error says of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Conflict,
    TooLarge,
    Full,
    Nothing,
}

/// Only what the engine says before it does anything is taken for a refusal. That a server's disk is full
/// (`INSUFFICIENT_RESOURCES`) a leader says before it hands the message to the others, but also when it comes to store what
/// a majority has taken: then it has not got the message, steps down, and the others keep it.
fn meaning(kind: PublishErrorKind, code: Option<ErrorCode>, replicas: usize) -> Meaning {
    match (kind, code) {
        (PublishErrorKind::WrongLastSequence, _) | (_, Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)) => {
            Meaning::Conflict
        }
        (PublishErrorKind::MaxPayloadExceeded, _) => Meaning::TooLarge,
        (_, Some(ErrorCode::INSUFFICIENT_RESOURCES)) if replicas > 1 => Meaning::Nothing,
        (
            _,
            Some(
                ErrorCode::INSUFFICIENT_RESOURCES
                | ErrorCode::STORAGE_RESOURCES_EXCEEDED
                | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
            ),
        ) => Meaning::Full,
        _ => Meaning::Nothing,
    }
}

/// An error and what it came from, in one line.
pub(super) fn with_source(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) if !error.to_string().contains(&source.to_string()) => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_what_cannot_have_happened() {
        use PublishErrorKind::{MaxPayloadExceeded, Other, TimedOut, WrongLastSequence};
        for (kind, code, replicas, expected) in [
            (WrongLastSequence, None, 3, Meaning::Conflict),
            (Other, Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT), 3, Meaning::Conflict),
            (MaxPayloadExceeded, None, 3, Meaning::TooLarge),
            (Other, Some(ErrorCode::ACCOUNT_RESOURCES_EXCEEDED), 3, Meaning::Full),
            (Other, Some(ErrorCode::INSUFFICIENT_RESOURCES), 1, Meaning::Full),
            // The leader's own disk: the others may keep what it has no room for.
            (Other, Some(ErrorCode::INSUFFICIENT_RESOURCES), 3, Meaning::Nothing),
            (Other, Some(ErrorCode::STREAM_STORE_FAILED), 3, Meaning::Nothing),
            (TimedOut, None, 1, Meaning::Nothing),
        ] {
            assert_eq!(meaning(kind, code, replicas), expected, "{kind:?} {code:?}, {replicas} replicas");
        }
    }
}
