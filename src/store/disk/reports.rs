//! What is told when a commit is durable, on its way from the writer to the runtime. Knows nothing of what is told.
//!
//! ```text
//! writer: one commit ─► queue ─► one task, woken once ─► whoever waits for any of it
//! ```
//!
//! A commit holds batches of hundreds of streams. If the writer told each of them, their sessions would be woken from its
//! thread: a lock and a search for an idle worker for each, and workers that run one session, sleep, and are woken for the
//! next, while the next commit waits. From a task of the runtime, waking a session is putting it into a worker's own
//! queue, and what a stream frees is freed where it was allocated.

use tokio::{runtime::Handle, sync::mpsc};

/// Reports after which others of the runtime's tasks have their turn.
const MOST_AT_ONCE: usize = 64;

/// The way to those who are told.
pub(super) struct Reports<T> {
    tell: fn(T),
    /// Where a task takes them; none where there is no runtime.
    task: Option<mpsc::UnboundedSender<Vec<T>>>,
}

impl<T: Send + 'static> Reports<T> {
    /// Told by a task of the runtime that this is called in, or on the spot if there is none. `guard` lives as long as the
    /// task.
    pub(super) fn start(tell: fn(T), guard: impl Send + 'static) -> Self {
        let task = Handle::try_current().ok().map(|runtime| {
            let (sender, commits) = mpsc::unbounded_channel();
            runtime.spawn(async move {
                let _guard = guard;
                run(tell, commits).await;
            });
            sender
        });
        Self { tell, task }
    }

    /// Has `reports` told in their order, after those passed on before; on the spot if the runtime has ended.
    pub(super) fn pass_on(&self, reports: Vec<T>) {
        let left = match &self.task {
            Some(task) => task.send(reports).err().map(|unsent| unsent.0).unwrap_or_default(),
            None => reports,
        };
        left.into_iter().for_each(self.tell);
    }
}

async fn run<T>(tell: fn(T), mut commits: mpsc::UnboundedReceiver<Vec<T>>) {
    while let Some(reports) = commits.recv().await {
        for (place, report) in reports.into_iter().enumerate() {
            if place > 0 && place % MOST_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            tell(report);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    type Asked = (oneshot::Sender<usize>, usize);

    fn answer((answer, number): Asked) {
        answer.send(number).unwrap();
    }

    fn asked(count: usize) -> (Vec<Asked>, Vec<oneshot::Receiver<usize>>) {
        let (senders, receivers): (Vec<_>, _) = (0..count).map(|_| oneshot::channel()).unzip();
        (senders.into_iter().zip(0..).collect(), receivers)
    }

    #[tokio::test]
    async fn everyone_is_told_in_the_runtime() {
        let reports = Reports::start(answer, ());
        let (asked, mut answers) = asked(1000);
        reports.pass_on(asked);
        assert!(answers[0].try_recv().is_err(), "not on this thread");
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.await, Ok(number));
        }
    }

    #[test]
    fn without_a_runtime_they_are_told_at_once() {
        let reports = Reports::start(answer, ());
        let (asked, answers) = asked(3);
        reports.pass_on(asked);
        assert!(answers.into_iter().enumerate().all(|(number, mut answer)| answer.try_recv() == Ok(number)));
    }

    #[test]
    fn what_comes_after_the_runtime_is_told_all_the_same() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let reports = runtime.block_on(async { Reports::start(answer, ()) });
        drop(runtime);
        let (asked, mut answers) = asked(1);
        reports.pass_on(asked);
        assert_eq!(answers[0].try_recv(), Ok(0));
    }
}
