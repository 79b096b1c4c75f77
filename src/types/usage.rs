//! Usage metrics as values: what can be asked for, over which time, and what the answer is made of (`control-plane.md` §8).
//!
//! Times are seconds since the Unix epoch, as they travel; the time of day comes in as an argument. How usage is counted
//! and kept is not known here.

use super::Timestamp;

/// Which connection a request came over, unique in the process: some operations count once a minute and connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The connection with this number, which no other connection has.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// A time of day in seconds since the epoch; the clock is taken to stand still after 2106.
pub fn epoch_seconds(time: Timestamp) -> u32 {
    u32::try_from(time.get() / 1000).unwrap_or(u32::MAX)
}

/// How long a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interval {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours, from midnight UTC.
    Day,
}

impl Interval {
    /// Every interval.
    pub const ALL: &[Interval] = &[Interval::Minute, Interval::Hour, Interval::Day];

    /// As it travels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Interval::Minute => "minute",
            Interval::Hour => "hour",
            Interval::Day => "day",
        }
    }

    /// The interval that travels as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|interval| interval.as_str() == text)
    }

    /// Its length.
    pub const fn seconds(self) -> u32 {
        match self {
            Interval::Minute => 60,
            Interval::Hour => 3600,
            Interval::Day => 86_400,
        }
    }

    /// Where the bucket that `time` lies in begins.
    pub const fn start_of(self, time: u32) -> u32 {
        time - time % self.seconds()
    }
}

/// The sets of metrics that one level has.
pub trait MetricSet: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// As it travels.
    fn as_str(self) -> &'static str;

    /// The intervals it can be asked for, the default first; none if its answer has no buckets (`control-plane.md` §8.2).
    fn intervals(self) -> &'static [Interval];

    /// The set that travels as `text`.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|set| set.as_str() == text)
    }
}

macro_rules! metric_sets {
    ($(#[$doc:meta])* $level:ident: $($(#[$set_doc:meta])* $set:ident = $text:literal [$($interval:ident)*];)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $level { $($(#[$set_doc])* $set,)* }

        impl MetricSet for $level {
            const ALL: &'static [Self] = &[$($level::$set,)*];

            fn as_str(self) -> &'static str {
                match self { $($level::$set => $text,)* }
            }

            fn intervals(self) -> &'static [Interval] {
                match self { $($level::$set => &[$(Interval::$interval,)*],)* }
            }
        }
    };
}

metric_sets! {
    /// Of the account.
    AccountMetricSet:
    /// The names of the basins that had a stream.
    ActiveBasins = "active-basins" [];
    /// Requests at the level of the account, by operation.
    AccountOps = "account-ops" [Hour Minute Day];
    /// What the use costs, which is nothing.
    EstimatedBillableUsage = "estimated-billable-usage" [Hour Day];
}

metric_sets! {
    /// Of a basin.
    BasinMetricSet:
    /// Bytes stored in all its streams.
    Storage = "storage" [Hour];
    /// Appends, by storage class.
    AppendOps = "append-ops" [Minute Hour Day];
    /// Reads, unary and streaming.
    ReadOps = "read-ops" [Minute Hour Day];
    /// Bytes read.
    ReadThroughput = "read-throughput" [Minute Hour Day];
    /// Bytes appended, by storage class.
    AppendThroughput = "append-throughput" [Minute Hour Day];
    /// Requests that manage streams, by operation.
    BasinOps = "basin-ops" [Hour Minute Day];
}

metric_sets! {
    /// Of a stream.
    StreamMetricSet:
    /// Bytes stored.
    Storage = "storage" [Minute];
}

/// From when to when, in epoch seconds; the end is not before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// Where it begins.
    pub start: u32,
    /// Where it ends; the bucket that begins here is not part of it.
    pub end: u32,
}

impl TimeRange {
    /// Where the buckets begin that the range touches, in order.
    pub fn buckets(self, interval: Interval) -> impl Iterator<Item = u32> + Clone {
        (interval.start_of(self.start)..self.end).step_by(interval.seconds() as usize)
    }
}

/// What limits a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeLimits {
    /// The time of day.
    pub now: u32,
    /// Seconds that a range may span at most.
    pub max_span: u32,
}

/// Seconds by which the end of a range may lie ahead: clocks differ (`control-plane.md` §8.1).
pub const RANGE_LEEWAY: u32 = 60;

/// Why a question about usage cannot be answered (422 `invalid`; `control-plane.md` §8.1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricQueryError {
    /// The range is not given, or not all of it.
    #[error("start and end params required for {set}")]
    RangeMissing {
        /// The set asked for.
        set: &'static str,
    },
    /// The range ends before it starts.
    #[error("start {start} must not be after end {end}")]
    StartAfterEnd {
        /// Its start.
        start: u32,
        /// Its end.
        end: u32,
    },
    /// The range ends too far in the future.
    #[error("end {end} must not be more than {RANGE_LEEWAY} seconds in the future")]
    EndAhead {
        /// Its end.
        end: u32,
    },
    /// The range is too long.
    #[error("the time range must not span more than {max_span} seconds")]
    TooLong {
        /// What it may span.
        max_span: u32,
    },
    /// The set is not kept by such intervals.
    #[error("{set} does not come by {}", .interval.as_str())]
    Interval {
        /// The set asked for.
        set: &'static str,
        /// The interval asked for.
        interval: Interval,
    },
}

/// A question about usage that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricQuery<S> {
    /// About what.
    pub set: S,
    /// From when to when.
    pub range: TimeRange,
    /// By which intervals. Nothing where the set has no buckets.
    pub interval: Option<Interval>,
}

impl<S: MetricSet> MetricQuery<S> {
    /// Checks what was asked for against `limits` and the rules of the set (`control-plane.md` §8.1, §8.2).
    ///
    /// An interval for a set without buckets is passed over.
    pub fn new(
        set: S,
        start: Option<u32>,
        end: Option<u32>,
        interval: Option<Interval>,
        limits: RangeLimits,
    ) -> Result<Self, MetricQueryError> {
        let (Some(start), Some(end)) = (start, end) else {
            return Err(MetricQueryError::RangeMissing { set: set.as_str() });
        };
        let range = checked_range(start, end, limits)?;
        let interval = match (set.intervals(), interval) {
            ([], _) => None,
            ([default, ..], None) => Some(*default),
            (allowed, Some(interval)) if allowed.contains(&interval) => Some(interval),
            (_, Some(interval)) => return Err(MetricQueryError::Interval { set: set.as_str(), interval }),
        };
        Ok(Self { set, range, interval })
    }
}

fn checked_range(start: u32, end: u32, limits: RangeLimits) -> Result<TimeRange, MetricQueryError> {
    if start > end {
        return Err(MetricQueryError::StartAfterEnd { start, end });
    }
    if end > limits.now.saturating_add(RANGE_LEEWAY) {
        return Err(MetricQueryError::EndAhead { end });
    }
    if end - start > limits.max_span {
        return Err(MetricQueryError::TooLong { max_span: limits.max_span });
    }
    Ok(TimeRange { start, end })
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricUnit {
    /// Metered bytes.
    Bytes,
    /// Operations.
    Operations,
    /// United States dollars.
    Usd,
}

impl MetricUnit {
    /// As it travels.
    pub const fn as_str(self) -> &'static str {
        match self {
            MetricUnit::Bytes => "bytes",
            MetricUnit::Operations => "operations",
            MetricUnit::Usd => "usd",
        }
    }
}

/// One series of an answer (`control-plane.md` §8.3).
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// A single value.
    Scalar {
        /// What it is.
        name: String,
        /// What it counts.
        unit: MetricUnit,
        /// How many.
        value: f64,
    },
    /// Sums, each over one interval; intervals without any are left out.
    Accumulation {
        /// What it is.
        name: String,
        /// What it counts.
        unit: MetricUnit,
        /// How long a bucket is.
        interval: Interval,
        /// Where a bucket begins, and its sum.
        values: Vec<(u32, f64)>,
    },
    /// Values at points in time, one for every interval.
    Gauge {
        /// What it is.
        name: String,
        /// What it counts.
        unit: MetricUnit,
        /// When, and how many.
        values: Vec<(u32, f64)>,
    },
    /// Names.
    Label {
        /// What they are.
        name: String,
        /// They, in order.
        values: Vec<String>,
    },
}

macro_rules! operations {
    ($(#[$doc:meta])* $level:ident in $set:literal: $($operation:ident = $text:literal)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names of the contract, one by one")]
        pub enum $level { $($operation,)* }

        impl $level {
            /// All of them.
            pub const ALL: &[$level] = &[$($level::$operation,)*];

            /// Set and name of the series that counts it, as usage is kept.
            pub const fn series(self) -> &'static str {
                match self { $($level::$operation => concat!($set, "/", $text),)* }
            }
        }
    };
}

operations! {
    /// A request at the level of the account, metrics included (`control-plane.md` §7.4).
    AccountOperation in "account-ops":
    ListBasins = "list-basins"
    CreateBasin = "create-basin"
    DeleteBasin = "delete-basin"
    ReconfigureBasin = "reconfigure-basin"
    GetBasinConfig = "get-basin-config"
    ListAccessTokens = "list-access-tokens"
    IssueAccessToken = "issue-access-token"
    RevokeAccessToken = "revoke-access-token"
    AccountMetrics = "account-metrics"
    BasinMetrics = "basin-metrics"
    StreamMetrics = "stream-metrics"
    ListLocations = "list-locations"
    GetDefaultLocation = "get-default-location"
    SetDefaultLocation = "set-default-location"
}

operations! {
    /// A request that manages the streams of a basin.
    BasinOperation in "basin-ops":
    ListStreams = "list-streams"
    CreateStream = "create-stream"
    DeleteStream = "delete-stream"
    ReconfigureStream = "reconfigure-stream"
    GetStreamConfig = "get-stream-config"
}

/// A page of kept usage: for each series, the values of some of the buckets of one stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsagePage {
    /// By set and name, like `append-ops/express`; by the number of the bucket in the page.
    pub series: std::collections::BTreeMap<String, std::collections::BTreeMap<u32, u64>>,
}

/// How much a stream keeps, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSize {
    /// Metered bytes.
    pub bytes: u64,
    /// Epoch seconds of the change to this.
    pub since: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_750_000_000;
    const DAY: u32 = 86_400;
    const LIMITS: RangeLimits = RangeLimits { now: NOW, max_span: 30 * DAY };

    fn ask<S: MetricSet>(set: S, start: u32, end: u32) -> Result<MetricQuery<S>, MetricQueryError> {
        MetricQuery::new(set, Some(start), Some(end), None, LIMITS)
    }

    #[test]
    fn ranges() {
        // control-plane.md §8.1, clients.md
        let cases = [
            (NOW - 3600, NOW, Ok(())),
            (NOW, NOW, Ok(())),
            (0, 3600, Ok(())),
            (NOW - 3600, NOW + RANGE_LEEWAY, Ok(())),
            (NOW - 30 * DAY, NOW, Ok(())),
            (NOW, NOW - 1, Err(MetricQueryError::StartAfterEnd { start: NOW, end: NOW - 1 })),
            (NOW, NOW + RANGE_LEEWAY + 1, Err(MetricQueryError::EndAhead { end: NOW + RANGE_LEEWAY + 1 })),
            (NOW - 3600, NOW + 600, Err(MetricQueryError::EndAhead { end: NOW + 600 })),
            (NOW - 30 * DAY - 1, NOW, Err(MetricQueryError::TooLong { max_span: 30 * DAY })),
            (NOW - 91 * DAY, NOW, Err(MetricQueryError::TooLong { max_span: 30 * DAY })),
            (NOW - 40 * DAY, NOW, Err(MetricQueryError::TooLong { max_span: 30 * DAY })),
        ];
        for (start, end, expected) in cases {
            assert_eq!(ask(AccountMetricSet::ActiveBasins, start, end).map(drop), expected, "{start}..{end}");
        }
        let longer = RangeLimits { max_span: 90 * DAY, ..LIMITS };
        let (start, end) = (Some(NOW - 90 * DAY), Some(NOW));
        assert!(MetricQuery::new(BasinMetricSet::Storage, start, end, None, longer).is_ok());
    }

    #[test]
    fn a_range_must_be_given_for_every_set() {
        // control-plane.md §8.1
        fn check<S: MetricSet + PartialEq + std::fmt::Debug>() {
            for &set in S::ALL {
                for (start, end) in [(None, None), (Some(1), None), (None, Some(1))] {
                    let asked = MetricQuery::new(set, start, end, None, LIMITS);
                    assert_eq!(asked, Err(MetricQueryError::RangeMissing { set: set.as_str() }));
                }
            }
        }
        check::<AccountMetricSet>();
        check::<BasinMetricSet>();
        check::<StreamMetricSet>();
    }

    #[test]
    fn intervals_of_the_sets() {
        // control-plane.md §8.2: the set, the default, and what minute, hour and day give.
        use Interval::{Day, Hour, Minute};
        fn check<S: MetricSet>(set: S, default: Option<Interval>, allowed: &[Interval]) {
            let by = |interval| {
                let asked = MetricQuery::new(set, Some(0), Some(1), interval, LIMITS);
                asked.map(|query| query.interval).map_err(|error| error.to_string())
            };
            assert_eq!(by(None), Ok(default), "{}", set.as_str());
            for &interval in Interval::ALL {
                let expected = match allowed.contains(&interval) {
                    true => Ok(default.and(Some(interval))),
                    false => Err(format!("{} does not come by {}", set.as_str(), interval.as_str())),
                };
                assert_eq!(by(Some(interval)), expected);
            }
        }
        let any = &[Minute, Hour, Day];
        check(AccountMetricSet::ActiveBasins, None, any);
        check(AccountMetricSet::AccountOps, Some(Hour), any);
        check(AccountMetricSet::EstimatedBillableUsage, Some(Hour), &[Hour, Day]);
        check(BasinMetricSet::Storage, Some(Hour), &[Hour]);
        check(BasinMetricSet::AppendOps, Some(Minute), any);
        check(BasinMetricSet::ReadOps, Some(Minute), any);
        check(BasinMetricSet::ReadThroughput, Some(Minute), any);
        check(BasinMetricSet::AppendThroughput, Some(Minute), any);
        check(BasinMetricSet::BasinOps, Some(Hour), any);
        check(StreamMetricSet::Storage, Some(Minute), &[Minute]);
    }

    #[test]
    fn buckets_of_a_range() {
        let starts = |start, end| TimeRange { start, end }.buckets(Interval::Minute).collect::<Vec<_>>();
        assert_eq!(starts(0, 180), [0, 60, 120]);
        assert_eq!(starts(59, 61), [0, 60]);
        assert_eq!(starts(60, 60), [] as [u32; 0]);
        assert_eq!(starts(61, 61), [60], "the bucket in which an instant lies");
        assert_eq!(starts(u32::MAX - 10, u32::MAX).len(), 1);
    }

    #[test]
    fn sets_are_known_by_their_names() {
        for &set in BasinMetricSet::ALL {
            assert_eq!(BasinMetricSet::parse(set.as_str()), Some(set));
        }
        assert_eq!(BasinMetricSet::parse("account-ops"), None);
        assert_eq!(AccountMetricSet::parse("storage"), None);
        assert_eq!(StreamMetricSet::parse(""), None);
    }
}
