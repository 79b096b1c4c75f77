//! Sessions that are to be woken when something ends: the process, an access token. Knows not what it is.
//!
//! Watching is meant for the poll path: a task that polls again without a change takes no lock.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use slab::Slab;

/// Everybody who watches one thing.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Slab<Option<Waker>>>);

impl Watchers {
    /// Takes a place among them, until what is returned is dropped.
    pub(crate) fn watch(self: &Arc<Self>) -> Watching {
        Watching { place: self.places().insert(None), watchers: self.clone(), left: None }
    }

    /// Wakes all of them. Whoever ends something sets the mark of it first.
    pub(crate) fn wake(&self) {
        let wakers: Vec<_> = self.places().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn places(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the watchers.
#[derive(Debug)]
pub(crate) struct Watching {
    watchers: Arc<Watchers>,
    place: usize,
    /// The waker that was left there last.
    left: Option<Waker>,
}

impl Watching {
    /// The task of `cx` is woken at the end. Look for the mark of the end after this, or one in between is missed.
    pub(crate) fn register(&mut self, cx: &Context<'_>) {
        if !self.left.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.left = Some(cx.waker().clone());
            self.watchers.places()[self.place] = Some(cx.waker().clone());
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watchers.places().remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_registered_is_woken_once() {
        let watchers = Arc::new(Watchers::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let (mut watching, _silent) = (watchers.watch(), watchers.watch());
        watching.register(&Context::from_waker(&waker));
        watching.register(&Context::from_waker(&waker));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        watchers.wake();
        watchers.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let watchers = Arc::new(Watchers::default());
        drop(watchers.watch());
        assert!(watchers.places().is_empty());
    }
}
