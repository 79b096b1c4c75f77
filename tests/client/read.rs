//! Read sessions (`s2s.md` §7, §8).

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use h2::Reason;
use s2s_gateway::{
    client::{Awaited, ClientError, EncryptionKey, ProtocolError, ReadOptions, ReadSession, RetryPolicy},
    types::{ApiError, Batch, Compression, ErrorCode, Position, ReadBounds, ReadRequest, ReadStart, SeqNum, Timestamp},
    wire::{self, Advice, RecordsWriter, heartbeat_frame},
};

use crate::{coded, peer::Peer, refusal, stream};

fn from(seq_num: u64) -> ReadRequest {
    ReadRequest { start: ReadStart::SeqNum(SeqNum::new(seq_num)), ..ReadRequest::default() }
}

/// A frame of records numbered from `first`, all of the body `x`, metered 9 each.
fn batch(first: u64, count: usize, tail: Option<u64>, advice: Advice) -> Bytes {
    let mut records = RecordsWriter::new();
    (0..count).for_each(|_| records.push(None, [], b"x"));
    let batch = Batch::sequence(&records.into_batch().unwrap(), SeqNum::new(first), |_| Timestamp::new(7));
    let tail = tail.map(|seq_num| Position::new(seq_num, 7));
    wire::read_frames(&[batch.whole()], tail, Compression::None, advice).into_bytes()
}

fn records(first: u64, count: usize) -> Bytes {
    batch(first, count, None, Advice::None)
}

fn heartbeat(tail: u64) -> Bytes {
    heartbeat_frame(Position::new(tail, 7), Advice::None)
}

/// All numbers that come, to the end or the failure.
async fn rest(session: &mut ReadSession) -> (Vec<u64>, Option<ClientError>) {
    let mut numbers = Vec::new();
    while let Some(batch) = session.next_batch().await {
        match batch {
            Ok(batch) => numbers.extend(batch.records.iter().map(|record| record.seq_num.get())),
            Err(error) => return (numbers, Some(error)),
        }
    }
    (numbers, None)
}

#[tokio::test]
async fn batches_and_heartbeats_come_to_a_clean_end() {
    let peer = Peer::bind().await;
    let bounds = ReadBounds { count: Some(3), ..ReadBounds::default() };
    let request = ReadRequest { bounds, wait: Some(Duration::from_secs(9)), ..from(0) };
    let key = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
    let options =
        ReadOptions { compression: Compression::Gzip, encryption_key: Some(EncryptionKey::new(key).unwrap()) };
    let mut session = peer.client().read_session(&stream(), request, options);
    let server = async {
        let (connection, exchange) = peer.request().await;
        assert_eq!(exchange.request.method(), "GET");
        assert_eq!(exchange.path_and_query(), "/v1/streams/orders%2Feu/records?seq_num=0&count=3&wait=9");
        assert_eq!(exchange.header("content-type"), Some("s2s/proto"));
        assert_eq!(exchange.header("accept-encoding"), Some("gzip"));
        assert_eq!(exchange.header("s2-encryption-key"), Some(key));
        assert!(exchange.request.body().is_end_stream(), "a read has no body");
        let mut server = exchange.accept();
        server.frame(records(0, 2));
        server.frame(heartbeat(2));
        server.frame(batch(2, 1, Some(3), Advice::None));
        server.end();
        connection
    };
    let client = async {
        let mut seen = Vec::new();
        while let Some(batch) = session.next_batch().await {
            let batch = batch.unwrap();
            seen.push((batch.records.len(), batch.tail.map(|tail| tail.seq_num.get())));
        }
        seen
    };
    let (seen, _connection) = tokio::join!(client, server);
    assert_eq!(seen, [(2, None), (0, Some(2)), (1, Some(3))]);
}

#[tokio::test]
async fn a_broken_session_goes_on_where_it_was() {
    // s2s.md §7.6: next number, count and bytes reduced, until and clamp kept
    let peer = Peer::bind().await;
    let bounds = ReadBounds { count: Some(10), bytes: Some(1000), until: Some(Timestamp::new(99)) };
    let request = ReadRequest { bounds, clamp: true, start: ReadStart::TailOffset(5), wait: None };
    let mut session = peer.client().read_session(&stream(), request, ReadOptions::default());
    let server = async {
        let (first, exchange) = peer.request().await;
        assert!(exchange.path_and_query().ends_with("?tail_offset=5&clamp=true&count=10&bytes=1000&until=99"));
        let mut server = exchange.accept();
        server.frame(records(40, 3));
        server.break_off();
        let (second, exchange) = peer.request().await;
        assert!(exchange.path_and_query().ends_with("?seq_num=43&clamp=true&count=7&bytes=973&until=99"));
        let mut server = exchange.accept();
        server.frame(records(43, 7));
        server.end();
        (first, second)
    };
    let ((numbers, error), _connections) = tokio::join!(rest(&mut session), server);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(numbers, (40..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reset_session_goes_on_where_it_was() {
    let peer = Peer::bind().await;
    let mut session = peer.client().read_session(&stream(), from(0), ReadOptions::default());
    let server = async {
        let (connection, mut server) = peer.session().await;
        server.frame(records(0, 1));
        (connection, server)
    };
    let (delivered, (_first, server)) = tokio::join!(session.next_batch(), server);
    assert_eq!(delivered.unwrap().unwrap().records.len(), 1);
    server.reset(Reason::INTERNAL_ERROR);
    let server = async {
        let (second, exchange) = peer.request().await;
        assert!(exchange.path_and_query().ends_with("?seq_num=1"));
        let mut server = exchange.accept();
        server.frame(records(1, 1));
        server.end();
        second
    };
    let ((numbers, error), _second) = tokio::join!(rest(&mut session), server);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(numbers, [1]);
}

#[tokio::test]
async fn a_count_used_up_needs_no_second_session() {
    let peer = Peer::bind().await;
    let bounds = ReadBounds { count: Some(2), ..ReadBounds::default() };
    let mut session = peer.client().read_session(&stream(), ReadRequest { bounds, ..from(0) }, ReadOptions::default());
    let server = async {
        let (connection, mut server) = peer.session().await;
        server.frame(records(0, 2));
        server.break_off();
        connection
    };
    let ((numbers, error), _connection) = tokio::join!(rest(&mut session), server);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(numbers, [0, 1]);
}

#[tokio::test]
async fn advice_and_drain_move_the_session_and_cost_no_attempt() {
    let peer = Peer::bind().await;
    let policy = RetryPolicy { attempts: NonZeroU32::MIN, ..RetryPolicy::default() };
    let mut session = peer.client_with(policy).read_session(&stream(), from(0), ReadOptions::default());
    let server = async {
        let (first, mut server) = peer.session().await;
        server.frame(batch(0, 2, None, Advice::Reconnect));
        let (second, exchange) = peer.request().await;
        assert!(exchange.path_and_query().ends_with("?seq_num=2"));
        let mut server = exchange.accept();
        // Within the minute advice is not followed again.
        server.frame(batch(2, 1, Some(3), Advice::Reconnect));
        server.frame(batch(3, 1, Some(4), Advice::Reconnect));
        server.terminal(&coded(ErrorCode::ServerDraining));
        let (third, exchange) = peer.request().await;
        assert!(exchange.path_and_query().ends_with("?seq_num=4"));
        exchange.accept().end();
        (first, second, third)
    };
    let ((numbers, error), _connections) = tokio::join!(rest(&mut session), server);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(numbers, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_resumed_read_that_has_come_to_the_tail_is_over() {
    let peer = Peer::bind().await;
    let bounds = ReadBounds { count: Some(9), ..ReadBounds::default() };
    let mut session = peer.client().read_session(&stream(), ReadRequest { bounds, ..from(0) }, ReadOptions::default());
    let tail = Position::new(2, 7);
    let server = async {
        let (first, mut server) = peer.session().await;
        server.frame(records(0, 2));
        server.break_off();
        let (second, exchange) = peer.request().await;
        exchange.refuse(&ApiError::OutOfRange { tail });
        (first, second)
    };
    let ((numbers, error), _connections) = tokio::join!(rest(&mut session), server);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(numbers, [0, 1]);
}

#[tokio::test]
async fn a_start_out_of_range_is_told_with_the_tail() {
    let peer = Peer::bind().await;
    let mut session = peer.client().read_session(&stream(), from(100), ReadOptions::default());
    let tail = Position::new(45, 1_713_812_735_012);
    let server = async {
        let (connection, exchange) = peer.request().await;
        exchange.refuse(&ApiError::OutOfRange { tail });
        connection
    };
    let ((_, error), _connection) = tokio::join!(rest(&mut session), server);
    assert_eq!(*refusal(&error.unwrap()), ApiError::OutOfRange { tail });
}

#[tokio::test]
async fn what_cannot_be_is_not_delivered() {
    for (frames, wrong) in [
        (
            vec![records(0, 2), records(1, 1)],
            ProtocolError::ReadOrder { expected: SeqNum::new(2), found: SeqNum::new(1) },
        ),
        (vec![Bytes::from_static(b"\0\0\x01\0")], ProtocolError::EmptyBatch),
    ] {
        let peer = Peer::bind().await;
        let mut session = peer.client().read_session(&stream(), from(0), ReadOptions::default());
        let server = async {
            let (connection, mut server) = peer.session().await;
            frames.into_iter().for_each(|frame| server.frame(frame));
            (connection, server)
        };
        let ((_, error), _server) = tokio::join!(rest(&mut session), server);
        assert!(matches!(&error, Some(ClientError::Protocol(found)) if *found == wrong), "{error:?}");
    }
}

#[tokio::test]
async fn twenty_silent_seconds_are_a_dead_connection() {
    // s2s.md §7.2
    let peer = Peer::bind().await;
    let policy = RetryPolicy { attempts: NonZeroU32::new(2).unwrap(), ..RetryPolicy::default() };
    let mut session = peer.client_with(policy).read_session(&stream(), from(0), ReadOptions::default());
    let client = async {
        assert!(session.next_batch().await.unwrap().unwrap().records.is_empty());
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(20_001)).await;
        tokio::time::resume();
        rest(&mut session).await
    };
    let server = async {
        let (first, mut server) = peer.session().await;
        server.frame(heartbeat(5));
        let (second, exchange) = peer.request().await;
        assert!(exchange.path_and_query().ends_with("?seq_num=5"), "the heartbeat settled where it was");
        let mut next = exchange.accept();
        next.frame(records(5, 1));
        next.end();
        (first, server, second)
    };
    let ((numbers, error), _connections) = tokio::join!(client, server);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(numbers, [5]);
}

#[tokio::test]
async fn silence_without_another_attempt_is_reported() {
    let peer = Peer::bind().await;
    let policy = RetryPolicy { attempts: NonZeroU32::MIN, ..RetryPolicy::default() };
    let mut session = peer.client_with(policy).read_session(&stream(), from(0), ReadOptions::default());
    let server = async {
        let (connection, mut server) = peer.session().await;
        server.frame(heartbeat(0));
        (connection, server)
    };
    let (heard, _server) = tokio::join!(session.next_batch(), server);
    heard.unwrap().unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(20_001)).await;
    tokio::time::resume();
    let (_, error) = rest(&mut session).await;
    assert!(matches!(error, Some(ClientError::TimedOut { awaited: Awaited::Frame, .. })), "{error:?}");
}
