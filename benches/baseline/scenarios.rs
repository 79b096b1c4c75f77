//! What is measured: one scenario for each load, one row for each figure that is taken of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{
    load::{self, Connection, keep_appending},
    payload::{Frames, Shape},
    row::{Reach, Row},
    server::{Kind, Server},
};

/// A load, and the rows that it gives.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) rows: &'static [Row],
    /// Whether the yardsticks can do it.
    comparable: bool,
    /// One value a row, of a server just started.
    run: fn(&Server, Duration) -> Vec<f64>,
}

impl Scenario {
    /// One value a row; nothing from a server that cannot do it.
    pub(crate) fn measure(&self, kind: Kind, time: Duration) -> Option<Vec<f64>> {
        (self.comparable || kind.is_gateway()).then(|| (self.run)(&Server::start(kind), time))
    }
}

const MIB: f64 = 1024.0 * 1024.0;

/// Sessions and requests that share a connection.
const A_CONNECTION: usize = 100;

/// Before a window is opened: connections settle, buffers grow.
const WARM_UP: Duration = Duration::from_millis(200);

pub(crate) static SCENARIOS: [Scenario; 15] = [
    Scenario {
        name: "append",
        rows: &[
            Row::new(
                "1 session, 100 × 1 KiB a batch, 32 in flight",
                "MiB/s",
                Reach::AtLeast(0.7),
                Reach::AtLeast(0.25),
            ),
            Row::new("its CPU", "µs/batch", Reach::AtMost(1.8), Reach::AtMost(3.0)),
        ],
        comparable: true,
        run: |server, time| {
            let shape = Shape::random(100, 1024);
            let window = append_window(server, time, Spread::shared(1), shape, 32);
            vec![window.rate() * shape.payload() as f64 / MIB, window.cpu_micros()]
        },
    },
    Scenario {
        name: "append-text",
        rows: &[
            Row::new("the same, text, zstd", "MiB/s", Reach::From(400.0), Reach::From(250.0)),
            Row::new("its CPU", "µs/batch", Reach::Told, Reach::Told),
        ],
        comparable: false,
        run: |server, time| {
            let shape = Shape::text(100, 1024);
            let window = append_window(server, time, Spread::shared(1), shape, 32);
            vec![window.rate() * shape.payload() as f64 / MIB, window.cpu_micros()]
        },
    },
    Scenario {
        name: "append-large",
        rows: &[Row::new("8 sessions, 8 × 64 KiB a batch", "MiB/s", Reach::AtLeast(0.6), Reach::OfDisk(0.8))],
        comparable: true,
        run: |server, time| {
            let shape = Shape::random(8, 64 * 1024);
            let window = append_window(server, time, Spread { sessions: 8, a_connection: 1 }, shape, 4);
            vec![window.rate() * shape.payload() as f64 / MIB]
        },
    },
    Scenario {
        name: "append-small",
        rows: &[
            Row::new(
                "1 session, 1 × 100 B a batch, 256 in flight",
                "acks/s",
                Reach::AtLeast(0.75),
                Reach::AtLeast(0.4),
            ),
            Row::new("its CPU", "µs/batch", Reach::Told, Reach::Told),
        ],
        comparable: true,
        run: |server, time| {
            let window = append_window(server, time, Spread::shared(1), Shape::random(1, 100), 256);
            vec![window.rate(), window.cpu_micros()]
        },
    },
    Scenario {
        name: "append-latency",
        rows: &[Row::new("1 append in flight, ack p50", "µs", Reach::AtMost(1.6), Reach::SyncOnTop(1.6, 1.5))],
        comparable: true,
        run: |server, time| vec![ack_latency(server, time)],
    },
    Scenario {
        name: "append-sessions",
        rows: &[
            Row::new("200 sessions, 1 × 100 B in flight each", "acks/s", Reach::AtLeast(0.75), Reach::AtLeast(0.4)),
            Row::new("its CPU", "µs/batch", Reach::Told, Reach::Told),
        ],
        comparable: true,
        run: |server, time| {
            let spread = Spread { sessions: 200, a_connection: A_CONNECTION };
            let window = append_window(server, time, spread, Shape::random(1, 100), 1);
            vec![window.rate(), window.cpu_micros()]
        },
    },
    Scenario {
        name: "append-json",
        rows: &[Row::new("unary JSON appends, 8 clients", "1/s", Reach::From(20_000.0), Reach::From(10_000.0))],
        comparable: false,
        run: |server, time| vec![unary_appends(server, time, 8)],
    },
    Scenario {
        name: "catch-up",
        rows: &[Row::new("catch-up read of 256 MiB of 1 KiB", "MiB/s", Reach::AtLeast(0.85), Reach::AtLeast(0.5))],
        comparable: true,
        run: |server, time| vec![catch_up(server, time, Shape::random(100, 1024), 256)],
    },
    Scenario {
        name: "catch-up-small",
        rows: &[Row::new("catch-up read of 64 MiB of 100 B", "MiB/s", Reach::AtLeast(0.85), Reach::AtLeast(0.5))],
        comparable: true,
        run: |server, time| vec![catch_up(server, time, Shape::random(100, 100), 64)],
    },
    Scenario {
        name: "catch-up-text",
        rows: &[
            Row::new("catch-up, text, zstd, first reader", "MiB/s", Reach::From(300.0), Reach::From(300.0)),
            Row::new("the next ones", "MiB/s", Reach::From(600.0), Reach::From(600.0)),
        ],
        comparable: false,
        run: |server, _| catch_up_compressed(server),
    },
    Scenario {
        name: "fan-out",
        rows: &[Row::new("500 followers, CPU a 1 KiB record", "µs", Reach::AtMost(1.0), Reach::AtMost(1.05))],
        comparable: true,
        run: |server, time| vec![fan_out(server, time, Shape::random(1, 1024), 500, Pace::STEADY)],
    },
    Scenario {
        name: "fan-out-bursts",
        rows: &[Row::new("the same, 8 records at once", "µs", Reach::AtMost(1.0), Reach::AtMost(1.05))],
        comparable: true,
        run: |server, time| vec![fan_out(server, time, Shape::random(1, 1024), 500, Pace::BURSTS)],
    },
    Scenario {
        name: "fan-out-text",
        rows: &[Row::new("200 followers, text, zstd, CPU a record", "µs", Reach::AtMost(1.0), Reach::AtMost(1.05))],
        comparable: true,
        run: |server, time| vec![fan_out(server, time, Shape::text(1, 1024), 200, Pace::STEADY)],
    },
    Scenario {
        name: "delivery",
        rows: &[Row::new("delivery p50, 100 followers", "µs", Reach::AtMost(1.1), Reach::AtMost(1.5))],
        comparable: true,
        run: |server, time| vec![delivery(server, time, 100)],
    },
    Scenario {
        name: "idle",
        rows: &[Row::new("memory an idle follower, 5,000", "KiB", Reach::UpTo(5.0), Reach::UpTo(5.0))],
        comparable: true,
        run: |server, _| vec![idle_memory(server, 5_000)],
    },
];

/// What happened between two moments.
struct Window {
    count: u64,
    elapsed: Duration,
    cpu: Duration,
}

impl Window {
    /// Waits for a while and looks at `counter` and the server's CPU time before and after.
    async fn over(server: &Server, counter: &AtomicU64, time: Duration) -> Self {
        tokio::time::sleep(WARM_UP).await;
        let (count, began, cpu) = (counter.load(Relaxed), Instant::now(), server.cpu());
        tokio::time::sleep(time).await;
        Self { count: counter.load(Relaxed) - count, elapsed: began.elapsed(), cpu: server.cpu() - cpu }
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count as f64
    }
}

/// How sessions lie on connections.
#[derive(Clone, Copy)]
struct Spread {
    sessions: usize,
    a_connection: usize,
}

impl Spread {
    const fn shared(sessions: usize) -> Self {
        Self { sessions, a_connection: A_CONNECTION }
    }

    async fn connections(self, server: &Server) -> Vec<Connection> {
        let mut connections = Vec::new();
        for _ in 0..self.sessions.div_ceil(self.a_connection) {
            connections.push(Connection::open(server).await);
        }
        connections
    }
}

/// Sessions on a stream each, with so many batches in flight each; acks are counted.
fn append_window(server: &Server, time: Duration, spread: Spread, shape: Shape, in_flight: usize) -> Window {
    let frames = shape.frames(in_flight.max(4));
    load::run(async {
        let connections = spread.connections(server).await;
        connections[0].provision(server, spread.sessions).await;
        let acks = Arc::new(AtomicU64::new(0));
        for i in 0..spread.sessions {
            let session = connections[i / spread.a_connection].append_session(i).await;
            let (frames, acks) = (frames.clone(), acks.clone());
            let acked = move |count| {
                acks.fetch_add(count as u64, Relaxed);
            };
            tokio::spawn(keep_appending(session, frames, in_flight, acked));
        }
        Window::over(server, &acks, time).await
    })
}

/// Microseconds from an append to its ack, in the median.
fn ack_latency(server: &Server, time: Duration) -> f64 {
    let mut frames = Shape::random(1, 100).frames(4);
    load::run(async {
        let connection = Connection::open(server).await;
        connection.provision(server, 1).await;
        let (mut sending, mut receiving) = connection.append_session(0).await;
        let mut latencies = Vec::new();
        let began = Instant::now();
        while began.elapsed() < WARM_UP + time {
            let sent = Instant::now();
            frames.next(1, |bytes| sending.send_data(bytes, false).unwrap());
            receiving.next_frames().await;
            if began.elapsed() > WARM_UP {
                latencies.push(sent.elapsed());
            }
        }
        median_micros(latencies)
    })
}

fn median_micros(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// Clients with a connection and one request at a time each.
fn unary_appends(server: &Server, time: Duration, clients: usize) -> f64 {
    let body = format!(r#"{{"records":[{{"body":"{}"}}]}}"#, "x".repeat(100));
    load::run(async {
        let done = Arc::new(AtomicU64::new(0));
        Connection::open(server).await.provision(server, clients).await;
        for i in 0..clients {
            let (connection, done, body) = (Connection::open(server).await, done.clone(), body.clone());
            tokio::spawn(async move {
                loop {
                    connection.append_json(i, body.clone().into()).await;
                    done.fetch_add(1, Relaxed);
                }
            });
        }
        Window::over(server, &done, time).await.rate()
    })
}

/// Appends batches to stream 0, `mib` of payload, and says how many records they had.
async fn fill(connection: &Connection, shape: Shape, mib: usize) -> usize {
    let batches = mib * 1024 * 1024 / shape.payload();
    let (mut frames, mut acked) = (shape.frames(64), 0);
    let (mut sending, mut receiving) = connection.append_session(0).await;
    let mut sent = 0;
    while acked < batches {
        let more = (acked + 32).min(batches) - sent;
        frames.next(more, |bytes| sending.send_data(bytes, false).unwrap());
        sent += more;
        acked += receiving.next_frames().await;
    }
    batches * shape.records
}

/// Reads all `records` records of stream 0; the payload must come whole, if it is not compressed.
async fn read_all(connection: &Connection, records: usize, encoding: &'static str) -> (Duration, usize) {
    let began = Instant::now();
    let mut session = connection.read_session(0, &format!("&count={records}"), encoding).await;
    let mut bytes = 0;
    while let Some(came) = session.next().await {
        bytes += came.bytes;
    }
    (began.elapsed(), bytes)
}

/// MiB of payload a second, over whole reads one after the other.
fn catch_up(server: &Server, time: Duration, shape: Shape, mib: usize) -> f64 {
    load::run(async {
        let connection = Connection::open(server).await;
        connection.provision(server, 1).await;
        let records = fill(&connection, shape, mib).await;
        let payload = records * shape.body;
        let (mut reads, mut taken) = (0, Duration::ZERO);
        read_all(&connection, records, "identity").await;
        while taken < time {
            let (time, bytes) = read_all(&connection, records, "identity").await;
            assert!(bytes > payload, "{bytes} bytes cannot hold {payload} of payload");
            reads += 1;
            taken += time;
        }
        (reads * payload) as f64 / MIB / taken.as_secs_f64()
    })
}

/// The first read, and the median of those after it.
fn catch_up_compressed(server: &Server) -> Vec<f64> {
    const MIB_OF_TEXT: usize = 128;
    load::run(async {
        let connection = Connection::open(server).await;
        connection.provision(server, 1).await;
        let records = fill(&connection, Shape::text(100, 1024), MIB_OF_TEXT).await;
        let mut rates = Vec::new();
        for _ in 0..4 {
            rates.push(MIB_OF_TEXT as f64 / read_all(&connection, records, "zstd").await.0.as_secs_f64());
        }
        let first = rates.remove(0);
        rates.sort_by(f64::total_cmp);
        vec![first, rates[1]]
    })
}

/// How fast a writer with followers goes, whatever becomes of it: followers must not be the measure of each other.
#[derive(Clone, Copy)]
struct Pace {
    every: Duration,
    batches: usize,
}

impl Pace {
    const STEADY: Pace = Pace { every: Duration::from_millis(4), batches: 1 };
    const BURSTS: Pace = Pace { every: Duration::from_millis(16), batches: 8 };
}

/// CPU microseconds of the server for each record delivered to each follower.
fn fan_out(server: &Server, time: Duration, shape: Shape, followers: usize, pace: Pace) -> f64 {
    load::run(async {
        let spread = Spread { sessions: followers, a_connection: A_CONNECTION };
        let connections = spread.connections(server).await;
        connections[0].provision(server, 1).await;
        let delivered = Arc::new(AtomicU64::new(0));
        for i in 0..followers {
            let mut session = connections[i / spread.a_connection].read_session(0, "", "zstd").await;
            let delivered = delivered.clone();
            tokio::spawn(async move {
                loop {
                    delivered.fetch_add(session.next_frames().await as u64, Relaxed);
                }
            });
        }
        let writer = Connection::open(server).await;
        tokio::spawn(async move { append_at(pace, &writer, shape.frames(64), |_| {}).await });
        Window::over(server, &delivered, time).await.cpu_micros()
    })
}

/// Appends batches to stream 0 at this pace, and tells when each was sent.
async fn append_at(pace: Pace, connection: &Connection, mut frames: Frames, mut sent: impl FnMut(Instant)) {
    let (mut sending, mut receiving) = connection.append_session(0).await;
    let mut ticks = tokio::time::interval(pace.every);
    loop {
        ticks.tick().await;
        (0..pace.batches).for_each(|_| sent(Instant::now()));
        frames.next(pace.batches, |bytes| sending.send_data(bytes, false).unwrap());
        let mut acked = 0;
        while acked < pace.batches {
            acked += receiving.next_frames().await;
        }
    }
}

/// Microseconds from an append to its record at a follower, in the median; each follower has a connection of its own.
fn delivery(server: &Server, time: Duration, followers: usize) -> f64 {
    load::run(async {
        let writer = Connection::open(server).await;
        writer.provision(server, 1).await;
        let sent = Arc::new(Mutex::new(Vec::new()));
        let latencies = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..followers {
            let mut session = Connection::open(server).await.read_session(0, "", "identity").await;
            let (sent, latencies) = (sent.clone(), latencies.clone());
            tokio::spawn(async move {
                let mut next = 0;
                loop {
                    let frames = session.next_frames().await;
                    let now = Instant::now();
                    let sent: &[Instant] = &sent.lock().unwrap();
                    let delivered = &sent[next..next + frames];
                    latencies.lock().unwrap().extend(delivered.iter().map(|sent| now - *sent));
                    next += frames;
                }
            });
        }
        let note = move |at| sent.lock().unwrap().push(at);
        tokio::spawn(async move { append_at(Pace::STEADY, &writer, Shape::random(1, 1024).frames(64), note).await });
        tokio::time::sleep(WARM_UP).await;
        latencies.lock().unwrap().clear();
        tokio::time::sleep(time).await;
        let latencies = std::mem::take(&mut *latencies.lock().unwrap());
        median_micros(latencies)
    })
}

/// KiB of the server's memory for each follower of an empty stream, its part of the connection included.
fn idle_memory(server: &Server, followers: usize) -> f64 {
    load::run(async {
        Connection::open(server).await.provision(server, 1).await;
        let before = server.memory();
        let spread = Spread { sessions: followers, a_connection: A_CONNECTION };
        let connections = spread.connections(server).await;
        let mut sessions = Vec::new();
        for i in 0..followers {
            sessions.push(connections[i / spread.a_connection].read_session(0, "", "identity").await);
        }
        tokio::time::sleep(WARM_UP).await;
        (server.memory() - before) as f64 / 1024.0 / followers as f64
    })
}
