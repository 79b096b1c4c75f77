//! Encryption with the customer's key over HTTP (`data-plane.md` §11): every rule of its table, by the byte.

mod support;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::json;

use self::support::{
    Gateway,
    peer::{
        BASIN, Peer, Reply, Session, any_request, basin_request, frame, input, message, record, records_path,
        session_request, stream_path, with_headers,
    },
};

const CIPHERS: [&str; 2] = ["aegis-256", "aes-256-gcm"];
const HEADER: &str = "s2-encryption-key";

fn key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

/// A basin with this cipher that makes streams on access, and one stream in it.
async fn gateway_with(cipher: &str) -> (Gateway, Peer) {
    let gateway = Gateway::start().await;
    let mut peer = Peer::connect(&gateway).await;
    let config = json!({"stream_cipher": cipher, "create_stream_on_append": true, "create_stream_on_read": true});
    let body = json!({"config": config}).to_string();
    assert_eq!(peer.json("PUT", &format!("/v1/basins/{BASIN}"), body).await.status(), 201);
    assert_eq!(peer.json("PUT", &stream_path("orders"), "").await.status(), 201);
    (gateway, peer)
}

async fn append_session(peer: &mut Peer, key: &str) -> Session {
    peer.append_session_with("orders", &[(HEADER, key)]).await
}

async fn read_session(peer: &mut Peer, query: &str, key: &str) -> Session {
    peer.read_session_with("orders", query, &[(HEADER, key)]).await
}

/// Appends these frames in a session of their own.
async fn append(peer: &mut Peer, key: &str, frames: impl IntoIterator<Item = Bytes>) {
    let mut session = append_session(peer, key).await;
    for frame in frames {
        session.send(frame);
        session.expect_ack().await;
    }
    session.end();
    session.expect_end().await;
}

async fn append_once(peer: &mut Peer, stream: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let body = json!({"records": [{"headers": [["k", "v"]], "body": body}]}).to_string();
    let request = basin_request("POST", &records_path(stream)).header("content-type", "application/json");
    peer.call(with_headers(request.body(Bytes::from(body)).unwrap(), headers)).await
}

async fn read_once(peer: &mut Peer, stream: &str, query: &str, headers: &[(&str, &str)]) -> Reply {
    let request = basin_request("GET", &format!("{}?{query}", records_path(stream)));
    peer.call(with_headers(request.body(Bytes::new()).unwrap(), headers)).await
}

/// The statuses and codes of an append and a read, unary and as sessions, with these headers.
async fn outcomes(peer: &mut Peer, stream: &str, headers: &[(&str, &str)]) -> Vec<(u16, String)> {
    let of = |reply: Reply| {
        let code = match reply.status() {
            200 => String::new(),
            _ => reply.json()["code"].as_str().unwrap_or_default().to_owned(),
        };
        (reply.status(), code)
    };
    let mut found =
        vec![of(append_once(peer, stream, headers, "x").await), of(read_once(peer, stream, "count=0", headers).await)];
    for (method, query) in [("POST", ""), ("GET", "?count=0")] {
        let request = session_request(method, &format!("{}{query}", records_path(stream)));
        let mut opening = peer.open(with_headers(request, headers), method == "GET").await;
        if method == "POST" {
            opening.sending.send_data(Bytes::new(), true).unwrap();
        }
        found.push(of(opening.answered().await.reply().await));
    }
    found
}

#[tokio::test]
async fn records_go_in_and_come_out_in_every_way() {
    for cipher in CIPHERS {
        let (_gateway, mut peer) = gateway_with(cipher).await;
        let key = key(1);
        let mut follower = read_session(&mut peer, "seq_num=0", &key).await;
        assert_eq!(follower.expect_heartbeat().await, 0);
        append(&mut peer, &key, [input(["a", ""]), record(&[(b"", b"fence")], b"t"), record(&[(b"k", b"v")], b"b")])
            .await;
        let reply = append_once(&mut peer, "orders", &[(HEADER, &key)], "c").await;
        assert_eq!((reply.status(), reply.json()["start"]["seq_num"].as_u64()), (200, Some(4)));
        let expected = [(0, "a"), (1, ""), (2, "t"), (3, "b"), (4, "c")].map(|(n, body)| (n, Bytes::from(body)));
        assert_eq!(follower.expect_records(5).await, expected, "{cipher}");
        let mut late = read_session(&mut peer, "seq_num=0&count=5", &key).await;
        assert_eq!(late.expect_records(5).await, expected);
        late.expect_end().await;

        let reply = read_once(&mut peer, "orders", "seq_num=3", &[(HEADER, &key)]).await;
        let records = reply.json()["records"].clone();
        for (record, body) in records.as_array().unwrap().iter().zip(["b", "c"]) {
            assert_eq!((&record["headers"], &record["body"]), (&json!([["k", "v"]]), &json!(body)));
        }
        let headers = [(HEADER, key.as_str()), ("accept", "application/protobuf")];
        let protobuf = read_once(&mut peer, "orders", "seq_num=3", &headers).await;
        let batch = s2s_gateway::wire::decode_read_batch(protobuf.body).unwrap();
        assert_eq!(batch.records.iter().map(|record| &record.body[..]).collect::<Vec<_>>(), [b"b", b"c"]);
    }
}

#[tokio::test]
async fn large_batches_come_back_compressed_or_not() {
    for cipher in CIPHERS {
        let (gateway, mut peer) = gateway_with(cipher).await;
        let key = key(1);
        let bodies: Vec<_> = (0..1000).map(|n| format!("{n:01000}")).collect();
        // On connections of their own: what they have not read yet must not stop the acks.
        let mut followers = Vec::new();
        for encoding in ["identity", "gzip", "zstd"] {
            let headers = [(HEADER, key.as_str()), ("accept-encoding", encoding)];
            let mut connection = Peer::connect(&gateway).await;
            let mut follower = connection.read_session_with("orders", "seq_num=0", &headers).await;
            assert_eq!(follower.expect_heartbeat().await, 0);
            followers.push((connection, follower));
        }
        let largest = vec![b'x'; 1024 * 1024 - 8];
        append(&mut peer, &key, [frame(&message(&bodies)), frame(&message([&largest]))]).await;
        let expected: Vec<_> = (0..).zip(bodies.into_iter().map(Bytes::from)).collect();
        for (_, follower) in &mut followers {
            assert!(follower.expect_records(1000).await == expected);
            assert_eq!(follower.expect_records(1).await[0].1.len(), largest.len());
        }
    }
}

#[tokio::test]
async fn a_record_that_fills_a_frame_is_longer_than_one_when_stored() {
    // Headers of two bytes take twice their metered size, and what is around the ciphertext comes on top.
    let header: (&[u8], &[u8]) = (b"k", b"v");
    let widest = record(&vec![header; 262_130], b"");
    assert!(widest.len() > 2 * 1024 * 1024 - 200);
    let (_gateway, mut peer) = gateway_with("aegis-256").await;
    let key = key(1);
    append(&mut peer, &key, [input(["before"]), widest, input(["after"])]).await;
    let mut reader = read_session(&mut peer, "seq_num=0&count=3", &key).await;
    let mut read = Vec::new();
    while read.len() < 3 {
        read.extend(reader.expect_batch().await.records);
    }
    assert_eq!(read.iter().map(|record| record.headers.len()).collect::<Vec<_>>(), [0, 262_130, 0]);
}

#[tokio::test]
async fn frames_are_compressed_after_decryption() {
    let (_gateway, mut peer) = gateway_with("aegis-256").await;
    let key = key(1);
    append(&mut peer, &key, [input(["x".repeat(100_000)])]).await;
    let headers = [(HEADER, key.as_str()), ("accept-encoding", "zstd")];
    let mut reader = peer.read_session_with("orders", "seq_num=0&count=1", &headers).await;
    let (compression, _, body) = reader.expect_body().await;
    assert_eq!(compression, s2s_gateway::types::Compression::Zstd);
    assert!(body.len() < 1000, "ciphertext would not be this short: {}", body.len());
}

#[tokio::test]
async fn keys_that_do_not_do_are_bad_headers_and_leave_no_stream_behind() {
    let (cipher_free, bad) = (vec![(200, String::new()); 4], vec![(400, "bad_header".to_owned()); 4]);
    let of = |len: usize| STANDARD.encode(vec![1; len]);
    // What is given, and whether it is refused by syntax alone.
    let cases = [
        (None, false),
        (Some("%".repeat(44)), false),
        (Some("A".repeat(43)), false),
        (Some(of(31)), false),
        (Some(of(33)), false),
        (Some("x".into()), false),
        (Some(String::new()), true),
        (Some("A".repeat(45)), true),
        (Some(of(48)), true),
    ];
    for cipher in CIPHERS {
        let (_gateway, mut peer) = gateway_with(cipher).await;
        for (key, _) in &cases {
            let headers: Vec<_> = key.iter().map(|key| (HEADER, key.as_str())).collect();
            assert_eq!(outcomes(&mut peer, "orders", &headers).await, bad, "{cipher} {key:?}");
            assert_eq!(outcomes(&mut peer, "new", &headers).await, bad, "{cipher} {key:?}");
            let missing = peer.get(&stream_path("new")).await;
            missing.assert_error(404, "stream_not_found");
        }
        let key = key(1);
        let padded = format!(" {key} ");
        for key in [key, padded] {
            assert_eq!(outcomes(&mut peer, "orders", &[(HEADER, &key)]).await, cipher_free, "{key:?}");
        }
    }

    let gateway = Gateway::start().await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(&["orders"]).await;
    for (key, by_syntax) in &cases {
        let headers: Vec<_> = key.iter().map(|key| (HEADER, key.as_str())).collect();
        let expected = if *by_syntax { &bad } else { &cipher_free };
        assert_eq!(outcomes(&mut peer, "orders", &headers).await, *expected, "no cipher, {key:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_said_without_it() {
    let (_gateway, mut peer) = gateway_with("aes-256-gcm").await;
    let mut said = async |headers: &[(&str, &str)]| {
        let reply = read_once(&mut peer, "orders", "count=0", headers).await;
        reply.json()["message"].as_str().unwrap().to_owned()
    };
    assert!(said(&[]).await.contains("aes-256-gcm"));
    let short = STANDARD.encode("shortkey");
    let message = said(&[(HEADER, &short)]).await;
    assert!(message.contains("aes-256-gcm") && message.contains('8') && !message.contains(&short), "{message}");
    let message = said(&[(HEADER, "never!said!aloud")]).await;
    assert!(message.contains("base64") && !message.contains("never"), "{message}");
    let message = said(&[(HEADER, &"s".repeat(45))]).await;
    assert!(message.contains(HEADER) && message.contains("45") && !message.contains("sss"), "{message}");
}

#[tokio::test]
async fn the_key_comes_after_existence_and_before_the_range() {
    // errors.md §4.4, data-plane.md §2.2
    let (_gateway, mut peer) = gateway_with("aegis-256").await;
    read_once(&mut peer, "orders", "seq_num=99", &[]).await.assert_error(400, "bad_header");
    read_once(&mut peer, "orders", "seq_num=99", &[(HEADER, &key(1))]).await.assert_out_of_range(0);
    append_once(&mut peer, "orders", &[(HEADER, ""), ("s2-stream-config", "{")], "x")
        .await
        .assert_error(400, "bad_header");
    let invalid = basin_request("POST", &records_path("orders")).header("content-type", "application/json");
    let reply = peer.call(invalid.body(Bytes::from_static(br#"{"records":[]}"#)).unwrap()).await;
    reply.assert_error(422, "invalid");
    let elsewhere = any_request("GET", &records_path("orders")).header("s2-basin", "no-such-basin");
    peer.call(elsewhere.body(Bytes::new()).unwrap()).await.assert_error(404, "basin_not_found");
}

#[tokio::test]
async fn checking_the_tail_needs_no_key() {
    let (_gateway, mut peer) = gateway_with("aegis-256").await;
    append(&mut peer, &key(1), [input(["a", "b"])]).await;
    assert_eq!(peer.tail("orders").await, 2);
    assert_eq!(peer.tail("made by checking").await, 0);
}

#[tokio::test]
async fn a_wrong_key_ends_a_session_after_what_it_can_read_and_fails_a_unary_read() {
    for cipher in CIPHERS {
        let (_gateway, mut peer) = gateway_with(cipher).await;
        let (ours, theirs) = (key(1), key(2));
        append(&mut peer, &ours, [input(["a", "b"])]).await;
        append(&mut peer, &theirs, [record(&[(b"", b"fence")], b"t"), input(["c"])]).await;

        let mut reader = read_session(&mut peer, "seq_num=0", &ours).await;
        let expected = [(0, "a"), (1, "b"), (2, "t")].map(|(n, body)| (n, Bytes::from(body)));
        assert_eq!(reader.expect_records(3).await, expected, "{cipher}");
        reader.expect_failure(400, "decryption_failed").await;
        let mut reader = read_session(&mut peer, "seq_num=0", &theirs).await;
        reader.expect_failure(400, "decryption_failed").await;

        for query in ["seq_num=0", "seq_num=1&count=3", "seq_num=3"] {
            read_once(&mut peer, "orders", query, &[(HEADER, &ours)]).await.assert_error(400, "decryption_failed");
        }
        let reply = read_once(&mut peer, "orders", "seq_num=0&count=3", &[(HEADER, &ours)]).await;
        assert_eq!(reply.json()["records"].as_array().unwrap().len(), 3);

        let headers = [(HEADER, ours.as_str()), ("accept", "text/event-stream")];
        let events = read_once(&mut peer, "orders", "seq_num=1", &headers).await;
        let events = String::from_utf8(events.body.to_vec()).unwrap();
        let events: Vec<_> = events.split_terminator("\n\n").collect();
        let [batch, error] = events[..] else { panic!("{events:?}") };
        assert!(batch.starts_with("event: batch\nid: 2,2,"), "{batch}");
        assert!(error.starts_with("event: error\ndata: {\"code\":\"decryption_failed\","), "{error}");

        let mut follower = read_session(&mut peer, "", &theirs).await;
        assert_eq!(follower.expect_heartbeat().await, 4);
        append(&mut peer, &ours, [input(["d"])]).await;
        follower.expect_failure(400, "decryption_failed").await;
    }
}

#[tokio::test]
async fn limits_and_bounds_count_the_plaintext() {
    let (_gateway, mut peer) = gateway_with("aegis-256").await;
    let key = key(1);
    append(&mut peer, &key, [input(vec!["x".repeat(1040); 1000])]).await;
    let mut reader = read_session(&mut peer, "seq_num=0&bytes=3144", &key).await;
    assert_eq!(reader.expect_records(3).await.len(), 3);
    reader.expect_end().await;
    let mut session = append_session(&mut peer, &key).await;
    session.send(frame(&message([vec![b'x'; 1024 * 1024 - 7]])));
    session.expect_failure(422, "invalid").await;
}

#[tokio::test]
async fn listings_show_the_cipher() {
    let (_gateway, mut peer) = gateway_with("aes-256-gcm").await;
    // Also of one that an append makes (data-plane.md §10).
    assert_eq!(append_once(&mut peer, "made", &[(HEADER, &key(1))], "x").await.status(), 200);
    let streams = peer.get("/v1/streams").await.json();
    for (i, stream) in ["made", "orders"].into_iter().enumerate() {
        assert_eq!(
            (&streams["streams"][i]["name"], &streams["streams"][i]["cipher"]),
            (&json!(stream), &json!("aes-256-gcm"))
        );
    }
    let basin = peer.get(&format!("/v1/basins/{BASIN}")).await.json();
    assert_eq!(basin["stream_cipher"], "aes-256-gcm");
}
