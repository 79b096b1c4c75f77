//! Everything that makes input undecodable, as one error: what a session answers with `bad_frame`.

use super::{FrameError, InflateError, ProtobufError};

/// Why bytes from a client did not become a message (`s2s.md` §3.4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They are not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A terminal frame, which only servers send.
    #[error("clients do not send terminal frames")]
    UnexpectedTerminal,
    /// A body does not decompress, or to too much.
    #[error(transparent)]
    Inflate(#[from] InflateError),
    /// A body is not the protobuf message that it should be.
    #[error("the message is not well-formed protobuf: {0}")]
    Protobuf(#[from] ProtobufError),
}
