//! What each operation answers while a basin or a stream is missing, there, or being deleted: the table of
//! `control-plane.md` §9, column by column. Deletion stands still as long as a test looks at it.

mod support;

use std::sync::Arc;

use bytes::Bytes;

use self::support::{
    Gateway, Setup,
    keeping_store::KeepingStore,
    peer::{BASIN, Peer, basin_request, records_path, session_request, stream_path, within},
};

/// A gateway on which nothing that is deleted goes before it may.
async fn gateway() -> (Gateway, Arc<KeepingStore>, Peer) {
    let store = KeepingStore::new();
    let gateway = Setup::default().start_over(store.clone()).await;
    let peer = Peer::connect(&gateway).await;
    (gateway, store, peer)
}

/// A status, and the code of an error.
type Expected = (u16, Option<&'static str>);

const fn done(status: u16) -> Expected {
    (status, None)
}

const NO_BASIN: Expected = (404, Some("basin_not_found"));
const NO_STREAM: Expected = (404, Some("stream_not_found"));
const EXISTS: Expected = (409, Some("resource_already_exists"));
const BASIN_GOES: Expected = (409, Some("basin_deletion_pending"));
const STREAM_GOES: Expected = (409, Some("stream_deletion_pending"));

async fn answers(peer: &mut Peer, method: &str, path: &str, body: &str, (status, code): Expected) {
    let reply = peer.json(method, path, body.to_owned()).await;
    println!("{method} {path} {body}: {reply:?}");
    match code {
        Some(code) => reply.assert_error(status, code),
        None => assert_eq!(reply.status(), status),
    }
}

fn basin_path() -> String {
    format!("/v1/basins/{BASIN}")
}

/// The columns of a basin's row: create, ensure, PATCH, GET.
async fn basin_answers(peer: &mut Peer, [create, ensure, patch, get]: [Expected; 4]) {
    answers(peer, "GET", &basin_path(), "", get).await;
    answers(peer, "PATCH", &basin_path(), "{}", patch).await;
    answers(peer, "POST", "/v1/basins", &format!(r#"{{"basin":"{BASIN}"}}"#), create).await;
    answers(peer, "PUT", &basin_path(), "", ensure).await;
}

/// The columns of a stream's row: create, ensure, PATCH, GET.
async fn stream_answers(peer: &mut Peer, [create, ensure, patch, get]: [Expected; 4]) {
    answers(peer, "GET", &stream_path("orders"), "", get).await;
    answers(peer, "PATCH", &stream_path("orders"), "{}", patch).await;
    answers(peer, "POST", "/v1/streams", r#"{"stream":"orders"}"#, create).await;
    answers(peer, "PUT", &stream_path("orders"), "", ensure).await;
}

/// Every operation of the data plane is refused with this error.
async fn data_plane_refuses(peer: &mut Peer, (status, code): Expected) {
    let code = code.expect("an error");
    let records = records_path("orders");
    answers(peer, "POST", &records, r#"{"records":[{}]}"#, (status, Some(code))).await;
    answers(peer, "GET", &format!("{records}?seq_num=0"), "", (status, Some(code))).await;
    answers(peer, "GET", &format!("{records}/tail"), "", (status, Some(code))).await;
    let events = basin_request("GET", &records).header("accept", "text/event-stream");
    peer.call(events.body(Bytes::new()).unwrap()).await.assert_error(status, code);
    for method in ["POST", "GET"] {
        let session = peer.open(session_request(method, &records), true).await;
        session.answered().await.reply().await.assert_error(status, code);
    }
}

/// The listed entry of this name, if it is listed.
async fn listed(peer: &mut Peer, of: &str, name: &str) -> Option<serde_json::Value> {
    let page = peer.get(&format!("/v1/{of}")).await.json();
    page[of].as_array().unwrap().iter().find(|info| info["name"] == name).cloned()
}

#[tokio::test]
async fn a_basin_that_is_missing_and_one_that_is_there() {
    let (_gateway, _store, mut peer) = gateway().await;
    answers(&mut peer, "DELETE", &basin_path(), "", NO_BASIN).await;
    data_plane_refuses(&mut peer, NO_BASIN).await;
    stream_answers(&mut peer, [NO_BASIN; 4]).await;
    answers(&mut peer, "GET", "/v1/streams", "", NO_BASIN).await;
    assert_eq!(listed(&mut peer, "basins", BASIN).await, None);
    // Create makes it, and then it is there.
    basin_answers(&mut peer, [done(201), done(200), NO_BASIN, NO_BASIN]).await;
    basin_answers(&mut peer, [EXISTS, done(200), done(200), done(200)]).await;
    let info = listed(&mut peer, "basins", BASIN).await.unwrap();
    assert_eq!((&info["state"], info["deleted_at"].is_null()), (&"active".into(), true));
    answers(&mut peer, "PUT", "/v1/basins/another-one", "", done(201)).await;
}

#[tokio::test]
async fn a_basin_that_is_being_deleted() {
    let (_gateway, store, mut peer) = gateway().await;
    peer.provision(&["orders"]).await;
    answers(&mut peer, "PATCH", &basin_path(), r#"{"create_stream_on_append":true}"#, done(200)).await;
    answers(&mut peer, "DELETE", &basin_path(), "", done(202)).await;
    basin_answers(&mut peer, [BASIN_GOES; 4]).await;
    let info = listed(&mut peer, "basins", BASIN).await.unwrap();
    assert_eq!((&info["state"], info["deleted_at"].is_string()), (&"deleting".into(), true));
    assert!(listed(&mut peer, "streams", "orders").await.is_some());
    // control-plane.md §4.6: whatever makes or changes a stream in it.
    for (method, path, body) in [
        ("POST", "/v1/streams".to_owned(), r#"{"stream":"new"}"#),
        ("PUT", stream_path("new"), ""),
        ("PUT", stream_path("orders"), ""),
        ("PATCH", stream_path("orders"), "{}"),
        ("POST", records_path("new"), r#"{"records":[{}]}"#),
    ] {
        answers(&mut peer, method, &path, body, BASIN_GOES).await;
    }
    answers(&mut peer, "DELETE", &basin_path(), "", done(202)).await;

    store.let_go();
    within(async { while listed(&mut peer, "basins", BASIN).await.is_some() {} }).await;
    answers(&mut peer, "DELETE", &basin_path(), "", NO_BASIN).await;
    basin_answers(&mut peer, [done(201), done(200), NO_BASIN, NO_BASIN]).await;
    assert_eq!(listed(&mut peer, "streams", "orders").await, None);
}

#[tokio::test]
async fn a_stream_that_is_missing_and_one_that_is_there() {
    let (_gateway, _store, mut peer) = gateway().await;
    peer.provision(&[]).await;
    answers(&mut peer, "DELETE", &stream_path("orders"), "", NO_STREAM).await;
    data_plane_refuses(&mut peer, NO_STREAM).await;
    stream_answers(&mut peer, [done(201), done(200), NO_STREAM, NO_STREAM]).await;
    stream_answers(&mut peer, [EXISTS, done(200), done(200), done(200)]).await;
    assert!(listed(&mut peer, "streams", "orders").await.unwrap()["deleted_at"].is_null());
    answers(&mut peer, "PUT", &stream_path("another"), "", done(201)).await;
}

#[tokio::test]
async fn a_stream_that_is_being_deleted() {
    let (_gateway, store, mut peer) = gateway().await;
    peer.provision(&["orders"]).await;
    // It is open when it is deleted.
    answers(&mut peer, "POST", &records_path("orders"), r#"{"records":[{}]}"#, done(200)).await;
    answers(&mut peer, "DELETE", &stream_path("orders"), "", done(202)).await;
    stream_answers(&mut peer, [STREAM_GOES; 4]).await;
    data_plane_refuses(&mut peer, STREAM_GOES).await;
    assert!(listed(&mut peer, "streams", "orders").await.unwrap()["deleted_at"].is_string());
    answers(&mut peer, "DELETE", &stream_path("orders"), "", done(202)).await;

    store.let_go();
    within(async { while listed(&mut peer, "streams", "orders").await.is_some() {} }).await;
    data_plane_refuses(&mut peer, NO_STREAM).await;
    stream_answers(&mut peer, [done(201), done(200), NO_STREAM, NO_STREAM]).await;
    assert_eq!(peer.tail("orders").await, 0, "another life");
}
