//! Why the service did not do what was asked. How a client is told is the server's to say.

use crate::{
    encryption::{DecryptionFailed, KeyError},
    sequence::{OutOfRange, Rejection},
    store::StoreError,
    types::{BasinName, Denied, StreamName},
};

/// Why a request to the service failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No such basin.
    #[error("basin {0} does not exist")]
    BasinNotFound(BasinName),
    /// No such stream, and nothing said that it should be made.
    #[error("stream {1:?} does not exist in basin {0}")]
    StreamNotFound(BasinName, StreamName),
    /// The basin goes away.
    #[error("basin {0} is being deleted")]
    BasinDeletionPending(BasinName),
    /// The stream goes away.
    #[error("the stream is being deleted")]
    StreamDeletionPending,
    /// A basin of that name is there, made by another request.
    #[error("basin {0} already exists")]
    BasinExists(BasinName),
    /// A stream of that name is there, made by another request.
    #[error("stream {1:?} already exists in basin {0}")]
    StreamExists(BasinName, StreamName),
    /// The basin lives elsewhere, and basins do not move.
    #[error("basin {0} is in location {1} and cannot move")]
    BasinElsewhere(BasinName, String),
    /// Someone else changed the same entry of the catalogue at the same time; nothing was changed here.
    #[error("the catalogue was changed at the same time, try again")]
    Conflict,
    /// The key of the request is none for the stream's cipher.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A record of the stream is not encrypted with the key of the request.
    #[error(transparent)]
    Decryption(#[from] DecryptionFailed),
    /// What the request turned out to need is not among what it may do.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The stream's rules refused the batch.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The read starts where nothing is and may not wait.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
