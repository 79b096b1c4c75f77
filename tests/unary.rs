//! Calls that are answered once: appends, reads and tails in every form, and basins and streams.

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use s2s_gateway::{
    clock::ManualClock,
    types::{Compression, Timestamp},
    wire::{Frame, RecordsWriter, decode_append_ack, decode_read_batch, deflate, inflate},
};
use serde_json::{Value, json};

use self::support::{
    Gateway, Setup,
    late_store::LateStore,
    peer::{
        BASIN, Peer, Reply, any_request, basin_request, frame, input, message, records_path, settings, stream_path,
        until, within,
    },
    still_time::StillTime,
};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/protobuf";

async fn gateway_with(streams: &[&str]) -> (Gateway, Peer) {
    let gateway = Gateway::start().await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(streams).await;
    (gateway, peer)
}

/// A request with these headers beside the basin's.
async fn call(peer: &mut Peer, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    let mut request = basin_request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    peer.call(request.body(body.into()).unwrap()).await
}

/// Appends in JSON; gives the ack.
async fn append(peer: &mut Peer, stream: &str, body: Value) -> Value {
    let reply = peer.json("POST", &records_path(stream), body.to_string()).await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    reply.json()
}

async fn read(peer: &mut Peer, stream: &str, query: &str) -> Reply {
    peer.get(&format!("{}?{query}", records_path(stream))).await
}

/// The numbers of the records that a read gives.
async fn read_numbers(peer: &mut Peer, stream: &str, query: &str) -> Vec<u64> {
    let reply = read(peer, stream, query).await;
    assert_eq!(reply.status(), 200, "{query}: {reply:?}");
    numbers(&reply.json())
}

fn numbers(batch: &Value) -> Vec<u64> {
    batch["records"].as_array().unwrap().iter().map(|record| record["seq_num"].as_u64().unwrap()).collect()
}

/// A stream of ten records, one every hundred milliseconds from 1000 on.
async fn ten_records(peer: &mut Peer, stream: &str) {
    let records: Vec<_> = (0..10).map(|n| json!({"timestamp": 1000 + 100 * n, "body": n.to_string()})).collect();
    append(peer, stream, json!({"records": records})).await;
}

mod records {
    use super::*;

    #[tokio::test]
    async fn what_is_appended_in_json_is_read_in_json() {
        // data-plane.md §2.1, §6.2
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let body = json!({
            "records": [
                {"timestamp": 5, "headers": [["k", "v"], ["k", ""]], "body": "héllo"},
                {"timestamp": 7},
                {"timestamp": 7, "headers": [], "body": "", "unknown": {"a": []}},
            ],
            "match_seq_num": 0,
            "fencing_token": "",
        });
        let ack = append(&mut peer, "orders", body).await;
        let position = |seq_num: u64, timestamp: u64| json!({"seq_num": seq_num, "timestamp": timestamp});
        assert_eq!(ack, json!({"start": position(0, 5), "end": position(3, 7), "tail": position(3, 7)}));
        let batch = read(&mut peer, "orders", "seq_num=0").await.json();
        let expected = json!({
            "records": [
                {"seq_num": 0, "timestamp": 5, "headers": [["k", "v"], ["k", ""]], "body": "héllo"},
                {"seq_num": 1, "timestamp": 7},
                {"seq_num": 2, "timestamp": 7},
            ],
            "tail": position(3, 7),
        });
        assert_eq!(batch, expected);
        let tail = peer.get(&format!("{}/tail", records_path("orders"))).await.json();
        assert_eq!(tail, json!({"tail": position(3, 7)}));
    }

    #[tokio::test]
    async fn bytes_survive_in_base64_and_not_in_raw() {
        // data-plane.md §6.1
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let body = json!({"records": [{"timestamp": 1, "headers": [["a/8=", ""]], "body": "AP/+"}]}).to_string();
        for format in ["base64", "json-binsafe"] {
            let headers = [("content-type", JSON), ("s2-format", format)];
            assert_eq!(call(&mut peer, "POST", &records_path("orders"), &headers, body.clone()).await.status(), 200);
        }
        let path = format!("{}?seq_num=0&count=1", records_path("orders"));
        let record = async |peer: &mut Peer, format: &str| {
            call(peer, "GET", &path, &[("s2-format", format)], "").await.json()["records"][0].clone()
        };
        let base64 = json!({"seq_num": 0, "timestamp": 1, "headers": [["a/8=", ""]], "body": "AP/+"});
        let raw = json!({"seq_num": 0, "timestamp": 1, "headers": [["k\u{fffd}", ""]], "body": "\0\u{fffd}\u{fffd}"});
        assert_eq!(record(&mut peer, "base64").await, base64);
        assert_eq!(record(&mut peer, "json-binsafe").await, base64);
        assert_eq!(record(&mut peer, "raw").await, raw);
        assert_eq!(record(&mut peer, " json ").await, raw);
    }

    #[tokio::test]
    async fn commands_in_json() {
        // data-plane.md §6.2
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let post = async |peer: &mut Peer, format: &str, body: &str| {
            let headers = [("content-type", JSON), ("s2-format", format)];
            call(peer, "POST", &records_path("orders"), &headers, body.to_owned()).await
        };
        let fence = r#"{"records":[{"headers":[["","fence"]],"body":"producer-123"}]}"#;
        assert_eq!(post(&mut peer, "raw", fence).await.status(), 200);
        let refused = post(&mut peer, "raw", r#"{"records":[{}],"fencing_token":"x"}"#).await;
        assert_eq!((refused.status(), refused.json()), (412, json!({"fencing_token_mismatch": "producer-123"})));
        let trim =
            r#"{"records":[{"headers":[["","dHJpbQ=="]],"body":"AAAAAAAAAAE="}],"fencing_token":"producer-123"}"#;
        assert_eq!(post(&mut peer, "base64", trim).await.status(), 200);
        assert_eq!(read_numbers(&mut peer, "orders", "seq_num=0").await, [1]);
        let clear = r#"{"records":[{"headers":[["","fence"]]}]}"#;
        assert_eq!(post(&mut peer, "raw", clear).await.status(), 200);
        let raw_trim =
            r#"{"records":[{"headers":[["","trim"]],"body":"\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0002"}]}"#;
        assert_eq!(post(&mut peer, "raw", raw_trim).await.status(), 200);
        assert_eq!(read_numbers(&mut peer, "orders", "seq_num=0").await, [2, 3]);
    }

    /// Appends a record for each timestamp in this form: the last one's timestamp, unless one was required and is missing.
    async fn append_stamped(peer: &mut Peer, form: &str, stream: &str, timestamps: &[Option<u64>]) -> Option<u64> {
        let mut records = RecordsWriter::new();
        timestamps.iter().for_each(|timestamp| records.push(timestamp.map(Timestamp::new), [], b""));
        let message = records.into_append_input(None, None);
        let reply = match form {
            "json" => {
                let records: Vec<_> = timestamps.iter().map(|timestamp| json!({"timestamp": timestamp})).collect();
                peer.json("POST", &records_path(stream), json!({"records": records}).to_string()).await
            }
            "protobuf" => call(peer, "POST", &records_path(stream), &[("content-type", PROTOBUF)], message).await,
            _ => {
                let mut session = peer.append_session(stream).await;
                session.send(frame(&message));
                return match session.next_frame().await? {
                    Frame::Message { body, .. } => Some(decode_append_ack(body).unwrap().end.timestamp.get()),
                    Frame::Terminal(terminal) => {
                        assert_eq!(terminal.status, 422);
                        None
                    }
                };
            }
        };
        match reply.status() {
            200 => reply.json()["end"]["timestamp"].as_u64(),
            _ => {
                reply.assert_error(422, "invalid");
                None
            }
        }
    }

    #[tokio::test]
    async fn timestamps_are_as_the_stream_is_configured_in_every_form() {
        // data-plane.md §4: the tail's is 1000, now it is 5000.
        let clock = Arc::new(ManualClock::default());
        let gateway = Setup { clock: clock.clone(), ..Setup::default() }.start().await;
        let mut peer = Peer::connect(&gateway).await;
        peer.provision(&[]).await;
        let given = [Some(900), Some(4000), Some(9000), None, Some(10)];
        let all_given = [Some(0), Some(4000), Some(9000)];
        let cases: [(_, _, &[Option<u64>], &[u64]); 5] = [
            ("client-prefer", false, &given, &[1000, 4000, 5000, 5000, 5000]),
            ("client-prefer", true, &given, &[1000, 4000, 9000, 9000, 9000]),
            ("arrival", true, &given, &[5000; 5]),
            ("client-require", false, &all_given, &[1000, 4000, 5000]),
            ("client-require", false, &given, &[]),
        ];
        for (i, (mode, uncapped, given, expected)) in cases.into_iter().enumerate() {
            for form in ["json", "protobuf", "session"] {
                println!("{form}, {mode}, uncapped: {uncapped}");
                let stream = format!("{form}-{i}");
                let config = json!({"timestamping": {"mode": mode, "uncapped": uncapped}}).to_string();
                assert_eq!(peer.json("PUT", &stream_path(&stream), config).await.status(), 201);
                clock.set(Timestamp::new(1000));
                append(&mut peer, &stream, json!({"records": [{"timestamp": 1000}]})).await;
                clock.set(Timestamp::new(5000));

                assert_eq!(append_stamped(&mut peer, form, &stream, given).await, expected.last().copied());
                let batch = read(&mut peer, &stream, "seq_num=0").await.json();
                let records = batch["records"].as_array().unwrap().iter().skip(1);
                let stamps: Vec<_> = records.map(|record| record["timestamp"].as_u64().unwrap()).collect();
                assert_eq!(stamps, expected);
                assert_eq!(batch["tail"]["timestamp"], expected.last().copied().unwrap_or(1000));
            }
        }
    }

    #[tokio::test]
    async fn conditions_that_fail() {
        // data-plane.md §3: exactly one key, the fence before the number.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        append(&mut peer, "orders", json!({"records": [{}, {}]})).await;
        for (conditions, expected) in [
            (r#""match_seq_num":0"#, json!({"seq_num_mismatch": 2})),
            (r#""match_seq_num":3"#, json!({"seq_num_mismatch": 2})),
            (r#""fencing_token":"x""#, json!({"fencing_token_mismatch": ""})),
            (r#""match_seq_num":0,"fencing_token":"x""#, json!({"fencing_token_mismatch": ""})),
        ] {
            let body = format!(r#"{{"records":[{{}}],{conditions}}}"#);
            let reply = peer.json("POST", &records_path("orders"), body).await;
            assert_eq!((reply.status(), reply.json()), (412, expected));
        }
        for conditions in [json!({"match_seq_num": null}), json!({"fencing_token": null}), json!({"match_seq_num": 4})]
        {
            let mut body = json!({"records": [{}]});
            body.as_object_mut().unwrap().extend(conditions.as_object().unwrap().clone());
            append(&mut peer, "orders", body).await;
        }
        assert_eq!(peer.tail("orders").await, 5);
    }

    #[tokio::test]
    async fn every_name_of_protobuf_is_understood() {
        // data-plane.md §2.1
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let types =
            ["application/protobuf", "application/x-protobuf", "application/proto", "Application/X-ProtoBuf; v=1"];
        for (n, media_type) in (0..).zip(types) {
            let headers = [("content-type", media_type), ("accept", media_type)];
            let reply = call(&mut peer, "POST", &records_path("orders"), &headers, message([media_type])).await;
            assert_eq!((reply.status(), reply.header("content-type")), (200, Some(PROTOBUF)), "{media_type}");
            let ack = decode_append_ack(reply.body).unwrap();
            assert_eq!((ack.start.seq_num.get(), ack.end.seq_num.get()), (n, n + 1));

            let path = format!("{}?seq_num={n}", records_path("orders"));
            let reply = call(&mut peer, "GET", &path, &[("accept", media_type)], "").await;
            assert_eq!((reply.status(), reply.header("content-type")), (200, Some(PROTOBUF)), "{media_type}");
            let batch = decode_read_batch(reply.body).unwrap();
            assert_eq!((&batch.records[0].body[..], batch.tail), (media_type.as_bytes(), Some(ack.tail)));
        }
    }

    #[tokio::test]
    async fn the_first_type_that_is_accepted_decides() {
        // data-plane.md §2.1: requests and responses each by their own header.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let json_body = Bytes::from_static(br#"{"records":[{"body":"x"}]}"#);
        for (accept, expected) in [
            (None, JSON),
            (Some(""), JSON),
            (Some("*/*"), JSON),
            (Some("image/png"), JSON),
            (Some("application/json, application/protobuf"), JSON),
            (Some("application/protobuf;q=0.1, application/json"), PROTOBUF),
            (Some("APPLICATION/PROTOBUF"), PROTOBUF),
        ] {
            for (content_type, body) in
                [(JSON, json_body.clone()), ("application/vnd.x+json", json_body.clone()), (PROTOBUF, message(["x"]))]
            {
                let headers: Vec<_> =
                    [("content-type", content_type)].into_iter().chain(accept.map(|it| ("accept", it))).collect();
                let reply = call(&mut peer, "POST", &records_path("orders"), &headers, body).await;
                assert_eq!((reply.status(), reply.header("content-type")), (200, Some(expected)), "{accept:?}");
            }
            let path = format!("{}?seq_num=0", records_path("orders"));
            let headers: Vec<_> = accept.map(|it| ("accept", it)).into_iter().collect();
            let reply = call(&mut peer, "GET", &path, &headers, "").await;
            assert_eq!((reply.status(), reply.header("content-type")), (200, Some(expected)), "{accept:?}");
            // Tails and errors are always JSON.
            let tail = call(&mut peer, "GET", &format!("{}/tail", records_path("orders")), &headers, "").await;
            assert!(tail.json()["tail"]["seq_num"].is_u64());
            call(&mut peer, "GET", &records_path("nowhere"), &headers, "").await.assert_error(404, "stream_not_found");
        }
    }

    #[tokio::test]
    async fn where_a_read_starts_and_whether_it_is_in_range() {
        // data-plane.md §7.3, for a tail of 10.
        let (_gateway, mut peer) = gateway_with(&["orders", "empty"]).await;
        ten_records(&mut peer, "orders").await;
        let all: Vec<u64> = (0..10).collect();
        for (query, expected) in [
            ("", None),
            ("seq_num=0", Some(&all[..])),
            ("seq_num=10", None),
            ("seq_num=10&clamp=true", None),
            ("seq_num=11", None),
            ("seq_num=11&wait=5", None),
            ("seq_num=999&clamp=true", None),
            ("tail_offset=0", None),
            ("tail_offset=3", Some(&all[7..])),
            ("tail_offset=100", Some(&all)),
            ("timestamp=0", Some(&all)),
            ("timestamp=1900", Some(&all[9..])),
            ("timestamp=1801", Some(&all[9..])),
            ("timestamp=1901", None),
            ("timestamp=1901&clamp=true", None),
            ("timestamp=1901&wait=5", None),
            ("count=0", Some(&[])),
            ("seq_num=999&count=0", Some(&[])),
            ("seq_num=999&bytes=0", Some(&[])),
            ("seq_num=5&until=1", Some(&[])),
            ("seq_num=2&count=3", Some(&all[2..5])),
            ("seq_num=2&bytes=27", Some(&all[2..5])),
            ("seq_num=2&bytes=26", Some(&all[2..4])),
            ("seq_num=2&bytes=8", Some(&[])),
            ("seq_num=2&until=1500", Some(&all[2..5])),
            ("timestamp=1150&until=1401&count=100", Some(&all[2..5])),
        ] {
            println!("{query}");
            let reply = read(&mut peer, "orders", query).await;
            match expected {
                Some(expected) => {
                    assert_eq!(reply.status(), 200, "{reply:?}");
                    assert_eq!(numbers(&reply.json()), expected);
                }
                None => reply.assert_out_of_range(10),
            }
        }
        for query in ["seq_num=0", "", "tail_offset=5", "timestamp=0", "seq_num=0&clamp=true", "seq_num=1&wait=5"] {
            read(&mut peer, "empty", query).await.assert_out_of_range(0);
        }
        assert_eq!(read_numbers(&mut peer, "empty", "count=0").await, [0u64; 0]);
    }

    #[tokio::test]
    async fn reads_of_what_was_trimmed() {
        // data-plane.md §5.3
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        ten_records(&mut peer, "orders").await;
        let trim = async |peer: &mut Peer, to: &str| {
            let body = format!(r#"{{"records":[{{"timestamp":1950,"headers":[["","dHJpbQ=="]],"body":"{to}"}}]}}"#);
            let headers = [("content-type", JSON), ("s2-format", "base64")];
            assert_eq!(call(peer, "POST", &records_path("orders"), &headers, body).await.status(), 200);
        };
        trim(&mut peer, "AAAAAAAAAAg=").await;
        assert_eq!(read_numbers(&mut peer, "orders", "seq_num=0").await, [8, 9, 10]);
        assert_eq!(read_numbers(&mut peer, "orders", "timestamp=0").await, [8, 9, 10]);
        trim(&mut peer, "//////////8=").await;
        assert_eq!(read_numbers(&mut peer, "orders", "seq_num=0").await, [0u64; 0]);
        assert_eq!(read_numbers(&mut peer, "orders", "tail_offset=5").await, [0u64; 0]);
        read(&mut peer, "orders", "timestamp=0").await.assert_out_of_range(12);
        assert_eq!(peer.tail("orders").await, 12, "the tail does not move");
    }

    #[tokio::test]
    async fn one_response_is_a_thousand_records_or_a_mebibyte() {
        // data-plane.md §7.8
        let (_gateway, mut peer) = gateway_with(&["many", "large"]).await;
        for _ in 0..3 {
            append(&mut peer, "many", json!({"records": vec![json!({}); 600]})).await;
            append(&mut peer, "large", json!({"records": [{"body": "x".repeat(500_000)}]})).await;
        }
        for query in ["seq_num=0", "seq_num=0&count=5000&bytes=99999999", "seq_num=0&wait=999999"] {
            assert_eq!(read_numbers(&mut peer, "many", query).await, (0..1000).collect::<Vec<_>>());
            assert_eq!(read_numbers(&mut peer, "large", query).await, [0, 1]);
        }
    }

    #[tokio::test]
    async fn a_long_poll_wakes_when_something_is_appended() {
        // data-plane.md §7.5
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        append(&mut peer, "orders", json!({"records": [{}]})).await;
        let mut polls = Vec::new();
        for query in ["seq_num=1", "", "seq_num=9&clamp=true", "seq_num=1&count=2", "seq_num=1&bytes=5"] {
            let path = format!("{}?{query}&wait=60", records_path("orders"));
            polls.push(peer.open(basin_request("GET", &path).body(()).unwrap(), true).await);
        }
        peer.ping().await;
        append(&mut peer, "orders", json!({"records": [{}, {}, {}]})).await;
        // Of the first batch what the bounds allow, and its tail; nothing else is awaited.
        for (poll, expected) in polls.into_iter().zip([&[1, 2, 3][..], &[1, 2, 3], &[1, 2, 3], &[1, 2], &[]]) {
            let batch = poll.answered().await.reply().await.json();
            assert_eq!(numbers(&batch), expected);
            assert!(expected.is_empty() || batch["tail"]["seq_num"] == 4, "{batch}");
        }
    }

    #[tokio::test]
    async fn a_long_poll_is_one_response_however_much_is_appended_at_once() {
        // data-plane.md §7.5, §7.8: several batches become durable in one commit.
        for (batch, most) in [(vec![vec![]; 600], 1000), (vec![vec![b'x'; 400_000]; 2], 2)] {
            let store = LateStore::new();
            let gateway = Setup::default().start_over(store.clone()).await;
            let mut peer = Peer::connect(&gateway).await;
            peer.provision(&["orders"]).await;
            let path = format!("{}?wait=60", records_path("orders"));
            let poll = peer.open(basin_request("GET", &path).body(()).unwrap(), true).await;
            peer.ping().await;
            let mut writer = peer.append_session("orders").await;
            for _ in 0..3 {
                writer.send(input(&batch));
            }
            until(|| store.held() == 3).await;
            store.release();
            let batch = poll.answered().await.reply().await.json();
            let found = numbers(&batch);
            assert!(!found.is_empty() && found.len() <= most, "{} records", found.len());
            assert!(batch["tail"]["seq_num"].as_u64() > found.last().copied(), "{}", batch["tail"]);
        }
    }

    #[tokio::test]
    async fn a_long_poll_does_not_wait_when_there_are_records() {
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        append(&mut peer, "orders", json!({"records": [{}]})).await;
        let began = Instant::now();
        assert_eq!(read_numbers(&mut peer, "orders", "seq_num=0&count=100&wait=60").await, [0]);
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_long_poll_gives_up() {
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let began = Instant::now();
        assert_eq!(read_numbers(&mut peer, "orders", "seq_num=0&wait=1").await, [0u64; 0]);
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_long_poll_ends_with_its_stream() {
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let path = format!("{}?wait=60", records_path("orders"));
        let poll = peer.open(basin_request("GET", &path).body(()).unwrap(), true).await;
        peer.ping().await;
        assert_eq!(peer.json("DELETE", &stream_path("orders"), "").await.status(), 202);
        poll.answered().await.reply().await.assert_error(409, "stream_deletion_pending");
    }

    #[tokio::test]
    async fn bodies_may_be_compressed_both_ways() {
        // http.md §6
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let json_body = json!({"records": [{"body": "x".repeat(5000)}]}).to_string();
        for (coding, compression) in [("zstd", Compression::Zstd), ("gzip", Compression::Gzip)] {
            for (content_type, body) in
                [(JSON, Bytes::from(json_body.clone())), (PROTOBUF, message(["x".repeat(5000)]))]
            {
                let body = deflate(compression, &body).unwrap();
                let headers = [("content-type", content_type), ("content-encoding", coding)];
                let reply = call(&mut peer, "POST", &records_path("orders"), &headers, body).await;
                assert_eq!((reply.status(), reply.header("content-encoding")), (200, None), "an ack is small");
            }
            for accept in [JSON, PROTOBUF] {
                let path = format!("{}?seq_num=0", records_path("orders"));
                let plain = call(&mut peer, "GET", &path, &[("accept", accept)], "").await;
                assert_eq!(plain.header("content-encoding"), None);
                let headers = [("accept", accept), ("accept-encoding", coding)];
                let packed = call(&mut peer, "GET", &path, &headers, "").await;
                assert_eq!(packed.header("content-encoding"), Some(coding));
                assert_eq!(packed.header("content-type"), Some(accept));
                assert!(packed.body.len() < plain.body.len() / 10);
                assert_eq!(inflate(compression, packed.body, 1 << 20).unwrap(), plain.body);
            }
        }
        let headers = [("accept-encoding", "gzip, zstd")];
        let both = call(&mut peer, "GET", &format!("{}?seq_num=0", records_path("orders")), &headers, "").await;
        assert_eq!(both.header("content-encoding"), Some("zstd"));
        let small = call(&mut peer, "GET", &stream_path("orders"), &headers, "").await;
        assert_eq!(small.header("content-encoding"), None);
    }

    #[tokio::test]
    async fn the_largest_batches_fit_in_any_form() {
        // errors.md §4.1: 1 MiB of control characters is 6 MiB of JSON.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let escaped = format!(r#"{{"records":[{{"body":"{}"}}]}}"#, r"\u0000".repeat(1_048_568));
        assert_eq!(peer.json("POST", &records_path("orders"), escaped).await.status(), 200);
        let headers = [("content-type", PROTOBUF)];
        let body = message([vec![0; 1_048_568]]);
        assert_eq!(call(&mut peer, "POST", &records_path("orders"), &headers, body).await.status(), 200);
        assert_eq!(read_numbers(&mut peer, "orders", "seq_num=0").await, [0]);
        assert_eq!(read_numbers(&mut peer, "orders", "seq_num=1").await, [1]);
    }
}

mod basins {
    use super::*;

    fn basin_path(name: &str) -> String {
        format!("/v1/basins/{name}")
    }

    async fn create(peer: &mut Peer, body: Value, token: Option<&str>) -> Reply {
        let headers: Vec<_> =
            [("content-type", JSON)].into_iter().chain(token.map(|t| ("s2-request-token", t))).collect();
        call(peer, "POST", "/v1/basins", &headers, body.to_string()).await
    }

    fn provisioned(reply: &Reply) -> (u16, Option<&str>) {
        (reply.status(), reply.header("s2-provision-result"))
    }

    #[tokio::test]
    async fn creating() {
        // control-plane.md §4.1, §4.2
        let (_gateway, mut peer) = gateway_with(&[]).await;
        let body = json!({"basin": "my-basin-02", "config": {"create_stream_on_append": true}});
        let reply = create(&mut peer, body.clone(), Some("a token")).await;
        assert_eq!(provisioned(&reply), (201, Some("created")));
        let info = reply.json();
        assert_eq!((&info["name"], &info["state"]), (&json!("my-basin-02"), &json!("active")));
        assert_eq!((&info["location"], &info["deleted_at"]), (&json!("local"), &Value::Null));
        let created_at = info["created_at"].as_str().unwrap();
        assert!(created_at.len() >= 20 && created_at.contains('T') && created_at.ends_with('Z'), "{created_at}");

        // The same again changes nothing; whatever differs is another request.
        let again = create(&mut peer, body.clone(), Some("a token")).await;
        assert_eq!(provisioned(&again), (200, Some("noop")));
        assert_eq!(again.json(), info);
        let other_config = json!({"basin": "my-basin-02", "config": {}});
        let mut spelt_out = body.clone();
        spelt_out["config"]["default_stream_config"] = json!({"retention_policy": {"age": 604_800}});
        for (body, token) in
            [(&body, None), (&body, Some("another")), (&other_config, Some("a token")), (&spelt_out, Some("a token"))]
        {
            create(&mut peer, body.clone(), token).await.assert_error(409, "resource_already_exists");
        }
        // The request is remembered, whatever became of the configuration.
        assert_eq!(peer.json("PUT", &basin_path("my-basin-02"), "").await.status(), 200);
        assert_eq!(
            peer.json("PATCH", &basin_path("my-basin-02"), r#"{"create_stream_on_read":true}"#).await.status(),
            200
        );
        assert_eq!(provisioned(&create(&mut peer, body, Some("a token")).await), (200, Some("noop")));
        assert_eq!(peer.get(&basin_path("my-basin-02")).await.json()["create_stream_on_read"], true);

        create(&mut peer, json!({"basin": "my-basin-03"}), None).await;
        create(&mut peer, json!({"basin": "my-basin-03"}), None).await.assert_error(409, "resource_already_exists");
    }

    #[tokio::test]
    async fn ensuring() {
        // control-plane.md §4.3
        let (_gateway, mut peer) = gateway_with(&[]).await;
        let path = basin_path("my-basin-02");
        let config = r#"{"config":{"create_stream_on_read":true}}"#;
        for (body, expected) in [
            ("", (201, "created")),
            ("", (200, "noop")),
            ("null", (200, "noop")),
            ("{}", (200, "noop")),
            (r#"{"config":null}"#, (200, "noop")),
            (config, (200, "updated")),
            (config, (200, "noop")),
            // What is not mentioned returns to its default.
            ("", (200, "updated")),
        ] {
            let reply = peer.json("PUT", &path, body).await;
            assert_eq!(provisioned(&reply), (expected.0, Some(expected.1)), "{body:?}");
            assert_eq!(reply.json()["name"], "my-basin-02");
        }
        // A body that is not said to be JSON counts as none.
        let untyped = call(&mut peer, "PUT", &path, &[], config).await;
        assert_eq!(provisioned(&untyped), (200, Some("noop")));
        peer.json("PUT", &path, "{").await.assert_error(400, "bad_json");
    }

    #[tokio::test]
    async fn configurations() {
        // control-plane.md §3
        let (_gateway, mut peer) = gateway_with(&[]).await;
        let config = peer.get(&basin_path(BASIN)).await.json();
        let defaults = json!({
            "default_stream_config": null,
            "stream_cipher": null,
            "create_stream_on_append": false,
            "create_stream_on_read": false,
        });
        assert_eq!(config, defaults);
        let body = r#"{"config":{"default_stream_config":{"timestamping":{"mode":"arrival"}},"create_stream_on_append":true}}"#;
        assert_eq!(peer.json("PUT", &basin_path(BASIN), body).await.status(), 200);
        let config = peer.get(&basin_path(BASIN)).await.json();
        assert_eq!(config["default_stream_config"]["timestamping"]["mode"], "arrival");
        assert_eq!(config["create_stream_on_append"], true);
        for (body, status, code) in [
            (r#"{"config":{"default_stream_config":{"retention_policy":{"age":0}}}}"#, 422, "invalid"),
            (r#"{"config":{"default_stream_config":{"retention_policy":{"age":-1}}}}"#, 400, "bad_json"),
            (r#"{"config":{"default_stream_config":{"timestamping":{"mode":"x"}}}}"#, 400, "bad_json"),
            (r#"{"config":{"create_stream_on_append":null}}"#, 400, "bad_json"),
            (r#"{"config":{"stream_cipher":"rot13"}}"#, 400, "bad_json"),
        ] {
            peer.json("PUT", &basin_path(BASIN), body).await.assert_error(status, code);
        }
    }

    #[tokio::test]
    async fn deleting() {
        // control-plane.md §4.6
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut follower = peer.read_session("orders", "").await;
        follower.expect_heartbeat().await;
        let reply = peer.json("DELETE", &basin_path(BASIN), "").await;
        assert_eq!((reply.status(), reply.header("content-length"), reply.body.len()), (202, Some("0"), 0));
        follower.expect_failure(409, "stream_deletion_pending").await;
        // While it goes, 409; then it is unknown, and its name free.
        within(async {
            while peer.get(&basin_path(BASIN)).await.status() != 404 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        peer.get(&basin_path(BASIN)).await.assert_error(404, "basin_not_found");
        peer.json("DELETE", &basin_path(BASIN), "").await.assert_error(404, "basin_not_found");
        peer.provision(&[]).await;
        peer.get(&stream_path("orders")).await.assert_error(404, "stream_not_found");
    }

    #[tokio::test]
    async fn listing() {
        // control-plane.md §4.7
        let (_gateway, mut peer) = gateway_with(&[]).await;
        for name in ["aaaaaaaa", "my-basin-02", "my-basin-03", "my-basin-04", "zzzzzzzz"] {
            assert_eq!(peer.json("PUT", &basin_path(name), "").await.status(), 201);
        }
        let mine = [BASIN, "my-basin-02", "my-basin-03", "my-basin-04"];
        for (query, expected, has_more) in [
            ("prefix=my-", &mine[..], false),
            ("prefix=my-&limit=2", &mine[..2], true),
            ("prefix=my-&limit=2&start_after=my-basin-02", &mine[2..], false),
            ("prefix=my-&start_after=a", &mine, false),
            ("prefix=my-&start_after=zzz", &[], false),
            ("start_after=my-basin-03", &["my-basin-04", "zzzzzzzz"], false),
            ("limit=1", &["aaaaaaaa"], true),
            ("prefix=my-&limit=0", &mine, false),
            ("prefix=my-&limit=99999", &mine, false),
            ("prefix=nobody", &[], false),
        ] {
            let page = peer.get(&format!("/v1/basins?{query}")).await.json();
            let names: Vec<_> =
                page["basins"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
            assert_eq!((names, &page["has_more"]), (expected.to_vec(), &json!(has_more)), "{query}");
        }
        let all = peer.call(any_request("GET", "/v1/basins").body(Bytes::new()).unwrap()).await.json();
        assert_eq!(all["basins"].as_array().unwrap().len(), 6);
    }
}

mod streams {
    use super::*;

    async fn create(peer: &mut Peer, body: Value, token: Option<&str>) -> Reply {
        let headers: Vec<_> =
            [("content-type", JSON)].into_iter().chain(token.map(|t| ("s2-request-token", t))).collect();
        call(peer, "POST", "/v1/streams", &headers, body.to_string()).await
    }

    fn provisioned(reply: &Reply) -> (u16, Option<&str>) {
        (reply.status(), reply.header("s2-provision-result"))
    }

    #[tokio::test]
    async fn creating() {
        // control-plane.md §5.1, §5.2
        let (_gateway, mut peer) = gateway_with(&[]).await;
        let body = json!({"stream": "orders/eu", "config": {"retention_policy": {"age": 60}}});
        let reply = create(&mut peer, body.clone(), Some("a token")).await;
        assert_eq!(provisioned(&reply), (201, Some("created")));
        let info = reply.json();
        assert_eq!(
            (&info["name"], &info["deleted_at"], &info["cipher"]),
            (&json!("orders/eu"), &Value::Null, &Value::Null)
        );
        assert!(info["created_at"].as_str().unwrap().ends_with('Z'));

        let again = create(&mut peer, body.clone(), Some("a token")).await;
        assert_eq!(provisioned(&again), (201, Some("noop")), "201 for streams");
        assert_eq!(again.json(), info);
        let other_config = json!({"stream": "orders/eu", "config": null});
        let mut spelt_out = body.clone();
        spelt_out["config"]["delete_on_empty"] = json!({"min_age_secs": 0});
        for (body, token) in
            [(&body, None), (&body, Some("another")), (&other_config, Some("a token")), (&spelt_out, Some("a token"))]
        {
            create(&mut peer, body.clone(), token).await.assert_error(409, "resource_already_exists");
        }
        // The request is remembered, whatever became of the configuration.
        assert_eq!(peer.json("PUT", &stream_path("orders/eu"), "").await.status(), 200);
        assert_eq!(provisioned(&create(&mut peer, body, Some("a token")).await), (201, Some("noop")));
        assert_eq!(peer.get(&stream_path("orders/eu")).await.json()["retention_policy"], json!({"age": 604_800}));
        let bad = json!({"stream": "other", "config": {"retention_policy": {"age": 0}}});
        create(&mut peer, bad, None).await.assert_error(422, "invalid");
    }

    #[tokio::test]
    async fn ensuring_and_its_configurations() {
        // control-plane.md §5.3, §3.3, §3.4
        let (_gateway, mut peer) = gateway_with(&[]).await;
        let path = stream_path("orders");
        let arrival = r#"{"timestamping":{"mode":"arrival"}}"#;
        for (body, expected) in [
            ("", (201, "created")),
            ("null", (200, "noop")),
            ("{}", (200, "noop")),
            (arrival, (200, "updated")),
            (arrival, (200, "noop")),
            (r#"{"timestamping":{"mode":"arrival","uncapped":false}}"#, (200, "noop")),
            ("", (200, "updated")),
        ] {
            let reply = peer.json("PUT", &path, body).await;
            assert_eq!(provisioned(&reply), (expected.0, Some(expected.1)), "{body:?}");
        }
        let defaults = json!({
            "storage_class": "express",
            "retention_policy": {"age": 604_800},
            "timestamping": {"mode": "client-prefer", "uncapped": false},
            "delete_on_empty": {"min_age_secs": 0},
        });
        assert_eq!(peer.get(&path).await.json(), defaults);

        // What the stream leaves open the basin's defaults say, field by field; those of now.
        let basin = r#"{"config":{"default_stream_config":{"timestamping":{"uncapped":true},"retention_policy":{"infinite":{}}}}}"#;
        assert_eq!(peer.json("PUT", &format!("/v1/basins/{BASIN}"), basin).await.status(), 200);
        assert_eq!(peer.get(&path).await.json(), defaults, "a stream that exists keeps its own");
        assert_eq!(provisioned(&peer.json("PUT", &path, arrival).await), (200, Some("updated")));
        let config = peer.get(&path).await.json();
        assert_eq!(config["timestamping"], json!({"mode": "arrival", "uncapped": true}));
        assert_eq!(config["retention_policy"], json!({"infinite": {}}));

        // It is the resolved configurations that are compared.
        assert_eq!(provisioned(&peer.json("PUT", &path, arrival).await), (200, Some("noop")));
        let capped = r#"{"default_stream_config":{"timestamping":{"uncapped":false}}}"#;
        assert_eq!(peer.json("PATCH", &format!("/v1/basins/{BASIN}"), capped).await.status(), 200);
        assert_eq!(provisioned(&peer.json("PUT", &path, arrival).await), (200, Some("updated")));
    }

    #[tokio::test]
    async fn a_stream_keeps_the_cipher_that_it_was_made_with() {
        // control-plane.md §3.2, §5.2, §5.3
        let (_gateway, mut peer) = gateway_with(&["before"]).await;
        let basin = format!("/v1/basins/{BASIN}");
        for (basins, new, ciphers) in [
            (r#""aegis-256""#, "during", json!({"before": null, "during": "aegis-256"})),
            ("null", "after", json!({"before": null, "during": "aegis-256", "after": null})),
            (r#""aes-256-gcm""#, "last", json!({"during": "aegis-256", "after": null, "last": "aes-256-gcm"})),
        ] {
            let config = format!(r#"{{"stream_cipher":{basins}}}"#);
            assert_eq!(peer.json("PATCH", &basin, config).await.status(), 200);
            assert_eq!(create(&mut peer, json!({"stream": new}), None).await.status(), 201);
            for (name, cipher) in ciphers.as_object().unwrap() {
                let reply = peer.json("PUT", &stream_path(name), r#"{"storage_class":"standard"}"#).await;
                assert_eq!((reply.status(), &reply.json()["cipher"]), (200, cipher), "{name}");
            }
        }
    }

    #[tokio::test]
    async fn a_new_configuration_is_in_force_for_the_next_append() {
        // data-plane.md §4, also inside open sessions.
        let (_gateway, mut peer) = gateway_with(&["orders"]).await;
        let mut session = peer.append_session("orders").await;
        session.send(support::peer::input(["x"]));
        session.expect_ack().await;
        let config = r#"{"timestamping":{"mode":"client-require"}}"#;
        assert_eq!(peer.json("PUT", &stream_path("orders"), config).await.status(), 200);
        peer.json("POST", &records_path("orders"), r#"{"records":[{}]}"#).await.assert_error(422, "invalid");
        session.send(support::peer::input(["x"]));
        session.expect_failure(422, "invalid").await;
    }

    #[tokio::test]
    async fn deleting() {
        // control-plane.md §5.5
        let (_gateway, mut peer) = gateway_with(&["orders", "others"]).await;
        append(&mut peer, "orders", json!({"records": [{}]})).await;
        let reply = peer.json("DELETE", &stream_path("orders"), "").await;
        assert_eq!((reply.status(), reply.header("content-length"), reply.body.len()), (202, Some("0"), 0));
        within(async {
            loop {
                let (path, body) = (records_path("orders"), r#"{"records":[{}]}"#);
                let reply = peer.json("POST", &path, body).await;
                match reply.status() {
                    409 => reply.assert_error(409, "stream_deletion_pending"),
                    _ => break reply.assert_error(404, "stream_not_found"),
                }
            }
        })
        .await;
        peer.json("DELETE", &stream_path("orders"), "").await.assert_error(404, "stream_not_found");
        let listed = peer.get("/v1/streams").await.json();
        assert_eq!(listed["streams"].as_array().unwrap().len(), 1);
        create(&mut peer, json!({"stream": "orders"}), None).await;
        assert_eq!(peer.tail("orders").await, 0);
    }

    #[tokio::test]
    async fn listing() {
        let names = ["a", "orders/", "orders/eu", "orders/us", "orders0", "日本"];
        let (_gateway, mut peer) = gateway_with(&names).await;
        for (query, expected, has_more) in [
            ("", &names[..], false),
            ("prefix=orders%2F", &names[1..4], false),
            ("prefix=orders%2F&limit=2", &names[1..3], true),
            ("prefix=orders%2F&limit=2&start_after=orders%2Feu", &names[3..4], false),
            ("start_after=orders0", &names[5..], false),
            ("start_after=%E6%97%A5%E6%9C%AC", &[], false),
            ("prefix=orders&start_after=z", &[], false),
            ("limit=6", &names, false),
            ("limit=5", &names[..5], true),
        ] {
            let page = peer.get(&format!("/v1/streams?{query}")).await.json();
            let found: Vec<_> =
                page["streams"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
            assert_eq!((found, &page["has_more"]), (expected.to_vec(), &json!(has_more)), "{query}");
        }
    }

    #[tokio::test]
    async fn of_a_basin_or_a_stream_that_is_not_there() {
        // control-plane.md §9
        let (_gateway, mut peer) = gateway_with(&[]).await;
        for (method, path) in [
            ("GET", "/v1/streams/missing"),
            ("DELETE", "/v1/streams/missing"),
            ("GET", "/v1/streams/missing/records?seq_num=0"),
            ("GET", "/v1/streams/missing/records?count=0"),
            ("GET", "/v1/streams/missing/records/tail"),
        ] {
            peer.json(method, path, "").await.assert_error(404, "stream_not_found");
        }
        for (method, path, body) in [
            ("GET", "/v1/streams", ""),
            ("POST", "/v1/streams", r#"{"stream":"s"}"#),
            ("GET", "/v1/streams/s", ""),
            ("PUT", "/v1/streams/s", ""),
            ("DELETE", "/v1/streams/s", ""),
            ("POST", "/v1/streams/s/records", r#"{"records":[{}]}"#),
            ("GET", "/v1/streams/s/records?seq_num=0", ""),
            ("GET", "/v1/streams/s/records/tail", ""),
        ] {
            let request = any_request(method, path).header("s2-basin", "no-such-basin").header("content-type", JSON);
            let reply = peer.call(request.body(Bytes::from_static(body.as_bytes())).unwrap()).await;
            reply.assert_error(404, "basin_not_found");
        }
        for method in ["GET", "DELETE"] {
            peer.json(method, "/v1/basins/no-such-basin", "").await.assert_error(404, "basin_not_found");
        }
    }

    #[tokio::test]
    async fn requests_at_the_same_time_make_one_stream() {
        let (_gateway, mut peer) = gateway_with(&[]).await;
        let mut openings = Vec::new();
        for _ in 0..20 {
            let request = basin_request("POST", "/v1/streams").header("content-type", JSON).body(()).unwrap();
            let mut opening = peer.open(request, false).await;
            opening.sending.send_data(r#"{"stream":"orders"}"#.into(), true).unwrap();
            openings.push(opening);
        }
        let mut created = 0;
        for opening in openings {
            let reply = opening.answered().await.reply().await;
            match reply.status() {
                201 => created += 1,
                _ => reply.assert_error(409, "resource_already_exists"),
            }
        }
        assert_eq!(created, 1);
    }
}

#[tokio::test]
async fn bodies_count_as_memory_and_are_refused_when_there_is_none() {
    const PIECE: usize = 100 * 1024;
    let mut setup = Setup::default();
    setup.streams.memory.sessions = 10 * PIECE;
    let gateway = setup.start().await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(&["orders"]).await;
    let used = || gateway.streams.session_memory().used();
    let begin = || any_request("POST", &records_path("orders")).header("s2-basin", BASIN).header("content-type", JSON);
    let mut alone = peer.open(begin().body(()).unwrap(), false).await;
    alone.sending.send_data(vec![b' '; 20 * PIECE].into(), false).unwrap();
    until(|| used() == 20 * PIECE).await;

    let mut late = peer.open(begin().body(()).unwrap(), false).await;
    late.sending.send_data(vec![b' '; PIECE].into(), false).unwrap();
    late.answered().await.reply().await.assert_error(429, "rate_limited");
    assert_eq!(used(), 20 * PIECE, "what was refused is let go of");

    let small = json!({ "records": [{ "body": "small" }] });
    assert_eq!(append(&mut peer, "orders", small.clone()).await["end"]["seq_num"], 1, "a small one has room");
    alone.sending.send_data(small.to_string().into(), true).unwrap();
    assert_eq!(alone.answered().await.reply().await.json()["end"]["seq_num"], 2, "and so has who was there first");
    until(|| used() == 0).await;
}

#[tokio::test]
async fn a_body_counts_until_what_it_says_is_in_the_stream() {
    const BODY: usize = 500 * 1024;
    let store = LateStore::new();
    let gateway = Setup::default().start_over(store.clone()).await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(&["orders"]).await;
    let used = || gateway.streams.session_memory().used();
    let in_json = json!({ "records": [{ "body": "x".repeat(BODY) }] }).to_string();
    let body = vec![b'x'; BODY];
    for (content_type, body) in [(JSON, Bytes::from(in_json)), (PROTOBUF, message([&body]))] {
        let request = basin_request("POST", &records_path("orders")).header("content-type", content_type);
        let mut waits = peer.open(request.body(()).unwrap(), false).await;
        let (begins, ends) = (body.slice(..BODY / 2), body.slice(BODY / 2..));
        waits.sending.send_data(begins, false).unwrap();
        until(|| used() == BODY / 2).await;
        waits.sending.send_data(ends, true).unwrap();
        until(|| store.held() == 1).await;
        // The batch counts among the appends, and the body is there no more.
        until(|| used() == 0).await;
        store.release();
        assert_eq!(waits.answered().await.reply().await.status(), 200, "{content_type}");
    }
}

#[tokio::test]
async fn responses_that_nobody_takes_count_as_memory() {
    const SHARE: usize = 1024 * 1024;
    let mut setup = Setup::default();
    setup.streams.memory.sessions = SHARE;
    let gateway = setup.start().await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(&["orders"]).await;
    let body = "x".repeat(10_000);
    let batch = json!({ "records": vec![json!({ "body": body }); 100] });
    append(&mut peer, "orders", batch).await;
    let whole = read_numbers(&mut peer, "orders", "seq_num=0").await.len();
    let used = || gateway.streams.session_memory().used();
    until(|| used() == 0).await;

    let mut stalls = Peer::connect_with(&gateway, settings().initial_window_size(100)).await;
    let mut waiting = Vec::new();
    for _ in 0..100 {
        let request = basin_request("GET", &format!("{}?seq_num=0", records_path("orders"))).body(()).unwrap();
        waiting.push(stalls.open(request, true).await.answered().await);
    }
    assert!(used() > SHARE / 2 && used() < 2 * SHARE, "{} are taken", used());
    let few = read_numbers(&mut peer, "orders", "seq_num=0").await.len();
    assert!(few >= 1 && few < whole, "{few} of {whole} where memory is short");
    drop(waiting);
    stalls.hang_up().await;
    until(|| used() == 0).await;
}

#[tokio::test]
async fn a_single_append_waits_no_longer_than_its_client() {
    // http.md §9: clients send it again after five seconds, and then it must not have happened.
    let mut setup = Setup::default();
    setup.streams.memory.appends = 2 * 1024 * 1024;
    let store = LateStore::new();
    let gateway = setup.start_over(store.clone()).await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(&["orders"]).await;
    let mut session = peer.append_session("orders").await;
    session.send(input(vec![vec![b'x'; 100_000]; 6]));
    until(|| store.held() == 1).await;

    let append = any_request("POST", &records_path("orders")).header("s2-basin", BASIN).header("content-type", JSON);
    let mut waiting = peer.open(append.body(()).unwrap(), false).await;
    let body = json!({ "records": [{ "body": "x".repeat(600_000) }] }).to_string();
    let len = body.len();
    waiting.sending.send_data(body.into(), true).unwrap();
    let time = StillTime::begin();
    // It counts as the batch that it will be, which is more: it was read, and waits.
    until(|| gateway.streams.session_memory().used() > len).await;
    time.pass(Duration::from_millis(4_900)).await;
    waiting.answered().await.reply().await.assert_error(429, "rate_limited");
    drop(time);
    store.release();
    assert_eq!(session.expect_acked().await, (0, 6));
    assert_eq!((store.held(), peer.tail("orders").await), (0, 6));
}
