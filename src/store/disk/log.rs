//! The log of one stream: what was accepted, what is durable, and the way to the writer and the readers.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::sync::oneshot;

use super::{
    Shared,
    engine::EngineError,
    format::{self, BatchKey, LogNumber, Pieces, Place, Released, StoredHead},
    locked,
    queue::{Append, Moves, Request, Value},
    reading,
    space::Purpose,
};
use crate::{
    store::{Commit, CommitSink, StoreError, StoreFuture, StreamLog},
    types::{Batch, Head, Position, SeqNum, StreamId, Timestamp},
};

/// How often batches that were moved while they were read are looked for again. Moving one takes many times as long as
/// reading it.
const MOST_LOOKS: usize = 10;

/// What the writer and the readers know of an open log.
pub(super) struct Log {
    stream: StreamId,
    number: LogNumber,
    sink: Arc<dyn CommitSink>,
    /// Whether the sink was told that the log failed: then it is told nothing more.
    has_failed: AtomicBool,
    registry: Arc<Registry>,
    /// What the accepted appends leave behind. Locked while an append goes into the queue, which keeps them in order.
    accepted: Mutex<Accepted>,
    /// What is written; none if that is nothing, or nothing any more.
    durable: Mutex<Option<StoredHead>>,
}

enum Accepted {
    /// Without what is known of the released beginning.
    Open(StoredHead),
    /// No more appends, for this reason.
    Ended(&'static str),
}

/// The open logs, so that of one stream there is one.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<StreamId, Weak<Log>>>);

impl Registry {
    /// The log of `stream`, if anyone still has it.
    pub(super) fn find(&self, stream: StreamId) -> Option<Arc<Log>> {
        locked(&self.0).get(&stream).and_then(Weak::upgrade)
    }

    fn insert(&self, log: &Arc<Log>) {
        locked(&self.0).insert(log.stream, Arc::downgrade(log));
    }

    fn forget(&self, stream: StreamId) {
        let mut logs = locked(&self.0);
        // Another one may have been opened in the meantime.
        if logs.get(&stream).is_some_and(|log| log.strong_count() == 0) {
            logs.remove(&stream);
        }
    }
}

impl Log {
    /// The log of `stream` as it was found, or a new one with this number.
    pub(super) fn open(
        registry: &Arc<Registry>,
        stream: StreamId,
        found: Option<StoredHead>,
        number: impl FnOnce() -> LogNumber,
        sink: Arc<dyn CommitSink>,
    ) -> Arc<Self> {
        let number = found.map_or_else(number, |head| head.log);
        let accepted = found.unwrap_or(StoredHead {
            log: number,
            head: Head::default(),
            appended: 0,
            released: Default::default(),
        });
        let log = Arc::new(Self {
            stream,
            number,
            sink,
            has_failed: AtomicBool::new(false),
            registry: registry.clone(),
            accepted: Mutex::new(Accepted::Open(accepted)),
            durable: Mutex::new(found),
        });
        registry.insert(&log);
        log
    }

    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn number(&self) -> LogNumber {
        self.number
    }

    /// Tells the sink that everything before `end` is durable. One that panics is told that the log failed.
    pub(super) fn tell_durable(&self, end: SeqNum) {
        if self.has_failed.load(Relaxed) {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.sink.durable(end))) {
            self.tell_failed(StoreError::Unknown("telling of what was written panicked".into()));
            resume_unwind(panic);
        }
    }

    /// Tells the sink that the log failed, once.
    pub(super) fn tell_failed(&self, error: StoreError) {
        if !self.has_failed.swap(true, Relaxed) {
            self.sink.failed(error);
        }
    }

    pub(super) fn durable(&self) -> Option<StoredHead> {
        *locked(&self.durable)
    }

    pub(super) fn set_durable(&self, head: Option<StoredHead>) {
        *locked(&self.durable) = head;
    }

    /// Takes no more appends.
    pub(super) fn end(&self, reason: &'static str) {
        *locked(&self.accepted) = Accepted::Ended(reason);
    }

    /// Where the appends accepted so far end.
    fn accepted_end(&self) -> SeqNum {
        match &*locked(&self.accepted) {
            Accepted::Open(head) => head.head.tail.seq_num,
            Accepted::Ended(_) => SeqNum::FIRST,
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.registry.forget(self.stream);
    }
}

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
        look: impl Fn(&super::engine::Look<'_>, &StoredHead) -> Result<T, EngineError> + Send + 'static,
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
            found.map_err(|error| error.of_read(format_args!("stream {:?}", log.stream)))
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
        let accepted = locked(&self.log.accepted);
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
        let mut accepted = locked(&self.log.accepted);
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
        let key = BatchKey::of(self.log.number, &batch, before.appended, self.place_of(&batch));
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
        self.look(move |look, head| reading::read(look, head, from, budget))
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
