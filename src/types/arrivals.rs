//! When the records of a stream arrived, as closely as keeping them for a time needs it (`data-plane.md` §5.2).
//!
//! Records have timestamps, but those may be the client's and lie in either direction. So the service notes arrivals
//! itself, in marks that grow coarser the longer records are kept:
//!
//! ```text
//!   records   0 …………… 41 │ 42 ……… 99 │ 100 …………… 512 │
//!   marks                 09:00         09:05            09:11
//! ```
//!
//! A mark says: everything before this record had arrived by then. Whatever is forgotten or merged makes records younger
//! than they are, never older: they are removed late, and not early.

use std::collections::VecDeque;

use super::{RetentionPolicy, SeqNum, Timestamp};

/// All records before `end` had arrived by `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrivalMark {
    /// Milliseconds since the Unix epoch, by the service's clock.
    pub at: Timestamp,
    /// The record after the last one that the mark is about.
    pub end: SeqNum,
}

/// The arrivals of a stream's records, and what became of those that grew too old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// Ascending in both.
    marks: VecDeque<ArrivalMark>,
    /// Arrivals before this time still go into the last mark.
    last_mark_until: Timestamp,
    removed_to: SeqNum,
    changed_at: Timestamp,
}

/// Marks beyond this number are merged.
const MAX_MARKS: usize = 512;

/// Marks for the time that records are kept: each is removed late by at most this part of it.
const MARKS_PER_AGE: u64 = 256;

/// Milliseconds between marks, at least and at most.
const RESOLUTION: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;

impl Arrivals {
    /// Of a stream made at `created_at` that never had a record.
    pub fn new(created_at: Timestamp) -> Self {
        Self {
            marks: VecDeque::new(),
            last_mark_until: Timestamp::default(),
            removed_to: SeqNum::FIRST,
            changed_at: created_at,
        }
    }

    /// Of what was kept of a stream's arrivals; `None` if the marks are not in order.
    pub fn of_marks(
        marks: impl IntoIterator<Item = ArrivalMark>,
        removed_to: SeqNum,
        changed_at: Timestamp,
    ) -> Option<Self> {
        let marks: VecDeque<_> = marks.into_iter().collect();
        let ascending = marks.iter().zip(marks.iter().skip(1)).all(|(a, b)| a.at <= b.at && a.end < b.end);
        ascending.then_some(Self { marks, last_mark_until: Timestamp::default(), removed_to, changed_at })
    }

    /// The marks, in order.
    pub fn marks(&self) -> impl ExactSizeIterator<Item = ArrivalMark> {
        self.marks.iter().copied()
    }

    /// The latest mark.
    pub fn latest(&self) -> Option<ArrivalMark> {
        self.marks.back().copied()
    }

    /// Records before this one were removed for their age.
    pub fn removed_to(&self) -> SeqNum {
        self.removed_to
    }

    /// When the stream last got a record or lost one for its age; its creation if neither happened.
    pub fn changed_at(&self) -> Timestamp {
        self.changed_at
    }

    /// Milliseconds between the marks of a stream with this policy.
    pub fn resolution(policy: RetentionPolicy) -> u64 {
        let (least, most) = RESOLUTION.into_inner();
        match policy {
            RetentionPolicy::Age(seconds) => (milliseconds(seconds.get()) / MARKS_PER_AGE).clamp(least, most),
            // Kept for ever, until the policy is another one.
            RetentionPolicy::Infinite => most,
        }
    }

    /// The records up to `end` arrived at `at`. Marks are made `resolution` milliseconds apart.
    ///
    /// A clock that was set back does not make later records older than earlier ones: until it has caught up, they
    /// arrive at the latest time that was seen. (To believe it and make the earlier ones older as well would lose records
    /// early when the clock is set right again.)
    pub fn note(&mut self, at: Timestamp, end: SeqNum, resolution: u64) {
        self.changed_at = self.changed_at.max(at);
        match self.marks.back_mut() {
            // Another process noted them, and more.
            Some(last) if end <= last.end => {}
            Some(last) if at < self.last_mark_until || at <= last.at => {
                *last = ArrivalMark { at: last.at.max(at), end: last.end.max(end) };
            }
            _ => {
                self.marks.push_back(ArrivalMark { at, end });
                self.last_mark_until = Timestamp::new(at.get().saturating_add(resolution));
                self.thin_out();
            }
        }
    }

    /// Makes the marks fit a log that was found at `now` with its tail at `tail`: records that no mark is about are taken
    /// to arrive now, and marks beyond the tail are of records that never became durable.
    pub fn fit(&mut self, tail: SeqNum, now: Timestamp, resolution: u64) {
        while self.marks.back().is_some_and(|mark| mark.end > tail) {
            self.marks.pop_back();
        }
        self.removed_to = self.removed_to.min(tail);
        self.last_mark_until = Timestamp::default();
        if self.latest().map_or(SeqNum::FIRST, |latest| latest.end) < tail {
            self.note(now, tail, resolution);
        }
    }

    /// Adds what another process noted of the same records. What either says is true, by its clock.
    pub fn merge(&mut self, other: &Self) {
        let mut all: Vec<_> = self.marks.iter().chain(&other.marks).copied().collect();
        all.sort_by_key(|mark| (mark.at, std::cmp::Reverse(mark.end)));
        self.marks.clear();
        for mark in all {
            // One that reaches no further than an earlier one says nothing new.
            if self.marks.back().is_none_or(|last| last.end < mark.end) {
                self.marks.push_back(mark);
            }
        }
        self.removed_to = self.removed_to.max(other.removed_to);
        self.changed_at = self.changed_at.max(other.changed_at);
        self.last_mark_until = self.last_mark_until.max(self.latest().map_or(Timestamp::default(), |last| last.at));
        while self.marks.len() > 1 && self.marks[0].end <= self.removed_to {
            self.marks.pop_front();
        }
        self.thin_out();
    }

    /// Records before this one are, at `now`, older than `policy` keeps them.
    pub fn expired_to(&self, policy: RetentionPolicy, now: Timestamp) -> SeqNum {
        let RetentionPolicy::Age(seconds) = policy else { return self.removed_to };
        let Some(cutoff) = now.get().checked_sub(milliseconds(seconds.get())) else { return self.removed_to };
        let expired = self.marks.partition_point(|mark| mark.at.get() <= cutoff);
        let end = expired.checked_sub(1).map_or(SeqNum::FIRST, |last| self.marks[last].end);
        end.max(self.removed_to)
    }

    /// Records before `to` are removed at `now` for their age.
    pub fn remove_to(&mut self, to: SeqNum, now: Timestamp) {
        if to <= self.removed_to {
            return;
        }
        self.removed_to = to;
        self.changed_at = self.changed_at.max(now);
        // The last mark stays, and with it how far the marks reach.
        while self.marks.len() > 1 && self.marks[0].end <= to {
            self.marks.pop_front();
        }
    }

    /// Whether, at `now`, nothing has changed for `seconds`.
    pub fn unchanged_for(&self, seconds: u64, now: Timestamp) -> bool {
        self.changed_at.get().saturating_add(milliseconds(seconds)) <= now.get()
    }

    /// Merges pairs of marks into the later one of each, when there are too many.
    fn thin_out(&mut self) {
        if self.marks.len() > MAX_MARKS {
            let mut place = self.marks.len();
            self.marks.retain(|_| {
                place -= 1;
                place.is_multiple_of(2)
            });
        }
    }
}

const fn milliseconds(seconds: u64) -> u64 {
    seconds.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::new(ms)
    }

    fn number(seq_num: u64) -> SeqNum {
        SeqNum::new(seq_num)
    }

    fn age(seconds: u64) -> RetentionPolicy {
        RetentionPolicy::Age(NonZeroU64::new(seconds).unwrap())
    }

    fn noted(arrivals: &[(u64, u64)]) -> Arrivals {
        let mut noted = Arrivals::new(at(0));
        arrivals.iter().for_each(|&(ms, end)| noted.note(at(ms), number(end), 1000));
        noted
    }

    fn marks(arrivals: &Arrivals) -> Vec<(u64, u64)> {
        arrivals.marks().map(|mark| (mark.at.get(), mark.end.get())).collect()
    }

    #[test]
    fn marks_are_a_resolution_apart_and_tell_the_latest_arrival() {
        let arrivals = noted(&[(5000, 1), (5400, 3), (5999, 4), (6000, 5), (9000, 9)]);
        assert_eq!(marks(&arrivals), [(5999, 4), (6000, 5), (9000, 9)]);
        assert_eq!(arrivals.changed_at(), at(9000));
    }

    #[test]
    fn records_expire_when_the_youngest_of_their_mark_has_the_age() {
        let arrivals = noted(&[(5000, 1), (5999, 4), (9000, 9)]);
        for (now, expected) in [(5000, 0), (15_998, 0), (15_999, 4), (18_999, 4), (19_000, 9), (u64::MAX, 9)] {
            assert_eq!(arrivals.expired_to(age(10), at(now)), number(expected), "at {now}");
        }
        assert_eq!(arrivals.expired_to(RetentionPolicy::Infinite, at(u64::MAX)), number(0));
        assert_eq!(arrivals.expired_to(age(u64::MAX), at(u64::MAX - 1)), number(0));
    }

    #[test]
    fn what_was_removed_stays_removed_whatever_the_policy() {
        let mut arrivals = noted(&[(5000, 1), (7000, 4), (9000, 9)]);
        arrivals.remove_to(number(4), at(20_000));
        assert_eq!((marks(&arrivals), arrivals.changed_at()), (vec![(9000, 9)], at(20_000)));
        assert_eq!(arrivals.expired_to(RetentionPolicy::Infinite, at(30_000)), number(4));
        arrivals.remove_to(number(9), at(30_000));
        assert_eq!(marks(&arrivals), [(9000, 9)], "it says how far the marks reach");
        arrivals.remove_to(number(2), at(40_000));
        assert_eq!((arrivals.removed_to(), arrivals.changed_at()), (number(9), at(30_000)));
    }

    #[test]
    fn a_clock_set_back_makes_nothing_older() {
        let arrivals = noted(&[(50_000, 1), (1000, 2), (2000, 3), (60_000, 4)]);
        assert_eq!(marks(&arrivals), [(50_000, 3), (60_000, 4)]);
        assert_eq!(arrivals.changed_at(), at(60_000));
    }

    #[test]
    fn records_of_unknown_arrival_arrive_when_they_are_found() {
        let mut arrivals = noted(&[(5000, 1), (7000, 4)]);
        arrivals.fit(number(4), at(9000), 1000);
        assert_eq!(marks(&arrivals), [(5000, 1), (7000, 4)]);
        arrivals.fit(number(6), at(9000), 1000);
        assert_eq!(marks(&arrivals), [(5000, 1), (7000, 4), (9000, 6)]);
        arrivals.fit(number(5), at(9500), 1000);
        assert_eq!(marks(&arrivals), [(5000, 1), (7000, 4), (9500, 5)], "what was not durable never arrived");
        let mut unwritten = Arrivals::new(at(3));
        unwritten.fit(number(0), at(9000), 1000);
        assert_eq!(unwritten, Arrivals::new(at(3)));
    }

    #[test]
    fn what_two_processes_noted_is_put_together() {
        let mut arrivals = noted(&[(5000, 1), (7000, 4), (9000, 9)]);
        let mut other = noted(&[(5500, 3), (7000, 6), (9500, 9), (9900, 12)]);
        other.remove_to(number(1), at(9950));
        arrivals.merge(&other);
        assert_eq!(marks(&arrivals), [(5500, 3), (7000, 6), (9000, 9), (9900, 12)]);
        assert_eq!((arrivals.removed_to(), arrivals.changed_at()), (number(1), at(9950)));
        arrivals.note(at(20_000), number(10), 1000);
        assert_eq!(arrivals.latest().map(|mark| mark.end), Some(number(12)), "not noted a second time");
        arrivals.note(at(21_000), number(13), 1000);
        assert_eq!(arrivals.latest(), Some(ArrivalMark { at: at(21_000), end: number(13) }));
    }

    #[test]
    fn there_are_never_too_many_marks() {
        let all: Vec<_> = (0..5000).map(|i| (i * 1000, i + 1)).collect();
        let arrivals = noted(&all);
        assert!((MAX_MARKS / 2..=MAX_MARKS).contains(&arrivals.marks().len()));
        assert_eq!(arrivals.latest().unwrap().end, number(5000));
    }

    #[test]
    fn the_resolution_follows_the_age() {
        for (policy, expected) in [
            (age(1), 1000),
            (age(3600), 14_062),
            (age(604_800), 2_362_500),
            (age(u64::MAX), 3_600_000),
            (RetentionPolicy::Infinite, 3_600_000),
        ] {
            assert_eq!(Arrivals::resolution(policy), expected, "{policy:?}");
        }
    }

    proptest! {
        /// No record is ever taken for older than it is, whatever is merged, kept away for a while and found again.
        #[test]
        fn nothing_expires_early(
            steps in prop::collection::vec((0u64..5_000, 1u64..4, 0u8..8), 1..1500),
            seconds in 1u64..600,
            later in 0u64..1_000_000,
        ) {
            let policy = age(seconds);
            let mut arrivals = Arrivals::new(at(0));
            let (mut now, mut end, mut arrived) = (0, 0, Vec::new());
            for (passed, records, event) in steps {
                now += passed;
                end += records;
                arrived.extend(std::iter::repeat_n(now, records as usize));
                match event {
                    0 => {
                        let kept = Arrivals::of_marks(arrivals.marks(), arrivals.removed_to(), arrivals.changed_at());
                        arrivals = kept.expect("marks are in order");
                        arrivals.fit(number(end), at(now), Arrivals::resolution(policy));
                    }
                    1 => {
                        arrivals.note(at(now), number(end), Arrivals::resolution(policy));
                        arrivals.remove_to(arrivals.expired_to(policy, at(now)), at(now));
                    }
                    _ => arrivals.note(at(now), number(end), Arrivals::resolution(policy)),
                }
            }
            let now = now + later;
            let expired = arrivals.expired_to(policy, at(now)).get() as usize;
            prop_assert!(arrived[..expired].iter().all(|at| at + seconds * 1000 <= now));
        }
    }
}
