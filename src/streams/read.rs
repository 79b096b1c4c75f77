//! A read session: records in order, heartbeats at the tail, until a bound, the wait or the stream ends it.
//!
//! ```text
//!      ┌─────────── fell behind the ring ────────────┐
//!      ▼                                             │
//! CatchingUp ──── arrived at the tail ────────► Following
//!      │                                             │
//!      └────── bound met, failure ──► Done ◄─────────┴── bound met, wait over, failure
//! ```
//!
//! Polled where the work is, with the time as an argument: nothing here spawns, sleeps or blocks. Knows no frame.
//!
//! Records of an encrypted stream are decrypted last of all, for this session alone: bounds and pages count by the
//! plaintext's sizes, which are kept with the ciphertext.

use std::{
    future::{poll_fn, ready as ready_with},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use super::{
    Failure, Followed, Stream,
    pages::{PageCut, Pages},
    portion::{OnItsWay, Portion},
    stream::Ahead,
    waiters::Place,
};
use crate::{
    clock,
    encryption::{DecryptionFailed, Opened, RecordCipher},
    memory::Share,
    sequence::{Due, FollowClock, HEARTBEAT_INTERVAL, PlannedStart, Progress, ReadMode, ReadPlan, Remaining},
    store::{StoreError, StoreFuture},
    types::{Batch, BatchSlice, ConnectionId, Position, ReadRequest, SeqNum, StreamId},
    usage::ReadMeter,
};

/// A reader's session with a stream (`s2s.md` §7).
pub struct ReadSession {
    stream: Arc<Stream>,
    /// The stream's, with the key of the session.
    cipher: Option<Box<RecordCipher>>,
    /// What ends the session after the records that were just delivered.
    undecryptable: Option<DecryptionFailed>,
    place: Place,
    /// The record that comes next.
    next: SeqNum,
    remaining: Remaining,
    /// Whether nothing bounds it.
    is_unlimited: bool,
    cut: PageCut,
    portion: Portion,
    clock: FollowClock,
    meter: ReadMeter,
    state: State,
    /// Whether it ever waited at the tail: from then on the stream hears at once what others append, until it is gone.
    follows: bool,
    /// Whether what was delivered last reached the tail, and the stream wakes the task for what comes.
    waits: bool,
}

enum State {
    CatchingUp {
        /// A read from the log under way.
        reading: Option<StoreFuture<'static, Vec<Batch>>>,
        /// What was read and is not yet delivered.
        pages: Pages,
    },
    Following,
    Done,
}

impl State {
    fn catching_up(cut: PageCut) -> Self {
        State::CatchingUp { reading: None, pages: Pages::new(cut) }
    }

    /// Bytes of memory that are kept for the reader.
    fn kept(&self) -> usize {
        match self {
            State::CatchingUp { pages, .. } => pages.memory(),
            State::Following | State::Done => 0,
        }
    }
}

/// What a reader is sent.
#[derive(Debug)]
pub enum ReadEvent {
    /// Records from the log, not whole batches, or decrypted: at most 1000 of them, at most 1 MiB metered.
    Records {
        /// The records, in order.
        slices: Vec<BatchSlice>,
        /// The durable tail, as last seen.
        tail: Position,
        /// What the session was doing.
        stage: Stage,
    },
    /// Whole batches that were just appended, each to be sent as it is, with the tail that it left behind, and in the
    /// frame that it shares with other readers. Never of a stream with a cipher.
    Followed(Followed),
    /// No records: the reader is at the tail.
    Heartbeat(Position),
}

/// What a session was doing when it was given records (`s2s.md` §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It read what had been there.
    CatchingUp,
    /// It heard of what was appended.
    Following,
}

impl ReadEvent {
    /// Metered bytes of its records.
    pub fn metered(&self) -> usize {
        match self {
            Self::Records { slices, .. } => slices.iter().map(BatchSlice::metered).sum(),
            Self::Followed(batches) => batches.iter().map(Batch::metered).sum(),
            Self::Heartbeat(_) => 0,
        }
    }
}

impl ReadSession {
    /// Resolves the start of `request` against the durable tail of `stream`; `cipher` is the stream's, with the key of the
    /// session. What is on its way to the reader counts against `memory`.
    pub(super) async fn open(
        stream: Arc<Stream>,
        cipher: Option<Box<RecordCipher>>,
        request: &ReadRequest,
        mode: ReadMode,
        memory: Arc<Share>,
    ) -> Result<Self, Failure> {
        if stream.is_shared() {
            stream.refreshed().await?;
        }
        let head = stream.durable_head()?;
        let mut plan = ReadPlan::new(request, mode, &head)?;
        let start = match plan.start() {
            PlannedStart::Nothing => None,
            PlannedStart::At(seq_num) => Some(seq_num),
            PlannedStart::Seek { from, timestamp } => Some(plan.sought(stream.seek(from, timestamp).await?)?),
        };
        let cut = PageCut::of(mode);
        let meter = match mode {
            ReadMode::Unary => ReadMeter::unary(stream.usage().clone()),
            ReadMode::Session => ReadMeter::streaming(stream.usage().clone()),
        };
        Ok(Self {
            place: stream.enter(),
            meter,
            stream,
            cipher,
            undecryptable: None,
            next: start.unwrap_or_default(),
            remaining: plan.limits(),
            is_unlimited: plan.is_unlimited(),
            portion: Portion::of(memory),
            cut,
            clock: FollowClock::new(plan.wait()),
            state: start.map_or(State::Done, |_| State::catching_up(cut)),
            follows: false,
            waits: false,
        })
    }

    /// The session comes over `connection`: what else is read over it within a minute is the same operation.
    pub fn over(mut self, connection: ConnectionId) -> Self {
        self.meter.set_connection(connection);
        self
    }

    /// The stream whose records are shown as they are stored, for those who keep what they make of them for the next
    /// reader; nothing if they were decrypted for this session.
    pub fn shared_stream(&self) -> Option<StreamId> {
        self.cipher.is_none().then(|| self.stream.id())
    }

    /// What comes next for the reader; nothing more once the read is over.
    ///
    /// When this is pending, it must be polled again at [`ReadSession::next_deadline`] at the latest. It is pending, too,
    /// while so much is on its way to the reader ([`ReadSession::on_its_way`]) that it is sent nothing more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Option<Result<ReadEvent, Failure>>> {
        self.meter.goes_on();
        if let Some(failed) = self.take_undecryptable() {
            return Poll::Ready(Some(Err(failed)));
        }
        ready!(self.portion.poll_sent(cx));
        let stored = ready!(self.poll_stored(cx, now));
        Poll::Ready(match (&self.cipher, stored) {
            (Some(cipher), Some(Ok(ReadEvent::Records { slices, tail, stage }))) => {
                let opened = decrypt(cipher, &slices);
                Some(self.decrypted(opened, tail, stage))
            }
            (_, stored) => stored,
        })
    }

    /// What comes next, as it is stored.
    fn poll_stored(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Option<Result<ReadEvent, Failure>>> {
        let mut step = loop {
            match &self.state {
                State::CatchingUp { .. } => match ready!(self.poll_catch_up(cx)) {
                    Ok(CatchUp::Page(event)) => {
                        self.clock.delivered(now, heartbeat_interval());
                        break Some(Ok(event));
                    }
                    Ok(CatchUp::AtTail) => {
                        self.clock.arrived(now);
                        self.caught_up(State::Following);
                    }
                    Ok(CatchUp::BoundMet) => self.caught_up(State::Done),
                    Err(failure) => {
                        self.caught_up(State::Done);
                        break Some(Err(failure));
                    }
                },
                State::Following => match ready!(self.poll_follow(cx, now)) {
                    Ok(Some(event)) => break Some(Ok(event)),
                    Ok(None) => {}
                    Err(failure) => break Some(Err(failure)),
                },
                State::Done => break None,
            }
        };
        match &mut step {
            Some(Ok(event)) => {
                self.meter.delivered(event.metered());
                self.portion.send(event);
            }
            Some(Err(_)) => self.state = State::Done,
            None => {}
        }
        Poll::Ready(step)
    }

    /// From the first time that it has to wait. One that ends at the tail, or comes back to it, changes nothing.
    fn follow(&mut self) {
        if !self.follows {
            self.follows = true;
            self.stream.add_follower();
        }
    }

    /// Delivers what could be decrypted; the record that could not ends the session, right away or after those before it.
    fn decrypted(&mut self, opened: Decrypted, tail: Position, stage: Stage) -> Result<ReadEvent, Failure> {
        if let Some(failed) = opened.failure {
            self.state = State::Done;
            match opened.slices.is_empty() {
                true => return Err(failed.into()),
                false => self.undecryptable = Some(failed),
            }
        }
        Ok(ReadEvent::Records { slices: opened.slices, tail, stage })
    }

    /// The failure that comes after the records that were just delivered, if one does.
    pub(super) fn take_undecryptable(&mut self) -> Option<Failure> {
        self.undecryptable.take().map(Failure::from)
    }

    /// What was just delivered, as memory that counts until the reader has taken it: to be kept with the bytes that are
    /// made of it. Nothing if it is too little to be counted; not there any more when the session is polled again.
    pub fn on_its_way(&mut self) -> Option<OnItsWay> {
        self.portion.take_sent()
    }

    /// Whether what was just delivered was all there is, and the task that took it is woken when there is more.
    pub fn waits(&self) -> bool {
        self.waits && matches!(self.state, State::Following)
    }

    /// When something is due although no record came. Nothing is while the reader does not take what it was sent.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Following if !self.portion.waits() => self.clock.next_deadline(),
            _ => None,
        }
    }

    /// Goes on as `state`, for which nothing is kept.
    fn caught_up(&mut self, state: State) {
        self.state = state;
        self.portion.keeps(0);
    }

    fn poll_catch_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<CatchUp, Failure>> {
        let polled = self.poll_page(cx);
        self.portion.keeps(self.state.kept());
        polled
    }

    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Result<CatchUp, Failure>> {
        loop {
            ready!(self.poll_reading(cx))?;
            let head = self.stream.durable_head()?;
            if let Some(event) = self.take_page(head.tail, cx) {
                return Poll::Ready(Ok(event));
            }
            self.next = self.next.max(head.trim_point);
            if self.next >= head.tail.seq_num {
                return Poll::Ready(Ok(CatchUp::AtTail));
            }
            self.fetch(cx)?;
        }
    }

    /// Waits for the read that is under way, if one is.
    fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let State::CatchingUp { reading: Some(future), .. } = &mut self.state else { return Poll::Ready(Ok(())) };
        self.stream.watch_end(&self.place, cx)?;
        let found = ready!(future.as_mut().poll(cx))?;
        let from = self.missing_from();
        let (reading, pages) = self.catching_up();
        *reading = None;
        match found.is_empty() {
            true => Poll::Ready(self.skip_trimmed(from)),
            false => {
                pages.extend(found);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn catching_up(&mut self) -> (&mut Option<StoreFuture<'static, Vec<Batch>>>, &mut Pages) {
        match &mut self.state {
            State::CatchingUp { reading, pages } => (reading, pages),
            State::Following | State::Done => unreachable!("only asked for while catching up"),
        }
    }

    /// The first record that is to be delivered and was not read yet.
    fn missing_from(&mut self) -> SeqNum {
        let end = self.catching_up().1.end();
        end.map_or(self.next, |end| end.max(self.next))
    }

    /// Gets the records that follow those that were read, from the ring if they are still there.
    fn fetch(&mut self, cx: &Context<'_>) -> Result<(), Failure> {
        let (from, room) = (self.missing_from(), self.portion.room());
        let (ahead, _) = self.stream.ahead(from, room, &self.place, cx)?;
        match ahead {
            Ahead::Latest(batch) => self.catching_up().1.extend([batch]),
            Ahead::Records(slices) => self.catching_up().1.extend(slices.iter().map(|slice| slice.batch().clone())),
            Ahead::Behind => *self.catching_up().0 = Some(self.stream.read(from, room)),
            Ahead::Nothing => {}
        }
        Ok(())
    }

    /// The log has nothing at `from`, which was below the tail: right only if it was trimmed meanwhile.
    fn skip_trimmed(&mut self, from: SeqNum) -> Result<(), Failure> {
        let head = self.stream.durable_head()?;
        match head.trim_point > from {
            true => Ok(()),
            false => {
                let missing = format!("the log has no record {from} although the tail is {}", head.tail);
                Err(StoreError::Damaged(missing.into()).into())
            }
        }
    }

    /// Fills one batch for the wire from what was read, as far as the bounds of the read allow, once that is enough for
    /// it or all there is. What comes after it is asked for already.
    fn take_page(&mut self, tail: Position, cx: &mut Context<'_>) -> Option<CatchUp> {
        let State::CatchingUp { pages, .. } = &mut self.state else {
            unreachable!("only called while catching up");
        };
        let is_all = pages.end()? >= tail.seq_num;
        if !is_all && !pages.hold_page(self.portion.room(), self.next, &self.remaining) {
            return None;
        }
        let page = pages.take(self.portion.room(), &mut self.next, &mut self.remaining);
        if self.portion.is_tight() {
            pages.clear();
        }
        match page.progress {
            Progress::Done => self.state = State::Done,
            Progress::More => self.read_ahead(tail, cx),
        }
        match page.slices.is_empty() {
            true if page.progress == Progress::Done => Some(CatchUp::BoundMet),
            true => None,
            false => Some(CatchUp::Page(ReadEvent::Records { slices: page.slices, tail, stage: Stage::CatchingUp })),
        }
    }

    /// Lets the log read what the next page needs while this one is on its way.
    fn read_ahead(&mut self, tail: Position, cx: &mut Context<'_>) {
        if self.portion.is_tight() {
            return;
        }
        let (room, next, remaining) = (self.portion.room(), self.next, self.remaining);
        let is_there = self.catching_up().1.hold_page(room, next, &remaining) || self.missing_from() >= tail.seq_num;
        // If the stream has ended, the reader hears of it when it comes for the next page.
        if is_there || self.fetch(cx).is_err() {
            return;
        }
        if let (reading @ Some(_), _) = self.catching_up()
            && let Some(future) = reading
            && let Poll::Ready(found) = future.as_mut().poll(cx)
        {
            *reading = Some(Box::pin(ready_with(found)));
        }
    }

    fn poll_follow(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Option<ReadEvent>, Failure>> {
        let (ahead, tail) = self.stream.ahead(self.next, self.portion.room(), &self.place, cx)?;
        match ahead {
            Ahead::Latest(batch) if self.takes_whole() => Poll::Ready(Ok(Some(self.pass_on(batch.into(), tail, now)))),
            Ahead::Latest(batch) => Poll::Ready(Ok(self.deliver(&[batch.whole()], tail, now))),
            Ahead::Records(slices) => Poll::Ready(Ok(self.deliver(&slices, tail, now))),
            Ahead::Behind => {
                self.clock.fell_behind();
                self.state = State::catching_up(self.cut);
                Poll::Ready(Ok(None))
            }
            Ahead::Nothing => match self.clock.due(now) {
                Due::Nothing => {
                    self.follow();
                    Poll::Pending
                }
                Due::Heartbeat => {
                    self.clock.heartbeat_sent(now, heartbeat_interval());
                    Poll::Ready(Ok(Some(ReadEvent::Heartbeat(tail))))
                }
                Due::WaitOver => {
                    self.state = State::Done;
                    Poll::Ready(Ok(None))
                }
            },
        }
    }

    /// Whether nothing bounds the read, and what it shows is what others are shown: what readers share is never in clear,
    /// and a reader of ciphertext shares nothing.
    fn takes_whole(&self) -> bool {
        self.cipher.is_none() && self.is_unlimited
    }

    /// Delivers whole batches as they are.
    fn pass_on(&mut self, batches: Followed, tail: Position, now: Instant) -> ReadEvent {
        self.clock.delivered(now, heartbeat_interval());
        self.next = batches.end_seq_num();
        self.waits = self.follows && self.next == tail.seq_num;
        ReadEvent::Followed(batches)
    }

    /// Delivers what was appended, as far as the bounds of the read allow.
    fn deliver(&mut self, slices: &[BatchSlice], tail: Position, now: Instant) -> Option<ReadEvent> {
        if self.takes_whole()
            && let Some(batches) = Followed::whole(slices)
        {
            return Some(self.pass_on(batches, tail, now));
        }
        self.clock.delivered(now, heartbeat_interval());
        let mut pages = Pages::new(self.cut);
        pages.extend(slices.iter().map(|slice| slice.batch().clone()));
        let page = pages.take(self.portion.room(), &mut self.next, &mut self.remaining);
        self.waits = self.follows && self.next == tail.seq_num;
        if page.progress == Progress::Done {
            self.state = State::Done;
        }
        (!page.slices.is_empty()).then_some(ReadEvent::Records { slices: page.slices, tail, stage: Stage::Following })
    }
}

impl Drop for ReadSession {
    fn drop(&mut self) {
        if self.follows {
            self.stream.remove_follower();
        }
        self.stream.leave(&self.place);
    }
}

/// Records of an encrypted stream, for one reader.
struct Decrypted {
    slices: Vec<BatchSlice>,
    failure: Option<DecryptionFailed>,
}

/// Decrypts `slices`, which bounds have cut already, up to the first record that cannot be.
fn decrypt(cipher: &RecordCipher, slices: &[BatchSlice]) -> Decrypted {
    let mut decrypted = Decrypted { slices: Vec::with_capacity(slices.len()), failure: None };
    for slice in slices {
        let Opened { readable, failure } = cipher.open(slice);
        decrypted.slices.extend(readable.map(|batch| batch.whole()));
        if failure.is_some() {
            return Decrypted { failure, ..decrypted };
        }
    }
    decrypted
}

/// How catching up goes on.
enum CatchUp {
    Page(ReadEvent),
    AtTail,
    BoundMet,
}

/// Time without a frame after which a reader hears that it is still at the tail, drawn anew each time (`s2s.md` §7.2).
fn heartbeat_interval() -> Duration {
    rand::random_range(HEARTBEAT_INTERVAL)
}

impl ReadSession {
    /// What comes next, with the runtime's timer for what is due although no record came.
    pub async fn next(&mut self) -> Option<Result<ReadEvent, Failure>> {
        loop {
            let polled = poll_fn(|cx| Poll::Ready(self.poll_next(cx, clock::instant()))).await;
            let due = match polled {
                Poll::Ready(next) => return next,
                Poll::Pending => self.next_deadline(),
            };
            let woken = poll_fn(|cx| match self.poll_next(cx, clock::instant()) {
                Poll::Pending if self.next_deadline() == due => Poll::Pending,
                polled => Poll::Ready(polled),
            });
            let polled = match due {
                None => woken.await,
                Some(due) => tokio::time::timeout_at(due.into(), woken).await.unwrap_or(Poll::Pending),
            };
            if let Poll::Ready(next) = polled {
                return next;
            }
        }
    }
}
