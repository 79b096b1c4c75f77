//! Ctrl-C and SIGTERM, counted from the first moment of the command. Knows not what they end.

use std::io;

use tokio::sync::watch;

use crate::cli::serve::Signals;

/// How often the process was told to stop.
#[derive(Clone)]
pub(super) struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// From now on the signals no longer end the process by themselves.
    pub(super) fn listen() -> io::Result<Self> {
        let mut signals = Signals::listen()?;
        let (count, counted) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                signals.next().await;
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(counted))
    }

    /// Waits until it was told once.
    pub(super) async fn first(&self) {
        self.at_least(1).await;
    }

    /// Waits until it was told again.
    pub(super) async fn second(&self) {
        self.at_least(2).await;
    }

    async fn at_least(&self, times: u32) {
        // Who counts does so for as long as there is a runtime to wait in.
        let _ = self.0.clone().wait_for(|count| *count >= times).await;
    }
}
