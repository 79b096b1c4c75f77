//! Requests that change something, of clients that do not wait for the answer: what was begun is done, all of it.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use s2s_gateway::{auth::AuthConfig, types::Secret};

use self::support::{
    Gateway, Setup,
    keeping_store::KeepingStore,
    peer::{BASIN, Peer, basin_request, records_path, stream_path, until, within},
};

const ROOT: &str = "root-token-of-the-operator";

/// A gateway with the stream `orders`, which is open, and a store that can be silent.
async fn gateway() -> (Gateway, Arc<KeepingStore>, Peer) {
    gateway_of(Setup::default()).await
}

async fn gateway_of(setup: Setup) -> (Gateway, Arc<KeepingStore>, Peer) {
    let store = KeepingStore::new();
    let gateway = setup.start_over(store.clone()).await;
    let mut peer = Peer::connect(&gateway).await.bearing(ROOT);
    peer.provision(&["orders"]).await;
    assert_eq!(append(&mut peer).await, 200);
    (gateway, store, peer)
}

async fn append(peer: &mut Peer) -> u16 {
    peer.json("POST", &records_path("orders"), r#"{"records":[{"body":"x"}]}"#).await.status()
}

/// Sends a request, and goes away when it is written down and before it is answered.
async fn abandon(store: &KeepingStore, peer: &mut Peer, method: &str, path: &str, body: &'static str) {
    store.keep_silent();
    let request = basin_request(method, path).header("content-type", "application/json");
    let mut opening = peer.open(request.body(()).unwrap(), false).await;
    opening.sending.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
    until(|| store.unanswered() == 1).await;
    opening.sending.send_reset(Reason::CANCEL);
    drop(opening);
    for _ in 0..5 {
        peer.ping().await;
    }
    store.speak();
}

#[tokio::test]
async fn a_changed_configuration_is_in_force_although_nobody_heard_of_it() {
    // control-plane.md §5.4. The client asks again, as clients do, and nothing is left to be changed.
    const REQUIRE: &str = r#"{"timestamping":{"mode":"client-require"}}"#;
    for method in ["PATCH", "PUT"] {
        let (_gateway, store, mut peer) = gateway().await;
        abandon(&store, &mut peer, method, &stream_path("orders"), REQUIRE).await;
        assert_eq!(peer.json(method, &stream_path("orders"), REQUIRE).await.status(), 200);
        assert_eq!(append(&mut peer).await, 422, "{method}: without a timestamp");
    }
}

#[tokio::test]
async fn a_stream_is_deleted_although_nobody_heard_of_it() {
    // control-plane.md §5.5: no operation succeeds on it.
    let (_gateway, store, mut peer) = gateway().await;
    let mut writer = peer.append_session("orders").await;
    let mut reader = peer.read_session("orders", "").await;
    reader.expect_heartbeat().await;
    abandon(&store, &mut peer, "DELETE", &stream_path("orders"), "").await;
    // Behind the deletion, if that goes on.
    peer.json("PUT", &stream_path("orders"), "").await.assert_error(409, "stream_deletion_pending");
    assert_eq!(append(&mut peer).await, 409);
    reader.expect_failure(409, "stream_deletion_pending").await;
    writer.send(support::peer::input(["late"]));
    writer.expect_failure(409, "stream_deletion_pending").await;
    store.let_go();
    within(async { while append(&mut peer).await != 404 {} }).await;
}

#[tokio::test]
async fn a_basin_is_deleted_although_nobody_heard_of_it() {
    // control-plane.md §4.6
    let (_gateway, store, mut peer) = gateway().await;
    let basin = format!("/v1/basins/{BASIN}");
    store.let_go();
    abandon(&store, &mut peer, "DELETE", &basin, "").await;
    within(async { while peer.get(&basin).await.status() != 404 {} }).await;
    assert_eq!(append(&mut peer).await, 404);
}

#[tokio::test]
async fn a_token_is_revoked_at_once_although_nobody_heard_of_it() {
    // control-plane.md §7.6
    let mut setup = Setup::default();
    setup.server.auth = AuthConfig::On { root: Some(Secret::new(ROOT).unwrap()) };
    let (gateway, store, mut operator) = gateway_of(setup).await;
    let wanted = r#"{"id":"t","scope":{"ops":["list-basins"]}}"#;
    let issued = operator.json("POST", "/v1/access-tokens", wanted).await.json();
    let mut bearer = Peer::connect(&gateway).await.bearing(issued["access_token"].as_str().unwrap());
    assert_eq!(bearer.get("/v1/basins").await.status(), 200);
    abandon(&store, &mut operator, "DELETE", "/v1/access-tokens/t", "").await;
    // What comes behind the answer is done in the same breath.
    until(|| store.unanswered() == 0).await;
    bearer.get("/v1/basins").await.assert_error(401, "authn");
}
