//! What is done in each scenario, and in which order: set up, measure, check.

use std::{
    fmt::Display,
    iter::zip,
    num::NonZeroU32,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    assignment::Assignment,
    body::{Batches, Compressed},
    check::{Account, Checker, Findings},
    meter::Meter,
    reader::{Reader, Subject, Times},
    run::{Lanes, Run},
    schedule::{Pace, Schedule},
    target::{Stage, Target},
    tasks::{ALL, SOME, concurrently},
    writer::Writer,
};
use crate::{
    cli::CliError,
    client::{AppendOptions, Client, Conditions, EncryptionKey, InputBuilder, RetryPolicy, StreamPath},
    config::{BenchConfig, Load, Scenario},
    types::{Compression, SeqNum},
};

/// A load, and what it is run on.
pub(super) struct Bench {
    scenario: Scenario,
    load: Load,
    duration: Duration,
    streams: Vec<StreamPath>,
    key: Option<EncryptionKey>,
    clients: Vec<Client>,
    /// For what is done between rounds: the load's sessions may take up all that a server allows on their connections.
    between_rounds: Client,
    batches: Arc<Batches>,
    times: Times,
    pub(super) run: Arc<Run>,
    /// What is measured.
    pub(super) lanes: Arc<Lanes>,
    /// What has to be done beside that.
    pub(super) aside: Arc<Lanes>,
    meter: Mutex<Meter>,
    stage: Mutex<&'static str>,
}

/// What is written between two times at which everything is read back and trimmed: little enough for a store in memory.
const ROUND_BYTES: u64 = 256 * 1024 * 1024;
/// What a store may need for a batch beside its bodies.
const BATCH_OVERHEAD: u64 = 512;
/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

impl Bench {
    /// The load of `config`, on what was set up for it.
    pub(super) fn new(config: &BenchConfig, target: &Target, stage: &Stage, meter: Meter) -> Result<Self, CliError> {
        // Where the time to delivery is asked for, records have to carry the time.
        let (compressed, times) = match config.scenario {
            Scenario::FanOut | Scenario::Idle | Scenario::Mixed => (Compressed::Live, Times::InRecords),
            Scenario::Appends | Scenario::Latency | Scenario::Unary | Scenario::CatchUp => {
                (Compressed::Beforehand, Times::Unknown)
            }
        };
        // Every failure is to be seen and counted.
        let once = RetryPolicy { attempts: NonZeroU32::MIN, ..RetryPolicy::default() };
        let load = config.load;
        Ok(Self {
            scenario: config.scenario,
            load,
            duration: config.duration,
            streams: stage.streams.clone(),
            key: config.encryption_key.clone(),
            clients: (0..load.connections).map(|_| target.client(once)).collect::<Result<_, _>>()?,
            between_rounds: target.client(once)?,
            batches: Arc::new(Batches::new(&load, compressed).map_err(cannot_start)?),
            times,
            run: Arc::new(Run::start().map_err(cannot_start)?),
            lanes: Arc::new(Lanes::new()),
            aside: Arc::new(Lanes::new()),
            meter: Mutex::new(meter),
            stage: Mutex::new("setting up"),
        })
    }

    /// Does it. The findings are about every record that was read.
    pub(super) async fn go(&self) -> Findings {
        match self.scenario {
            Scenario::Appends | Scenario::Latency | Scenario::Unary => self.appends().await,
            Scenario::CatchUp => self.catch_up().await,
            Scenario::FanOut | Scenario::Mixed => self.followed().await,
            Scenario::Idle => self.idle().await,
        }
    }

    /// What is being done.
    pub(super) fn stage(&self) -> &'static str {
        *lock(&self.stage)
    }

    /// What is measured, with the time.
    pub(super) fn meter(&self) -> MutexGuard<'_, Meter> {
        lock(&self.meter)
    }

    /// In rounds: after each, everything is read back, and trimmed.
    async fn appends(&self) -> Findings {
        let mut writers = self.open_writers().await;
        let mut checkers = vec![Checker::new(self.batches.period()); self.streams.len()];
        let mut checked = vec![SeqNum::FIRST; self.streams.len()];
        loop {
            self.begin();
            let now = self.run.now();
            let left = self.duration.saturating_sub(self.meter().measured(now));
            writers = self.write(writers, self.lanes.clone(), |i| self.schedule(i, now, now + left)).await;
            let is_over = !writers.iter().any(Writer::was_cut_short);
            if is_over {
                self.wait_out(now + left).await;
            }
            self.end();
            let tails = self.tails(&writers);
            checkers = self.read_back(checkers, &checked, &tails).await;
            checked = tails;
            if is_over || self.run.is_stopping() || writers.iter().all(Writer::gave_up) {
                break;
            }
            self.trim(&checked).await;
        }
        zip(checkers, self.accounts(&writers)).map(|(checker, accounts)| checker.finish(&accounts)).sum()
    }

    async fn catch_up(&self) -> Findings {
        let writers = self.fill().await;
        let (tails, accounts) = (self.tails(&writers), self.accounts(&writers));
        self.begin();
        let until = self.run.now() + self.duration;
        let passes = concurrently(ALL, 0..self.load.readers, |reader| {
            let stream = reader % self.streams.len();
            let (subject, accounts) = (self.subject(reader, stream, Times::Unknown), accounts[stream].clone());
            let (run, lanes, period, tail) =
                (self.run.clone(), self.lanes.clone(), self.batches.period(), tails[stream]);
            async move {
                let (mut found, mut at_the_latest) = (Findings::default(), FOREVER);
                while run.now() < at_the_latest && !run.is_stopping() {
                    let reader =
                        Reader::of_range(subject.clone(), run.clone(), Checker::new(period), SeqNum::FIRST..tail);
                    let reader = reader.read(&lanes, at_the_latest).await;
                    found += reader.finish(&accounts);
                    if reader.gave_up() {
                        break;
                    }
                    at_the_latest = until;
                }
                found
            }
        });
        let found = passes.await.into_iter().sum();
        self.end();
        found
    }

    /// Writers at their rate, followers from the first record on, and readers that begin again and again.
    async fn followed(&self) -> Findings {
        let writers = self.open_writers().await;
        let followers = self.open_followers().await;
        let (announce, tails) = watch::channel(None);
        self.begin();
        let now = self.run.now();
        let until = now + self.duration;
        let followers = self.follow(followers, tails);
        let readers = self.reread(until);
        let writing = async {
            let writers = self.write(writers, self.lanes.clone(), |i| self.schedule(i, now, until)).await;
            self.wait_out(until).await;
            announce.send_replace(Some(self.tails(&writers).into()));
            writers
        };
        let (writers, followers, reread) = tokio::join!(writing, followers, readers);
        self.end();
        self.found_by(&followers, &writers) + reread
    }

    /// Followers to whom nothing comes, until at the end one batch shows that they are there.
    async fn idle(&self) -> Findings {
        let writers = self.open_writers().await;
        let followers = self.open_followers().await;
        let (announce, tails) = watch::channel(None);
        self.begin();
        let idling = async {
            self.run.wait_until(self.run.now() + self.duration).await;
            self.end();
            self.enter("waking followers");
            let writers = self.write(writers, self.aside.clone(), |_| once(self.run.now())).await;
            announce.send_replace(Some(self.tails(&writers).into()));
            writers
        };
        let (writers, followers) = tokio::join!(idling, self.follow(followers, tails));
        self.found_by(&followers, &writers)
    }

    /// A writer for each session, each of which has its first batch acknowledged.
    async fn open_writers(&self) -> Vec<Writer> {
        self.enter("opening append sessions");
        let now = self.run.now();
        let writers = (0..self.load.sessions).map(|i| Writer::new(self.assignment(i), self.run.clone()));
        let aside = self.aside.clone();
        concurrently(SOME, writers, move |writer| writer.write(once(now), aside.clone())).await
    }

    async fn fill(&self) -> Vec<Writer> {
        let writers = self.open_writers().await;
        self.enter("filling");
        let batches = self.load.size.div_ceil(self.load.batch_bytes() * self.load.sessions) as u64;
        let now = self.run.now();
        self.write(writers, self.aside.clone(), |_| Schedule::new(None, now, FOREVER, batches)).await
    }

    async fn write(
        &self,
        writers: Vec<Writer>,
        lanes: Arc<Lanes>,
        schedule: impl Fn(usize) -> Schedule,
    ) -> Vec<Writer> {
        let scheduled = writers.into_iter().enumerate().map(|(i, writer)| (writer, schedule(i)));
        concurrently(ALL, scheduled, move |(writer, schedule)| writer.write(schedule, lanes.clone())).await
    }

    /// At a rate the time goes on after the last send, or the rate would seem to be higher.
    async fn wait_out(&self, end: Duration) {
        if self.load.rate.is_some() {
            self.run.wait_until(end).await;
        }
    }

    /// What session `i` does between two times, in one round.
    fn schedule(&self, i: usize, begin: Duration, end: Duration) -> Schedule {
        let sessions = self.load.sessions;
        let pace = self.load.rate.map(|rate| Pace::share(rate, i, sessions));
        let batches = match self.scenario {
            Scenario::Appends | Scenario::Latency | Scenario::Unary => {
                ROUND_BYTES / (self.batches.bytes() + BATCH_OVERHEAD)
            }
            _ => u64::MAX,
        };
        Schedule::new(pace, begin, end, (batches / sessions as u64).max(1))
    }

    async fn open_followers(&self) -> Vec<Reader> {
        self.enter("opening followers");
        let followers = (0..self.load.followers).map(|i| {
            let checker = Checker::new(self.batches.period());
            let subject = self.subject(i, i % self.streams.len(), self.times);
            Reader::follow(subject, self.run.clone(), checker, SeqNum::FIRST)
        });
        concurrently(SOME, followers, |follower| follower.opened(self.aside.clone(), self.lanes.clone())).await
    }

    async fn follow(&self, followers: Vec<Reader>, tails: watch::Receiver<Option<Arc<[SeqNum]>>>) -> Vec<Reader> {
        let lanes = self.lanes.clone();
        concurrently(ALL, followers, move |follower| follower.followed(lanes.clone(), tails.clone())).await
    }

    /// Reads what is there, and when that is done what is there then, until the time has come.
    async fn reread(&self, until: Duration) -> Findings {
        let found = concurrently(ALL, 0..self.load.readers, |reader| {
            let subject = self.subject(reader, reader % self.streams.len(), Times::Unknown);
            let (run, lanes, period) = (self.run.clone(), self.lanes.clone(), self.batches.period());
            async move {
                let mut found = Findings::default();
                while run.now() < until && !run.is_stopping() {
                    let Ok(tail) = subject.client.check_tail(&subject.path).await else { break };
                    let range = SeqNum::FIRST..tail.seq_num;
                    let reader = Reader::of_range(subject.clone(), run.clone(), Checker::new(period), range);
                    let reader = reader.read(&lanes, until).await;
                    found += reader.findings();
                    if reader.gave_up() {
                        break;
                    }
                }
                found
            }
        });
        found.await.into_iter().sum()
    }

    /// Reads and checks what was written since the last time.
    async fn read_back(&self, checkers: Vec<Checker>, from: &[SeqNum], to: &[SeqNum]) -> Vec<Checker> {
        self.enter("reading back");
        let parts = zip(checkers, zip(from, to).map(|(from, to)| Range { start: *from, end: *to })).enumerate();
        let readers = parts.map(|(stream, (checker, range))| {
            let client = self.between_rounds.clone();
            let subject = Subject { client, ..self.subject(stream, stream, Times::Unknown) };
            Reader::of_range(subject, self.run.clone(), checker, range)
        });
        let aside = self.aside.clone();
        concurrently(SOME, readers, move |reader| {
            let aside = aside.clone();
            async move { reader.read_to_the_end(&aside).await.into_checker() }
        })
        .await
    }

    /// Makes room: nobody needs what was checked.
    async fn trim(&self, to: &[SeqNum]) {
        self.enter("trimming");
        concurrently(SOME, zip(self.streams.clone(), to.to_vec()), |(stream, to)| {
            let (client, run, key) = (self.between_rounds.clone(), self.run.clone(), self.key.clone());
            async move {
                let mut trim = InputBuilder::new();
                trim.push(None, [(&b""[..], &b"trim"[..])], &to.get().to_be_bytes());
                let trim = trim.build(Conditions::default(), Compression::None).expect("nine bytes are not too many");
                let options = AppendOptions { encryption_key: key, ..AppendOptions::default() };
                let mut session = client.append_session(&stream, options);
                if session.submit(trim).is_ok() {
                    session.finish();
                    if let Some(Err(error)) = session.next_ack().await {
                        run.failed(&error, 1);
                    }
                }
            }
        })
        .await;
    }

    fn found_by(&self, followers: &[Reader], writers: &[Writer]) -> Findings {
        let accounts = self.accounts(writers);
        followers.iter().map(|follower| follower.finish(&accounts[follower.stream()])).sum()
    }

    /// Where each stream ends, as far as that is known.
    fn tails(&self, writers: &[Writer]) -> Vec<SeqNum> {
        let mut tails = vec![SeqNum::FIRST; self.streams.len()];
        for writer in writers {
            let tail = &mut tails[writer.stream()];
            *tail = writer.tail().max(*tail);
        }
        tails
    }

    /// Who wrote to each stream.
    fn accounts(&self, writers: &[Writer]) -> Vec<Vec<Account>> {
        let mut accounts = vec![Vec::new(); self.streams.len()];
        writers.iter().for_each(|writer| accounts[writer.stream()].extend(writer.accounts()));
        accounts
    }

    fn assignment(&self, session: usize) -> Assignment {
        let stream = session % self.streams.len();
        Assignment {
            client: self.client(session),
            stream,
            path: self.streams[stream].clone(),
            key: self.key.clone(),
            via: self.scenario.via(),
            batches: self.batches.clone(),
            in_flight: self.load.in_flight,
            task: session,
        }
    }

    fn subject(&self, task: usize, stream: usize, times: Times) -> Subject {
        let (path, compression) = (self.streams[stream].clone(), self.load.compression);
        Subject { client: self.client(task), stream, path, key: self.key.clone(), compression, task, times }
    }

    fn client(&self, task: usize) -> Client {
        self.clients[task % self.clients.len()].clone()
    }

    fn begin(&self) {
        self.enter("measuring");
        self.meter().begin(self.run.now());
    }

    fn end(&self) {
        let volume = self.lanes.volume();
        self.meter().end(self.run.now(), volume);
    }

    fn enter(&self, stage: &'static str) {
        *lock(&self.stage) = stage;
    }
}

/// One batch, now.
fn once(now: Duration) -> Schedule {
    Schedule::new(None, now, FOREVER, 1)
}

fn cannot_start(reason: impl Display) -> CliError {
    CliError::Start(reason.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
