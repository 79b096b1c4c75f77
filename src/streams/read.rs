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
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use super::{Failure, Stream, stream::Ahead, waiters::Place};
use crate::{
    clock,
    encryption::{DecryptionFailed, Opened, RecordCipher},
    sequence::{Due, FollowClock, HEARTBEAT_INTERVAL, PlannedStart, Progress, ReadMode, ReadPlan, Remaining},
    store::{StoreError, StoreFuture},
    types::{
        Batch, BatchSlice, ConnectionId, Cut, Position, ReadBounds, ReadRequest, SeqNum,
        limits::{MAX_BATCH_METERED, MAX_BATCH_RECORDS},
    },
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
    bounds: ReadBounds,
    clock: FollowClock,
    meter: ReadMeter,
    state: State,
    /// Whether it ever waited at the tail: from then on the stream hears at once what others append, until it is gone.
    follows: bool,
}

enum State {
    CatchingUp {
        /// A read from the log under way.
        reading: Option<StoreFuture<'static, Vec<Batch>>>,
        /// What was read and is not yet delivered.
        read: VecDeque<Batch>,
    },
    Following,
    Done,
}

impl State {
    fn catching_up() -> Self {
        State::CatchingUp { reading: None, read: VecDeque::new() }
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
    },
    /// Whole batches that were just appended, each to be sent as it is, with the tail that it left behind, and in the
    /// frame that it shares with other readers. Never of a stream with a cipher.
    Followed(Vec<Batch>),
    /// No records: the reader is at the tail.
    Heartbeat(Position),
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
    /// session.
    pub(super) async fn open(
        stream: Arc<Stream>,
        cipher: Option<Box<RecordCipher>>,
        request: &ReadRequest,
        mode: ReadMode,
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
            bounds: request.bounds,
            clock: FollowClock::new(plan.wait()),
            state: start.map_or(State::Done, |_| State::catching_up()),
            follows: false,
        })
    }

    /// The session comes over `connection`: what else is read over it within a minute is the same operation.
    pub fn over(mut self, connection: ConnectionId) -> Self {
        self.meter.set_connection(connection);
        self
    }

    /// What comes next for the reader; nothing more once the read is over.
    ///
    /// When this is pending, it must be polled again at [`ReadSession::next_deadline`] at the latest.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Option<Result<ReadEvent, Failure>>> {
        self.meter.goes_on();
        if let Some(failed) = self.take_undecryptable() {
            return Poll::Ready(Some(Err(failed)));
        }
        let stored = ready!(self.poll_stored(cx, now));
        Poll::Ready(match (&self.cipher, stored) {
            (Some(cipher), Some(Ok(ReadEvent::Records { slices, tail }))) => {
                let opened = decrypt(cipher, &slices);
                Some(self.decrypted(opened, tail))
            }
            (_, stored) => stored,
        })
    }

    /// What comes next, as it is stored.
    fn poll_stored(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Option<Result<ReadEvent, Failure>>> {
        let step = loop {
            match &self.state {
                State::CatchingUp { .. } => match ready!(self.poll_catch_up(cx)) {
                    Ok(CatchUp::Page(event)) => break Some(Ok(event)),
                    Ok(CatchUp::AtTail) => {
                        self.clock.arrived(now);
                        self.state = State::Following;
                    }
                    Ok(CatchUp::BoundMet) => self.state = State::Done,
                    Err(failure) => break Some(Err(failure)),
                },
                State::Following => match ready!(self.poll_follow(cx, now)) {
                    Ok(Some(event)) => break Some(Ok(event)),
                    Ok(None) => {}
                    Err(failure) => break Some(Err(failure)),
                },
                State::Done => break None,
            }
        };
        match &step {
            Some(Ok(event)) => self.meter.delivered(event.metered()),
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
    fn decrypted(&mut self, opened: Decrypted, tail: Position) -> Result<ReadEvent, Failure> {
        if let Some(failed) = opened.failure {
            self.state = State::Done;
            match opened.slices.is_empty() {
                true => return Err(failed.into()),
                false => self.undecryptable = Some(failed),
            }
        }
        Ok(ReadEvent::Records { slices: opened.slices, tail })
    }

    /// The failure that comes after the records that were just delivered, if one does.
    pub(super) fn take_undecryptable(&mut self) -> Option<Failure> {
        self.undecryptable.take().map(Failure::from)
    }

    /// When something is due although no record came.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Following => self.clock.next_deadline(),
            _ => None,
        }
    }

    fn poll_catch_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<CatchUp, Failure>> {
        loop {
            let State::CatchingUp { reading, read } = &mut self.state else {
                unreachable!("only called while catching up");
            };
            if let Some(future) = reading {
                self.stream.watch_end(&self.place, cx)?;
                let batches = ready!(future.as_mut().poll(cx))?;
                *reading = None;
                *read = batches.into();
                if read.is_empty() {
                    self.skip_trimmed()?;
                }
            }
            if let Some(event) = self.take_page()? {
                return Poll::Ready(Ok(event));
            }
            let head = self.stream.durable_head()?;
            self.next = self.next.max(head.trim_point);
            if self.next >= head.tail.seq_num {
                return Poll::Ready(Ok(CatchUp::AtTail));
            }
            self.fetch(cx)?;
        }
    }

    /// Gets the records at `next`, from the ring if they are still there.
    fn fetch(&mut self, cx: &Context<'_>) -> Result<(), Failure> {
        let (ahead, _) = self.stream.ahead(self.next, MAX_BATCH_METERED, &self.place, cx)?;
        let (reading, read) = match ahead {
            Ahead::Records(slices) => (None, slices.iter().map(|slice| slice.batch().clone()).collect()),
            _ => (Some(self.stream.read(self.next, MAX_BATCH_METERED)), VecDeque::new()),
        };
        self.state = State::CatchingUp { reading, read };
        Ok(())
    }

    /// The log has nothing at `next`, which was below the tail: right only if it was trimmed meanwhile.
    fn skip_trimmed(&mut self) -> Result<(), Failure> {
        let head = self.stream.durable_head()?;
        match head.trim_point > self.next {
            true => Ok(()),
            false => {
                let missing = format!("the log has no record {} although the tail is {}", self.next, head.tail);
                Err(StoreError::Damaged(missing.into()).into())
            }
        }
    }

    /// Fills one batch for the wire from the batches that were read, as far as the bounds of the read allow.
    fn take_page(&mut self) -> Result<Option<CatchUp>, Failure> {
        let State::CatchingUp { read, .. } = &mut self.state else {
            unreachable!("only called while catching up");
        };
        if read.is_empty() {
            return Ok(None);
        }
        let page = Page::fill(read, &mut self.next, &mut self.remaining);
        if page.progress == Progress::Done {
            self.state = State::Done;
        }
        match page.slices.is_empty() {
            true if page.progress == Progress::Done => Ok(Some(CatchUp::BoundMet)),
            true => Ok(None),
            false => {
                let tail = self.stream.durable_head()?.tail;
                Ok(Some(CatchUp::Page(ReadEvent::Records { slices: page.slices, tail })))
            }
        }
    }

    fn poll_follow(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Option<ReadEvent>, Failure>> {
        let (ahead, tail) = self.stream.ahead(self.next, MAX_BATCH_METERED, &self.place, cx)?;
        match ahead {
            Ahead::Records(slices) => Poll::Ready(Ok(self.deliver(slices, tail, now))),
            Ahead::Behind => {
                self.clock.fell_behind();
                self.state = State::catching_up();
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

    /// Passes on what was appended: whole batches as they are where nothing bounds the read.
    fn deliver(&mut self, slices: Vec<BatchSlice>, tail: Position, now: Instant) -> Option<ReadEvent> {
        self.clock.delivered(now, heartbeat_interval());
        // What readers share is never in clear, and a reader of ciphertext shares nothing.
        let is_shared = self.cipher.is_none();
        if is_shared && self.bounds.is_unlimited() && slices.iter().all(BatchSlice::is_whole) {
            self.next = slices.last().map_or(self.next, BatchSlice::end_seq_num);
            return Some(ReadEvent::Followed(slices.iter().map(|slice| slice.batch().clone()).collect()));
        }
        let mut batches = slices.iter().map(|slice| slice.batch().clone()).collect();
        let page = Page::fill(&mut batches, &mut self.next, &mut self.remaining);
        if page.progress == Progress::Done {
            self.state = State::Done;
        }
        (!page.slices.is_empty()).then_some(ReadEvent::Records { slices: page.slices, tail })
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

/// Records for one batch on the wire.
struct Page {
    slices: Vec<BatchSlice>,
    progress: Progress,
}

impl Page {
    /// Takes records from `next` on out of `batches`, at most 1000 and 1 MiB metered, as far as `remaining` allows.
    fn fill(batches: &mut VecDeque<Batch>, next: &mut SeqNum, remaining: &mut Remaining) -> Self {
        let mut page = Page { slices: Vec::new(), progress: Progress::More };
        let (mut count, mut bytes) = (MAX_BATCH_RECORDS as u64, MAX_BATCH_METERED as u64);
        while let Some(batch) = batches.front() {
            let Some(mut slice) = batch.starting_at(*next) else {
                batches.pop_front();
                continue;
            };
            let room = slice.cut(count, bytes, None);
            if slice.is_empty() {
                break;
            }
            page.progress = remaining.take(&mut slice);
            if !slice.is_empty() {
                *next = slice.end_seq_num();
                count -= slice.len() as u64;
                bytes -= slice.metered() as u64;
                page.slices.push(slice);
            }
            if page.progress == Progress::Done || room == Cut::Short {
                break;
            }
        }
        page
    }
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
            let record = poll_fn(|cx| self.poll_next(cx, clock::instant()));
            match due {
                None => return record.await,
                Some(due) => match tokio::time::timeout_at(due.into(), record).await {
                    Ok(next) => return next,
                    Err(_due) => {}
                },
            }
        }
    }
}
