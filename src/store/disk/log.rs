//! What is known of the log of one stream: what was accepted, what is durable, and who is told. Knows neither how it is
//! written nor how it is read.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use super::{
    format::{LogNumber, StoredHead},
    locked,
};
use crate::{
    store::{CommitSink, StoreError},
    types::{Head, SeqNum, StreamId},
};

/// What the writer and the readers know of an open log.
pub(super) struct Log {
    stream: StreamId,
    number: LogNumber,
    sink: Arc<dyn CommitSink>,
    /// Whether the sink was told that the log failed: then it is told nothing more.
    has_failed: AtomicBool,
    registry: Arc<Registry>,
    accepted: Mutex<Accepted>,
    /// What is written; none if that is nothing, or nothing any more.
    durable: Mutex<Option<StoredHead>>,
}

/// What the accepted appends leave behind.
pub(super) enum Accepted {
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

    /// To be held while something goes into the queue, which keeps the appends in order and them out of a log that ended.
    pub(super) fn accepted(&self) -> MutexGuard<'_, Accepted> {
        locked(&self.accepted)
    }

    /// Where the appends accepted so far end.
    pub(super) fn accepted_end(&self) -> SeqNum {
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
