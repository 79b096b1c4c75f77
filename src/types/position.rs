//! Places in a stream. Two kinds of number that look alike and travel in pairs, each a type of its own.

use std::fmt;

/// The number of a record in its stream; the first is 0, each the one before plus one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqNum(u64);

impl SeqNum {
    /// The number of a stream's first record.
    pub const FIRST: SeqNum = SeqNum(0);
    /// The largest number that can be written down.
    pub const MAX: SeqNum = SeqNum(u64::MAX);

    /// The number `value`.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number as it travels.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number `records` further on, or `None` past the largest.
    pub fn checked_add(self, records: u64) -> Option<Self> {
        self.0.checked_add(records).map(Self)
    }

    /// The number `records` further on, at most the largest.
    #[must_use]
    pub const fn saturating_add(self, records: u64) -> Self {
        Self(self.0.saturating_add(records))
    }

    /// The number `records` before, not below the first.
    #[must_use]
    pub const fn saturating_sub(self, records: u64) -> Self {
        Self(self.0.saturating_sub(records))
    }

    /// How many records lie from `start` up to here, this one not counted; 0 if `start` is further on.
    pub const fn since(self, start: SeqNum) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since the Unix epoch when the gateway assigned it; any number when a client did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The timestamp `value`.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The timestamp as it travels.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A sequence number and the timestamp that goes with it.
///
/// As a *tail*: the number that the next record gets, and the timestamp of the last record. Both are zero in a stream
/// that never had a record; trimming moves neither (`data-plane.md` §1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which record.
    pub seq_num: SeqNum,
    /// Its time.
    pub timestamp: Timestamp,
}

impl Position {
    /// The tail of a stream that never had a record.
    pub const EMPTY: Position = Position::new(0, 0);

    /// The position of these two raw numbers.
    pub const fn new(seq_num: u64, timestamp: u64) -> Self {
        Self { seq_num: SeqNum::new(seq_num), timestamp: Timestamp::new(timestamp) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} @ {}", self.seq_num, self.timestamp)
    }
}
