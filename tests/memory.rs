//! The memory of the gateway, seen from outside: the binary in a process of its own, idle and under load.
//!
//! A short round runs with the other tests; `cargo test --release --test memory -- --ignored --nocapture` holds 100,000
//! streams and 10,000 sessions, and prints what idle streams, sessions and followers cost.
#![cfg(target_os = "linux")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use h2::client::Builder;
use support::{
    peer::{self, BASIN, Peer, Session},
    process::{Process, serve},
    tap::{Tap, tapped},
};
use tokio::{net::TcpStream, sync::Notify, task::JoinSet};

const MIB: usize = 1024 * 1024;

/// What the program takes that does nothing, and what the allocator keeps for itself.
const PROGRAM: usize = 48 * MIB;

/// What an open stream may cost that nobody uses, on disk.
const IDLE_STREAM: usize = 5 * 1024;

/// What a session may cost that has nothing to do, with its part of a connection.
const IDLE_SESSION: usize = 5 * 1024;

/// A gateway on disk, in a process of its own.
struct Measured {
    process: Process,
    _directory: tempfile::TempDir,
}

impl Measured {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = serve(["--data-dir".as_ref(), directory.path().as_os_str()]);
        command.args(arguments);
        Self { process: Process::start(command).unwrap(), _directory: directory }
    }

    /// Bytes of memory: now (`VmRSS`), or at the most so far (`VmHWM`).
    fn memory(&self, which: &str) -> usize {
        self.process.memory(which)
    }

    async fn connect(&self) -> Peer {
        self.connect_with(&peer::settings()).await
    }

    async fn connect_with(&self, settings: &Builder) -> Peer {
        let socket = TcpStream::connect(self.process.address()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Peer::over(socket, settings).await
    }

    async fn connections(&self, count: usize) -> Vec<Peer> {
        let mut peers = Vec::new();
        for _ in 0..count {
            let mut peer = self.connect().await;
            peer.ping().await;
            peers.push(peer);
        }
        peers
    }

    /// Makes the basin, which makes streams on the first append.
    async fn provision(&self) {
        let config = r#"{"config":{"create_stream_on_append":true}}"#;
        let reply = self.connect().await.json("PUT", &format!("/v1/basins/{BASIN}"), config).await;
        assert_eq!(reply.status(), 201);
    }

    /// Appends a record to each of so many streams, which are open from then on.
    async fn touch_streams(&self, count: usize) {
        const CONNECTIONS: usize = 32;
        let mut writers = JoinSet::new();
        for part in 0..CONNECTIONS {
            let mut peer = self.connect().await;
            writers.spawn(async move {
                for number in (part..count).step_by(CONNECTIONS) {
                    let path = peer::records_path(&name(number));
                    assert_eq!(peer.json("POST", &path, r#"{"records":[{"body":"first"}]}"#).await.status(), 200);
                }
            });
        }
        writers.join_all().await;
    }

    /// What `/metrics` says of a share of the memory: bytes taken, and bytes there are.
    async fn share(peer: &mut Peer, share: &str) -> (usize, usize) {
        let text = String::from_utf8(peer.get("/metrics").await.body.to_vec()).unwrap();
        let value = |family: &str| {
            let series = format!("{family}{{share=\"{share}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&series));
            line.unwrap_or_else(|| panic!("no {series} in {text}")).parse::<f64>().unwrap() as usize
        };
        (value("s2s_memory_bytes"), value("s2s_memory_limit_bytes"))
    }
}

fn name(stream: usize) -> String {
    format!("tenant/stream-{stream:06}")
}

/// Work for a gateway with a budget.
struct Load {
    budget: usize,
    streams: usize,
    /// Streams with an append session, a follower, and a reader from the start that does not take what it is sent.
    busy: usize,
    /// Batches of 32 KiB appended to each of those.
    batches: usize,
    connections: usize,
}

/// What is counted when it is there: a batch in its ring, a write of the store.
const WRITE: usize = 8 * MIB;

const RECORD: usize = 8 * 1024;
const RECORDS_A_BATCH: usize = 4;

impl Load {
    const fn sessions(&self) -> usize {
        3 * self.busy
    }

    /// The budget holds while streams are appended to, followed, and read by readers that stall.
    async fn run(&self) {
        let process = Measured::start(&["--memory-budget", &self.budget.to_string()]);
        process.provision().await;
        process.touch_streams(self.streams).await;
        println!("{} streams: {} MiB", self.streams, process.memory("VmRSS") / MIB);

        let mut peers = process.connections(self.connections).await;
        let mut stalled = Vec::new();
        for _ in 0..self.connections {
            stalled.push(process.connect_with(Builder::new().initial_window_size(16 * 1024)).await);
        }
        let (mut writers, mut followers, mut stalling) = (JoinSet::new(), JoinSet::new(), Vec::new());
        let batch = peer::input([[b'x'; RECORD]; RECORDS_A_BATCH]);
        let progress = Arc::new(Notify::new());
        for number in 0..self.busy {
            let connection = number % self.connections;
            let stream = name(number * self.streams / self.busy);
            let follower = peers[connection].read_session(&stream, "seq_num=0").await;
            followers.spawn(follow(follower, 1 + self.batches * RECORDS_A_BATCH));
            stalling.push(stalled[connection].read_session(&stream, "seq_num=0").await);
            let writer = peers[connection].append_session(&stream).await;
            writers.spawn(write(writer, batch.clone(), self.batches, progress.clone()));
        }
        println!("{} sessions: {} MiB", self.sessions(), process.memory("VmRSS") / MIB);

        let mut watch = process.connect().await;
        let one_each = self.sessions() * RECORDS_A_BATCH * RECORD;
        let watched = tokio::spawn(async move {
            let mut most = [0; 4];
            loop {
                progress.notified().await;
                let before = most;
                for (most, share) in most.iter_mut().zip(["appends", "recent", "written", "sessions"]) {
                    let (taken, limit) = Measured::share(&mut watch, share).await;
                    *most = taken.max(*most);
                    let over = if share == "sessions" { one_each } else { WRITE };
                    assert!(taken <= limit + over, "{share}: {taken} of {limit}");
                }
                if most != before {
                    println!("taken at most of appends, recent, written, sessions: {most:?}");
                }
            }
        });
        writers.join_all().await;
        followers.join_all().await;
        assert!(!watched.is_finished(), "{:?}", watched.await);
        watched.abort();

        let most = process.memory("VmHWM");
        let idle = self.streams * IDLE_STREAM + self.sessions() * IDLE_SESSION + one_each;
        println!("at most {} MiB, {} of them for what is idle", most / MIB, idle / MIB);
        let appended = self.busy * self.batches * RECORDS_A_BATCH * RECORD;
        assert!(appended > self.budget, "the budget would hold all of it: {appended}");
        assert!(most <= PROGRAM + self.budget + idle, "{} MiB", most / MIB);
        drop(stalling);
    }
}

/// Appends `batch` so many times, a few in flight, and tells of each ack.
async fn write(mut session: Session, batch: Bytes, count: usize, progress: Arc<Notify>) {
    const IN_FLIGHT: usize = 4;
    for sent in 0..count + IN_FLIGHT {
        if sent < count {
            session.send(batch.clone());
        }
        if sent >= IN_FLIGHT {
            session.expect_ack().await;
            progress.notify_one();
        }
    }
}

/// Reads so many records, each once and in order.
async fn follow(mut session: Session, count: usize) {
    let mut next = 0;
    while next < count as u64 {
        for record in session.expect_batch().await.records {
            assert_eq!(record.seq_num.get(), next);
            next += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_budget_holds() {
    let load = Load { budget: 32 * MIB, streams: 2_000, busy: 170, batches: 12, connections: 10 };
    load.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn the_budget_holds_with_many_streams_and_sessions() {
    let load = Load { budget: 512 * MIB, streams: 100_000, busy: 3_400, batches: 16, connections: 50 };
    load.run().await;
}

/// Waits until sessions have taken so many bytes.
async fn until_taken(watch: &mut Peer, bytes: usize) {
    while Measured::share(watch, "sessions").await.0 < bytes {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_never_finished_do_not_fill_memory() {
    let process = Measured::start(&["--memory-budget", "32MiB"]);
    process.provision().await;
    let (mut peers, mut watch) = (process.connections(10).await, process.connect().await);
    let mut bystander = peers[0].append_session("bystander").await;
    let before = process.memory("VmRSS");
    let begun = peer::raw_frame(MIB, 0, &vec![b'x'; 600 * 1024]);
    let (mut sessions, mut told) = (Vec::new(), 0);
    for number in 0..100 {
        let mut session = peers[number % 10].append_session(&name(number)).await;
        session.send(begun.clone());
        // The first are within the share, and stay; all others are told.
        tokio::select! {
            () = session.expect_failure(429, "rate_limited") => told += 1,
            () = until_taken(&mut watch, (sessions.len() + 1) * begun.len()) => sessions.push(session),
        }
    }
    assert!(sessions.len() >= 5 && told >= 90, "{} stay, {told} are told", sessions.len());
    bystander.send(peer::input(["still served"]));
    bystander.expect_ack().await;
    let (taken, limit) = Measured::share(&mut peers[0], "sessions").await;
    assert!(taken <= limit + MIB, "{taken} of {limit}");
    let grown = process.memory("VmRSS") - before;
    assert!(grown <= 2 * limit + PROGRAM / 2, "{} MiB", grown / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_followers_do_not_take_from_their_sockets_does_not_fill_memory() {
    const FOLLOWERS: usize = 200;
    const BATCHES: usize = 60;
    let process = Measured::start(&["--memory-budget", "32MiB"]);
    process.provision().await;
    process.touch_streams(FOLLOWERS).await;
    let (mut writes, mut watch) = (process.connect().await, process.connect().await);
    // Windows as wide as can be: h2 takes what it is given, up to a limit of its own for each session.
    let mut wide = peer::settings();
    wide.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let (socket, tap) = tapped(TcpStream::connect(process.process.address()).await.unwrap());
    let mut reads = Peer::over(socket, &wide).await;
    let mut followers = Vec::new();
    for number in 0..FOLLOWERS {
        let mut follower = reads.read_session(&name(number), "seq_num=0").await;
        follower.expect_records(1).await;
        followers.push(follower);
    }
    let before = process.memory("VmRSS");
    tap.send_replace(Tap::Closed);
    let batch = peer::input([[b'x'; RECORD]; RECORDS_A_BATCH]);
    let mut writers = Vec::new();
    for number in 0..FOLLOWERS {
        writers.push(writes.append_session(&name(number)).await);
    }
    for _ in 0..BATCHES {
        for writer in &mut writers {
            writer.send(batch.clone());
        }
        for writer in &mut writers {
            writer.expect_ack().await;
        }
    }
    let (taken, limit) = Measured::share(&mut watch, "sessions").await;
    let grown = process.memory("VmRSS").saturating_sub(before);
    println!("{} KiB are taken of {} KiB, and memory grew by {} MiB", taken / 1024, limit / 1024, grown / MIB);
    let one_each = FOLLOWERS * RECORDS_A_BATCH * RECORD;
    assert!(taken > one_each / 2 && taken <= limit + 2 * one_each, "{taken} of {limit}");
    assert!(grown <= 32 * MIB + 2 * one_each + PROGRAM / 2, "{} MiB", grown / MIB);

    tap.send_replace(Tap::Open);
    for follower in &mut followers {
        follower.expect_records(BATCHES * RECORDS_A_BATCH).await;
    }
    assert!(Measured::share(&mut watch, "sessions").await.0 < one_each / 10);
}

/// Prints what one of `count` costs.
fn cost_of_each(what: &str, before: usize, after: usize, count: usize) -> usize {
    let each = after.saturating_sub(before) / count;
    println!("{what}: {each} bytes ({} to {} MiB)", before / MIB, after / MIB);
    each
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and wants the binary as released"]
async fn an_idle_follower_is_small() {
    let process = Measured::start(&[]);
    process.provision().await;
    let mut writer = process.connect().await.append_session("followed").await;
    writer.send(peer::input(["first"]));
    writer.expect_ack().await;
    let before = process.memory("VmRSS");
    let mut peers = process.connections(50).await;
    let mut followers = Vec::new();
    for peer in &mut peers {
        for _ in 0..100 {
            let mut follower = peer.read_session("followed", "seq_num=0").await;
            follower.expect_records(1).await;
            followers.push(follower);
        }
    }
    let idle = cost_of_each("idle follower", before, process.memory("VmRSS"), followers.len());
    for _ in 0..20 {
        writer.send(peer::input([vec![b'x'; 1024]]));
        for follower in &mut followers {
            follower.expect_records(1).await;
        }
    }
    let used = cost_of_each("follower that had records", before, process.memory("VmRSS"), followers.len());
    assert!(idle.max(used) <= IDLE_SESSION);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and wants the binary as released"]
async fn an_idle_append_session_is_small() {
    let process = Measured::start(&[]);
    process.provision().await;
    let before = process.memory("VmRSS");
    let mut peers = process.connections(100).await;
    let mut sessions = Vec::new();
    for peer in &mut peers {
        for _ in 0..100 {
            sessions.push(peer.append_session("appended").await);
        }
    }
    let idle = cost_of_each("idle append session", before, process.memory("VmRSS"), sessions.len());
    for session in &mut sessions {
        session.send(peer::input([vec![b'x'; 100]]));
        session.expect_ack().await;
    }
    let used = cost_of_each("append session that was used", before, process.memory("VmRSS"), sessions.len());
    assert!(idle.max(used) <= IDLE_SESSION);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and wants the binary as released"]
async fn an_idle_stream_is_small() {
    const STREAMS: usize = 100_000;
    let process = Measured::start(&[]);
    process.provision().await;
    let before = process.memory("VmRSS");
    process.touch_streams(STREAMS).await;
    let open = cost_of_each("open stream", before, process.memory("VmRSS"), STREAMS);
    assert!(open <= IDLE_STREAM);
}
