//! One writer of a load: sends its batches when they are meant to be sent, and measures how long acks take.
//!
//! A writer whose session fails goes on with a new one, as another writer: what had no ack then may be in the stream or
//! not, and only a name that is never used again keeps the account simple.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    appends::Appends,
    assignment::Assignment,
    body::{Batches, Source},
    check::Account,
    run::{Lanes, Recovery, Run},
    schedule::{Next, Schedule},
};
use crate::{
    client::ClientError,
    types::{AppendAck, SeqNum},
};

/// An append session, or several one after the other; or one request after the other.
pub(super) struct Writer {
    assignment: Assignment,
    run: Arc<Run>,
    current: Session,
    /// Of the sessions before this one.
    former: Vec<Account>,
    tail: SeqNum,
    /// Nothing is sent before this time.
    pause: Duration,
    failures_in_a_row: u32,
    gave_up: bool,
    was_cut_short: bool,
    /// The alarm that is set.
    alarm: Option<Duration>,
}

struct Session {
    appends: Appends,
    source: Source,
    account: Account,
    /// When those without an ack were meant to be sent.
    in_flight: VecDeque<Duration>,
}

/// What to wait for besides acks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// This time.
    At(Duration),
    /// Room for more in flight.
    Room,
    /// Nothing: all was sent.
    Done,
}

/// What came first.
enum Event {
    Acked(AppendAck),
    Failed(ClientError),
    /// It may be time to send.
    Woken,
}

impl Writer {
    /// A writer that has sent nothing.
    pub(super) fn new(assignment: Assignment, run: Arc<Run>) -> Self {
        Self {
            current: Session::open(&assignment, &run),
            assignment,
            run,
            former: Vec::new(),
            tail: SeqNum::FIRST,
            pause: Duration::ZERO,
            failures_in_a_row: 0,
            gave_up: false,
            was_cut_short: false,
            alarm: None,
        }
    }

    /// Sends what `schedule` says, counts it in `lanes`, and returns when all of it is acknowledged or given up.
    pub(super) async fn write(mut self, mut schedule: Schedule, lanes: Arc<Lanes>) -> Self {
        self.alarm = None;
        let mut now = self.run.now();
        loop {
            let then = self.send_what_is_due(&mut schedule, now, &lanes);
            if then == Then::Done && self.current.in_flight.is_empty() {
                self.was_cut_short = schedule.is_used_up();
                return self;
            }
            let event = poll_fn(|cx| self.poll_event(cx, then)).await;
            now = self.run.now();
            match event {
                Event::Acked(ack) => self.acked(&ack, now, &lanes),
                Event::Failed(error) => self.failed(&error, now, &mut schedule),
                Event::Woken => {}
            }
        }
    }

    /// Which of the run's streams it writes to.
    pub(super) fn stream(&self) -> usize {
        self.assignment.stream
    }

    /// Whether too much failed.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Whether it was the number of sends that ended its last schedule, and not the time.
    pub(super) fn was_cut_short(&self) -> bool {
        self.was_cut_short
    }

    /// What it sent and what was acknowledged, of each of its sessions.
    pub(super) fn accounts(&self) -> impl Iterator<Item = Account> + '_ {
        self.former.iter().copied().chain([self.current.account])
    }

    /// Where its last ack left the stream.
    pub(super) fn tail(&self) -> SeqNum {
        self.tail
    }

    fn send_what_is_due(&mut self, schedule: &mut Schedule, now: Duration, lanes: &Lanes) -> Then {
        if self.run.is_stopping() || self.gave_up {
            schedule.stop();
        }
        while self.current.in_flight.len() < self.assignment.in_flight {
            match schedule.next(now) {
                Next::Over => return Then::Done,
                Next::Now(_) | Next::At(_) if now < self.pause => return Then::At(self.pause),
                Next::At(due) => return Then::At(due),
                Next::Now(intended) => {
                    schedule.sent();
                    lanes.of(self.assignment.task).delays.record(now.saturating_sub(intended), 1);
                    self.current.send(&self.assignment.batches, intended);
                }
            }
        }
        Then::Room
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, then: Then) -> Poll<Event> {
        match self.current.appends.poll_ack(cx) {
            Poll::Ready(Some(Ok(ack))) => return Poll::Ready(Event::Acked(ack)),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Event::Failed(error)),
            Poll::Ready(None) => return Poll::Ready(Event::Failed(ClientError::Lost("the session ended".into()))),
            Poll::Pending => {}
        }
        match then {
            Then::At(due) if due <= self.run.now() => return Poll::Ready(Event::Woken),
            Then::At(due) if self.alarm != Some(due) => {
                self.alarm = Some(due);
                self.run.wake_at(due, cx.waker());
            }
            // Told to stop: what is not yet due is not waited for.
            Then::At(_) if self.run.is_stopping() => return Poll::Ready(Event::Woken),
            Then::At(_) | Then::Room | Then::Done => {}
        }
        Poll::Pending
    }

    fn acked(&mut self, ack: &AppendAck, now: Duration, lanes: &Lanes) {
        self.failures_in_a_row = 0;
        self.tail = ack.end.seq_num;
        let records = ack.end.seq_num.since(ack.start.seq_num);
        self.current.account.acked += records;
        // The session has no ack for nothing: it checks that.
        let intended = self.current.in_flight.pop_front().unwrap_or(now);
        let mut lane = lanes.of(self.assignment.task);
        lane.appended.batch(records, self.assignment.batches.bytes());
        lane.acks.record(now.saturating_sub(intended), 1);
    }

    fn failed(&mut self, error: &ClientError, now: Duration, schedule: &mut Schedule) {
        self.failures_in_a_row += 1;
        match self.run.failed(error, self.failures_in_a_row) {
            Recovery::After(pause) => self.pause = now + pause,
            Recovery::GiveUp => {
                self.gave_up = true;
                schedule.stop();
            }
        }
        self.former.push(self.current.account);
        self.current = Session::open(&self.assignment, &self.run);
    }
}

impl Session {
    fn open(assignment: &Assignment, run: &Run) -> Self {
        let writer = run.new_writer();
        Self {
            appends: Appends::open(assignment),
            source: assignment.batches.source(writer),
            account: Account { writer, sent: 0, acked: 0 },
            in_flight: VecDeque::new(),
        }
    }

    fn send(&mut self, batches: &Batches, intended: Duration) {
        self.account.sent += batches.records();
        self.in_flight.push_back(intended);
        self.appends.send(batches, &mut self.source, intended);
    }
}
