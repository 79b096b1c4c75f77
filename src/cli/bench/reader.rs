//! One read session of a load: takes what comes, checks every record, and measures how long it took to come.

use std::{ops::Range, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{
    check::{Account, Checker, Findings},
    run::{Lanes, Recovery, Run},
};
use crate::{
    client::{Client, EncryptionKey, ReadOptions, ReadSession, StreamPath},
    types::{Compression, ReadBounds, ReadRequest, ReadStart, SeqNum},
    wire::{self, ReadPart},
};

/// What a reader reads.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) client: Client,
    /// Which of the run's streams.
    pub(super) stream: usize,
    pub(super) path: StreamPath,
    /// What the records were encrypted with if the stream has a cipher.
    pub(super) key: Option<EncryptionKey>,
    pub(super) compression: Compression,
    /// Which of the run's tasks.
    pub(super) task: usize,
    /// Whether records say when they were meant to be sent.
    pub(super) times: Times,
}

/// What is known of when a record was meant to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// It says so.
    InRecords,
    /// Nothing, or nobody cares.
    Unknown,
}

/// Reads one stream from some record on, however many sessions that takes.
pub(super) struct Reader {
    subject: Subject,
    run: Arc<Run>,
    session: ReadSession,
    checker: Checker,
    /// The next record, as far as records have come.
    next: SeqNum,
    /// Before this record it ends by itself.
    end: Option<SeqNum>,
    state: State,
    failures_in_a_row: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    /// All came that was asked for, or as much of that as the server had.
    Ended,
    /// All came that was acknowledged, or did not come in time.
    Followed,
    /// Too much failed.
    GaveUp,
}

impl Reader {
    /// Reads the records of `range`, of which `checker` has seen those before.
    pub(super) fn of_range(subject: Subject, run: Arc<Run>, checker: Checker, range: Range<SeqNum>) -> Self {
        Self::new(subject, run, checker, range.start, Some(range.end))
    }

    /// Reads from `start` on, for ever.
    pub(super) fn follow(subject: Subject, run: Arc<Run>, checker: Checker, start: SeqNum) -> Self {
        Self::new(subject, run, checker, start, None)
    }

    fn new(subject: Subject, run: Arc<Run>, checker: Checker, next: SeqNum, end: Option<SeqNum>) -> Self {
        let session = open(&subject, next, end);
        Self { subject, run, session, checker, next, end, state: State::Reading, failures_in_a_row: 0 }
    }

    /// Reads to the end, or until `until` or the word to stop, whichever is first.
    pub(super) async fn read(mut self, lanes: &Lanes, until: Duration) -> Self {
        while self.state == State::Reading && self.run.now() < until && !self.run.is_stopping() {
            self.read_once(lanes).await;
        }
        self
    }

    /// Reads to the end, whatever else is to stop.
    pub(super) async fn read_to_the_end(mut self, lanes: &Lanes) -> Self {
        while self.state == State::Reading {
            self.read_once(lanes).await;
        }
        self
    }

    /// Waits for the first record, which is counted `aside`; how long that took is counted in `lanes`.
    pub(super) async fn opened(mut self, aside: Arc<Lanes>, lanes: Arc<Lanes>) -> Self {
        let asked = self.run.now();
        while self.state == State::Reading && self.next == SeqNum::FIRST && !self.run.is_stopping() {
            self.read_once(&aside).await;
        }
        let passed = self.run.now().saturating_sub(asked);
        lanes.of(self.subject.task).openings.record(passed, 1);
        self
    }

    /// Follows until `tails` has said where the streams end and this one's end is reached, or nothing has come for
    /// [`Reader::PATIENCE`].
    pub(super) async fn followed(
        mut self,
        lanes: Arc<Lanes>,
        mut tails: watch::Receiver<Option<Arc<[SeqNum]>>>,
    ) -> Self {
        while self.state == State::Reading {
            let tail = tails.borrow_and_update().as_ref().map(|tails| tails[self.subject.stream]);
            match tail {
                Some(tail) if self.next >= tail => self.state = State::Followed,
                Some(_) => {
                    if timeout(Self::PATIENCE, self.read_once(&lanes)).await.is_err() {
                        self.state = State::Followed;
                    }
                }
                None => tokio::select! {
                    biased;
                    () = self.read_once(&lanes) => {}
                    // Whoever says where the streams end does so before it goes away.
                    _ = tails.changed() => {}
                },
            }
        }
        self
    }

    /// How long a follower waits for records that were acknowledged.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Which of the run's streams it reads.
    pub(super) fn stream(&self) -> usize {
        self.subject.stream
    }

    /// Whether too much failed.
    pub(super) fn gave_up(&self) -> bool {
        self.state == State::GaveUp
    }

    /// What was found, with `accounts` of all who wrote. A reader that was not to come to the end misses nothing there.
    pub(super) fn finish(&self, accounts: &[Account]) -> Findings {
        match self.state {
            State::Ended | State::Followed => self.checker.finish(accounts),
            State::Reading | State::GaveUp => self.checker.findings(),
        }
    }

    /// What was found, if nobody knows yet who wrote what. Of what was asked for nothing may be missing at the end.
    pub(super) fn findings(&self) -> Findings {
        let mut found = self.checker.findings();
        if let (State::Ended, Some(end)) = (self.state, self.end) {
            found.lost += end.get().saturating_sub(self.next.get());
        }
        found
    }

    /// The checker, to go on with.
    pub(super) fn into_checker(self) -> Checker {
        self.checker
    }

    /// Takes what comes next. May be given up while it waits.
    async fn read_once(&mut self, lanes: &Lanes) {
        let error = match self.session.next_message().await {
            Some(Ok(message)) => {
                self.failures_in_a_row = 0;
                return self.take(&message, lanes);
            }
            Some(Err(error)) => error,
            None => return self.state = State::Ended,
        };
        self.failures_in_a_row += 1;
        match self.run.failed(&error, self.failures_in_a_row) {
            Recovery::GiveUp => self.state = State::GaveUp,
            Recovery::After(pause) => {
                self.session = open(&self.subject, self.next, self.end);
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn take(&mut self, message: &[u8], lanes: &Lanes) {
        let now = self.run.now();
        let mut lane = lanes.of(self.subject.task);
        let (mut records, mut bytes) = (0, 0);
        // The session has looked at the message: there is nothing in it that cannot be read.
        for part in wire::read_parts(message).flatten() {
            let ReadPart::Record(record) = part else { continue };
            self.next = record.seq_num.saturating_add(1);
            if record.is_command() {
                continue;
            }
            records += 1;
            bytes += record.body.len() as u64;
            let stamp = self.checker.see(record.body);
            if let (Some(stamp), Times::InRecords) = (stamp, self.subject.times) {
                lane.deliveries.record(now.saturating_sub(Duration::from_nanos(stamp.intended)), 1);
            }
        }
        if records > 0 {
            lane.read.batch(records, bytes);
        }
    }
}

fn open(subject: &Subject, start: SeqNum, end: Option<SeqNum>) -> ReadSession {
    let bounds = ReadBounds { count: end.map(|end| end.get().saturating_sub(start.get())), ..ReadBounds::default() };
    let request = ReadRequest { start: ReadStart::SeqNum(start), bounds, clamp: false, wait: None };
    let options = ReadOptions { compression: subject.compression, encryption_key: subject.key.clone() };
    subject.client.read_session(&subject.path, request, options)
}
