//! Work that is done to its end, also when whoever asked for it goes away: a server drops what it does for a client that
//! hangs up. Knows not what it is.

use std::{
    future::{pending, poll_fn},
    panic::resume_unwind,
    task::Poll,
};

/// Does `work` to its end, in a task of its own if there is anything to wait for. Needs a running tokio runtime then.
///
/// For what is written down first and put in force afterwards: half of it would stay so, since to who asks again there is
/// nothing left to be done.
pub(crate) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let mut work = Box::pin(work);
    if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        return done;
    }
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends, and whoever waits here with it.
            Err(_ended) => pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_done() {
        let (go_on, wait) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        let mut work = Box::pin(to_the_end(async move {
            wait.await.unwrap();
            done.send(()).unwrap();
        }));
        assert!(poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await.is_pending());
        drop(work);
        go_on.send(()).unwrap();
        is_done.await.unwrap();
    }

    #[tokio::test]
    async fn what_comes_of_it_is_told() {
        assert_eq!(to_the_end(async { 1 }).await, 1);
        let waits = async {
            tokio::task::yield_now().await;
            2
        };
        assert_eq!(to_the_end(waits).await, 2);
    }

    #[tokio::test]
    #[should_panic(expected = "it went wrong")]
    async fn a_panic_is_the_callers() {
        to_the_end(async {
            tokio::task::yield_now().await;
            panic!("it went wrong");
        })
        .await
    }
}
