//! Counting: numbers that go up wherever something is used, and are taken away by one task.
//!
//! Counters are handed out once for a stream, a session or a request; after that a batch costs two additions, and
//! whether a minute of a session was counted already is asked once a minute. Knows no bucket and no table.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    clock::Clock,
    types::{AccountOperation, BasinOperation, ConnectionId, Interval, StorageClass, epoch_seconds},
};

/// What was counted of one series since it was last taken.
#[derive(Debug)]
struct Counter {
    /// Set and name, as it is kept.
    series: &'static str,
    count: AtomicU64,
}

impl Counter {
    const fn new(series: &'static str) -> Self {
        Self { series, count: AtomicU64::new(0) }
    }

    fn add(&self, count: u64) {
        self.count.fetch_add(count, Relaxed);
    }
}

/// What was counted and not yet written down.
pub(super) type Counted = Vec<(&'static str, u64)>;

fn take<'a>(counters: impl Iterator<Item = &'a Counter>) -> Counted {
    let taken = counters.map(|counter| (counter.series, counter.count.swap(0, Relaxed)));
    taken.filter(|&(_, count)| count > 0).collect()
}

fn give_back<'a>(counters: impl Iterator<Item = &'a Counter>, counted: &Counted) {
    for counter in counters {
        let found = counted.iter().find(|(series, _)| *series == counter.series);
        counter.add(found.map_or(0, |&(_, count)| count));
    }
}

/// What is counted for the account.
#[derive(Debug)]
pub(super) struct AccountUsage(Box<[Counter]>);

impl AccountUsage {
    pub(super) fn new() -> Self {
        Self(AccountOperation::ALL.iter().map(|operation| Counter::new(operation.series())).collect())
    }

    pub(super) fn operation(&self, operation: AccountOperation) {
        self.0[operation as usize].add(1);
    }

    pub(super) fn take(&self) -> Counted {
        take(self.0.iter())
    }

    pub(super) fn give_back(&self, counted: &Counted) {
        give_back(self.0.iter(), counted);
    }
}

/// A storage class as usage tells them apart: clients can make up names, the series stay few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClassLabel {
    Standard,
    Express,
    Other,
}

impl ClassLabel {
    fn of(class: &StorageClass) -> Self {
        match class.as_str() {
            "standard" => Self::Standard,
            "express" => Self::Express,
            _ => Self::Other,
        }
    }
}

/// What is counted for a basin.
#[derive(Debug)]
pub struct BasinUsage {
    /// By [`ClassLabel`], like the next.
    append_ops: [Counter; 3],
    append_bytes: [Counter; 3],
    unary_reads: Counter,
    streaming_reads: Counter,
    read_bytes: Counter,
    /// By [`BasinOperation`].
    operations: Box<[Counter]>,
}

impl BasinUsage {
    pub(super) fn new() -> Self {
        Self {
            append_ops: ["append-ops/standard", "append-ops/express", "append-ops/other"].map(Counter::new),
            append_bytes: [APPENDED.0, APPENDED.1, APPENDED.2].map(Counter::new),
            unary_reads: Counter::new("read-ops/unary"),
            streaming_reads: Counter::new("read-ops/streaming"),
            read_bytes: Counter::new(READ),
            operations: BasinOperation::ALL.iter().map(|operation| Counter::new(operation.series())).collect(),
        }
    }

    fn counters(&self) -> impl Iterator<Item = &Counter> {
        let reads = [&self.unary_reads, &self.streaming_reads, &self.read_bytes];
        self.append_ops.iter().chain(&self.append_bytes).chain(reads).chain(&self.operations)
    }

    pub(super) fn operation(&self, operation: BasinOperation) {
        self.operations[operation as usize].add(1);
    }

    pub(super) fn take(&self) -> Counted {
        take(self.counters())
    }

    pub(super) fn give_back(&self, counted: &Counted) {
        give_back(self.counters(), counted);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.counters().all(|counter| counter.count.load(Relaxed) == 0)
    }
}

const APPENDED: (&str, &str, &str) =
    ("append-throughput/standard", "append-throughput/express", "append-throughput/other");
const READ: &str = "read-throughput/read";

/// Metered bytes appended and read that `counted` tells of.
pub(super) fn bytes(counted: &Counted) -> (u64, u64) {
    let sum = |of: &dyn Fn(&str) -> bool| {
        counted.iter().filter(|(series, _)| of(series)).map(|&(_, count)| count).sum::<u64>()
    };
    (sum(&|series| series.starts_with("append-throughput/")), sum(&|series| series == READ))
}

/// The connections over which one minute of a stream was counted already.
#[derive(Debug, Default)]
struct CountedConnections {
    minute: u32,
    connections: HashSet<ConnectionId>,
}

impl CountedConnections {
    /// Whether `connection` is new in `minute`.
    fn is_new(&mut self, connection: ConnectionId, minute: u32) -> bool {
        if self.minute != minute {
            self.minute = minute;
            self.connections = HashSet::new();
        }
        self.connections.insert(connection)
    }
}

/// What is counted for a stream that is open.
#[derive(Debug)]
pub struct StreamUsage {
    basin: Arc<BasinUsage>,
    clock: Arc<dyn Clock>,
    /// A [`ClassLabel`].
    class: AtomicU8,
    appends: Mutex<CountedConnections>,
    reads: Mutex<CountedConnections>,
    stored: AtomicU64,
    stored_changed: AtomicBool,
}

impl StreamUsage {
    pub(super) fn new(basin: Arc<BasinUsage>, clock: Arc<dyn Clock>) -> Self {
        Self {
            basin,
            clock,
            class: AtomicU8::new(ClassLabel::of(&StorageClass::default()) as u8),
            appends: Mutex::default(),
            reads: Mutex::default(),
            stored: AtomicU64::new(0),
            stored_changed: AtomicBool::new(false),
        }
    }

    /// From now on appends count for `class`.
    pub fn set_class(&self, class: &StorageClass) {
        self.class.store(ClassLabel::of(class) as u8, Relaxed);
    }

    /// The stream keeps this many metered bytes now.
    pub fn set_stored(&self, bytes: u64) {
        if self.stored.swap(bytes, Relaxed) != bytes {
            self.stored_changed.store(true, Relaxed);
        }
    }

    /// What the stream keeps, if that changed since it was last taken.
    pub(super) fn take_stored(&self) -> Option<u64> {
        self.stored_changed.swap(false, Relaxed).then(|| self.stored.load(Relaxed))
    }

    /// Makes the next [`StreamUsage::take_stored`] give the size again.
    pub(super) fn renew_stored(&self) {
        self.stored_changed.store(true, Relaxed);
    }

    pub(super) fn is_settled(&self) -> bool {
        !self.stored_changed.load(Relaxed)
    }

    fn minute(&self) -> u32 {
        epoch_seconds(self.clock.now()) / Interval::Minute.seconds()
    }

    fn class(&self) -> usize {
        self.class.load(Relaxed).into()
    }
}

/// Counts what one session, or one request, appends (`control-plane.md` §8.2).
///
/// Bytes count as they are acknowledged; what a session that broke off never heard of does not. All appends over one connection within a minute are one operation.
#[derive(Debug)]
pub struct AppendMeter {
    stream: Arc<StreamUsage>,
    session: CountedSession,
}

impl AppendMeter {
    /// Counts for `stream`; a session of which no connection is known has one of its own.
    pub fn new(stream: Arc<StreamUsage>) -> Self {
        Self { stream, session: CountedSession::default() }
    }

    /// Counts over `connection`, together with what else comes over it.
    pub fn set_connection(&mut self, connection: ConnectionId) {
        self.session.connection = Some(connection);
    }

    /// A batch of so many metered bytes was acknowledged.
    pub fn appended(&mut self, metered: usize) {
        let class = self.stream.class();
        self.stream.basin.append_bytes[class].add(metered as u64);
        if self.session.begins_minute(self.stream.minute(), &self.stream.appends) {
            self.stream.basin.append_ops[class].add(1);
        }
    }
}

/// Counts what one session, or one request, reads (`control-plane.md` §8.2).
///
/// Each unary read is an operation; of streaming reads, each minute of one over one connection.
#[derive(Debug)]
pub struct ReadMeter {
    stream: Arc<StreamUsage>,
    /// Nothing for a unary read, which is counted.
    session: Option<CountedSession>,
}

impl ReadMeter {
    /// Counts a single read of `stream`.
    pub fn unary(stream: Arc<StreamUsage>) -> Self {
        stream.basin.unary_reads.add(1);
        Self { stream, session: None }
    }

    /// Counts a session; one of which no connection is known has one of its own.
    pub fn streaming(stream: Arc<StreamUsage>) -> Self {
        Self { stream, session: Some(CountedSession::default()) }
    }

    /// Counts over `connection`, together with what else comes over it.
    pub fn set_connection(&mut self, connection: ConnectionId) {
        if let Some(session) = &mut self.session {
            session.connection = Some(connection);
        }
    }

    /// The session goes on.
    pub fn goes_on(&mut self) {
        let Some(session) = &mut self.session else { return };
        if session.begins_minute(self.stream.minute(), &self.stream.reads) {
            self.stream.basin.streaming_reads.add(1);
        }
    }

    /// Records of so many metered bytes went out.
    pub fn delivered(&self, metered: usize) {
        self.stream.basin.read_bytes.add(metered as u64);
    }
}

/// Which minute of a session was counted last.
#[derive(Debug, Default)]
struct CountedSession {
    connection: Option<ConnectionId>,
    minute: Option<u32>,
}

impl CountedSession {
    /// Whether `minute` is one that counts: neither this session nor another over the same connection had it.
    fn begins_minute(&mut self, minute: u32, counted: &Mutex<CountedConnections>) -> bool {
        if self.minute.replace(minute) == Some(minute) {
            return false;
        }
        let Some(connection) = self.connection else { return true };
        counted.lock().unwrap_or_else(PoisonError::into_inner).is_new(connection, minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::ManualClock, types::Timestamp};

    struct World {
        clock: Arc<ManualClock>,
        basin: Arc<BasinUsage>,
        stream: Arc<StreamUsage>,
    }

    impl World {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::default());
            let basin = Arc::new(BasinUsage::new());
            let stream = Arc::new(StreamUsage::new(basin.clone(), clock.clone()));
            Self { clock, basin, stream }
        }

        fn at(&self, seconds: u64) {
            self.clock.set(Timestamp::new(seconds * 1000));
        }

        fn appender(&self, connection: u64) -> AppendMeter {
            let mut meter = AppendMeter::new(self.stream.clone());
            meter.set_connection(ConnectionId::new(connection));
            meter
        }

        fn reader(&self, connection: u64) -> ReadMeter {
            let mut meter = ReadMeter::streaming(self.stream.clone());
            meter.set_connection(ConnectionId::new(connection));
            meter
        }
    }

    #[test]
    fn appends_over_one_connection_within_a_minute_are_one_operation() {
        // control-plane.md §8.2
        let world = World::new();
        let (mut session, mut other) = (world.appender(1), world.appender(2));
        session.appended(10);
        session.appended(10);
        world.appender(1).appended(10);
        assert_eq!(world.basin.take(), [("append-ops/express", 1), ("append-throughput/express", 30)]);
        other.appended(5);
        assert_eq!(world.basin.take(), [("append-ops/express", 1), ("append-throughput/express", 5)]);
        world.at(60);
        session.appended(1);
        other.appended(1);
        world.appender(2).appended(1);
        assert_eq!(world.basin.take(), [("append-ops/express", 2), ("append-throughput/express", 3)]);
        assert_eq!(world.basin.take(), []);
    }

    #[test]
    fn streams_are_counted_apart() {
        let world = World::new();
        let elsewhere = Arc::new(StreamUsage::new(world.basin.clone(), world.clock.clone()));
        world.appender(1).appended(1);
        let mut there = AppendMeter::new(elsewhere);
        there.set_connection(ConnectionId::new(1));
        there.appended(1);
        assert_eq!(world.basin.take()[0], ("append-ops/express", 2));
    }

    #[test]
    fn who_has_no_connection_counts_alone() {
        let world = World::new();
        AppendMeter::new(world.stream.clone()).appended(1);
        AppendMeter::new(world.stream.clone()).appended(1);
        assert_eq!(world.basin.take()[0], ("append-ops/express", 2));
    }

    #[test]
    fn appends_count_for_the_class_in_force() {
        let world = World::new();
        let mut session = world.appender(1);
        for (minute, class) in ["standard", "express", "made-up"].into_iter().enumerate() {
            world.at(60 * minute as u64);
            world.stream.set_class(&StorageClass::new(class));
            session.appended(7);
            let label = if class == "made-up" { "other" } else { class };
            let counted: Vec<_> =
                world.basin.take().iter().map(|(series, count)| format!("{series} {count}")).collect();
            assert_eq!(counted, [format!("append-ops/{label} 1"), format!("append-throughput/{label} 7")]);
        }
    }

    #[test]
    fn reads() {
        // control-plane.md §8.2
        let world = World::new();
        ReadMeter::unary(world.stream.clone()).delivered(10);
        ReadMeter::unary(world.stream.clone()).goes_on();
        assert_eq!(world.basin.take(), [("read-ops/unary", 2), ("read-throughput/read", 10)]);
        let (mut session, mut same, mut other) = (world.reader(1), world.reader(1), world.reader(2));
        for _ in 0..3 {
            session.goes_on();
            same.goes_on();
            other.goes_on();
            other.delivered(1);
        }
        assert_eq!(world.basin.take(), [("read-ops/streaming", 2), ("read-throughput/read", 3)]);
        world.at(119);
        session.goes_on();
        assert_eq!(world.basin.take(), [("read-ops/streaming", 1)]);
    }

    #[test]
    fn what_could_not_be_written_is_counted_again() {
        let world = World::new();
        world.appender(1).appended(3);
        world.basin.operation(BasinOperation::CreateStream);
        let counted = world.basin.take();
        world.appender(2).appended(4);
        world.basin.give_back(&counted);
        let expected = [("append-ops/express", 2), ("append-throughput/express", 7), ("basin-ops/create-stream", 1)];
        assert_eq!(world.basin.take(), expected);
        assert_eq!(bytes(&expected.to_vec()), (7, 0));
    }

    #[test]
    fn a_size_is_taken_when_it_changed() {
        let world = World::new();
        assert_eq!(world.stream.take_stored(), None);
        world.stream.set_stored(0);
        assert!(world.stream.is_settled());
        world.stream.set_stored(5);
        assert!(!world.stream.is_settled());
        assert_eq!((world.stream.take_stored(), world.stream.take_stored()), (Some(5), None));
        world.stream.renew_stored();
        assert_eq!(world.stream.take_stored(), Some(5));
    }
}
