//! What the gateway counts about itself, and how Prometheus reads it. Knows no session and no stream.

mod latency;
mod sharded;

use std::{
    collections::HashMap,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use self::{latency::Latency, sharded::Sharded};

/// The content type of [`Telemetry::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Seconds; from a commit in memory to a disk in trouble.
const LATENCY_BUCKETS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// The gateway's counters. Counting is a few atomic operations and never blocks.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    connections: IntGauge,
    streams: IntGauge,
    sessions: IntGaugeVec,
    requests: IntCounterVec,
    frames: Directions<IntCounter>,
    bytes: Directions<IntCounter>,
    /// What the two above show, up to now.
    moved: Sharded<Moved>,
    /// Held while they are brought up to it.
    showing: Mutex<()>,
    acks: IntCounter,
    ack_latency: Latency,
    request_latency: HistogramVec,
    open_latency: HistogramVec,
    appended: IntCounterVec,
    read: IntCounterVec,
    errors: IntCounterVec,
    memory: IntGaugeVec,
    memory_limit: IntGaugeVec,
    disk: OnceLock<IntGauge>,
    store: Mutex<HashMap<&'static str, IntCounter>>,
}

/// One for what comes in and one for what goes out.
#[derive(Debug, Default)]
struct Directions<T> {
    received: T,
    sent: T,
}

/// What sessions count for every batch.
#[derive(Debug, Default)]
struct Moved {
    frames: Directions<AtomicU64>,
    bytes: Directions<AtomicU64>,
}

/// How long the store takes to make what it accepted durable, once for every batch.
#[derive(Clone, Debug)]
pub struct CommitLatency(Latency);

impl Default for CommitLatency {
    fn default() -> Self {
        Self(latency("s2s_store_commit_seconds", "From the hand-over of a batch to the store to its durability."))
    }
}

impl CommitLatency {
    /// A batch became durable so long after it was handed over.
    pub fn observe(&self, after: Duration) {
        self.0.observe(after);
    }
}

/// How much of a share of the memory is taken.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    /// Whose share it is; one of few.
    pub purpose: &'static str,
    /// Bytes taken.
    pub used: usize,
    /// Bytes that may be.
    pub limit: usize,
}

/// What kind of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// A writer's.
    Append,
    /// A reader's.
    Read,
}

impl SessionKind {
    const fn label(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Read => "read",
        }
    }
}

/// A session, a connection: counted as open until this is dropped.
#[derive(Debug)]
#[must_use = "it is counted only as long as this is kept"]
pub struct OpenGuard(IntGauge);

impl OpenGuard {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    /// Everything at zero, in a registry of its own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let by_direction = |name: &str, help: &str| {
            let family = counters(&registry, name, help, "direction");
            Directions { received: family.with_label_values(&["in"]), sent: family.with_label_values(&["out"]) }
        };
        Self {
            connections: gauge(&registry, "s2s_connections_open", "Connections that are open."),
            streams: gauge(&registry, "s2s_streams_open", "Streams that are open."),
            sessions: gauges(&registry, "s2s_sessions_open", "Sessions that are open.", "kind"),
            requests: counters(&registry, "s2s_requests_total", "Requests, by operation.", "operation"),
            frames: by_direction("s2s_frames_total", "S2S frames of sessions."),
            bytes: by_direction("s2s_frame_bytes_total", "Bytes of S2S frames of sessions."),
            moved: Sharded::default(),
            showing: Mutex::default(),
            acks: register(&registry, IntCounter::new("s2s_acks_total", "Appends acknowledged on sessions.")),
            ack_latency: register(
                &registry,
                Latency::new(
                    "s2s_append_ack_latency_seconds",
                    "From the last byte of an input on a session to its ack.",
                ),
            ),
            request_latency: latencies(
                &registry,
                "s2s_request_duration_seconds",
                "From the head of a unary request to its response.",
                "operation",
            ),
            open_latency: latencies(
                &registry,
                "s2s_session_open_seconds",
                "From the head of a session's request to the head of its response.",
                "kind",
            ),
            appended: counters(&registry, "s2s_appended_bytes_total", "Metered bytes appended, by basin.", "basin"),
            read: counters(&registry, "s2s_read_bytes_total", "Metered bytes sent to readers, by basin.", "basin"),
            errors: counters(&registry, "s2s_errors_total", "Errors told to clients, by code.", "code"),
            memory: gauges(&registry, "s2s_memory_bytes", "Memory taken of the budget, by share.", "share"),
            memory_limit: gauges(&registry, "s2s_memory_limit_bytes", "The shares of the budget.", "share"),
            disk: OnceLock::new(),
            store: Mutex::default(),
            registry,
        }
    }

    /// A connection was opened.
    pub fn connection(&self) -> OpenGuard {
        OpenGuard::new(self.connections.clone())
    }

    /// A session was opened.
    pub fn session(&self, kind: SessionKind) -> OpenGuard {
        OpenGuard::new(self.sessions.with_label_values(&[kind.label()]))
    }

    /// A request for `operation` came in.
    pub fn request(&self, operation: &'static str) {
        self.requests.with_label_values(&[operation]).inc();
    }

    /// `bytes` bytes came in on a session, with which `frames` frames were complete.
    pub fn received(&self, frames: u64, bytes: usize) {
        let Moved { frames: frames_moved, bytes: bytes_moved } = self.moved.mine();
        frames_moved.received.fetch_add(frames, Relaxed);
        bytes_moved.received.fetch_add(bytes as u64, Relaxed);
    }

    /// `frames` frames of together `bytes` bytes went out on a session.
    pub fn sent(&self, frames: u64, bytes: usize) {
        let Moved { frames: frames_moved, bytes: bytes_moved } = self.moved.mine();
        frames_moved.sent.fetch_add(frames, Relaxed);
        bytes_moved.sent.fetch_add(bytes as u64, Relaxed);
    }

    /// An input was acknowledged so long after it had come in.
    pub fn acked(&self, after: Duration) {
        self.ack_latency.observe(after);
    }

    /// A client was told of an error with this code.
    pub fn error(&self, code: &'static str) {
        self.errors.with_label_values(&[code]).inc();
    }

    /// A unary request for `operation` was answered so long after it came in.
    pub fn answered(&self, operation: &'static str, after: Duration) {
        self.request_latency.with_label_values(&[operation]).observe(after.as_secs_f64());
    }

    /// A session was established so long after its request came in.
    pub fn established(&self, kind: SessionKind, after: Duration) {
        self.open_latency.with_label_values(&[kind.label()]).observe(after.as_secs_f64());
    }

    /// Shows what the service measures. Only the first call counts.
    pub fn show_commits(&self, latency: &CommitLatency) {
        // The name is well formed and nobody else's: all that can fail is the second call.
        let _ = self.registry.register(Box::new(latency.0.clone()));
    }

    /// Metered bytes appended and read in a basin since the process began; the caller sees to it that they are few.
    pub fn basin_bytes(&self, basin: &str, appended: u64, read: u64) {
        for (family, total) in [(&self.appended, appended), (&self.read, read)] {
            let counter = family.with_label_values(&[basin]);
            raise(&counter, total);
        }
    }

    /// Streams take so many bytes on the disk. Shown from the first call on.
    pub fn disk_used(&self, bytes: u64) {
        let help = "Bytes that streams take on the disk, without the journal.";
        let disk = self.disk.get_or_init(|| gauge(&self.registry, "s2s_store_disk_bytes", help));
        disk.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// So much is taken of a share of the memory.
    pub fn memory(&self, MemoryUse { purpose, used, limit }: MemoryUse) {
        for (family, bytes) in [(&self.memory, used), (&self.memory_limit, limit)] {
            family.with_label_values(&[purpose]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// The store counted up to `total` of something, under a name that nothing else has. Shown from the first call on.
    pub fn store_count(&self, name: &'static str, help: &'static str, total: u64) {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = store.entry(name).or_insert_with(|| register(&self.registry, IntCounter::new(name, help)));
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// All counters as Prometheus reads them; `open_streams` is what only the caller knows.
    pub fn render(&self, open_streams: usize) -> Vec<u8> {
        self.streams.set(open_streams as i64);
        self.show_moved();
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n").into_bytes(),
        }
    }

    fn show_moved(&self) {
        let _one_at_a_time = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        raise(&self.frames.received, self.moved.sum(|moved| moved.frames.received.load(Relaxed)));
        raise(&self.frames.sent, self.moved.sum(|moved| moved.frames.sent.load(Relaxed)));
        raise(&self.bytes.received, self.moved.sum(|moved| moved.bytes.received.load(Relaxed)));
        raise(&self.bytes.sent, self.moved.sum(|moved| moved.bytes.sent.load(Relaxed)));
        raise(&self.acks, self.ack_latency.count());
    }
}

/// Brings `counter` up to what was counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn latency_options(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec())
}

fn latency(name: &str, help: &str) -> Latency {
    Latency::new(name, help).expect("the names of this file are well formed")
}

fn latencies(registry: &Registry, name: &str, help: &str, label: &str) -> HistogramVec {
    register(registry, HistogramVec::new(latency_options(name, help), &[label]))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, label: &str) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), &[label]))
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), &[label]))
}

fn register<C>(registry: &Registry, collector: prometheus::Result<C>) -> C
where
    C: prometheus::core::Collector + Clone + 'static,
{
    let collector = collector.expect("the names of this file are well formed");
    registry.register(Box::new(collector.clone())).expect("each name of this file is registered once");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_can_be_read() {
        let telemetry = Telemetry::new();
        let session = telemetry.session(SessionKind::Append);
        telemetry.received(3, 42);
        telemetry.sent(2, 7);
        telemetry.acked(Duration::from_micros(300));
        telemetry.error("bad_frame");
        let text = String::from_utf8(telemetry.render(5)).unwrap();
        for line in [
            "s2s_sessions_open{kind=\"append\"} 1",
            "s2s_frames_total{direction=\"in\"} 3",
            "s2s_frame_bytes_total{direction=\"in\"} 42",
            "s2s_frames_total{direction=\"out\"} 2",
            "s2s_frame_bytes_total{direction=\"out\"} 7",
            "s2s_acks_total 1",
            "s2s_append_ack_latency_seconds_bucket{le=\"0.0005\"} 1",
            "s2s_errors_total{code=\"bad_frame\"} 1",
            "s2s_streams_open 5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("s2s_store_disk_bytes"), "there may be no disk");
        drop(session);
        telemetry.disk_used(9);
        telemetry.store_count("s2s_store_somethings_total", "Somethings.", 3);
        telemetry.store_count("s2s_store_somethings_total", "Somethings.", 5);
        telemetry.memory(MemoryUse { purpose: "recent", used: 3, limit: 8 });
        let text = String::from_utf8(telemetry.render(0)).unwrap();
        assert!(text.contains("s2s_sessions_open{kind=\"append\"} 0"));
        assert!(text.contains("s2s_store_disk_bytes 9"));
        assert!(text.contains("s2s_memory_bytes{share=\"recent\"} 3"));
        assert!(text.contains("s2s_memory_limit_bytes{share=\"recent\"} 8"));
        assert!(text.contains("s2s_store_somethings_total 5"));
    }
}
