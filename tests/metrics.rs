//! Usage metrics and locations, as clients see them: over plain HTTP with the time in hand, and with the official client.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use s2_sdk::{
    S2,
    error::{RequestError, ServerError},
    types::{
        AccountMetricSet, AppendInput, AppendRecord, AppendRecordBatch, BasinMetricSet, CreateBasinInput,
        CreateStreamInput, GetAccountMetricsInput, GetBasinMetricsInput, GetStreamMetricsInput, ListBasinsInput,
        Metric, MetricUnit, ReadFrom, ReadInput, ReadStart, S2Config, S2Endpoints, StreamMetricSet, TimeRange,
        TimeRangeAndInterval, TimeseriesInterval,
    },
};
use s2s_gateway::{
    auth::AuthConfig,
    clock::{Clock, ManualClock, SystemClock},
    types::{LocationName, Secret, Timestamp, epoch_seconds},
};
use serde_json::{Value, json};

use self::support::{
    Gateway, Setup,
    peer::{BASIN, Peer, any_request, basin_request, input, records_path, stream_path, within},
};

/// A midnight.
const T0: u32 = 1_750_032_000;
/// What a record with a body of one byte is metered as.
const ONE: u64 = 9;

struct World {
    gateway: Gateway,
    clock: Arc<ManualClock>,
    peer: Peer,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let gateway = Setup { clock: clock.clone(), ..Default::default() }.start().await;
        let peer = Peer::connect(&gateway).await;
        let world = Self { gateway, clock, peer };
        world.at(T0);
        world
    }

    fn at(&self, seconds: u32) {
        self.clock.set(Timestamp::new(u64::from(seconds) * 1000));
    }

    async fn append_once(&mut self, stream: &str) {
        let reply = self.peer.json("POST", &records_path(stream), r#"{"records":[{"body":"x"}]}"#).await;
        assert_eq!(reply.status(), 200, "{reply:?}");
    }

    /// The series of an answer, by name, with the points in each.
    async fn metrics(&mut self, path: &str) -> Vec<(String, Vec<(u32, u64)>)> {
        self.gateway.streams.usage().flush().await.unwrap();
        let reply = self.peer.get(&format!("/v1/metrics{path}")).await;
        assert_eq!(reply.status(), 200, "{reply:?}");
        let series = |metric: &Value| {
            let (_, metric) = metric.as_object().unwrap().iter().next().unwrap();
            let point = |point: &Value| (point[0].as_u64().unwrap() as u32, point[1].as_f64().unwrap() as u64);
            (
                metric["name"].as_str().unwrap().to_owned(),
                metric["values"].as_array().unwrap().iter().map(point).collect(),
            )
        };
        reply.json()["values"].as_array().unwrap().iter().map(series).collect()
    }

    /// The sum of each series of a set of the basin, over the first day.
    async fn basin(&mut self, set: &str) -> Vec<(String, u64)> {
        let path = format!("/{BASIN}?set={set}&interval=day&start={T0}&end={}", T0 + 1);
        let metrics = self.metrics(&path).await;
        metrics.into_iter().map(|(name, points)| (name, points.iter().map(|(_, value)| value).sum())).collect()
    }
}

fn named(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}

#[tokio::test]
async fn appends_and_reads_are_counted() {
    // control-plane.md §8.2
    let mut world = World::new().await;
    world.peer.provision(&["orders", "other"]).await;
    world.append_once("orders").await;
    world.append_once("orders").await;
    let mut session = world.peer.append_session("orders").await;
    session.send(input(["a", "b"]));
    session.expect_acked().await;
    assert_eq!(world.basin("append-ops").await, named(&[("express", 1)]), "one connection, one stream, one minute");
    world.append_once("other").await;
    world.at(T0 + 60);
    session.send(input(["c"]));
    session.expect_acked().await;
    let mut peer = Peer::connect(&world.gateway).await;
    peer.json("POST", &records_path("orders"), r#"{"records":[{"body":"x"}]}"#).await;
    assert_eq!(world.basin("append-ops").await, named(&[("express", 4)]));
    assert_eq!(world.basin("append-throughput").await, named(&[("express", 7 * ONE)]));

    for _ in 0..2 {
        assert_eq!(world.peer.get(&format!("{}?seq_num=0&count=1", records_path("orders"))).await.status(), 200);
    }
    for _ in 0..2 {
        let mut session = world.peer.read_session("orders", "seq_num=0&count=3").await;
        session.expect_records(3).await;
        session.expect_end().await;
    }
    for _ in 0..2 {
        let path = format!("{}?seq_num=0&count=3", records_path("orders"));
        let events = basin_request("GET", &path).header("accept", "text/event-stream").body(Bytes::new()).unwrap();
        assert_eq!(world.peer.call(events).await.status(), 200);
    }
    assert_eq!(world.basin("read-ops").await, named(&[("streaming", 1), ("unary", 2)]));
    assert_eq!(world.basin("read-throughput").await, named(&[("read", 14 * ONE)]));
}

#[tokio::test]
async fn who_is_not_known_is_not_counted() {
    let mut setup = Setup::default();
    setup.server.auth = AuthConfig::On { root: Some(Secret::new("root-secret").unwrap()) };
    let gateway = setup.start().await;
    let mut anybody = Peer::connect(&gateway).await;
    let mut operator = Peer::connect(&gateway).await.bearing("root-secret");
    for _ in 0..3 {
        anybody.get("/v1/basins").await.assert_error(401, "authn");
    }
    assert_eq!(operator.get("/v1/locations").await.status(), 200);
    gateway.streams.usage().flush().await.unwrap();
    let now = now();
    let reply = operator.get(&format!("/v1/metrics?set=account-ops&start={}&end={now}", now - 60)).await.json();
    let series = reply["values"].as_array().unwrap().iter();
    let counted: Vec<_> = series.map(|series| &series["accumulation"]["name"]).collect();
    assert_eq!(counted, ["list-locations"]);
}

#[tokio::test]
async fn requests_are_counted_at_their_level() {
    // control-plane.md §8.2
    let mut world = World::new().await;
    world.peer.provision(&["orders"]).await;
    world.peer.json("PUT", &stream_path("orders"), "").await;
    for path in ["/v1/streams", "/v1/streams/orders", "/v1/streams/nobody", "/v1/basins", "/v1/locations"] {
        world.peer.get(path).await;
    }
    let made_up = any_request("GET", "/v1/streams").header("s2-basin", "no-such-basin");
    assert_eq!(world.peer.call(made_up.body(Default::default()).unwrap()).await.status(), 404);
    let managed = [("create-stream", 1), ("get-stream-config", 1), ("list-streams", 1), ("reconfigure-stream", 1)];
    assert_eq!(world.basin("basin-ops").await, named(&managed));
    let path = format!("?set=account-ops&start={T0}&end={}", T0 + 1);
    let account = world.metrics(&path).await;
    let expected = ["basin-metrics", "create-basin", "list-basins", "list-locations"];
    assert_eq!(account, expected.map(|name| (name.to_owned(), vec![(T0, 1)])));
    let path = format!("/no-such-basin?set=basin-ops&start={T0}&end={}", T0 + 1);
    assert_eq!(world.metrics(&path).await, []);
    let path = format!("?set=active-basins&start={T0}&end={}", T0 + 1);
    let reply = world.peer.get(&format!("/v1/metrics{path}")).await;
    assert_eq!(reply.json(), json!({"values": [{"label": {"name": "active_basins", "values": [BASIN]}}]}));
    let path = format!("?set=active-basins&start={}&end={}", T0 - 3600, T0);
    assert_eq!(world.metrics(&path).await, [("active_basins".to_owned(), vec![])]);
}

#[tokio::test]
async fn what_is_stored_is_seen_by_minute_and_by_hour() {
    let mut world = World::new().await;
    world.peer.provision(&["orders", "other"]).await;
    world.append_once("orders").await;
    world.append_once("other").await;
    world.gateway.streams.usage().flush().await.unwrap();
    world.at(T0 + 120);
    world.append_once("orders").await;
    let path = format!("/{BASIN}/orders?set=storage&start={T0}&end={}", T0 + 180);
    let points = vec![(T0, ONE), (T0 + 60, ONE), (T0 + 120, 2 * ONE)];
    assert_eq!(world.metrics(&path).await, [("storage_metered_size".to_owned(), points)]);
    let path = format!("/{BASIN}?set=storage&start={T0}&end={}", T0 + 180);
    assert_eq!(world.metrics(&path).await, [("storage_metered_size".to_owned(), vec![(T0, 3 * ONE)])]);
    assert_eq!(world.peer.call(delete("orders")).await.status(), 202);
    world.at(T0 + 3600);
    world.gateway.streams.usage().flush().await.unwrap();
    let path = format!("/{BASIN}?set=storage&start={T0}&end={}", T0 + 3601);
    let points = vec![(T0, 3 * ONE), (T0 + 3600, ONE)];
    assert_eq!(world.metrics(&path).await, [("storage_metered_size".to_owned(), points)]);
    for path in [format!("/{BASIN}/nobody"), "/no-such-basin/orders".to_owned()] {
        assert_eq!(world.metrics(&format!("{path}?set=storage&start={T0}&end={}", T0 + 60)).await, []);
    }
}

fn delete(stream: &str) -> http::Request<bytes::Bytes> {
    support::peer::basin_request("DELETE", &stream_path(stream)).body(Default::default()).unwrap()
}

#[tokio::test]
async fn questions_that_cannot_be_answered() {
    // control-plane.md §8.1, §8.2
    let mut world = World::new().await;
    let range = format!("start={}&end={T0}", T0 - 3600);
    let (bad_query, invalid) = ((400, "bad_query"), (422, "invalid"));
    let cases = [
        ("".to_owned(), format!("?{range}"), bad_query),
        ("".to_owned(), format!("?set=storage&{range}"), bad_query),
        (format!("/{BASIN}"), format!("?set=account-ops&{range}"), bad_query),
        (format!("/{BASIN}/orders"), format!("?set=append-ops&{range}"), bad_query),
        ("".to_owned(), format!("?set=account-ops&interval=week&{range}"), bad_query),
        ("/short".to_owned(), format!("?set=storage&{range}"), (400, "bad_path")),
        (format!("/{BASIN}/%00"), format!("?set=storage&{range}"), (400, "bad_path")),
        ("".to_owned(), "?set=account-ops".to_owned(), invalid),
        ("".to_owned(), format!("?set=active-basins&start={T0}&end={}", T0 - 1), invalid),
        ("".to_owned(), format!("?set=active-basins&start={T0}&end={}", T0 + 600), invalid),
        (format!("/{BASIN}"), format!("?set=storage&start={}&end={T0}", T0 - 40 * 86_400), invalid),
        (format!("/{BASIN}"), format!("?set=storage&interval=minute&{range}"), invalid),
        (format!("/{BASIN}/orders"), format!("?set=storage&interval=hour&{range}"), invalid),
        ("".to_owned(), format!("?set=estimated-billable-usage&interval=minute&{range}"), invalid),
    ];
    for (path, query, (status, code)) in cases {
        let reply = world.peer.get(&format!("/v1/metrics{path}{query}")).await;
        reply.assert_error(status, code);
        assert!(!String::from_utf8_lossy(&reply.body).contains("free"), "{reply:?}");
    }
    let reply = world.peer.get(&format!("/v1/metrics?set=estimated-billable-usage&{range}")).await;
    let total = json!({"accumulation": {"name": "total", "unit": "usd", "interval": "hour", "values": []}});
    assert_eq!(reply.json(), json!({"values": [total]}));
}

#[tokio::test]
async fn locations() {
    // control-plane.md §6, §4.2, §4.3
    let mut setup = Setup::default();
    setup.server.location = LocationName::new("eu.1").unwrap();
    let gateway = setup.start().await;
    let mut peer = Peer::connect(&gateway).await;
    let eu = peer.get("/v1/locations/default").await.json();
    assert_eq!((&eu["name"], &eu["is_private"]), (&json!("eu.1"), &json!(false)));
    assert_eq!(peer.get("/v1/locations").await.json(), json!([eu]));
    assert_eq!(peer.json("PUT", "/v1/locations/default", r#""eu.1""#).await.json(), eu);
    for bad in ["", r#""""#, r#""a b""#, "eu.1", "null", r#"{"name":"eu.1"}"#] {
        peer.json("PUT", "/v1/locations/default", bad).await.assert_error(400, "bad_json");
    }
    peer.json("PUT", "/v1/locations/default", r#""us.1""#).await.assert_error(422, "invalid");

    let created = |name: &str, location: &str| format!(r#"{{"basin":"{name}","location":{location}}}"#);
    for (name, location) in [("basin-01", r#""eu.1""#), ("basin-02", "null")] {
        let reply = peer.json("POST", "/v1/basins", created(name, location)).await;
        assert_eq!((reply.status(), &reply.json()["location"]), (201, &json!("eu.1")));
        let reply = peer.json("PUT", &format!("/v1/basins/{name}"), r#"{"location":"eu.1"}"#).await;
        assert_eq!((reply.status(), &reply.json()["location"]), (200, &json!("eu.1")));
        peer.json("PUT", &format!("/v1/basins/{name}"), r#"{"location":"us.1"}"#).await.assert_error(422, "invalid");
    }
    peer.json("POST", "/v1/basins", created("basin-03", r#""us.1""#)).await.assert_error(422, "invalid");
    peer.json("PUT", "/v1/basins/basin-03", r#"{"location":"us.1"}"#).await.assert_error(422, "invalid");
    let listed = peer.get("/v1/basins").await.json();
    let shown: Vec<_> = listed["basins"].as_array().unwrap().iter().map(|basin| basin["location"].clone()).collect();
    assert_eq!(shown, ["eu.1", "eu.1"]);
}

#[tokio::test]
async fn prometheus_sees_requests_sessions_commits_and_basins() {
    let mut world = World::new().await;
    world.peer.provision(&["orders"]).await;
    world.append_once("orders").await;
    let mut session = world.peer.read_session("orders", "seq_num=0&count=1").await;
    session.expect_records(1).await;
    world.gateway.streams.usage().flush().await.unwrap();
    let text = String::from_utf8(world.peer.get("/metrics").await.body.to_vec()).unwrap();
    for line in [
        r#"s2s_request_duration_seconds_count{operation="append"} 1"#.to_owned(),
        r#"s2s_request_duration_seconds_count{operation="ensure-stream"} 1"#.to_owned(),
        r#"s2s_session_open_seconds_count{kind="read"} 1"#.to_owned(),
        "s2s_store_commit_seconds_count 1".to_owned(),
        format!(r#"s2s_appended_bytes_total{{basin="{BASIN}"}} {ONE}"#),
        format!(r#"s2s_read_bytes_total{{basin="{BASIN}"}} {ONE}"#),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

fn client(gateway: &Gateway) -> S2 {
    let endpoints = S2Endpoints::for_endpoint(&format!("http://{}", gateway.address)).unwrap();
    S2::new(S2Config::new("a token").with_endpoints(endpoints)).unwrap()
}

async fn use_stream(s2: &S2) {
    let basin = s2.create_basin(CreateBasinInput::new(BASIN.parse().unwrap())).await.unwrap();
    let (basin, name) = (s2.basin(basin.name), "orders/eu".parse().unwrap());
    basin.create_stream(CreateStreamInput::new(name)).await.unwrap();
    let stream = basin.stream("orders/eu".parse().unwrap());
    let records = AppendRecordBatch::try_from_iter([AppendRecord::new("metrics").unwrap()]).unwrap();
    stream.append(AppendInput::new(records)).await.unwrap();
    let start = || ReadStart::new().with_from(ReadFrom::SeqNum(0));
    stream.read(ReadInput::new().with_start(start())).await.unwrap();
    let mut session = stream.read_session(ReadInput::new().with_start(start()), Default::default()).await.unwrap();
    within(session.next()).await.unwrap().unwrap();
}

fn has_data(metrics: &[Metric]) -> bool {
    metrics.iter().any(|metric| match metric {
        Metric::Scalar(_) => true,
        Metric::Accumulation(metric) => !metric.values.is_empty(),
        Metric::Gauge(metric) => !metric.values.is_empty(),
        Metric::Label(metric) => !metric.values.is_empty(),
    })
}

fn now() -> u32 {
    epoch_seconds(SystemClock.now())
}

#[tokio::test]
async fn the_official_client_finds_data_in_every_set() {
    let gateway = Gateway::start().await;
    let s2 = client(&gateway);
    use_stream(&s2).await;
    gateway.streams.usage().flush().await.unwrap();
    let end = now() + 1;
    let range = TimeRange::new(end - 3600, end);
    let by = TimeRangeAndInterval::new(end - 3600, end);

    for (set, unit) in [
        (BasinMetricSet::Storage(range), MetricUnit::Bytes),
        (BasinMetricSet::AppendOps(by), MetricUnit::Operations),
        (BasinMetricSet::ReadOps(by), MetricUnit::Operations),
        (BasinMetricSet::ReadThroughput(by), MetricUnit::Bytes),
        (BasinMetricSet::AppendThroughput(by), MetricUnit::Bytes),
        (BasinMetricSet::BasinOps(by), MetricUnit::Operations),
    ] {
        let asked = GetBasinMetricsInput::new(BASIN.parse().unwrap(), set);
        let metrics = s2.get_basin_metrics(asked).await.unwrap();
        assert!(has_data(&metrics), "{unit:?} {metrics:?}");
        assert!(metrics.iter().all(|metric| match metric {
            Metric::Accumulation(metric) => metric.unit == unit,
            Metric::Gauge(metric) => metric.unit == unit,
            _ => false,
        }));
    }
    let asked = AccountMetricSet::AccountOps(by.with_interval(TimeseriesInterval::Minute));
    let metrics = s2.get_account_metrics(GetAccountMetricsInput::new(asked)).await.unwrap();
    assert!(has_data(&metrics));
    let asked = AccountMetricSet::ActiveBasins(range);
    let metrics = s2.get_account_metrics(GetAccountMetricsInput::new(asked)).await.unwrap();
    assert!(matches!(&metrics[..], [Metric::Label(label)] if label.values == [BASIN]), "{metrics:?}");
    let asked = GetStreamMetricsInput::new(
        BASIN.parse().unwrap(),
        "orders/eu".parse().unwrap(),
        StreamMetricSet::Storage(range),
    );
    let metrics = s2.get_stream_metrics(asked).await.unwrap();
    assert!(matches!(&metrics[..], [Metric::Gauge(gauge)] if gauge.name.contains("storage")), "{metrics:?}");
    assert!(has_data(&metrics));
    let asked = AccountMetricSet::ActiveBasins(TimeRange::new(end - 91 * 86_400, end));
    match s2.get_account_metrics(GetAccountMetricsInput::new(asked)).await {
        Err(RequestError::Server(ServerError { code, .. })) => assert_eq!(code, "invalid"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_official_client_knows_where_basins_are() {
    let gateway = Gateway::start().await;
    let s2 = client(&gateway);
    let locations = s2.list_locations().await.unwrap();
    let default = s2.get_default_location().await.unwrap();
    assert!(locations.iter().any(|location| location.name == default.name));
    for location in &locations {
        assert_eq!(s2.set_default_location(location.name.clone()).await.unwrap().name, location.name);
    }
    let input = CreateBasinInput::new(BASIN.parse().unwrap()).with_location(default.name.clone()).unwrap();
    assert_eq!(s2.create_basin(input).await.unwrap().location, Some(default.name.clone()));
    let page = s2.list_basins(ListBasinsInput::new()).await.unwrap();
    assert_eq!(page.values[0].location, Some(default.name));
}
