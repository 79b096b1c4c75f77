//! What identifies a stream for as long as it lives, and what is in force in it.

use std::fmt;

use super::{FencingToken, Position, SeqNum};

/// One life of a stream: a stream that is deleted and made again under the same name has another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u128);

impl StreamId {
    /// The identity `value`; whoever makes streams draws it at random.
    pub const fn new(value: u128) -> Self {
        Self(value)
    }

    /// The identity as bytes that sort as it does.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The identity that [`StreamId::to_bytes`] gave.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a stream's records leave behind: everything that judging the next append needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The next number, and the greatest timestamp so far. Trimming moves neither.
    pub tail: Position,
    /// The token in force.
    pub fencing_token: FencingToken,
    /// The earliest record that was not trimmed, at most `tail.seq_num`.
    pub trim_point: SeqNum,
}
