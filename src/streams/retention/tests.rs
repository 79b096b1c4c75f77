//! Records that grow old, streams that stay empty, and deletions across a restart, with the clock in hand.

use std::{num::NonZeroU64, task::Poll, time::Duration};

use super::{
    super::tests::{NOW, World, ack, acked_range, basin, bodies, from_the_start, is_heartbeat, one, orders, peek, put},
    SLICE,
};
use crate::{
    sequence::{OutOfRange, Rejection},
    store::{Store, StoreError},
    streams::{Access, Failure, ReadEvent, Streams, StreamsConfig},
    types::{
        AppendInput, Operations, Position, Provision, ReadBounds, ReadRequest, ReadStart, RetentionPolicy, SeqNum,
        StreamConfigLayer, StreamInfo, StreamName, StreamNamePart, Timestamp,
        testing::{self, Records},
    },
};

impl World {
    /// Turns the clock to this many seconds after the world's beginning.
    pub(super) fn at(&self, seconds: u64) {
        self.clock.set(Timestamp::new(NOW + seconds * 1000));
    }

    async fn configure(&self, layer: StreamConfigLayer) -> Provision {
        self.streams.ensure_stream(&basin(), &orders(), layer, Operations::ALL).await.unwrap().1
    }

    pub(super) async fn sweep_at(&self, seconds: u64) {
        self.at(seconds);
        self.streams.sweep().await;
    }

    /// Another process over the same store. The one before ended without a word.
    pub(super) fn restarted(self) -> Self {
        let World { store, clock, streams } = self;
        drop(streams);
        let streams = Streams::new(store.clone(), clock.clone(), StreamsConfig::default());
        Self { store, clock, streams }
    }

    /// Lets go of all streams that nobody holds.
    pub(super) fn close_idle(&self) {
        self.streams.close_idle(Duration::ZERO);
    }

    /// All records that a reader from the start gets, up to the tail.
    pub(super) async fn visible(&self) -> Vec<String> {
        let mut reader = self.reader(from_the_start()).await;
        let mut visible = Vec::new();
        loop {
            let event = peek(&mut reader);
            match event {
                Poll::Ready(Some(Ok(ReadEvent::Records { .. } | ReadEvent::Followed(_)))) => {
                    visible.extend(bodies(event));
                }
                Poll::Ready(Some(Ok(ReadEvent::Heartbeat(_)))) => return visible,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whether the log itself still has records.
    async fn log_is_empty(&self) -> bool {
        self.stream().await.read(SeqNum::FIRST, usize::MAX).await.unwrap().is_empty()
    }

    pub(super) async fn listed(&self) -> Option<StreamInfo> {
        let any = StreamNamePart::default();
        self.streams.list_streams(&basin(), &any, &any, 1).await.unwrap().entries.pop()
    }

    /// Waits until the background task, which runs on this thread when a test waits, has removed all streams.
    pub(super) async fn wait_until_gone(&self) {
        for _ in 0..100_000 {
            if self.listed().await.is_none() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the background task does not remove {:?}", self.listed().await);
    }
}

pub(super) fn kept_for(seconds: u64) -> StreamConfigLayer {
    let policy = RetentionPolicy::Age(NonZeroU64::new(seconds).unwrap());
    StreamConfigLayer { retention_policy: Some(policy), ..Default::default() }
}

fn kept_for_ever() -> StreamConfigLayer {
    StreamConfigLayer { retention_policy: Some(RetentionPolicy::Infinite), ..Default::default() }
}

pub(super) fn deleted_on_empty(layer: StreamConfigLayer, seconds: u64) -> StreamConfigLayer {
    StreamConfigLayer { delete_on_empty_min_age_secs: Some(seconds), ..layer }
}

#[tokio::test]
async fn records_go_when_they_are_old_enough_and_not_before() {
    let world = World::new().await;
    world.configure(kept_for(60)).await;
    for (seconds, body) in [(0, "a"), (10, "b"), (50, "c")] {
        world.at(seconds);
        world.append(one(body)).await;
    }
    for (seconds, expected) in
        [(59, &["a", "b", "c"][..]), (60, &["b", "c"]), (69, &["b", "c"]), (70, &["c"]), (109, &["c"]), (110, &[])]
    {
        world.sweep_at(seconds).await;
        assert_eq!(world.visible().await, expected, "after {seconds} s");
    }
    assert!(world.log_is_empty().await);
    assert_eq!(world.stream().await.check_tail(), Ok(Position::new(3, NOW + 50_000)), "the tail does not move");
    world.append(one("d")).await;
    assert_eq!(world.visible().await, ["d"]);
}

#[tokio::test]
async fn age_counts_from_arrival_whatever_the_timestamps_say() {
    // data-plane.md §5.2
    for timestamp in [0, NOW - 1, NOW + 10_000_000, u64::MAX] {
        let world = World::new().await;
        world.configure(StreamConfigLayer { timestamping_uncapped: Some(true), ..kept_for(60) }).await;
        world.append(testing::input(&[("a", Some(timestamp))])).await;
        world.sweep_at(59).await;
        assert_eq!(world.visible().await, ["a"], "timestamp {timestamp}");
        world.sweep_at(60).await;
        assert!(world.visible().await.is_empty(), "timestamp {timestamp}");
    }
}

#[tokio::test]
async fn a_record_arrives_when_it_was_accepted_and_not_when_it_became_durable() {
    let world = World::new().await;
    world.configure(kept_for(60)).await;
    let mut writer = world.writer().await;
    put(&mut writer, &one("a"));
    world.at(30);
    world.store.release();
    world.sweep_at(60).await;
    assert!(world.visible().await.is_empty());
}

#[tokio::test]
async fn the_policy_in_force_decides_about_all_records() {
    let world = World::new().await;
    world.configure(kept_for_ever()).await;
    world.append(one("a")).await;
    world.sweep_at(1_000_000).await;
    assert_eq!(world.visible().await, ["a"]);

    world.configure(kept_for(1_000_001)).await;
    world.sweep_at(1_000_000).await;
    assert_eq!(world.visible().await, ["a"]);
    world.configure(kept_for_ever()).await;
    world.sweep_at(1_000_002).await;
    assert_eq!(world.visible().await, ["a"], "nothing goes early because of a policy that is no longer in force");
    world.configure(kept_for(5)).await;
    world.sweep_at(1_000_002).await;
    assert!(world.visible().await.is_empty());
}

#[tokio::test]
async fn readers_of_a_stream_that_lost_all_its_records() {
    // data-plane.md §5.3
    let world = World::new().await;
    world.configure(kept_for(60)).await;
    world.append(testing::input(&[("a", None), ("b", None)])).await;
    world.sweep_at(60).await;
    let tail = Position::new(2, NOW);
    let once = |start, wait| {
        let streams = world.streams.clone();
        let request = ReadRequest { start, wait, ..Default::default() };
        async move {
            let stream = streams.stream(&basin(), &orders(), Access::Read, None, None).await?;
            streams.read(stream, None, &request).await
        }
    };
    for start in [ReadStart::SeqNum(SeqNum::FIRST), ReadStart::SeqNum(SeqNum::new(1)), ReadStart::TailOffset(2)] {
        assert!(once(start, None).await.unwrap().is_none(), "{start:?}: empty, and in range");
    }
    let by_time = once(ReadStart::Timestamp(Timestamp::new(NOW)), None).await;
    assert_eq!(by_time.err(), Some(Failure::OutOfRange(OutOfRange { tail })), "it comes to the tail");

    let mut follower = world.reader(from_the_start()).await;
    assert!(is_heartbeat(peek(&mut follower), 2));
    let bounds = ReadBounds { count: Some(5), ..Default::default() };
    let mut bounded = world.reader(ReadRequest { bounds, ..from_the_start() }).await;
    assert!(matches!(peek(&mut bounded), Poll::Ready(None)));
    world.append(one("c")).await;
    assert_eq!(bodies(peek(&mut follower)), ["c"]);
}

#[tokio::test]
async fn a_trim_point_raised_by_age_outlasts_commits_that_began_before() {
    let world = World::new().await;
    world.configure(kept_for(60)).await;
    world.append(one("a")).await;
    let mut writer = world.writer().await;
    world.at(30);
    put(&mut writer, &one("b"));
    world.sweep_at(60).await;
    world.store.release();
    assert_eq!(acked_range(&mut writer), Some((1, 2, 2)));
    assert_eq!(world.visible().await, ["b"]);
    world.append(testing::command(crate::types::Command::Trim(SeqNum::new(1)))).await;
    assert_eq!(world.stream().await.trim_point(), SeqNum::new(1));
}

#[tokio::test]
async fn streams_that_are_not_open_lose_their_old_records_too_and_stay_closed() {
    let world = World::new().await;
    world.configure(kept_for(60)).await;
    world.append(one("a")).await;
    world.close_idle();
    assert_eq!(world.streams.open_count(), 1, "what is known of its arrivals is not written down yet");
    world.sweep_at(1).await;
    world.close_idle();
    assert_eq!(world.streams.open_count(), 0);
    let used = world.store.memory.memory_used();
    world.sweep_at(59).await;
    assert_eq!(world.store.memory.memory_used(), used);
    world.sweep_at(60).await;
    assert_eq!((world.streams.open_count(), world.store.memory.memory_used()), (0, 0));
    assert!(world.visible().await.is_empty());
    assert_eq!(world.stream().await.check_tail(), Ok(Position::new(1, NOW)));
}

#[tokio::test]
async fn after_a_restart_what_was_written_down_counts() {
    let world = World::new().await;
    world.configure(kept_for(60)).await;
    world.append(one("a")).await;
    world.sweep_at(1).await;
    world.at(20);
    world.append(one("b")).await;
    let world = world.restarted();
    world.sweep_at(59).await;
    assert_eq!(world.visible().await, ["a", "b"]);
    world.sweep_at(60).await;
    assert_eq!(world.visible().await, ["b"]);
    // The arrival of b was lost: it counts from when b was found, which is late, and not early.
    world.sweep_at(118).await;
    assert_eq!(world.visible().await, ["b"]);
    world.sweep_at(119).await;
    assert!(world.visible().await.is_empty());
}

#[tokio::test]
async fn a_process_that_closes_forgets_no_arrival() {
    let world = World::new().await;
    world.configure(kept_for(60)).await;
    world.append(one("a")).await;
    world.at(10);
    // All of a stop but the end of the store, which the next process goes on with.
    world.streams.save_arrivals().await;
    let world = world.restarted();
    world.sweep_at(59).await;
    assert_eq!(world.visible().await, ["a"]);
    world.sweep_at(60).await;
    assert!(world.visible().await.is_empty());
}

#[tokio::test]
async fn a_stream_that_lost_its_records_is_found_so_after_a_restart() {
    let world = World::new().await;
    world.configure(kept_for(60)).await;
    world.append(one("a")).await;
    world.sweep_at(60).await;
    assert!(world.log_is_empty().await, "and its head in the store does not say so");
    let world = world.restarted();
    assert!(world.visible().await.is_empty());
    assert_eq!(world.stream().await.check_tail(), Ok(Position::new(1, NOW)));
}

#[tokio::test]
async fn what_a_process_wrote_down_and_did_not_do_the_next_one_does() {
    let world = World::new().await;
    world.configure(kept_for(60)).await;
    world.append(one("a")).await;
    world.at(60);
    let stream = world.stream().await;
    let aged = stream.aged_arrivals(crate::clock::Clock::now(&*world.clock));
    world.streams.catalogue().put_arrivals(stream.id(), &aged).await.unwrap();
    drop(stream);
    let world = world.restarted();
    assert!(world.visible().await.is_empty());
    assert!(!world.log_is_empty().await);
    world.sweep_at(61).await;
    assert!(world.log_is_empty().await);
}

#[tokio::test]
async fn sweeps_come_round_to_every_stream() {
    let world = World::new().await;
    let name = |i: usize| StreamName::new(&format!("stream/{i:05}")).unwrap();
    for i in 0..=SLICE {
        let layer = deleted_on_empty(StreamConfigLayer::default(), 10);
        world.streams.create_stream(&basin(), &name(i), layer, None).await.unwrap();
    }
    let left = async || {
        let any = StreamNamePart::default();
        let page = world.streams.list_streams(&basin(), &any, &any, 2 * SLICE).await.unwrap();
        page.entries.iter().filter(|stream| stream.deleted_at.is_none()).count()
    };
    world.sweep_at(10).await;
    assert_eq!(left().await, 1, "a slice at a time");
    world.streams.sweep().await;
    assert_eq!(left().await, 0);
    world.wait_until_gone().await;
    assert_eq!(world.streams.open_count(), 0);
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_keeps_no_other_from_its_turn() {
    let world = World::new().await;
    let newer = |name: &str| format!("s/my-basin-01/{name}").into_bytes();
    for name in ["a newer gateway's", "z too"] {
        let value = bytes::Bytes::from_static(br#"{"v":2}"#);
        let _ = world.store.meta().put(&newer(name), value, crate::store::Version::ABSENT).await.unwrap();
    }
    world.configure(kept_for(60)).await;
    world.append(one("a")).await;
    world.streams.sweep().await;
    world.close_idle();
    world.sweep_at(60).await;
    assert_eq!(world.store.memory.memory_used(), 0);
    assert!(world.store.meta().get(&newer("z too")).await.unwrap().is_some(), "it is left alone");
}

#[tokio::test]
async fn an_empty_stream_goes_after_its_time() {
    // data-plane.md §5.4: the later of the last append and becoming empty; creation if nothing was ever written.
    enum Step {
        Append(&'static str),
        Trim,
        Sweep,
    }
    use Step::{Append, Sweep, Trim};
    type Case<'a> = (&'a str, StreamConfigLayer, &'a [(u64, Step)], u64);
    let cases: [Case<'_>; 5] = [
        ("never written", kept_for_ever(), &[], 100),
        ("trimmed", kept_for_ever(), &[(0, Append("a")), (50, Trim)], 150),
        ("expired", kept_for(60), &[(0, Append("a")), (200, Sweep)], 300),
        ("written again", kept_for(60), &[(0, Append("a")), (70, Sweep), (90, Append("b")), (160, Sweep)], 260),
        ("trimmed twice", kept_for_ever(), &[(0, Append("a")), (10, Trim), (20, Trim)], 120),
    ];
    for (case, layer, steps, due) in cases {
        let world = World::new().await;
        world.configure(deleted_on_empty(layer, 100)).await;
        for (seconds, step) in steps {
            world.at(*seconds);
            match step {
                Append(body) => world.append(one(body)).await,
                Trim => world.append(Records::new().trim(u64::MAX).input()).await,
                Sweep => world.streams.sweep().await,
            }
        }
        world.sweep_at(due - 1).await;
        assert!(world.listed().await.is_some_and(|stream| stream.deleted_at.is_none()), "{case}: early");
        world.sweep_at(due).await;
        assert!(world.listed().await.is_none_or(|stream| stream.deleted_at.is_some()), "{case}: late");
        world.wait_until_gone().await;
        assert_eq!(world.store.memory.memory_used(), 0, "{case}");
    }
}

#[tokio::test]
async fn streams_with_records_or_without_the_setting_stay() {
    let cases: [(&str, StreamConfigLayer, Option<AppendInput>); 3] = [
        ("the setting is off", kept_for_ever(), None),
        ("it has a record", deleted_on_empty(kept_for_ever(), 100), Some(one("a"))),
        ("a trim that leaves itself", deleted_on_empty(kept_for_ever(), 100), Some(Records::new().trim(0).input())),
    ];
    for (case, layer, input) in cases {
        let world = World::new().await;
        world.configure(layer).await;
        if let Some(input) = input {
            world.append(input).await;
        }
        for seconds in [101, 1_000_000] {
            world.sweep_at(seconds).await;
            world.close_idle();
        }
        assert!(world.listed().await.is_some_and(|stream| stream.deleted_at.is_none()), "{case}");
    }
}

#[tokio::test]
async fn an_empty_stream_goes_after_a_restart_too() {
    let world = World::new().await;
    world.configure(deleted_on_empty(kept_for(60), 100)).await;
    world.append(one("a")).await;
    world.sweep_at(60).await;
    let world = world.restarted();
    world.sweep_at(159).await;
    assert!(world.listed().await.is_some_and(|stream| stream.deleted_at.is_none()));
    world.sweep_at(160).await;
    world.wait_until_gone().await;
}

#[tokio::test]
async fn an_append_that_comes_before_the_judgement_keeps_the_stream() {
    let world = World::new().await;
    world.configure(deleted_on_empty(kept_for_ever(), 100)).await;
    let mut writer = world.writer().await;
    world.at(100);
    put(&mut writer, &one("a"));
    world.streams.sweep().await;
    world.store.release();
    assert_eq!(acked_range(&mut writer), Some((0, 1, 1)), "it was not durable, and counted");
    world.sweep_at(1000).await;
    assert_eq!(world.visible().await, ["a"]);
}

#[tokio::test]
async fn the_judgement_ends_writers_and_followers() {
    let world = World::new().await;
    world.configure(deleted_on_empty(kept_for_ever(), 100)).await;
    let (mut writer, mut follower) = (world.writer().await, world.reader(from_the_start()).await);
    assert!(is_heartbeat(peek(&mut follower), 0));
    world.sweep_at(100).await;
    put(&mut writer, &one("late"));
    assert!(matches!(ack(&mut writer), Poll::Ready(Some(Err(Failure::StreamDeletionPending)))));
    assert!(matches!(peek(&mut follower), Poll::Ready(Some(Err(Failure::StreamDeletionPending)))));
    world.wait_until_gone().await;
    // The basin makes streams on append: the next writer has a stream of that name again.
    world.append(testing::with_match(one("again"), 0)).await;
    assert_eq!(world.visible().await, ["again"]);
}

#[tokio::test]
async fn the_next_stream_of_the_name_has_a_time_of_its_own() {
    let world = World::new().await;
    world.configure(deleted_on_empty(kept_for(60), 100)).await;
    world.append(one("a")).await;
    world.sweep_at(99).await;
    world.streams.delete_stream(&basin(), &orders()).await.unwrap();
    world.wait_until_gone().await;
    world.configure(deleted_on_empty(kept_for(60), 100)).await;
    world.append(one("b")).await;
    world.sweep_at(158).await;
    assert_eq!(world.visible().await, ["b"]);
    world.sweep_at(159).await;
    assert!(world.visible().await.is_empty());
    world.sweep_at(258).await;
    assert!(world.listed().await.is_some_and(|stream| stream.deleted_at.is_none()));
}

#[tokio::test]
async fn a_deletion_that_cannot_be_written_down_does_not_happen() {
    let world = World::new().await;
    world.configure(deleted_on_empty(kept_for_ever(), 100)).await;
    let stream = world.stream().await;
    world.store.close().await.unwrap();
    world.sweep_at(100).await;
    assert_eq!(stream.check_tail(), Ok(Position::EMPTY));
    let mut reader = world.reader(from_the_start()).await;
    assert!(is_heartbeat(peek(&mut reader), 0));
}

#[tokio::test]
async fn a_deletion_survives_a_restart() {
    let world = World::new().await;
    world.append(one("a")).await;
    let id = world.stream().await.id();
    world.sweep_at(1).await;
    world.streams.delete_stream(&basin(), &orders()).await.unwrap();
    // The background task had no chance to run: nothing here waited.
    let world = world.restarted();
    assert!(world.listed().await.is_some_and(|stream| stream.deleted_at.is_some()));
    let refused = world.streams.stream(&basin(), &orders(), Access::Append, None, None).await;
    assert_eq!(refused.err(), Some(Failure::StreamDeletionPending));
    world.wait_until_gone().await;
    assert_eq!(world.store.memory.memory_used(), 0);
    assert!(world.streams.catalogue().arrivals(id).await.unwrap().is_none(), "nothing is left of it");
    assert_eq!(world.stream().await.check_tail(), Ok(Position::EMPTY));
}

#[tokio::test]
async fn the_deletion_of_a_basin_survives_a_restart() {
    let world = World::new().await;
    world.append(one("a")).await;
    world.streams.delete_basin(&basin()).await.unwrap();
    let world = world.restarted();
    while world.streams.basin_config(&basin()).await != Err(Failure::BasinNotFound(basin())) {
        assert_eq!(world.streams.basin_config(&basin()).await, Err(Failure::BasinDeletionPending(basin())));
        tokio::task::yield_now().await;
    }
    assert_eq!(world.store.memory.memory_used(), 0);
}

#[tokio::test]
async fn a_stream_that_failed_keeps_no_arrival_that_never_was() {
    let world = World::new().await;
    world.configure(kept_for(60)).await;
    world.append(one("a")).await;
    world.streams.sweep().await;
    let mut writer = world.writer().await;
    put(&mut writer, &one("lost"));
    world.store.fail(StoreError::Unknown("gone".into()));
    drop(writer);
    world.sweep_at(1).await;
    world.at(50);
    world.append(one("b")).await;
    world.sweep_at(109).await;
    assert_eq!(world.visible().await, ["b"], "not taken for the one that was lost at its number");
}

#[tokio::test]
async fn a_changed_configuration_is_refused_while_a_stream_or_its_basin_goes() {
    // control-plane.md §9
    let world = World::new().await;
    world.append(one("a")).await;
    let change = async || world.streams.reconfigure_stream(&basin(), &orders(), &Default::default()).await.map(drop);
    world.streams.delete_stream(&basin(), &orders()).await.unwrap();
    assert_eq!(change().await, Err(Failure::StreamDeletionPending));
    world.streams.delete_basin(&basin()).await.unwrap();
    assert_eq!(change().await, Err(Failure::BasinDeletionPending(basin())));
    let basin_change = world.streams.reconfigure_basin(&basin(), &Default::default()).await;
    assert_eq!(basin_change, Err(Failure::BasinDeletionPending(basin())));
}

#[tokio::test]
async fn a_patch_holds_in_open_sessions() {
    // control-plane.md §5.4
    use crate::types::{Change, StreamReconfiguration, TimestampingMode};
    let world = World::new().await;
    let mut writer = world.writer().await;
    put(&mut writer, &testing::input(&[("a", None)]));
    let changes = StreamReconfiguration {
        timestamping_mode: Change::Set(TimestampingMode::ClientRequire),
        retention_policy: Change::Set(RetentionPolicy::Age(NonZeroU64::new(60).unwrap())),
        ..Default::default()
    };
    world.streams.reconfigure_stream(&basin(), &orders(), &changes).await.unwrap();
    put(&mut writer, &testing::input(&[("b", None)]));
    world.store.release();
    assert_eq!(acked_range(&mut writer), Some((0, 1, 1)));
    let missing = Failure::Rejected(Rejection::TimestampMissing { index: 0 });
    assert!(matches!(ack(&mut writer), Poll::Ready(Some(Err(failure))) if failure == missing));
    world.sweep_at(60).await;
    assert!(world.visible().await.is_empty());
}
