//! The tables of `data-plane.md` §7.2–7.5 and §5.3, row by row, on a small stream.

use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::types::{Batch, testing};

/// The time of the last two records.
const T: u64 = 900;
const TIMES: [u64; 10] = [100, 200, 300, 400, 500, 600, 700, 800, T, T];

/// A stream with these records, in batches of three, of which the first ones may be trimmed.
struct Stream {
    head: Head,
    batches: Vec<Batch>,
}

impl Stream {
    fn new(times: &[u64], trimmed: u64) -> Self {
        let batches = times.chunks(3).zip(0..).map(|(times, i)| {
            let records: Vec<_> = times.iter().map(|time| ("12345", *time)).collect();
            testing::batch(3 * i, &records)
        });
        let tail = Position::new(times.len() as u64, times.last().copied().unwrap_or(0));
        let head = Head { tail, trim_point: SeqNum::new(trimmed), ..Head::default() };
        Self { head, batches: batches.filter(|batch| batch.end().seq_num > head.trim_point).collect() }
    }

    /// Ten records up to `T`.
    fn of_ten() -> Self {
        Self::new(&TIMES, 0)
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> Option<Position> {
        let mut slices = self.batches.iter().filter_map(|batch| batch.starting_at(from));
        slices.find_map(|slice| {
            let mut records = slice.records();
            let found = records.find(|record| record.timestamp >= timestamp)?;
            Some(Position { seq_num: found.seq_num, timestamp: found.timestamp })
        })
    }

    /// Reads as a service would, up to the tail.
    fn read(&self, request: &ReadRequest, mode: ReadMode) -> Outcome {
        match self.try_read(request, mode) {
            Ok(outcome) => outcome,
            Err(out_of_range) => {
                assert_eq!(out_of_range, OutOfRange { tail: self.head.tail });
                OutOfRangeAnswer
            }
        }
    }

    fn try_read(&self, request: &ReadRequest, mode: ReadMode) -> Result<Outcome, OutOfRange> {
        let mut plan = ReadPlan::new(request, mode, &self.head)?;
        let start = match plan.start() {
            PlannedStart::Nothing => return Ok(Ends(0..0)),
            PlannedStart::At(start) => start,
            PlannedStart::Seek { from, timestamp } => plan.sought(self.seek(from, timestamp))?,
        };
        assert!(start >= self.head.trim_point, "nothing is read that was trimmed");
        let (range, progress) = self.stored(start, plan.limits());
        let answered = mode == ReadMode::Unary && !range.is_empty();
        Ok(match (progress, plan.wait()) {
            (Progress::Done, _) => Ends(range),
            (Progress::More, _) if answered => Ends(range),
            (Progress::More, Some(Duration::ZERO)) => Ends(range),
            (Progress::More, Some(wait)) => Waits(range, wait.as_secs()),
            (Progress::More, None) => Follows(range),
        })
    }

    /// What of the stored records from `start` on the limits allow, and whether they let it go on at the tail.
    fn stored(&self, start: SeqNum, mut limits: Remaining) -> (Range<u64>, Progress) {
        let mut end = start;
        for mut slice in self.batches.iter().filter_map(|batch| batch.starting_at(start)) {
            let progress = limits.take(&mut slice);
            end = slice.end_seq_num().max(end);
            if progress == Progress::Done {
                return (start.get()..end.get(), progress);
            }
        }
        (start.get()..end.get(), Progress::More)
    }
}

/// What a client sees, with the numbers of the records it gets at once.
#[derive(Debug)]
enum Outcome {
    /// 416.
    OutOfRangeAnswer,
    /// 200, and nothing after these records.
    Ends(Range<u64>),
    /// 200, and after these records it waits for more, this many seconds.
    Waits(Range<u64>, u64),
    /// 200, and after these records it follows for ever.
    Follows(Range<u64>),
}

use Outcome::*;

impl PartialEq for Outcome {
    /// An empty range is nothing, wherever it lies.
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &Range<u64>, b: &Range<u64>| a == b || a.is_empty() && b.is_empty();
        match (self, other) {
            (OutOfRangeAnswer, OutOfRangeAnswer) => true,
            (Ends(a), Ends(b)) | (Follows(a), Follows(b)) => same(a, b),
            (Waits(a, n), Waits(b, m)) => n == m && same(a, b),
            _ => false,
        }
    }
}

const EMPTY: Range<u64> = 0..0;

/// The request that this query asks for; `T` is the time of the last record, and may have something added to it.
fn request(query: &str) -> ReadRequest {
    let mut request = ReadRequest::default();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap();
        let number = || match value.strip_prefix('T') {
            Some("") => T,
            Some(more) => T + more.parse::<u64>().unwrap(),
            None => value.parse().unwrap(),
        };
        match name {
            "seq_num" => request.start = ReadStart::SeqNum(SeqNum::new(number())),
            "timestamp" => request.start = ReadStart::Timestamp(Timestamp::new(number())),
            "tail_offset" => request.start = ReadStart::TailOffset(number()),
            "clamp" => request.clamp = value == "true",
            "count" => request.bounds.count = Some(number()),
            "bytes" => request.bounds.bytes = Some(number()),
            "until" => request.bounds.until = Some(Timestamp::new(number())),
            "wait" => request.wait = Some(Duration::from_secs(number())),
            _ => panic!("no such parameter: {name}"),
        }
    }
    request
}

fn check(stream: &Stream, rows: impl IntoIterator<Item = (ReadMode, &'static str, Outcome)>) {
    for (mode, query, expected) in rows {
        assert_eq!(stream.read(&request(query), mode), expected, "{mode:?} {query:?}");
    }
}

use ReadMode::{Session, Unary};

#[test]
fn starts_of_the_contract() {
    // data-plane.md §7.3, second table, in its order.
    check(
        &Stream::of_ten(),
        [
            (Unary, "", OutOfRangeAnswer),
            (Unary, "seq_num=0", Ends(0..10)),
            (Unary, "seq_num=10", OutOfRangeAnswer),
            (Unary, "seq_num=10&clamp=true", OutOfRangeAnswer),
            (Unary, "seq_num=999&clamp=true&wait=5", Waits(EMPTY, 5)),
            (Unary, "seq_num=11&wait=5", OutOfRangeAnswer),
            (Unary, "seq_num=10&wait=5", Waits(EMPTY, 5)),
            (Unary, "tail_offset=3", Ends(7..10)),
            (Unary, "tail_offset=100", Ends(0..10)),
            (Unary, "timestamp=T", Ends(8..10)),
            (Unary, "timestamp=T+1", OutOfRangeAnswer),
            (Session, "seq_num=10", Follows(EMPTY)),
            (Session, "seq_num=10&count=5", OutOfRangeAnswer),
            (Session, "seq_num=10&count=5&wait=1", Waits(EMPTY, 1)),
            (Session, "seq_num=11", OutOfRangeAnswer),
            (Session, "seq_num=11&clamp=true", Follows(EMPTY)),
            (Session, "seq_num=10&wait=0", Ends(EMPTY)),
            (Unary, "seq_num=5&until=1", Ends(EMPTY)),
        ],
    );
    check(
        &Stream::new(&[], 0),
        [
            (Unary, "seq_num=0", OutOfRangeAnswer),
            (Session, "seq_num=0", Follows(EMPTY)),
            (Unary, "timestamp=0", OutOfRangeAnswer),
            (Session, "timestamp=0", Follows(EMPTY)),
            (Session, "timestamp=1", OutOfRangeAnswer),
            (Session, "timestamp=1&clamp=true", Follows(EMPTY)),
            (Unary, "tail_offset=7", OutOfRangeAnswer),
        ],
    );
}

#[test]
fn no_record_at_all_is_in_range_anywhere() {
    // data-plane.md §7.2, rule 1.
    for stream in [Stream::of_ten(), Stream::new(&[], 0)] {
        for mode in [Unary, Session] {
            for start in ["", "seq_num=0", "seq_num=999", "timestamp=T+1", "tail_offset=0"] {
                for bound in ["count=0", "bytes=0", "count=0&bytes=0", "count=0&wait=5", "bytes=0&count=3"] {
                    let query = format!("{start}&{bound}");
                    let plan = ReadPlan::new(&request(&query), mode, &stream.head).unwrap();
                    assert_eq!(plan.start(), PlannedStart::Nothing, "{mode:?} {query:?}");
                }
            }
        }
    }
}

#[test]
fn resolution_of_the_contract() {
    // data-plane.md §7.2, rules 2 to 5.
    check(
        &Stream::of_ten(),
        [
            (Session, "tail_offset=3", Follows(7..10)),
            (Session, "tail_offset=11", Follows(0..10)),
            (Session, "timestamp=0", Follows(0..10)),
            (Session, "timestamp=300", Follows(2..10)),
            (Session, "timestamp=301", Follows(3..10)),
            (Session, "timestamp=T", Follows(8..10)),
            (Session, "timestamp=T+1", OutOfRangeAnswer),
            (Session, "timestamp=T+1&clamp=true", Follows(EMPTY)),
            (Unary, "timestamp=T+1&clamp=true", OutOfRangeAnswer),
            (Unary, "timestamp=T+1&clamp=true&wait=3", Waits(EMPTY, 3)),
            (Unary, "seq_num=9&clamp=true", Ends(9..10)),
            (Unary, "timestamp=300&clamp=true", Ends(2..10)),
            (Session, "seq_num=999&clamp=true&count=5", OutOfRangeAnswer),
            (Session, "seq_num=18446744073709551615", OutOfRangeAnswer),
            (Session, "tail_offset=18446744073709551615", Follows(0..10)),
        ],
    );
}

#[test]
fn who_may_not_follow_is_out_of_range_at_the_tail() {
    // data-plane.md §7.3, first table.
    let bounded = ["count=5", "bytes=100", "until=2000", "count=5&wait=0", "until=2000&bytes=9&wait=0"];
    let at_the_tail = ["seq_num=10", "seq_num=11", "timestamp=T+1", "tail_offset=0", ""];
    for clamp in ["clamp=true", "clamp=false"] {
        for start in at_the_tail {
            for bound in bounded {
                let query = format!("{start}&{bound}&{clamp}");
                assert_eq!(Stream::of_ten().read(&request(&query), Session), OutOfRangeAnswer, "{query}");
            }
        }
    }
    check(
        &Stream::of_ten(),
        [
            (Session, "seq_num=10&until=2000&wait=1", Waits(EMPTY, 1)),
            (Session, "seq_num=10&bytes=100&wait=1", Waits(EMPTY, 1)),
            (Session, "seq_num=11&count=5&wait=1", OutOfRangeAnswer),
            (Session, "timestamp=T+1&count=5&wait=1", OutOfRangeAnswer),
            (Session, "timestamp=T+1&count=5&wait=1&clamp=true", Waits(EMPTY, 1)),
            (Session, "tail_offset=0&count=5&wait=1", Waits(EMPTY, 1)),
        ],
    );
}

#[test]
fn removed_records_are_passed_over() {
    // data-plane.md §5.3.
    check(
        &Stream::new(&TIMES, 4),
        [
            (Unary, "seq_num=0", Ends(4..10)),
            (Unary, "seq_num=3", Ends(4..10)),
            (Unary, "seq_num=5", Ends(5..10)),
            (Unary, "tail_offset=100", Ends(4..10)),
            (Unary, "timestamp=100", Ends(4..10)),
            (Session, "seq_num=0&count=2", Ends(4..6)),
        ],
    );
    check(
        &Stream::new(&TIMES, 10),
        [
            (Unary, "seq_num=3", Ends(EMPTY)),
            (Unary, "tail_offset=3", Ends(EMPTY)),
            (Unary, "seq_num=10", OutOfRangeAnswer),
            (Unary, "timestamp=300", OutOfRangeAnswer),
            (Unary, "seq_num=3&wait=5", Waits(EMPTY, 5)),
            (Unary, "timestamp=300&wait=5", Waits(EMPTY, 5)),
            (Session, "seq_num=3", Follows(EMPTY)),
            (Session, "timestamp=300", Follows(EMPTY)),
            (Session, "seq_num=3&count=5", Ends(EMPTY)),
            (Session, "seq_num=3&count=5&wait=2", Waits(EMPTY, 2)),
        ],
    );
}

#[test]
fn bounds_of_the_contract() {
    // data-plane.md §7.4; every record is of 13 metered bytes.
    check(
        &Stream::of_ten(),
        [
            (Session, "seq_num=0&count=4&wait=9", Ends(0..4)),
            (Session, "seq_num=0&count=10&wait=9", Ends(0..10)),
            (Session, "seq_num=0&count=11&wait=9", Waits(0..10, 9)),
            (Session, "seq_num=0&count=11", Ends(0..10)),
            (Session, "seq_num=0&bytes=26&wait=9", Ends(0..2)),
            (Session, "seq_num=0&bytes=38&wait=9", Ends(0..2)),
            (Session, "seq_num=0&bytes=39&wait=9", Ends(0..3)),
            (Session, "seq_num=0&bytes=130&wait=9", Ends(0..10)),
            (Session, "seq_num=0&bytes=131&wait=9", Waits(0..10, 9)),
            (Session, "seq_num=0&bytes=5", Ends(EMPTY)),
            (Unary, "seq_num=0&bytes=5&wait=9", Ends(EMPTY)),
            (Session, "seq_num=0&until=300", Ends(0..2)),
            (Session, "seq_num=0&until=301", Ends(0..3)),
            (Session, "seq_num=0&until=T&wait=9", Ends(0..8)),
            (Session, "seq_num=0&until=T+1&wait=9", Waits(0..10, 9)),
            (Session, "seq_num=0&until=600&count=9&bytes=40", Ends(0..3)),
            (Unary, "seq_num=0&wait=9", Ends(0..10)),
        ],
    );
}

#[test]
fn waits_of_the_contract() {
    // data-plane.md §7.5 and the clamping of §7.1.
    let rows = [
        (Unary, "seq_num=0", Some(0)),
        (Unary, "seq_num=0&wait=60", Some(60)),
        (Unary, "seq_num=0&wait=61", Some(60)),
        (Session, "seq_num=0&count=1", Some(0)),
        (Session, "seq_num=0&bytes=1", Some(0)),
        (Session, "seq_num=0&until=1", Some(0)),
        (Session, "seq_num=0&until=1&wait=4000000000", Some(4_000_000_000)),
        (Session, "seq_num=0", None),
        (Session, "seq_num=0&wait=61", Some(61)),
        (Session, "seq_num=0&wait=0", Some(0)),
    ];
    for (mode, query, seconds) in rows {
        let plan = ReadPlan::new(&request(query), mode, &Stream::of_ten().head).unwrap();
        assert_eq!(plan.wait(), seconds.map(Duration::from_secs), "{mode:?} {query:?}");
    }
}

#[test]
fn may_follow_as_the_contract_defines_it() {
    let rows = [
        (Unary, "wait=1", true),
        (Session, "", true),
        (Session, "wait=0", true),
        (Session, "count=1&wait=1", true),
        (Session, "seq_num=0&count=1", false),
        (Unary, "seq_num=0", false),
    ];
    for (mode, query, expected) in rows {
        let plan = ReadPlan::new(&request(query), mode, &Stream::of_ten().head).unwrap();
        assert_eq!(plan.may_follow(), expected, "{mode:?} {query:?}");
    }
}

#[test]
fn unary_reads_are_clamped() {
    let rows = [
        ("", 1000, 1_048_576),
        ("count=1001&bytes=1048577", 1000, 1_048_576),
        ("count=999&bytes=1048575", 999, 1_048_575),
    ];
    for (bounds, count, bytes) in rows {
        let request = request(&format!("seq_num=0&{bounds}"));
        let plan = ReadPlan::new(&request, Unary, &Stream::of_ten().head).unwrap();
        assert_eq!((plan.limits().count(), plan.limits().bytes()), (count, bytes), "{bounds}");
        assert!(!plan.is_unlimited(), "{bounds}");
    }
    let session = ReadPlan::new(&request("seq_num=0&count=1001"), Session, &Stream::of_ten().head).unwrap();
    assert_eq!(session.limits().count(), 1001);
}

#[test]
fn a_record_found_is_the_start_also_where_the_tail_was() {
    // It was appended between planning and looking.
    let mut plan = ReadPlan::new(&request("timestamp=T"), Unary, &Stream::of_ten().head).unwrap();
    assert_eq!(plan.sought(Some(Position::new(10, T))), Ok(SeqNum::new(10)));
    assert_eq!(plan.start(), PlannedStart::At(SeqNum::new(10)));
}

proptest! {
    /// However the records are split into batches and where the read begins in them, it gets the same records.
    #[test]
    fn bounds_hold_across_batches(
        bodies in prop::collection::vec(0usize..30, 1..40),
        batch_len in 1usize..10,
        count in prop::option::of(0u64..50),
        bytes in prop::option::of(0u64..900),
        until in prop::option::of(0u64..50),
    ) {
        let body = "x".repeat(30);
        let records: Vec<_> = bodies.iter().zip(0..).map(|(len, time)| (&body[..*len], time)).collect();
        let batches = records.chunks(batch_len).zip((0..).step_by(batch_len));

        let mut limits = Remaining::new(ReadBounds { count, bytes, until: until.map(Timestamp::new) });
        let (mut taken, mut progress) = (0, Progress::More);
        for (records, first) in batches {
            if progress == Progress::More && !limits.is_exhausted() {
                let mut slice = testing::batch(first, records).whole();
                progress = limits.take(&mut slice);
                taken += slice.len();
            }
        }

        let metered = |records: usize| bodies[..records].iter().map(|len| 8 + *len as u64).sum::<u64>();
        let allowed = |records: &usize| {
            *records as u64 <= count.unwrap_or(u64::MAX)
                && metered(*records) <= bytes.unwrap_or(u64::MAX)
                && *records as u64 <= until.unwrap_or(u64::MAX)
        };
        prop_assert_eq!(taken, (0..=bodies.len()).rev().find(allowed).unwrap());
        let exhausted = Some(taken as u64) == count || Some(metered(taken)) == bytes;
        let done = progress == Progress::Done || limits.is_exhausted();
        prop_assert_eq!(done, taken < bodies.len() || exhausted);
    }
}
