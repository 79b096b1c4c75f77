//! What the tasks of a run share: the time, what they count, what went wrong, and the word to stop.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io, mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use super::{latency::Latencies, pacer::Pacer, stamp::WriterId, timeline::Volume};
use crate::{
    client::{ClientError, Fault},
    clock,
    types::{ApiError, Retry},
    wire::RemoteError,
};

/// One run.
pub(super) struct Run {
    epoch: Instant,
    pacer: Pacer,
    stopping: AtomicBool,
    writers: AtomicU32,
    failures: Mutex<Failures>,
}

/// What went wrong, by what it was.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    /// What the server broke of the protocol.
    pub(super) violations: BTreeMap<String, u64>,
    pub(super) errors: BTreeMap<String, u64>,
    /// Sessions that were given up.
    pub(super) gave_up: u64,
}

impl Run {
    /// Time begins now.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self {
            epoch: clock::instant(),
            pacer: Pacer::start()?,
            stopping: AtomicBool::new(false),
            writers: AtomicU32::new(0),
            failures: Mutex::default(),
        })
    }

    /// Since it began.
    pub(super) fn now(&self) -> Duration {
        clock::instant().saturating_duration_since(self.epoch)
    }

    /// Has `waker` woken at `due`, or when the run is to stop.
    pub(super) fn wake_at(&self, due: Duration, waker: &Waker) {
        self.pacer.wake_at(self.epoch + due, waker.clone());
        if self.is_stopping() {
            waker.wake_by_ref();
        }
    }

    /// Waits until `due`, or for the word to stop.
    pub(super) async fn wait_until(&self, due: Duration) {
        let mut is_set = false;
        poll_fn(|cx| {
            if self.is_stopping() || self.now() >= due {
                return Poll::Ready(());
            }
            if !mem::replace(&mut is_set, true) {
                self.wake_at(due, cx.waker());
            }
            Poll::Pending
        })
        .await;
    }

    /// No more sends: what is in flight is waited for, and that is all.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.pacer.wake_all();
    }

    /// Whether it was told to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// A writer that nobody was before.
    pub(super) fn new_writer(&self) -> WriterId {
        self.writers.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts `error`, and says what whoever met it does now. `in_a_row` had nothing good between them.
    pub(super) fn failed(&self, error: &ClientError, in_a_row: u32) -> Recovery {
        let mut failures = lock(&self.failures);
        match error.fault() {
            Fault::Server if matches!(error, ClientError::Protocol(_)) => {
                *failures.violations.entry(error.to_string()).or_default() += 1;
            }
            _ => *failures.errors.entry(kind(error)).or_default() += 1,
        }
        let hopeless = error.retry() == Retry::Futile && !matches!(error, ClientError::Protocol(_));
        match hopeless || in_a_row >= Recovery::PATIENCE {
            true => {
                failures.gave_up += 1;
                Recovery::GiveUp
            }
            false => Recovery::After(error.retry_after().unwrap_or_default().max(Recovery::PAUSE)),
        }
    }

    /// What went wrong so far.
    pub(super) fn failures(&self) -> Failures {
        lock(&self.failures).clone()
    }
}

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Go on, with a new session.
    After(Duration),
    GiveUp,
}

impl Recovery {
    const PAUSE: Duration = Duration::from_millis(100);
    /// Errors in a row that one session puts up with.
    const PATIENCE: u32 = 10;
}

/// Errors that differ only in their details are counted together.
fn kind(error: &ClientError) -> String {
    match error {
        ClientError::Server { error: RemoteError::Known(ApiError::Coded { code, .. }), .. } => {
            format!("{} {}", code.status(), code.as_str())
        }
        ClientError::Server { error: RemoteError::Coded { status, code, .. }, .. } => format!("{status} {code}"),
        error => error.to_string(),
    }
}

/// What is counted while a load runs, in several places so that tasks do not wait for each other.
pub(super) struct Lanes([Mutex<Lane>; LANES]);

const LANES: usize = 16;

/// What some of the tasks counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    pub(super) appended: Count,
    pub(super) read: Count,
    pub(super) acks: Latencies,
    pub(super) deliveries: Latencies,
    /// How long after their time batches were sent.
    pub(super) delays: Latencies,
    /// From asking for a session to its first word.
    pub(super) openings: Latencies,
}

/// What went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) batches: u64,
    pub(super) records: u64,
    /// Bytes of bodies.
    pub(super) bytes: u64,
}

impl Count {
    /// Adds a batch.
    pub(super) fn batch(&mut self, records: u64, bytes: u64) {
        self.add(Self { batches: 1, records, bytes });
    }

    fn add(&mut self, other: Self) {
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

impl Lanes {
    /// Nothing counted.
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    /// The one that task `task` counts in.
    pub(super) fn of(&self, task: usize) -> MutexGuard<'_, Lane> {
        lock(&self.0[task % LANES])
    }

    /// Bytes so far.
    pub(super) fn volume(&self) -> Volume {
        self.0.iter().map(lock).fold(Volume::default(), |volume, lane| Volume {
            appended: volume.appended + lane.appended.bytes,
            read: volume.read + lane.read.bytes,
        })
    }

    /// All of it.
    pub(super) fn total(&self) -> Lane {
        let mut total = Lane::default();
        for lane in self.0.iter().map(lock) {
            total.appended.add(lane.appended);
            total.read.add(lane.read);
            total.acks.add(&lane.acks);
            total.deliveries.add(&lane.deliveries);
            total.delays.add(&lane.delays);
            total.openings.add(&lane.openings);
        }
        total
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counting does not panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::ProtocolError,
        types::{ApiError, ErrorCode},
    };

    #[test]
    fn errors_are_counted_by_what_they_are() {
        let run = Run::start().unwrap();
        let limited = |text: &'static str| ClientError::answered(ApiError::new(ErrorCode::RateLimited, text));
        assert!(matches!(run.failed(&limited("now"), 1), Recovery::After(_)));
        assert!(matches!(run.failed(&limited("then"), 9), Recovery::After(_)));
        assert_eq!(run.failed(&limited("again"), 10), Recovery::GiveUp);
        assert!(matches!(run.failed(&ClientError::Lost("reset".into()), 1), Recovery::After(_)));
        let refused = ClientError::answered(ApiError::new(ErrorCode::StreamNotFound, "no"));
        assert_eq!(run.failed(&refused, 1), Recovery::GiveUp);
        let stray = ClientError::Protocol(ProtocolError::StrayAck);
        assert!(matches!(run.failed(&stray, 1), Recovery::After(_)));
        let failures = run.failures();
        let counts: Vec<_> = failures.errors.iter().map(|(kind, times)| (kind.as_str(), *times)).collect();
        assert_eq!(counts[1..], [("429 rate_limited", 3), ("the connection was lost: reset", 1)]);
        assert!(counts[0].0.starts_with("404 "));
        assert_eq!(failures.violations.values().sum::<u64>(), 1);
        assert_eq!(failures.gave_up, 2);
    }

    #[test]
    fn lanes_add_up() {
        let lanes = Lanes::new();
        for task in 0..40 {
            let mut lane = lanes.of(task);
            lane.appended.batch(10, 1000);
            lane.acks.record(Duration::from_millis(1), 1);
        }
        let total = lanes.total();
        assert_eq!(total.appended, Count { batches: 40, records: 400, bytes: 40_000 });
        assert_eq!(total.acks.percentiles().unwrap().count, 40);
        assert_eq!(lanes.volume(), Volume { appended: 40_000, read: 0 });
    }
}
