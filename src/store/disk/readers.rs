//! Threads that read, so that no async thread waits for the disk. Needs no runtime.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use super::locked;
use crate::store::{StoreError, StoreFuture};

type Job = Box<dyn FnOnce() + Send>;

/// The threads, and what waits for them.
pub(super) struct Readers {
    jobs: Arc<Jobs>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Jobs {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    ended: bool,
}

impl Readers {
    /// Starts `count` threads.
    pub(super) fn start(count: usize) -> std::io::Result<Self> {
        let mut readers = Self { jobs: Arc::default(), threads: Vec::new() };
        for _ in 0..count {
            let jobs = readers.jobs.clone();
            let thread = thread::Builder::new().name("log-reader".into()).spawn(move || jobs.run())?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// What `look` returns, on one of the threads.
    pub(super) fn run<'a, T: Send + 'static>(
        &self,
        look: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'a, T> {
        let (done, found) = oneshot::channel();
        self.jobs.add(Box::new(move || {
            // Nobody waits any more: the reader went away.
            if !done.is_closed() {
                let _ = done.send(look());
            }
        }));
        Box::pin(async move {
            // The sender is gone if looking panicked, which the engine does on some kinds of damage.
            found.await.unwrap_or_else(|_| Err(StoreError::Damaged("reading it failed, see the log".into())))
        })
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        locked(&self.jobs.waiting).ended = true;
        self.jobs.came.notify_all();
        for thread in self.threads.drain(..) {
            // A job that panicked was caught.
            let _ = thread.join();
        }
    }
}

impl Jobs {
    fn add(&self, job: Job) {
        locked(&self.waiting).jobs.push_back(job);
        self.came.notify_one();
    }

    fn run(&self) {
        while let Some(job) = self.take() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a read from the disk panicked");
            }
        }
    }

    fn take(&self) -> Option<Job> {
        let mut waiting = locked(&self.waiting);
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            if waiting.ended {
                return None;
            }
            waiting = self.came.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_panic_ends_one_read_and_no_thread() {
        let readers = Readers::start(1).unwrap();
        let failed = block_on(readers.run::<()>(|| panic!("a table with a wrong length")));
        assert!(matches!(failed, Err(StoreError::Damaged(_))), "{failed:?}");
        assert_eq!(block_on(readers.run(|| Ok(7))), Ok(7));
    }

    #[test]
    fn what_waits_is_read_before_the_end() {
        let readers = Readers::start(2).unwrap();
        let reads: Vec<_> = (0..100).map(|i| readers.run(move || Ok(i))).collect();
        drop(readers);
        assert!(reads.into_iter().enumerate().all(|(i, read)| block_on(read) == Ok(i)));
    }
}
