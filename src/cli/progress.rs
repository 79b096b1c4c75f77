//! What a person at a terminal sees while records go in.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::clock;

/// A line on standard error, if that is a terminal; nothing otherwise.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    drawn: Instant,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    /// Records acknowledged.
    pub(super) records: u64,
    /// Metered bytes acknowledged.
    pub(super) bytes: u64,
    /// Metered bytes sent and not acknowledged.
    pub(super) in_flight: u64,
}

impl Progress {
    /// Often enough to look alive, seldom enough to cost nothing.
    const EVERY: Duration = Duration::from_millis(100);

    pub(super) fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}").expect("a spinner and a message");
            ProgressBar::new_spinner().with_style(style)
        });
        let now = clock::instant();
        Self { bar, started: now, drawn: now }
    }

    /// Shows `count`, unless something was shown just now.
    pub(super) fn show(&mut self, count: Count) {
        let Some(bar) = &self.bar else { return };
        if clock::instant().saturating_duration_since(self.drawn) < Self::EVERY {
            return;
        }
        self.drawn = clock::instant();
        bar.set_message(line(count, clock::instant().saturating_duration_since(self.started)));
        bar.tick();
    }

    /// Wipes the line.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(count: Count, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    format!(
        "{} records, {}, {}/s, {} in flight",
        HumanCount(count.records),
        HumanBytes(count.bytes),
        HumanBytes((count.bytes as f64 / seconds) as u64),
        HumanBytes(count.in_flight),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line() {
        let count = Count { records: 12_345, bytes: 3 << 20, in_flight: 512 };
        let line = line(count, Duration::from_secs(2));
        assert_eq!(line, "12,345 records, 3.00 MiB, 1.50 MiB/s, 512 B in flight");
    }
}
