//! An append session: inputs in, acks out in the same order, until the first failure.
//!
//! ```text
//!            input refused                      all outcomes told
//! Open ───────────────────────► Failed ─────────────────────────────► Done
//!   └──────► Closed (the client sent everything) ─────────────────────┘
//! ```
//!
//! Where others write to the stream too, an input may be undecided for a while; the session goes on taking inputs, which
//! wait behind it.
//!
//! Polled where the work is: nothing here blocks. Knows no frame and no socket.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::Semaphore;

use super::{
    Failure, Stream,
    in_flight::InFlight,
    stream::{Outcome, Refused},
    waiters::Place,
    writers::{TakenBackSoFar, WriterId},
};
use crate::{
    clock::Clock,
    encryption::RecordCipher,
    types::{AppendAck, AppendInput, ConnectionId, SeqNum},
    usage::AppendMeter,
};

/// A writer's session with a stream (`s2s.md` §6).
pub struct AppendSession {
    stream: Arc<Stream>,
    cipher: Option<Box<RecordCipher>>,
    place: Place,
    writer: WriterId,
    in_flight: InFlight,
    clock: Arc<dyn Clock>,
    /// Inputs put into the stream of which nothing was told yet.
    outstanding: usize,
    /// What an undecided input waits for.
    judging: Judging,
    meter: AppendMeter,
    state: State,
}

enum State {
    Open,
    /// No more inputs come.
    Closed,
    /// No more inputs are taken; the failure is told once what it was judged against is durable.
    Failed(Refused),
    Done,
}

/// How far the judgement of an undecided input has come.
enum Judging {
    /// No input is undecided, as far as anyone knows.
    Nothing,
    /// What is known of the stream is being renewed.
    Refreshing(TakenBackSoFar, Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>),
    /// It is known, and what was taken back until then can be judged.
    Refreshed(TakenBackSoFar),
}

impl AppendSession {
    /// `cipher` is the stream's, with the key of the session.
    pub(super) fn new(
        stream: Arc<Stream>,
        cipher: Option<Box<RecordCipher>>,
        budget: Arc<Semaphore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (place, writer) = stream.enter_writer();
        Self {
            place,
            writer,
            meter: AppendMeter::new(stream.usage().clone()),
            stream,
            cipher,
            in_flight: InFlight::of(budget),
            clock,
            outstanding: 0,
            judging: Judging::Nothing,
            state: State::Open,
        }
    }

    /// The session comes over `connection`: what else is appended over it within a minute is the same operation.
    pub fn over(mut self, connection: ConnectionId) -> Self {
        self.meter.set_connection(connection);
        self
    }

    /// Whether the session takes inputs.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Puts `input` into the stream as soon as there are bytes to be had from the process's budget for it.
    ///
    /// While this is pending, acks of earlier inputs go on. What becomes of the input, [`AppendSession::poll_ack`] tells.
    /// The session must be open.
    pub fn poll_append(&mut self, cx: &mut Context<'_>, input: &AppendInput) -> Poll<()> {
        // By the limits of a batch not more than the least budget has.
        let permit = ready!(self.in_flight.poll(cx, input.batch.sequenced_memory() as u32));
        let outcome = match &self.cipher {
            None => self.stream.append(self.writer, input, permit, self.clock.now()),
            Some(cipher) => self.stream.append(self.writer, &sealed(cipher, input), permit, self.clock.now()),
        };
        match outcome {
            Ok(()) => self.outstanding += 1,
            Err(refused) => self.state = State::Failed(refused),
        }
        Poll::Ready(())
    }

    /// Appends one batch and waits until it is durable.
    pub async fn append(mut self, input: &AppendInput) -> Result<AppendAck, Failure> {
        self.admit(input).await;
        self.acknowledged().await
    }

    /// As [`AppendSession::poll_append`]. Whoever gives this up has put nothing into the stream.
    pub async fn admit(&mut self, input: &AppendInput) {
        poll_fn(|cx| self.poll_append(cx, input)).await;
    }

    /// What became of the one input that was put in.
    pub async fn acknowledged(mut self) -> Result<AppendAck, Failure> {
        let outcome = poll_fn(|cx| self.poll_ack(cx)).await;
        outcome.expect("an input was put in, so there is an outcome")
    }

    /// No more inputs come; the session ends when those accepted are acknowledged.
    pub fn close(&mut self) {
        if self.is_open() {
            self.in_flight.give_up();
            self.state = State::Closed;
        }
    }

    /// The next ack, in the order of the inputs; then the failure that ended the session, if one did; then nothing.
    pub fn poll_ack(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AppendAck, Failure>>> {
        if self.outstanding > 0 {
            return self.poll_outcome(cx).map(Some);
        }
        match &self.state {
            State::Open => Poll::Pending,
            State::Closed | State::Done => Poll::Ready(None),
            State::Failed(refused) => {
                let judged_at = refused.judged_at;
                // If what it was judged against never became durable, that failure is the true one.
                let outcome = ready!(self.poll_reached(cx, judged_at));
                let told = match (outcome, std::mem::replace(&mut self.state, State::Done)) {
                    (Ok(_), State::Failed(refused)) => refused.failure,
                    (Err(failure), _) => failure,
                    (Ok(_), _) => unreachable!("the state was Failed a line above"),
                };
                Poll::Ready(Some(Err(self.done(told))))
            }
        }
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Result<AppendAck, Failure>> {
        loop {
            match ready!(self.stream.outcome(self.writer, &self.place, cx)) {
                Ok(Outcome::Ack(ack, metered)) => {
                    self.outstanding -= 1;
                    self.meter.appended(metered);
                    return Poll::Ready(Ok(ack));
                }
                Ok(Outcome::Undecided) => ready!(self.poll_judgement(cx)),
                Err(failure) => return Poll::Ready(Err(self.done(failure))),
            }
        }
    }

    /// Has the first undecided input judged by what the stream is after it came in. The stream may have come first.
    fn poll_judgement(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.judging {
                Judging::Nothing => {
                    let (stream, taken_back) = (self.stream.clone(), self.stream.taken_back_so_far());
                    self.judging = Judging::Refreshing(taken_back, Box::pin(async move { stream.refreshed().await }));
                }
                &mut Judging::Refreshing(taken_back, ref mut refreshing) => {
                    match ready!(refreshing.as_mut().poll(cx)) {
                        Ok(()) => self.judging = Judging::Refreshed(taken_back),
                        Err(failure) => {
                            self.stream.refuse_taken_back(self.writer, taken_back, failure);
                            self.judging = Judging::Nothing;
                            return Poll::Ready(());
                        }
                    }
                }
                &mut Judging::Refreshed(taken_back) => {
                    ready!(self.stream.judge_again(self.writer, taken_back, &self.place, cx));
                    self.judging = Judging::Nothing;
                    return Poll::Ready(());
                }
            }
        }
    }

    fn poll_reached(&self, cx: &Context<'_>, end: SeqNum) -> Poll<Result<crate::types::Position, Failure>> {
        match self.stream.reached(end, &self.place, cx) {
            Ok(Some(tail)) => Poll::Ready(Ok(tail)),
            Ok(None) => Poll::Pending,
            Err(failure) => Poll::Ready(Err(failure)),
        }
    }

    fn done(&mut self, failure: Failure) -> Failure {
        self.outstanding = 0;
        self.in_flight.give_up();
        self.stream.forget_taken_back(self.writer);
        self.state = State::Done;
        failure
    }
}

/// `input` as it is stored. Made before the stream's lock is taken: one writer's encryption is not another's wait.
fn sealed(cipher: &RecordCipher, input: &AppendInput) -> AppendInput {
    let batch = cipher.seal(&input.batch, |nonce| rand::fill(nonce));
    AppendInput { batch, ..*input }
}

impl Drop for AppendSession {
    fn drop(&mut self) {
        self.stream.leave_writer(&self.place, self.writer);
    }
}
