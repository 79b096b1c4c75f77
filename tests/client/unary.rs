//! Calls with one answer, and the connection that they share.

use http::Response;
use s2s_gateway::{
    client::{ClientError, Ensured},
    types::{ErrorCode, Position},
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
