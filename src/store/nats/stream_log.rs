//! The log of one stream as those who use the store see it: accepts batches, and passes on what else is asked to `driver`,
//! `reading` and `following`.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    driver,
    envelope::{self, FRONT_BOUND},
    following::Following,
    log::{Log, Phase},
    reading,
};
use crate::{
    store::{Commit, Listening, StoreError, StoreFuture, StreamLog},
    types::{Batch, Head, Position, SeqNum, Timestamp},
};

/// The log as those who use the store see it.
pub(super) struct NatsLog {
    log: Arc<Log>,
    following: Following,
    /// When it was opened.
    was_deleted: bool,
}

impl NatsLog {
    pub(super) fn new(log: Arc<Log>, was_deleted: bool) -> Self {
        Self { following: Following::of(&log), log, was_deleted }
    }
}

impl StreamLog for NatsLog {
    fn append(&self, batch: Batch, head: Head) -> Result<Commit, StoreError> {
        self.log.engine.check_open()?;
        if FRONT_BOUND + envelope::len_bound(&batch) > self.log.engine.message_limit() {
            return Err(StoreError::NotDone("the batch does not fit into one message of NATS".into()));
        }
        let mut state = self.log.lock();
        state.accept(batch, head)?;
        if !state.waiting.is_empty() {
            driver::see_to(&self.log, state);
        }
        Ok(Commit::Pending)
    }

    fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'_, Vec<Batch>> {
        let log = self.log.clone();
        Box::pin(self.log.engine.run(async move { reading::read(&log, from, budget).await }))
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> StoreFuture<'_, Option<Position>> {
        let log = self.log.clone();
        Box::pin(self.log.engine.run(async move { reading::seek(&log, from, timestamp).await }))
    }

    fn trim(&self, to: SeqNum) -> StoreFuture<'_, ()> {
        let log = self.log.clone();
        Box::pin(self.log.engine.run(async move { reading::trim(&log, to).await }))
    }

    fn refresh(&self) -> StoreFuture<'_, Head> {
        let (done, answer) = oneshot::channel();
        let mut state = self.log.lock();
        if let Phase::Ended(reason) = &state.phase {
            let _ = done.send(Err(reason.clone()));
        } else {
            state.refreshing.push(done);
            driver::see_to(&self.log, state);
        }
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the log was closed meanwhile".into())))
        })
    }

    fn listen(&self, listening: Listening) {
        match listening {
            Listening::Following => self.following.begin(),
            Listening::Idle => self.following.end(),
        }
    }

    fn resume_at(&self, tail: SeqNum) {
        let mut state = self.log.lock();
        if matches!(state.phase, Phase::Ended(_)) {
            return;
        }
        state.phase = Phase::Open;
        state.tail = tail;
        state.waiting.clear();
    }

    fn was_deleted(&self) -> bool {
        self.was_deleted
    }

    fn stored(&self) -> u64 {
        self.log.known().stored()
    }
}
