//! Who is told what, and in which order, when something panics or a runtime ends: everyone, in the order in which they
//! asked, and of what is durable that it is.

use std::{
    pin::pin,
    sync::mpsc,
    task::{Context, Wake, Waker},
};

use bytes::Bytes;
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

use super::*;
use crate::store::{MetaWrite, disk::answered};

/// What was told of which stream, in order: the end of what is durable, or nothing if it may have happened.
#[derive(Default)]
struct Told(Mutex<Vec<(u128, Option<u64>)>>);

impl Told {
    fn add(&self, stream: u128, told: Option<u64>) {
        self.0.lock().unwrap().push((stream, told));
    }

    fn all(&self) -> Vec<(u128, Option<u64>)> {
        self.0.lock().unwrap().clone()
    }
}

/// A sink that notes what it is told, and then does something if that is good.
struct Notes<F> {
    stream: u128,
    told: Arc<Told>,
    then: F,
}

impl<F: Fn() + Send + Sync + 'static> CommitSink for Notes<F> {
    fn durable(&self, end: SeqNum) {
        self.told.add(self.stream, Some(end.get()));
        (self.then)();
    }

    fn failed(&self, error: StoreError) {
        assert!(matches!(error, StoreError::Unknown(_)), "it may have happened: {error}");
        self.told.add(self.stream, None);
    }
}

/// A store, and what is told of its streams.
struct Telling {
    disk: OnDisk,
    told: Arc<Told>,
}

impl Telling {
    fn create() -> Self {
        Self { disk: OnDisk::create(), told: Arc::default() }
    }

    fn create_in(runtime: &Runtime) -> Self {
        let _in_runtime = runtime.enter();
        Self::create()
    }

    fn open(&self, stream: u128) -> Arc<dyn StreamLog> {
        self.open_with(stream, || ())
    }

    fn open_with(&self, stream: u128, then: impl Fn() + Send + Sync + 'static) -> Arc<dyn StreamLog> {
        let sink = Arc::new(Notes { stream, told: self.told.clone(), then });
        block_on(self.disk.store.open(StreamId::new(stream), sink)).unwrap().log
    }

    fn push(&self, request: Request) {
        self.disk.store.shared.queue.push(request).unwrap();
    }

    /// Holds the writer until what this returns is dropped: what is asked meanwhile is written together.
    fn hold_writer(&self) -> mpsc::Sender<()> {
        let ((go_on, held), (reached, is_held)) = (mpsc::channel(), mpsc::channel());
        let waker = Waker::from(Arc::new(Holds { reached, held: Mutex::new(held) }));
        let (done, removed) = oneshot::channel();
        let mut removed = pin!(removed);
        assert!(removed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        self.push(Request::Remove(nothing_to_remove(done)));
        is_held.recv().unwrap();
        go_on
    }

    fn wait_until_closed(&self) {
        eventually("the end of writing", || matches!(self.disk.store.health(), Err(StoreError::Closed(_))));
    }

    fn wait_until_told(&self, count: usize) {
        eventually("being told", || self.told.all().len() >= count);
    }
}

/// Whoever wakes it is held until the other end of the channel is dropped.
struct Holds {
    reached: mpsc::Sender<()>,
    held: Mutex<mpsc::Receiver<()>>,
}

impl Wake for Holds {
    fn wake(self: Arc<Self>) {
        self.reached.send(()).unwrap();
        self.held.lock().unwrap().recv().unwrap_err();
    }
}

fn nothing_to_remove(done: oneshot::Sender<Result<(), StoreError>>) -> Removal {
    Removal { log: LogNumber(1), batches: Vec::new(), to: SeqNum::FIRST, progress: Progress::More, done }
}

/// Appends a record at `at`.
fn append(log: &Arc<dyn StreamLog>, at: u64, body: &str) {
    let batch = testing::batch(at, &[(body, 1)]);
    log.append(batch.clone(), Head { tail: batch.end(), ..Head::default() }).unwrap();
}

fn wait_until_written(log: &Arc<dyn StreamLog>, at: u64) {
    eventually("a write", || block_on(log.read(SeqNum::new(at), 1)).unwrap().len() == 1);
}

/// What the engine answers with a panic, and where the answer comes.
fn bad_row(key: &[u8]) -> (Request, oneshot::Receiver<Result<MetaWrite, StoreError>>) {
    let (done, answer) = oneshot::channel();
    let key = Bytes::copy_from_slice(key);
    (Request::Row { key, value: Some(Bytes::new()), expected: Version::ABSENT, done }, answer)
}

/// A runtime that does nothing unless it is told to.
fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Has the task of the runtime tell what waits, until `count` were told in all.
fn run(runtime: &Runtime, telling: &Telling, count: usize) {
    eventually("being told", || {
        runtime.block_on(tokio::task::yield_now());
        telling.told.all().len() >= count
    });
}

#[test]
fn a_panic_of_the_engine_leaves_nobody_waiting() {
    // The first is found to be bad when the row is looked for, the second when it is written.
    for key in [&[0; 70_000][..], b""] {
        let telling = Telling::create();
        let logs = [0, 1, 2, 3].map(|stream| telling.open(stream));
        append(&logs[0], 0, "x");
        telling.wait_until_told(1);
        let go_on = telling.hold_writer();
        append(&logs[1], 0, "x");
        append(&logs[2], 0, "x");
        append(&logs[1], 1, "x");
        let (row, written) = bad_row(key);
        telling.push(row);
        // Too much for the same write.
        (1..4).for_each(|at| append(&logs[0], at, &"x".repeat(1_000_000)));
        append(&logs[3], 0, "x");
        append(&logs[1], 2, "x");
        let (done, passed) = oneshot::channel();
        telling.push(Request::Barrier(done));
        drop(go_on);
        let (written, passed) = (block_on(answered(written)), block_on(answered(passed)));
        assert!(matches!(written, Err(StoreError::Unknown(_))), "{written:?}");
        assert!(matches!(passed, Err(StoreError::Unknown(_))), "{passed:?}");
        assert_eq!(telling.told.all(), [(0, Some(1)), (1, None), (2, None), (0, None), (3, None)]);
        telling.disk.store.health().unwrap_err();
        drop(logs);
        let disk = telling.disk.reopen().unwrap();
        let found = [0, 1, 2, 3].map(|stream| Writer::open(&disk.store, stream).head.tail.seq_num.get());
        assert_eq!(found, [1, 0, 0, 0], "what was acknowledged is there, and nothing else was written");
    }
}

#[test]
fn what_is_durable_is_told_before_what_may_be() {
    let runtime = runtime();
    let telling = Telling::create_in(&runtime);
    let log = telling.open(1);
    append(&log, 0, "x");
    wait_until_written(&log, 0);
    let go_on = telling.hold_writer();
    append(&log, 1, "x");
    telling.push(bad_row(b"").0);
    drop(go_on);
    telling.wait_until_closed();
    run(&runtime, &telling, 2);
    assert_eq!(telling.told.all(), [(1, Some(1)), (1, None)]);
}

#[test]
fn a_sink_that_panics_fails_alone() {
    let telling = Telling::create();
    let (panics, other) = (telling.open_with(1, || panic!("a sink that panics")), telling.open(2));
    let go_on = telling.hold_writer();
    append(&panics, 0, "x");
    append(&other, 0, "x");
    drop(go_on);
    telling.wait_until_told(3);
    assert_eq!(telling.told.all(), [(1, Some(1)), (1, None), (2, Some(1))]);
    telling.wait_until_closed();
}

#[test]
fn nothing_is_written_after_a_sink_panicked() {
    let runtime = runtime();
    let telling = Telling::create_in(&runtime);
    let (panics, other) = (telling.open_with(1, || panic!("a sink that panics")), telling.open(2));
    append(&panics, 0, "x");
    append(&other, 0, "x");
    wait_until_written(&panics, 0);
    wait_until_written(&other, 0);
    let go_on = telling.hold_writer();
    append(&panics, 1, "x");
    append(&other, 1, "x");
    run(&runtime, &telling, 3);
    telling.disk.store.health().unwrap_err();
    drop(go_on);
    run(&runtime, &telling, 4);
    assert_eq!(telling.told.all(), [(1, Some(1)), (1, None), (2, Some(1)), (2, None)]);
    assert_eq!(block_on(other.read(SeqNum::FIRST, usize::MAX)).unwrap().len(), 1);
}

#[test]
fn what_waits_when_a_runtime_ends_is_told() {
    let runtime = runtime();
    let telling = Telling::create_in(&runtime);
    let log = telling.open(1);
    append(&log, 0, "x");
    wait_until_written(&log, 0);
    assert_eq!(telling.told.all(), [], "nobody runs the task");
    drop(runtime);
    telling.wait_until_told(1);
    append(&log, 1, "x");
    telling.wait_until_told(2);
    assert_eq!(telling.told.all(), [(1, Some(1)), (1, Some(2))]);
}

#[tokio::test]
async fn threads_of_the_store_wait_for_no_runtime() {
    // This is the only thread of the runtime, and it does nothing for it until all have been told.
    let disk = OnDisk::create();
    let (done, removed) = oneshot::channel();
    disk.store.shared.queue.push(Request::Remove(nothing_to_remove(done))).unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(removed.blocking_recv()));
    let answer = told.recv_timeout(PATIENCE).expect("it is told");
    assert_eq!(answer, Ok(Ok(())));
}
