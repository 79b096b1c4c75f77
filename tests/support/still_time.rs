//! Time that passes only when a test lets it. What a test asserts about time is then true however slow the machine is.

use std::{
    sync::mpsc::{Sender, channel},
    time::Duration,
};

use super::peer::SAFETY_NET;

/// Timers are as exact as this.
const TICK: Duration = Duration::from_millis(1);

/// The runtime's time stands still as long as this is there. Sockets are not held up.
///
/// A paused runtime moves its clock on when it has nothing to do, and it has nothing to do while bytes are on their way
/// through the system. It does not while a thread works for it; so one waits here. If a test waits for what does not
/// happen without time, the thread gives up after a while, time passes, and the test fails by its safety net.
pub struct StillTime {
    _thread: Sender<()>,
}

impl StillTime {
    /// From now on.
    pub fn begin() -> Self {
        tokio::time::pause();
        let (sender, gone) = channel();
        tokio::task::spawn_blocking(move || gone.recv_timeout(SAFETY_NET));
        Self { _thread: sender }
    }

    /// Lets so much time pass, and whoever waited for it go on.
    pub async fn pass(&self, time: Duration) {
        tokio::time::advance(time + TICK).await;
    }
}

impl Drop for StillTime {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}
