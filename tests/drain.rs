//! Stopping: who works gets to finish, who does not is told in time, and the process ends (`s2s.md` §8).

mod support;

use std::time::Duration;

use h2::Reason;
use s2s_gateway::wire::{Advice, Frame};
use tokio::net::TcpStream;

use self::support::{
    Gateway, Setup,
    http1::Http1,
    peer::{BASIN, Peer, Session, basin_request, input, records_path, settings, within},
    raw::{self, RawPeer},
    still_time::StillTime,
};

/// Never reached: the sessions of these tests end by themselves.
const LONG: Duration = Duration::from_secs(600);

/// The deadline of the tests that come to it.
const SHORT: Duration = Duration::from_millis(300);

/// What the gateway may take after its deadline.
const LAST_FRAMES: Duration = Duration::from_secs(2);

async fn gateway_that_drains(for_at_most: Duration) -> (Gateway, Peer) {
    let gateway = Setup::drain_timeout(for_at_most).start().await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(&["orders"]).await;
    (gateway, peer)
}

/// Tells the gateway to stop, and waits until it takes no connections.
async fn stop_accepting(gateway: &mut Gateway) {
    gateway.tell_to_stop();
    within(async {
        while TcpStream::connect(gateway.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn expect_advice(session: &mut Session, advice: Advice) {
    assert_eq!(session.expect_message().await.1, advice);
}

#[tokio::test]
async fn sessions_are_told_to_move_and_go_on_until_they_do() {
    let (mut gateway, mut peer) = gateway_that_drains(LONG).await;
    let mut reader = peer.read_session("orders", "seq_num=0").await;
    expect_advice(&mut reader, Advice::None).await;
    let mut writer = peer.append_session("orders").await;
    writer.send(input(["before"]));
    expect_advice(&mut writer, Advice::None).await;
    expect_advice(&mut reader, Advice::None).await;

    stop_accepting(&mut gateway).await;
    for _ in 0..3 {
        writer.send(input(["x".repeat(10), "y".repeat(5000)]));
        expect_advice(&mut writer, Advice::Reconnect).await;
        expect_advice(&mut reader, Advice::Reconnect).await;
    }
    // What clients do: half-close, take the acks of all in flight, and see a clean end.
    for _ in 0..100 {
        writer.send(input(["last words"]));
    }
    writer.end();
    for n in 7..107 {
        assert_eq!(writer.expect_acked().await, (n, n + 1));
    }
    writer.expect_end().await;
    assert_eq!(reader.expect_records(100).await.len(), 100);
    reader.reset();
    // With its last session the connection ends, and with its last connection the gateway.
    assert_eq!(peer.closed().await, Reason::NO_ERROR);
    within(gateway.stop()).await;
}

#[tokio::test]
async fn compressed_frames_carry_the_advice_as_well() {
    let (mut gateway, mut peer) = gateway_that_drains(LONG).await;
    let mut reader = peer.read_session_with("orders", "", &[("accept-encoding", "zstd")]).await;
    reader.expect_heartbeat().await;
    let mut writer = peer.append_session("orders").await;
    stop_accepting(&mut gateway).await;
    writer.send(input(["x".repeat(5000)]));
    writer.expect_ack().await;
    let (message, advice) = reader.expect_message().await;
    assert!(message.len() > 5000 && advice == Advice::Reconnect);
}

#[tokio::test]
async fn a_session_opened_before_the_goaway_was_seen_is_served() {
    let (mut gateway, mut peer) = gateway_that_drains(LONG).await;
    let mut keeps_it_open = peer.append_session("orders").await;
    gateway.tell_to_stop();
    let mut late = peer.append_session("orders").await;
    late.send(input(["x"]));
    late.expect_ack().await;
    late.end();
    late.expect_end().await;
    keeps_it_open.end();
    keeps_it_open.expect_end().await;
    within(gateway.stop()).await;
}

#[tokio::test]
async fn connections_are_told_to_go_away() {
    let (mut gateway, mut peer) = gateway_that_drains(LONG).await;
    let mut raw = RawPeer::connect(&gateway).await;
    let path = records_path("orders");
    let head: [(&str, &[u8]); 6] = [
        (":method", b"GET"),
        (":scheme", b"http"),
        (":authority", b"localhost"),
        (":path", path.as_bytes()),
        ("content-type", b"s2s/proto"),
        ("s2-basin", BASIN.as_bytes()),
    ];
    raw.send(&raw::headers(raw::END_STREAM, 1, &head)).await;
    assert_eq!(raw.next_frame().await.unwrap().kind, raw::HEADERS);
    assert_eq!(raw.next_frame().await.unwrap().kind, raw::DATA);
    let mut session = peer.append_session("orders").await;

    stop_accepting(&mut gateway).await;
    // First that the connection goes, then, after a round trip, with which stream it ends; both without an error.
    for last_stream in [0x7fff_ffff, 1] {
        let goaway = raw.next_frame().await.unwrap();
        assert_eq!(goaway.kind, raw::GOAWAY, "{goaway:?}");
        assert_eq!(goaway.payload[..8], [&u32::to_be_bytes(last_stream)[..], &[0; 4]].concat());
    }
    assert!(!peer.takes_requests().await, "clients open no more streams there");
    session.end();
    session.expect_end().await;
}

#[tokio::test]
async fn who_is_still_there_at_the_deadline_is_told() {
    let (mut gateway, mut peer) = gateway_that_drains(SHORT).await;
    let mut reader = peer.read_session("orders", "seq_num=0").await;
    reader.expect_heartbeat().await;
    let mut idle = peer.append_session("orders").await;
    let mut writer = peer.append_session("orders").await;
    let mut other = Peer::connect(&gateway).await;
    let mut over_http1 = Http1::over(TcpStream::connect(gateway.address).await.unwrap());
    let session = [("s2-basin", BASIN), ("content-type", "s2s/proto"), ("transfer-encoding", "chunked")];
    over_http1.send_head("POST", &records_path("orders"), &session).await;
    assert_eq!(over_http1.head().await.status, 200);
    assert!(other.takes_requests().await);
    other.ping().await;

    let time = StillTime::begin();
    stop_accepting(&mut gateway).await;
    // Appends as long as it is let, with one input always cut in half.
    let whole = input(["x"]);
    let (front, back) = (whole.slice(..5), whole.slice(5..));
    writer.send(front.clone());
    let mut acks = 0;
    let (status, body) = loop {
        if acks == 20 {
            time.pass(SHORT).await;
        }
        writer.send([&back[..], &front[..]].concat());
        match writer.next_frame().await.expect("not the end without a word") {
            Frame::Message { .. } => acks += 1,
            Frame::Terminal(terminal) => break (terminal.status, terminal.body),
        }
    };
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["code"]), (503, &serde_json::json!("server_draining")));
    writer.expect_end().await;
    assert!(acks >= 20, "{acks} acks");

    idle.expect_failure(503, "server_draining").await;
    // The reader has seen just what was acknowledged: what was not, had no effect.
    let mut seen = 0;
    loop {
        match reader.next_frame().await.unwrap() {
            Frame::Message { body, .. } => {
                seen += s2s_gateway::wire::decode_read_batch(body).unwrap().records.len();
            }
            Frame::Terminal(terminal) => {
                assert_eq!(terminal.status, 503);
                break;
            }
        }
    }
    reader.expect_end().await;
    assert_eq!(seen, acks);
    let last = over_http1.chunk().await.unwrap();
    assert_eq!(last[3..6], [0x80, 1, 0xf7], "a terminal frame with 503");
    assert_eq!(over_http1.chunk().await, None);

    // What they still send is thrown away for a moment.
    time.pass(LAST_FRAMES).await;
    within(gateway.stop()).await;
}

#[tokio::test]
async fn who_does_not_listen_is_left() {
    let (mut gateway, mut peer) = gateway_that_drains(SHORT).await;
    let mut deaf = Peer::connect_with(&gateway, settings().initial_window_size(0)).await;
    let _reader = deaf.read_session("orders", "").await;
    let mut writer = deaf.append_session("orders").await;
    writer.send(input(["x"]));
    deaf.ping().await;
    let mut silent = RawPeer::connect(&gateway).await;
    silent.send(&raw::frame(raw::PING, 0, 0, &[0; 8])).await;
    let _before_its_preface = TcpStream::connect(gateway.address).await.unwrap();
    peer.ping().await;

    let time = StillTime::begin();
    stop_accepting(&mut gateway).await;
    for deadline in [SHORT, LAST_FRAMES] {
        deaf.ping().await;
        assert!(!gateway.has_stopped());
        time.pass(deadline).await;
    }
    within(gateway.stop()).await;
    assert_ne!(deaf.closed().await, Reason::PROTOCOL_ERROR);
}

#[tokio::test]
async fn who_waits_for_records_at_the_deadline_is_told() {
    let (mut gateway, mut peer) = gateway_that_drains(SHORT).await;
    let wait = basin_request("GET", &format!("{}?seq_num=0&wait=60", records_path("orders"))).body(()).unwrap();
    let long_poll = peer.open(wait, true).await;
    peer.ping().await;
    let time = StillTime::begin();
    stop_accepting(&mut gateway).await;
    peer.ping().await;
    assert!(!gateway.has_stopped());
    time.pass(SHORT).await;
    // Nothing is left to be waited for.
    within(gateway.stop()).await;
    let reply = long_poll.answered().await.reply().await;
    reply.assert_error(503, "server_draining");
    assert!(reply.header("retry-after-ms").is_some());
    drop(time);
}

#[tokio::test]
async fn nobody_there_nothing_to_wait_for() {
    let (gateway, peer) = gateway_that_drains(LONG).await;
    let mut idle = Http1::over(TcpStream::connect(gateway.address).await.unwrap());
    idle.send_head("GET", "/health", &[]).await;
    assert_eq!(idle.response().await.0.status, 200);
    // Idle connections do not hold it up: they are closed, each in the manner of its protocol.
    within(gateway.stop()).await;
    assert!(idle.closed().await.is_empty());
    assert_eq!(peer.closed().await, Reason::NO_ERROR);
}

#[tokio::test]
async fn a_unary_call_in_flight_is_answered() {
    let (mut gateway, mut peer) = gateway_that_drains(LONG).await;
    let append = basin_request("POST", &records_path("orders")).header("content-type", "application/json");
    let mut opening = peer.open(append.body(()).unwrap(), false).await;
    peer.ping().await;
    stop_accepting(&mut gateway).await;
    opening.sending.send_data(r#"{"records":[{"body":"x"}]}"#.into(), true).unwrap();
    assert_eq!(opening.answered().await.reply().await.status(), 200);
    within(gateway.stop()).await;
}
