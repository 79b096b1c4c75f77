//! What is left of a read after part of it was delivered (`s2s.md` §7.6). Decisions only: time is a parameter.

use std::time::{Duration, Instant};

use super::ProtocolError;
use crate::types::{Position, ReadBounds, ReadRequest, ReadStart, SeqNum};

/// The least metered size of a record: a byte bound below this admits none.
const LEAST_RECORD: u64 = 8;

/// How far a read has come.
#[derive(Clone, Debug)]
pub struct ReadProgress {
    request: ReadRequest,
    /// What the bounds still admit.
    left: ReadBounds,
    /// The next record, once it is known: from a delivery or from the first heartbeat.
    next: Option<SeqNum>,
    /// Since when nothing was to be read: what `wait` is measured from (`s2s.md` §7.4).
    waiting_since: Option<Instant>,
}

impl ReadProgress {
    /// Nothing of `request` was delivered.
    pub fn new(request: ReadRequest) -> Self {
        Self { request, left: request.bounds, next: None, waiting_since: None }
    }

    /// `records` records from `first` on, without a gap, of `metered` bytes, have been handed over.
    ///
    /// Numbers may jump ahead between batches, where records were trimmed; they must not go back.
    pub fn delivered(
        &mut self,
        first: SeqNum,
        records: u64,
        metered: u64,
        tail: Option<Position>,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        self.check_order(first)?;
        let next = first.saturating_add(records);
        self.next = Some(next);
        self.left.count = self.left.count.map(|left| left.saturating_sub(records));
        self.left.bytes = self.left.bytes.map(|left| left.saturating_sub(metered));
        let at_tail = tail.is_some_and(|tail| tail.seq_num == next);
        if at_tail || self.waiting_since.is_some() {
            self.waiting_since = Some(now);
        }
        Ok(())
    }

    fn check_order(&self, first: SeqNum) -> Result<(), ProtocolError> {
        match self.next {
            Some(expected) if first < expected => Err(ProtocolError::ReadOrder { expected, found: first }),
            _ => Ok(()),
        }
    }

    /// A heartbeat said that the reader is at `tail`.
    pub fn heartbeat(&mut self, tail: Position, now: Instant) {
        // The position of a relative start is settled by the first heartbeat, so that records which come while the
        // connection is down are not skipped.
        self.next.get_or_insert(tail.seq_num);
        self.waiting_since.get_or_insert(now);
    }

    /// The next record that is due, if that is known.
    pub fn next(&self) -> Option<SeqNum> {
        self.next
    }

    /// The request that asks for the rest, or `None` if there is none.
    pub fn rest(&self, now: Instant) -> Option<ReadRequest> {
        if self.left.count == Some(0) || self.left.bytes.is_some_and(|bytes| bytes < LEAST_RECORD) {
            return self.next.is_none().then_some(self.request);
        }
        Some(ReadRequest {
            start: self.next.map_or(self.request.start, ReadStart::SeqNum),
            clamp: self.request.clamp,
            bounds: self.left,
            wait: self.wait_left(now)?,
        })
    }

    /// What is left to wait; `None` outside if the wait has run out.
    fn wait_left(&self, now: Instant) -> Option<Option<Duration>> {
        let (Some(wait), Some(since)) = (self.request.wait, self.waiting_since) else {
            return Some(self.request.wait);
        };
        let left = wait.saturating_sub(now.saturating_duration_since(since));
        (!left.is_zero() || wait.is_zero()).then_some(Some(left))
    }

    /// Whether a resumed read that was refused because it starts at `tail` is simply over: it had come there, and does
    /// not wait (`data-plane.md` §7.3).
    pub fn ends_at(&self, tail: Position) -> bool {
        self.next == Some(tail.seq_num)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Timestamp;

    const SECOND: Duration = Duration::from_secs(1);

    fn request(start: ReadStart) -> ReadRequest {
        ReadRequest { start, ..ReadRequest::default() }
    }

    fn seq(n: u64) -> SeqNum {
        SeqNum::new(n)
    }

    #[test]
    fn nothing_delivered_asks_the_same_again() {
        let now = Instant::now();
        for start in [ReadStart::SeqNum(seq(7)), ReadStart::Timestamp(Timestamp::new(9)), ReadStart::TailOffset(3)] {
            let asked = ReadRequest { clamp: true, wait: Some(SECOND), ..request(start) };
            assert_eq!(ReadProgress::new(asked).rest(now), Some(asked));
        }
    }

    #[test]
    fn deliveries_move_the_start_and_reduce_the_bounds() {
        let now = Instant::now();
        let bounds = ReadBounds { count: Some(10), bytes: Some(1000), until: Some(Timestamp::new(99)) };
        let asked = ReadRequest { bounds, clamp: true, ..request(ReadStart::TailOffset(5)) };
        let mut progress = ReadProgress::new(asked);
        progress.delivered(seq(40), 3, 300, None, now).unwrap();
        // A gap: records were trimmed meanwhile.
        progress.delivered(seq(50), 2, 100, None, now).unwrap();
        let bounds = ReadBounds { count: Some(5), bytes: Some(600), until: Some(Timestamp::new(99)) };
        let rest = ReadRequest { bounds, clamp: true, ..request(ReadStart::SeqNum(seq(52))) };
        assert_eq!(progress.rest(now), Some(rest));
    }

    #[test]
    fn a_bound_used_up_leaves_nothing() {
        let now = Instant::now();
        for bounds in [
            ReadBounds { count: Some(2), ..ReadBounds::default() },
            ReadBounds { bytes: Some(30), ..ReadBounds::default() },
            ReadBounds { bytes: Some(37), ..ReadBounds::default() },
        ] {
            let mut progress = ReadProgress::new(ReadRequest { bounds, ..ReadRequest::default() });
            progress.delivered(seq(0), 2, 30, None, now).unwrap();
            assert_eq!(progress.rest(now), None, "{bounds:?}");
        }
    }

    #[test]
    fn a_bound_of_nothing_is_still_asked_once() {
        let bounds = ReadBounds { count: Some(0), ..ReadBounds::default() };
        let asked = ReadRequest { bounds, ..ReadRequest::default() };
        assert_eq!(ReadProgress::new(asked).rest(Instant::now()), Some(asked));
    }

    #[test]
    fn the_first_heartbeat_settles_a_relative_start() {
        let now = Instant::now();
        for start in [ReadStart::TailOffset(0), ReadStart::Timestamp(Timestamp::new(5)), ReadStart::SeqNum(seq(99))] {
            let mut progress = ReadProgress::new(request(start));
            progress.heartbeat(Position::new(12, 1), now);
            assert_eq!(progress.rest(now).map(|rest| rest.start), Some(ReadStart::SeqNum(seq(12))));
        }
    }

    #[test]
    fn wait_runs_from_the_tail_and_records_restart_it() {
        let start = Instant::now();
        let at = |secs| start + SECOND * secs;
        let asked = ReadRequest { wait: Some(SECOND * 10), ..request(ReadStart::SeqNum(seq(0))) };
        let mut progress = ReadProgress::new(asked);
        let wait = |progress: &ReadProgress, secs| progress.rest(at(secs)).map(|rest| rest.wait.unwrap().as_secs());
        assert_eq!(wait(&progress, 100), Some(10), "catching up does not use it");
        progress.delivered(seq(0), 1, 8, None, at(100)).unwrap();
        assert_eq!(wait(&progress, 200), Some(10));
        progress.heartbeat(Position::new(1, 0), at(200));
        progress.heartbeat(Position::new(1, 0), at(204));
        assert_eq!(wait(&progress, 206), Some(4), "later heartbeats do not move it");
        progress.delivered(seq(1), 1, 8, Some(Position::new(2, 0)), at(208)).unwrap();
        assert_eq!(wait(&progress, 209), Some(9));
        assert_eq!(wait(&progress, 218), None, "it has run out: the read is over");
    }

    #[test]
    fn numbers_do_not_go_back() {
        let now = Instant::now();
        let mut progress = ReadProgress::new(request(ReadStart::SeqNum(seq(0))));
        progress.delivered(seq(0), 5, 40, None, now).unwrap();
        let repeated = progress.delivered(seq(4), 1, 8, None, now);
        assert_eq!(repeated, Err(ProtocolError::ReadOrder { expected: seq(5), found: seq(4) }));
    }

    #[test]
    fn a_refusal_at_the_tail_is_the_end_of_a_read_that_came_there() {
        let mut progress = ReadProgress::new(request(ReadStart::SeqNum(seq(0))));
        assert!(!progress.ends_at(Position::EMPTY), "nothing was delivered: the refusal is the answer");
        progress.delivered(seq(0), 5, 40, None, Instant::now()).unwrap();
        assert!(progress.ends_at(Position::new(5, 1)));
        assert!(!progress.ends_at(Position::new(4, 1)), "the stream was made anew");
    }
}
