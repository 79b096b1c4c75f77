//! An open stream: a value behind a lock. Here, and only here, the rules of a stream meet its log.
//!
//! ```text
//!                  trim point        durable tail     assigned tail
//!    ──────────────────┼──────────────────┼────────────────┼────────►  sequence numbers
//!      gone or going   │   readable       │  `pending`     │
//!                            └── ring ────┘
//! ```
//!
//! The durable tail only grows. Acks, followers, check-tail and waiting rejections are all released by it.

mod keeping;
mod sharing;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::OwnedSemaphorePermit;

use self::sharing::Refresher;
use super::{
    Failure,
    background::Background,
    ring::{Rest, Ring},
    rings::{Keeper, Rings},
    waiters::{Left, Place, Waiters, Wakers},
    writers::{Next, Promise, TakenBack, WriterId, Writers},
};
use crate::{
    clock::{self, Clock},
    encryption::{KeyError, KeyMaterial, RecordCipher},
    memory::let_go_of_room,
    sequence::{Rejection, Sequencer},
    store::{Commit, CommitSink, Sharing, Store, StoreError, StoreFuture, StreamLog},
    telemetry::CommitLatency,
    types::{
        AppendAck, AppendInput, ArrivalMark, Arrivals, Batch, BatchSlice, Cipher, Head, Position, SeqNum, StreamConfig,
        StreamEntry, StreamId, Timestamp,
    },
    usage::StreamUsage,
};

/// A stream that is in use.
pub struct Stream {
    id: StreamId,
    /// For life: what the basin says later changes nothing.
    cipher: Option<Cipher>,
    sharing: Sharing,
    this: Weak<Stream>,
    clock: Arc<dyn Clock>,
    background: Background,
    rings: Arc<Rings<Stream>>,
    commit_latency: CommitLatency,
    refresher: Refresher,
    usage: OnceLock<Arc<StreamUsage>>,
    log: OnceLock<Arc<dyn StreamLog>>,
    /// Whether the background has yet to begin a trim for it.
    trim_is_due: AtomicBool,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Judges against everything accepted, durable or not.
    sequencer: Sequencer,
    durable: Head,
    config: StreamConfig,
    /// When what is durable arrived.
    arrivals: Arrivals,
    /// The latest mark of the arrivals that were last written down.
    arrivals_saved: Option<ArrivalMark>,
    /// Accepted, not durable, in order.
    pending: VecDeque<Pending>,
    ring: Ring,
    waiters: Waiters,
    writers: Writers,
    /// Whether a task looks after what was taken back of writers.
    looks_after_taken_back: bool,
    /// Readers that wait at the tail, or did and came back.
    followers: usize,
}

/// ```text
/// Serving ──► Deleted
///    └──────────┴──► Failed     recovered from what is durable when the stream is next opened
/// ```
#[derive(Clone)]
enum Phase {
    Serving,
    Deleted,
    Failed(StoreError),
}

struct Pending {
    batch: Batch,
    head: Head,
    arrived: Timestamp,
    since: Instant,
    /// What it was made from, where it may have to be judged again.
    origin: Option<Box<Origin>>,
    /// Bytes of the in-flight budget, given back when the batch is durable.
    permit: Option<OwnedSemaphorePermit>,
}

/// What is left to be done, after a change of the state, when its lock was let go of.
#[must_use = "who is not woken waits for ever"]
struct Aftermath {
    wakers: Wakers,
    /// Whether the durable trim point moved.
    trims: bool,
    /// Whether the ring is to join those of the other streams.
    joins: bool,
}

/// Whose input a batch was made from.
struct Origin {
    input: AppendInput,
    writer: WriterId,
}

/// An input on its way into the log, and what goes with it.
struct Incoming {
    arrived: Timestamp,
    since: Instant,
    permit: Option<OwnedSemaphorePermit>,
}

/// Why an input was not put into the log. It had no effect, unless the store's error says otherwise.
enum NotPut {
    Rejected(Rejection),
    Failed(StoreError),
}

impl From<NotPut> for Failure {
    fn from(not_put: NotPut) -> Self {
        match not_put {
            NotPut::Rejected(rejection) => rejection.into(),
            NotPut::Failed(error) => error.into(),
        }
    }
}

/// What comes next for a writer that has inputs outstanding.
pub(super) enum Outcome {
    /// An ack, with the metered bytes that it is for.
    Ack(AppendAck, usize),
    /// An input of which nobody can tell yet: [`Stream::judge_again`] when the stream was refreshed.
    Undecided,
}

/// A batch that was refused, and the state that this was judged against.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) failure: Failure,
    /// The tail that must be durable before anyone may be told.
    pub(super) judged_at: SeqNum,
}

/// What a follower finds at its position.
pub(super) enum Ahead {
    /// All there is, in one batch. The follower is woken when there is more.
    Latest(Batch),
    /// Records, one slice a batch. If they are all there are, the follower is woken when there are more.
    Records(Vec<BatchSlice>),
    /// Nothing yet. The follower is woken when there is something.
    Nothing,
    /// Records that are no longer at hand: read them from the log.
    Behind,
}

impl Stream {
    /// Opens the log of the stream that `entry` describes. `arrivals` is what was written down of it.
    pub(super) async fn open(
        store: &dyn Store,
        entry: &StreamEntry,
        arrivals: Option<Arrivals>,
        clock: Arc<dyn Clock>,
        background: Background,
        rings: Arc<Rings<Stream>>,
        commit_latency: CommitLatency,
    ) -> Result<Arc<Self>, StoreError> {
        let stream = Arc::new_cyclic(|this| Self {
            id: entry.id,
            cipher: entry.cipher,
            sharing: store.sharing(),
            this: this.clone(),
            clock,
            background,
            commit_latency,
            refresher: Refresher::default(),
            usage: OnceLock::new(),
            log: OnceLock::new(),
            trim_is_due: AtomicBool::new(false),
            state: Mutex::new(State {
                phase: Phase::Serving,
                sequencer: Sequencer::with_cipher(Head::default(), entry.cipher),
                durable: Head::default(),
                config: entry.config.clone(),
                arrivals_saved: arrivals.as_ref().and_then(Arrivals::latest),
                arrivals: arrivals.unwrap_or_else(|| Arrivals::new(entry.created_at)),
                pending: VecDeque::new(),
                ring: Ring::new(rings.share().clone()),
                waiters: Waiters::default(),
                writers: Writers::default(),
                looks_after_taken_back: false,
                followers: 0,
            }),
            rings,
        });
        let opened = store.open(entry.id, Arc::new(Sink(Arc::downgrade(&stream)))).await?;
        stream.lock().begin_at(opened.head, stream.clock.now());
        stream.log.get_or_init(|| opened.log);
        Ok(stream)
    }

    /// Which life of its name this is.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// What turns the records of a request into those of the stream and back; nothing if they are not encrypted.
    pub(super) fn record_cipher(&self, key: Option<&KeyMaterial>) -> Result<Option<Box<RecordCipher>>, KeyError> {
        Ok(RecordCipher::of_request(self.cipher, key, self.id)?.map(Box::new))
    }

    /// Counts the use of the stream there from now on. Only the first call counts.
    pub(super) fn count_for(&self, usage: Arc<StreamUsage>) {
        self.usage.get_or_init(|| usage);
    }

    pub(super) fn usage(&self) -> &Arc<StreamUsage> {
        self.usage.get().expect("a stream is handed out only when its use is counted")
    }

    /// Metered bytes that the log keeps.
    pub(super) fn stored(&self) -> u64 {
        self.log().stored()
    }

    /// Of a stream that is gone it is known that it keeps nothing.
    fn note_stored_if(&self, serving: Result<(), Failure>) {
        if serving.is_ok() {
            self.note_stored();
        }
    }

    fn note_stored(&self) {
        self.usage().set_stored(self.stored());
    }

    /// The durable tail, as far as this process knows: [`Streams::check_tail`] asks where others write too.
    ///
    /// [`Streams::check_tail`]: super::Streams::check_tail
    pub fn check_tail(&self) -> Result<Position, Failure> {
        self.durable_head().map(|head| head.tail)
    }

    pub(super) fn durable_head(&self) -> Result<Head, Failure> {
        let state = self.lock();
        state.phase.serving()?;
        Ok(state.durable)
    }

    /// Judges `input` of `writer`, in the form in which it is stored, at the time `now` and hands it to the log.
    ///
    /// Where others write too, it is not refused here on account of the stream's state: what is known of that may be old.
    pub(super) fn append(
        &self,
        writer: WriterId,
        input: &AppendInput,
        permit: OwnedSemaphorePermit,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let judged_at = self.refusals_wait_for(state);
        let refused = |failure| Refused { failure, judged_at };
        state.phase.serving().map_err(refused)?;
        let mut incoming = Incoming { arrived: now, since: clock::instant(), permit: Some(permit) };
        if state.writers.is_held_up(writer) {
            self.take_back(state, writer, incoming.taken_back(input.clone()));
            return Ok(());
        }

        let trim_point = state.durable.trim_point;
        match self.put(state, writer, input, &mut incoming) {
            Ok(()) => {}
            Err(NotPut::Rejected(_)) if self.is_shared() => {
                self.take_back(state, writer, incoming.taken_back(input.clone()));
            }
            Err(not_put) => {
                drop(guard);
                self.fail_if_unknown(&not_put);
                return Err(refused(not_put.into()));
            }
        }
        let wakers = state.wakers_of_tail();
        let aftermath = state.aftermath(wakers, trim_point);
        drop(guard);
        self.see_to(aftermath);
        Ok(())
    }

    /// Gives `input` its numbers, hands it to the log and promises the numbers to `writer`. If it cannot, nothing changed.
    fn put(
        &self,
        state: &mut State,
        writer: WriterId,
        input: &AppendInput,
        incoming: &mut Incoming,
    ) -> Result<(), NotPut> {
        let before = *state.sequencer.head();
        let timestamping = state.config.timestamping;
        let batch = state
            .sequencer
            .admit_in(input, timestamping, incoming.arrived, |len| self.log().lend(len))
            .map_err(NotPut::Rejected)?;
        let head = *state.sequencer.head();
        let promise = Promise { start: batch.start(), end: batch.end(), metered: input.batch.metered() };
        match self.log().append(batch.clone(), head) {
            Ok(Commit::Durable) => {
                state.note_durable(batch, head, incoming.arrived);
                self.commit_latency.observe(clock::instant().saturating_duration_since(incoming.since));
                self.note_stored();
            }
            Ok(Commit::Pending) => {
                let origin = self.is_shared().then(|| Box::new(Origin { input: input.clone(), writer }));
                let &mut Incoming { arrived, since, ref mut permit } = incoming;
                state.pending.push_back(Pending { batch, head, arrived, since, origin, permit: permit.take() });
            }
            Err(error) => {
                state.sequencer.set_head(before);
                return Err(NotPut::Failed(error));
            }
        }
        state.writers.promise(writer, promise);
        Ok(())
    }

    /// The tail that must be durable before anyone may be told of a refusal.
    fn refusals_wait_for(&self, state: &State) -> SeqNum {
        match self.sharing {
            Sharing::Alone => state.sequencer.head().tail.seq_num,
            // What is refused at once does not quote the state, and that tail may never come.
            Sharing::Shared => SeqNum::FIRST,
        }
    }

    fn fail_if_unknown(&self, not_put: &NotPut) {
        if let NotPut::Failed(error @ StoreError::Unknown(_)) = not_put {
            self.fail(error.clone());
        }
    }

    /// What comes next for `writer`, which has inputs outstanding; if that is not known yet, the task of `cx` is woken.
    pub(super) fn outcome(&self, writer: WriterId, place: &Place, cx: &Context<'_>) -> Poll<Result<Outcome, Failure>> {
        let mut state = self.lock();
        let tail = state.durable.tail;
        if let Some(Promise { start, end, metered }) = state.writers.take_kept(writer, tail.seq_num) {
            return Poll::Ready(Ok(Outcome::Ack(AppendAck { start, end, tail }, metered)));
        }
        // A deletion does not take back what was accepted: the log still reports it.
        if let Phase::Failed(error) = &state.phase {
            return Poll::Ready(Err(error.clone().into()));
        }
        match state.writers.next(writer) {
            Some(Next::TakenBack) => Poll::Ready(Ok(Outcome::Undecided)),
            Some(Next::Refused(failure)) => Poll::Ready(Err(failure)),
            Some(Next::Promised(promise)) => {
                state.waiters.wait(place, promise.end.seq_num, cx);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    /// From now on batches are stamped, and records kept, as `config` says.
    pub(super) fn reconfigure(&self, config: &StreamConfig) {
        self.lock().config = config.clone();
        self.usage().set_class(&config.storage_class);
    }

    pub(super) fn reconfigure_if_changed(&self, config: &StreamConfig) {
        let changed = self.lock().config != *config;
        if changed {
            self.reconfigure(config);
        }
    }

    /// Ends the stream for everyone who uses it.
    pub(super) fn delete(&self) {
        self.end(Phase::Deleted);
    }

    fn end(&self, phase: Phase) {
        let mut state = self.lock();
        if matches!((&state.phase, &phase), (Phase::Serving, _) | (Phase::Deleted, Phase::Failed(_))) {
            state.phase = phase;
            state.ring.clear();
        }
        let wakers = state.waiters.everyone();
        drop(state);
        self.background.wake(wakers);
    }

    /// Whether the stream must be opened anew to be used.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.lock().phase, Phase::Failed(_))
    }

    /// Whether everything accepted is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().pending.is_empty()
    }

    /// Batches of the log from the one that holds `from` on, up to the durable tail as it is known here now.
    ///
    /// The log knows of a commit a moment before it reports it, and nobody may see records beyond a tail that others are
    /// told of at the same time.
    pub(super) fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'static, Vec<Batch>> {
        let log = self.log().clone();
        if let Some(stream) = self.is_shared().then(|| self.this.upgrade()).flatten() {
            return Box::pin(async move { stream.read_shared(from, budget).await });
        }
        let tail = self.tail_known_here();
        Box::pin(async move { Ok(up_to(tail, log.read(from, budget).await?)) })
    }

    fn tail_known_here(&self) -> SeqNum {
        self.lock().durable.tail.seq_num
    }

    pub(super) async fn seek(&self, from: SeqNum, timestamp: Timestamp) -> Result<Option<Position>, StoreError> {
        self.log().seek(from, timestamp).await
    }

    /// Lets go of what lies before the durable trim point.
    pub(super) async fn trim(&self) -> Result<(), StoreError> {
        // Before the trim point is looked at, so that no later one is passed by.
        self.trim_is_due.store(false, SeqCst);
        let to = self.lock().durable.trim_point;
        self.log().trim(to).await?;
        let serving = self.lock().phase.serving();
        self.note_stored_if(serving);
        Ok(())
    }

    pub(super) fn enter(&self) -> Place {
        self.lock().waiters.enter()
    }

    pub(super) fn enter_writer(&self) -> (Place, WriterId) {
        let mut state = self.lock();
        (state.waiters.enter(), state.writers.enter())
    }

    pub(super) fn leave_writer(&self, place: &Place, writer: WriterId) {
        self.lock().writers.leave(writer);
        self.leave(place);
    }

    pub(super) fn leave(&self, place: &Place) {
        let mut state = self.lock();
        if state.waiters.leave(place) == Left::Nobody {
            // An idle stream is small: there may be a hundred thousand of them.
            state.pending.shrink_to_fit();
        }
    }

    /// Whether the durable tail has come to `end`, and where it is; if it has not, the task of `cx` will be woken.
    pub(super) fn reached(&self, end: SeqNum, place: &Place, cx: &Context<'_>) -> Result<Option<Position>, Failure> {
        let mut state = self.lock();
        let tail = state.durable.tail;
        if tail.seq_num >= end {
            return Ok(Some(tail));
        }
        // A deletion does not take back what was accepted: the log still reports it.
        if let Phase::Failed(error) = &state.phase {
            return Err(error.clone().into());
        }
        state.waiters.wait(place, end, cx);
        Ok(None)
    }

    /// What lies at `next` for a follower there, and the durable tail.
    pub(super) fn ahead(
        &self,
        next: SeqNum,
        budget: usize,
        place: &Place,
        cx: &Context<'_>,
    ) -> Result<(Ahead, Position), Failure> {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.phase.serving()?;
        let tail = state.durable.tail;
        let (ahead, end) = match next < tail.seq_num {
            true => at_hand(&mut state.ring, next, budget),
            false => (Ahead::Nothing, next),
        };
        if end >= tail.seq_num {
            state.waiters.wait(place, end.saturating_add(1), cx);
        }
        Ok((ahead, tail))
    }

    /// Makes sure that the task of `cx` learns of the stream's end.
    pub(super) fn watch_end(&self, place: &Place, cx: &Context<'_>) -> Result<(), Failure> {
        let mut state = self.lock();
        state.phase.serving()?;
        state.waiters.wait(place, SeqNum::MAX, cx);
        Ok(())
    }

    fn log(&self) -> &Arc<dyn StreamLog> {
        self.log.get().expect("a stream is handed out only when its log is open")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything accepted before `end` became durable.
    fn settle(&self, end: SeqNum) {
        let now = clock::instant();
        let mut state = self.lock();
        let trimmed_before = state.durable.trim_point;
        while state.pending.front().is_some_and(|pending| pending.batch.end().seq_num <= end) {
            if let Some(Pending { batch, head, arrived, since, .. }) = state.pending.pop_front() {
                state.note_durable(batch, head, arrived);
                self.commit_latency.observe(now.saturating_duration_since(since));
            }
        }
        let_go_of_room(&mut state.pending);
        let wakers = state.wakers_of_tail();
        let aftermath = state.aftermath(wakers, trimmed_before);
        let serving = state.phase.serving();
        drop(state);
        self.note_stored_if(serving);
        self.see_to(aftermath);
    }

    /// Called without the lock.
    fn see_to(&self, Aftermath { wakers, trims, joins }: Aftermath) {
        self.background.wake(wakers);
        self.make_room(joins);
        self.trim_in_background(trims);
    }

    /// Nothing that is pending will become durable, as far as anyone can tell.
    fn fail(&self, error: StoreError) {
        {
            let mut state = self.lock();
            state.pending.clear();
            state.writers.forget_all_taken_back();
        }
        self.end(Phase::Failed(error));
    }

    /// For what was just put into the ring, which `joins` those of all streams with it or is among them already.
    fn make_room(&self, joins: bool) {
        if joins {
            self.rings.join(self.this.clone());
        }
        self.rings.make_room();
    }

    /// Trims that come faster than the log lets go are one.
    fn trim_in_background(&self, trims: bool) {
        if trims && !self.trim_is_due.swap(true, SeqCst) {
            self.background.trim(self.this.clone());
        }
    }
}

/// What `ring` has for a follower at `next`, and where that ends.
fn at_hand(ring: &mut Ring, next: SeqNum, budget: usize) -> (Ahead, SeqNum) {
    if let Some(latest) = ring.latest_from(next) {
        return (Ahead::Latest(latest.clone()), latest.end().seq_num);
    }
    let slices = ring.starting_at(next, budget).unwrap_or_default();
    match slices.last().map(BatchSlice::end_seq_num) {
        Some(end) => (Ahead::Records(slices), end),
        None => (Ahead::Behind, next),
    }
}

/// Those of `found` that end no later than `tail`.
fn up_to(tail: SeqNum, mut found: Vec<Batch>) -> Vec<Batch> {
    found.truncate(found.partition_point(|batch| batch.end().seq_num <= tail));
    found
}

impl Incoming {
    fn taken_back(self, input: AppendInput) -> TakenBack {
        TakenBack { input, arrived: self.arrived, permit: self.permit }
    }
}

impl Keeper for Stream {
    fn give_up(&self) -> Rest {
        self.lock().ring.give_up()
    }
}

impl State {
    /// Goes on from the durable `head`, found at `now`.
    fn begin_at(&mut self, head: Head, now: Timestamp) {
        self.arrivals.fit(head.tail.seq_num, now, Arrivals::resolution(self.config.retention_policy));
        self.durable = head;
        self.sequencer.set_head(head);
        self.raise_trim_point(self.arrivals.removed_to());
    }

    fn note_durable(&mut self, batch: Batch, head: Head, arrived: Timestamp) {
        // What was removed for its age meanwhile, the head does not know of.
        let trim_point = head.trim_point.max(self.durable.trim_point);
        self.durable = Head { trim_point, ..head };
        self.arrivals.note(arrived, head.tail.seq_num, Arrivals::resolution(self.config.retention_policy));
        self.ring.push(batch);
    }

    /// Moves the trim point without a commit; the next one makes it durable in the head.
    fn raise_trim_point(&mut self, to: SeqNum) {
        let raised = |head: &Head| Head { trim_point: head.trim_point.max(to), ..*head };
        self.sequencer.set_head(raised(self.sequencer.head()));
        self.durable = raised(&self.durable);
    }

    /// What follows from a change before which the durable trim point was `trimmed_before`, and of which these are to hear.
    fn aftermath(&mut self, wakers: Wakers, trimmed_before: SeqNum) -> Aftermath {
        Aftermath { wakers, trims: self.durable.trim_point > trimmed_before, joins: self.ring.joins() }
    }

    fn wakers_of_tail(&mut self) -> Wakers {
        self.waiters.reached(self.durable.tail.seq_num)
    }
}

impl Phase {
    fn serving(&self) -> Result<(), Failure> {
        match self {
            Phase::Serving => Ok(()),
            Phase::Deleted => Err(Failure::StreamDeletionPending),
            Phase::Failed(error) => Err(Failure::Store(error.clone())),
        }
    }
}

/// Carries what the log reports to the stream, for as long as that is open.
struct Sink(Weak<Stream>);

impl CommitSink for Sink {
    fn durable(&self, end: SeqNum) {
        if let Some(stream) = self.0.upgrade() {
            stream.settle(end);
        }
    }

    fn arrived(&self, batch: Batch, head: Head) {
        if let Some(stream) = self.0.upgrade() {
            stream.arrived(batch, head);
        }
    }

    fn overtaken(&self, head: Head, missed: Vec<(Batch, Head)>) {
        if let Some(stream) = self.0.upgrade() {
            stream.overtaken(head, missed);
        }
    }

    fn failed(&self, error: StoreError) {
        if let Some(stream) = self.0.upgrade() {
            stream.fail(error);
        }
    }
}
