//! Calls with one answer, and the connection that they share.

use http::Response;
use s2s_gateway::{
    client::{ClientError, EncryptionKey, Ensured, JsonInput, ProtocolError},
    types::{AccessTokenId, AccessTokenIdPart, AccessTokenInfo, ErrorCode, Operation, Position, Scope, StreamNamePart},
    wire::params::ListRequest,
};

use crate::{coded, peer::Peer, refusal, stream};

const TAIL: &str = r#"{"tail":{"seq_num":45,"timestamp":7}}"#;

fn tail() -> Response<&'static str> {
    Response::builder().header("content-type", "application/json").body(TAIL).unwrap()
}

#[tokio::test]
async fn calls_share_a_connection_until_it_goes_away() {
    let peer = Peer::bind().await;
    let client = peer.client();
    let (target, expected) = (stream(), Position::new(45, 7));
    let server = async {
        let (mut first, exchange) = peer.request().await;
        assert_eq!(exchange.request.method(), "GET");
        assert_eq!(exchange.path_and_query(), "/v1/streams/orders%2Feu/records/tail");
        exchange.answer(tail());
        first.request().await.answer(tail());
        first
    };
    let calls = async { (client.check_tail(&target).await.unwrap(), client.check_tail(&target).await.unwrap()) };
    let (tails, first) = tokio::join!(calls, server);
    assert_eq!(tails, (expected, expected));

    first.go_away();
    first.closed().await;
    let server = async {
        let (second, exchange) = peer.request().await;
        exchange.answer(tail());
        second
    };
    let (tail, _second) = tokio::join!(client.check_tail(&target), server);
    assert_eq!(tail.unwrap(), expected);
}

fn ack(start: u64, end: u64) -> Response<String> {
    let at = |seq_num| format!(r#"{{"seq_num":{seq_num},"timestamp":7}}"#);
    Response::new(format!(r#"{{"start":{},"end":{},"tail":{}}}"#, at(start), at(end), at(end)))
}

#[tokio::test]
async fn an_append_of_one_request() {
    // data-plane.md §2, §6, §11
    let peer = Peer::bind().await;
    let client = peer.client();
    let (target, input) = (stream(), JsonInput::new([&b"hello"[..], b"\xff"]));
    let secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let server = async {
        let (mut connection, exchange) = peer.request().await;
        let asked = (exchange.request.method().as_str(), exchange.path_and_query());
        assert_eq!(asked, ("POST", "/v1/streams/orders%2Feu/records"));
        for (name, value) in [
            ("content-type", "application/json"),
            ("s2-basin", "my-basin-01"),
            ("s2-format", "base64"),
            ("s2-encryption-key", secret),
        ] {
            assert_eq!(exchange.header(name), Some(value));
        }
        exchange.answer(ack(5, 7));
        connection.request().await.answer(ack(7, 8));
        connection
    };
    let calls = async {
        let key = EncryptionKey::new(secret).unwrap();
        let ack = client.append(&target, &input, Some(key)).await.unwrap();
        assert_eq!((ack.start, ack.end), (Position::new(5, 7), Position::new(7, 7)));
        client.append(&target, &input, None).await.unwrap_err()
    };
    let (error, _connection) = tokio::join!(calls, server);
    let miscounted = ProtocolError::AckCount { sent: 2, acked: 1 };
    assert!(matches!(&error, ClientError::Protocol(error) if *error == miscounted), "{error:?}");
}

#[tokio::test]
async fn a_create_comes_again_under_the_same_token() {
    // errors.md §5.2
    let peer = Peer::bind().await;
    let client = peer.client();
    let target = stream();
    let server = async {
        let (mut connection, exchange) = peer.request().await;
        assert_eq!((exchange.request.method().as_str(), exchange.path_and_query()), ("POST", "/v1/basins"));
        assert_eq!(exchange.header("content-type"), Some("application/json"));
        let token = exchange.header("s2-request-token").unwrap().to_owned();
        assert!(!token.is_empty() && token.len() <= 36);
        exchange.refuse(&coded(ErrorCode::Unavailable));
        let exchange = connection.request().await;
        assert_eq!(exchange.header("s2-request-token"), Some(token.as_str()));
        exchange.answer(Response::builder().status(201).body("{}").unwrap());
        connection
    };
    let (created, _connection) = tokio::join!(client.ensure_basin(&target.basin), server);
    assert_eq!(created.unwrap(), Ensured::Created);
}

#[tokio::test]
async fn what_exists_is_left_as_it_is() {
    let peer = Peer::bind().await;
    let client = peer.client();
    let target = stream();
    let server = async {
        let (mut connection, exchange) = peer.request().await;
        assert_eq!((exchange.request.method().as_str(), exchange.path_and_query()), ("POST", "/v1/streams"));
        assert_eq!(exchange.header("s2-basin"), Some("my-basin-01"));
        exchange.refuse(&coded(ErrorCode::ResourceAlreadyExists));
        connection.request().await.refuse(&coded(ErrorCode::StreamDeletionPending));
        connection
    };
    let calls = async {
        assert_eq!(client.ensure_stream(&target).await.unwrap(), Ensured::Existed);
        client.ensure_stream(&target).await.unwrap_err()
    };
    let (error, _connection) = tokio::join!(calls, server);
    assert_eq!(*refusal(&error), coded(ErrorCode::StreamDeletionPending));
}

#[tokio::test]
async fn an_error_that_is_not_json_keeps_its_status() {
    let peer = Peer::bind().await;
    let client = peer.client();
    let target = stream();
    let server = async {
        let (connection, exchange) = peer.request().await;
        exchange.answer(Response::builder().status(404).body("<html>").unwrap());
        connection
    };
    let (error, _connection) = tokio::join!(client.check_tail(&target), server);
    assert!(matches!(&error, Err(ClientError::Server { error, .. }) if error.status() == 404), "{error:?}");
}

#[tokio::test]
async fn a_listing_is_asked_for_page_by_page() {
    // control-plane.md §4.7
    let peer = Peer::bind().await;
    let client = peer.client();
    let target = stream();
    let part = |text: &str| StreamNamePart::new(text).unwrap();
    let request = ListRequest { prefix: part("orders/"), start_after: part("orders/a&b"), limit: 2 };
    let server = async {
        let (connection, exchange) = peer.request().await;
        let expected = "/v1/streams?limit=2&prefix=orders%2F&start_after=orders%2Fa%26b";
        assert_eq!((exchange.request.method().as_str(), exchange.path_and_query()), ("GET", expected));
        assert_eq!(exchange.header("s2-basin"), Some("my-basin-01"));
        let page = r#"{"streams":[{"name":"orders/eu","created_at":"2026-10-30T12:00:00Z"}],"has_more":true}"#;
        exchange.answer(Response::builder().body(page).unwrap());
        connection
    };
    let (page, _connection) = tokio::join!(client.list_streams(&target.basin, &request), server);
    let page = page.unwrap();
    assert_eq!((page.entries[0].name.as_str(), page.has_more), ("orders/eu", true));
}

#[tokio::test]
async fn a_token_is_not_issued_twice() {
    let peer = Peer::bind().await;
    let client = peer.client();
    let wanted = AccessTokenInfo {
        id: AccessTokenId::new("tenant/42").unwrap(),
        expires_at: None,
        auto_prefix_streams: false,
        scope: Scope { ops: [Operation::Read].into_iter().collect(), ..Scope::default() },
    };
    let server = async {
        let (mut connection, exchange) = peer.request().await;
        assert_eq!((exchange.request.method().as_str(), exchange.path_and_query()), ("POST", "/v1/access-tokens"));
        exchange.refuse(&coded(ErrorCode::TransactionConflict));
        connection.request().await.refuse(&coded(ErrorCode::Unavailable));
        let exchange = connection.request().await;
        assert_eq!(exchange.path_and_query(), "/v1/access-tokens/tenant%2F42", "nobody knows the secret");
        assert_eq!(exchange.request.method(), "DELETE");
        exchange.answer(Response::builder().status(204).body("").unwrap());
        connection
            .request()
            .await
            .answer(Response::builder().body(r#"{"access_tokens":[],"has_more":false}"#).unwrap());
        connection
    };
    let calls = async {
        let error = client.issue_access_token(&wanted).await.unwrap_err();
        assert_eq!(*refusal(&error), coded(ErrorCode::Unavailable), "it may have been issued");
        client.revoke_access_token(&wanted.id).await.unwrap();
        let part = AccessTokenIdPart::default();
        let all = ListRequest { prefix: part.clone(), start_after: part, limit: 1000 };
        assert!(client.list_access_tokens(&all).await.unwrap().entries.is_empty());
    };
    let ((), _connection) = tokio::join!(calls, server);
}

#[tokio::test]
async fn deletions_may_come_again() {
    let peer = Peer::bind().await;
    let client = peer.client();
    let target = stream();
    let server = async {
        let (mut connection, exchange) = peer.request().await;
        assert_eq!(
            (exchange.request.method().as_str(), exchange.path_and_query()),
            ("DELETE", "/v1/streams/orders%2Feu")
        );
        assert_eq!(exchange.header("s2-basin"), Some("my-basin-01"));
        exchange.refuse(&coded(ErrorCode::Unavailable));
        connection.request().await.answer(Response::builder().status(202).body("").unwrap());
        let exchange = connection.request().await;
        assert_eq!(
            (exchange.request.method().as_str(), exchange.path_and_query()),
            ("DELETE", "/v1/basins/my-basin-01")
        );
        exchange.answer(Response::builder().status(202).body("").unwrap());
        connection
    };
    let calls = async {
        client.delete_stream(&target).await.unwrap();
        client.delete_basin(&target.basin).await.unwrap();
    };
    let ((), _connection) = tokio::join!(calls, server);
}
