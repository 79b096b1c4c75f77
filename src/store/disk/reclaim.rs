//! Removes what was let go of, a few batches at a time, and gives the space back: work that appends should not feel, and
//! that goes on where a crash ended it. Knows which batches, and not why.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    compaction::{Compaction, Left},
    deletions::Deletions,
    engine::{Engine, EngineError, Merged},
    format::{BatchKey, LogNumber, Place, Pointer},
    locked,
    queue::{Progress, Queue, Removal, Request},
    space::{Purpose, Space},
};
use crate::{clock, store::StoreError, types::SeqNum};

/// Batches that are removed in one write.
const SLICE: usize = 512;
/// After a slice, this many times as long as it took is left to others.
const REST: u32 = 3;
const LONGEST_REST: Duration = Duration::from_millis(100);
/// Metered bytes that must have been removed before files are merged to give them back.
const WORTH_MERGING: u64 = 64 * 1024 * 1024;

/// What is to be removed.
#[derive(Default)]
pub(super) struct Reclaim {
    tasks: Mutex<Tasks>,
    came: Condvar,
}

#[derive(Default)]
struct Tasks {
    /// Of each log, the batches that begin before.
    to_remove: BTreeMap<LogNumber, SeqNum>,
    ended: bool,
}

enum Next {
    /// The batches of a log that begin before.
    Remove(LogNumber, SeqNum),
    Compact,
    End,
}

impl Reclaim {
    /// Batches that are no longer part of their logs.
    pub(super) fn add(&self, released: Vec<(LogNumber, SeqNum)>) {
        if released.is_empty() {
            return;
        }
        let mut tasks = self.lock();
        for (log, to) in released {
            let before = tasks.to_remove.entry(log).or_insert(to);
            *before = to.max(*before);
        }
        drop(tasks);
        self.came.notify_one();
    }

    /// Tells the thread to leave the rest for the next start.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.came.notify_one();
    }

    /// Removes what there is to remove, until the end.
    pub(super) fn run(&self, engine: &Engine, queue: &Queue, space: &Space, deletions: &Deletions) {
        let mut remover = Remover { reclaim: self, engine, queue, space, deletions, removed: 0, lacked_room: false };
        let mut compaction = Compaction::new(engine, queue, space, deletions);
        loop {
            let began = clock::instant();
            let left = compaction.step();
            match self.next(left) {
                Next::Remove(log, to) => {
                    if let Err(error) = remover.remove(log, to) {
                        // It is still noted in the database, and done after the next start.
                        tracing::warn!(%error, "removing what was trimmed or deleted failed");
                    }
                    remover.give_back_if_worth_it();
                }
                Next::Compact => rest(began),
                Next::End => return,
            }
        }
    }

    /// Takes the next task; waits for it, if there is nothing left to compact.
    fn next(&self, left: Left) -> Next {
        let mut tasks = self.lock();
        loop {
            if tasks.ended {
                return Next::End;
            }
            if let Some((log, to)) = tasks.to_remove.pop_first() {
                return Next::Remove(log, to);
            }
            if left == Left::More {
                return Next::Compact;
            }
            tasks = self.came.wait(tasks).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }

    fn is_empty(&self) -> bool {
        self.lock().to_remove.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        locked(&self.tasks)
    }
}

struct Remover<'a> {
    reclaim: &'a Reclaim,
    engine: &'a Engine,
    queue: &'a Queue,
    space: &'a Space,
    deletions: &'a Deletions,
    /// Metered bytes removed from the database since its files were last merged.
    removed: u64,
    /// Whether there was no room for that when it was last tried.
    lacked_room: bool,
}

impl Remover<'_> {
    /// Removes the batches of `log` that begin before `to`.
    fn remove(&mut self, log: LogNumber, to: SeqNum) -> Result<(), StoreError> {
        let mut from = SeqNum::FIRST;
        while !self.reclaim.has_ended() {
            if self.space.take(0, Purpose::Remove).is_err() {
                thread::sleep(LONGEST_REST);
                continue;
            }
            let began = clock::instant();
            let slice = self.slice(log, from, to).map_err(|error| error.of_read("what is to be removed"))?;
            let progress = if slice.len() < SLICE { Progress::Finished } else { Progress::More };
            let last = slice.last().map(|(last, _)| last.first);
            let metered = metered_in_database(&slice);
            match self.remove_slice(log, to, slice, progress) {
                // Too much waits to be written: the same again, later.
                Err(StoreError::Full(_)) => {
                    thread::sleep(LONGEST_REST);
                    continue;
                }
                written => written?,
            }
            self.removed += metered;
            from = last.map_or(from, |last| last.saturating_add(1));
            if progress == Progress::Finished {
                break;
            }
            rest(began);
        }
        Ok(())
    }

    fn remove_slice(
        &self,
        log: LogNumber,
        to: SeqNum,
        batches: Vec<(BatchKey, Option<Pointer>)>,
        progress: Progress,
    ) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.queue.push(Request::Remove(Removal { log, batches, to, progress, done }))?;
        answer.blocking_recv().unwrap_or_else(|_| Err(StoreError::Closed("the writer ended".into())))
    }

    fn slice(&self, log: LogNumber, from: SeqNum, to: SeqNum) -> Result<Vec<(BatchKey, Option<Pointer>)>, EngineError> {
        self.engine.look().stored_batches(log, from, to).take(SLICE).collect()
    }

    /// Merges files once enough was removed and nothing else is to be.
    fn give_back_if_worth_it(&mut self) {
        if self.removed < WORTH_MERGING || !self.reclaim.is_empty() {
            return;
        }
        let give_back = || self.engine.give_back(|| self.reclaim.has_ended(), |bytes| self.space.may_merge(bytes));
        match self.deletions.during(give_back) {
            Ok(Merged::Done) => (self.removed, self.lacked_room) = (0, false),
            // Tried again whenever more was removed.
            Ok(Merged::NoRoom) if self.lacked_room => {}
            Ok(Merged::NoRoom) => {
                self.lacked_room = true;
                tracing::warn!("files cannot be merged to give back what was removed: there is no room for the copies");
            }
            Err(error) => {
                self.removed = 0;
                tracing::warn!(%error, "giving back the space of what was removed failed");
            }
        }
    }
}

/// Of those that merging files gives back.
fn metered_in_database(batches: &[(BatchKey, Option<Pointer>)]) -> u64 {
    let in_database = batches.iter().filter(|(key, _)| key.place == Place::Database);
    in_database.map(|(key, _)| u64::from(key.metered)).sum()
}

fn rest(began: Instant) {
    let took = clock::instant().saturating_duration_since(began);
    thread::sleep((took * REST).min(LONGEST_REST));
}

/// Starts the thread, with what an earlier run of the store left to do.
pub(super) fn start(
    reclaim: Arc<Reclaim>,
    engine: Arc<Engine>,
    queue: Arc<Queue>,
    space: Arc<Space>,
    deletions: Arc<Deletions>,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("log-reclaim".into()).spawn(move || {
        match engine.look().reclaims() {
            Ok(left) => reclaim.add(left),
            Err(error) => tracing::warn!(%error, "what was left to be removed cannot be read"),
        }
        reclaim.run(&engine, &queue, &space, &deletions);
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::{
        store::disk::{queue::Next, space::Free},
        types::MemoryShares,
    };

    /// Takes what waits, and answers what removes.
    fn write_once(queue: &Queue) -> usize {
        let Next::Write(requests) = queue.next() else { panic!("it is written") };
        let answered = requests.into_iter().filter_map(|request| match request {
            Request::Remove(removal) => removal.done.send(Ok(())).ok(),
            _ => None,
        });
        answered.count()
    }

    #[test]
    fn a_full_queue_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path(), MemoryShares::of(8 << 20), Default::default()).unwrap();
        let (reclaim, queue) = (Reclaim::default(), Arc::new(Queue::default()));
        while queue.push(Request::Barrier(oneshot::channel().0)).is_ok() {}
        // It asks for room each time it tries: now, at first, and when it tries again.
        let (asked, writer) = (AtomicUsize::new(0), queue.clone());
        let probe = move || {
            if asked.fetch_add(1, Relaxed) == 2 {
                let writer = writer.clone();
                thread::spawn(move || while write_once(&writer) == 0 {});
            }
            Ok(Free { free: 1 << 40, total: 1 << 40 })
        };
        let space = Space::new(Box::new(probe)).unwrap();
        space.take(1 << 30, Purpose::Keep).unwrap();
        let deletions = Deletions::of(directory.path());
        let mut remover = Remover {
            reclaim: &reclaim,
            engine: &engine,
            queue: &queue,
            space: &space,
            deletions: &deletions,
            removed: 0,
            lacked_room: false,
        };
        assert_eq!(remover.remove(LogNumber(1), SeqNum::MAX), Ok(()));
    }
}
