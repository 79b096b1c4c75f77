//! What clients must not send, and what becomes of them: the exact error, in the right carrier, and nobody else harmed.
//!
//! In every test a session opened before the bad input (the bystander) still works after it.

mod support;

use bytes::{BufMut, Bytes, BytesMut};
use h2::Reason;
use http::Request;
use s2s_gateway::{
    types::Compression,
    wire::{COMPRESSION_THRESHOLD, deflate},
};
use tokio::{io::AsyncReadExt, net::TcpStream};

use self::support::{
    Gateway, Setup,
    peer::{
        BASIN, Bystander, Peer, Session, any_request, basin_request, flagged_frame, frame, gateway_with, input,
        input_if, message, raw_frame, record, records_path, session_request, settings, stream_path, until,
        with_headers, within,
    },
    raw::{self, RawPeer},
};

const ZSTD: u8 = 0x20;
const GZIP: u8 = 0x40;

/// The largest value of a frame's length field (`s2s.md` §3.3).
const MAX_FRAME_LEN: usize = 2_097_152;

const APPEND_SESSIONS: &str = "s2s_sessions_open{kind=\"append\"}";
const READ_SESSIONS: &str = "s2s_sessions_open{kind=\"read\"}";

/// An `AppendInput` message of exactly `len` bytes: one record with the body `x`, and a field that nobody knows.
fn padded_message(len: usize) -> Bytes {
    let mut out = BytesMut::from(&message(["x"])[..]);
    let padding = len - out.len() - 5;
    // Field 15, length-delimited, its length in four bytes.
    out.put_u8(0x7a);
    out.put_slice(&[padding as u8 | 0x80, (padding >> 7) as u8 | 0x80, (padding >> 14) as u8 | 0x80]);
    out.put_u8((padding >> 21) as u8);
    out.put_bytes(0, padding);
    assert_eq!(out.len(), len);
    out.freeze()
}

/// After one good input, `bytes` end the session with this status and code, and leave nothing behind.
async fn ends_session(bytes: &[u8], ending: Ending, status: u16, code: &str) {
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let mut session = peer.append_session("orders").await;
    session.send(input(["good"]));
    session.send(Bytes::copy_from_slice(bytes));
    if ending == Ending::HalfClosed {
        session.end();
    }
    assert_eq!(session.expect_acked().await, (0, 1), "what came before is acknowledged first");
    session.expect_failure(status, code).await;
    assert_eq!(peer.tail("orders").await, 1);
    bystander.still_works().await;
}

/// What the client does after what it sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    HalfClosed,
}

#[tokio::test]
async fn frames_that_are_none() {
    // s2s.md §3.4
    let terminal = |text: &[u8]| flagged_frame(0x80, &[b"\x01\x9c", text].concat());
    let cases: &[(&str, Bytes)] = &[
        ("a length of zero", Bytes::from_static(&[0, 0, 0])),
        ("a length over the limit, told from three bytes", Bytes::from_static(&[0x20, 0, 1])),
        ("the greatest length there is", Bytes::from_static(&[0xff, 0xff, 0xff])),
        ("an undefined compression", flagged_frame(0x60, &message(["x"]))),
        ("the same, and every other bit", flagged_frame(0x7f, &message(["x"]))),
        ("a terminal frame with no status", raw_frame(1, 0x80, b"")),
        ("a terminal frame with half a status", raw_frame(2, 0x80, b"\x01")),
        ("a terminal frame that is not text", terminal(b"\xff")),
        ("a terminal frame without text", terminal(b"")),
        ("a terminal frame, well-formed", terminal(br#"{"seq_num_mismatch":45}"#)),
        ("a terminal frame, all bits set", flagged_frame(0xff, b"\x01\x9c{}")),
    ];
    for (what, bytes) in cases {
        println!("{what}");
        ends_session(bytes, Ending::Open, 400, "bad_frame").await;
    }
}

#[tokio::test]
async fn the_largest_frame_is_accepted() {
    // s2s.md §3.3
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let mut session = peer.append_session("orders").await;
    let largest = raw_frame(MAX_FRAME_LEN, 0, &padded_message(MAX_FRAME_LEN - 1));
    session.send(largest);
    assert_eq!(session.expect_acked().await, (0, 1));
    bystander.still_works().await;
}

#[tokio::test]
async fn reserved_bits_are_ignored() {
    // s2s.md §3.1
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let mut session = peer.append_session("orders").await;
    session.send(flagged_frame(0x1f, &message(["x"])));
    assert_eq!(session.expect_acked().await, (0, 1));
    bystander.still_works().await;
}

#[tokio::test]
async fn compressed_bodies_that_are_not() {
    for (flag, compression) in [(ZSTD, Compression::Zstd), (GZIP, Compression::Gzip)] {
        let whole = deflate(compression, &message(["x".repeat(5000)])).unwrap();
        let cut = &whole[..whole.len() - 3];
        for body in [&b"nothing of the kind"[..], b"", cut, &[&whole[..], b"and more"].concat()] {
            ends_session(&flagged_frame(flag, body), Ending::Open, 400, "bad_frame").await;
        }
    }
}

#[tokio::test]
async fn compressed_bodies_that_are_too_large_inside() {
    // s2s.md §3.3: 2 097 151 bytes after decompression, and not one more; and bombs.
    for (flag, compression) in [(ZSTD, Compression::Zstd), (GZIP, Compression::Gzip)] {
        let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
        let mut session = peer.append_session("orders").await;
        let fits = deflate(compression, &padded_message(MAX_FRAME_LEN - 1)).unwrap();
        session.send(flagged_frame(flag, &fits));
        assert_eq!(session.expect_acked().await, (0, 1));
        bystander.still_works().await;

        for bomb in [padded_message(MAX_FRAME_LEN), Bytes::from(vec![0; 64 * 1024 * 1024])] {
            let bomb = deflate(compression, &bomb).unwrap();
            ends_session(&flagged_frame(flag, &bomb), Ending::Open, 400, "bad_frame").await;
        }
    }
}

#[tokio::test]
async fn small_compressed_bodies_are_accepted() {
    // s2s.md §3.3: below the threshold it is not worth it, and legal.
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let mut session = peer.append_session("orders").await;
    let small = message(["x"]);
    assert!(small.len() < COMPRESSION_THRESHOLD);
    session.send(flagged_frame(ZSTD, &deflate(Compression::Zstd, &small).unwrap()));
    session.send(flagged_frame(GZIP, &deflate(Compression::Gzip, &small).unwrap()));
    assert_eq!(session.expect_acked().await, (0, 1));
    assert_eq!(session.expect_acked().await, (1, 2));
    bystander.still_works().await;
}

#[tokio::test]
async fn protobuf_rubbish() {
    // s2s.md §6.4: on a session it is the frame that is bad.
    let mut cut = message(["a record cut short"]).to_vec();
    cut.truncate(cut.len() - 4);
    for body in [
        &b"\xff\xff\xff"[..],
        b"\x0a\x05\x1a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x08\x01",
        b"\x0a\x00\x12\x00",
        b"\x0a\x00\x1a\x01\xff",
        b"{\"records\":[]}",
        &cut,
    ] {
        ends_session(&frame(body), Ending::Open, 400, "bad_frame").await;
    }
}

#[tokio::test]
async fn half_a_frame_at_the_end() {
    // s2s.md §6.5
    let whole = input(["never"]);
    for half in [1, 3, 4, 5, whole.len() - 1] {
        ends_session(&whole[..half], Ending::HalfClosed, 400, "bad_frame").await;
    }
}

#[tokio::test]
async fn batches_over_the_limits() {
    // data-plane.md §1.2, §1.3
    let body = |len| vec![b'x'; len];
    let fence_37 = record(&[(b"", b"fence")], &body(37));
    let too_much_together = input([body(1_048_568 - 8 - 1), body(2)]);
    // `fencing_token`, field 3, of 37 bytes behind a record of nothing.
    let token_37 = frame(&[&[0x0a, 0, 0x1a, 37], &body(37)[..]].concat());
    let cases = [
        ("no records", frame(b"")),
        ("conditions and no records", frame(b"\x10\x00\x1a\x00")),
        ("1001 records", input(vec![""; 1001])),
        ("one record of 1 MiB and 1", input([body(1_048_569)])),
        ("records of 1 MiB and 1 together", too_much_together),
        ("an empty header name among others", record(&[(b"k", b"v"), (b"", b"fence")], b"")),
        ("two empty header names", record(&[(b"", b"fence"), (b"", b"fence")], b"")),
        ("an unknown command", record(&[(b"", b"compact")], b"")),
        ("a command in capitals", record(&[(b"", b"Fence")], b"")),
        ("a command of no name", record(&[(b"", b"")], b"")),
        ("a fence of 37 bytes", fence_37),
        ("a fence that is not text", record(&[(b"", b"fence")], b"\xff")),
        ("a trim of 7 bytes", record(&[(b"", b"trim")], &[0; 7])),
        ("a trim of 9 bytes", record(&[(b"", b"trim")], &[0; 9])),
        ("a condition of 37 bytes", token_37),
    ];
    for (what, bytes) in cases {
        println!("{what}");
        ends_session(&bytes, Ending::Open, 422, "invalid").await;
    }
}

#[tokio::test]
async fn batches_at_the_limits_are_accepted() {
    // data-plane.md §1.2
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let mut session = peer.append_session("orders").await;
    session.send(input(vec![""; 1000]));
    session.send(input([vec![b'x'; 1_048_568]]));
    session.send(record(&[(b"", b"fence")], &[b'x'; 36]));
    session.send(record(&[(b"fence", b"")], b"an ordinary record"));
    for acked in [(0, 1000), (1000, 1001), (1001, 1002), (1002, 1003)] {
        assert_eq!(session.expect_acked().await, acked);
    }
    bystander.still_works().await;
}

#[tokio::test]
async fn a_timestamp_that_is_required_and_missing() {
    let (_gateway, mut peer, mut bystander) = gateway_with(&[]).await;
    let config = r#"{"timestamping":{"mode":"client-require"}}"#;
    assert_eq!(peer.json("PUT", &stream_path("orders"), config).await.status(), 201);
    let mut session = peer.append_session("orders").await;
    session.send(input(["x"]));
    session.expect_failure(422, "invalid").await;
    bystander.still_works().await;
}

/// The ways to ask for a session that never begins, and what else needs a basin and a stream.
fn data_plane_requests(stream: &str) -> Vec<Request<()>> {
    let records = format!("/v1/streams/{stream}/records");
    let json = |method: &str, path: &str| {
        let request = basin_request(method, path).header("content-type", "application/json");
        request.body(()).unwrap()
    };
    vec![
        session_request("POST", &records),
        session_request("GET", &format!("{records}?seq_num=0")),
        session_request("POST", &format!("/v1/streams/{stream}/session")),
        session_request("POST", &format!("/v1/streams/{stream}/session?mode=read&seq_num=0")),
        json("POST", &records),
        json("GET", &format!("{records}?seq_num=0")),
        json("GET", &format!("{records}/tail")),
    ]
}

async fn refused(peer: &mut Peer, request: Request<()>, status: u16, code: &str) {
    let what = format!("{request:?}");
    let mut opening = peer.open(request, false).await;
    let body = br#"{"records":[{"body":"x"}]}"#;
    opening.sending.send_data(Bytes::from_static(body), true).unwrap();
    let reply = opening.answered().await.reply().await;
    println!("{what}");
    reply.assert_error(status, code);
}

#[tokio::test]
async fn the_basin_missing_doubled_or_wrong() {
    // errors.md §4.2, http.md §3
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let too_long = "a".repeat(49);
    for name in ["", "short-1", "Upper-Case", "under_score", "-hyphen-first", "hyphen-last-", &too_long] {
        for mut request in data_plane_requests("orders") {
            request.headers_mut().insert("s2-basin", name.parse().unwrap());
            refused(&mut peer, request, 400, "bad_header").await;
        }
    }
    for mut request in data_plane_requests("orders") {
        request.headers_mut().remove("s2-basin");
        refused(&mut peer, request, 400, "bad_header").await;
    }
    for mut request in data_plane_requests("orders") {
        let not_ascii = http::HeaderValue::from_bytes("my-basin-é".as_bytes()).unwrap();
        request.headers_mut().insert("s2-basin", not_ascii);
        refused(&mut peer, request, 400, "bad_header").await;
    }
    for mut request in data_plane_requests("orders") {
        request.headers_mut().insert("s2-basin", "no-such-basin".parse().unwrap());
        refused(&mut peer, request, 404, "basin_not_found").await;
    }
    // Given twice, the first counts.
    let doubled = with_headers(session_request("GET", &records_path("orders")), &[("s2-basin", "no-such-basin")]);
    assert_eq!(peer.open(doubled, true).await.granted().await.expect_heartbeat().await, 0);
    bystander.still_works().await;
}

#[tokio::test]
async fn names_of_streams_that_are_none() {
    // errors.md §4.3, control-plane.md §2
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let too_long = "a".repeat(513);
    for name in ["%00", "a%00b", "%ff", "%2E", "%2e%2E", ".", "..", &too_long] {
        for request in data_plane_requests(name) {
            refused(&mut peer, request, 400, "bad_path").await;
        }
        peer.json("PUT", &format!("/v1/streams/{name}"), "").await.assert_error(400, "bad_path");
    }
    for request in data_plane_requests(&"a".repeat(512)) {
        refused(&mut peer, request, 404, "stream_not_found").await;
    }
    for name in [too_long.as_str(), "", ".", "a\\u0000b"] {
        let body = format!(r#"{{"stream":"{name}"}}"#);
        peer.json("POST", "/v1/streams", body).await.assert_error(400, "bad_json");
    }
    for name in ["short-1", "Upper-Case", "%00aaaaaaaa", "%ff"] {
        peer.get(&format!("/v1/basins/{name}")).await.assert_error(400, "bad_path");
        peer.json("PUT", &format!("/v1/basins/{name}"), "").await.assert_error(400, "bad_path");
    }
    peer.json("POST", "/v1/basins", r#"{"basin":"short-1"}"#).await.assert_error(400, "bad_json");
    for id in ["%00", "%ff", "%2e", "..", &"a".repeat(97)] {
        peer.json("DELETE", &format!("/v1/access-tokens/{id}"), "").await.assert_error(400, "bad_path");
    }
    let longest = format!("/v1/access-tokens/{}", "a".repeat(96));
    peer.json("DELETE", &longest, "").await.assert_error(404, "access_token_not_found");
    bystander.still_works().await;
}

#[tokio::test]
async fn the_short_form_without_a_stream() {
    // s2s.md §1.1
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    refused(&mut peer, session_request("POST", "/session"), 400, "bad_header").await;
    let mut without_basin = with_headers(session_request("POST", "/session"), &[("s2-stream", "orders")]);
    without_basin.headers_mut().remove("s2-basin");
    refused(&mut peer, without_basin, 400, "bad_header").await;
    for name in ["", ".", "%ff", "%00"] {
        let request = with_headers(session_request("POST", "/session"), &[("s2-stream", name)]);
        refused(&mut peer, request, 400, "bad_header").await;
    }
    let mut not_ascii = session_request("POST", "/session");
    let value = http::HeaderValue::from_bytes("é".as_bytes()).unwrap();
    not_ascii.headers_mut().insert("s2-stream", value);
    refused(&mut peer, not_ascii, 400, "bad_header").await;
    bystander.still_works().await;
}

#[tokio::test]
async fn s2_format_that_is_unknown() {
    // errors.md §4.2: only JSON looks at it, and it looks at the first.
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let append = |format: &[&str]| {
        let mut request = basin_request("POST", &records_path("orders")).header("content-type", "application/json");
        for value in format {
            request = request.header("s2-format", *value);
        }
        request.body(Bytes::from_static(br#"{"records":[{"body":"eA=="}]}"#)).unwrap()
    };
    for format in ["utf8", "RAW", ""] {
        peer.call(append(&[format])).await.assert_error(400, "bad_header");
        let read = basin_request("GET", &format!("{}?seq_num=0", records_path("orders"))).header("s2-format", format);
        peer.call(read.body(Bytes::new()).unwrap()).await.assert_error(400, "bad_header");
    }
    peer.call(append(&["utf8", "raw"])).await.assert_error(400, "bad_header");
    assert_eq!(peer.call(append(&["base64", "utf8"])).await.status(), 200);

    let mut session = peer.append_session_with("orders", &[("s2-format", "utf8")]).await;
    session.send(input(["x"]));
    assert_eq!(session.expect_acked().await, (1, 2));
    let protobuf = basin_request("POST", &records_path("orders"))
        .header("content-type", "application/protobuf")
        .header("accept", "application/protobuf")
        .header("s2-format", "utf8");
    assert_eq!(peer.call(protobuf.body(message(["x"])).unwrap()).await.status(), 200);
    let protobuf = basin_request("GET", &format!("{}?seq_num=0", records_path("orders")))
        .header("accept", "application/protobuf")
        .header("s2-format", "utf8");
    assert_eq!(peer.call(protobuf.body(Bytes::new()).unwrap()).await.status(), 200);
    bystander.still_works().await;
}

#[tokio::test]
async fn s2_stream_config_that_is_none() {
    // errors.md §4.2, data-plane.md §10: judged before the stream is looked up, and nothing is created.
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let config = r#"{"config":{"create_stream_on_append":true,"create_stream_on_read":true}}"#;
    assert_eq!(peer.json("PUT", &format!("/v1/basins/{BASIN}"), config).await.status(), 200);
    for config in ["{", "", "null!", "[]", r#"{"retention_policy":{"age":0}}"#, r#"{"timestamping":{"mode":"x"}}"#] {
        for stream in ["orders", "missing"] {
            for request in data_plane_requests(stream).into_iter().filter(|r| !r.uri().path().ends_with("tail")) {
                let request = with_headers(request, &[("s2-stream-config", config)]);
                refused(&mut peer, request, 400, "bad_header").await;
            }
        }
    }
    peer.get(&stream_path("missing")).await.assert_error(404, "stream_not_found");
    // data-plane.md §9: who checks the tail is not asked how to make a stream, or for a key.
    let tail = basin_request("GET", &format!("{}/tail", records_path("missing"))).header("s2-stream-config", "{");
    let tail = tail.header("s2-encryption-key", "").body(Bytes::new()).unwrap();
    assert_eq!(peer.call(tail).await.status(), 200);
    bystander.still_works().await;
}

#[tokio::test]
async fn headers_that_are_not_ascii() {
    // errors.md §4.2
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let event_stream = ("accept", "text/event-stream");
    for (name, value) in [
        ("s2-stream-config", "{\"storage_class\":\"é\"}"),
        ("s2-encryption-key", "é"),
        ("s2-format", "é"),
        ("last-event-id", "é"),
    ] {
        let looks_at_it: Vec<_> = match name {
            "s2-format" => data_plane_requests("orders").drain(4..6).collect(),
            "last-event-id" => vec![with_headers(data_plane_requests("orders").remove(5), &[event_stream])],
            _ => data_plane_requests("orders").drain(..6).collect(),
        };
        for mut request in looks_at_it {
            let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().insert(name, value);
            refused(&mut peer, request, 400, "bad_header").await;
        }
    }
    bystander.still_works().await;
}

#[tokio::test]
async fn headers_that_are_not_visible_ascii() {
    // errors.md §4.2: also where JSON could have been read from it.
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let read = format!("{}?seq_num=0&count=0", records_path("orders"));
    for (name, value, method, path) in [
        ("s2-basin", "my-basin-\u{e9}", "GET", "/v1/streams"),
        ("s2-request-token", "\u{e9}", "POST", "/v1/streams"),
        ("s2-format", "\u{e9}", "GET", &*read),
        ("s2-encryption-key", "\u{e9}", "GET", &*read),
        ("s2-stream-config", "{\"storage_class\":\"\u{e9}\"}", "GET", &*read),
        ("last-event-id", "\u{e9}", "GET", &*read),
    ] {
        let mut request = basin_request(method, path).header("accept", "text/event-stream");
        let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers_mut().unwrap().insert(name, value);
        let reply = peer.call(request.body(Bytes::new()).unwrap()).await;
        println!("{name}");
        reply.assert_error(400, "bad_header");
    }
    bystander.still_works().await;
}

#[tokio::test]
async fn request_tokens_that_are_too_long() {
    let (_gateway, mut peer, mut bystander) = gateway_with(&[]).await;
    let create = |path: &str, body: &str, token: &str| {
        let request = basin_request("POST", path).header("content-type", "application/json");
        request.header("s2-request-token", token).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    };
    for (path, body) in [("/v1/basins", r#"{"basin":"my-basin-02"}"#), ("/v1/streams", r#"{"stream":"s"}"#)] {
        peer.call(create(path, body, &"t".repeat(37))).await.assert_error(400, "bad_header");
        assert_eq!(peer.call(create(path, body, &"t".repeat(36))).await.status(), 201);
    }
    bystander.still_works().await;
}

#[tokio::test]
async fn routes_and_methods_that_are_not_there() {
    // errors.md §4.3, s2s.md §1.1
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    for path in ["/", "/v1", "/v1/streams/", "/v1/streams/a/b/records", "/v1/streams/orders/records/", "/v2/streams"] {
        for method in ["GET", "POST", "DELETE"] {
            let session = session_request(method, path).map(|()| Bytes::new());
            peer.call(session).await.assert_error(404, "not_found");
        }
    }
    for (method, path, allow) in [
        ("DELETE", "/v1/streams/orders/records", "GET, POST"),
        ("POST", "/v1/streams/orders/records/tail", "GET"),
        ("GET", "/v1/streams/orders/session", "POST"),
        ("PUT", "/session", "POST"),
        ("POST", "/v1/streams/orders", "GET, PUT, PATCH, DELETE"),
        ("DELETE", "/v1/basins", "GET, POST"),
        ("POST", "/health", "GET, HEAD"),
    ] {
        let reply = peer.call(session_request(method, path).map(|()| Bytes::new())).await;
        reply.assert_error(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
    bystander.still_works().await;
}

#[tokio::test]
async fn content_types_that_are_wrong() {
    // s2s.md §1.1, errors.md §4.1
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let types = [None, Some(""), Some("application/json"), Some("text/plain"), Some("s2s/protobuf"), Some("s2s")];
    for content_type in types {
        for path in ["/session", "/v1/streams/orders/session", "/v1/streams/orders/session?mode=read"] {
            let mut request = basin_request("POST", path).header("s2-stream", "orders");
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            refused(&mut peer, request.body(()).unwrap(), 415, "unsupported_media_type").await;
        }
    }
    for content_type in [None, Some("text/plain"), Some("application/octet-stream"), Some("multipart/form-data")] {
        for path in ["/v1/basins", "/v1/streams", "/v1/streams/orders/records"] {
            let mut request = basin_request("POST", path);
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            let request = request.body(Bytes::from_static(b"{}")).unwrap();
            peer.call(request).await.assert_error(400, "bad_json");
        }
        let basin = format!("/v1/basins/{BASIN}");
        for (method, path) in [
            ("PATCH", basin.as_str()),
            ("PATCH", "/v1/streams/orders"),
            ("POST", "/v1/access-tokens"),
            ("PUT", "/v1/locations/default"),
        ] {
            let request = basin_request(method, path).header("content-type", content_type.unwrap_or_default());
            peer.call(request.body(Bytes::from_static(b"{}")).unwrap()).await.assert_error(400, "bad_json");
        }
        // To ensure, there need be no body: one that is not said to be JSON is none, whatever stands in it.
        for path in [basin.as_str(), "/v1/streams/orders"] {
            let request = basin_request("PUT", path).header("content-type", content_type.unwrap_or_default());
            let reply = peer.call(request.body(Bytes::from_static(b"{")).unwrap()).await;
            assert_eq!((reply.status(), reply.header("s2-provision-result")), (200, Some("noop")), "{path}");
        }
    }
    // The first media type decides, without regard to case, and with parameters.
    for content_type in ["S2S/Proto", "s2s/proto; charset=x", "s2s/proto, application/json"] {
        let request = basin_request("POST", &records_path("orders")).header("content-type", content_type);
        let mut session = peer.open(request.body(()).unwrap(), false).await.granted().await;
        session.end();
        session.expect_end().await;
    }
    bystander.still_works().await;
}

#[tokio::test]
async fn json_that_is_none() {
    // errors.md §4.1
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let records = records_path("orders");
    let typed_deep = format!(r#"{{"records":{}1{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    for body in [
        "",
        "{",
        "null",
        "[]",
        r#"{"records":1}"#,
        r#"{"records":[{"headers":null}]}"#,
        r#"{"records":[{"body":null}]}"#,
        r#"{"records":[{"body":1}]}"#,
        r#"{"records":[{"timestamp":-1}]}"#,
        r#"{"records":[{"timestamp":1.0}]}"#,
        r#"{"records":[{"timestamp":"1"}]}"#,
        r#"{"records":[{"headers":[["k"]]}]}"#,
        r#"{"records":[{}],"match_seq_num":18446744073709551616}"#,
        r#"{"match_seq_num":1}"#,
        &typed_deep,
    ] {
        peer.json("POST", &records, body.to_owned()).await.assert_error(400, "bad_json");
    }
    let token = "t".repeat(37);
    for body in [
        r#"{"records":[]}"#.to_owned(),
        format!(r#"{{"records":[{}{{}}]}}"#, "{},".repeat(1000)),
        format!(r#"{{"records":[{{"body":"{}"}}]}}"#, "x".repeat(1_048_569)),
        format!(r#"{{"records":[{{}}],"fencing_token":"{token}"}}"#),
        format!(r#"{{"records":[{{"headers":[["","fence"]],"body":"{token}"}}]}}"#),
        r#"{"records":[{"headers":[["","compact"]]}]}"#.to_owned(),
        r#"{"records":[{"headers":[["","fence"],["k","v"]]}]}"#.to_owned(),
    ] {
        peer.json("POST", &records, body).await.assert_error(422, "invalid");
    }
    let base64 =
        basin_request("POST", &records).header("content-type", "application/json").header("s2-format", "base64");
    let not_base64 = Bytes::from_static(br#"{"records":[{"body":"a"}]}"#);
    peer.call(base64.body(not_base64).unwrap()).await.assert_error(422, "invalid");

    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let nested = format!(r#"{{"records":[{{"body":"x","new":{deep}}}]}}"#);
    assert_eq!(peer.json("POST", &records, nested).await.status(), 200, "fields that nobody knows are passed over");
    assert_eq!(peer.tail("orders").await, 1);

    let basin = format!("/v1/basins/{BASIN}");
    for (field, status) in [("new", 200), ("timestamping", 400), ("retention_policy", 400), ("storage_class", 400)] {
        let config = format!(r#"{{"{field}":{deep}}}"#);
        let within = format!(r#"{{"default_stream_config":{config}}}"#);
        for (method, path, body) in [
            ("PUT", stream_path("orders"), config.clone()),
            ("PATCH", stream_path("orders"), config),
            ("PATCH", basin.clone(), within.clone()),
            ("PUT", basin.clone(), format!(r#"{{"config":{within}}}"#)),
        ] {
            let reply = peer.json(method, &path, body).await;
            assert_eq!(reply.status(), status, "{method} {path} {field}");
        }
    }
    let infinite = format!(r#"{{"retention_policy":{{"infinite":{{"new":{deep}}}}}}}"#);
    assert_eq!(peer.json("PUT", &stream_path("orders"), infinite).await.status(), 200);
    for scope in [format!(r#"{{"basins":{deep}}}"#), format!(r#"{{"ops":{deep}}}"#), deep.clone()] {
        let issue = format!(r#"{{"id":"t","scope":{scope}}}"#);
        peer.json("POST", "/v1/access-tokens", issue).await.assert_error(400, "bad_json");
    }
    bystander.still_works().await;
}

#[tokio::test]
async fn protobuf_that_is_none_in_a_unary_append() {
    // errors.md §4.1, data-plane.md §3.2
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let append = |body: Bytes| {
        let request = basin_request("POST", &records_path("orders")).header("content-type", "application/protobuf");
        request.header("accept", "application/protobuf").body(body).unwrap()
    };
    for body in [&b"\xff\xff\xff"[..], b"\x0a\x05\x1a", b"{\"records\":[]}"] {
        peer.call(append(Bytes::copy_from_slice(body))).await.assert_error(400, "bad_proto");
    }
    let token = [&[0x0a, 0, 0x1a, 37][..], &[b't'; 37]].concat();
    for body in [Bytes::new(), message(vec![""; 1001]), message([vec![0; 1_048_569]]), token.into()] {
        peer.call(append(body)).await.assert_error(422, "invalid");
    }
    assert_eq!(peer.tail("orders").await, 0);
    bystander.still_works().await;
}

#[tokio::test]
async fn unary_bodies_that_are_coded_wrongly_or_too_large() {
    // errors.md §4.1, http.md §6
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let append = |content_type: &str, coding: &str, body: Bytes| {
        let request = basin_request("POST", &records_path("orders")).header("content-type", content_type);
        request.header("content-encoding", coding).body(body).unwrap()
    };
    let json = Bytes::from_static(br#"{"records":[{"body":"x"}]}"#);
    for coding in ["br", "deflate", "gzip, zstd", "x"] {
        let reply = peer.call(append("application/json", coding, json.clone())).await;
        reply.assert_error(415, "unsupported_media_type");
    }
    for coding in ["gzip", "zstd"] {
        peer.call(append("application/json", coding, json.clone())).await.assert_error(400, "bad_json");
        peer.call(append("application/protobuf", coding, message(["x"]))).await.assert_error(400, "bad_proto");
    }
    let spaces = vec![b' '; 64 * 1024 * 1024];
    let bomb = deflate(Compression::Zstd, &spaces).unwrap();
    peer.call(append("application/json", "zstd", bomb.clone())).await.assert_error(400, "bad_json");
    peer.call(append("application/protobuf", "zstd", bomb)).await.assert_error(400, "bad_proto");
    let too_large = Bytes::from(spaces).slice(..9 * 1024 * 1024);
    peer.call(append("application/json", "identity", too_large.clone())).await.assert_error(400, "bad_json");
    peer.call(append("application/protobuf", "identity", too_large)).await.assert_error(400, "bad_proto");
    assert_eq!(peer.tail("orders").await, 0);
    bystander.still_works().await;
}

#[tokio::test]
async fn queries_that_are_wrong() {
    // data-plane.md §7.1, s2s.md §1.1, control-plane.md §4.7
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let records = records_path("orders");
    let ask = async |peer: &mut Peer, query: &str, status: u16, code: &str| {
        println!("{query}");
        peer.get(&format!("{records}?{query}")).await.assert_error(status, code);
        refused(peer, session_request("GET", &format!("{records}?{query}")), status, code).await;
        let path = format!("/v1/streams/orders/session?mode=read&{query}");
        refused(peer, session_request("POST", &path), status, code).await;
    };
    for query in [
        "seq_num=abc",
        "seq_num=-1",
        "seq_num=",
        "seq_num",
        "seq_num=18446744073709551616",
        "seq_num=1&seq_num=1",
        "timestamp=x",
        "tail_offset=1.0",
        "clamp=1",
        "clamp=yes",
        "count=-1",
        "bytes=x",
        "until=x",
        "wait=4294967296",
        "wait=-1",
    ] {
        ask(&mut peer, query, 400, "bad_query").await;
    }
    for query in
        ["seq_num=0&timestamp=0", "seq_num=0&tail_offset=0", "timestamp=1&tail_offset=1", "timestamp=6&until=6"]
    {
        ask(&mut peer, query, 422, "invalid").await;
    }
    for query in ["mode=write", "mode=", "mode=read&mode=read", "seq_num=0", "mode=append&clamp=true"] {
        let request = session_request("POST", &format!("/v1/streams/orders/session?{query}"));
        refused(&mut peer, request, 400, "bad_query").await;
    }
    for query in ["limit=-1", "limit=x", "limit=1&limit=1", "prefix=%ff"] {
        peer.get(&format!("/v1/streams?{query}")).await.assert_error(400, "bad_query");
        peer.get(&format!("/v1/basins?{query}")).await.assert_error(400, "bad_query");
        peer.get(&format!("/v1/access-tokens?{query}")).await.assert_error(400, "bad_query");
    }
    peer.get("/v1/basins?prefix=Not-A-Basin").await.assert_error(400, "bad_query");
    peer.get("/v1/streams?start_after=a%00").await.assert_error(400, "bad_query");
    bystander.still_works().await;
}

#[tokio::test]
async fn of_several_errors_the_first_in_order_is_told() {
    // errors.md §4.4: basin, path, query, other headers, body, parameters that contradict each other, existence.
    let (_gateway, mut peer, mut bystander) = gateway_with(&[]).await;
    let path = "/v1/streams/%00/records?seq_num=x";
    let all_wrong = any_request("GET", path).header("content-type", "s2s/proto").header("s2-stream-config", "{");
    refused(&mut peer, all_wrong.body(()).unwrap(), 400, "bad_header").await;
    let config = &[("s2-stream-config", "{")];
    refused(&mut peer, with_headers(session_request("GET", path), config), 400, "bad_path").await;
    let path = "/v1/streams/missing/records?seq_num=x";
    refused(&mut peer, with_headers(session_request("GET", path), config), 400, "bad_query").await;
    let path = "/v1/streams/missing/records?seq_num=0";
    refused(&mut peer, with_headers(session_request("GET", path), config), 400, "bad_header").await;
    peer.json("POST", &records_path("missing"), "{").await.assert_error(400, "bad_json");
    peer.json("POST", &records_path("missing"), r#"{"records":[]}"#).await.assert_error(422, "invalid");
    refused(&mut peer, session_request("GET", path), 404, "stream_not_found").await;
    for query in ["seq_num=0&tail_offset=0", "timestamp=6&until=6"] {
        let reads = [
            session_request("GET", &format!("/v1/streams/missing/records?{query}")),
            session_request("POST", &format!("/v1/streams/missing/session?mode=read&{query}")),
            basin_request("GET", &format!("/v1/streams/missing/records?{query}")).body(()).unwrap(),
        ];
        let events = with_headers(reads[2].clone(), &[("accept", "text/event-stream")]);
        let bad_id = with_headers(events.clone(), &[("last-event-id", "abc")]);
        refused(&mut peer, bad_id, 400, "bad_header").await;
        let bad_format = with_headers(reads[2].clone(), &[("s2-format", "utf8")]);
        refused(&mut peer, bad_format, 400, "bad_header").await;
        for read in reads.into_iter().chain([events]) {
            refused(&mut peer, with_headers(read.clone(), config), 400, "bad_header").await;
            refused(&mut peer, with_headers(read.clone(), &[("s2-encryption-key", "")]), 400, "bad_header").await;
            refused(&mut peer, read, 422, "invalid").await;
        }
    }

    // The same where basins and streams are managed: basin, path, query, other headers, body, its sense, existence.
    let (long, no_basin) = ("t".repeat(37), "no-such-basin");
    let age_zero = r#"{"stream":"s","config":{"retention_policy":{"age":0}}}"#;
    for (method, path, basin, token, body, status, code) in [
        ("PUT", "/v1/streams/%00", "Bad", &*long, "{", 400, "bad_header"),
        ("PUT", "/v1/streams/%00", no_basin, &*long, "{", 400, "bad_path"),
        ("PUT", "/v1/streams/s", no_basin, "t", "{", 400, "bad_json"),
        ("PUT", "/v1/streams/s", no_basin, "t", "{}", 404, "basin_not_found"),
        ("PATCH", "/v1/streams/%00", no_basin, "t", "{", 400, "bad_path"),
        ("PATCH", "/v1/streams/s", no_basin, "t", r#"{"retention_policy":{"age":0}}"#, 422, "invalid"),
        ("GET", "/v1/streams?limit=x", "Bad", "t", "", 400, "bad_header"),
        ("GET", "/v1/streams?limit=x", no_basin, "t", "", 400, "bad_query"),
        ("POST", "/v1/streams", "Bad", "t", "{", 400, "bad_header"),
        ("POST", "/v1/streams", no_basin, &*long, "{", 400, "bad_header"),
        ("POST", "/v1/streams", no_basin, "t", "{", 400, "bad_json"),
        ("POST", "/v1/streams", no_basin, "t", age_zero, 422, "invalid"),
        ("POST", "/v1/streams", no_basin, "t", r#"{"stream":"s"}"#, 404, "basin_not_found"),
        ("POST", "/v1/basins", "Bad", &*long, "{", 400, "bad_header"),
        ("POST", "/v1/basins", "Bad", "t", "{", 400, "bad_json"),
        ("POST", "/v1/basins", "Bad", "t", r#"{"basin":"my-basin-01","location":"moon"}"#, 422, "invalid"),
        ("PATCH", "/v1/basins/Bad", "Bad", "t", "{", 400, "bad_path"),
        ("PATCH", "/v1/basins/no-such-basin", "Bad", "t", "{", 400, "bad_json"),
        ("GET", "/v1/metrics/Bad?set=x", "Bad", "t", "", 400, "bad_path"),
        ("GET", "/v1/metrics/no-such-basin?set=x&start=2&end=1", "Bad", "t", "", 400, "bad_query"),
    ] {
        let request = any_request(method, path).header("s2-basin", basin).header("s2-request-token", token);
        let request = request.header("content-type", "application/json").body(Bytes::from(body)).unwrap();
        println!("{method} {path} {body}");
        peer.call(request).await.assert_error(status, code);
    }
    bystander.still_works().await;
}

#[tokio::test]
async fn bodies_where_there_is_no_use_for_them() {
    // errors.md §4.1: on GET and DELETE they are ignored, and taken off the connection.
    let (gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    for (method, path, status) in [
        ("GET", "/v1/streams".to_owned(), 200),
        ("GET", format!("{}?seq_num=0&clamp=true&count=0", records_path("orders")), 200),
        ("GET", "/v1/locations".to_owned(), 200),
        ("DELETE", stream_path("orders"), 202),
    ] {
        assert_eq!(peer.json(method, &path, "{").await.status(), status, "{method} {path}");
    }
    assert_eq!(gateway.metric("s2s_connections_open"), 2.0, "nobody was closed on");
    bystander.still_works().await;
}

#[tokio::test]
async fn a_writer_that_vanishes() {
    // http.md §10, s2s.md §6.5
    for vanish in [Vanish::Resets, Vanish::HangsUp] {
        let (gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
        let sessions = gateway.metric(APPEND_SESSIONS);
        let mut session = peer.append_session("orders").await;
        session.send(input(["stays"]));
        assert_eq!(session.expect_acked().await, (0, 1));
        session.send(input(["half of this"]).slice(..8));
        peer.ping().await;
        assert_eq!(gateway.metric(APPEND_SESSIONS), sessions + 1.0);
        vanish.do_it(peer, session).await;
        until(|| gateway.metric(APPEND_SESSIONS) == sessions).await;
        assert_eq!(Peer::connect(&gateway).await.tail("orders").await, 1, "what was admitted stays");
        bystander.still_works().await;
    }
}

#[tokio::test]
async fn a_reader_that_vanishes() {
    for vanish in [Vanish::Resets, Vanish::HangsUp] {
        let (gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
        let sessions = gateway.metric(READ_SESSIONS);
        let mut session = peer.read_session("orders", "").await;
        session.expect_heartbeat().await;
        assert_eq!(gateway.metric(READ_SESSIONS), sessions + 1.0);
        vanish.do_it(peer, session).await;
        until(|| gateway.metric(READ_SESSIONS) == sessions).await;
        bystander.still_works().await;
    }
}

#[tokio::test]
async fn a_client_that_vanishes_with_its_window_shut() {
    // Nothing can be written to it, so that it is gone shows only in what is read.
    for vanish in [Vanish::Resets, Vanish::HangsUp] {
        let (gateway, _peer, mut bystander) = gateway_with(&["orders"]).await;
        let (readers, writers) = (gateway.metric(READ_SESSIONS), gateway.metric(APPEND_SESSIONS));
        let mut deaf = peer_with_window(&gateway, 0).await;
        let mut writer = deaf.append_session("orders").await;
        writer.send(input(["x"]));
        let reader = deaf.read_session("orders", "seq_num=0").await;
        deaf.ping().await;
        writer.reset();
        until(|| gateway.metric(APPEND_SESSIONS) == writers).await;
        vanish.do_it(deaf, reader).await;
        until(|| gateway.metric(READ_SESSIONS) == readers).await;
        bystander.still_works().await;
    }
}

#[derive(Clone, Copy)]
enum Vanish {
    /// RST_STREAM.
    Resets,
    /// The TCP connection goes.
    HangsUp,
}

impl Vanish {
    /// Gives back what keeps the connection open, if it is to stay so.
    async fn do_it(self, peer: Peer, session: Session) -> Option<Peer> {
        match self {
            Vanish::Resets => {
                session.reset();
                Some(peer)
            }
            Vanish::HangsUp => {
                peer.hang_up().await;
                None
            }
        }
    }
}

/// A peer that takes not one byte of any response's body, unless it opens its windows.
async fn peer_with_window(gateway: &Gateway, window: u32) -> Peer {
    Peer::connect_with(gateway, settings().initial_window_size(window)).await
}

#[tokio::test]
async fn a_writer_that_never_reads_its_acks() {
    let (gateway, mut peer, mut bystander) = gateway_with(&["orders", "others"]).await;
    let mut deaf_peer = peer_with_window(&gateway, 0).await;
    let mut deaf = deaf_peer.append_session("orders").await;
    let most = 64 * 1024 * 1024;
    let sent = deaf.send_until_window_is_full(&mut deaf_peer, &input(["x".repeat(1000)]), most).await;
    println!("{sent} bytes");
    assert!(sent < 8 * 1024 * 1024, "{sent} bytes were taken from a client that reads nothing");
    bystander.still_works().await;

    // Other sessions, also on its own connection, go on.
    let mut session = peer.append_session("orders").await;
    session.send(input(["another writer"]));
    session.expect_ack().await;
    let other = deaf_peer.append_session("others").await;
    other.reset();
    deaf.reset();
    until(|| gateway.metric(APPEND_SESSIONS) == 2.0).await;
    bystander.still_works().await;
}

#[tokio::test]
async fn a_reader_that_stops_and_goes_on() {
    let (gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let mut slow_peer = peer_with_window(&gateway, 10_000).await;
    let mut slow = slow_peer.read_session("orders", "seq_num=0").await;
    assert_eq!(slow.expect_heartbeat().await, 0);

    // More than windows and buffers hold, and more than a stream keeps for followers that are a little late.
    let mut writer = peer.append_session("orders").await;
    let (batches, per_batch) = (100, 10);
    let body = |n: u64| format!("{n:010000}");
    for batch in 0..batches {
        let first = batch * per_batch;
        writer.send(input((first..first + per_batch).map(body)));
        assert_eq!(writer.expect_acked().await, (first, first + per_batch));
    }
    bystander.still_works().await;

    // It goes on, and has lost nothing.
    let records = slow.expect_records((batches * per_batch) as usize).await;
    for (n, record) in (0..).zip(records) {
        assert!(record == (n, body(n).into()), "record {n}");
    }
    writer.send(input(["live again"]));
    assert_eq!(slow.expect_records(1).await, [(1000, Bytes::from("live again"))]);
    bystander.still_works().await;
}

#[tokio::test]
async fn thousands_of_tiny_data_frames() {
    let (gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let bytes: Vec<u8> = (0..50).flat_map(|n| input([format!("{n:01000}")])).collect();
    assert!(bytes.len() > 50_000);

    let mut session = peer.append_session("orders").await;
    session.send_in_pieces(bytes.clone(), 1);
    session.end();
    for n in 0..50 {
        assert_eq!(session.expect_acked().await, (n, n + 1));
    }
    session.expect_end().await;
    bystander.still_works().await;

    // The same without a library between, in as few TCP segments as it takes.
    let mut raw = RawPeer::connect(&gateway).await;
    raw.send(&raw::headers(0, 1, &session_head(&records_path("orders")))).await;
    let data: Vec<u8> = bytes.iter().flat_map(|byte| raw::frame(raw::DATA, 0, 1, &[*byte])).collect();
    raw.send(&data).await;
    raw.send(&raw::frame(raw::DATA, raw::END_STREAM, 1, b"")).await;
    loop {
        let frame = raw.next_frame().await.expect("the connection is not closed");
        assert!(matches!(frame.kind, raw::HEADERS | raw::DATA), "{frame:?}");
        if frame.flags & raw::END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(peer.tail("orders").await, 100);
    bystander.still_works().await;
}

/// The header fields of an append session, for [`raw::headers`].
fn session_head(path: &str) -> [(&'static str, &[u8]); 6] {
    [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":authority", b"localhost"),
        (":path", path.as_bytes()),
        ("content-type", b"s2s/proto"),
        ("s2-basin", BASIN.as_bytes()),
    ]
}

#[tokio::test]
async fn an_early_refusal_arrives_whole() {
    // s2s.md §1.3: head, body in one DATA frame with the end in it, and only then a reset, without an error.
    let (gateway, _peer, mut bystander) = gateway_with(&[]).await;
    let mut raw = RawPeer::connect(&gateway).await;
    // The body is still being sent, and never ends.
    raw.send(&raw::headers(0, 1, &session_head(&records_path("missing")))).await;
    raw.send(&raw::frame(raw::DATA, 0, 1, &input(["x"]))).await;

    let head = raw.next_frame().await.unwrap();
    assert_eq!((head.kind, head.flags & raw::END_STREAM), (raw::HEADERS, 0));
    // `:status: 404` in HPACK's static table.
    assert_eq!(head.payload[0], 0x80 | 13);
    let body = raw.next_frame().await.unwrap();
    assert_eq!((body.kind, body.flags & raw::END_STREAM), (raw::DATA, raw::END_STREAM), "{body:?}");
    let json: serde_json::Value = serde_json::from_slice(&body.payload).unwrap();
    assert_eq!(json["code"], "stream_not_found");

    // More of the body is taken meanwhile; what comes in the end is a reset without an error.
    raw.send(&raw::frame(raw::DATA, 0, 1, &input(["y"]))).await;
    let reset = raw.next_frame().await.unwrap();
    assert_eq!((reset.kind, reset.stream), (raw::RST_STREAM, 1), "{reset:?}");
    assert_eq!(reset.payload, [0, 0, 0, 0], "NO_ERROR");
    bystander.still_works().await;
}

#[tokio::test]
async fn a_refused_client_that_finishes_its_body_is_not_reset() {
    let (gateway, _peer, mut bystander) = gateway_with(&[]).await;
    let mut raw = RawPeer::connect(&gateway).await;
    raw.send(&raw::headers(0, 1, &session_head(&records_path("missing")))).await;
    assert_eq!(raw.next_frame().await.unwrap().kind, raw::HEADERS);
    assert_eq!(raw.next_frame().await.unwrap().flags & raw::END_STREAM, raw::END_STREAM);
    raw.send(&raw::frame(raw::DATA, raw::END_STREAM, 1, &input(["x"]))).await;
    // The next thing on the connection is the answer to the next request.
    raw.send(&raw::headers(raw::END_STREAM, 3, &session_head(&records_path("missing")))).await;
    let next = raw.next_frame().await.unwrap();
    assert_eq!((next.kind, next.stream), (raw::HEADERS, 3), "{next:?}");
    bystander.still_works().await;
}

#[tokio::test]
async fn a_session_that_failed_is_ended_before_it_is_reset() {
    // s2s.md §6.4: the terminal frame, the end, and then a reset of the client's side, without an error.
    let (gateway, _peer, mut bystander) = gateway_with(&["orders"]).await;
    let mut raw = RawPeer::connect(&gateway).await;
    raw.send(&raw::headers(0, 1, &session_head(&records_path("orders")))).await;
    raw.send(&raw::frame(raw::DATA, 0, 1, &[0, 0, 0])).await;
    assert_eq!(raw.next_frame().await.unwrap().kind, raw::HEADERS);
    let terminal = raw.next_frame().await.unwrap();
    assert_eq!((terminal.kind, &terminal.payload[3..6]), (raw::DATA, &b"\x80\x01\x90"[..]), "{terminal:?}");
    let mut last = terminal;
    while last.flags & raw::END_STREAM == 0 {
        last = raw.next_frame().await.unwrap();
        assert_eq!(last.kind, raw::DATA, "{last:?}");
    }
    let reset = raw.next_frame().await.unwrap();
    assert_eq!((reset.kind, &reset.payload[..]), (raw::RST_STREAM, &[0, 0, 0, 0][..]), "{reset:?}");
    bystander.still_works().await;
}

#[tokio::test]
async fn a_failed_client_that_finishes_its_body_is_not_reset() {
    let (gateway, _peer, mut bystander) = gateway_with(&["orders"]).await;
    let mut raw = RawPeer::connect(&gateway).await;
    let path = records_path("orders");
    let head = session_head(&path);
    raw.send(&raw::headers(0, 1, &head)).await;
    raw.send(&raw::frame(raw::DATA, 0, 1, &[0, 0, 0])).await;
    while raw.next_frame().await.unwrap().flags & raw::END_STREAM == 0 {}
    // What it has sent in the meantime, and the end of it.
    raw.send(&raw::frame(raw::DATA, 0, 1, &input(["x"]))).await;
    raw.send(&raw::frame(raw::DATA, raw::END_STREAM, 1, b"")).await;
    raw.send(&raw::headers(raw::END_STREAM, 3, &head)).await;
    let next = raw.next_frame().await.unwrap();
    assert_eq!((next.kind, next.stream), (raw::HEADERS, 3), "{next:?}");
    bystander.still_works().await;
}

#[tokio::test]
async fn connections_that_do_not_speak_http() {
    let (gateway, _peer, mut bystander) = gateway_with(&[]).await;
    for rubbish in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish, rubbish",
    ] {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, rubbish).await.unwrap();
        let mut answer = Vec::new();
        // Closed, with or without a word; a reset is as good.
        let _ = within(socket.read_to_end(&mut answer)).await;
    }
    bystander.still_works().await;
}

#[tokio::test]
async fn http2_that_breaks_its_rules() {
    let (gateway, _peer, mut bystander) = gateway_with(&["orders"]).await;
    for violation in [
        raw::frame(raw::DATA, 0, 1, b"for a stream that was never opened"),
        raw::frame(raw::SETTINGS, 0, 0, b"five!"),
        raw::frame(raw::HEADERS, raw::END_HEADERS, 1, &[0xff; 20]),
        raw::frame(raw::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 0]),
    ] {
        let mut raw = RawPeer::connect(&gateway).await;
        raw.send(&violation).await;
        let goaway = raw.next_frame().await.unwrap();
        assert_eq!(goaway.kind, raw::GOAWAY, "{goaway:?}");
        assert_eq!(raw.next_frame().await, None);
    }
    bystander.still_works().await;
}

#[tokio::test]
async fn the_failure_of_one_session_does_not_touch_another_on_the_same_stream() {
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let mut good = peer.append_session("orders").await;
    let mut bad = peer.append_session("orders").await;
    bad.send(input_if(["x"], Some(7), None));
    let (status, body) = bad.expect_terminal().await;
    assert_eq!((status, body), (412, serde_json::json!({"seq_num_mismatch": 0})));
    good.send(input(["y"]));
    assert_eq!(good.expect_acked().await, (0, 1));
    bystander.still_works().await;
}

#[tokio::test]
async fn a_store_that_is_full_says_so_and_goes_on() {
    // Nothing is lost, and nothing half written.
    let setup = Setup { memory_limit: 4 * 1024 * 1024, ..Setup::default() };
    let gateway = setup.start().await;
    let mut bystander = Bystander::open(&gateway).await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(&["orders"]).await;
    let mut session = peer.append_session("orders").await;
    let mut acked = 0;
    let (status, body) = loop {
        session.send(input([vec![b'x'; 500_000]]));
        match session.next_frame().await {
            Some(s2s_gateway::wire::Frame::Terminal(terminal)) => break (terminal.status, terminal.body),
            Some(_) => acked += 1,
            None => panic!("the end"),
        }
    };
    assert_eq!((status, acked), (429, 8), "{body:?}");
    session.expect_end().await;
    assert_eq!(peer.tail("orders").await, acked);
    let body = format!(r#"{{"records":[{{"body":"{}"}}]}}"#, "x".repeat(500_000));
    let reply = peer.json("POST", &records_path("orders"), body).await;
    reply.assert_error(429, "rate_limited");
    assert!(reply.header("retry-after-ms").is_some());
    bystander.still_works().await;
}

#[tokio::test]
async fn a_unary_body_that_never_comes() {
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let request = basin_request("POST", &records_path("orders")).header("content-type", "application/json");
    let opening = peer.open(request.body(()).unwrap(), false).await;
    peer.ping().await;
    // From here on time passes when nobody has anything to do.
    tokio::time::pause();
    let response = opening.response.await.unwrap();
    tokio::time::resume();
    assert_eq!(response.status(), 408);
    bystander.still_works().await;
}

#[tokio::test]
async fn a_session_reset_by_the_server_tells_no_error() {
    let (_gateway, mut peer, mut bystander) = gateway_with(&["orders"]).await;
    let mut session = peer.append_session("orders").await;
    session.send(frame(b""));
    session.expect_failure(422, "invalid").await;
    assert_eq!(session.expect_reset().await, Reason::NO_ERROR);
    bystander.still_works().await;
}
