//! What a person at a terminal sees while a load runs.

use std::{io::IsTerminal, time::Duration};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::timeline::Volume;

/// A line on standard error, if that is a terminal; nothing otherwise.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// When it was last drawn, and what there was then.
    last: (Duration, Volume),
}

impl Progress {
    /// Nothing is drawn if that is not wanted.
    pub(super) fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}").expect("a spinner and a message");
            ProgressBar::new_spinner().with_style(style)
        });
        Self { bar, last: Default::default() }
    }

    /// Shows what is being done at `now`, how much of the time is over, and how fast it goes.
    pub(super) fn show(&mut self, stage: &str, now: Duration, measured: Duration, of: Duration, volume: Volume) {
        let Some(bar) = &self.bar else { return };
        let (then, before) = self.last;
        bar.set_message(line(stage, measured, of, rates(before, volume, now.saturating_sub(then))));
        bar.tick();
        self.last = (now, volume);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Bytes a second.
fn rates(before: Volume, now: Volume, passed: Duration) -> Volume {
    let rate = |before: u64, now: u64| (now.saturating_sub(before) as f64 / passed.as_secs_f64().max(1e-3)) as u64;
    Volume { appended: rate(before.appended, now.appended), read: rate(before.read, now.read) }
}

fn line(stage: &str, measured: Duration, of: Duration, rate: Volume) -> String {
    format!(
        "{:.1} of {:.1} s, {stage}: appended {}/s, read {}/s",
        measured.as_secs_f64(),
        of.as_secs_f64(),
        HumanBytes(rate.appended),
        HumanBytes(rate.read),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line() {
        let volume = |appended, read| Volume { appended, read };
        let rate = rates(volume(100, 0), volume(100 + (1 << 20), 1024), Duration::from_millis(500));
        let line = line("measuring", Duration::from_millis(1520), Duration::from_secs(10), rate);
        assert_eq!(line, "1.5 of 10.0 s, measuring: appended 2.00 MiB/s, read 2.00 KiB/s");
    }
}
