//! What happens after the answer: trimmed records let go of, deleted streams and basins removed, old records and empty
//! streams found.
//!
//! A few tasks do it all; nothing runs per stream.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::mpsc};

use super::{HeldName, Stream, Streams, waiters::Wakers};
use crate::{
    to_the_end::to_the_end,
    types::{BasinName, StreamId, StreamName},
};

/// Something left to be done.
#[derive(Debug)]
pub(super) enum Job {
    /// Let go of what lies before the stream's trim point.
    Trim(Weak<Stream>),
    /// Remove a stream that was marked as deleted, and then its entry.
    RemoveStream(BasinName, StreamName, StreamId),
    /// Delete all streams of a basin that was marked as deleted, and then its entry.
    RemoveBasin(BasinName),
}

/// Where jobs are left.
#[derive(Clone, Debug)]
pub(super) struct Background {
    jobs: mpsc::UnboundedSender<Job>,
    runtime: Handle,
}

impl Background {
    /// Needs a running tokio runtime.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Job>) {
        let (sender, jobs) = mpsc::unbounded_channel();
        (Self { jobs: sender, runtime: Handle::current() }, jobs)
    }

    /// Wakes everyone, from any thread; many of them together, by a worker of the runtime.
    pub(super) fn wake(&self, wakers: Wakers) {
        match (wakers.are_many(), Handle::try_current()) {
            (false, _) => wakers.wake(),
            (true, Ok(_inside)) => wakers.wake_together(),
            (true, Err(_outside)) => drop(self.runtime.spawn(async { wakers.wake_together() })),
        }
    }

    /// Runs `task`, from any thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    pub(super) fn trim(&self, stream: Weak<Stream>) {
        self.leave(Job::Trim(stream));
    }

    /// A job that finds nobody is lost with the process, and found again by the next: the catalogue remembers it.
    pub(super) fn leave(&self, job: Job) {
        let _ = self.jobs.send(job);
    }
}

/// Does `work` on a name to its end, although a client may hang up meanwhile; the name is held as long.
pub(super) async fn holding<T: Send + 'static>(name: HeldName, work: impl Future<Output = T> + Send + 'static) -> T {
    to_the_end(async move {
        let _name = name;
        work.await
    })
    .await
}

/// Does the jobs of `streams` until that is gone.
pub(super) async fn run(streams: Weak<Streams>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    while let Some(job) = jobs.recv().await {
        let Some(streams) = streams.upgrade() else { return };
        match job {
            // These wait until the other gateways have noticed, and nobody else waits with them.
            Job::RemoveStream(..) | Job::RemoveBasin(_) if streams.is_shared() => {
                tokio::spawn(async move { perform_or_warn(&streams, &job).await });
            }
            job => perform_or_warn(&streams, &job).await,
        }
    }
}

async fn perform_or_warn(streams: &Arc<Streams>, job: &Job) {
    if let Err(error) = perform(streams, job).await {
        tracing::warn!(?job, %error, "background work failed, it is taken up again when next asked for");
    }
}

/// Lets go of streams that nobody uses, now and then, until `streams` is gone.
pub(super) async fn close_idle(streams: Weak<Streams>, idle_after: Duration) {
    loop {
        tokio::time::sleep(idle_after).await;
        match streams.upgrade() {
            Some(streams) => streams.close_idle(idle_after),
            None => return,
        }
    }
}

/// Time between two looks at what grew old. Each is at all open streams and at a part of the others.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Looks after what grows old with nobody doing anything, until `streams` is gone.
pub(super) async fn sweep(streams: Weak<Streams>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        match streams.upgrade() {
            Some(streams) => streams.sweep().await,
            None => return,
        }
    }
}

/// Takes up again the deletions that an earlier process did not come to the end of.
pub(super) async fn resume_deletions(streams: Weak<Streams>) {
    let Some(streams) = streams.upgrade() else { return };
    if let Err(error) = streams.resume_deletions().await {
        tracing::warn!(%error, "deletions begun earlier were not all found, they go on when next asked for");
    }
}

async fn perform(streams: &Arc<Streams>, job: &Job) -> Result<(), super::Failure> {
    match job {
        Job::Trim(stream) => match stream.upgrade() {
            Some(stream) => Ok(stream.trim().await?),
            None => Ok(()),
        },
        Job::RemoveStream(basin, stream, id) => streams.remove_stream(basin, stream, *id).await,
        Job::RemoveBasin(basin) => streams.remove_basin(basin).await,
    }
}
