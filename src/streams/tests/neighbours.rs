//! Basins and streams that several gateways make, change and delete, and what each knows of what the others did.

use super::{
    shared::{Gateway, Gateways, told},
    *,
};
use crate::types::{BasinReconfiguration, Change, RetentionPolicy, StreamReconfiguration};

/// Longer than anyone relies on what they read.
const NOTICED: Duration = Duration::from_millis(2100);
/// Longer than it takes to remove what was deleted.
const REMOVED: Duration = Duration::from_secs(10);

fn named(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

fn stamped(mode: TimestampingMode) -> StreamConfigLayer {
    StreamConfigLayer { timestamping_mode: Some(mode), ..Default::default() }
}

impl Gateway {
    async fn exists(&self, name: &StreamName) -> bool {
        self.streams.stream_config(&basin(), name).await.is_ok()
    }

    async fn delete(&self) {
        self.streams.delete_stream(&basin(), &orders()).await.unwrap();
    }

    async fn try_stream(&self) -> Result<Arc<Stream>, Failure> {
        self.streams.stream(&basin(), &orders(), Access::Append, None, None).await
    }
}

#[tokio::test]
async fn what_one_gateway_made_another_serves_at_once() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    let other = BasinName::new("other-basin").unwrap();
    a.streams.create_basin(&other, BasinWish::default(), None).await.unwrap();
    b.streams.create_stream(&other, &orders(), StreamConfigLayer::default(), None).await.unwrap();
    assert!(a.streams.stream(&other, &orders(), Access::Read, None, None).await.is_ok());
}

#[tokio::test]
async fn gateways_that_make_the_same_stream_at_the_same_time_share_it() {
    let gateways = Gateways::new(3).await;
    let [a, b, c] = &gateways.all[..] else { panic!() };
    let (first, second, third) = tokio::join!(a.stream(), b.stream(), c.stream());
    assert!(first.id() == second.id() && second.id() == third.id());
}

#[tokio::test]
async fn of_those_who_create_the_same_stream_one_did() {
    // control-plane.md §5.2
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    let create = |gateway: &Gateway, name: &str, token: Option<&str>| {
        let (streams, name) = (gateway.streams.clone(), named(name));
        let token = token.map(|token| RequestToken::new(token).unwrap());
        async move {
            let layer = StreamConfigLayer::default();
            streams.create_stream(&basin(), &name, layer, token).await.map(|(_, result)| result)
        }
    };
    let both = tokio::join!(create(a, "x", None), create(b, "x", None));
    let exists = Err(Failure::StreamExists(basin(), named("x")));
    assert!(both == (Ok(Provision::Created), exists.clone()) || both == (exists, Ok(Provision::Created)), "{both:?}");
    let both = tokio::join!(create(a, "y", Some("t")), create(b, "y", Some("t")));
    let expected = (Ok(Provision::Created), Ok(Provision::Noop));
    assert!(both == expected || both == (expected.1, expected.0), "one request that came twice: {both:?}");
}

#[tokio::test]
async fn changes_of_different_settings_at_the_same_time_are_both_made() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    a.stream().await;
    let (of, name) = (basin(), orders());
    let uncapped = StreamReconfiguration { timestamping_uncapped: Change::Set(true), ..Default::default() };
    let infinite =
        StreamReconfiguration { retention_policy: Change::Set(RetentionPolicy::Infinite), ..Default::default() };
    let (first, second) = tokio::join!(
        a.streams.reconfigure_stream(&of, &name, &uncapped),
        b.streams.reconfigure_stream(&of, &name, &infinite)
    );
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    let config = a.streams.stream_config(&basin(), &orders()).await.unwrap();
    assert_eq!((config.timestamping.uncapped, config.retention_policy), (true, RetentionPolicy::Infinite));

    let on_append = BasinReconfiguration { create_stream_on_append: Some(false), ..Default::default() };
    let on_read = BasinReconfiguration { create_stream_on_read: Some(false), ..Default::default() };
    let (first, second) =
        tokio::join!(a.streams.reconfigure_basin(&of, &on_append), b.streams.reconfigure_basin(&of, &on_read));
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    let config = a.streams.basin_config(&basin()).await.unwrap();
    assert!(!config.create_stream_on_append && !config.create_stream_on_read);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_changed_elsewhere_is_in_force_within_seconds() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    let mut writer = b.writer().await;
    let layer = stamped(TimestampingMode::Arrival);
    a.streams.ensure_stream(&basin(), &orders(), layer, Operations::ALL).await.unwrap();
    tokio::time::sleep(NOTICED).await;
    put(&mut writer, &testing::input(&[("b", Some(5))]));
    b.store.settle();
    let Poll::Ready(Some(Ok(ack))) = told(&mut writer).await else { panic!() };
    assert_eq!(ack.end.timestamp, Timestamp::new(NOW));
}

#[tokio::test(start_paused = true)]
async fn a_stream_deleted_elsewhere_ends_its_sessions_within_seconds() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    let (mut reader, mut writer) = {
        let stream = b.stream().await;
        let reader = b.streams.read_session(stream, None, &from_the_start()).await.unwrap();
        (reader, b.writer().await)
    };
    assert!(is_heartbeat(peek(&mut reader), 0));
    assert!(peek(&mut reader).is_pending());
    a.delete().await;
    tokio::time::sleep(NOTICED).await;
    assert!(matches!(peek(&mut reader), Poll::Ready(Some(Err(Failure::StreamDeletionPending)))));
    put(&mut writer, &one("late"));
    assert!(matches!(told(&mut writer).await, Poll::Ready(Some(Err(Failure::StreamDeletionPending)))));
    assert_eq!(b.try_stream().await.err(), Some(Failure::StreamDeletionPending));
}

#[tokio::test(start_paused = true)]
async fn who_makes_a_stream_anew_meets_nobody_with_the_old_one() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    let old = b.stream().await.id();
    a.append(one("old")).await;
    a.delete().await;
    let new = loop {
        match a.try_stream().await {
            Ok(stream) => break stream.id(),
            Err(failure) => assert_eq!(failure, Failure::StreamDeletionPending),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(new != old && gateways.engine.is_deleted(old));
    a.append(one("new")).await;
    assert_eq!(b.stream().await.id(), new, "at once");
    assert_eq!(b.tail().await, 1);
}

#[tokio::test(start_paused = true)]
async fn both_may_remove_what_either_deleted() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    a.stream().await;
    for name in ["x", "y"] {
        a.streams.create_stream(&basin(), &named(name), StreamConfigLayer::default(), None).await.unwrap();
    }
    let name = basin();
    let (first, second) = tokio::join!(a.streams.delete_basin(&name), b.streams.delete_basin(&name));
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    b.streams.resume_deletions().await.unwrap();
    tokio::time::sleep(REMOVED).await;
    assert_eq!(a.streams.basin_config(&basin()).await, Err(Failure::BasinNotFound(basin())));
    b.streams.create_basin(&basin(), BasinWish::default(), None).await.unwrap();
    assert!(!a.exists(&named("x")).await);
}

#[tokio::test(start_paused = true)]
async fn who_is_late_in_removing_a_basin_leaves_the_next_one_alone() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    let mark = async || {
        b.streams.delete_basin(&basin()).await.unwrap();
        b.streams.going_basin(&basin()).await.unwrap().expect("it is marked")
    };
    let first = mark().await;
    tokio::time::sleep(REMOVED).await;
    b.streams.create_basin(&basin(), BasinWish::default(), None).await.unwrap();
    b.streams.create_stream(&basin(), &orders(), StreamConfigLayer::default(), None).await.unwrap();
    // Its streams are still there.
    mark().await;
    a.streams.forget_basin(&basin(), &first).await.unwrap();
    assert!(a.streams.going_basin(&basin()).await.unwrap().is_some());
    tokio::time::sleep(REMOVED).await;
    assert_eq!(a.streams.basin_config(&basin()).await, Err(Failure::BasinNotFound(basin())));
    assert!(!a.exists(&orders()).await);
}

#[tokio::test(start_paused = true)]
async fn who_is_late_in_taking_a_stream_back_leaves_the_next_one_alone() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    let mine = b.stream().await.id();
    let found = b.streams.catalogue().stream(&basin(), &orders()).await.unwrap().unwrap().entry;
    let others = crate::types::StreamEntry { id: crate::types::StreamId::new(1), ..found };
    b.streams.delete_basin(&basin()).await.unwrap();
    let late = a.streams.unless_basin_went(&basin(), &orders(), others).await;
    assert_eq!(late, Err(Failure::BasinDeletionPending(basin())));
    let left = a.streams.catalogue().stream(&basin(), &orders()).await.unwrap();
    assert_eq!(left.map(|found| found.entry.id), Some(mine));
}

/// A stream on both gateways that goes when it was empty for a minute.
async fn short_lived(gateways: &Gateways) {
    let layer = StreamConfigLayer { delete_on_empty_min_age_secs: Some(60), ..Default::default() };
    gateways.all[0].streams.ensure_stream(&basin(), &orders(), layer, Operations::ALL).await.unwrap();
    for gateway in &gateways.all {
        gateway.stream().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_empty_everywhere_goes() {
    let gateways = Gateways::new(2).await;
    short_lived(&gateways).await;
    gateways.clock.set(Timestamp::new(NOW + 61_000));
    let (a, b) = gateways.pair();
    tokio::join!(a.streams.sweep(), b.streams.sweep());
    tokio::time::sleep(REMOVED).await;
    assert!(!a.exists(&orders()).await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_another_gateway_appended_to_is_not_empty() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    short_lived(&gateways).await;
    gateways.clock.set(Timestamp::new(NOW + 61_000));
    a.append(one("a")).await;
    b.streams.sweep().await;
    tokio::time::sleep(REMOVED).await;
    assert!(b.exists(&orders()).await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_appended_to_before_all_had_noticed_comes_back() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    short_lived(&gateways).await;
    let mut writer = a.writer().await;
    gateways.clock.set(Timestamp::new(NOW + 61_000));
    b.streams.sweep().await;
    assert!(!b.exists(&orders()).await, "marked");
    put(&mut writer, &one("a"));
    a.store.settle();
    assert!(matches!(told(&mut writer).await, Poll::Ready(Some(Ok(_)))));
    tokio::time::sleep(REMOVED).await;
    for gateway in &gateways.all {
        assert_eq!(gateway.tail().await, 1);
    }
    // What its owner deletes, goes.
    b.delete().await;
    tokio::time::sleep(REMOVED).await;
    assert!(!a.exists(&orders()).await);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_a_gateway_died_in_is_not_taken_back_by_another() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    short_lived(&gateways).await;
    a.append(one("a")).await;
    a.append(testing::Records::new().trim(u64::MAX).input()).await;
    let id = a.stream().await.id();
    gateways.clock.set(Timestamp::new(NOW + 61_000));
    a.streams.sweep().await;
    assert!(!b.exists(&orders()).await, "marked");
    // One that came as far as this, and no further.
    b.store.delete(id).await.unwrap();
    tokio::time::sleep(REMOVED).await;
    assert!(matches!(a.streams.stream_config(&basin(), &orders()).await, Err(Failure::StreamNotFound(..))));
    assert_ne!(a.stream().await.id(), id, "no number is given twice");
}

#[tokio::test(start_paused = true)]
async fn who_read_of_a_stream_before_its_end_does_not_serve_it_anew() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    a.stream().await;
    // Read by a gateway that is stopped then, or from a server that has not heard of the deletion.
    let read = b.streams.catalogue().stream(&basin(), &orders()).await.unwrap().unwrap().entry;
    a.delete().await;
    tokio::time::sleep(REMOVED).await;
    assert!(gateways.engine.is_deleted(read.id));
    let opened = b.streams.open_log(&(basin(), orders()), &read).await.map(|stream| stream.id());
    assert_eq!(opened, Err(Failure::StreamDeletionPending));
}

#[tokio::test(start_paused = true)]
async fn what_one_gateway_removed_for_its_age_another_does_not_bring_back() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    let layer = StreamConfigLayer {
        retention_policy: Some(RetentionPolicy::Age(std::num::NonZeroU64::new(60).unwrap())),
        ..Default::default()
    };
    a.streams.ensure_stream(&basin(), &orders(), layer, Operations::ALL).await.unwrap();
    for gateway in &gateways.all {
        gateway.stream().await;
    }
    a.append(one("old")).await;
    gateways.clock.set(Timestamp::new(NOW + 61_000));
    a.append(one("new")).await;
    a.streams.sweep().await;
    // B hears of the old record only now, and would keep it for another minute.
    assert_eq!(b.tail().await, 2);
    b.streams.save_arrivals().await;
    let id = a.stream().await.id();
    let kept = b.streams.catalogue().arrivals(id).await.unwrap().unwrap().entry;
    assert_eq!(kept.removed_to(), SeqNum::new(1));
    let stream = b.stream().await;
    let mut reader = b.streams.read_session(stream, None, &from_the_start()).await.unwrap();
    assert_eq!(bodies(peek(&mut reader)), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn records_that_are_to_be_kept_longer_by_now_are_kept() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    let layer = StreamConfigLayer {
        retention_policy: Some(RetentionPolicy::Age(std::num::NonZeroU64::new(60).unwrap())),
        ..Default::default()
    };
    a.streams.ensure_stream(&basin(), &orders(), layer, Operations::ALL).await.unwrap();
    b.append(one("b")).await;
    let longer =
        StreamReconfiguration { retention_policy: Change::Set(RetentionPolicy::Infinite), ..Default::default() };
    a.streams.reconfigure_stream(&basin(), &orders(), &longer).await.unwrap();
    gateways.clock.set(Timestamp::new(NOW + 61_000));
    b.streams.sweep().await;
    let stream = b.stream().await;
    let mut reader = b.streams.read_session(stream, None, &from_the_start()).await.unwrap();
    assert_eq!(bodies(peek(&mut reader)), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_ends_although_nobody_answers_it() {
    let gateways = Gateways::new(1).await;
    let gateway = &gateways.all[0];
    gateway.append(one("a")).await;
    gateways.engine.fall_silent();
    let closed = tokio::time::timeout(Duration::from_secs(60), gateway.streams.close()).await;
    assert_eq!(closed, Ok(Ok(())));
}
