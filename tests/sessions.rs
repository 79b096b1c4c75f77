//! Append and read sessions by the byte, as `s2s.md` has them: what is promised to clients on the good days.

mod support;

use std::{
    pin::pin,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::Request;
use s2s_gateway::{
    server::BasinHost,
    store::StoreError,
    types::Compression,
    wire::{Advice, COMPRESSION_THRESHOLD, Frame, ReadBatch, message_frame},
};
use serde_json::json;

use self::support::{
    Gateway, Setup,
    late_store::LateStore,
    peer::{
        BASIN, Peer, any_request, basin_request, frame, input, input_if, message, record, records_path,
        session_request, stream_path, until, with_headers, within,
    },
};

async fn gateway_with(streams: &[&str]) -> (Gateway, Peer) {
    let gateway = Gateway::start().await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(streams).await;
    (gateway, peer)
}

/// Appends one record for each body, each in an input of its own.
async fn append(peer: &mut Peer, stream: &str, bodies: &[&str]) {
    let mut session = peer.append_session(stream).await;
    for body in bodies {
        session.send(input([body]));
    }
    session.end();
    for _ in bodies {
        session.expect_ack().await;
    }
    session.expect_end().await;
}

fn numbers(batch: &ReadBatch) -> Vec<u64> {
    batch.records.iter().map(|record| record.seq_num.get()).collect()
}

mod appending {
    use super::*;

    #[tokio::test]
    async fn the_response_comes_before_any_input() {
        // s2s.md §1.2: the Rust client sends nothing before it.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let opening = peer.open(session_request("POST", &records_path("orders")), false).await;
        let mut session = opening.answered().await;
        assert_eq!(session.head.status, 200);
        session.send(input(["x"]));
        assert_eq!(session.expect_acked().await, (0, 1));
    }

    #[tokio::test]
    async fn the_head_of_a_session_is_exact() {
        // s2s.md §1.1
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let encodings = &[("accept-encoding", "gzip, zstd"), ("accept", "text/event-stream")];
        let append = peer.append_session_with("orders", encodings).await;
        let read = peer.read_session_with("orders", "", encodings).await;
        for head in [&append.head, &read.head] {
            let mut headers: Vec<_> = head.headers.iter().filter(|(name, _)| *name != "date").collect();
            headers.sort_by_key(|(name, _)| name.as_str());
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            let expected = [
                ("cache-control", "no-cache, no-transform"),
                ("content-type", "s2s/proto"),
                ("x-accel-buffering", "no"),
            ];
            assert_eq!(headers, expected);
        }
    }

    #[tokio::test]
    async fn every_path_leads_to_the_same_sessions() {
        // s2s.md §1.1
        let (_gateway, mut peer) = gateway_with(&["orders/eu"]).await;
        let stream = ("s2-stream", "orders%2Feu");
        for (n, (path, headers)) in (0..).zip([
            ("/v1/streams/orders%2Feu/records", &[][..]),
            ("/v1/streams/orders%2Feu/session", &[]),
            ("/v1/streams/orders%2Feu/session?mode=append", &[]),
            ("/session", &[stream]),
            ("/session?mode=append", &[stream]),
        ]) {
            let mut session =
                peer.open(with_headers(session_request("POST", path), headers), false).await.granted().await;
            session.send(input([path]));
            assert_eq!(session.expect_acked().await, (n, n + 1), "{path}");
            session.end();
            session.expect_end().await;
        }
        for (method, path, headers) in [
            ("GET", "/v1/streams/orders%2Feu/records?seq_num=3&count=1", &[][..]),
            ("POST", "/v1/streams/orders%2Feu/session?mode=read&seq_num=3&count=1", &[]),
            ("POST", "/session?mode=read&seq_num=3&count=1", &[stream]),
        ] {
            let mut session =
                peer.open(with_headers(session_request(method, path), headers), true).await.granted().await;
            assert_eq!(session.expect_records(1).await, [(3, Bytes::from("/session"))], "{path}");
            session.expect_end().await;
        }
        // The body of a read session means nothing.
        let request = session_request("POST", "/v1/streams/orders%2Feu/session?mode=read&seq_num=3&count=1");
        let mut opening = peer.open(request, false).await;
        opening.sending.send_data(Bytes::from_static(&[0, 0, 0]), true).unwrap();
        assert_eq!(opening.granted().await.expect_records(1).await.len(), 1);
    }

    #[tokio::test]
    async fn headers_of_other_forms_are_not_looked_at() {
        // s2s.md §1.1
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let headers = &[("s2-format", "utf8"), ("last-event-id", "abc"), ("accept", "text/event-stream")];
        let mut writer = peer.append_session_with("orders", headers).await;
        writer.send(input(["x"]));
        assert_eq!(writer.expect_acked().await, (0, 1));
        let mut reader = peer.read_session_with("orders", "seq_num=0&count=1", headers).await;
        assert_eq!(reader.expect_records(1).await, [(0, Bytes::from("x"))]);
        reader.expect_end().await;
    }

    #[tokio::test]
    async fn names_are_percent_encoded_utf8() {
        let names = ["orders/eu", "a b", "日本/😀", "100%", "a+b?c#d", "..."];
        let (_gateway, mut peer) = gateway_with(&names).await;
        for name in names {
            append(&mut peer, name, &[name]).await;
            let mut session = peer.read_session(name, "seq_num=0&count=1").await;
            assert_eq!(session.expect_records(1).await, [(0, Bytes::from(name))]);
        }
        let listed = peer.get("/v1/streams").await.json();
        assert_eq!(listed["streams"].as_array().unwrap().len(), names.len());
    }

    #[tokio::test]
    async fn the_host_may_name_the_basin() {
        // http.md §3
        let mut setup = Setup::default();
        setup.server.basin_host = Some(BasinHost::new("b.example.org"));
        let gateway = setup.start().await;
        let mut peer = Peer::connect(&gateway).await;
        peer.provision(&["orders"]).await;
        let at = |host: &str, basin: Option<&str>| {
            let request = Request::post(format!("http://{host}/v1/streams/orders/records"));
            let request = request.header("content-type", "s2s/proto");
            basin.into_iter().fold(request, |request, basin| request.header("s2-basin", basin)).body(()).unwrap()
        };
        let named = format!("{BASIN}.b.example.org:8080");
        for (host, basin) in [(&named[..], None), (&named, Some(BASIN)), ("localhost", Some(BASIN))] {
            let mut session = peer.open(at(host, basin), false).await.granted().await;
            session.send(input(["x"]));
            session.expect_ack().await;
        }
        for (host, basin) in [(&named[..], Some("another-basin")), ("b.example.org", None), ("localhost", None)] {
            let refused = peer.open(at(host, basin), false).await.answered().await.reply().await;
            refused.assert_error(400, "bad_header");
        }
    }

    #[tokio::test]
    async fn frames_may_be_cut_anywhere_and_come_together() {
        // s2s.md §10, 2
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let inputs = [
            input(["a"]),
            input(["b", "c"]),
            message_frame(Compression::Zstd, Advice::None, &message(["d".repeat(2000)])).unwrap(),
            message_frame(Compression::Gzip, Advice::None, &message(["e".repeat(2000)])).unwrap(),
        ];
        let all: BytesMut = inputs.iter().map(|frame| &frame[..]).collect::<Vec<_>>().concat().as_slice().into();
        let all = all.freeze();
        let mut session = peer.append_session("orders").await;
        for (round, size) in (0..).zip([1, 2, 3, 4, 5, 7, all.len()]) {
            session.send_in_pieces(all.clone(), size);
            let first = 5 * round;
            for (start, end) in [(0, 1), (1, 3), (3, 4), (4, 5)] {
                assert_eq!(session.expect_acked().await, (first + start, first + end), "pieces of {size}");
            }
        }
    }

    #[tokio::test]
    async fn worked_frames_are_accepted() {
        // s2s.md §5.1, byte by byte.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut session = peer.append_session("orders").await;
        let hex = |text: &str| -> Bytes {
            text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>().into()
        };
        for frame in [
            "00 00 0a 00 0a 07 1a 05 68 65 6c 6c 6f",
            "00 00 19 00 0a 16 08 98 88 cc b9 f0 31 12 06 0a 01 6b 12 01 76 1a 05 68 65 6c 6c 6f",
            "00 00 08 00 0a 03 1a 01 78 1a 00",
            "00 00 03 00 0a 00",
            "00 00 1a 00 0a 17 12 07 12 05 66 65 6e 63 65 1a 0c 70 72 6f 64 75 63 65 72 2d 31 32 33",
            "00 00 0c 00 0a 09 12 07 12 05 66 65 6e 63 65",
            "00 00 15 00 0a 12 12 06 12 04 74 72 69 6d 1a 08 00 00 00 00 00 00 03 e8",
            "00 00 2a 40 1f 8b 08 00 00 00 00 00 00 03 e3 ba cc 2f 75 81 3f 71 14 8c 82 51 30 0a 46 c1 28 18 05 43 1e \
             00 00 b0 83 60 81 d6 07 00 00",
            "00 00 18 20 28 b5 2f fd 00 58 75 00 00 38 0a d3 0f 1a d0 0f 61 01 00 cc ff c0 08",
        ] {
            session.send(hex(frame));
            session.expect_ack().await;
        }
        session.send(hex("00 00 01 00"));
        session.expect_failure(422, "invalid").await;
        assert_eq!(peer.tail("orders").await, 9);
    }

    #[tokio::test]
    async fn inputs_are_acknowledged_in_their_order() {
        // s2s.md §6.2
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut session = peer.append_session("orders").await;
        let sizes: Vec<u64> = (0..300).map(|n| 1 + n * 7 % 13).collect();
        for size in &sizes {
            session.send(input(vec!["x"; *size as usize]));
        }
        let (mut next, mut tail) = (0, 0);
        for size in sizes {
            let ack = session.expect_ack().await;
            assert_eq!((ack.start.seq_num.get(), ack.end.seq_num.get()), (next, next + size));
            assert!(ack.tail.seq_num >= ack.end.seq_num && ack.tail.seq_num.get() >= tail, "{ack:?}");
            assert!(ack.start.timestamp <= ack.end.timestamp, "{ack:?}");
            (next, tail) = (next + size, ack.tail.seq_num.get());
        }
    }

    #[tokio::test]
    async fn conditions_may_be_pipelined() {
        // s2s.md §6.2: judged after all inputs before, durable or not.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut session = peer.append_session("orders").await;
        for n in 0..50 {
            session.send(input_if(vec!["x"; 10], Some(n * 10), Some("")));
        }
        for n in 0..50 {
            assert_eq!(session.expect_acked().await, (n * 10, n * 10 + 10));
        }
    }

    #[tokio::test]
    async fn batches_of_two_writers_do_not_mix() {
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut writers = [peer.append_session("orders").await, peer.append_session("orders").await];
        for _ in 0..50 {
            for (name, writer) in ["a", "b"].iter().zip(&mut writers) {
                writer.send(input(vec![name; 10]));
            }
        }
        for writer in &mut writers {
            let mut before = 0;
            for _ in 0..50 {
                let (start, end) = writer.expect_acked().await;
                assert!(end - start == 10 && start >= before, "{start}..{end} after {before}");
                before = end;
            }
        }
        let mut reader = peer.read_session("orders", "seq_num=0").await;
        let records = reader.expect_records(1000).await;
        for batch in records.chunks(10) {
            assert!(batch.iter().all(|(_, body)| *body == batch[0].1), "{batch:?}");
        }
    }

    #[tokio::test]
    async fn the_first_failure_ends_the_session() {
        // s2s.md §6.4; §10, 6
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut session = peer.append_session("orders").await;
        session.send(input(["1", "1"]));
        session.send(input_if(["2"], Some(0), None));
        session.send(input(["3"]));
        assert_eq!(session.expect_acked().await, (0, 2));
        assert_eq!(session.expect_terminal().await, (412, json!({"seq_num_mismatch": 2})));
        assert_eq!(peer.tail("orders").await, 2, "the third is not applied");
        append(&mut peer, "orders", &["another session's"]).await;
    }

    #[tokio::test]
    async fn nothing_is_told_before_what_came_before_it_is_durable() {
        // s2s.md §6.4, §6.5; data-plane.md §3.2
        let whole = input(["whole"]);
        for (what, sent, expected) in [
            ("a frame that is none", Bytes::from_static(&[0, 0, 0]), Some(400)),
            ("no records", input([""; 0]), Some(422)),
            ("another number", input_if(["x"], Some(0), None), Some(412)),
            ("another token", input_if(["x"], None, Some("w1")), Some(412)),
            ("half a frame, and the end", whole.slice(..5), Some(400)),
            ("the end", Bytes::new(), None),
        ] {
            println!("{what}");
            let store = LateStore::new();
            let gateway = Setup::default().start_over(store.clone()).await;
            let mut peer = Peer::connect(&gateway).await;
            peer.provision(&["orders"]).await;
            let mut session = peer.append_session("orders").await;
            session.send(whole.clone());
            session.send(sent);
            if what.ends_with("the end") {
                session.end();
            }
            until(|| store.held() == 1).await;
            let unary = basin_request("POST", &records_path("orders")).header("content-type", "application/json");
            let mut unary = peer.open(unary.body(()).unwrap(), false).await;
            unary.sending.send_data(r#"{"records":[{}],"match_seq_num":0}"#.into(), true).unwrap();
            for _ in 0..5 {
                peer.ping().await;
            }
            assert!(is_silent(session.next_frame()) && is_silent(&mut unary.response));
            store.release();
            assert_eq!(session.expect_acked().await, (0, 1));
            match expected {
                Some(status) => assert_eq!(session.expect_terminal().await.0, status),
                None => session.expect_end().await,
            }
            let reply = unary.answered().await.reply().await;
            assert_eq!((reply.status(), reply.json()), (412, json!({"seq_num_mismatch": 1})));
        }
    }

    /// Whether nothing has come of `what` so far.
    fn is_silent(what: impl Future) -> bool {
        pin!(what).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn a_fence_is_in_force_for_the_next_input() {
        // s2s.md §6.2; §10, 7
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut session = peer.append_session("orders").await;
        session.send(record(&[(b"", b"fence")], b"writer-2"));
        session.send(input(["without a token, it passes"]));
        session.send(input_if(["with it"], None, Some("writer-2")));
        session.send(input_if(["with the one before"], Some(77), Some("")));
        session.send(input(["never"]));
        for n in 0..3 {
            assert_eq!(session.expect_acked().await, (n, n + 1));
        }
        // Of two conditions that fail, the fence is told.
        assert_eq!(session.expect_terminal().await, (412, json!({"fencing_token_mismatch": "writer-2"})));
        assert_eq!(peer.tail("orders").await, 3);

        let mut cleared = peer.append_session("orders").await;
        cleared.send(record(&[(b"", b"fence")], b""));
        cleared.send(input_if(["x"], None, Some("writer-2")));
        assert_eq!(cleared.expect_acked().await, (3, 4));
        assert_eq!(cleared.expect_terminal().await, (412, json!({"fencing_token_mismatch": ""})));
    }

    #[tokio::test]
    async fn half_closing_with_a_hundred_in_flight() {
        // s2s.md §6.5; §10, 8
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut session = peer.append_session("orders").await;
        for n in 0..100 {
            session.send(input([n.to_string()]));
        }
        session.end();
        for n in 0..100 {
            assert_eq!(session.expect_acked().await, (n, n + 1));
        }
        session.expect_end().await;
    }

    #[tokio::test]
    async fn a_session_without_input_ends_without_output() {
        // s2s.md §6.5
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut session = peer.append_session("orders").await;
        session.end();
        session.expect_end().await;
        // END_STREAM on the head of the request.
        let mut session = peer.open(session_request("POST", &records_path("orders")), true).await.granted().await;
        session.expect_end().await;
    }

    #[tokio::test]
    async fn trailers_end_a_session_as_well() {
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut opening = peer.open(session_request("POST", &records_path("orders")), false).await;
        opening.sending.send_data(input(["x"]), false).unwrap();
        opening
            .sending
            .send_trailers([("x-sum".parse().unwrap(), "1".parse().unwrap())].into_iter().collect())
            .unwrap();
        let mut session = opening.granted().await;
        assert_eq!(session.expect_acked().await, (0, 1));
        session.expect_end().await;
    }

    #[tokio::test]
    async fn many_sessions_share_a_connection() {
        let (gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut sessions = Vec::new();
        for _ in 0..200 {
            sessions.push(peer.append_session("orders").await);
        }
        for (n, session) in (0..).zip(&mut sessions) {
            session.send(input(["x"]));
            assert_eq!(session.expect_acked().await, (n, n + 1));
        }
        assert_eq!(gateway.metric("s2s_connections_open"), 1.0);
        assert_eq!(gateway.metric("s2s_sessions_open{kind=\"append\"}"), 200.0);
    }
}

mod reading {
    use super::*;

    #[tokio::test]
    async fn catch_up_then_follow() {
        // s2s.md §7.1
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        append(&mut peer, "orders", &["a", "b", "c"]).await;
        let mut reader = peer.read_session("orders", "seq_num=1").await;
        let caught_up = reader.expect_batch().await;
        assert_eq!(numbers(&caught_up), [1, 2]);
        assert_eq!(caught_up.tail.unwrap().seq_num.get(), 3, "clients tell from it that they caught up");
        assert_eq!(reader.expect_batch().await, ReadBatch { records: Vec::new(), tail: caught_up.tail });

        let mut writer = peer.append_session("orders").await;
        for n in 3..20 {
            writer.send(input(["x", "y"]));
            let ack = writer.expect_ack().await;
            let batch = reader.expect_batch().await;
            assert_eq!(numbers(&batch), [2 * n - 3, 2 * n - 2]);
            assert_eq!(batch.tail, Some(ack.end), "the position after the batch");
            assert_eq!(batch.records[1].timestamp, ack.end.timestamp);
        }
    }

    #[tokio::test]
    async fn records_come_back_as_they_were() {
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut follower = peer.read_session("orders", "seq_num=0").await;
        follower.expect_heartbeat().await;
        let headers: &[(&[u8], &[u8])] = &[(b"k", b"v"), (b"k", b""), (b"\xff", b"\x00\xfe")];
        let mut writer = peer.append_session("orders").await;
        writer.send(record(headers, b"\x00\xff body"));
        writer.send(record(&[], b""));
        writer.send(record(&[(b"", b"fence")], b"token"));
        writer.expect_ack().await;
        let mut late = peer.read_session("orders", "seq_num=0").await;
        for reader in [&mut follower, &mut late] {
            let mut records = Vec::new();
            while records.len() < 3 {
                records.extend(reader.expect_batch().await.records);
            }
            let found: Vec<_> = records[0].headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            assert_eq!((found, &records[0].body[..]), (headers.to_vec(), &b"\x00\xff body"[..]));
            assert!(records[1].headers.is_empty() && records[1].body.is_empty());
            assert_eq!(records[2].headers, [(Bytes::new(), Bytes::from("fence"))]);
        }
    }

    #[tokio::test]
    async fn an_empty_stream_is_followed_from_its_beginning() {
        // s2s.md §7.2: of a stream that was never written, the tail is there although it encodes to nothing.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        for query in
            ["seq_num=0", "", "tail_offset=10", "seq_num=5&clamp=true", "timestamp=1&clamp=true", "timestamp=0"]
        {
            let mut reader = peer.read_session("orders", query).await;
            let (_, _, body) = reader.expect_body().await;
            assert_eq!(&body[..], [0x12, 0], "{query}");
        }
    }

    #[tokio::test]
    async fn bounded_sessions_end_when_the_bound_is_met() {
        // data-plane.md §7.4, s2s.md §7.5
        let (_gateway, mut peer) = gateway_with(&[]).await;
        let uncapped = r#"{"timestamping":{"uncapped":true}}"#;
        peer.json("PUT", &stream_path("orders"), uncapped).await;
        let body = r#"{"records":[{"timestamp":100,"body":"0"},{"timestamp":200,"body":"1"},
                       {"timestamp":300,"body":"2"},{"timestamp":300,"body":"3"},{"timestamp":400,"body":"4"}]}"#;
        assert_eq!(peer.json("POST", &records_path("orders"), body).await.status(), 200);
        for (query, expected) in [
            ("seq_num=0&count=2", &[0, 1][..]),
            ("seq_num=3&count=100", &[3, 4]),
            ("seq_num=0&bytes=27", &[0, 1, 2]),
            ("seq_num=0&bytes=26", &[0, 1]),
            ("seq_num=0&bytes=5", &[]),
            ("seq_num=0&until=300", &[0, 1]),
            ("seq_num=0&until=301", &[0, 1, 2, 3]),
            ("seq_num=0&until=1", &[]),
            ("timestamp=200&count=2", &[1, 2]),
            ("timestamp=300&until=1000", &[2, 3, 4]),
            ("timestamp=201&count=1", &[2]),
            ("tail_offset=2&count=9", &[3, 4]),
            ("tail_offset=99&count=1", &[0]),
            ("seq_num=0&count=0", &[]),
            ("seq_num=999&count=0", &[]),
            ("seq_num=999&bytes=0", &[]),
            ("seq_num=0&count=3&bytes=18&until=250", &[0, 1]),
        ] {
            let mut reader = peer.read_session("orders", query).await;
            let mut found = Vec::new();
            while let Some(Frame::Message { body, .. }) = reader.next_frame().await {
                let batch = s2s_gateway::wire::decode_read_batch(body).unwrap();
                assert!(!batch.records.is_empty(), "a heartbeat: {query}");
                found.extend(numbers(&batch));
            }
            assert_eq!(found, expected, "{query}");
        }
    }

    #[tokio::test]
    async fn a_bound_cuts_what_is_followed() {
        // data-plane.md §7.4: the prefix that is allowed, with the tail after the whole batch, then the end.
        let (_gateway, mut peer) = gateway_with(&["small", "large"]).await;
        for (stream, body, bytes) in [("small", 1, 30), ("large", 20_000, 9 + 2 * 20_008 + 10)] {
            append(&mut peer, stream, &["0"]).await;
            let mut readers = Vec::new();
            for coding in ["identity", "gzip", "zstd"] {
                for bound in ["count=3".to_owned(), format!("bytes={bytes}")] {
                    let query = format!("seq_num=0&wait=60&{bound}");
                    let mut reader = peer.read_session_with(stream, &query, &[("accept-encoding", coding)]).await;
                    assert_eq!(numbers(&reader.expect_batch().await), [0]);
                    assert_eq!(reader.expect_heartbeat().await, 1);
                    readers.push((reader, coding));
                }
            }
            let mut writer = peer.append_session(stream).await;
            writer.send(input(vec![vec![b'x'; body]; 4]));
            writer.expect_ack().await;
            for (mut reader, coding) in readers {
                let batch = reader.expect_batch().await;
                let tail = batch.tail.map(|tail| tail.seq_num.get());
                assert_eq!((numbers(&batch), tail), (vec![1, 2], Some(5)), "{stream}, {coding}");
                reader.expect_end().await;
            }
        }
    }

    #[tokio::test]
    async fn times_and_sizes_bound_what_is_followed() {
        // data-plane.md §7.4: by what is appended, not by the time of day, and also before its first record.
        let (_gateway, mut peer) = gateway_with(&[]).await;
        let uncapped = r#"{"timestamping":{"uncapped":true}}"#;
        peer.json("PUT", &stream_path("orders"), uncapped).await;
        let append = async |peer: &mut Peer, records: &str| {
            let reply = peer.json("POST", &records_path("orders"), format!(r#"{{"records":[{records}]}}"#)).await;
            assert_eq!(reply.status(), 200, "{reply:?}");
        };
        append(&mut peer, r#"{"timestamp":100,"body":"0"}"#).await;
        let mut readers = Vec::new();
        for (bound, expected) in [("until=300", &[1][..]), ("until=200", &[]), ("bytes=17", &[]), ("bytes=18", &[1])] {
            let mut reader = peer.read_session("orders", &format!("seq_num=0&wait=60&{bound}")).await;
            assert_eq!(numbers(&reader.expect_batch().await), [0]);
            assert_eq!(reader.expect_heartbeat().await, 1);
            readers.push((reader, bound, expected));
        }
        append(&mut peer, r#"{"timestamp":200,"body":"1"},{"timestamp":300,"body":"2"}"#).await;
        for (mut reader, bound, expected) in readers {
            println!("{bound}");
            if !expected.is_empty() {
                let batch = reader.expect_batch().await;
                assert_eq!((&numbers(&batch)[..], batch.tail.unwrap().seq_num.get()), (expected, 3));
            }
            reader.expect_end().await;
        }
    }

    #[tokio::test]
    async fn starts_out_of_range_are_refused_before_the_session() {
        // data-plane.md §7.3
        let (_gateway, mut peer) = gateway_with(&["orders", "empty"]).await;
        append(&mut peer, "orders", &["a", "b"]).await;
        let at_tail_of = [("orders", 2, "seq_num=2&count=5"), ("empty", 0, "seq_num=0&count=1")];
        let beyond = [
            ("orders", 2, "seq_num=3"),
            ("orders", 2, "seq_num=3&wait=5"),
            ("orders", 2, "timestamp=99999999999999"),
            ("orders", 2, "seq_num=9&clamp=true&count=5"),
            ("orders", 2, "tail_offset=0&count=5"),
            ("orders", 2, "count=5"),
            ("orders", 2, "until=5"),
            ("empty", 0, "seq_num=1"),
            ("empty", 0, "timestamp=1"),
        ];
        for (stream, tail, query) in at_tail_of.into_iter().chain(beyond) {
            let request = session_request("GET", &format!("{}?{query}", records_path(stream)));
            let reply = peer.open(request, true).await.answered().await.reply().await;
            println!("{query}");
            reply.assert_out_of_range(tail);
        }
        for query in ["seq_num=3&clamp=true", "timestamp=99999999999999&clamp=true", "seq_num=2&count=5&wait=60"] {
            assert_eq!(peer.read_session("orders", query).await.expect_heartbeat().await, 2, "{query}");
        }
    }

    #[tokio::test]
    async fn waiting_for_nothing_ends_without_a_frame() {
        // data-plane.md §7.3: an unbounded session with `wait=0` is in range at the tail.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        append(&mut peer, "orders", &["a"]).await;
        peer.read_session("orders", "seq_num=1&wait=0").await.expect_end().await;
        let mut reader = peer.read_session("orders", "seq_num=0&wait=0").await;
        assert_eq!(numbers(&reader.expect_batch().await), [0]);
        reader.expect_end().await;
    }

    #[tokio::test]
    async fn waiting_for_a_second() {
        // s2s.md §10, 10: one heartbeat, and the end when the wait is over.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let began = Instant::now();
        let mut reader = peer.read_session("orders", "seq_num=0&wait=1").await;
        assert_eq!(reader.expect_heartbeat().await, 0);
        reader.expect_end().await;
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn frames_are_compressed_when_it_was_asked_for_and_is_worth_it() {
        // s2s.md §2, §3.3; §10, 4
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut plain = peer.read_session("orders", "seq_num=0").await;
        let mut zstd =
            peer.read_session_with("orders", "seq_num=0", &[("accept-encoding", "gzip;q=1, zstd;q=0.1")]).await;
        let mut gzip = peer.read_session_with("orders", "seq_num=0", &[("accept-encoding", "br, gzip")]).await;
        let refused = &[("accept-encoding", "zstd;q=0"), ("accept-encoding", "*")];
        let mut none = peer.read_session_with("orders", "seq_num=0", refused).await;
        for reader in [&mut plain, &mut zstd, &mut gzip, &mut none] {
            reader.expect_heartbeat().await;
        }
        let mut writer = peer.append_session("orders").await;
        let mut lengths = Vec::new();
        // Around the threshold, and one that fills a batch.
        for len in (970..1020).chain([1_048_568]) {
            writer.send(input([vec![b'x'; len]]));
            writer.expect_ack().await;
            let (_, _, message) = plain.expect_body().await;
            lengths.push(message.len());
            for (reader, asked_for) in
                [(&mut zstd, Compression::Zstd), (&mut gzip, Compression::Gzip), (&mut none, Compression::None)]
            {
                let (compression, _, body) = reader.expect_body().await;
                let expected = if message.len() < COMPRESSION_THRESHOLD { Compression::None } else { asked_for };
                assert_eq!(compression, expected, "{} bytes", message.len());
                assert_eq!(s2s_gateway::wire::inflate(compression, body, 1 << 21).unwrap(), message);
            }
        }
        assert!(lengths.contains(&1023) && lengths.contains(&1024), "{lengths:?}");
        // The same for a reader that catches up.
        let mut late = peer.read_session_with("orders", "seq_num=0", &[("accept-encoding", "zstd")]).await;
        let (compression, ..) = late.expect_body().await;
        assert_eq!(compression, Compression::Zstd);
    }

    #[tokio::test]
    async fn acks_are_never_compressed() {
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut writer = peer.append_session_with("orders", &[("accept-encoding", "zstd")]).await;
        writer.send(input(["x"]));
        assert_eq!(writer.expect_body().await.0, Compression::None);
    }

    #[tokio::test]
    async fn a_long_catch_up_comes_in_batches_within_the_limits() {
        // s2s.md §7.1: at most 1000 records and 1 MiB metered each.
        let (_gateway, mut peer) = gateway_with(&["small", "large"]).await;
        let mut writer = peer.append_session("small").await;
        for _ in 0..50 {
            writer.send(input(vec!["x"; 90]));
            writer.expect_ack().await;
        }
        let mut writer = peer.append_session("large").await;
        for _ in 0..20 {
            writer.send(input(vec![vec![b'x'; 130_000]; 8]));
            writer.expect_ack().await;
        }
        for (stream, count) in [("small", 4500), ("large", 160)] {
            let mut reader = peer.read_session(stream, "seq_num=0").await;
            let mut next = 0;
            while next < count {
                let batch = reader.expect_batch().await;
                let metered: usize = batch.records.iter().map(|record| 8 + record.body.len()).sum();
                assert!(batch.records.len() <= 1000 && metered <= 1024 * 1024, "{metered}");
                for number in numbers(&batch) {
                    assert_eq!(number, next);
                    next += 1;
                }
                assert_eq!(batch.tail.unwrap().seq_num.get(), count);
            }
            assert_eq!(reader.expect_heartbeat().await, count);
        }
    }

    #[tokio::test]
    async fn a_reader_that_catches_up_is_told_when_it_is_at_the_tail() {
        // clients.md: Python waits for a `tail` that abuts a batch's last record, also while catching up.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut writer = peer.append_session("orders").await;
        for tail in [1000, 1001] {
            // A whole page, which readers share when it is compressed; then one more record behind it.
            writer.send(input(vec![vec![b'x'; 100]; if tail == 1000 { 1000 } else { 1 }]));
            writer.expect_ack().await;
            for coding in ["identity", "gzip", "zstd"] {
                let mut reader = peer
                    .read_session_with("orders", &format!("seq_num=0&count={tail}"), &[("accept-encoding", coding)])
                    .await;
                let mut next = 0;
                while next < tail {
                    let batch = reader.expect_batch().await;
                    next += batch.records.len() as u64;
                    let told = batch.tail.map(|told| told.seq_num.get());
                    match next == tail {
                        true => assert_eq!(told, Some(tail), "{coding}"),
                        false => assert!(told.is_none_or(|told| told == tail), "{coding}: {told:?}"),
                    }
                }
                reader.expect_end().await;
            }
        }
    }

    #[tokio::test]
    async fn trimmed_records_are_passed_over() {
        // data-plane.md §5
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        append(&mut peer, "orders", &["0", "1", "2", "3"]).await;
        let trim = |to: u64| record(&[(b"", b"trim")], &to.to_be_bytes());
        let mut writer = peer.append_session("orders").await;
        writer.send(trim(3));
        assert_eq!(writer.expect_acked().await, (4, 5));
        let mut reader = peer.read_session("orders", "seq_num=0").await;
        assert_eq!(numbers(&reader.expect_batch().await), [3, 4]);
        assert_eq!(reader.expect_heartbeat().await, 5);
        // Everything, the trim itself included; those who follow see it all the same.
        writer.send(trim(u64::MAX));
        assert_eq!(writer.expect_acked().await, (5, 6));
        assert_eq!(numbers(&reader.expect_batch().await), [5]);
        assert_eq!(peer.tail("orders").await, 6);
        assert_eq!(peer.read_session("orders", "seq_num=0").await.expect_heartbeat().await, 6);
        peer.read_session("orders", "seq_num=0&count=5").await.expect_end().await;
    }

    #[tokio::test]
    async fn the_end_of_a_stream_ends_its_sessions() {
        // s2s.md §7.5, §6.4
        let (_gateway, mut peer) = gateway_with(&["orders", "others"]).await;
        let mut follower = peer.read_session("orders", "").await;
        follower.expect_heartbeat().await;
        let mut writer = peer.append_session("orders").await;
        writer.send(input(["x"]));
        writer.expect_ack().await;
        assert_eq!(follower.expect_records(1).await.len(), 1);
        let mut other = peer.read_session("others", "").await;
        other.expect_heartbeat().await;

        assert_eq!(peer.json("DELETE", &stream_path("orders"), "").await.status(), 202);
        follower.expect_failure(409, "stream_deletion_pending").await;
        writer.send(input(["too late"]));
        writer.expect_failure(409, "stream_deletion_pending").await;
        append(&mut peer, "others", &["lives on"]).await;
        assert_eq!(other.expect_records(1).await.len(), 1);
    }

    #[tokio::test]
    async fn a_store_that_fails_ends_everything_on_its_streams() {
        // s2s.md §6.4, §7.5; errors.md §6
        let failed = || "the disk is gone".into();
        for (error, status, code) in
            [(StoreError::Unknown(failed()), 500, "storage"), (StoreError::Closed(failed()), 503, "unavailable")]
        {
            let store = LateStore::new();
            let gateway = Setup::default().start_over(store.clone()).await;
            let mut peer = Peer::connect(&gateway).await;
            peer.provision(&["orders"]).await;
            let mut writer = peer.append_session("orders").await;
            writer.send(input(["kept"]));
            until(|| store.held() == 1).await;
            store.release();
            assert_eq!(writer.expect_acked().await, (0, 1));
            let mut reader = peer.read_session("orders", "").await;
            assert_eq!(reader.expect_heartbeat().await, 1);
            let at_tail = records_path("orders");
            let long_poll = basin_request("GET", &format!("{at_tail}?wait=60")).body(()).unwrap();
            let long_poll = peer.open(long_poll, true).await;
            let events = basin_request("GET", &at_tail).header("accept", "text/event-stream").body(()).unwrap();
            let events = peer.open(events, true).await.granted().await;
            peer.ping().await;

            writer.send(input(["lost"]));
            until(|| store.held() == 1).await;
            store.fail(&error);
            writer.expect_failure(status, code).await;
            reader.expect_failure(status, code).await;
            long_poll.answered().await.reply().await.assert_error(status, code);
            let events = String::from_utf8(events.reply().await.body.to_vec()).unwrap();
            let last = events.split_terminator("\n\n").last().unwrap();
            assert!(last.starts_with(&format!("event: error\ndata: {{\"code\":\"{code}\",")), "{events}");
            // Whoever comes next finds what was durable.
            assert_eq!(peer.tail("orders").await, 1);
        }
    }

    #[tokio::test]
    async fn a_stream_made_anew_begins_at_zero() {
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut writer = peer.append_session("orders").await;
        writer.send(record(&[(b"", b"fence")], b"token"));
        writer.expect_ack().await;
        assert_eq!(peer.json("DELETE", &stream_path("orders"), "").await.status(), 202);
        // The name is free when the removal in the background is through.
        within(async {
            while peer.json("PUT", &stream_path("orders"), "").await.status() != 201 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut writer = peer.append_session("orders").await;
        writer.send(input_if(["x"], Some(0), Some("")));
        assert_eq!(writer.expect_acked().await, (0, 1));
    }

    /// What a follower has seen in the end.
    struct Follower(tokio::task::JoinHandle<Vec<(u64, Bytes)>>);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_followers_see_every_record_once() {
        let (gateway, mut peer) = gateway_with(&["orders"]).await;
        const INPUTS: usize = 300;
        const PER_INPUT: usize = 7;
        let follow = async |encoding: &str| {
            let mut peer = Peer::connect(&gateway).await;
            let mut session = peer.read_session_with("orders", "seq_num=0", &[("accept-encoding", encoding)]).await;
            let records = async move {
                let records = session.expect_records(INPUTS * PER_INPUT).await;
                drop(peer);
                records
            };
            Follower(tokio::spawn(records))
        };
        let mut followers = Vec::new();
        for encoding in ["identity", "zstd", "gzip", "identity", "zstd"] {
            followers.push(follow(encoding).await);
        }
        let mut writer = peer.append_session("orders").await;
        for n in 0..INPUTS {
            writer.send(input((0..PER_INPUT).map(|i| format!("{:0300}", n * PER_INPUT + i))));
            if n == INPUTS / 2 {
                followers.push(follow("zstd").await);
            }
        }
        for _ in 0..INPUTS {
            writer.expect_ack().await;
        }
        followers.push(follow("identity").await);
        for follower in followers {
            let records = within(follower.0).await.unwrap();
            for (n, record) in (0..).zip(records) {
                assert!(record == (n, format!("{n:0300}").into()), "{n}");
            }
        }
    }
}

mod making_streams {
    use super::*;

    async fn basin_that_makes(peer: &mut Peer, what: &str) {
        let config =
            format!(r#"{{"config":{{"{what}":true,"default_stream_config":{{"retention_policy":{{"age":60}}}}}}}}"#);
        let path = format!("/v1/basins/{BASIN}");
        assert_eq!(peer.json("PUT", &path, config).await.status(), 201);
    }

    #[tokio::test]
    async fn an_append_makes_its_stream_if_the_basin_says_so() {
        // data-plane.md §10
        let gateway = Gateway::start().await;
        let mut peer = Peer::connect(&gateway).await;
        basin_that_makes(&mut peer, "create_stream_on_append").await;
        let read = session_request("GET", &records_path("orders"));
        peer.open(read, true).await.answered().await.reply().await.assert_error(404, "stream_not_found");

        let config = r#"{"timestamping":{"mode":"arrival"}}"#;
        let mut writer = peer.append_session_with("orders", &[("s2-stream-config", config)]).await;
        writer.send(input(["x"]));
        assert_eq!(writer.expect_acked().await, (0, 1));
        let found = peer.get(&stream_path("orders")).await.json();
        assert_eq!(found["timestamping"]["mode"], "arrival", "what the request says");
        assert_eq!(found["retention_policy"]["age"], 60, "what the basin says");

        // Of a stream that exists nothing is changed.
        let config = r#"{"timestamping":{"mode":"client-require"}}"#;
        let mut writer = peer.append_session_with("orders", &[("s2-stream-config", config)]).await;
        writer.send(input(["y"]));
        writer.expect_ack().await;
        assert_eq!(peer.get(&stream_path("orders")).await.json(), found);
    }

    #[tokio::test]
    async fn a_read_makes_its_stream_if_the_basin_says_so() {
        let gateway = Gateway::start().await;
        let mut peer = Peer::connect(&gateway).await;
        basin_that_makes(&mut peer, "create_stream_on_read").await;
        let append = session_request("POST", &records_path("orders"));
        peer.open(append, false).await.answered().await.reply().await.assert_error(404, "stream_not_found");

        let config = &[("s2-stream-config", r#"{"retention_policy":{"age":99}}"#)];
        let mut reader = peer.read_session_with("orders", "seq_num=0", config).await;
        assert_eq!(reader.expect_heartbeat().await, 0);
        assert_eq!(peer.get(&stream_path("orders")).await.json()["retention_policy"]["age"], 99);
        // Refused for its start, and made nevertheless.
        peer.get(&format!("{}?seq_num=0", records_path("by-unary"))).await.assert_out_of_range(0);
        assert_eq!(peer.tail("by-check-tail").await, 0);
        for stream in ["by-unary", "by-check-tail"] {
            assert_eq!(peer.get(&stream_path(stream)).await.status(), 200);
        }
    }

    #[tokio::test]
    async fn a_request_of_any_form_says_how_its_stream_is_made() {
        // data-plane.md §10
        let gateway = Gateway::start().await;
        let mut peer = Peer::connect(&gateway).await;
        let both = r#"{"config":{"create_stream_on_append":true,"create_stream_on_read":true}}"#;
        assert_eq!(peer.json("PUT", &format!("/v1/basins/{BASIN}"), both).await.status(), 201);
        let config = &[("s2-stream-config", r#"{"retention_policy":{"age":99}}"#)];
        for (stream, method, header, status) in [
            ("unary append", "POST", ("content-type", "application/json"), 200),
            ("unary read", "GET", ("accept", "application/protobuf"), 416),
            ("events", "GET", ("accept", "text/event-stream"), 200),
            ("append session", "POST", ("content-type", "s2s/proto"), 200),
            ("read session", "GET", ("content-type", "s2s/proto"), 200),
        ] {
            let request = basin_request(method, &records_path(stream)).header(header.0, header.1).body(()).unwrap();
            let mut opening = peer.open(with_headers(request, config), method == "GET").await;
            if method == "POST" {
                let body = if header.1 == "s2s/proto" { "" } else { r#"{"records":[{}]}"# };
                opening.sending.send_data(body.into(), true).unwrap();
            }
            assert_eq!(opening.answered().await.head.status, status, "{stream}");
            let made = peer.get(&stream_path(stream)).await.json();
            assert_eq!(made["retention_policy"]["age"], 99, "{stream}");
        }
    }

    #[tokio::test]
    async fn a_condition_that_fails_leaves_the_stream_it_made() {
        let gateway = Gateway::start().await;
        let mut peer = Peer::connect(&gateway).await;
        basin_that_makes(&mut peer, "create_stream_on_append").await;
        let mut writer = peer.append_session("orders").await;
        writer.send(input_if(["x"], Some(5), None));
        assert_eq!(writer.expect_terminal().await, (412, json!({"seq_num_mismatch": 0})));
        assert_eq!(peer.get(&stream_path("orders")).await.status(), 200);
    }

    #[tokio::test]
    async fn a_request_that_breaks_a_rule_makes_no_stream() {
        // data-plane.md §10, §7.1
        let gateway = Gateway::start().await;
        let mut peer = Peer::connect(&gateway).await;
        let both = r#"{"config":{"create_stream_on_append":true,"create_stream_on_read":true}}"#;
        assert_eq!(peer.json("PUT", &format!("/v1/basins/{BASIN}"), both).await.status(), 201);
        let records = records_path("orders");
        for (body, status, code) in [
            ("{", 400, "bad_json"),
            (r#"{"records":[]}"#, 422, "invalid"),
            (r#"{"records":[{"headers":[["","compact"]]}]}"#, 422, "invalid"),
        ] {
            peer.json("POST", &records, body).await.assert_error(status, code);
        }
        for (query, status, code) in [
            ("count=x", 400, "bad_query"),
            ("timestamp=5&until=5", 422, "invalid"),
            ("seq_num=0&timestamp=0", 422, "invalid"),
        ] {
            peer.get(&format!("{records}?{query}")).await.assert_error(status, code);
            let session = session_request("GET", &format!("{records}?{query}"));
            peer.open(session, true).await.answered().await.reply().await.assert_error(status, code);
        }
        peer.get(&stream_path("orders")).await.assert_error(404, "stream_not_found");
    }

    #[tokio::test]
    async fn first_appends_at_the_same_time_use_the_same_stream() {
        let gateway = Gateway::start().await;
        let mut peer = Peer::connect(&gateway).await;
        basin_that_makes(&mut peer, "create_stream_on_append").await;
        let mut openings = Vec::new();
        for _ in 0..20 {
            openings.push(peer.open(session_request("POST", &records_path("orders")), false).await);
        }
        for opening in openings {
            let mut session = opening.granted().await;
            session.send(input(["x"]));
            session.expect_ack().await;
        }
        assert_eq!(peer.tail("orders").await, 20);
    }
}

mod watching {
    use super::*;

    #[tokio::test]
    async fn the_gateway_says_that_it_is_well() {
        // http.md §8: no basin, no session.
        let (_gateway, mut peer) = gateway_with(&[]).await;
        for path in ["/health", "/ping"] {
            let reply = peer.call(any_request("GET", path).body(Bytes::new()).unwrap()).await;
            assert_eq!((reply.status(), &reply.body[..]), (200, &b"OK"[..]));
            assert_eq!(reply.header("content-type"), Some("text/plain"));
        }
    }

    #[tokio::test]
    async fn the_gateway_says_that_it_takes_no_writes() {
        // http.md §8; errors.md §5.3
        let (gateway, mut peer) = gateway_with(&["orders"]).await;
        gateway.streams.store().close().await.unwrap();
        for path in ["/health", "/ping"] {
            let reply = peer.call(any_request("GET", path).body(Bytes::new()).unwrap()).await;
            assert_eq!((reply.status(), reply.header("content-type")), (503, Some("text/plain")), "{path}");
            assert!(!reply.body.is_empty(), "it says why");
        }
        let refused = peer.json("POST", &records_path("orders"), r#"{"records":[{}]}"#).await;
        refused.assert_error(503, "unavailable");
        assert!(refused.header("retry-after-ms").is_some());
    }

    #[tokio::test]
    async fn what_sessions_do_is_counted() {
        let (gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut reader = peer.read_session("orders", "").await;
        reader.expect_heartbeat().await;
        let mut writer = peer.append_session("orders").await;
        let sent = input(["x"]);
        for _ in 0..3 {
            writer.send(sent.clone());
            writer.expect_ack().await;
            reader.expect_batch().await;
        }
        let mut bad = peer.append_session("orders").await;
        bad.send(frame(b""));
        bad.expect_failure(422, "invalid").await;
        peer.get("/nowhere").await.assert_error(404, "not_found");

        let reply = peer.call(any_request("GET", "/metrics").body(Bytes::new()).unwrap()).await;
        assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4"));
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        for series in [
            "s2s_connections_open 1",
            "s2s_streams_open 1",
            "s2s_sessions_open{kind=\"append\"} 1",
            "s2s_sessions_open{kind=\"read\"} 1",
            "s2s_frames_total{direction=\"in\"} 4",
            // A heartbeat, three acks, three batches, a terminal frame.
            "s2s_frames_total{direction=\"out\"} 8",
            &format!("s2s_frame_bytes_total{{direction=\"in\"}} {}", 3 * sent.len() + 4),
            "s2s_acks_total 3",
            "s2s_append_ack_latency_seconds_count 3",
            "s2s_errors_total{code=\"invalid\"} 1",
            "s2s_errors_total{code=\"not_found\"} 1",
            "s2s_requests_total{operation=\"append\"} 2",
            "s2s_requests_total{operation=\"read\"} 1",
            "s2s_requests_total{operation=\"metrics\"} 1",
        ] {
            assert!(text.lines().any(|line| line == series), "{series} is missing in\n{text}");
        }
        assert!(gateway.metric("s2s_frame_bytes_total{direction=\"out\"}") > 0.0);
        // Unary appends count as requests.
        let unary = basin_request("POST", &records_path("orders")).header("content-type", "application/protobuf");
        assert_eq!(peer.call(unary.body(message(["x"])).unwrap()).await.status(), 200);
        assert_eq!(gateway.metric("s2s_requests_total{operation=\"append\"}"), 3.0);
    }
}
