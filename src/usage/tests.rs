//! Usage over the meta table of the store in memory, with the clock turned by hand.

use std::sync::Arc;

use super::*;
use crate::{
    clock::ManualClock,
    store::{MemoryStore, Store, shared_memory::Engine},
    types::{
        AccountMetricSet, BasinMetricSet, Interval, Metric, MetricQuery, MetricSet, StreamMetricSet, TimeRange,
        Timestamp,
    },
};

/// A midnight.
const T0: u32 = 1_750_032_000;
const MINUTE: u32 = 60;
const HOUR: u32 = 3600;
const DAY: u32 = 86_400;

struct World {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    usage: Arc<Usage>,
}

impl World {
    fn new() -> Self {
        let (store, clock) = (Arc::new(MemoryStore::new(1024)), Arc::new(ManualClock::default()));
        let usage = Usage::new(store.clone(), clock.clone(), UsageConfig::default());
        let world = Self { store, clock, usage };
        world.at(T0);
        world
    }

    /// A new process over the same store.
    fn restart(&mut self) {
        self.usage = Usage::new(self.store.clone(), self.clock.clone(), UsageConfig::default());
    }

    fn at(&self, seconds: u32) {
        self.clock.set(Timestamp::new(u64::from(seconds) * 1000));
    }

    /// Does `work` at that time and writes it down.
    async fn flush_at(&self, seconds: u32, work: impl FnOnce(&Usage)) {
        self.at(seconds);
        work(&self.usage);
        self.usage.flush().await.unwrap();
    }

    async fn append_at(&self, seconds: u32, metered: usize) {
        self.flush_at(seconds, |usage| append(usage, metered)).await;
    }

    async fn basin(&self, set: BasinMetricSet, interval: Interval, start: u32, end: u32) -> Vec<Metric> {
        self.usage.basin_metrics(basin(), query(set, interval, start, end)).await.unwrap()
    }

    async fn appended(&self, interval: Interval, start: u32, end: u32) -> Vec<(u32, u64)> {
        points(&self.basin(BasinMetricSet::AppendThroughput, interval, start, end).await)
    }

    async fn stored(&self, stream: &str, start: u32, end: u32) -> Vec<(u32, u64)> {
        let query = query(StreamMetricSet::Storage, Interval::Minute, start, end);
        points(&self.usage.stream_metrics(basin(), name(stream), query).await.unwrap())
    }

    fn open(&self, stream: &str, stored: u64) -> Arc<StreamUsage> {
        self.usage.open_stream(&basin(), &name(stream), &StorageClass::default(), stored)
    }
}

fn basin() -> BasinName {
    BasinName::new("my-basin-01").unwrap()
}

fn name(stream: &str) -> StreamName {
    StreamName::new(stream).unwrap()
}

fn append(usage: &Usage, metered: usize) {
    AppendMeter::new(usage.stream(&basin(), &name("orders"))).appended(metered);
}

fn query<S: MetricSet>(set: S, interval: Interval, start: u32, end: u32) -> MetricQuery<S> {
    MetricQuery { set, range: TimeRange { start, end }, interval: Some(interval) }
}

/// The points of the one series there is; none if there is no series.
fn points(metrics: &[Metric]) -> Vec<(u32, u64)> {
    match metrics {
        [] => Vec::new(),
        [Metric::Accumulation { values, .. } | Metric::Gauge { values, .. }] => {
            values.iter().map(|&(at, value)| (at, value as u64)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_counted_lies_in_the_bucket_of_its_time() {
    let world = World::new();
    for (at, metered) in [(T0, 1), (T0 + 59, 2), (T0 + 60, 4), (T0 + 3 * HOUR, 8), (T0 + 2 * DAY - 1, 16)] {
        world.append_at(at, metered).await;
    }
    let (start, end) = (T0, T0 + 2 * DAY);
    let minutes = [(T0, 3), (T0 + 60, 4), (T0 + 3 * HOUR, 8), (T0 + 2 * DAY - 60, 16)];
    assert_eq!(world.appended(Interval::Minute, start, end).await, minutes);
    assert_eq!(world.appended(Interval::Hour, start, end).await, [(T0, 7), (T0 + 3 * HOUR, 8), (T0 + 47 * HOUR, 16)]);
    assert_eq!(world.appended(Interval::Day, start, end).await, [(T0, 15), (T0 + DAY, 16)]);
    assert_eq!(world.appended(Interval::Day, T0 + DAY + 5, end).await, [(T0 + DAY, 16)]);
    assert_eq!(world.appended(Interval::Minute, T0 + 60, T0 + 120).await, [(T0 + 60, 4)]);
    assert_eq!(world.appended(Interval::Hour, 0, HOUR).await, []);
}

#[tokio::test]
async fn minutes_go_and_hours_stay_and_hours_go_and_days_stay() {
    let world = World::new();
    world.append_at(T0 + 30, 1).await;
    world.append_at(T0 + HOUR + 30, 2).await;
    let later = [T0 + 5 * DAY, T0 + 30 * DAY, T0 + 120 * DAY];
    let (start, end) = (T0, T0 + DAY);
    let kept = [
        (vec![], vec![(T0, 1), (T0 + HOUR, 2)], vec![(T0, 3)]),
        (vec![], vec![(T0, 1), (T0 + HOUR, 2)], vec![(T0, 3)]),
        (vec![], vec![], vec![(T0, 3)]),
    ];
    for (now, (minutes, hours, days)) in later.into_iter().zip(kept) {
        world.flush_at(now, |_| {}).await;
        assert_eq!(world.appended(Interval::Minute, start, end).await, minutes);
        assert_eq!(world.appended(Interval::Hour, start, end).await, hours);
        assert_eq!(world.appended(Interval::Day, start, end).await, days);
    }
    let rows = world.store.meta().scan(b"u/", None, 100).await.unwrap();
    let keys: Vec<_> = rows.iter().map(|(key, _)| std::str::from_utf8(key).unwrap().split('/').nth(1)).collect();
    assert_eq!(keys, [Some("d")], "nothing else is left");
    world.flush_at(T0 + 900 * DAY, |_| {}).await;
    assert_eq!(world.store.meta().scan(b"u/", None, 100).await.unwrap(), []);
}

#[tokio::test]
async fn usage_survives_a_restart() {
    let mut world = World::new();
    world.append_at(T0, 1).await;
    let stream = world.open("orders", 10);
    world.flush_at(T0 + 1, |usage| usage.account_operation(AccountOperation::ListBasins)).await;
    drop(stream);
    world.restart();
    world.append_at(T0 + 30, 2).await;
    world.flush_at(T0 + 2 * HOUR, |usage| usage.account_operation(AccountOperation::ListBasins)).await;
    world.restart();
    assert_eq!(world.appended(Interval::Minute, T0, T0 + HOUR).await, [(T0, 3)]);
    assert_eq!(world.stored("orders", T0, T0 + 120).await, [(T0, 10), (T0 + 60, 10)]);
    let asked = query(AccountMetricSet::AccountOps, Interval::Day, T0, T0 + DAY);
    let metrics = world.usage.account_metrics(asked, Vec::new()).await.unwrap();
    assert!(matches!(&metrics[..], [Metric::Accumulation { name, .. }] if name == "list-basins"), "{metrics:?}");
    assert_eq!(points(&metrics), [(T0, 2)]);
}

#[tokio::test]
async fn several_gateways_add_to_the_same_buckets() {
    let world = World::new();
    let other = Usage::new(world.store.clone(), world.clock.clone(), UsageConfig::default());
    for _ in 0..3 {
        append(&world.usage, 1);
        append(&other, 10);
        let (a, b) = tokio::join!(world.usage.flush(), other.flush());
        a.unwrap();
        b.unwrap();
    }
    assert_eq!(world.appended(Interval::Minute, T0, T0 + 60).await, [(T0, 33)]);
    world.at(T0 + 3 * HOUR);
    world.usage.flush().await.unwrap();
    other.flush().await.unwrap();
    assert_eq!(world.appended(Interval::Hour, T0, T0 + HOUR).await, [(T0, 33)], "rolled up twice, counted once");
}

#[tokio::test]
async fn what_a_basin_keeps_is_the_same_on_all_gateways() {
    let (engine, clock) = (Engine::new(), Arc::new(ManualClock::at(Timestamp::new(u64::from(T0) * 1000))));
    let [here, there] = [(); 2].map(|()| Usage::new(engine.gateway(), clock.clone(), UsageConfig::default()));
    let open = |usage: &Usage, stream: &str, stored| {
        usage.open_stream(&basin(), &name(stream), &StorageClass::default(), stored)
    };
    let of_here = open(&here, "here", 100);
    here.flush().await.unwrap();
    let _of_there = open(&there, "there", 20);
    there.flush().await.unwrap();
    clock.set(Timestamp::new(u64::from(T0 + MINUTE) * 1000));
    of_here.set_stored(103);
    here.flush().await.unwrap();
    for usage in [&here, &there] {
        let storage = query(BasinMetricSet::Storage, Interval::Minute, T0, T0 + 2 * MINUTE);
        let metrics = usage.basin_metrics(basin(), storage).await.unwrap();
        assert_eq!(points(&metrics), [(T0, 120), (T0 + MINUTE, 123)]);
    }
}

#[tokio::test]
async fn gateways_that_write_at_the_same_time_lose_nothing() {
    let (engine, clock) = (Engine::new(), Arc::new(ManualClock::at(Timestamp::new(u64::from(T0) * 1000))));
    let gateways = [(); 3].map(|()| Usage::new(engine.gateway(), clock.clone(), UsageConfig::default()));
    gateways.iter().for_each(|usage| append(usage, 10));
    let [a, b, c] = &gateways;
    let (first, second, third) = tokio::join!(a.flush(), b.flush(), c.flush());
    first.and(second).and(third).unwrap();
    let appended = query(BasinMetricSet::AppendThroughput, Interval::Minute, T0, T0 + MINUTE);
    assert_eq!(points(&a.basin_metrics(basin(), appended).await.unwrap()), [(T0, 30)]);
}

#[tokio::test]
async fn what_cannot_be_written_is_kept_for_later() {
    let world = World::new();
    append(&world.usage, 5);
    let closed = Arc::new(MemoryStore::new(0));
    closed.close().await.unwrap();
    let usage = Usage::new(closed, world.clock.clone(), UsageConfig::default());
    append(&usage, 7);
    usage.account_operation(AccountOperation::ListBasins);
    let size = usage.open_stream(&basin(), &name("orders"), &StorageClass::default(), 3);
    for _ in 0..2 {
        assert!(usage.flush().await.is_err());
        assert!(!usage.basin(&basin()).is_settled());
        assert!(!size.is_settled());
    }
    let counted = usage.basin(&basin()).take();
    assert_eq!(counted, [("append-ops/express", 1), ("append-throughput/express", 7)]);
}

#[tokio::test]
async fn a_damaged_page_does_not_stop_the_counting() {
    let world = World::new();
    world.append_at(T0, 1).await;
    let rows = world.store.meta().scan(b"u/m/", None, 1).await.unwrap();
    let (key, row) = &rows[0];
    let _ = world.store.meta().put(key, "{".into(), row.version).await.unwrap();
    world.append_at(T0 + 60, 2).await;
    assert_eq!(world.appended(Interval::Minute, T0, T0 + HOUR).await, [(T0 + 60, 2)]);
}

#[tokio::test]
async fn what_streams_keep() {
    // control-plane.md §8.2, §8.3
    let world = World::new();
    let (orders, other) = (world.open("orders", 0), world.open("other", 0));
    world.flush_at(T0 + MINUTE, |_| orders.set_stored(100)).await;
    world.flush_at(T0 + 2 * MINUTE, |_| other.set_stored(7)).await;
    world.flush_at(T0 + 4 * MINUTE, |_| orders.set_stored(40)).await;
    world.flush_at(T0 + HOUR, |_| {}).await;
    let minutes = [0, 100, 100, 100, 40, 40].into_iter().zip(0..).map(|(bytes, i)| (T0 + i * MINUTE, bytes));
    assert_eq!(world.stored("orders", T0, T0 + 6 * MINUTE).await, minutes.collect::<Vec<_>>());
    assert_eq!(world.stored("other", T0 + 90, T0 + 121).await, [(T0 + 60, 0), (T0 + 120, 7)]);
    assert_eq!(world.stored("nobody", T0, T0 + HOUR).await, []);
    assert_eq!(world.stored("orders", T0, T0 + MINUTE).await, [], "nothing was known yet");
    let hours = world.basin(BasinMetricSet::Storage, Interval::Hour, T0, T0 + 2 * HOUR).await;
    assert_eq!(points(&hours), [(T0, 47), (T0 + HOUR, 47)]);
}

#[tokio::test]
async fn what_is_kept_is_known_long_after_the_last_change() {
    let mut world = World::new();
    let orders = world.open("orders", 0);
    world.flush_at(T0, |_| orders.set_stored(100)).await;
    drop(orders);
    let now = T0 + 200 * DAY;
    world.restart();
    world.flush_at(now, |_| {}).await;
    let now = now - now % MINUTE;
    assert_eq!(world.stored("orders", now - 120, now).await, [(now - 120, 100), (now - 60, 100)]);
    let hours = world.basin(BasinMetricSet::Storage, Interval::Hour, now - HOUR, now).await;
    assert_eq!(points(&hours).last().map(|&(_, bytes)| bytes), Some(100));
}

#[tokio::test]
async fn hours_stand_for_minutes_that_are_gone() {
    let world = World::new();
    let orders = world.open("orders", 0);
    world.flush_at(T0 + 90, |_| orders.set_stored(100)).await;
    world.flush_at(T0 + 2 * HOUR, |_| orders.set_stored(50)).await;
    world.flush_at(T0 + 10 * DAY, |_| {}).await;
    let minutes = world.stored("orders", T0, T0 + 3 * HOUR).await;
    assert_eq!(minutes.len(), 180);
    assert_eq!((minutes[0], minutes[119], minutes[120]), ((T0, 100), (T0 + 119 * MINUTE, 100), (T0 + 2 * HOUR, 50)));
}

#[tokio::test]
async fn a_size_is_written_once_a_minute_and_the_last_one_is_not_forgotten() {
    let world = World::new();
    let orders = world.open("orders", 0);
    for (at, bytes) in [(T0, 1), (T0 + 2, 2), (T0 + 58, 3)] {
        world.flush_at(at, |_| orders.set_stored(bytes)).await;
    }
    drop(orders);
    assert_eq!(world.stored("orders", T0, T0 + 120).await, [(T0, 1)]);
    world.flush_at(T0 + 60, |_| {}).await;
    assert_eq!(world.stored("orders", T0, T0 + 120).await, [(T0, 1), (T0 + 60, 3)]);
}

#[tokio::test]
async fn at_the_end_everything_is_written() {
    let world = World::new();
    let orders = world.open("orders", 1);
    world.flush_at(T0, |_| {}).await;
    orders.set_stored(2);
    append(&world.usage, 7);
    world.usage.finish().await.unwrap();
    assert_eq!(world.stored("orders", T0, T0 + 60).await, [(T0, 2)]);
    assert_eq!(world.appended(Interval::Minute, T0, T0 + 60).await, [(T0, 7)]);
}

#[tokio::test]
async fn a_deleted_stream_keeps_nothing() {
    let mut world = World::new();
    let orders = world.open("orders", 100);
    world.flush_at(T0, |_| {}).await;
    drop(orders);
    world.restart();
    world.flush_at(T0 + 60, |usage| usage.stream_deleted(&basin(), &name("orders"))).await;
    assert_eq!(world.stored("orders", T0, T0 + 120).await, [(T0, 100), (T0 + 60, 0)]);
    assert_eq!(world.usage.pages().stored(&basin(), &name("orders")).await, Ok(None));
    let hours = world.basin(BasinMetricSet::Storage, Interval::Hour, T0, T0 + HOUR).await;
    assert_eq!(points(&hours), [(T0, 0)]);
}

#[tokio::test]
async fn of_many_streams_some_get_pages_and_all_count() {
    let world = World::new();
    let streams: Vec<_> = (0..MAX_STREAMS_A_BASIN + 5).map(|i| world.open(&format!("s{i:05}"), 1)).collect();
    world.flush_at(T0, |_| {}).await;
    let hours = world.basin(BasinMetricSet::Storage, Interval::Hour, T0, T0 + HOUR).await;
    assert_eq!(points(&hours), [(T0, streams.len() as u64)]);
    let mut pages = 0;
    let mut after = None;
    loop {
        let rows = world.store.meta().scan(b"u/m/", after.as_deref(), 500).await.unwrap();
        let Some((last, _)) = rows.last() else { break };
        pages += rows.iter().filter(|(key, _)| key.windows(3).any(|part| part == b"/s/")).count();
        after = Some(last.clone());
    }
    assert_eq!(pages, MAX_STREAMS_A_BASIN);
}

#[tokio::test]
async fn active_basins() {
    let world = World::new();
    let metric = async |start, end| {
        let asked = query(AccountMetricSet::ActiveBasins, Interval::Hour, start, end);
        let listed = vec![BasinName::new("listed-basin").unwrap()];
        match &world.usage.account_metrics(asked, listed).await.unwrap()[..] {
            [Metric::Label { name, values }] if name == "active_basins" => values.join(" "),
            other => panic!("{other:?}"),
        }
    };
    world.append_at(T0 + 30, 1).await;
    let managed = BasinName::new("only-managed").unwrap();
    world.flush_at(T0 + 40, |usage| usage.basin_operation(&managed, BasinOperation::ListStreams)).await;
    assert_eq!(metric(T0, T0 + 60).await, "listed-basin my-basin-01");
    assert_eq!(metric(0, HOUR).await, "listed-basin");
    world.flush_at(T0 + 20 * DAY, |_| {}).await;
    assert_eq!(metric(T0 - DAY, T0 + DAY).await, "listed-basin my-basin-01");
    assert_eq!(metric(T0 + DAY, T0 + 2 * DAY).await, "listed-basin");
}

#[tokio::test]
async fn what_nobody_used_is_empty() {
    // control-plane.md §8.1: never 404
    let world = World::new();
    for &set in BasinMetricSet::ALL {
        for &interval in set.intervals() {
            assert_eq!(world.basin(set, interval, T0 - 30 * DAY, T0).await, []);
        }
    }
    let free = query(AccountMetricSet::EstimatedBillableUsage, Interval::Day, T0 - DAY, T0);
    let metrics = world.usage.account_metrics(free, Vec::new()).await.unwrap();
    assert!(
        matches!(&metrics[..], [Metric::Accumulation { name, values, .. }] if name == "total" && values.is_empty())
    );
}

#[tokio::test]
async fn counters_that_nobody_holds_are_let_go_of() {
    let world = World::new();
    let held = world.open("held", 5);
    world.flush_at(T0, |usage| append(usage, 1)).await;
    assert_eq!(locked(&world.usage.streams).len(), 1);
    drop(held);
    world.flush_at(T0 + 60, |_| {}).await;
    assert_eq!((locked(&world.usage.streams).len(), locked(&world.usage.basins).len()), (0, 0));
}

#[tokio::test]
async fn prometheus_sees_a_bounded_number_of_basins() {
    let world = World::new();
    for i in 0..105 {
        let usage = world.usage.open_stream(
            &BasinName::new(&format!("basin-{i:04}")).unwrap(),
            &name("orders"),
            &StorageClass::default(),
            0,
        );
        AppendMeter::new(usage.clone()).appended(1);
        ReadMeter::streaming(usage).delivered(2);
    }
    world.usage.flush().await.unwrap();
    let bytes = world.usage.basin_bytes();
    assert_eq!(bytes.len(), 101);
    let others = bytes.iter().find(|(basin, _)| basin.is_none()).unwrap().1;
    assert_eq!(others, BasinBytes { appended: 5, read: 10 });
}
