//! The log of one stream as those who use the store see it: the way to the writer and to the readers.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    Shared,
    engine::{EngineError, Look},
    format::{self, BatchKey, Pieces, Place, Released, StoredHead},
    log::{Accepted, Log},
    queue::{Append, Moves, Request, Value},
    reading::{self, Reading},
    space::Purpose,
};
use crate::{
    store::{Commit, StoreError, StoreFuture, StreamLog},
    types::{Batch, Head, Position, SeqNum, Timestamp},
};

/// How often batches that were moved while they were read are looked for again. A read goes on where it was, and moving a
/// batch takes many times as long as reading it.
const MOST_LOOKS: usize = 100;

/// The log as those who use the store see it.
pub(super) struct DiskLog {
    shared: Arc<Shared>,
    log: Arc<Log>,
}

impl DiskLog {
    pub(super) fn new(shared: Arc<Shared>, log: Arc<Log>) -> Self {
        Self { shared, log }
    }

    /// What `look` finds in the log as it is durable now, on a thread for reading; `T::default()` if that is nothing.
    ///
    /// ```text
    /// durable now ──► what is looked at ──► let go of by then
    /// ```
    ///
    /// In this order: what was durable before is in it, and what is missing from it was let go of before it is asked. One
    /// head for both would miss batches that a trim removed while the look waited for its thread.
    fn look<T: Default + Send + 'static>(
        &self,
        mut look: impl FnMut(&Look<'_>, &StoredHead) -> Result<T, EngineError> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let Some(head) = self.log.durable() else { return Box::pin(std::future::ready(Ok(T::default()))) };
        let (engine, log) = (self.shared.engine.clone(), self.log.clone());
        self.shared.readers.run(move || {
            let mut looks = 0;
            let found = loop {
                let seen = engine.look();
                let Some(StoredHead { released, .. }) = log.durable() else { return Ok(T::default()) };
                looks += 1;
                match look(&seen, &StoredHead { released, ..head }) {
                    Err(EngineError::Moved) if looks < MOST_LOOKS => {}
                    found => break found,
                }
            };
            found.map_err(|error| error.of_read(format_args!("stream {:?}", log.stream())))
        })
    }

    fn place_of(&self, batch: &Batch) -> Place {
        match batch.records_bytes().len() < self.shared.engine.segments().sizes().least_batch {
            true => Place::Database,
            false => Place::Segment,
        }
    }

    /// Asks the writer to let go of the beginning; of a log that has ended there is none to let go of.
    ///
    /// Under the lock that ends it: what is asked here is written before another log of the stream is opened, or not at
    /// all. This log's head would otherwise take the place of the other's.
    fn push_trim(&self, released: Released) -> Result<Option<oneshot::Receiver<Result<(), StoreError>>>, StoreError> {
        let accepted = self.log.accepted();
        if let Accepted::Ended(_) = &*accepted {
            return Ok(None);
        }
        let (done, answer) = oneshot::channel();
        self.shared.queue.push(Request::Trim { log: self.log.clone(), released, done })?;
        Ok(Some(answer))
    }
}

impl StreamLog for DiskLog {
    fn append(&self, batch: Batch, head: Head) -> Result<Commit, StoreError> {
        let mut accepted = self.log.accepted();
        let before = match &mut *accepted {
            Accepted::Open(before) => before,
            Accepted::Ended(reason) => return Err(StoreError::NotDone((*reason).into())),
        };
        check_position(&batch, before.head.tail.seq_num)?;
        check_tail(&batch, &head)?;
        let purpose = match head.trim_point > before.head.trim_point {
            true => Purpose::Free,
            false => Purpose::Keep,
        };
        self.shared.space.take(batch.memory() as u64, purpose)?;
        let key = BatchKey::of(self.log.number(), &batch, before.appended, self.place_of(&batch));
        let value = match key.place {
            Place::Database => Value::Database(format::encode_batch(&key, &batch)),
            Place::Segment => Value::Segment(Pieces::of(&key, &batch)),
        };
        let after = StoredHead { head, appended: before.appended + batch.metered() as u64, ..*before };
        let moves = if after == before.after(&key) { Moves::Tail } else { Moves::More };
        self.shared.queue.push(Request::Append(Append { log: self.log.clone(), key, value, head: after, moves }))?;
        *before = after;
        Ok(Commit::Pending)
    }

    fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'_, Vec<Batch>> {
        let mut reading = Reading::new(from, budget);
        self.look(move |look, head| reading.go_on(look, head))
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> StoreFuture<'_, Option<Position>> {
        self.look(move |look, head| reading::seek(look, head, from, timestamp))
    }

    fn trim(&self, to: SeqNum) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let durable = self.log.durable().map_or(SeqNum::FIRST, |head| head.head.tail.seq_num);
            if to > durable && self.log.accepted_end() > durable {
                self.shared.settle().await?;
            }
            let Some(released) = self.look(move |look, head| reading::released_by(look, head, to)).await? else {
                return Ok(());
            };
            self.shared.space.take(0, Purpose::Remove)?;
            match self.push_trim(released)? {
                Some(answer) => super::answered(answer).await,
                None => Ok(()),
            }
        })
    }

    fn stored(&self) -> u64 {
        self.log.durable().map_or(0, |head| head.stored())
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

fn check_tail(batch: &Batch, head: &Head) -> Result<(), StoreError> {
    match batch.end() == head.tail {
        true => Ok(()),
        false => Err(StoreError::NotDone(
            format!("a batch to {} does not leave a tail at {}", batch.end(), head.tail).into(),
        )),
    }
}
