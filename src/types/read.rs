//! What a reader asks for: where to start, where to stop, how long to wait (`data-plane.md` §7.1).

use std::time::Duration;

use super::{SeqNum, Timestamp};

/// Where a read starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStart {
    /// At this record.
    SeqNum(SeqNum),
    /// At the first record with this timestamp or a later one.
    Timestamp(Timestamp),
    /// This many records before the tail, not below 0.
    TailOffset(u64),
}

impl Default for ReadStart {
    /// At the tail.
    fn default() -> Self {
        ReadStart::TailOffset(0)
    }
}

/// Where a read stops. Each bound covers the whole read, across batches and while following.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadBounds {
    /// After this many records.
    pub count: Option<u64>,
    /// Before the record that would exceed this many metered bytes.
    pub bytes: Option<u64>,
    /// Before the first record with this timestamp or a later one.
    pub until: Option<Timestamp>,
}

impl ReadBounds {
    /// Whether nothing stops the read.
    pub const fn is_unlimited(&self) -> bool {
        self.count.is_none() && self.bytes.is_none() && self.until.is_none()
    }
}

/// A read as a client asked for it, free of contradictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadRequest {
    /// Where to start.
    pub start: ReadStart,
    /// Whether a start beyond the tail means the tail.
    pub clamp: bool,
    /// Where to stop.
    pub bounds: ReadBounds,
    /// How long to wait for records at the tail; absent: as the kind of read has it by default.
    pub wait: Option<Duration>,
}
