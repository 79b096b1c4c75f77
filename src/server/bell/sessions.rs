//! Real sessions behind the bell: whatever gives one something to say wakes its task, and is heard.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Mutex, atomic::AtomicUsize},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};

use super::*;
use crate::{
    auth::{AuthConfig, Authority, Identity},
    clock::SystemClock,
    memory::Share,
    server::{
        append_pump::AppendPump, chunk::Chunk, drain::Drain, identity::SessionGuard, page_cache::PageCache,
        read_feed::ReadFeed, read_pump::ReadPump,
    },
    store::MemoryStore,
    streams::{Access, BasinWish, Streams, StreamsConfig},
    telemetry::{SessionKind, Telemetry},
    types::{
        AccessTokenId, AccessTokenInfo, AppendInput, BasinConfig, BasinName, Compression, Operation, ReadBounds,
        ReadRequest, ReadStart, Scope, SeqNum, StreamName, testing,
    },
    wire::{self, Advice, RecordsWriter},
};

/// A gateway without its sockets.
struct World {
    streams: Arc<Streams>,
    authority: Arc<Authority>,
    drain: Arc<Drain>,
    telemetry: Arc<Telemetry>,
}

impl World {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new(64 << 20));
        let authority = Authority::new(store.clone(), Arc::new(SystemClock), &AuthConfig::On { root: None });
        let streams = Streams::new(store, Arc::new(SystemClock), StreamsConfig::default());
        let config = BasinConfig { create_stream_on_append: true, ..Default::default() };
        streams.create_basin(&basin(), BasinWish { config, location: None }, None).await.unwrap();
        streams.stream(&basin(), &orders(), Access::Append, None, None).await.unwrap();
        Self { streams, authority, drain: Arc::default(), telemetry: Arc::new(Telemetry::new()) }
    }

    /// The guard of a session of the bearer of the token `t`, which is issued for it.
    async fn guard(&self) -> SessionGuard {
        let scope = Scope { ops: [Operation::Read, Operation::Append].into_iter().collect(), ..Scope::everything() };
        let info = AccessTokenInfo { id: token(), expires_at: None, auto_prefix_streams: false, scope };
        let secret = self.authority.issue(&Identity::Unlimited, info).await.unwrap();
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.extensions.insert(self.authority.authenticate(Some(secret.expose())).await.unwrap());
        SessionGuard::new(&parts, Operation::Read).unwrap()
    }

    async fn reader(&self, request: ReadRequest) -> Session<ReadPump> {
        let stream = self.streams.stream(&basin(), &orders(), Access::Read, None, None).await.unwrap();
        let session = self.streams.read_session(stream, None, &request).await.unwrap();
        let feed = ReadFeed::new(session, self.drain.watch(), self.guard().await);
        let pages = Arc::new(PageCache::new(0));
        let open = self.telemetry.session(SessionKind::Read);
        Session::of(ReadPump::new(feed, Compression::None, pages, self.telemetry.clone(), open))
    }

    async fn writer(&self) -> (Session<AppendPump<Request>>, Request) {
        let stream = self.streams.stream(&basin(), &orders(), Access::Append, None, None).await.unwrap();
        let session = self.streams.append_session(stream, None).unwrap();
        let (request, guard, memory) = (Request::default(), self.guard().await, Arc::new(Share::new(1 << 20)));
        let (watch, open) = (self.drain.watch(), self.telemetry.session(SessionKind::Append));
        let pump = AppendPump::new(request.clone(), session, watch, guard, self.telemetry.clone(), memory, open);
        (Session::of(pump), request)
    }

    async fn append(&self, input: &AppendInput) {
        let stream = self.streams.stream(&basin(), &orders(), Access::Append, None, None).await.unwrap();
        self.streams.append_session(stream, None).unwrap().append(input).await.unwrap();
    }

    async fn end(&self, how: End) {
        match how {
            End::TokenRevoked => self.authority.revoke(&Identity::Unlimited, &token()).await.unwrap(),
            End::StreamDeleted => self.streams.delete_stream(&basin(), &orders()).await.unwrap(),
            End::ServerStops => self.drain.end(),
        }
    }
}

/// What ends sessions from outside.
#[derive(Clone, Copy, Debug)]
enum End {
    TokenRevoked,
    StreamDeleted,
    ServerStops,
}

/// How it was found out, before something happened, that there is nothing behind a chunk. HTTP asks behind each.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// The session was asked only if it had to be.
    ToTheBell,
    /// The session was asked.
    Asked,
}

const LEFT: [Left; 2] = [Left::ToTheBell, Left::Asked];

/// A session, and the task that it is polled in.
struct Session<S> {
    belled: Belled<Asked<S>>,
    task: Arc<Task>,
    /// What HTTP has taken and the peer has not; none where the peer takes everything at once.
    unsent: Option<Vec<Chunk>>,
}

#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A session that counts how often it is polled.
struct Asked<S> {
    session: S,
    times: usize,
}

impl<S: Chunks> Chunks for Asked<S> {
    type Chunk = S::Chunk;

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<S::Chunk>> {
        self.times += 1;
        self.session.poll_chunk(cx)
    }

    fn after_chunk(&self) -> AfterChunk {
        self.session.after_chunk()
    }
}

impl<S: Chunks<Chunk = Chunk>> Session<S> {
    fn of(session: S) -> Self {
        Self { belled: Belled::new(Asked { session, times: 0 }), task: Arc::default(), unsent: None }
    }

    fn poll(&mut self) -> Poll<Option<Bytes>> {
        let waker = Waker::from(self.task.clone());
        self.belled.poll_chunk(&mut Context::from_waker(&waker)).map(|chunk| chunk.map(|chunk| self.pass_on(chunk)))
    }

    fn pass_on(&mut self, chunk: Chunk) -> Bytes {
        let bytes = chunk.to_bytes();
        if let Some(unsent) = &mut self.unsent {
            unsent.push(chunk);
        }
        bytes
    }

    /// From now on the peer takes nothing.
    fn stall(&mut self) {
        self.unsent = Some(Vec::new());
    }

    /// The peer takes the chunk that was sent first.
    fn take_one(&mut self) {
        drop(self.unsent.as_mut().expect("it stalls").remove(0));
    }

    /// The chunk that it was woken for.
    fn woken(&mut self) -> Option<Bytes> {
        assert!(self.task.0.swap(0, Ordering::Relaxed) > 0, "nobody woke it");
        let Poll::Ready(chunk) = self.poll() else { panic!("woken for nothing") };
        chunk
    }

    fn leave(&mut self, left: Left) {
        if let Left::Asked = left {
            self.belled.standing = Standing::Unknown;
        }
        assert!(self.poll().is_pending());
        self.task.0.store(0, Ordering::Relaxed);
    }

    /// That it waits, and is not asked for that; once it may be, when its next heartbeat is due before its timer.
    fn is_left_alone(&mut self) {
        assert!(self.poll().is_pending());
        let before = self.belled.session.times;
        assert!(self.poll().is_pending());
        assert_eq!(self.belled.session.times, before);
    }
}

/// A request's body that is handed in piece by piece.
#[derive(Clone, Default)]
struct Request(Arc<Mutex<Pieces>>);

#[derive(Default)]
struct Pieces {
    came: VecDeque<Option<Bytes>>,
    waker: Option<Waker>,
}

impl Request {
    /// One more piece came, or the end.
    fn came(&self, piece: Option<Bytes>) {
        let mut pieces = self.0.lock().unwrap();
        pieces.came.push_back(piece);
        if let Some(waker) = pieces.waker.take() {
            waker.wake();
        }
    }
}

impl Body for Request {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut pieces = self.0.lock().unwrap();
        match pieces.came.pop_front() {
            Some(piece) => Poll::Ready(piece.map(|piece| Ok(Frame::data(piece)))),
            None => {
                pieces.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn basin() -> BasinName {
    BasinName::new("my-basin-01").unwrap()
}

fn orders() -> StreamName {
    StreamName::new("orders").unwrap()
}

fn token() -> AccessTokenId {
    AccessTokenId::new("t").unwrap()
}

fn one(body: &str) -> AppendInput {
    testing::input(&[(body, None)])
}

fn frame(body: &str) -> Bytes {
    let mut records = RecordsWriter::new();
    records.push(None, [], body.as_bytes());
    wire::message_frame(Compression::None, Advice::None, &records.into_append_input(None, None)).unwrap()
}

fn from_the_start() -> ReadRequest {
    ReadRequest { start: ReadStart::SeqNum(SeqNum::FIRST), ..Default::default() }
}

fn is_terminal(frame: &Bytes) -> bool {
    frame[3] & 0x80 != 0
}

/// A reader at the tail that was told so.
async fn follower(world: &World, request: ReadRequest) -> Session<ReadPump> {
    let mut reader = world.reader(request).await;
    assert!(reader.poll().is_ready(), "a heartbeat");
    assert!(reader.poll().is_pending());
    reader
}

/// The same, that was given the record `body`.
async fn given(world: &World, body: &str) -> Session<ReadPump> {
    let mut reader = follower(world, from_the_start()).await;
    world.append(&one(body)).await;
    assert!(contains(&reader.woken(), body));
    reader
}

fn contains(chunk: &Option<Bytes>, body: &str) -> bool {
    chunk.as_ref().is_some_and(|chunk| chunk.windows(body.len()).any(|part| part == body.as_bytes()))
}

#[tokio::test(start_paused = true)]
async fn a_reader_hears_what_is_appended_and_is_otherwise_left_alone() {
    let world = World::new().await;
    let mut reader = given(&world, "first").await;
    for body in ["second", "third"] {
        reader.is_left_alone();
        world.append(&one(body)).await;
        assert!(contains(&reader.woken(), body));
    }
    // Two at once, and one while it was not polled.
    world.append(&one("fourth")).await;
    world.append(&one("fifth")).await;
    let chunk = reader.woken();
    assert!(contains(&chunk, "fourth") && contains(&chunk, "fifth"));
    reader.is_left_alone();
}

#[tokio::test(start_paused = true)]
async fn a_reader_hears_of_every_end() {
    for end in [End::TokenRevoked, End::StreamDeleted, End::ServerStops] {
        for left in LEFT {
            let world = World::new().await;
            let mut reader = given(&world, "a").await;
            reader.leave(left);
            world.end(end).await;
            assert!(reader.woken().is_some_and(|chunk| is_terminal(&chunk)), "{end:?} {left:?}");
            assert!(matches!(reader.poll(), Poll::Ready(None)), "{end:?} {left:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_hears_of_the_tail_within_15_seconds_of_its_last_frame() {
    // s2s.md §7.2
    let world = World::new().await;
    let mut reader = given(&world, "a").await;
    for round in 0..40 {
        reader.leave(LEFT[round % 2]);
        let told = tokio::time::Instant::now();
        // The timer may be set for an earlier frame, and wake it for nothing.
        while reader.task.0.swap(0, Ordering::Relaxed) == 0 || reader.poll().is_pending() {
            tokio::time::advance(Duration::from_millis(250)).await;
            assert!(told.elapsed() <= Duration::from_millis(15_250), "round {round}");
        }
        assert!(told.elapsed() >= Duration::from_secs(5), "round {round}");
        reader.leave(LEFT[round / 2 % 2]);
        tokio::time::advance(Duration::from_millis(100 * round as u64)).await;
        world.append(&one("b")).await;
        assert!(contains(&reader.woken(), "b"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_readers_wait_is_over_in_time() {
    for left in LEFT {
        let world = World::new().await;
        let wait = Some(Duration::from_secs(3));
        let mut reader = follower(&world, ReadRequest { wait, ..from_the_start() }).await;
        tokio::time::advance(Duration::from_secs(2)).await;
        world.append(&one("a")).await;
        assert!(contains(&reader.woken(), "a"));
        reader.leave(left);
        tokio::time::advance(Duration::from_millis(2_990)).await;
        // The timer was that of the first three seconds, and is moved on.
        assert_eq!(reader.task.0.swap(0, Ordering::Relaxed), 1);
        assert!(reader.poll().is_pending(), "{left:?}");
        tokio::time::advance(Duration::from_millis(20)).await;
        assert!(reader.woken().is_none(), "{left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_a_bound_ends_when_it_is_met() {
    let world = World::new().await;
    let bounds = ReadBounds { count: Some(2), ..Default::default() };
    // With a wait it follows although it is bounded.
    let request = ReadRequest { bounds, wait: Some(Duration::from_secs(60)), ..from_the_start() };
    let mut reader = follower(&world, request).await;
    for body in ["a", "b"] {
        world.append(&one(body)).await;
        assert!(contains(&reader.woken(), body));
    }
    assert!(matches!(reader.poll(), Poll::Ready(None)), "at once");
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_was_sent_counts_until_it_has_taken_it_although_nobody_rang() {
    let world = World::new().await;
    let mut reader = follower(&world, from_the_start()).await;
    let used = || world.streams.session_memory().used();
    for _ in 0..3 {
        reader.stall();
        world.append(&testing::uniform_input(10, 10_000)).await;
        assert!(reader.woken().is_some_and(|chunk| chunk.len() > 100_000));
        assert!(used() > 100_000, "it is on its way");
        assert!(reader.poll().is_pending(), "asked for more");
        assert!(used() > 100_000, "and that says nothing of what the reader took");
        reader.is_left_alone();
        reader.take_one();
        assert_eq!(used(), 0, "at once");
        reader.is_left_alone();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_is_sent_a_few_portions_and_more_once_it_takes_them() {
    let world = World::new().await;
    let mut reader = follower(&world, from_the_start()).await;
    let memory = world.streams.session_memory();
    // So that a portion is the least.
    memory.take(memory.limit());
    let used = || memory.used() - memory.limit();
    reader.stall();
    let batch = testing::uniform_input(1, 10_000);
    let mut sent = 0;
    for _ in 0..5 {
        world.append(&batch).await;
        while let Poll::Ready(chunk) = reader.poll() {
            sent += chunk.map_or(0, |chunk| chunk.len());
        }
    }
    assert!((20_000..30_000).contains(&sent), "{sent}");
    assert!((20_000..30_000).contains(&used()), "{}", used());
    reader.is_left_alone();
    while sent < 50_000 {
        reader.take_one();
        sent += reader.woken().map_or(0, |chunk| chunk.len());
        assert!(reader.poll().is_pending());
    }
    reader.unsent = None;
    assert_eq!(used(), 0);
    world.append(&one("a")).await;
    assert!(contains(&reader.woken(), "a"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_hears_of_the_ends_that_the_server_puts_to_it() {
    for end in [End::TokenRevoked, End::ServerStops] {
        let world = World::new().await;
        let mut reader = follower(&world, from_the_start()).await;
        let memory = world.streams.session_memory();
        memory.take(memory.limit());
        reader.stall();
        for _ in 0..3 {
            world.append(&testing::uniform_input(1, 10_000)).await;
            while reader.poll().is_ready() {}
        }
        world.end(end).await;
        assert!(reader.woken().is_some_and(|chunk| is_terminal(&chunk)), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_is_not_asked_on_when_its_heartbeat_is_due() {
    let world = World::new().await;
    let mut reader = follower(&world, from_the_start()).await;
    let memory = world.streams.session_memory();
    memory.take(memory.limit());
    reader.stall();
    for _ in 0..2 {
        world.append(&testing::uniform_input(1, 10_000)).await;
        assert!(reader.woken().is_some());
        assert!(reader.poll().is_pending());
    }
    world.append(&one("a")).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(reader.poll().is_pending(), "and comes back");
    let is_told = |chunk: &Option<Bytes>| contains(chunk, "a");
    reader.take_one();
    assert!(is_told(&reader.woken()));
    // From here on the heartbeats go on.
    assert!(reader.poll().is_pending());
    tokio::time::advance(Duration::from_secs(16)).await;
    assert!(reader.woken().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_fell_behind_catches_up_unasked() {
    let world = World::new().await;
    let mut reader = given(&world, "a").await;
    // Far more than is kept at hand.
    for _ in 0..12 {
        world.append(&testing::uniform_input(10, 100_000)).await;
    }
    let mut bytes = reader.woken().map_or(0, |chunk| chunk.len());
    // In memory a read is ready at once, so that there is always a reason to go on.
    while let Poll::Ready(chunk) = reader.poll() {
        bytes += chunk.map_or(0, |chunk| chunk.len());
    }
    assert!(bytes > 12_000_000, "{bytes}");
    world.append(&one("again")).await;
    assert!(contains(&reader.woken(), "again"));
}

#[tokio::test(start_paused = true)]
async fn a_writer_hears_what_comes_in_and_is_otherwise_left_alone() {
    let world = World::new().await;
    let (mut writer, request) = world.writer().await;
    assert!(writer.poll().is_pending());
    for body in ["a", "b", "c"] {
        writer.is_left_alone();
        request.came(Some(frame(body)));
        assert!(writer.woken().is_some_and(|ack| !is_terminal(&ack)));
    }
    // In pieces, cut anywhere.
    let whole = frame("in pieces");
    request.came(Some(whole.slice(..5)));
    assert!(writer.task.0.swap(0, Ordering::Relaxed) > 0);
    assert!(writer.poll().is_pending());
    request.came(Some(whole.slice(5..)));
    assert!(writer.woken().is_some_and(|ack| !is_terminal(&ack)));
    request.came(None);
    assert!(writer.woken().is_none(), "the end of the request is that of the session");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_was_told_everything_keeps_little() {
    let world = World::new().await;
    let (mut writer, request) = world.writer().await;
    for _ in 0..10_000 {
        request.came(Some(frame("")));
    }
    while writer.poll().is_ready() {}
    let session = &writer.belled.session.session;
    assert!(session.room_for_times() < 1000, "{}", session.room_for_times());
}

#[tokio::test(start_paused = true)]
async fn a_writer_hears_of_every_end() {
    for end in [End::TokenRevoked, End::ServerStops] {
        for left in LEFT {
            let world = World::new().await;
            let (mut writer, request) = world.writer().await;
            assert!(writer.poll().is_pending());
            request.came(Some(frame("a")));
            assert!(writer.woken().is_some_and(|ack| !is_terminal(&ack)));
            writer.leave(left);
            world.end(end).await;
            assert!(writer.woken().is_some_and(|chunk| is_terminal(&chunk)), "{end:?} {left:?}");
            assert!(matches!(writer.poll(), Poll::Ready(None)), "{end:?} {left:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_with_more_than_a_chunk_admits_goes_on_by_itself() {
    let world = World::new().await;
    let (mut writer, request) = world.writer().await;
    assert!(writer.poll().is_pending());
    // Three times what is admitted for one chunk.
    let body = "x".repeat(256 * 1024);
    for _ in 0..6 {
        request.came(Some(frame(&body)));
    }
    let (mut acked, mut chunk) = (0, writer.woken());
    loop {
        acked += acks(chunk.expect("the session goes on"));
        match writer.poll() {
            Poll::Ready(next) => chunk = next,
            Poll::Pending => break,
        }
    }
    assert_eq!(acked, 6);
    writer.is_left_alone();
}

/// How many frames these are.
fn acks(mut chunk: Bytes) -> usize {
    let mut frames = 0;
    while chunk.has_remaining() {
        let len = chunk.get_uint(3) as usize;
        chunk.advance(len);
        frames += 1;
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn a_writer_of_tiny_inputs_gives_way_to_others_in_between() {
    let world = World::new().await;
    let (mut writer, request) = world.writer().await;
    for _ in 0..10_000 {
        request.came(Some(frame("")));
    }
    let mut acked = 0;
    while let Poll::Ready(chunk) = writer.poll() {
        let of_chunk = acks(chunk.expect("the session goes on"));
        assert!(of_chunk < 3_000, "{of_chunk} in one go");
        acked += of_chunk;
    }
    assert_eq!(acked, 10_000);
}
