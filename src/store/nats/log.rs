//! The log of one stream: what was accepted, how far it is durable, and what is to be done next. The doing is `driver`'s.
//!
//! ```text
//!            append                    resume_at
//!              │                           ▲
//!   Open ──────┼──► waiting ──► driver     │        one message at a time; what comes meanwhile waits for the next
//!              │                  │        │
//!   Moving ────┴──► forgotten     └─► another was first
//!   Ended ────────► refused
//! ```

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use tokio::sync::{Notify, oneshot};

use super::{
    chain::{Known, Place, Released},
    engine::{Engine, Message, Subject},
    envelope::{self, Committed, FRONT_BOUND},
    locked,
    places::Places,
};
use crate::{
    store::{CommitSink, StoreError},
    types::{Batch, Head, SeqNum, StreamId},
};

/// Bytes of messages that a consumer may bring before they are looked at; beyond that they are read again.
const MOST_DELIVERED: usize = 32 * 1024 * 1024;

/// What everybody who works on a log knows of it.
pub(super) struct Log {
    pub(super) engine: Arc<Engine>,
    pub(super) stream: StreamId,
    pub(super) subject: Subject,
    pub(super) sink: Arc<dyn CommitSink>,
    state: Mutex<State>,
    places: Mutex<Places>,
    /// Told when there is nothing left to do.
    settled: Notify,
}

pub(super) struct State {
    pub(super) phase: Phase,
    /// Where the next append begins.
    pub(super) tail: SeqNum,
    pub(super) known: Known,
    /// Accepted, in order, and not yet published.
    pub(super) waiting: VecDeque<Committed>,
    pub(super) refreshing: Vec<Refresh>,
    delivered: VecDeque<Message>,
    delivered_bytes: usize,
    /// Whether a consumer brought more than was kept.
    delivered_more: bool,
    /// Whether there is a driver.
    driven: bool,
}

/// What becomes of appends.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// They wait to be published.
    Open,
    /// Another process was first, or its commit is on its way to the sink: they are forgotten, until the sink goes on
    /// from where that left the log.
    Moving {
        /// Where an append begins that comes after the sink heard of the commit, unless one was forgotten.
        resumes: Option<SeqNum>,
    },
    /// They are refused.
    Ended(StoreError),
}

/// Someone who waits for the newest head.
pub(super) type Refresh = oneshot::Sender<Result<Head, StoreError>>;

/// What the driver does next.
pub(super) enum Work {
    /// To look at what a consumer brought.
    Look(VecDeque<Message>),
    /// To read what a consumer brought and nobody kept.
    CatchUp,
    /// To publish these, and tell those who wait for the head.
    Commit(Vec<Committed>, Vec<Refresh>),
    /// To find out the head for those who wait for it.
    Refresh(Vec<Refresh>),
}

impl Log {
    pub(super) fn new(engine: Arc<Engine>, stream: StreamId, sink: Arc<dyn CommitSink>, known: Known) -> Arc<Self> {
        let subject = engine.names.subject(stream);
        Arc::new(Self {
            engine,
            stream,
            subject,
            sink,
            state: Mutex::new(State::new(known)),
            places: Mutex::default(),
            settled: Notify::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    pub(super) fn known(&self) -> Known {
        self.lock().known
    }

    pub(super) fn places(&self) -> MutexGuard<'_, Places> {
        locked(&self.places)
    }

    /// Remembers where a message lies.
    pub(super) fn note_place(&self, place: Place) {
        self.places().insert(place);
    }

    /// Lets go of what `released` says.
    pub(super) fn release(&self, released: Released) {
        self.lock().known.release(released);
        self.places().forget_before(released.to);
    }

    /// Lets go of everything up to the tail that `known` has.
    pub(super) fn release_up_to(&self, known: &Known) {
        let mut all = *known;
        all.release_all();
        self.release(all.released());
    }

    /// Takes no more appends; what was accepted is still published.
    pub(super) fn end(&self, reason: StoreError) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Ended(_)) {
            state.phase = Phase::Ended(reason);
        }
    }

    /// Waits until what was accepted is reported.
    pub(super) async fn settle(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if !self.lock().driven {
                return;
            }
            settled.await;
        }
    }

    /// What is to be done next. If that is nothing, the driver must end.
    pub(super) fn next_work(&self) -> Option<Work> {
        let mut state = self.lock();
        let work = state.next_work(self.engine.message_limit());
        if work.is_none() {
            state.driven = false;
            drop(state);
            self.settled.notify_waiters();
        }
        work
    }
}

impl State {
    fn new(known: Known) -> Self {
        Self {
            phase: Phase::Open,
            tail: known.head.tail.seq_num,
            known,
            waiting: VecDeque::new(),
            refreshing: Vec::new(),
            delivered: VecDeque::new(),
            delivered_bytes: 0,
            delivered_more: false,
            driven: false,
        }
    }

    /// Keeps a message until it is looked at. What there is no room for is read again.
    pub(super) fn keep(&mut self, message: Message) {
        let len = message.payload.len();
        if self.delivered_bytes + len <= MOST_DELIVERED || self.delivered.is_empty() {
            self.delivered_bytes += len;
            self.delivered.push_back(message);
        } else {
            self.delivered_more = true;
        }
    }

    /// Whether there was no driver. From now on there is one.
    pub(super) fn begin_driving(&mut self) -> bool {
        !std::mem::replace(&mut self.driven, true)
    }

    fn next_work(&mut self, message_limit: usize) -> Option<Work> {
        if !self.delivered.is_empty() {
            self.delivered_bytes = 0;
            return Some(Work::Look(std::mem::take(&mut self.delivered)));
        }
        if std::mem::take(&mut self.delivered_more) {
            return Some(Work::CatchUp);
        }
        let refreshing = std::mem::take(&mut self.refreshing);
        if !self.waiting.is_empty() {
            return Some(Work::Commit(self.take_for_one_message(message_limit), refreshing));
        }
        (!refreshing.is_empty()).then_some(Work::Refresh(refreshing))
    }

    /// As many of those that wait as go into one message; at least one.
    fn take_for_one_message(&mut self, limit: usize) -> Vec<Committed> {
        let mut len = FRONT_BOUND;
        let fits = |(batch, _): &&Committed| {
            len += envelope::len_bound(batch);
            len <= limit
        };
        let count = self.waiting.iter().take_while(fits).count().max(1);
        self.waiting.drain(..count).collect()
    }

    /// What is durable goes as far as `known`; what was let go of stays so.
    pub(super) fn learn(&mut self, known: Known) {
        self.known = known.with_released_of(&self.known);
    }

    /// These still wait.
    pub(super) fn put_back(&mut self, refreshing: Vec<Refresh>) {
        self.refreshing.extend(refreshing);
    }

    /// Nothing of what waits will be done.
    pub(super) fn forget_all(&mut self, reason: &StoreError) {
        self.waiting.clear();
        self.delivered.clear();
        self.delivered_bytes = 0;
        self.delivered_more = false;
        for refresh in self.refreshing.drain(..) {
            let _ = refresh.send(Err(reason.clone()));
        }
    }

    /// The sink is about to hear of a commit that left `head`. `false` if something was accepted here, so that it is to
    /// hear that it was overtaken instead.
    pub(super) fn begin_arrival(&mut self, head: Head) -> bool {
        match self.phase {
            Phase::Open if self.waiting.is_empty() => {
                self.phase = Phase::Moving { resumes: Some(head.tail.seq_num) };
                self.tail = head.tail.seq_num;
                true
            }
            Phase::Ended(_) if self.waiting.is_empty() => true,
            _ => false,
        }
    }

    /// The sink has heard of it. One that accepted something meanwhile has said where it goes on.
    pub(super) fn finish_arrival(&mut self) {
        if let Phase::Moving { resumes: Some(_) } = self.phase {
            self.phase = Phase::Open;
        }
    }

    /// The sink is about to hear that another process was first.
    pub(super) fn begin_overtaken(&mut self) {
        self.waiting.clear();
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Moving { resumes: None };
        }
    }

    /// Accepts a batch, or forgets it.
    pub(super) fn accept(&mut self, batch: Batch, head: Head) -> Result<(), StoreError> {
        match &mut self.phase {
            Phase::Ended(reason) => return Err(reason.clone()),
            Phase::Open => check_position(&batch, self.tail)?,
            Phase::Moving { resumes } if *resumes == Some(batch.first_seq_num()) => self.phase = Phase::Open,
            Phase::Moving { resumes } => {
                *resumes = None;
                return Ok(());
            }
        }
        self.tail = batch.end().seq_num;
        self.waiting.push_back((batch, head));
        Ok(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for refresh in self.refreshing.drain(..) {
            let _ = refresh.send(Err(StoreError::Closed("the log was closed".into())));
        }
    }
}

fn check_position(batch: &Batch, tail: SeqNum) -> Result<(), StoreError> {
    match batch.first_seq_num() == tail {
        true => Ok(()),
        false => {
            Err(StoreError::NotDone(format!("a batch at {} does not fit at {tail}", batch.first_seq_num()).into()))
        }
    }
}

/// The open logs, so that of one stream there is one.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<StreamId, Weak<Log>>>);

impl Registry {
    /// The log of `stream`, if anyone still has it.
    pub(super) fn find(&self, stream: StreamId) -> Option<Arc<Log>> {
        locked(&self.0).get(&stream).and_then(Weak::upgrade)
    }

    /// All logs that anyone still has.
    pub(super) fn all(&self) -> Vec<Arc<Log>> {
        locked(&self.0).values().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn insert(&self, log: &Arc<Log>) {
        let mut logs = locked(&self.0);
        // Those that were let go of are swept away when they are as many as the others may be.
        if logs.len() == logs.capacity() {
            logs.retain(|_, log| log.strong_count() > 0);
        }
        logs.insert(log.stream, Arc::downgrade(log));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_consumer_brought_too_fast_is_read_again_though_nothing_comes_after_it() {
        const LEN: usize = 4 * 1024 * 1024;
        let mut state = State::new(Known::default());
        let payload = bytes::Bytes::from(vec![0; LEN]);
        (1..=12).for_each(|sequence| state.keep(Message { sequence, payload: payload.clone() }));
        let Some(Work::Look(kept)) = state.next_work(LEN) else { panic!() };
        assert_eq!(kept.len(), MOST_DELIVERED / LEN);
        assert!(matches!(state.next_work(LEN), Some(Work::CatchUp)));
        assert!(state.next_work(LEN).is_none());
    }
}
