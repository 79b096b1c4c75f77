//! Access tokens over the wire: who is let in, what they reach, what they see, and when it ends (`control-plane.md` §7).

mod support;

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use bytes::Bytes;
use s2_sdk::{
    S2,
    types::{
        AccessTokenId, AccessTokenScopeInput, IssueAccessTokenInput, ListAccessTokensInput, OperationGroupPermissions,
        S2Config, S2Endpoints, StreamMatcher,
    },
};
use s2s_gateway::{
    auth::AuthConfig,
    clock::ManualClock,
    store::Store,
    types::{Operation, Secret, Timestamp},
    wire::Frame,
};
use serde_json::{Value, json};

use self::support::{
    Gateway, Setup,
    http::{Events, Version, ask, send},
    peer::{
        BASIN, Peer, Reply, any_request, basin_request, input, record, records_path, session_request, stream_path,
        until, with_headers, within,
    },
};

const ROOT: &str = "root-token-of-the-operator";

/// The time of day at which a gateway of these tests starts, in milliseconds.
const START: u64 = 1_800_000_000_000;

struct World {
    gateway: Gateway,
    clock: Arc<ManualClock>,
    operator: Peer,
}

impl World {
    /// A gateway that asks who its clients are, with the basin and these streams in it.
    async fn with(streams: &[&str]) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::new(START)));
        let mut setup = Setup { clock: clock.clone(), ..Setup::default() };
        setup.server.auth = AuthConfig::On { root: Some(Secret::new(ROOT).unwrap()) };
        let gateway = setup.start().await;
        let mut operator = Peer::connect(&gateway).await.bearing(ROOT);
        operator.provision(streams).await;
        Self { gateway, clock, operator }
    }

    /// A token's secret.
    async fn issue(&mut self, wanted: Value) -> String {
        let reply = self.operator.json("POST", "/v1/access-tokens", wanted.to_string()).await;
        assert_eq!(reply.status(), 201, "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// A connection of the bearer of a new token with this id and scope.
    async fn bearer(&mut self, id: &str, scope: Value) -> Peer {
        let token = self.issue(json!({ "id": id, "scope": scope })).await;
        Peer::connect(&self.gateway).await.bearing(&token)
    }

    async fn tenant(&mut self) -> Peer {
        let scope = json!({
            "basins": { "exact": BASIN },
            "streams": { "prefix": "tenant/" },
            "op_groups": { "basin": { "read": true, "write": true }, "stream": { "read": true, "write": true } },
        });
        let wanted = json!({ "id": "tenant", "auto_prefix_streams": true, "scope": scope });
        let token = self.issue(wanted).await;
        Peer::connect(&self.gateway).await.bearing(&token)
    }

    async fn revoke(&mut self, id: &str) -> Reply {
        delete(&mut self.operator, &format!("/v1/access-tokens/{id}")).await
    }
}

async fn delete(peer: &mut Peer, path: &str) -> Reply {
    peer.call(basin_request("DELETE", path).body(Bytes::new()).unwrap()).await
}

/// Every resource, and just these operations.
fn only(ops: &[&str]) -> Value {
    json!({ "basins": { "prefix": "" }, "streams": { "prefix": "" }, "access_tokens": { "prefix": "" }, "ops": ops })
}

fn all_groups() -> Value {
    let both = json!({ "read": true, "write": true });
    json!({ "account": both, "basin": both, "stream": both })
}

fn records(body: &str) -> String {
    json!({ "records": [{ "body": body }] }).to_string()
}

fn fence(token: &str) -> String {
    json!({ "records": [{ "headers": [["", "fence"]], "body": token }] }).to_string()
}

#[tokio::test]
async fn who_is_not_known_is_told_401_and_nothing_else() {
    // control-plane.md §7.1, errors.md §4.4
    let world = World::with(&["orders"]).await;
    let elsewhere = World::with(&[]).await.issue(json!({ "id": "t", "scope": only(&["read"]) })).await;
    let mut peer = Peer::connect(&world.gateway).await;
    let values = [
        None,
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some("Bearer nonsense".to_owned()),
        Some(format!("Basic {ROOT}")),
        Some(ROOT.to_owned()),
        Some(format!("Bearer {ROOT}x")),
        Some(format!("Bearer {elsewhere}")),
    ];
    // Every route, and bad in every other way, too: who asks comes before all of it.
    let requests = [
        ("GET", "/v1/basins?limit=x".to_owned()),
        ("POST", "/v1/basins".to_owned()),
        ("GET", format!("/v1/basins/{BASIN}")),
        ("PUT", "/v1/basins/Bad".to_owned()),
        ("PATCH", format!("/v1/basins/{BASIN}")),
        ("DELETE", "/v1/basins/never-there".to_owned()),
        ("GET", "/v1/streams".to_owned()),
        ("POST", "/v1/streams".to_owned()),
        ("GET", stream_path("orders")),
        ("PUT", stream_path("missing")),
        ("PATCH", stream_path("missing")),
        ("DELETE", "/v1/streams/%00".to_owned()),
        ("POST", records_path("orders")),
        ("GET", records_path("orders")),
        ("GET", format!("{}/tail", records_path("missing"))),
        ("POST", "/v1/streams/orders/session".to_owned()),
        ("POST", "/session".to_owned()),
        ("POST", "/v1/session?mode=read".to_owned()),
        ("GET", "/v1/access-tokens".to_owned()),
        ("POST", "/v1/access-tokens".to_owned()),
        ("DELETE", "/v1/access-tokens/t".to_owned()),
        ("GET", "/v1/metrics".to_owned()),
        ("GET", format!("/v1/metrics/{BASIN}")),
        ("GET", format!("/v1/metrics/{BASIN}/orders")),
        ("GET", "/v1/locations".to_owned()),
        ("GET", "/v1/locations/default".to_owned()),
        ("PUT", "/v1/locations/default".to_owned()),
    ];
    for value in &values {
        for (method, path) in &requests {
            let mut request = any_request(method, path);
            if let Some(value) = value {
                request = request.header("authorization", value);
            }
            let reply = peer.call(request.body(Bytes::new()).unwrap()).await;
            reply.assert_error(401, "authn");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    let session = session_request("POST", &records_path("orders"));
    peer.open(session, false).await.answered().await.reply().await.assert_error(401, "authn");
}

#[tokio::test]
async fn routes_come_first_and_health_is_for_everybody() {
    // errors.md §4.4, http.md §8
    let world = World::with(&[]).await;
    let mut peer = Peer::connect(&world.gateway).await;
    peer.get("/v1/nothing").await.assert_error(404, "not_found");
    assert_eq!(delete(&mut peer, "/v1/basins").await.status(), 405);
    for path in ["/health", "/ping", "/metrics"] {
        assert_eq!(peer.get(path).await.status(), 200, "{path}");
    }
    // A browser asks without the token that the page would send; the answer is the same whatever is there.
    for path in [stream_path("missing"), "/v1/nothing".to_owned()] {
        let asks = [("origin", "https://app.example.org"), ("access-control-request-method", "GET")];
        let preflight = ask(&world.gateway, "OPTIONS", &path, &asks, "").await;
        assert_eq!((preflight.status.as_u16(), preflight.text.as_str()), (200, ""), "{path}");
    }
}

#[tokio::test]
async fn without_authentication_nobody_is_asked() {
    let gateway = Gateway::start().await;
    for token in ["", "anything", "s2s_x"] {
        let mut peer = Peer::connect(&gateway).await.bearing(token);
        assert_eq!(peer.get("/v1/basins").await.status(), 200, "{token:?}");
    }
    let wanted = json!({ "id": "t", "scope": only(&["read"]) }).to_string();
    let mut peer = Peer::connect(&gateway).await;
    let reply = peer.json("POST", "/v1/access-tokens", wanted).await;
    assert_eq!(reply.status(), 201, "tokens can be issued for later");
    let mut bearer = peer.bearing(reply.json()["access_token"].as_str().unwrap());
    assert_eq!(bearer.get("/v1/access-tokens").await.status(), 200, "and limit nobody yet");
}

/// A request for the operations; `n` makes names that nobody has used.
struct Asked {
    ops: &'static [&'static str],
    method: &'static str,
    path: fn(&str) -> String,
    body: fn(&str) -> String,
}

const fn asked(ops: &'static [&'static str], method: &'static str, path: fn(&str) -> String) -> Asked {
    Asked { ops, method, path, body: |_| String::new() }
}

/// `control-plane.md` §7.4, "What each request needs", for the routes that there are.
const MATRIX: &[Asked] = &[
    asked(&["list-basins"], "GET", |_| "/v1/basins".into()),
    Asked {
        body: |n| json!({ "basin": format!("created-{n}") }).to_string(),
        ..asked(&["create-basin"], "POST", |_| "/v1/basins".into())
    },
    asked(&["get-basin-config"], "GET", |_| format!("/v1/basins/{BASIN}")),
    asked(&["reconfigure-basin"], "PUT", |_| format!("/v1/basins/{BASIN}")),
    Asked { body: |_| "{}".into(), ..asked(&["reconfigure-basin"], "PATCH", |_| format!("/v1/basins/{BASIN}")) },
    asked(&["create-basin"], "PUT", |n| format!("/v1/basins/ensured-{n}")),
    asked(&["delete-basin"], "DELETE", |_| "/v1/basins/never-there".into()),
    asked(&["list-streams"], "GET", |_| "/v1/streams".into()),
    Asked {
        body: |n| json!({ "stream": format!("created-{n}") }).to_string(),
        ..asked(&["create-stream"], "POST", |_| "/v1/streams".into())
    },
    asked(&["get-stream-config"], "GET", |_| stream_path("orders")),
    asked(&["reconfigure-stream"], "PUT", |_| stream_path("orders")),
    Asked { body: |_| "{}".into(), ..asked(&["reconfigure-stream"], "PATCH", |_| stream_path("orders")) },
    asked(&["create-stream"], "PUT", |n| stream_path(&format!("ensured-{n}"))),
    asked(&["delete-stream"], "DELETE", |_| stream_path("missing")),
    Asked { body: |_| records("x"), ..asked(&["append"], "POST", |_| records_path("orders")) },
    Asked { body: |_| fence(""), ..asked(&["append", "fence"], "POST", |_| records_path("orders")) },
    Asked {
        body: |_| json!({ "records": [{ "headers": [["", "trim"]], "body": "\0".repeat(8) }] }).to_string(),
        ..asked(&["append", "trim"], "POST", |_| records_path("orders"))
    },
    asked(&["read"], "GET", |_| format!("{}?seq_num=0&clamp=true", records_path("orders"))),
    asked(&["check-tail"], "GET", |_| format!("{}/tail", records_path("orders"))),
    asked(&["list-access-tokens"], "GET", |_| "/v1/access-tokens".into()),
    Asked {
        body: |n| json!({ "id": n, "scope": { "ops": ["issue-access-token"] } }).to_string(),
        ..asked(&["issue-access-token"], "POST", |_| "/v1/access-tokens".into())
    },
    asked(&["revoke-access-token"], "DELETE", |_| "/v1/access-tokens/missing".into()),
    asked(&["account-metrics"], "GET", |_| "/v1/metrics?set=active-basins&start=0&end=1".into()),
    asked(&["basin-metrics"], "GET", |_| format!("/v1/metrics/{BASIN}?set=storage&start=0&end=1")),
    asked(&["stream-metrics"], "GET", |_| format!("/v1/metrics/{BASIN}/orders?set=storage&start=0&end=1")),
    asked(&["list-locations"], "GET", |_| "/v1/locations".into()),
    asked(&["get-default-location"], "GET", |_| "/v1/locations/default".into()),
    Asked {
        body: |_| r#""local""#.into(),
        ..asked(&["set-default-location"], "PUT", |_| "/v1/locations/default".into())
    },
];

/// How `peer` fares with each request of the matrix: allowed or not.
async fn assert_matrix(peer: &mut Peer, n: &str, may: impl Fn(&str) -> bool) {
    for Asked { ops, method, path, body } in MATRIX {
        let reply = peer.json(method, &path(n), body(n)).await;
        let allowed = ops.iter().all(|op| may(op));
        match allowed {
            true => assert!(reply.status() != 401 && reply.status() != 403, "{n} {method} {ops:?}: {reply:?}"),
            false => reply.assert_error(403, "permission_denied"),
        }
    }
}

#[tokio::test]
async fn a_token_for_one_operation_does_that_one() {
    let mut world = World::with(&["orders"]).await;
    for (n, op) in Operation::ALL.iter().enumerate() {
        let mut peer = world.bearer(op.as_str(), only(&[op.as_str()])).await;
        assert_matrix(&mut peer, &format!("one-{n}"), |other| other == op.as_str()).await;
    }
    let mut fencer = world.bearer("fencer", only(&["append", "fence"])).await;
    assert_matrix(&mut fencer, "by-fencer", |op| ["append", "fence"].contains(&op)).await;
}

#[tokio::test]
async fn a_token_for_a_group_does_what_is_in_it() {
    // control-plane.md §7.4
    let mut world = World::with(&["orders"]).await;
    let groups: &[(&str, &str, &[&str])] = &[
        (
            "account",
            "read",
            &[
                "list-basins",
                "get-basin-config",
                "list-access-tokens",
                "account-metrics",
                "list-locations",
                "get-default-location",
            ],
        ),
        (
            "account",
            "write",
            &[
                "create-basin",
                "delete-basin",
                "reconfigure-basin",
                "issue-access-token",
                "revoke-access-token",
                "set-default-location",
            ],
        ),
        ("basin", "read", &["get-basin-config", "list-streams", "get-stream-config", "basin-metrics"]),
        ("basin", "write", &["create-stream", "delete-stream", "reconfigure-stream"]),
        ("stream", "read", &["get-stream-config", "check-tail", "read", "stream-metrics"]),
        ("stream", "write", &["append", "trim", "fence"]),
    ];
    for (group, level, ops) in groups {
        let mut scope = only(&[]);
        scope["op_groups"] = json!({ *group: { *level: true } });
        let name = format!("{group}-{level}");
        let mut peer = world.bearer(&name, scope).await;
        assert_matrix(&mut peer, &format!("by-{name}"), |op| ops.contains(&op)).await;
    }
}

#[tokio::test]
async fn outside_of_the_resource_sets_is_403_whether_it_exists_or_not() {
    // control-plane.md §7.4
    let mut world = World::with(&["orders", "tenant/a"]).await;
    let scope = |basins: Value, streams: Value| json!({ "basins": basins, "streams": streams, "access_tokens": { "prefix": "mine-" }, "op_groups": all_groups() });
    let mut near = world.bearer("near", scope(json!({ "exact": BASIN }), json!({ "prefix": "tenant/" }))).await;
    for stream in ["orders", "missing"] {
        for (method, path, body) in [
            ("GET", stream_path(stream), String::new()),
            ("PUT", stream_path(stream), String::new()),
            ("PATCH", stream_path(stream), "{}".into()),
            ("DELETE", stream_path(stream), String::new()),
            ("POST", "/v1/streams".into(), json!({ "stream": stream }).to_string()),
            ("POST", records_path(stream), records("x")),
            ("GET", records_path(stream), String::new()),
            ("GET", format!("{}/tail", records_path(stream)), String::new()),
            ("GET", format!("/v1/metrics/{BASIN}/{stream}?set=storage&start=0&end=1"), String::new()),
        ] {
            near.json(method, &path, body).await.assert_error(403, "permission_denied");
        }
        let by_header = |path: &str| with_headers(session_request("POST", path), &[("s2-stream", stream)]);
        for request in [
            session_request("POST", &records_path(stream)),
            session_request("GET", &records_path(stream)),
            by_header("/session"),
            by_header("/v1/session?mode=read"),
        ] {
            near.open(request, true).await.answered().await.reply().await.assert_error(403, "permission_denied");
        }
    }
    for basin in ["other-basin", "never-there"] {
        for method in ["GET", "PUT", "PATCH", "DELETE"] {
            near.json(method, &format!("/v1/basins/{basin}"), "").await.assert_error(403, "permission_denied");
        }
        for of in [basin.to_owned(), format!("{basin}/tenant%2Fa")] {
            let metrics = near.get(&format!("/v1/metrics/{of}?set=storage&start=0&end=1")).await;
            metrics.assert_error(403, "permission_denied");
        }
        let create = json!({ "basin": basin }).to_string();
        near.json("POST", "/v1/basins", create).await.assert_error(403, "permission_denied");
    }
    for id in ["near", "missing"] {
        let revoked = delete(&mut near, &format!("/v1/access-tokens/{id}")).await;
        revoked.assert_error(403, "permission_denied");
    }
    near.get(&stream_path("tenant/missing")).await.assert_error(404, "stream_not_found");

    let mut far = world.bearer("far", scope(json!({ "exact": "other-basin" }), json!({ "prefix": "" }))).await;
    far.get("/v1/streams").await.assert_error(403, "permission_denied");
    far.get(&stream_path("orders")).await.assert_error(403, "permission_denied");
}

fn names(reply: &Reply, list: &str) -> (Vec<String>, bool) {
    assert_eq!(reply.status(), 200, "{reply:?}");
    let page = reply.json();
    let key = if list == "access_tokens" { "id" } else { "name" };
    let names = page[list].as_array().unwrap().iter().map(|info| info[key].as_str().unwrap().to_owned()).collect();
    (names, page["has_more"].as_bool().unwrap())
}

#[track_caller]
fn assert_names(reply: &Reply, list: &str, expected: &[&str], has_more: bool) {
    let expected = expected.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(reply, list), (expected, has_more));
}

#[tokio::test]
async fn listings_show_only_what_is_reached() {
    // control-plane.md §7.4
    let mut world = World::with(&["a", "tenant/1", "tenant/2", "tenant/20", "z"]).await;
    for basin in ["my-basin-011", "other-basin"] {
        assert_eq!(world.operator.json("PUT", &format!("/v1/basins/{basin}"), "").await.status(), 201);
    }
    let scope = |set: Value| json!({ "basins": { "prefix": "my-" }, "streams": set, "op_groups": all_groups() });
    let mut some = world.bearer("some", scope(json!({ "prefix": "tenant/" }))).await;
    assert_names(&some.get("/v1/basins").await, "basins", &[BASIN, "my-basin-011"], false);
    assert_names(&some.get("/v1/basins?prefix=o").await, "basins", &[], false);
    assert_names(&some.get("/v1/streams").await, "streams", &["tenant/1", "tenant/2", "tenant/20"], false);
    assert_names(&some.get("/v1/streams?limit=2").await, "streams", &["tenant/1", "tenant/2"], true);
    assert_names(&some.get("/v1/streams?start_after=tenant%2F2").await, "streams", &["tenant/20"], false);
    assert_names(&some.get("/v1/streams?prefix=z").await, "streams", &[], false);
    assert_names(&some.get("/v1/access-tokens").await, "access_tokens", &[], false);

    let of_another = any_request("PUT", "/v1/streams/orders").header("s2-basin", "other-basin");
    assert_eq!(world.operator.call(of_another.body(Bytes::new()).unwrap()).await.status(), 201);
    let now = START / 1000;
    let active = format!("/v1/metrics?set=active-basins&start={}&end={}", now - 1, now + 1);
    let names = async |peer: &mut Peer| peer.get(&active).await.json()["values"][0]["label"]["values"].clone();
    assert_eq!(names(&mut world.operator).await, json!([BASIN, "other-basin"]));
    assert_eq!(names(&mut some).await, json!([BASIN]));

    let mut one = world.bearer("one", scope(json!({ "exact": "tenant/2" }))).await;
    assert_names(&one.get("/v1/streams").await, "streams", &["tenant/2"], false);
    assert_names(&one.get("/v1/streams?prefix=tenant%2F").await, "streams", &["tenant/2"], false);
    assert_names(&one.get("/v1/streams?prefix=tenant%2F20").await, "streams", &[], false);
    assert_names(&one.get("/v1/streams?start_after=tenant%2F2").await, "streams", &[], false);
    let mut gone = world.bearer("gone", scope(json!({ "exact": "tenant/" }))).await;
    assert_names(&gone.get("/v1/streams").await, "streams", &[], false);
    let mut none = world.bearer("none", scope(json!({ "exact": "" }))).await;
    assert_names(&none.get("/v1/streams").await, "streams", &[], false);

    // A basin that they reach and that is not there is not there, however little of it they would see.
    for bearer in [&mut some, &mut one, &mut none] {
        let request = any_request("GET", "/v1/streams").header("s2-basin", "my-basin-099");
        bearer.call(request.body(Bytes::new()).unwrap()).await.assert_error(404, "basin_not_found");
    }
}

#[tokio::test]
async fn commands_need_permission_before_anything_is_said_about_the_stream() {
    // errors.md §4.4
    let mut world = World::with(&["orders"]).await;
    let mut writer = world.bearer("writer", only(&["append"])).await;
    for stream in ["orders", "missing"] {
        let reply = writer.json("POST", &records_path(stream), fence("writer-2")).await;
        reply.assert_error(403, "permission_denied");
    }
    let mut session = writer.append_session("orders").await;
    session.send(input(["good"]));
    session.send(record(&[(b"", b"fence")], b"writer-2"));
    session.send(input(["late"]));
    assert_eq!(session.expect_acked().await, (0, 1), "what came before is acknowledged first");
    session.expect_failure(403, "permission_denied").await;
    assert_eq!(world.operator.tail("orders").await, 1);

    let mut fencer = world.bearer("fencer", only(&["append", "fence"])).await;
    let mut session = fencer.append_session("orders").await;
    session.send(record(&[(b"", b"fence")], b"writer-2"));
    assert_eq!(session.expect_acked().await, (1, 2));
}

#[tokio::test]
async fn a_session_needs_the_operation_of_its_mode() {
    let mut world = World::with(&["orders"]).await;
    let stream = [("s2-stream", "orders")];
    for (op, mode, other) in [("append", "append", "read"), ("read", "read", "append")] {
        let mut peer = world.bearer(op, only(&[op])).await;
        let session = |mode: &str| with_headers(session_request("POST", &format!("/session?mode={mode}")), &stream);
        let refused = peer.open(session(other), false).await.answered().await.reply().await;
        refused.assert_error(403, "permission_denied");
        peer.open(session(mode), false).await.granted().await;
    }
}

#[tokio::test]
async fn a_tenant_says_and_sees_names_without_its_prefix() {
    // control-plane.md §7.5
    let mut world = World::with(&["a", "tenant/", "tenant/old"]).await;
    let mut tenant = world.tenant().await;
    let created = tenant.json("POST", "/v1/streams", json!({ "stream": "a" }).to_string()).await;
    assert_eq!((created.status(), created.json()["name"].as_str()), (201, Some("a")));
    let ensured = tenant.json("PUT", &stream_path("b/b"), "").await;
    assert_eq!((ensured.status(), ensured.json()["name"].as_str()), (201, Some("b/b")));
    let full = world.operator.get("/v1/streams?prefix=tenant%2F").await;
    assert_names(&full, "streams", &["tenant/", "tenant/a", "tenant/b/b", "tenant/old"], false);

    assert_names(&tenant.get("/v1/streams").await, "streams", &["a", "b/b", "old"], false);
    assert_names(&tenant.get("/v1/streams?limit=1").await, "streams", &["a"], true);
    assert_names(&tenant.get("/v1/streams?start_after=a").await, "streams", &["b/b", "old"], false);
    assert_names(&tenant.get("/v1/streams?prefix=b").await, "streams", &["b/b"], false);
    assert_names(&tenant.get("/v1/streams?prefix=tenant%2F").await, "streams", &[], false);

    assert_eq!(tenant.json("POST", &records_path("a"), records("of the tenant")).await.status(), 200);
    let mut session = tenant.append_session("a").await;
    session.send(input(["more"]));
    assert_eq!(session.expect_acked().await, (1, 2));
    let by_header = with_headers(session_request("POST", "/session"), &[("s2-stream", "a")]);
    let mut session = tenant.open(by_header, false).await.granted().await;
    session.send(input(["and more"]));
    assert_eq!(session.expect_acked().await, (2, 3));
    assert_eq!(tenant.tail("a").await, 3);
    assert_eq!(world.operator.tail("tenant/a").await, 3);
    assert_eq!(world.operator.tail("a").await, 0, "the other stream of that name is another");
    let mut reading = tenant.read_session("a", "seq_num=0").await;
    assert_eq!(reading.expect_records(3).await[0], (0, Bytes::from("of the tenant")));

    world.gateway.streams.usage().flush().await.unwrap();
    let now = START / 1000;
    let stored = |name: &str| format!("/v1/metrics/{BASIN}/{name}?set=storage&start={now}&end={}", now + 1);
    let of_the_tenant = tenant.get(&stored("a")).await.json();
    assert!(of_the_tenant["values"][0]["gauge"].is_object(), "{of_the_tenant}");
    assert_eq!(of_the_tenant, world.operator.get(&stored("tenant%2Fa")).await.json());

    assert_eq!(tenant.get(&stream_path("old")).await.status(), 200);
    let changed = tenant.json("PATCH", &stream_path("old"), r#"{"storage_class":"standard"}"#).await;
    assert_eq!(changed.json(), world.operator.get(&stream_path("tenant/old")).await.json());
    assert_eq!(changed.json()["storage_class"], "standard");
    assert_eq!(delete(&mut tenant, &stream_path("old")).await.status(), 202);
    world.operator.get(&stream_path("a")).await;
    assert_ne!(world.operator.get(&stream_path("tenant/old")).await.status(), 200);
    assert_eq!(world.operator.get(&stream_path("a")).await.status(), 200);
}

#[tokio::test]
async fn a_tenant_is_told_of_errors_in_its_own_names() {
    // control-plane.md §7.5: the prefix is in no response.
    let mut world = World::with(&["tenant/mine"]).await;
    let mut tenant = world.tenant().await;
    let create = json!({ "stream": "mine" }).to_string();
    for (reply, status, code, name) in [
        (tenant.get(&stream_path("gone")).await, 404, "stream_not_found", "\"gone\""),
        (tenant.json("POST", &records_path("gone"), records("x")).await, 404, "stream_not_found", "\"gone\""),
        (tenant.json("POST", "/v1/streams", create).await, 409, "resource_already_exists", "\"mine\""),
    ] {
        reply.assert_error(status, code);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(name) && !message.contains("tenant"), "{message}");
    }
    let refused = tenant.open(session_request("POST", &records_path("gone")), false).await.answered().await;
    let message = refused.reply().await.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("\"gone\""), "{message}");
    let to_the_operator = world.operator.get(&stream_path("tenant/gone")).await.json();
    assert!(to_the_operator["message"].as_str().unwrap().contains("\"tenant/gone\""), "{to_the_operator}");
}

#[tokio::test]
async fn the_limit_is_that_of_the_full_name() {
    // control-plane.md §7.5
    let mut world = World::with(&[]).await;
    let mut tenant = world.tenant().await;
    let (fits, too_long) = ("a".repeat(505), "a".repeat(506));
    let created = tenant.json("POST", "/v1/streams", json!({ "stream": fits }).to_string()).await;
    assert_eq!(created.status(), 201);
    assert_eq!(tenant.get(&stream_path(&fits)).await.status(), 200);
    let create = json!({ "stream": too_long }).to_string();
    tenant.json("POST", "/v1/streams", create).await.assert_error(400, "bad_json");
    tenant.get(&stream_path(&too_long)).await.assert_error(400, "bad_path");
    tenant.json("POST", &records_path(&too_long), records("x")).await.assert_error(400, "bad_path");
    for parameter in ["prefix", "start_after"] {
        let reply = tenant.get(&format!("/v1/streams?{parameter}={too_long}")).await;
        reply.assert_error(400, "bad_query");
    }
    let session = with_headers(session_request("POST", "/session"), &[("s2-stream", &too_long)]);
    tenant.open(session, false).await.answered().await.reply().await.assert_error(400, "bad_header");
}

#[tokio::test]
async fn revoking_ends_sessions_and_requests_at_once() {
    // http.md §4, control-plane.md §7.6
    let mut world = World::with(&["orders"]).await;
    let token = world.issue(json!({ "id": "t", "scope": only(&["append", "read", "check-tail"]) })).await;
    let mut bearer = Peer::connect(&world.gateway).await.bearing(&token);
    let bearing = format!("Bearer {token}");
    let mut other = world.bearer("other", only(&["append"])).await;
    let mut unharmed = other.append_session("orders").await;
    let mut writing = bearer.append_session("orders").await;
    let mut reading = bearer.read_session("orders", "seq_num=0").await;
    let as_events = [bearing.as_str(), "text/event-stream", BASIN];
    let as_events: Vec<_> = ["authorization", "accept", "s2-basin"].into_iter().zip(as_events).collect();
    let events = send(&world.gateway, Version::Http1, "GET", &records_path("orders"), &as_events, "").await;
    writing.send(input(["one"]));
    assert_eq!(writing.expect_acked().await, (0, 1));
    assert_eq!(reading.expect_records(1).await.len(), 1);

    let revoked = world.revoke("t").await;
    assert_eq!((revoked.status(), revoked.header("content-length"), revoked.body.len()), (204, Some("0"), 0));
    writing.expect_failure(401, "authn").await;
    // The reader may be told first that it is at the tail.
    let told = loop {
        match reading.next_frame().await.expect("a terminal frame comes before the end") {
            Frame::Terminal(terminal) => break terminal,
            Frame::Message { .. } => {}
        }
    };
    assert_eq!(told.status, 401);
    reading.expect_end().await;
    let last = within(Events::of(events).rest()).await.pop().unwrap();
    assert!(last.starts_with("event: error\ndata: {\"code\":\"authn\""), "{last}");
    bearer.get(&format!("{}/tail", records_path("orders"))).await.assert_error(401, "authn");
    world.revoke("t").await.assert_error(404, "access_token_not_found");
    world.revoke("never").await.assert_error(404, "access_token_not_found");
    unharmed.send(input(["two"]));
    assert_eq!(unharmed.expect_acked().await, (1, 2));
}

#[tokio::test]
async fn revoking_ends_requests_that_wait() {
    // http.md §4: one waits for records, the others for the rest of their bodies.
    let mut world = World::with(&["orders"]).await;
    let mut bearer = world.bearer("t", only(&["append", "read", "issue-access-token"])).await;
    let json =
        |path: &str| any_request("POST", path).header("s2-basin", BASIN).header("content-type", "application/json");
    let wait = basin_request("GET", &format!("{}?seq_num=0&wait=60", records_path("orders"))).body(()).unwrap();
    let long_poll = bearer.open(wait, true).await;
    let mut append = bearer.open(json(&records_path("orders")).body(()).unwrap(), false).await;
    let mut issue = bearer.open(json("/v1/access-tokens").body(()).unwrap(), false).await;
    for request in [&mut append, &mut issue] {
        request.sending.send_data("{".into(), false).unwrap();
    }
    for route in ["read", "append", "issue-access-token"] {
        let came_in = format!("s2s_requests_total{{operation=\"{route}\"}}");
        until(|| world.gateway.metric(&came_in) > 0.0).await;
    }

    assert_eq!(world.revoke("t").await.status(), 204);
    let another = json!({ "id": "another", "scope": only(&["append"]) }).to_string();
    append.sending.send_data(Bytes::from(records("late")[1..].to_owned()), true).unwrap();
    issue.sending.send_data(Bytes::from(another[1..].to_owned()), true).unwrap();
    for request in [append, issue, long_poll] {
        request.answered().await.reply().await.assert_error(401, "authn");
    }
    assert_eq!(world.operator.tail("orders").await, 0);
    world.revoke("another").await.assert_error(404, "access_token_not_found");
}

#[tokio::test]
async fn expiry_ends_sessions_and_requests() {
    let mut world = World::with(&["orders"]).await;
    let expires_at = "2027-01-15T08:00:01.5Z";
    let wanted = json!({ "id": "t", "scope": only(&["append", "check-tail"]), "expires_at": expires_at });
    let token = world.issue(wanted).await;
    let mut bearer = Peer::connect(&world.gateway).await.bearing(&token);
    let mut writing = bearer.append_session("orders").await;
    world.clock.set(Timestamp::new(START + 1_499));
    writing.send(input(["one"]));
    assert_eq!(writing.expect_acked().await, (0, 1));
    world.clock.set(Timestamp::new(START + 1_500));
    bearer.get(&format!("{}/tail", records_path("orders"))).await.assert_error(401, "authn");
    writing.expect_failure(401, "authn").await;
}

#[tokio::test]
async fn what_cannot_be_issued() {
    // control-plane.md §7.2
    let mut world = World::with(&[]).await;
    let everything = |id: &str| json!({ "id": id, "scope": { "op_groups": all_groups() } });
    let issue =
        async |peer: &mut Peer, wanted: &Value| peer.json("POST", "/v1/access-tokens", wanted.to_string()).await;
    world.issue(everything("t")).await;
    issue(&mut world.operator, &everything("t")).await.assert_error(409, "resource_already_exists");
    let empty = issue(&mut world.operator, &json!({ "id": "u", "scope": {} })).await;
    empty.assert_error(422, "invalid");
    assert_eq!(empty.json()["message"], "Access token permissions cannot be empty");
    let mut unprefixed = everything("u");
    unprefixed["auto_prefix_streams"] = json!(true);
    for streams in [Value::Null, json!({ "exact": "orders" }), json!({ "exact": "" })] {
        unprefixed["scope"]["streams"] = streams;
        issue(&mut world.operator, &unprefixed).await.assert_error(422, "invalid");
    }
    let mut past = everything("u");
    past["expires_at"] = json!("2020-01-01T00:00:00Z");
    issue(&mut world.operator, &past).await.assert_error(422, "invalid");
    let unknown = json!({ "id": "u", "scope": { "ops": ["fly"] } });
    issue(&mut world.operator, &unknown).await.assert_error(400, "bad_json");
    let untyped = any_request("POST", "/v1/access-tokens").body(Bytes::from(everything("u").to_string())).unwrap();
    world.operator.call(untyped).await.assert_error(400, "bad_json");

    let mut wanted = json!({ "id": "issuer", "scope": only(&["issue-access-token", "list-access-tokens", "read"]) });
    wanted["scope"]["access_tokens"] = json!({ "prefix": "child-" });
    wanted["expires_at"] = json!("2027-02-01T00:00:00Z");
    let token = world.issue(wanted).await;
    let mut issuer = Peer::connect(&world.gateway).await.bearing(&token);
    let child = |id: &str, ops: &[&str]| json!({ "id": id, "scope": { "basins": { "exact": BASIN }, "ops": ops } });
    let mut later = child("child-2", &["read"]);
    later["expires_at"] = json!("2027-02-01T00:00:00.000000001Z");
    let mut reaches_further = child("child-2", &["read"]);
    reaches_further["scope"]["access_tokens"] = json!({ "prefix": "" });
    let refusals =
        [child("other", &["read"]), child("child-2", &["append"]), everything("child-2"), later, reaches_further];
    for refused in refusals {
        issue(&mut issuer, &refused).await.assert_error(403, "permission_denied");
    }
    // Neither an absent expiry nor `null` outlives the issuer's.
    let mut for_ever = child("child-1", &["read"]);
    for_ever["expires_at"] = Value::Null;
    assert_eq!(issue(&mut issuer, &for_ever).await.status(), 201);
    let listed = issuer.get("/v1/access-tokens").await;
    assert_names(&listed, "access_tokens", &["child-1"], false);
    let expected = json!({
        "id": "child-1",
        "expires_at": "2027-02-01T00:00:00.000Z",
        "auto_prefix_streams": false,
        "scope": {
            "basins": { "exact": BASIN },
            "streams": null,
            "access_tokens": null,
            "op_groups": {
                "account": { "read": false, "write": false },
                "basin": { "read": false, "write": false },
                "stream": { "read": false, "write": false },
            },
            "ops": ["read"],
        },
    });
    assert_eq!(listed.json()["access_tokens"][0], expected);
}

#[tokio::test]
async fn the_official_client_issues_lists_and_revokes() {
    let world = World::with(&[]).await;
    let client = |token: &str| {
        let endpoints = S2Endpoints::for_endpoint(&format!("http://{}", world.gateway.address)).unwrap();
        S2::new(S2Config::new(token).with_endpoints(endpoints)).unwrap()
    };
    let s2 = client(ROOT);
    let id: AccessTokenId = "tenant-42".parse().unwrap();
    let expires_at: s2_sdk::types::S2DateTime = "2027-06-01T12:00:00.123456789Z".parse().unwrap();
    let scope = AccessTokenScopeInput::from_op_group_perms(OperationGroupPermissions::read_write_all())
        .with_streams(StreamMatcher::Prefix("tenant-42/".parse().unwrap()));
    let wanted = IssueAccessTokenInput::new(id.clone(), scope);
    let wanted = wanted.with_expires_at(expires_at).with_auto_prefix_streams(true);
    let token = s2.issue_access_token(wanted).await.unwrap();

    let listed = client(&token).list_access_tokens(ListAccessTokensInput::new()).await.unwrap();
    assert!(listed.values.is_empty(), "it reaches no tokens");
    let listed = s2.list_access_tokens(ListAccessTokensInput::new().with_limit(2)).await.unwrap();
    assert_eq!((listed.values.len(), listed.has_more), (2, false), "the root token is the other one");
    let issued = &listed.values[1];
    assert_eq!((&issued.id, issued.expires_at), (&id, Some(expires_at)));
    assert!(issued.auto_prefix_streams);

    s2.revoke_access_token(id).await.unwrap();
    let refused = client(&token).list_access_tokens(ListAccessTokensInput::new()).await.unwrap_err();
    let error = refused.server_error().unwrap();
    assert_eq!((error.status.as_u16(), error.code.as_str()), (401, "authn"));
}

/// What this process logs, all of it.
fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    struct Log;
    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            log().lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut first = false;
    let log = LOG.get_or_init(|| {
        first = true;
        Mutex::default()
    });
    if first {
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(|| Log);
        subscriber.try_init().unwrap();
    }
    log
}

#[tokio::test]
async fn secrets_are_neither_stored_nor_logged() {
    let log = log();
    let mut world = World::with(&["orders"]).await;
    let token = world.issue(json!({ "id": "t", "scope": only(&["append", "list-basins"]) })).await;
    let mut bearer = Peer::connect(&world.gateway).await.bearing(&token);
    assert_eq!(bearer.get("/v1/basins").await.status(), 200);
    let mut session = bearer.append_session("orders").await;
    session.send(input(["x"]));
    assert_eq!(session.expect_acked().await, (0, 1));
    let wrong = format!("{token}x");
    Peer::connect(&world.gateway).await.bearing(&wrong).get("/v1/basins").await.assert_error(401, "authn");
    world.revoke("t").await;
    session.expect_failure(401, "authn").await;
    let kept = world.issue(json!({ "id": "kept", "scope": only(&["append"]) })).await;

    let store: Arc<dyn Store> = world.gateway.streams.store().clone();
    let rows = store.meta().scan(b"", None, 1000).await.unwrap();
    assert!(rows.iter().any(|(key, _)| key.as_ref() == b"t/kept"), "{rows:?}");
    assert!(!rows.iter().any(|(key, _)| key.as_ref() == b"t/t"));
    let logged = log.lock().unwrap().clone();
    assert!(!logged.is_empty());
    for secret in [&token, &kept, ROOT] {
        for part in [secret, &secret[4..24]] {
            let within = |bytes: &[u8]| bytes.windows(part.len()).any(|window| window == part.as_bytes());
            assert!(!rows.iter().any(|(key, row)| within(key) || within(&row.value)), "stored");
            assert!(!within(&logged), "logged");
        }
    }
}
