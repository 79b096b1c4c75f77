//! A stream that other processes write to as well: what they commit, and what becomes of inputs that they overtook.
//!
//! ```text
//!                        durable tail
//! known here   ───────────────┼─ a ─ b ─ c ►              accepted here, in this order
//! the log      ───────────────┼─ X ─ Y ────┼              another process was first
//! judged again ───────────────┼─ X ─ Y ────┼─ a ─ c ►     b asked for the number that X got: it goes back to its writer,
//!                                                         with all that came after it in its session
//! ```
//!
//! Nobody is told of a refusal on the strength of what is known here, which may be old, or of what was accepted here,
//! which may never become durable. The input goes back to its writer; when the stream was refreshed it is judged anew,
//! and either goes in at the end, or is refused by a head that was in force after the input had come.
//!
//! Records keep the time at which they first arrived, however often they are judged: timestamps do not decrease anyway,
//! and a record is not younger for having waited.

use std::{
    future::poll_fn,
    mem,
    sync::{
        MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use super::{Failure, Incoming, NotPut, Origin, Pending, Phase, Place, State, Stream, up_to};
use crate::{
    store::{Listening, Sharing, StoreError},
    streams::{
        neighbours::MAX_TRIES,
        writers::{Refusals, TakenBack, TakenBackSoFar, WriterId},
    },
    types::{Arrivals, Batch, Head, SeqNum, Timestamp},
};

impl Stream {
    pub(in crate::streams) fn is_shared(&self) -> bool {
        self.sharing == Sharing::Shared
    }

    /// Whether it was opened after its deletion elsewhere.
    pub(in crate::streams) fn was_deleted(&self) -> bool {
        self.log().was_deleted()
    }

    /// Makes sure that all that was acknowledged anywhere before this was called is known here, and readable.
    ///
    /// Goes on to its end in a task of its own, so that nobody else waits for a caller that is not polled.
    pub(in crate::streams) async fn refreshed(&self) -> Result<(), Failure> {
        if !self.is_shared() {
            return Ok(());
        }
        let gone = || StoreError::Unknown("the stream was closed".into());
        let stream = self.this.upgrade().ok_or_else(gone)?;
        let refreshing = tokio::spawn(async move { stream.refresh_in_turn().await });
        refreshing.await.unwrap_or_else(|_stopped| Err(gone().into()))
    }

    /// As [`Stream::read`] where others trim, too: they may have removed all that was known here.
    pub(super) async fn read_shared(&self, from: SeqNum, budget: usize) -> Result<Vec<Batch>, StoreError> {
        for _ in 1..MAX_TRIES {
            let found = self.read_known(from, budget).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            match self.refreshed().await {
                Err(Failure::Store(error)) => return Err(error),
                // Whoever reads is told of a deletion anyway.
                Err(_) => break,
                Ok(()) => {}
            }
        }
        self.read_known(from, budget).await
    }

    async fn read_known(&self, from: SeqNum, budget: usize) -> Result<Vec<Batch>, StoreError> {
        let found = self.log().read(from, budget).await?;
        Ok(up_to(self.tail_known_here(), found))
    }

    async fn refresh_in_turn(&self) -> Result<(), Failure> {
        self.lock().phase.serving()?;
        let head = self.refresher.refresh(|| self.log().refresh()).await?;
        self.reach(head.tail.seq_num).await
    }

    /// Waits until the durable tail known here is at `end`: what is durable already is reported at any moment.
    async fn reach(&self, end: SeqNum) -> Result<(), Failure> {
        let place = self.enter();
        let reached = poll_fn(|cx| match self.reached(end, &place, cx) {
            Ok(Some(_)) => Poll::Ready(Ok(())),
            Ok(None) => Poll::Pending,
            Err(failure) => Poll::Ready(Err(failure)),
        })
        .await;
        self.leave(&place);
        reached
    }

    /// Lets go of what was taken back of `writer`, whose session has failed, and of the room that it takes.
    pub(in crate::streams) fn forget_taken_back(&self, writer: WriterId) {
        if self.is_shared() {
            self.lock().writers.forget_taken_back(writer);
        }
    }

    /// One more reader waits at the tail.
    pub(in crate::streams) fn add_follower(&self) {
        let mut state = self.lock();
        state.followers += 1;
        if state.followers == 1 {
            self.log().listen(Listening::Following);
        }
    }

    /// A reader that did is gone.
    pub(in crate::streams) fn remove_follower(&self) {
        let mut state = self.lock();
        state.followers -= 1;
        if state.followers == 0 {
            self.log().listen(Listening::Idle);
        }
    }

    /// Another process committed `batch` at the durable tail.
    pub(super) fn arrived(&self, batch: Batch, head: Head) {
        let now = self.clock.now();
        let mut state = self.lock();
        if !state.pending.is_empty() {
            drop(state);
            // It was accepted while this was on its way here.
            return self.overtaken(head, vec![(batch, head)]);
        }
        if state.is_over() {
            return;
        }
        let trimmed_before = state.durable.trim_point;
        state.catch_up(head, vec![(batch, head)], now);
        let durable = state.durable;
        state.sequencer.set_head(durable);
        let wakers = state.wakers_of_tail();
        let aftermath = state.aftermath(wakers, trimmed_before);
        let serving = state.phase.serving();
        drop(state);
        self.note_stored_if(serving);
        self.see_to(aftermath);
    }

    /// Of what was accepted here nothing became durable: it is judged again, in its order, from `head` on.
    pub(super) fn overtaken(&self, head: Head, missed: Vec<(Batch, Head)>) {
        let now = self.clock.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.is_over() {
            return;
        }
        if let Err(error) = state.check_forward(&head) {
            drop(guard);
            return self.fail(error);
        }
        let trimmed_before = state.durable.trim_point;
        state.catch_up(head, missed, now);
        state.sequencer.set_head(state.durable);
        self.log().resume_at(state.durable.tail.seq_num);
        let failed = self.judge_all_again(state);
        let wakers = state.waiters.everyone();
        let aftermath = state.aftermath(wakers, trimmed_before);
        let serving = state.phase.serving();
        drop(guard);
        if let Some(error) = failed {
            self.fail(error);
        }
        self.note_stored_if(serving);
        self.see_to(aftermath);
    }

    /// Gives what was accepted its numbers anew. What is refused, and what came after it in its session, goes back to its
    /// writer. Returns the error after which nothing more is known of the log.
    fn judge_all_again(&self, state: &mut State) -> Option<StoreError> {
        let overtaken = mem::take(&mut state.pending);
        for origin in overtaken.iter().filter_map(|pending| pending.origin.as_ref()) {
            state.writers.recall(origin.writer);
        }
        let mut refusals = Refusals::default();
        for Pending { arrived, since, origin, permit, .. } in overtaken {
            let Some(origin) = origin else { continue };
            let Origin { input, writer } = *origin;
            let mut incoming = Incoming { arrived, since, permit };
            let put = match refusals.concern(writer) {
                true => Err(None),
                false => self.put(state, writer, &input, &mut incoming).map_err(Some),
            };
            match put {
                Ok(()) => {}
                Err(Some(NotPut::Failed(error @ StoreError::Unknown(_)))) => return Some(error),
                // Whatever it is: when it is judged once more, its writer is told.
                Err(_) => refusals.add(writer, incoming.taken_back(input)),
            }
        }
        if !refusals.is_empty() {
            refusals.give_to(&mut state.writers);
            self.look_after_taken_back(state);
        }
        None
    }

    /// Takes `input` back, and sees to it that it is judged again although nobody polls its session.
    pub(super) fn take_back(&self, state: &mut State, writer: WriterId, input: TakenBack) {
        state.writers.take_back(writer, input);
        self.look_after_taken_back(state);
    }

    fn look_after_taken_back(&self, state: &mut State) {
        if self.is_shared() && !mem::replace(&mut state.looks_after_taken_back, true) {
            self.background.spawn(look_after_taken_back(self.this.clone()));
        }
    }

    /// How much was taken back by now: a refresh that begins after this is enough to refuse it.
    pub(in crate::streams) fn taken_back_so_far(&self) -> TakenBackSoFar {
        self.lock().writers.taken_back_so_far()
    }

    /// Judges again what was taken back of `writer` before the stream was refreshed, at that `time`.
    ///
    /// Pending while an input is refused only by what is not durable yet; the task of `cx` is woken.
    pub(in crate::streams) fn judge_again(
        &self,
        writer: WriterId,
        time: TakenBackSoFar,
        place: &Place,
        cx: &Context<'_>,
    ) -> Poll<()> {
        let mut guard = self.lock();
        let judged = self.judge(&mut guard, writer, time);
        match judged {
            Judged::ByWhatIsNotDurable(end) => {
                guard.waiters.wait(place, end, cx);
                Poll::Pending
            }
            judged => {
                self.has_judged(guard, judged);
                Poll::Ready(())
            }
        }
    }

    /// What was taken back of `writer` before that `time` cannot be judged, and had no effect.
    pub(in crate::streams) fn refuse_taken_back(&self, writer: WriterId, time: TakenBackSoFar, failure: Failure) {
        let mut state = self.lock();
        if state.writers.has_taken_back(writer, time) {
            state.writers.refuse(writer, failure);
        }
    }

    /// Judges again what was taken back of anyone. Sessions need not come for it: who refuses does not wait to be asked,
    /// and a client that takes no acks does not keep everybody's room in flight.
    pub(in crate::streams) async fn judge_all_taken_back(&self) {
        let (writers, time) = {
            let state = self.lock();
            (state.writers.with_taken_back(), state.writers.taken_back_so_far())
        };
        if writers.is_empty() {
            return;
        }
        let refreshed = self.refreshed().await;
        for writer in writers {
            match &refreshed {
                Ok(()) => {
                    let mut guard = self.lock();
                    let judged = self.judge(&mut guard, writer, time);
                    self.has_judged(guard, judged);
                }
                Err(failure) => self.refuse_taken_back(writer, time, failure.clone()),
            }
        }
    }

    fn judge(&self, state: &mut State, writer: WriterId, time: TakenBackSoFar) -> Judged {
        if !state.writers.has_taken_back(writer, time) {
            return Judged::AsFarAsCanBe;
        }
        if let Err(ended) = state.phase.serving() {
            state.writers.refuse(writer, ended);
            return Judged::AsFarAsCanBe;
        }
        while let Some(TakenBack { input, arrived, permit }) = state.writers.first_taken_back(writer) {
            let mut incoming = Incoming { arrived, since: crate::clock::instant(), permit };
            match self.put(state, writer, &input, &mut incoming) {
                Ok(()) => {}
                Err(NotPut::Rejected(_)) if state.writers.has_promised_beyond(writer, state.durable.tail.seq_num) => {
                    // Told after those; until then more may have changed.
                    state.writers.put_back(writer, incoming.taken_back(input));
                    break;
                }
                Err(NotPut::Rejected(_)) => {
                    if let Err(rejection) = state.sequencer.at(state.durable).check(&input, state.config.timestamping) {
                        state.writers.refuse(writer, rejection.into());
                        break;
                    }
                    let judged_at = state.sequencer.head().tail.seq_num;
                    state.writers.put_back(writer, incoming.taken_back(input));
                    return Judged::ByWhatIsNotDurable(judged_at);
                }
                Err(NotPut::Failed(error)) => {
                    state.writers.refuse(writer, error.clone().into());
                    return Judged::LogFailed(error);
                }
            }
        }
        Judged::AsFarAsCanBe
    }

    fn has_judged(&self, mut state: MutexGuard<'_, State>, judged: Judged) {
        let wakers = state.wakers_of_tail();
        drop(state);
        self.background.wake(wakers);
        if let Judged::LogFailed(error @ StoreError::Unknown(_)) = judged {
            self.fail(error);
        }
    }
}

/// How the judgement of what was taken back of a writer ended.
enum Judged {
    /// With all of it put in, or refused, or with something that must wait for what was promised to the writer before.
    AsFarAsCanBe,
    /// With an input that is refused only by what is not durable; up to there.
    ByWhatIsNotDurable(SeqNum),
    /// With an input that the log did not take.
    LogFailed(StoreError),
}

/// A session comes for what was taken back of it in less, if it is polled.
const COMES_WITHIN: Duration = Duration::from_secs(1);

/// Judges again what is taken back while there is anything.
async fn look_after_taken_back(stream: Weak<Stream>) {
    loop {
        tokio::time::sleep(COMES_WITHIN).await;
        let Some(stream) = stream.upgrade() else { return };
        stream.judge_all_taken_back().await;
        let mut state = stream.lock();
        if state.writers.with_taken_back().is_empty() {
            state.looks_after_taken_back = false;
            return;
        }
    }
}

impl State {
    /// Whether what the log reports comes too late for anybody.
    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Failed(_))
    }

    /// A log that lost what was durable is not gone on with.
    fn check_forward(&self, head: &Head) -> Result<(), StoreError> {
        let (was, is) = (self.durable.tail, head.tail);
        match is.seq_num < was.seq_num {
            true => Err(StoreError::Damaged(format!("the log ended at {was}, and ends at {is} now").into())),
            false => Ok(()),
        }
    }

    /// Goes on to `head`, which others left, by way of `missed`, if that is all there is in between.
    fn catch_up(&mut self, head: Head, missed: Vec<(Batch, Head)>, now: Timestamp) {
        if is_complete(self.durable.tail.seq_num, &missed, head.tail.seq_num) {
            for (batch, head) in missed {
                self.note_durable(batch, head, now);
            }
            return;
        }
        self.ring.clear();
        let trim_point = head.trim_point.max(self.durable.trim_point);
        self.durable = Head { trim_point, ..head };
        self.arrivals.note(now, head.tail.seq_num, Arrivals::resolution(self.config.retention_policy));
    }
}

/// Whether `missed` leads from `from` to `to` without a gap.
fn is_complete(from: SeqNum, missed: &[(Batch, Head)], to: SeqNum) -> bool {
    let step = |at: SeqNum, (batch, _): &(Batch, Head)| (batch.first_seq_num() == at).then_some(batch.end().seq_num);
    missed.iter().try_fold(from, step) == Some(to)
}

/// One refresh at a time; whoever asks is answered by one that began after they asked, together with all others.
#[derive(Default)]
pub(super) struct Refresher {
    begun: AtomicU64,
    turn: tokio::sync::Mutex<Refreshed>,
}

/// The refresh that ended last.
#[derive(Default)]
struct Refreshed {
    number: u64,
    head: Option<Result<Head, StoreError>>,
}

impl Refresher {
    async fn refresh<'a>(&self, ask: impl FnOnce() -> crate::store::StoreFuture<'a, Head>) -> Result<Head, StoreError> {
        let before = self.begun.load(Ordering::SeqCst);
        let mut last = self.turn.lock().await;
        if last.number > before
            && let Some(head) = &last.head
        {
            return head.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let head = ask().await;
        *last = Refreshed { number, head: Some(head.clone()) };
        head
    }
}
