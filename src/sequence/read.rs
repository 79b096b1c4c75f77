//! Planning a read: where it starts, whether it may follow, when it is done (`data-plane.md` §7).
//!
//! A plan knows the head of the stream at the moment the read began, and nothing of the records themselves; for a start
//! by time it says what to look for and is told what was found.

use std::time::Duration;

use crate::types::{
    BatchSlice, Cut, Head, Position, ReadBounds, ReadRequest, ReadStart, SeqNum, Timestamp,
    limits::{MAX_BATCH_METERED, MAX_BATCH_RECORDS, MAX_UNARY_WAIT_SECS},
};

/// How a read is answered (`data-plane.md` §7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// One response: at most 1000 records and 1 MiB metered, and at most 60 s of waiting.
    Unary,
    /// As many batches as it takes.
    Session,
}

/// The read starts where nothing is, and may not wait for it (416).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing to read from there on, the tail is {tail}")]
pub struct OutOfRange {
    /// The durable tail when the read began.
    pub tail: Position,
}

/// Where a read starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlannedStart {
    /// Nowhere: the bounds allow no record at all, and the read is done, successfully, before it begins.
    Nothing,
    /// At this record, or at the next one there is if it is gone.
    At(SeqNum),
    /// At the earliest record from `from` on with this timestamp or a later one: to be looked for, and then told to
    /// [`ReadPlan::sought`].
    Seek {
        /// The earliest record that was not trimmed.
        from: SeqNum,
        /// The time asked for.
        timestamp: Timestamp,
    },
}

/// Whether a read that reached the tail may wait for more (`data-plane.md` §7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtTail {
    MayFollow,
    Ends,
}

/// A read that may go ahead.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    start: PlannedStart,
    bounds: ReadBounds,
    wait: Option<Duration>,
    at_tail: AtTail,
    tail: Position,
}

impl ReadPlan {
    /// Resolves the start of `request` against the durable `head` (`data-plane.md` §7.2).
    pub fn new(request: &ReadRequest, mode: ReadMode, head: &Head) -> Result<Self, OutOfRange> {
        let (bounds, wait) = match mode {
            ReadMode::Unary => (unary_bounds(request.bounds), Some(unary_wait(request.wait))),
            ReadMode::Session => (request.bounds, session_wait(request)),
        };
        let at_tail = match bounds.is_unlimited() || wait.is_some_and(|wait| !wait.is_zero()) {
            true => AtTail::MayFollow,
            false => AtTail::Ends,
        };
        let mut plan = Self { start: PlannedStart::Nothing, bounds, wait, at_tail, tail: head.tail };
        if !plan.limits().is_exhausted() {
            plan.start = plan.resolve(request, head)?;
        }
        Ok(plan)
    }

    /// Where it starts. Never below the trim point of the head.
    pub const fn start(&self) -> PlannedStart {
        self.start
    }

    /// How much it may deliver.
    pub fn limits(&self) -> Remaining {
        Remaining::new(self.bounds)
    }

    /// Whether nothing stops it: never one that is answered with a single response.
    pub const fn is_unlimited(&self) -> bool {
        self.bounds.is_unlimited()
    }

    /// How long it waits at the tail between records: zero, it ends there; `None`, it waits for ever.
    ///
    /// Zero also where the read may follow by the letter but was told not to wait: an unbounded session with `wait=0`
    /// is not out of range at the tail, and ends there at once without a frame (`data-plane.md` §7.3).
    pub const fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Whether starting at the tail is in range (`data-plane.md` §7.3).
    pub fn may_follow(&self) -> bool {
        self.at_tail == AtTail::MayFollow
    }

    /// The durable tail when the read began.
    pub const fn tail(&self) -> Position {
        self.tail
    }

    /// Settles a start by time with the record that was found for it, if there is one (`data-plane.md` §7.2, 4 and 5).
    pub fn sought(&mut self, found: Option<Position>) -> Result<SeqNum, OutOfRange> {
        let start = match found {
            Some(position) => position.seq_num,
            None => self.starting_at_tail()?,
        };
        self.start = PlannedStart::At(start);
        Ok(start)
    }

    fn resolve(&self, request: &ReadRequest, head: &Head) -> Result<PlannedStart, OutOfRange> {
        let tail = self.tail;
        let (beyond, at) = match request.start {
            ReadStart::SeqNum(seq_num) => (seq_num > tail.seq_num, seq_num),
            ReadStart::TailOffset(records) => (false, tail.seq_num.saturating_sub(records)),
            ReadStart::Timestamp(timestamp) if timestamp <= tail.timestamp => {
                return Ok(PlannedStart::Seek { from: head.trim_point, timestamp });
            }
            ReadStart::Timestamp(_) => (true, tail.seq_num),
        };
        if beyond && !request.clamp {
            return Err(OutOfRange { tail });
        }
        // Judged by the number asked for: a start below the tail is in range even if all from there on was trimmed.
        match at < tail.seq_num {
            true => Ok(PlannedStart::At(at.max(head.trim_point))),
            false => self.starting_at_tail().map(PlannedStart::At),
        }
    }

    fn starting_at_tail(&self) -> Result<SeqNum, OutOfRange> {
        match self.at_tail {
            AtTail::MayFollow => Ok(self.tail.seq_num),
            AtTail::Ends => Err(OutOfRange { tail: self.tail }),
        }
    }
}

fn unary_bounds(bounds: ReadBounds) -> ReadBounds {
    let clamped = |given: Option<u64>, most: usize| Some(given.unwrap_or(u64::MAX).min(most as u64));
    ReadBounds {
        count: clamped(bounds.count, MAX_BATCH_RECORDS),
        bytes: clamped(bounds.bytes, MAX_BATCH_METERED),
        until: bounds.until,
    }
}

fn unary_wait(wait: Option<Duration>) -> Duration {
    wait.unwrap_or_default().min(Duration::from_secs(MAX_UNARY_WAIT_SECS.into()))
}

fn session_wait(request: &ReadRequest) -> Option<Duration> {
    match request.bounds.is_unlimited() {
        true => request.wait,
        false => Some(request.wait.unwrap_or_default()),
    }
}

/// Whether a read goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a read that is done must end"]
pub enum Progress {
    /// More may come.
    More,
    /// A bound is met: the read ends, successfully, after what was just delivered.
    Done,
}

/// How much a read may still deliver: its bounds, less what it delivered (`data-plane.md` §7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Records; the largest value is no bound.
    count: u64,
    /// Metered bytes; the largest value is no bound.
    bytes: u64,
    until: Option<Timestamp>,
}

impl Remaining {
    /// All that `bounds` allow.
    pub fn new(bounds: ReadBounds) -> Self {
        let ReadBounds { count, bytes, until } = bounds;
        Self { count: count.unwrap_or(u64::MAX), bytes: bytes.unwrap_or(u64::MAX), until }
    }

    /// Records that may still be delivered.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Metered bytes that may still be delivered.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the bounds allow no record whatever it is.
    pub const fn is_exhausted(&self) -> bool {
        self.count == 0 || self.bytes == 0
    }

    /// Cuts `slice`, the next records of the read, down to what may be delivered, possibly nothing, and counts it.
    ///
    /// A record too large for `bytes` ends the read also when it is the first one.
    pub fn take(&mut self, slice: &mut BatchSlice) -> Progress {
        let cut = slice.cut(self.count, self.bytes, self.until);
        self.count -= slice.len() as u64;
        self.bytes -= slice.metered() as u64;
        match cut {
            Cut::Whole if !self.is_exhausted() => Progress::More,
            Cut::Whole | Cut::Short => Progress::Done,
        }
    }
}

#[cfg(test)]
mod tests;
