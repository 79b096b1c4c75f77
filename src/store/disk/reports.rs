//! What is told when a commit is durable, on its way from the writer to the runtime. Knows nothing of what is told.
//!
//! ```text
//! writer: one commit ─► queue ─► one task, woken once ──────► whoever waits for any of it
//!                │          └──► whoever ends the runtime ──►    the task is gone, and tells no more
//!                └───────────────────────────────────────────►    there is no runtime, or no more
//! ```
//!
//! A commit holds batches of hundreds of streams. If the writer told each of them, their sessions would be woken from its
//! thread: a lock and a search for an idle worker for each, and workers that run one session, sleep, and are woken for the
//! next, while the next commit waits. From a task of the runtime, waking a session is putting it into a worker's own
//! queue, and what a stream frees is freed where it was allocated.
//!
//! Whichever way they go, all are told, one after the other, in the order in which they were passed on.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    vec,
};

use tokio::{runtime::Handle, sync::mpsc};

use super::locked;

/// Reports after which others of the runtime's tasks have their turn.
const MOST_AT_ONCE: usize = 64;

/// The way to those who are told.
pub(super) struct Reports<T> {
    telling: Arc<Telling<T>>,
    /// Where a task takes them; none where there is no runtime.
    task: Option<mpsc::UnboundedSender<Vec<T>>>,
}

struct Telling<T> {
    /// What is done with a report.
    tell: fn(T),
    /// What is done when that panicked.
    panicked: Box<dyn Fn() + Send + Sync>,
    /// Locked while reports are passed on to the task, and while one that ends finds that there are no more: whoever finds
    /// it gone finds that all before were told. Nobody is told under it.
    passing_on: Mutex<()>,
}

impl<T: Send + 'static> Reports<T> {
    /// Told by a task of the runtime that this is called in, or on the spot if there is none. If `tell` panics, `panicked`
    /// is called, and the others are told all the same.
    pub(super) fn start(tell: fn(T), panicked: impl Fn() + Send + Sync + 'static) -> Self {
        let telling = Arc::new(Telling { tell, panicked: Box::new(panicked), passing_on: Mutex::default() });
        let task = Handle::try_current().ok().map(|runtime| {
            let (sender, commits) = mpsc::unbounded_channel();
            runtime.spawn(Commits { commits, untold: Vec::new().into_iter(), telling: telling.clone() }.tell());
            sender
        });
        Self { telling, task }
    }

    /// Has `reports` told in their order, after those passed on before; on the spot if the runtime has ended. Called by one
    /// thread.
    pub(super) fn pass_on(&self, reports: Vec<T>) {
        if let Err(left) = self.pass_on_to_task(reports) {
            left.into_iter().for_each(|report| self.telling.tell(report));
        }
    }

    fn pass_on_to_task(&self, reports: Vec<T>) -> Result<(), Vec<T>> {
        let Some(task) = &self.task else { return Err(reports) };
        let _passing_on = locked(&self.telling.passing_on);
        task.send(reports).map_err(|unsent| unsent.0)
    }
}

/// What the task takes.
struct Commits<T> {
    commits: mpsc::UnboundedReceiver<Vec<T>>,
    /// Of the one that is being told.
    untold: vec::IntoIter<T>,
    telling: Arc<Telling<T>>,
}

impl<T> Commits<T> {
    async fn tell(mut self) {
        while let Some(reports) = self.commits.recv().await {
            self.untold = reports.into_iter();
            let mut told = 0;
            for report in self.untold.by_ref() {
                self.telling.tell(report);
                told += 1;
                if told % MOST_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

impl<T> Drop for Commits<T> {
    /// Tells what the task did not come to, if its runtime ended before all was told.
    fn drop(&mut self) {
        loop {
            self.untold.by_ref().for_each(|report| self.telling.tell(report));
            let _passing_on = locked(&self.telling.passing_on);
            match self.commits.try_recv() {
                Ok(reports) => self.untold = reports.into_iter(),
                Err(_) => return self.commits.close(),
            }
        }
    }
}

impl<T> Telling<T> {
    fn tell(&self, report: T) {
        // Of what is torn by a panic nothing is used again: the report is gone.
        if catch_unwind(AssertUnwindSafe(|| (self.tell)(report))).is_err() {
            (self.panicked)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        thread,
    };

    use tokio::{runtime::Runtime, sync::oneshot};

    use super::*;

    type Asked = (oneshot::Sender<usize>, usize);
    /// A report that does something when it is told.
    type Act = Box<dyn FnOnce() + Send>;

    fn answer((answer, number): Asked) {
        answer.send(number).unwrap();
    }

    fn asked(count: usize) -> (Vec<Asked>, Vec<oneshot::Receiver<usize>>) {
        let (senders, receivers): (Vec<_>, _) = (0..count).map(|_| oneshot::channel()).unzip();
        (senders.into_iter().zip(0..).collect(), receivers)
    }

    fn act(act: Act) {
        act();
    }

    /// What was noted, and reports that note a number each.
    fn noting() -> (Arc<Mutex<Vec<usize>>>, impl Fn(usize) -> Act) {
        let noted = Arc::<Mutex<Vec<usize>>>::default();
        let notes = noted.clone();
        (noted, move |number| {
            let notes = notes.clone();
            Box::new(move || locked(&notes).push(number))
        })
    }

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[tokio::test]
    async fn everyone_is_told_in_the_runtime() {
        let reports = Reports::start(answer, || ());
        let (asked, mut answers) = asked(1000);
        reports.pass_on(asked);
        assert!(answers[0].try_recv().is_err(), "not on this thread");
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.await, Ok(number));
        }
    }

    #[test]
    fn without_a_runtime_they_are_told_at_once() {
        let reports = Reports::start(answer, || ());
        let (asked, answers) = asked(3);
        reports.pass_on(asked);
        assert!(answers.into_iter().enumerate().all(|(number, mut answer)| answer.try_recv() == Ok(number)));
    }

    #[test]
    fn what_comes_after_the_runtime_is_told_all_the_same() {
        let runtime = runtime();
        let reports = runtime.block_on(async { Reports::start(answer, || ()) });
        drop(runtime);
        let (asked, mut answers) = asked(1);
        reports.pass_on(asked);
        assert_eq!(answers[0].try_recv(), Ok(0));
    }

    #[test]
    fn what_waits_when_the_runtime_ends_is_told_by_whoever_ends_it() {
        let (noted, note) = noting();
        let runtime = runtime();
        let reports = runtime.block_on(async { Reports::start(act, || ()) });
        let mut numbers = 0..3 * MOST_AT_ONCE;
        reports.pass_on(numbers.by_ref().take(2 * MOST_AT_ONCE).map(&note).collect());
        reports.pass_on(numbers.map(&note).collect());
        // It stands in the middle of the first commit.
        runtime.block_on(tokio::task::yield_now());
        let told = locked(&noted).len();
        assert!((1..2 * MOST_AT_ONCE).contains(&told), "{told} were told in the runtime");
        drop(runtime);
        assert!(locked(&noted).iter().copied().eq(0..3 * MOST_AT_ONCE), "{noted:?}");
    }

    #[test]
    fn what_is_passed_on_while_the_runtime_ends_waits_its_turn() {
        let (noted, note) = noting();
        let runtime = runtime();
        let reports = Arc::new(runtime.block_on(async { Reports::start(act, || ()) }));
        let (passing, second) = (reports.clone(), note(2));
        let pass_on_from_elsewhere = move || thread::spawn(move || passing.pass_on(vec![second])).join().unwrap();
        reports.pass_on(vec![Box::new(pass_on_from_elsewhere), note(1)]);
        drop(runtime);
        assert_eq!(*locked(&noted), [1, 2]);
        reports.pass_on(vec![note(3)]);
        assert_eq!(*locked(&noted), [1, 2, 3]);
    }

    #[test]
    fn where_telling_one_panics_the_others_are_told() {
        for with_runtime in [true, false] {
            let (noted, note) = noting();
            let panics = Arc::<AtomicUsize>::default();
            let counted = panics.clone();
            let count = move || {
                counted.fetch_add(1, Relaxed);
            };
            let start = || Reports::start(act, count);
            let runtime = runtime();
            let reports = if with_runtime { runtime.block_on(async { start() }) } else { start() };
            reports.pass_on(vec![note(0), Box::new(|| panic!("this one panics")), note(1)]);
            reports.pass_on(vec![note(2)]);
            runtime.block_on(tokio::task::yield_now());
            assert_eq!((&locked(&noted)[..], panics.load(Relaxed)), (&[0, 1, 2][..], 1));
            reports.pass_on(vec![Box::new(|| panic!("and this one")), note(3)]);
            drop(runtime);
            assert_eq!((&locked(&noted)[..], panics.load(Relaxed)), (&[0, 1, 2, 3][..], 2));
        }
    }
}
