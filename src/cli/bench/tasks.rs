//! Many tasks at once, and their results in order.

use tokio::task::{JoinError, JoinSet};

/// How many calls of the control plane, or sessions that are being opened, are under way at once.
pub(super) const SOME: usize = 64;
/// All of them.
pub(super) const ALL: usize = usize::MAX;

/// Does `work` with each of `items`, with at most `at_once` of them at a time, each in a task of its own.
pub(super) async fn concurrently<T, R, F>(
    at_once: usize,
    items: impl IntoIterator<Item = T>,
    mut work: impl FnMut(T) -> F,
) -> Vec<R>
where
    F: Future<Output = R> + Send + 'static,
    R: Send + 'static,
{
    let (mut tasks, mut done) = (JoinSet::new(), Vec::new());
    for (i, item) in items.into_iter().enumerate() {
        if tasks.len() >= at_once {
            done.extend(tasks.join_next().await.map(result));
        }
        let work = work(item);
        tasks.spawn(async move { (i, work.await) });
    }
    while let Some(joined) = tasks.join_next().await {
        done.push(result(joined));
    }
    done.sort_unstable_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Nobody aborts these tasks, so what ends one early is a panic, which is passed on.
fn result<R>(joined: Result<R, JoinError>) -> R {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn results_come_in_order_and_not_all_run_at_once() {
        let running = Arc::new(AtomicUsize::new(0));
        let results = concurrently(3, 0..50, |i| {
            let running = running.clone();
            async move {
                assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                for _ in 0..50 - i {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
                i * 2
            }
        });
        assert_eq!(results.await, (0..50).map(|i| i * 2).collect::<Vec<_>>());
    }
}
