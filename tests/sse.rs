//! Server-sent events and CORS as a browser meets them (`data-plane.md` §8, `http.md` §7).

mod support;

use std::time::Duration;

use http::StatusCode;
use s2s_gateway::server::Cors;

use self::support::{
    Gateway, Setup,
    http::{Answer, Events, Version, ask, send},
};

const BASIN: (&str, &str) = ("s2-basin", "my-basin-01");
const JSON: (&str, &str) = ("content-type", "application/json");
const PAGE: (&str, &str) = ("origin", "https://app.example.org");

/// What an `EventSource` sends; `s2-basin` is what a page adds with fetch.
const EVENT_SOURCE: [(&str, &str); 4] = [("accept", "text/event-stream"), ("cache-control", "no-cache"), PAGE, BASIN];

const RECORDS: &str = "/v1/streams/orders%2Feu/records";

async fn gateway_with_stream() -> Gateway {
    let gateway = Gateway::start().await;
    let basin = r#"{"basin":"my-basin-01","config":{"create_stream_on_append":true,"default_stream_config":{"timestamping":{"uncapped":true}}}}"#;
    assert_eq!(ask(&gateway, "POST", "/v1/basins", &[JSON], basin).await.status, StatusCode::CREATED);
    let created = ask(&gateway, "PUT", "/v1/streams/orders%2Feu", &[BASIN], "").await;
    assert_eq!(created.status, StatusCode::CREATED);
    gateway
}

async fn append(gateway: &Gateway, records: &str) {
    let body = format!(r#"{{"records":[{records}]}}"#);
    let answer = ask(gateway, "POST", RECORDS, &[BASIN, JSON], &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
}

async fn events(gateway: &Gateway, query: &str, headers: &[(&str, &str)]) -> Events {
    let headers = [&EVENT_SOURCE[..], headers].concat();
    let response = send(gateway, Version::Http1, "GET", &format!("{RECORDS}{query}"), &headers, "").await;
    assert_eq!(response.status(), StatusCode::OK);
    Events::of(response)
}

async fn refused(gateway: &Gateway, query: &str, headers: &[(&str, &str)]) -> Answer {
    ask(gateway, "GET", &format!("{RECORDS}{query}"), &[&EVENT_SOURCE[..], headers].concat(), "").await
}

const DONE: &str = "data: [DONE]";
const A: &str = r#"{"timestamp":5,"body":"a"}"#;
const B: &str = r#"{"timestamp":6,"body":"b"}"#;

fn batch(id: &str, records: &str, tail: (u64, u64)) -> String {
    let (seq_num, timestamp) = tail;
    format!(
        "event: batch\nid: {id}\ndata: {{\"records\":[{records}],\"tail\":{{\"seq_num\":{seq_num},\"timestamp\":{timestamp}}}}}"
    )
}

#[tokio::test]
async fn a_page_follows_a_stream() {
    for version in [Version::Http1, Version::Http2] {
        let gateway = gateway_with_stream().await;
        append(&gateway, A).await;
        let path = format!("{RECORDS}?seq_num=0");
        let response = send(&gateway, version, "GET", &path, &EVENT_SOURCE, "").await;
        assert_eq!(response.status(), StatusCode::OK);
        for (name, expected) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache, no-transform"),
            ("x-accel-buffering", "no"),
            ("access-control-allow-origin", PAGE.1),
            ("access-control-allow-credentials", "true"),
        ] {
            assert_eq!(response.headers()[name], expected, "{version:?} {name}");
        }
        let mut events = Events::of(response);
        let first = r#"{"seq_num":0,"timestamp":5,"body":"a"}"#;
        assert_eq!(events.next().await.unwrap(), batch("0,1,9", first, (1, 5)));
        let ping = events.next().await.unwrap();
        let now = ping.strip_prefix("event: ping\ndata: {\"timestamp\":").unwrap();
        let now = now.strip_suffix(",\"tail\":{\"seq_num\":1,\"timestamp\":5}}").unwrap();
        assert!(now.parse::<u64>().unwrap() > 1_700_000_000_000, "milliseconds of today: {now}");
        append(&gateway, B).await;
        let second = r#"{"seq_num":1,"timestamp":6,"body":"b"}"#;
        assert_eq!(events.next().await.unwrap(), batch("1,2,18", second, (2, 6)));
        assert!(events.is_waiting(), "it follows");
    }
}

#[tokio::test]
async fn each_batch_that_is_appended_is_an_event() {
    let gateway = gateway_with_stream().await;
    let mut events = events(&gateway, "?seq_num=0", &[]).await;
    assert!(events.next().await.unwrap().starts_with("event: ping\n"));
    append(&gateway, &format!("{A},{B}")).await;
    append(&gateway, B).await;
    let ids = [events.next().await.unwrap(), events.next().await.unwrap()];
    assert!(ids[0].contains("\nid: 1,2,18\n") && ids[1].contains("\nid: 2,3,27\n"), "{ids:?}");
}

#[tokio::test]
async fn reads_that_end_end_with_done() {
    // data-plane.md §7.3, §8
    let gateway = gateway_with_stream().await;
    append(&gateway, &format!("{A},{B}")).await;
    let both = r#"{"seq_num":0,"timestamp":5,"body":"a"},{"seq_num":1,"timestamp":6,"body":"b"}"#;
    let first = r#"{"seq_num":0,"timestamp":5,"body":"a"}"#;
    let done = || vec![DONE.to_owned()];
    for (query, expected) in [
        ("?seq_num=0&count=2", vec![batch("1,2,18", both, (2, 6)), DONE.into()]),
        ("?seq_num=0&count=9", vec![batch("1,2,18", both, (2, 6)), DONE.into()]),
        ("?seq_num=0&bytes=17", vec![batch("0,1,9", first, (2, 6)), DONE.into()]),
        ("?seq_num=0&until=6", vec![batch("0,1,9", first, (2, 6)), DONE.into()]),
        ("?seq_num=0&bytes=5", done()),
        ("?seq_num=0&count=0", done()),
        ("?seq_num=999&count=0", done()),
        ("?wait=0", done()),
    ] {
        assert_eq!(events(&gateway, query, &[]).await.rest().await, expected, "{query}");
    }
}

#[tokio::test]
async fn reads_that_follow_end_with_done_as_well() {
    // data-plane.md §7.4, §8
    let gateway = gateway_with_stream().await;
    append(&gateway, A).await;
    let first = batch("0,1,9", r#"{"seq_num":0,"timestamp":5,"body":"a"}"#, (1, 5));
    let mut bounded = Vec::new();
    for bound in ["count=2", "bytes=18", "until=7"] {
        let mut events = events(&gateway, &format!("?seq_num=0&wait=60&{bound}"), &[]).await;
        assert_eq!(events.next().await, Some(first.clone()));
        assert!(events.next().await.unwrap().starts_with("event: ping\n"));
        bounded.push(events);
    }
    append(&gateway, &format!(r#"{B},{{"timestamp":7,"body":"c"}}"#)).await;
    for events in bounded {
        let rest = [batch("1,2,18", r#"{"seq_num":1,"timestamp":6,"body":"b"}"#, (3, 7)), DONE.into()];
        assert_eq!(events.rest().await, rest);
    }
    let waited = events(&gateway, "?wait=1", &[]).await.rest().await;
    assert!(waited.len() == 2 && waited[0].starts_with("event: ping\n") && waited[1] == DONE, "{waited:?}");
}

#[tokio::test]
async fn a_page_that_comes_back_goes_on_where_it_was() {
    // data-plane.md §8
    let gateway = gateway_with_stream().await;
    append(&gateway, &format!("{A},{B},{B}")).await;
    let third = r#"{"seq_num":2,"timestamp":6,"body":"b"}"#;
    let done = || vec![DONE.to_owned()];
    for (query, id, expected) in [
        // It overrides the start, and what was delivered counts.
        ("?seq_num=0&count=3", "1,2,18", vec![batch("2,3,27", third, (3, 6)), DONE.into()]),
        ("?tail_offset=0&bytes=27", "1,2,18", vec![batch("2,3,27", third, (3, 6)), DONE.into()]),
        ("?seq_num=0&count=2", "1,2,18", done()),
        ("?seq_num=0&count=1", "1,2,18", done()),
        ("?seq_num=0&bytes=18", "1,2,18", done()),
        ("?seq_num=0&until=6", "1,2,18", done()),
        ("?seq_num=0&wait=0", "2,3,27", done()),
        ("?seq_num=0&wait=0&clamp=true", "99,1,1", done()),
    ] {
        let events = events(&gateway, query, &[("last-event-id", id)]).await.rest().await;
        assert_eq!(events, expected, "{query} after {id}");
    }
    let beyond = refused(&gateway, "?seq_num=0", &[("last-event-id", "99,1,1")]).await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE, "a stream that was made anew");
    assert_eq!(beyond.text, r#"{"tail":{"seq_num":3,"timestamp":6}}"#);
}

#[tokio::test]
async fn what_is_wrong_is_told_before_the_first_event() {
    let gateway = gateway_with_stream().await;
    for (query, headers, status, code) in [
        ("", &[("last-event-id", "abc")][..], 400, "bad_header"),
        ("", &[("last-event-id", "1,2")], 400, "bad_header"),
        ("", &[("s2-format", "utf8")], 400, "bad_header"),
        ("?seq_num=x", &[], 400, "bad_query"),
        ("?seq_num=1&timestamp=1", &[("last-event-id", "1,2,3")], 422, "invalid"),
    ] {
        let answer = refused(&gateway, query, headers).await;
        assert_eq!(answer.status.as_u16(), status, "{query} {headers:?}");
        assert!(answer.text.contains(code), "{}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE.1), "errors too");
    }
    // Only an event stream looks at it.
    let unary = ask(&gateway, "GET", &format!("{RECORDS}?seq_num=0"), &[BASIN, ("last-event-id", "abc")], "").await;
    assert_eq!(unary.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let missing = ask(&gateway, "GET", "/v1/streams/none/records", &EVENT_SOURCE, "").await;
    assert!(missing.text.contains("stream_not_found"));
}

#[tokio::test]
async fn only_the_first_media_type_makes_an_event_stream() {
    let gateway = gateway_with_stream().await;
    append(&gateway, A).await;
    let read = format!("{RECORDS}?seq_num=0&count=1");
    for (accept, expected) in [
        ("text/event-stream", "text/event-stream"),
        ("Text/Event-Stream;charset=utf-8, */*", "text/event-stream"),
        ("application/json, text/event-stream", "application/json"),
    ] {
        let answer = ask(&gateway, "GET", &read, &[BASIN, ("accept", accept), ("accept-encoding", "zstd")], "").await;
        assert_eq!(answer.header("content-type"), Some(expected), "{accept}");
        assert_eq!(answer.header("content-encoding"), None);
    }
    let session = [BASIN, ("accept", "text/event-stream"), ("content-type", "s2s/proto")];
    let response = send(&gateway, Version::Http2, "GET", &read, &session, "").await;
    assert_eq!(response.headers()["content-type"], "s2s/proto");
}

#[tokio::test]
async fn events_are_never_compressed_and_keep_the_format() {
    let gateway = gateway_with_stream().await;
    let long = format!(r#"{{"timestamp":7,"body":"{}"}}"#, "long".repeat(1000));
    append(&gateway, &long).await;
    let headers = [BASIN, ("accept", "text/event-stream"), ("accept-encoding", "zstd, gzip"), ("s2-format", "base64")];
    let answer = ask(&gateway, "GET", &format!("{RECORDS}?seq_num=0&count=1"), &headers, "").await;
    assert_eq!(answer.header("content-encoding"), None);
    assert!(answer.text.contains(r#""body":"bG9uZ2xvbmds"#), "{}", &answer.text[..200]);
}

#[tokio::test]
async fn a_deleted_stream_ends_its_events_with_an_error() {
    let gateway = gateway_with_stream().await;
    let mut events = events(&gateway, "", &[]).await;
    assert!(events.next().await.unwrap().starts_with("event: ping\n"));
    assert_eq!(ask(&gateway, "DELETE", "/v1/streams/orders%2Feu", &[BASIN], "").await.status, StatusCode::ACCEPTED);
    let last = events.rest().await;
    let [error] = &last[..] else { panic!("one error and no {DONE}: {last:?}") };
    assert!(error.starts_with("event: error\ndata: {\"code\":\"stream_deletion_pending\","), "{error}");
}

#[tokio::test]
async fn a_stop_ends_events_with_an_error() {
    let mut gateway = Setup::drain_timeout(Duration::ZERO).start().await;
    ask(&gateway, "PUT", "/v1/basins/my-basin-01", &[], "").await;
    ask(&gateway, "PUT", "/v1/streams/orders%2Feu", &[BASIN], "").await;
    let mut events = events(&gateway, "", &[]).await;
    assert!(events.next().await.unwrap().starts_with("event: ping\n"));
    gateway.tell_to_stop();
    let last = events.rest().await;
    let [error] = &last[..] else { panic!("one error and no {DONE}: {last:?}") };
    assert!(error.starts_with("event: error\ndata: {\"code\":\"server_draining\","), "{error}");
}

#[tokio::test]
async fn a_preflight_opens_every_operation_to_a_page() {
    // http.md §7
    let gateway = Gateway::start().await;
    let asked = "authorization,content-type,s2-basin,s2-format,s2-request-token";
    for (method, path) in [
        ("POST", "/v1/basins"),
        ("PATCH", "/v1/basins/my-basin-01"),
        ("DELETE", "/v1/streams/orders"),
        ("GET", "/v1/streams/orders/records"),
    ] {
        let headers = [PAGE, ("access-control-request-method", method), ("access-control-request-headers", asked)];
        let answer = ask(&gateway, "OPTIONS", path, &headers, "").await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, ""), "{method} {path}");
        for (name, expected) in [
            ("access-control-allow-origin", PAGE.1),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", method),
            ("access-control-allow-headers", asked),
        ] {
            assert_eq!(answer.header(name), Some(expected), "{method} {path}: {name}");
        }
    }
    let no_page = ask(&gateway, "OPTIONS", "/v1/basins", &[], "").await;
    assert_eq!(no_page.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_page_may_read_what_became_of_its_request() {
    let gateway = Gateway::start().await;
    let answer = ask(&gateway, "PUT", "/v1/basins/my-basin-01", &[PAGE], "").await;
    assert_eq!(answer.header("s2-provision-result"), Some("created"));
    assert!(answer.header("access-control-expose-headers").unwrap().contains("s2-provision-result, retry-after-ms"));
    let without_origin = ask(&gateway, "PUT", "/v1/basins/my-basin-01", &[], "").await;
    let says = |answer: &Answer| answer.headers.keys().any(|name| name.as_str().starts_with("access-control"));
    assert!(!says(&without_origin));

    let mut setup = Setup::default();
    setup.server.cors = Cors::Off;
    let closed = setup.start().await;
    let answer = ask(&closed, "PUT", "/v1/basins/my-basin-01", &[PAGE], "").await;
    assert_eq!((answer.status, says(&answer)), (StatusCode::CREATED, false));
    let preflight = [PAGE, ("access-control-request-method", "PUT")];
    let answer = ask(&closed, "OPTIONS", "/v1/basins/my-basin-01", &preflight, "").await;
    assert_eq!((answer.status, says(&answer)), (StatusCode::METHOD_NOT_ALLOWED, false));
}
