//! Sessions with a stream, polled by hand: no socket, no runtime that runs, no disk.

use std::{
    hint::black_box,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Instant,
};

use s2s_gateway::{
    clock::SystemClock,
    store::{Commit, CommitSink, MemoryStore, MetaStore, OpenLog, Store, StoreError, StoreFuture, StreamLog},
    streams::{Access, AppendSession, BasinWish, ReadEvent, ReadSession, Stream, Streams, StreamsConfig},
    types::{
        AppendInput, BasinConfig, BasinName, Batch, Compression, Head, Position, ReadBounds, ReadRequest, ReadStart,
        SeqNum, StreamId, StreamName, Timestamp,
    },
    wire::{self, Advice, FrameBuf},
};
use tokio::runtime::{Builder, Runtime};

use super::{
    Step,
    records::{self, Shape},
};

/// When what a stream accepts becomes durable.
#[derive(Clone, Copy)]
pub enum CommitsAre {
    /// At once, and nothing is kept of it.
    Durable,
    /// When the next step says so, and nothing is kept of it.
    Reported,
    /// At once, in memory.
    Kept,
}

/// A stream, and the service that it is open in.
pub struct World {
    stream: Arc<Stream>,
    streams: Arc<Streams>,
    store: Arc<BenchStore>,
    /// The service has tasks, which never get to run.
    _runtime: Runtime,
}

impl World {
    pub fn new(commits: CommitsAre) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let memory = MemoryStore::new(256 << 20);
        let store = Arc::new(BenchStore { memory, commits, late: Mutex::default() });
        let _entered = runtime.enter();
        let streams = Streams::new(store.clone(), Arc::new(SystemClock), StreamsConfig::default());
        let stream = runtime.block_on(make_stream(&streams));
        drop(_entered);
        Self { stream, streams, store, _runtime: runtime }
    }

    /// Appends one batch and gets the ack, each time.
    pub fn appending(self, shape: Shape) -> Step {
        let (mut writer, input) = (self.writer(), records::input(shape));
        Box::new(move || self.append(&mut writer, &input))
    }

    /// Appends one batch and makes the frames that `followers` are sent, each time.
    pub fn followed(self, shape: Shape, followers: usize) -> Step {
        let (mut writer, input) = (self.writer(), records::input(shape));
        let mut readers: Vec<_> = (0..followers).map(|_| self.reader(SeqNum::FIRST)).collect();
        readers.iter_mut().for_each(|reader| assert!(frames(reader) > 0, "a heartbeat"));
        Box::new(move || {
            self.append(&mut writer, &input);
            for reader in &mut readers {
                assert!(frames(reader) > shape.records * shape.body);
            }
        })
    }

    /// Makes the frames for a new reader of `times` batches, each time.
    pub fn read(self, times: usize, shape: Shape) -> Step {
        let (mut writer, input) = (self.writer(), records::input(shape));
        (0..times).for_each(|_| self.append(&mut writer, &input));
        let bodies = times * shape.records * shape.body;
        Box::new(move || {
            let frames = frames(&mut self.reader(SeqNum::FIRST));
            assert!(frames >= bodies);
        })
    }

    fn writer(&self) -> AppendSession {
        self.streams.append_session(self.stream.clone(), None).expect("not encrypted")
    }

    fn reader(&self, from: SeqNum) -> ReadSession {
        let start = ReadStart::SeqNum(from);
        let request = ReadRequest { start, clamp: false, bounds: ReadBounds::default(), wait: None };
        let opening = self.streams.read_session(self.stream.clone(), None, &request);
        at_once(opening).expect("the start is there")
    }

    fn append(&self, writer: &mut AppendSession, input: &AppendInput) {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(writer.poll_append(cx, input).is_ready());
        self.store.report();
        let Poll::Ready(Some(Ok(ack))) = writer.poll_ack(cx) else { panic!("it is durable") };
        black_box(ack);
    }
}

async fn make_stream(streams: &Arc<Streams>) -> Arc<Stream> {
    let (basin, name) = (BasinName::new("benches-00").expect("a name"), StreamName::new("paths").expect("a name"));
    let config = BasinConfig { create_stream_on_append: true, ..BasinConfig::default() };
    streams.create_basin(&basin, BasinWish { config, location: None }, None).await.expect("it is new");
    streams.stream(&basin, &name, Access::Append, None, None).await.expect("it is made")
}

/// Bytes of the frames for `reader` until it has to wait.
fn frames(reader: &mut ReadSession) -> usize {
    let cx = &mut Context::from_waker(Waker::noop());
    let (mut len, now) = (0, Instant::now());
    while let Poll::Ready(next) = reader.poll_next(cx, now) {
        let frames = frames_of(next.expect("it goes on").expect("and does not fail"));
        // They are sent at once.
        let _sent = reader.on_its_way();
        len += frames.len();
    }
    len
}

fn frames_of(event: ReadEvent) -> FrameBuf {
    match event {
        ReadEvent::Heartbeat(tail) => wire::heartbeat_frame(tail, Advice::None).into(),
        ReadEvent::Followed(batches) => {
            let mut frames = FrameBuf::default();
            batches.iter().for_each(|batch| frames.append(wire::follow_frame(batch, Compression::None, Advice::None)));
            frames
        }
        ReadEvent::Records { slices, tail, .. } => {
            wire::read_frames(&slices, Some(tail), Compression::None, Advice::None)
        }
    }
}

/// What `future` comes to without waiting.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

/// A store that costs next to nothing, so that what is measured is the way there.
struct BenchStore {
    memory: MemoryStore,
    commits: CommitsAre,
    late: Mutex<Option<Arc<LateLog>>>,
}

impl BenchStore {
    /// Says of all that was accepted that it is durable.
    fn report(&self) {
        if let Some(log) = &*self.late.lock().expect("nobody panicked") {
            log.sink.durable(log.accepted.lock().expect("nobody panicked").tail.seq_num);
        }
    }
}

impl Store for BenchStore {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        let log: Arc<dyn StreamLog> = match self.commits {
            CommitsAre::Kept => return self.memory.open(stream, sink),
            CommitsAre::Durable => Arc::new(ForgetfulLog),
            CommitsAre::Reported => {
                let log = Arc::new(LateLog { sink, accepted: Mutex::default() });
                *self.late.lock().expect("nobody panicked") = Some(log.clone());
                log
            }
        };
        ready(OpenLog { log, head: Head::default() })
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        self.memory.delete(stream)
    }

    fn meta(&self) -> &dyn MetaStore {
        self.memory.meta()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.memory.health()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.memory.close()
    }
}

struct ForgetfulLog;

struct LateLog {
    sink: Arc<dyn CommitSink>,
    accepted: Mutex<Head>,
}

impl StreamLog for ForgetfulLog {
    fn append(&self, batch: Batch, _: Head) -> Result<Commit, StoreError> {
        black_box(batch);
        Ok(Commit::Durable)
    }

    fn read(&self, _: SeqNum, _: usize) -> StoreFuture<'_, Vec<Batch>> {
        ready(Vec::new())
    }

    fn seek(&self, _: SeqNum, _: Timestamp) -> StoreFuture<'_, Option<Position>> {
        ready(None)
    }

    fn trim(&self, _: SeqNum) -> StoreFuture<'_, ()> {
        ready(())
    }

    fn stored(&self) -> u64 {
        0
    }
}

impl StreamLog for LateLog {
    fn append(&self, batch: Batch, head: Head) -> Result<Commit, StoreError> {
        black_box(batch);
        *self.accepted.lock().expect("nobody panicked") = head;
        Ok(Commit::Pending)
    }

    fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'_, Vec<Batch>> {
        ForgetfulLog.read(from, budget)
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> StoreFuture<'_, Option<Position>> {
        ForgetfulLog.seek(from, timestamp)
    }

    fn trim(&self, to: SeqNum) -> StoreFuture<'_, ()> {
        ForgetfulLog.trim(to)
    }

    fn stored(&self) -> u64 {
        0
    }
}

fn ready<T: Send + 'static>(value: T) -> StoreFuture<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}
