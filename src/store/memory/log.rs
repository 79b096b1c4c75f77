//! One stream in memory: its batches in order, and its head.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    locked, ready,
    space::{Purpose, Space},
};
use crate::{
    memory::pages::Pages,
    store::{Commit, StoreError, StoreFuture, StreamLog},
    types::{Batch, Head, Position, SeqNum, Timestamp},
};

pub(super) struct MemoryLog {
    space: Arc<Space>,
    state: Mutex<State>,
    /// Metered bytes of the batches in `state`, changed while that is locked.
    stored: AtomicU64,
}

enum State {
    Kept(Kept),
    /// The stream is gone; whoever still has the log writes nothing and finds nothing.
    Deleted,
}

/// The batches follow one another without a gap, and the last one ends at the tail of the head.
#[derive(Default)]
struct Kept {
    batches: VecDeque<Batch>,
    head: Head,
}

impl MemoryLog {
    pub(super) fn new(space: Arc<Space>) -> Self {
        Self { space, state: Mutex::new(State::Kept(Kept::default())), stored: AtomicU64::new(0) }
    }

    pub(super) fn head(&self) -> Head {
        match &*locked(&self.state) {
            State::Kept(kept) => kept.head,
            State::Deleted => Head::default(),
        }
    }

    pub(super) fn delete(&self) {
        let before = {
            let mut state = locked(&self.state);
            self.stored.store(0, Relaxed);
            mem::replace(&mut *state, State::Deleted)
        };
        if let State::Kept(kept) = before {
            self.space.give_back(kept.batches.iter().map(Batch::memory).sum());
        }
    }

    fn look<T: Default>(&self, look: impl FnOnce(&Kept) -> T) -> T {
        match &*locked(&self.state) {
            State::Kept(kept) => look(kept),
            State::Deleted => T::default(),
        }
    }
}

impl StreamLog for MemoryLog {
    fn append(&self, batch: Batch, head: Head) -> Result<Commit, StoreError> {
        match &mut *locked(&self.state) {
            State::Kept(kept) => {
                let metered = batch.metered() as u64;
                let commit = kept.append(batch, head, &self.space)?;
                self.stored.fetch_add(metered, Relaxed);
                Ok(commit)
            }
            State::Deleted => Err(StoreError::NotDone("the stream was deleted".into())),
        }
    }

    /// A store that takes more than ever needs pages that it never had; one that was trimmed left some with the allocator.
    fn lend(&self, len: usize) -> Option<Pages> {
        self.space.grows_with(len).then(|| Pages::take(len)).flatten()
    }

    fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'_, Vec<Batch>> {
        ready(Ok(self.look(|kept| kept.read(from, budget))))
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> StoreFuture<'_, Option<Position>> {
        ready(Ok(self.look(|kept| kept.seek(from, timestamp))))
    }

    fn trim(&self, to: SeqNum) -> StoreFuture<'_, ()> {
        let released = match &mut *locked(&self.state) {
            State::Kept(kept) => {
                let released = kept.release_before(to);
                self.stored.fetch_sub(metered(&released), Relaxed);
                released
            }
            State::Deleted => Vec::new(),
        };
        self.space.give_back(released.iter().map(Batch::memory).sum());
        // Dropped here, not under the lock: letting go of a long log takes a while.
        drop(released);
        ready(Ok(()))
    }

    fn stored(&self) -> u64 {
        self.stored.load(Relaxed)
    }
}

fn metered(batches: &[Batch]) -> u64 {
    batches.iter().map(|batch| batch.metered() as u64).sum()
}

impl Kept {
    fn append(&mut self, batch: Batch, head: Head, space: &Space) -> Result<Commit, StoreError> {
        space.check_open()?;
        let (first, tail) = (batch.first_seq_num(), self.head.tail.seq_num);
        if first != tail {
            return Err(StoreError::NotDone(format!("a batch at {first} does not follow the tail {tail}").into()));
        }
        let purpose = match head.trim_point > self.head.trim_point {
            true => Purpose::Free,
            false => Purpose::Keep,
        };
        space.take(batch.memory(), purpose)?;
        // The frames that followers add to theirs would count against no limit here.
        self.batches.push_back(batch.without_frames());
        self.head = head;
        Ok(Commit::Durable)
    }

    /// The place of the batch that holds `from`, or of the first one after it.
    fn place_of(&self, from: SeqNum) -> usize {
        self.batches.partition_point(|batch| batch.end().seq_num <= from)
    }

    fn read(&self, from: SeqNum, budget: usize) -> Vec<Batch> {
        let (mut batches, mut metered) = (Vec::new(), 0);
        for batch in self.batches.range(self.place_of(from)..) {
            batches.push(batch.clone());
            metered += batch.metered();
            if metered >= budget {
                break;
            }
        }
        batches
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> Option<Position> {
        let place = self.batches.partition_point(|batch| batch.end().timestamp < timestamp).max(self.place_of(from));
        let batch = self.batches.get(place)?;
        let found = batch.seek(timestamp)?;
        match found.seq_num < from {
            true => position_of(batch, from),
            false => Some(found),
        }
    }

    fn release_before(&mut self, to: SeqNum) -> Vec<Batch> {
        let released = self.batches.drain(..self.place_of(to)).collect();
        // What a long log's queue grew to is memory that no limit counts.
        if self.batches.capacity() > 4 * self.batches.len() {
            self.batches.shrink_to(2 * self.batches.len());
        }
        released
    }
}

fn position_of(batch: &Batch, seq_num: SeqNum) -> Option<Position> {
    let slice = batch.starting_at(seq_num)?;
    let record = slice.records().next()?;
    Some(Position { seq_num: record.seq_num, timestamp: record.timestamp })
}
