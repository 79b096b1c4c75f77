//! Basins and streams: made, listed, configured, deleted; and the errors that clients tell apart.

use futures::{StreamExt, TryStreamExt};
use s2_sdk::{
    S2, S2Basin,
    append_session::AppendSessionConfig,
    error::RequestError,
    producer::ProducerConfig,
    types::{
        BasinConfig, CreateBasinInput, CreateStreamInput, DeleteBasinInput, DeleteOnEmptyConfig, DeleteStreamInput,
        EnsureBasinInput, EnsureOutput, EnsureStreamInput, ListAllBasinsInput, ListAllStreamsInput, ListBasinsInput,
        ListStreamsInput, RetentionPolicy, StreamConfig, StreamName, TimestampingConfig, TimestampingMode,
    },
};

use super::{
    sdk::{
        assert_numbered, basin_name, caught_up, client, follow, from_seq_num, in_time, new_basin, new_stream, numbered,
        read_until, record, same_stream, server_error, stream_name,
    },
    support::Gateway,
};

const fn retention(seconds: u64) -> Option<RetentionPolicy> {
    Some(RetentionPolicy::Age(seconds))
}

fn keeping(seconds: u64) -> StreamConfig {
    StreamConfig::new().with_retention_policy(RetentionPolicy::Age(seconds))
}

fn refused<T: std::fmt::Debug>(result: Result<T, RequestError>) -> (u16, String) {
    let error = result.unwrap_err();
    let (status, code) = server_error(Some(&error));
    (status, code.to_owned())
}

#[tokio::test]
async fn a_basin_is_made_found_and_deleted() {
    let gateway = Gateway::start().await;
    let s2 = client(gateway.address);
    let name = basin_name("my-basin-01");
    let config = BasinConfig::new().with_create_stream_on_append(true).with_default_stream_config(keeping(3600));

    let made = s2.create_basin(CreateBasinInput::new(name.clone()).with_config(config)).await.unwrap();
    assert_eq!((&made.name, made.deleted_at), (&name, None));
    assert_eq!(s2.list_basins(ListBasinsInput::new()).await.unwrap().values, [made]);
    let config = s2.get_basin_config(name.clone()).await.unwrap();
    assert!(config.create_stream_on_append && !config.create_stream_on_read);
    assert_eq!(config.default_stream_config.unwrap().retention_policy, retention(3600));

    let again = s2.create_basin(CreateBasinInput::new(name.clone())).await;
    assert_eq!(refused(again), (409, "resource_already_exists".into()));

    s2.delete_basin(DeleteBasinInput::new(name.clone())).await.unwrap();
    let gone = until_gone(async || s2.get_basin_config(name.clone()).await).await;
    assert_eq!(gone, (404, "basin_not_found".into()));
    let gone = s2.delete_basin(DeleteBasinInput::new(name.clone())).await;
    assert_eq!(refused(gone), (404, "basin_not_found".into()));
    s2.delete_basin(DeleteBasinInput::new(name).with_ignore_not_found(true)).await.unwrap();
    assert!(s2.list_basins(ListBasinsInput::new()).await.unwrap().values.is_empty());
}

/// Deletion goes on in the background; asks again until it is through.
async fn until_gone<T: std::fmt::Debug>(ask: impl AsyncFn() -> Result<T, RequestError>) -> (u16, String) {
    in_time(async {
        loop {
            let (status, code) = refused(ask().await);
            match status {
                409 => tokio::task::yield_now().await,
                _ => return (status, code),
            }
        }
    })
    .await
}

#[tokio::test]
async fn ensuring_says_what_it_did() {
    let gateway = Gateway::start().await;
    let s2 = client(gateway.address);
    let ensure_basin = async |config: BasinConfig| {
        let input = EnsureBasinInput::new(basin_name("my-basin-01")).with_config(config);
        outcome(s2.ensure_basin(input).await.unwrap())
    };
    let appending = || BasinConfig::new().with_create_stream_on_append(true);
    assert_eq!(ensure_basin(appending()).await, "created");
    assert_eq!(ensure_basin(appending()).await, "unchanged");
    assert_eq!(ensure_basin(BasinConfig::new()).await, "updated");
    assert!(!s2.get_basin_config(basin_name("my-basin-01")).await.unwrap().create_stream_on_append);

    let basin = s2.basin(basin_name("my-basin-01"));
    let ensure_stream = async |config: StreamConfig| {
        let input = EnsureStreamInput::new(stream_name("orders/eu")).with_config(config);
        outcome(basin.ensure_stream(input).await.unwrap())
    };
    assert_eq!(ensure_stream(keeping(60)).await, "created");
    assert_eq!(ensure_stream(keeping(60)).await, "unchanged");
    assert_eq!(ensure_stream(StreamConfig::new()).await, "updated");
    let config = basin.get_stream_config(stream_name("orders/eu")).await.unwrap();
    assert_eq!(config.retention_policy, retention(604_800));

    // A client may say nothing at all.
    let bare = EnsureBasinInput::new(basin_name("another-basin"));
    assert_eq!(outcome(s2.ensure_basin(bare).await.unwrap()), "created");
    let bare = EnsureStreamInput::new(stream_name("another"));
    assert_eq!(outcome(basin.ensure_stream(bare).await.unwrap()), "created");
}

fn outcome<T>(output: EnsureOutput<T>) -> &'static str {
    match output {
        EnsureOutput::Created(_) => "created",
        EnsureOutput::ConfigUpdated(_) => "updated",
        EnsureOutput::ConfigUnchanged(_) => "unchanged",
    }
}

#[tokio::test]
async fn a_stream_has_its_own_configuration_over_its_basins() {
    let gateway = Gateway::start().await;
    let s2 = client(gateway.address);
    let defaults = keeping(3600).with_timestamping(TimestampingConfig::new().with_mode(TimestampingMode::Arrival));
    let config = BasinConfig::new().with_default_stream_config(defaults);
    s2.create_basin(CreateBasinInput::new(basin_name("my-basin-01")).with_config(config)).await.unwrap();
    let basin = s2.basin(basin_name("my-basin-01"));

    let own = StreamConfig::new().with_retention_policy(RetentionPolicy::Infinite);
    basin.create_stream(CreateStreamInput::new(stream_name("own")).with_config(own)).await.unwrap();
    let found = basin.get_stream_config(stream_name("own")).await.unwrap();
    let resolved = StreamConfig::new()
        .with_storage_class("express")
        .with_retention_policy(RetentionPolicy::Infinite)
        .with_timestamping(TimestampingConfig::new().with_mode(TimestampingMode::Arrival).with_uncapped(false))
        .with_delete_on_empty(DeleteOnEmptyConfig::new());
    assert_eq!(found, resolved);

    basin.create_stream(CreateStreamInput::new(stream_name("plain"))).await.unwrap();
    let found = basin.get_stream_config(stream_name("plain")).await.unwrap();
    assert_eq!(found.retention_policy, retention(3600));
    let again = basin.create_stream(CreateStreamInput::new(stream_name("plain"))).await;
    assert_eq!(refused(again), (409, "resource_already_exists".into()));
}

#[tokio::test]
async fn stream_names_are_any_text() {
    let gateway = Gateway::start().await;
    let basin = new_basin(&client(gateway.address)).await;
    let long = "l".repeat(512);
    let mut names = ["a/b/c", "with space", "100%", "ünïcode/🦀", "?query#fragment", "a%2Fb", "..a", "+", &long];
    for name in names {
        basin.create_stream(CreateStreamInput::new(stream_name(name))).await.unwrap();
        let stream = basin.stream(stream_name(name));
        stream.append(numbered(0..1)).await.unwrap();
        assert_numbered(&read_until(&mut follow(&stream, 0).await, 1).await, 0..1);
    }
    names.sort_unstable();
    assert_eq!(all_streams(&basin, "").await, names);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let gateway = Gateway::start().await;
    let s2 = client(gateway.address);
    let basin = new_basin(&s2).await;
    for n in 0..25 {
        basin.create_stream(CreateStreamInput::new(stream_name(&format!("in/{n:02}")))).await.unwrap();
        s2.create_basin(CreateBasinInput::new(basin_name(&format!("basin-number-{n:02}")))).await.unwrap();
    }
    basin.create_stream(CreateStreamInput::new(stream_name("out"))).await.unwrap();

    let after = |name: &str| {
        ListStreamsInput::new()
            .with_limit(10)
            .with_prefix("in/".parse().unwrap())
            .with_start_after(name.parse().unwrap())
    };
    for (start_after, first, len, has_more) in [("", 0, 10, true), ("in/09", 10, 10, true), ("in/19", 20, 5, false)] {
        let page = basin.list_streams(after(start_after)).await.unwrap();
        let names: Vec<_> = page.values.iter().map(|stream| stream.name.to_string()).collect();
        let expected: Vec<_> = (first..first + len).map(|n| format!("in/{n:02}")).collect();
        assert_eq!((names, page.has_more), (expected, has_more), "after {start_after:?}");
    }
    assert_eq!(all_streams(&basin, "in/").await.len(), 25);
    assert_eq!(all_streams(&basin, "").await.len(), 26);

    let page = s2.list_basins(ListBasinsInput::new().with_limit(10)).await.unwrap();
    assert_eq!((page.values.len(), page.has_more), (10, true));
    let prefixed = ListAllBasinsInput::new().with_prefix("basin-number-1".parse().unwrap());
    let basins: Vec<_> = s2.list_all_basins(prefixed).try_collect().await.unwrap();
    assert_eq!(basins.len(), 10);
}

async fn all_streams(basin: &S2Basin, prefix: &str) -> Vec<String> {
    let input = ListAllStreamsInput::new().with_prefix(prefix.parse().unwrap());
    basin.list_all_streams(input).map(|stream| stream.unwrap().name.to_string()).collect().await
}

#[tokio::test]
async fn a_deleted_stream_ends_for_all_and_begins_anew() {
    let gateway = Gateway::start().await;
    let s2 = client(gateway.address);
    let stream = new_stream(&s2).await;
    let basin = s2.basin(basin_name("my-basin-01"));
    stream.append(numbered(0..10)).await.unwrap();
    let mut follower = follow(&stream, 10).await;
    assert_eq!(caught_up(&mut follower).await, 10);
    let writer = stream.append_session(Default::default());
    in_time(writer.submit(numbered(10..11)).await.unwrap()).await.unwrap();
    assert_numbered(&read_until(&mut follower, 11).await, 10..11);

    basin.delete_stream(DeleteStreamInput::new(stream_name("orders/eu"))).await.unwrap();

    let ended = in_time(follower.next()).await.unwrap().unwrap_err();
    assert_is_gone(ended.request_error());
    let ended = in_time(writer.submit(numbered(11..12)).await.unwrap()).await.unwrap_err();
    assert_is_gone(ended.request_error());

    make_again(&basin, stream_name("orders/eu")).await;
    assert_eq!(stream.check_tail().await.unwrap().seq_num, 0);
    stream.append(numbered(0..3).with_match_seq_num(0)).await.unwrap();
    assert_numbered(&stream.read(from_seq_num(0)).await.unwrap().records, 0..3);
}

/// A client that comes again after the end finds the stream going or gone.
#[track_caller]
fn assert_is_gone(error: Option<&RequestError>) {
    let told = server_error(error);
    assert!(matches!(told, (409, "stream_deletion_pending") | (404, "stream_not_found")), "{told:?}");
}

/// The name is taken until the old stream's records are gone.
async fn make_again(basin: &S2Basin, name: StreamName) {
    in_time(async {
        while let Err(error) = basin.create_stream(CreateStreamInput::new(name.clone())).await {
            assert_eq!(server_error(Some(&error)), (409, "stream_deletion_pending"));
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_basin_takes_its_streams_with_it() {
    let gateway = Gateway::start().await;
    let s2 = client(gateway.address);
    let stream = new_stream(&s2).await;
    stream.append(numbered(0..1)).await.unwrap();
    let name = basin_name("my-basin-01");
    s2.delete_basin(DeleteBasinInput::new(name.clone())).await.unwrap();
    until_gone(async || s2.get_basin_config(name.clone()).await).await;

    let again = new_stream(&s2).await;
    assert_eq!(again.check_tail().await.unwrap().seq_num, 0);
}

#[tokio::test]
async fn streams_are_made_by_those_who_use_them() {
    let gateway = Gateway::start().await;
    let s2 = client(gateway.address);
    let config = BasinConfig::new()
        .with_create_stream_on_append(true)
        .with_create_stream_on_read(true)
        .with_default_stream_config(keeping(3600));
    s2.create_basin(CreateBasinInput::new(basin_name("my-basin-01")).with_config(config)).await.unwrap();
    let basin = s2.basin(basin_name("my-basin-01"));
    let kept = async |name: &str| basin.get_stream_config(stream_name(name)).await.unwrap().retention_policy;

    basin.stream(stream_name("by-append")).append(numbered(0..1)).await.unwrap();
    assert_eq!(kept("by-append").await, retention(3600));

    let stream = basin.stream(stream_name("by-append-with-config"));
    stream.append(numbered(0..1).with_stream_config(keeping(60))).await.unwrap();
    // Of no use when the stream is there.
    stream.append(numbered(1..2).with_stream_config(keeping(70))).await.unwrap();
    assert_eq!(kept("by-append-with-config").await, retention(60));

    let config = AppendSessionConfig::new().with_stream_config(keeping(60));
    let session = basin.stream(stream_name("by-append-session")).append_session(config);
    in_time(session.submit(numbered(0..1)).await.unwrap()).await.unwrap();
    assert_eq!(kept("by-append-session").await, retention(60));

    let config = ProducerConfig::new().with_stream_config(keeping(60));
    let producer = basin.stream(stream_name("by-producer")).producer(config);
    producer.submit(record("0")).await.unwrap();
    in_time(producer.close()).await.unwrap();
    assert_eq!(kept("by-producer").await, retention(60));

    let read = basin.stream(stream_name("by-read")).read(from_seq_num(0).with_stream_config(keeping(60))).await;
    assert!(read.is_err(), "there is nothing to read");
    assert_eq!(kept("by-read").await, retention(60));

    let stream = basin.stream(stream_name("by-read-session"));
    let input = from_seq_num(0).with_stream_config(keeping(60));
    let mut session = stream.read_session(input, Default::default()).await.unwrap();
    assert_eq!(caught_up(&mut session).await, 0);
    assert_eq!(kept("by-read-session").await, retention(60));
}

#[tokio::test]
async fn who_asks_for_what_is_not_there_is_told_what_is_missing() {
    let gateway = Gateway::start().await;
    let s2 = client(gateway.address);
    assert_all_not_found(&s2, "basin_not_found").await;
    new_basin(&s2).await;
    assert_all_not_found(&s2, "stream_not_found").await;
}

/// Every operation on a stream whose name or basin's name means nothing.
async fn assert_all_not_found(s2: &S2, code: &str) {
    let basin = s2.basin(basin_name("my-basin-01"));
    let stream = same_stream(s2);
    let not_found = (404, code);

    let error = basin.get_stream_config(stream_name("orders/eu")).await.unwrap_err();
    assert_eq!(server_error(Some(&error)), not_found);
    let error = basin.delete_stream(DeleteStreamInput::new(stream_name("orders/eu"))).await.unwrap_err();
    assert_eq!(server_error(Some(&error)), not_found);
    let error = stream.append(numbered(0..1)).await.unwrap_err();
    assert_eq!(server_error(error.request_error()), not_found);
    let error = stream.read(from_seq_num(0)).await.unwrap_err();
    assert_eq!(server_error(error.request_error()), not_found);
    let error = stream.check_tail().await.unwrap_err();
    assert_eq!(server_error(error.request_error()), not_found);
    let error = stream.read_session(from_seq_num(0), Default::default()).await.err().unwrap();
    assert_eq!(server_error(error.request_error()), not_found);
    let session = stream.append_session(Default::default());
    let error = match in_time(session.submit(numbered(0..1))).await {
        Ok(ticket) => in_time(ticket).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(server_error(error.request_error()), not_found);
}
