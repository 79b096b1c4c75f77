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

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread, vec,
};

use tokio::{runtime::Handle, sync::mpsc};

/// Reports after which others of the runtime's tasks have their turn.
const MOST_AT_ONCE: usize = 64;

/// The way to those who are told.
pub(super) struct Reports<T> {
    telling: Telling<T>,
    /// Where a task takes them; none where there is no runtime.
    task: Option<mpsc::UnboundedSender<Vec<T>>>,
    /// Whether telling one panicked: of what comes after it nothing is told.
    panicked: Arc<AtomicBool>,
}

/// What is done with a report.
struct Telling<T> {
    tell: fn(T),
    /// When telling another one panicked.
    give_up: fn(T),
}

impl<T: Send + 'static> Reports<T> {
    /// Told by a task of the runtime that this is called in, or on the spot if there is none. `guard` lives as long as the
    /// task. If `tell` panics, `give_up` gets what was passed on before that and not told.
    pub(super) fn start(tell: fn(T), give_up: fn(T), guard: impl Send + 'static) -> Self {
        let telling = Telling { tell, give_up };
        let panicked = Arc::<AtomicBool>::default();
        let task = Handle::try_current().ok().map(|runtime| {
            let (sender, commits) = mpsc::unbounded_channel();
            let panicked = panicked.clone();
            runtime.spawn(async move {
                let _guard = guard;
                Commits { commits, telling, panicked }.tell().await;
            });
            sender
        });
        Self { telling, task, panicked }
    }

    /// Has `reports` told in their order, after those passed on before; on the spot if the runtime has ended.
    pub(super) fn pass_on(&self, reports: Vec<T>) {
        let left = match &self.task {
            Some(task) => task.send(reports).err().map(|unsent| unsent.0).unwrap_or_default(),
            None => reports,
        };
        if self.panicked.load(SeqCst) {
            return left.into_iter().for_each(self.telling.give_up);
        }
        let mut untold = self.telling.of(left);
        while untold.tell_one() {}
    }
}

/// What the task takes.
struct Commits<T> {
    commits: mpsc::UnboundedReceiver<Vec<T>>,
    telling: Telling<T>,
    panicked: Arc<AtomicBool>,
}

impl<T> Commits<T> {
    async fn tell(mut self) {
        while let Some(reports) = self.commits.recv().await {
            let mut untold = self.telling.of(reports);
            let mut told = 0;
            while untold.tell_one() {
                told += 1;
                if told % MOST_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

impl<T> Drop for Commits<T> {
    fn drop(&mut self) {
        // Before the channel is closed, so that whoever finds it closed knows why.
        self.panicked.store(thread::panicking(), SeqCst);
        self.commits.close();
        while let Ok(reports) = self.commits.try_recv() {
            drop(self.telling.of(reports));
        }
    }
}

/// Reports of one commit that are not yet told.
struct Untold<T> {
    reports: vec::IntoIter<T>,
    telling: Telling<T>,
}

impl<T> Untold<T> {
    /// Says whether there was one.
    fn tell_one(&mut self) -> bool {
        self.reports.next().map(self.telling.tell).is_some()
    }
}

impl<T> Drop for Untold<T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.reports.by_ref().for_each(self.telling.give_up);
        }
    }
}

impl<T> Telling<T> {
    fn of(&self, reports: Vec<T>) -> Untold<T> {
        Untold { reports: reports.into_iter(), telling: *self }
    }
}

// Derived, they would be asked of `T` too.
impl<T> Clone for Telling<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Telling<T> {}

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
        let reports = Reports::start(answer, drop, ());
        let (asked, mut answers) = asked(1000);
        reports.pass_on(asked);
        assert!(answers[0].try_recv().is_err(), "not on this thread");
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.await, Ok(number));
        }
    }

    #[test]
    fn without_a_runtime_they_are_told_at_once() {
        let reports = Reports::start(answer, drop, ());
        let (asked, answers) = asked(3);
        reports.pass_on(asked);
        assert!(answers.into_iter().enumerate().all(|(number, mut answer)| answer.try_recv() == Ok(number)));
    }

    #[test]
    fn what_comes_after_the_runtime_is_told_all_the_same() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let reports = runtime.block_on(async { Reports::start(answer, drop, ()) });
        drop(runtime);
        let (asked, mut answers) = asked(1);
        reports.pass_on(asked);
        assert_eq!(answers[0].try_recv(), Ok(0));
    }

    #[tokio::test]
    async fn where_telling_one_panics_the_others_are_given_up() {
        fn tell((answer, number): Asked) {
            assert!(number != 1, "this one panics");
            answer.send(number).unwrap();
        }
        fn give_up((answer, _): Asked) {
            answer.send(100).unwrap();
        }
        let reports = Reports::start(tell, give_up, ());
        let ((first, mut answers), (second, more)) = (asked(3), asked(1));
        reports.pass_on(first);
        reports.pass_on(second);
        answers.extend(more);
        let mut found = Vec::new();
        for answer in answers {
            found.push(answer.await.ok());
        }
        assert_eq!(found, [Some(0), None, Some(100), Some(100)]);
        let (asked, mut answers) = self::asked(1);
        reports.pass_on(asked);
        assert_eq!(answers[0].try_recv(), Ok(100), "what is durable later is not told after a failure");
    }
}
