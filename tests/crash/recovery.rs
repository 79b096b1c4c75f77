//! How long a start takes after a kill, by how much there is: measured from exec to `/health`, to the first acknowledged
//! append and to the first batch read; and whether every stream ends where it was acknowledged to end.
//!
//! The `--ignored` round fills 100,000 streams with 10 GiB; what it measures it prints, and the times have a limit:
//!
//! ```text
//! cargo test --release --test crash -- --ignored --nocapture recovery
//!
//! RECOVERY_STREAMS   streams
//! RECOVERY_MIB       MiB of records in them
//! RECOVERY_KILLS     how often the gateway is killed while it is being filled further
//! RECOVERY_DIR       where the data directory is made; default: the system's directory for temporary files
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use s2s_gateway::{
    client::{AppendOptions, Client, Conditions, EncodedInput, InputBuilder, ReadOptions, StreamPath},
    store::{CommitSink, DiskStore, Store, StoreError},
    types::{
        BasinConfig, BasinName, Batch, Command, Compression, FencingToken, Head, MemoryShares, ReadBounds, ReadRequest,
        ReadStart, SeqNum, StreamId, StreamName, Timestamp, testing,
    },
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::process::Gateway;

/// Streams that are worked on at once.
const AT_ONCE: usize = 128;
const BODY: usize = 1024;
/// Of so many streams, one is fenced, and one is read to its end.
const FENCED: usize = 97;
const READ: usize = 499;
/// The whole of a start, until an append is acknowledged and a batch is read.
const LIMIT: Duration = Duration::from_secs(2);

/// What is filled in.
struct Plan {
    streams: usize,
    records_per_stream: usize,
    kills: usize,
}

impl Plan {
    fn new(streams: usize, mib: usize, kills: usize) -> Self {
        let streams = from_environment("RECOVERY_STREAMS").unwrap_or(streams);
        let mib = from_environment("RECOVERY_MIB").unwrap_or(mib);
        let kills = from_environment("RECOVERY_KILLS").unwrap_or(kills);
        Self { streams, records_per_stream: (mib * 1024 * 1024 / BODY / streams).clamp(1, 900), kills }
    }
}

fn from_environment(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// A stream: how many records were acknowledged, and how many were sent.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    acked: u64,
    sent: u64,
}

/// The account of all streams.
struct Ledger {
    streams: Vec<Mutex<Sent>>,
    records_per_input: usize,
}

impl Ledger {
    fn new(plan: &Plan) -> Self {
        Self {
            streams: (0..plan.streams).map(|_| Mutex::default()).collect(),
            records_per_input: plan.records_per_stream,
        }
    }

    fn of(&self, number: usize) -> Sent {
        *self.streams[number].lock().unwrap()
    }

    fn acked(&self) -> u64 {
        (0..self.streams.len()).map(|number| self.of(number).acked).sum()
    }

    /// Appends one input to stream `number`; whether it was acknowledged.
    async fn append(&self, client: &Client, number: usize) -> bool {
        let first = self.of(number).sent;
        let mut session = client.append_session(&path_of(number), AppendOptions::default());
        let input = input(number, first, self.records_per_input);
        let records = input.records() as u64;
        if session.submit(input).is_err() {
            return false;
        }
        session.finish();
        self.streams[number].lock().unwrap().sent += records;
        let Some(Ok(ack)) = session.next_ack().await else { return false };
        assert_eq!(ack.end.seq_num.get(), first + records, "an ack out of place");
        self.streams[number].lock().unwrap().acked = first + records;
        true
    }

    /// Appends to streams at random until the gateway goes away, each time to one with nothing that is unknown.
    async fn append_at_random(self: Arc<Self>, client: Client, mut random: StdRng, turn: usize) {
        loop {
            // No two tasks have a stream in common.
            let number = random.random_range(0..self.streams.len() / AT_ONCE) * AT_ONCE + turn;
            if !self.append(&client, number).await {
                return;
            }
        }
    }

    /// Whether stream `number` ends at an acknowledged place, or at one that may have been reached without an ack.
    async fn check_tail(&self, client: &Client, number: usize) {
        let Sent { acked, sent } = self.of(number);
        let tail = client.check_tail(&path_of(number)).await.unwrap().seq_num.get();
        assert!(tail == acked || tail == sent, "stream {number} ends at {tail}: {acked} acknowledged, {sent} sent");
        *self.streams[number].lock().unwrap() = Sent { acked: tail, sent: tail };
    }

    /// Whether stream `number` has what was sent to it, from the first record to the last.
    async fn check_records(&self, client: &Client, number: usize) {
        let tail = self.of(number).acked;
        let mut session = client.read_session(&path_of(number), read_first(tail), ReadOptions::default());
        let mut next = 0;
        while let Some(batch) = session.next_batch().await {
            for record in batch.unwrap().records {
                assert_eq!(record.seq_num.get(), next);
                if !is_fence(number, next) {
                    assert!(record.body[..] == body(number, next)[..], "record {next} of stream {number}");
                }
                next += 1;
            }
        }
        assert_eq!(next, tail, "stream {number}");
    }

    /// Does `job` with every stream that is `step` from the one before, some at once.
    async fn for_each<J>(self: &Arc<Self>, step: usize, job: impl Fn(Arc<Self>, usize) -> J)
    where
        J: Future<Output = ()> + Send + 'static,
    {
        let mut running = JoinSet::new();
        for number in (0..self.streams.len()).step_by(step) {
            if running.len() == AT_ONCE {
                running.join_next().await.unwrap().unwrap();
            }
            running.spawn(job(self.clone(), number));
        }
        while let Some(done) = running.join_next().await {
            done.unwrap();
        }
    }
}

fn basin() -> BasinName {
    BasinName::new("recovery-basin").unwrap()
}

fn path_of(number: usize) -> StreamPath {
    StreamPath { basin: basin(), stream: StreamName::new(&format!("stream-{number}")).unwrap() }
}

/// Every record is another, and none can be compressed away.
fn body(number: usize, seq_num: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64((number as u64) << 32 | seq_num);
    let mut body = vec![0; BODY];
    random.fill(&mut body[..]);
    body
}

fn is_fence(number: usize, seq_num: u64) -> bool {
    number.is_multiple_of(FENCED) && seq_num == 0
}

fn input(number: usize, first: u64, records: usize) -> EncodedInput {
    let mut builder = InputBuilder::new();
    for seq_num in first..first + records as u64 {
        if is_fence(number, seq_num) {
            let command = Command::Fence(FencingToken::new(&format!("fence-{number}")).unwrap());
            builder.push(None, [(&b""[..], command.name())], &command.body());
        } else {
            builder.push(None, [], &body(number, seq_num));
        }
    }
    builder.build(Conditions::default(), Compression::None).unwrap()
}

fn read_first(count: u64) -> ReadRequest {
    ReadRequest {
        start: ReadStart::SeqNum(SeqNum::FIRST),
        bounds: ReadBounds { count: Some(count), ..ReadBounds::default() },
        wait: Some(Duration::from_secs(5)),
        clamp: false,
    }
}

/// How long after exec something was so.
struct Started {
    healthy: Duration,
    first_ack: Duration,
    first_read: Duration,
}

/// Starts the gateway and asks it for everything at once.
async fn start(directory: &Path, ledger: &Ledger, number: usize) -> (Gateway, Started) {
    let began = Instant::now();
    let gateway = Gateway::start(directory, &[]);
    let client = gateway.patient_client();
    let healthy = async {
        assert!(gateway.is_healthy(), "it started, and is not well");
        began.elapsed()
    };
    let first_ack = async {
        ledger.check_tail(&client, number).await;
        assert!(ledger.append(&client, number).await, "the first append was not acknowledged");
        began.elapsed()
    };
    let first_read = async {
        let mut session = client.read_session(&path_of(number + 1), read_first(1), ReadOptions::default());
        session.next_batch().await.expect("there is something to read").expect("it can be read");
        began.elapsed()
    };
    let (healthy, first_ack, first_read) = tokio::join!(healthy, first_ack, first_read);
    (gateway, Started { healthy, first_ack, first_read })
}

/// Fills, then kills while filling further, starts again and looks, so many times.
async fn kill_and_measure(plan: Plan, limit: Duration) {
    let place = place();
    let data = place.path().join("data");
    let ledger = Arc::new(Ledger::new(&plan));
    let mut gateway = Gateway::start(&data, &[]);
    let began = Instant::now();
    fill(&gateway.patient_client(), &ledger).await;
    println!(
        "{} streams with {} records of {BODY} bytes were filled in {:.1?}",
        plan.streams,
        ledger.acked(),
        began.elapsed()
    );
    for _ in 0..plan.kills {
        append_until_killed(&mut gateway, &ledger).await;
        let journal = size_of(&data.join("log"), "jnl");
        let number = rand::rng().random_range(0..plan.streams - 1);
        let (started, times) = start(&data, &ledger, number).await;
        gateway = started;
        let memory = gateway.memory();
        println!(
            "journal {} MiB: healthy after {:.0?}, first ack {:.0?}, first read {:.0?}; {} MiB in memory",
            journal >> 20,
            times.healthy,
            times.first_ack,
            times.first_read,
            memory >> 20
        );
        let slowest = times.healthy.max(times.first_ack).max(times.first_read);
        assert!(slowest < limit, "starting took {slowest:?}");
        check_tails(&gateway.patient_client(), &ledger).await;
    }
    check_some_records(&gateway.patient_client(), &ledger).await;
    println!("{} records, all tails as acknowledged; {} MiB in memory", ledger.acked(), gateway.memory() >> 20);
}

fn place() -> TempDir {
    let parent = std::env::var_os("RECOVERY_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(parent).unwrap()
}

async fn fill(client: &Client, ledger: &Arc<Ledger>) {
    let config = BasinConfig { create_stream_on_append: true, ..BasinConfig::default() };
    client.create_basin(&basin(), &config).await.unwrap();
    let append = |ledger: Arc<Ledger>, number| {
        let client = client.clone();
        async move { assert!(ledger.append(&client, number).await, "stream {number} could not be filled") }
    };
    ledger.for_each(1, append).await;
}

async fn append_until_killed(gateway: &mut Gateway, ledger: &Arc<Ledger>) {
    let client = gateway.client();
    let seed: u64 = rand::rng().random();
    let mut writers = JoinSet::new();
    for turn in 0..AT_ONCE {
        let random = StdRng::seed_from_u64(seed.wrapping_add(turn as u64));
        writers.spawn(ledger.clone().append_at_random(client.clone(), random, turn));
    }
    tokio::time::sleep(Duration::from_millis(rand::rng().random_range(500..2_500))).await;
    gateway.kill();
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
}

async fn check_tails(client: &Client, ledger: &Arc<Ledger>) {
    let check = |ledger: Arc<Ledger>, number| {
        let client = client.clone();
        async move { ledger.check_tail(&client, number).await }
    };
    ledger.for_each(1, check).await;
}

async fn check_some_records(client: &Client, ledger: &Arc<Ledger>) {
    let check = |ledger: Arc<Ledger>, number| {
        let client = client.clone();
        async move { ledger.check_records(&client, number).await }
    };
    ledger.for_each(READ, check).await;
}

/// Bytes of the files in `directory` with this extension.
fn size_of(directory: &Path, extension: &str) -> u64 {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| path.metadata().unwrap().len())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_finds_every_stream_as_acknowledged() {
    // Not a measurement: other tests run as well, and perhaps without optimization.
    kill_and_measure(Plan::new(4 * AT_ONCE, 24, 2), 30 * LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and 13 GiB of disk"]
async fn recovery_takes_no_longer_with_much_data() {
    kill_and_measure(Plan::new(100_000, 10 * 1024, 5), LIMIT).await;
}

/// A log that tells how far it is durable.
#[derive(Default)]
struct Reports {
    end: Mutex<SeqNum>,
    came: Condvar,
}

impl Reports {
    fn wait_for(&self, end: SeqNum) {
        drop(self.came.wait_while(self.end.lock().unwrap(), |reported| *reported < end).unwrap());
    }
}

impl CommitSink for Reports {
    fn durable(&self, end: SeqNum) {
        *self.end.lock().unwrap() = end;
        self.came.notify_all();
    }

    fn failed(&self, error: StoreError) {
        panic!("{error}");
    }
}

/// Writes `batches` batches of one small record each, to `logs` logs in turn, and leaves them as a kill would: nothing is
/// moved out of the journal when a store is dropped.
async fn write_small_batches(directory: &Path, logs: u64, batches: u64) {
    let store = DiskStore::open(directory, MemoryShares::default()).unwrap();
    let mut open = Vec::new();
    for log in 0..logs {
        let reports = Arc::new(Reports::default());
        let opened = store.open(StreamId::new(u128::from(log)), reports.clone()).await.unwrap();
        open.push((opened.log, reports));
    }
    for round in 0..batches / logs {
        let input = testing::input(&[("a small one", None)]);
        let batch = Batch::sequence(&input.batch, SeqNum::new(round), |_| Timestamp::new(round));
        for (log, reports) in &open {
            log.append(batch.clone(), Head { tail: batch.end(), ..Head::default() }).unwrap();
            // Not more at once than may wait to be written.
            reports.wait_for(SeqNum::new(round.saturating_sub(2)));
        }
    }
    for (_, reports) in &open {
        reports.wait_for(SeqNum::new(batches / logs));
    }
}

/// The journal is bounded in bytes: small batches are the most that can be in it.
async fn measure_small_batches(logs: u64, batches: u64) {
    let place = place();
    let data = place.path().join("data");
    write_small_batches(&data, logs, batches).await;
    let journal = size_of(&data.join("log"), "jnl");
    let began = Instant::now();
    let gateway = Gateway::start(&data, &[]);
    assert!(gateway.is_healthy());
    let healthy = began.elapsed();
    let client = gateway.patient_client();
    client
        .create_basin(&basin(), &BasinConfig { create_stream_on_append: true, ..BasinConfig::default() })
        .await
        .unwrap();
    let ledger = Ledger { streams: vec![Mutex::default()], records_per_input: 1 };
    assert!(ledger.append(&client, 0).await);
    println!(
        "{batches} small batches, journal {} MiB: healthy after {healthy:.0?}, first ack {:.0?}; {} MiB in memory",
        journal >> 20,
        began.elapsed(),
        gateway.memory() >> 20
    );
    assert!(began.elapsed() < LIMIT, "starting took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn recovery_takes_no_longer_with_small_batches() {
    for batches in [400_000, 800_000, 900_000, 1_000_000, 1_100_000] {
        measure_small_batches(50_000, batches).await;
    }
}
