//! Readers that do not take what they are sent, and what that counts for as memory until they do.

mod support;

use bytes::Bytes;
use s2s_gateway::types::Compression;

use self::support::{
    Gateway, Setup,
    peer::{Peer, Session, basin_request, input, records_path, settings, until},
};

const BATCH: usize = 100 * 1024;

/// A gateway with one stream and so much memory for sessions, and two connections to it: one for a writer, and one whose
/// sessions take no more than a `window` of what they are sent.
async fn world(memory: usize, window: u32) -> (Gateway, Peer, Peer) {
    let mut setup = Setup::default();
    setup.streams.memory.sessions = memory;
    let gateway = setup.start().await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(&["orders"]).await;
    let stalls = Peer::connect_with(&gateway, settings().initial_window_size(window)).await;
    (gateway, peer, stalls)
}

/// Appends batches of that size.
async fn append(peer: &mut Peer, batches: usize) {
    let mut writer = peer.append_session("orders").await;
    for _ in 0..batches {
        writer.send(input([[b'x'; BATCH]]));
        writer.expect_ack().await;
    }
}

async fn follower(peer: &mut Peer, headers: &[(&str, &str)]) -> Session {
    let mut follower = peer.read_session_with("orders", "seq_num=0", headers).await;
    follower.expect_heartbeat().await;
    follower
}

fn used(gateway: &Gateway) -> usize {
    gateway.streams.session_memory().used()
}

#[tokio::test]
async fn a_follower_counts_for_all_that_http_holds_for_it() {
    // One batch lies with h2, which cannot write it out, and the next with hyper, which waits for h2.
    let (gateway, mut peer, mut stalls) = world(64 << 20, 100).await;
    let _follower = follower(&mut stalls, &[]).await;
    append(&mut peer, 5).await;
    until(|| used(&gateway) > 2 * BATCH).await;
    stalls.hang_up().await;
    until(|| used(&gateway) == 0).await;
}

#[tokio::test]
async fn what_followers_share_counts_once() {
    let (gateway, mut peer, mut stalls) = world(64 << 20, 100).await;
    let mut followers = Vec::new();
    for _ in 0..20 {
        followers.push(follower(&mut stalls, &[]).await);
    }
    append(&mut peer, 1).await;
    until(|| used(&gateway) > BATCH).await;
    assert!(used(&gateway) < 2 * BATCH, "{}", used(&gateway));
    followers.pop();
    drop(followers);
    until(|| used(&gateway) == 0).await;
}

#[tokio::test]
async fn a_reader_of_events_counts_for_the_events() {
    let (gateway, mut peer, mut stalls) = world(64 << 20, 100).await;
    let path = format!("{}?seq_num=0", records_path("orders"));
    let mut readers = Vec::new();
    for _ in 0..2 {
        let request = basin_request("GET", &path).header("accept", "text/event-stream").header("s2-format", "base64");
        readers.push(stalls.open(request.body(()).unwrap(), true).await.granted().await);
    }
    append(&mut peer, 1).await;
    until(|| used(&gateway) > 2 * BATCH / 3 * 4).await;
    drop(readers);
    until(|| used(&gateway) == 0).await;
}

#[tokio::test]
async fn a_compressed_page_counts_as_it_is_sent() {
    let (gateway, mut peer, mut stalls) = world(64 << 20, 100).await;
    // Of a byte, two bits say something.
    let mut random = 1u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (random >> 30) as u8
    })
    .take(5 * BATCH)
    .collect();
    let mut writer = peer.append_session("orders").await;
    writer.send(input(noise.chunks(BATCH)));
    writer.expect_ack().await;
    let encoding = [("accept-encoding", Compression::Zstd.coding())];
    let _reader = stalls.read_session_with("orders", "seq_num=0", &encoding).await;
    until(|| (BATCH..3 * BATCH).contains(&used(&gateway))).await;
}

#[tokio::test]
async fn readers_that_stall_where_memory_is_short_get_everything_once_they_go_on() {
    const READERS: usize = 20;
    const BATCHES: usize = 10;
    let (gateway, mut peer, mut stalls) = world(1 << 20, 16 * 1024).await;
    let mut readers = Vec::new();
    append(&mut peer, BATCHES).await;
    for _ in 0..READERS {
        readers.push(stalls.read_session("orders", "seq_num=0").await);
    }
    until(|| used(&gateway) > (1 << 20) / 2).await;
    let mut reading = tokio::task::JoinSet::new();
    for mut reader in readers {
        reading.spawn(async move {
            let records: Vec<(u64, Bytes)> = reader.expect_records(BATCHES).await;
            assert!(records.iter().map(|(number, _)| *number).eq(0..BATCHES as u64));
        });
    }
    reading.join_all().await;
    until(|| used(&gateway) == 0).await;
}
