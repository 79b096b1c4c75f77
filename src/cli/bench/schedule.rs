//! When each send is meant to happen: at a rate, whatever becomes of the sends before it, or as soon as there is room.
//! Knows no clock: time is a parameter, counted from the beginning of the run.
//!
//! Latency is measured from the intended time. Where a server stalls, the sends that were due meanwhile are late, and
//! their lateness is its doing; whoever measured from the actual send would leave it out (coordinated omission).

use std::time::Duration;

const NANOS: u64 = 1_000_000_000;

/// Sends per second of one of several writers that share a rate evenly, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Millionths of a send per second, of all writers together.
    micro_rate: u64,
    /// Which of the writers, from 0.
    place: u64,
    writers: u64,
}

impl Pace {
    /// The pace of writer `place` of `writers`, who together make `rate` sends per second.
    pub(super) fn share(rate: f64, place: usize, writers: usize) -> Self {
        Self { micro_rate: ((rate * 1e6) as u64).max(1), place: place as u64, writers: writers.max(1) as u64 }
    }

    /// When send `n` is due, from the beginning. Computed from `n`, so that nothing adds up.
    fn due(self, n: u64) -> Duration {
        let turn = u128::from(self.place) + u128::from(n) * u128::from(self.writers);
        let nanos = turn * u128::from(NANOS) * 1_000_000 / u128::from(self.micro_rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The sends of one writer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pace: Option<Pace>,
    begin: Duration,
    end: Duration,
    sends_left: u64,
    sent: u64,
}

/// What to do about the next send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is due: this was, or is, its time.
    Now(Duration),
    /// It is not due before this time.
    At(Duration),
    /// There is none.
    Over,
}

impl Schedule {
    /// Sends from `begin` until `end`, at most `sends` of them; without a pace as soon as they can be made.
    pub(super) fn new(pace: Option<Pace>, begin: Duration, end: Duration, sends: u64) -> Self {
        Self { pace, begin, end, sends_left: sends, sent: 0 }
    }

    /// What to do at `now`. Nothing changes until [`Schedule::sent`] says that it was done.
    pub(super) fn next(&self, now: Duration) -> Next {
        let due = match self.pace {
            None => now,
            Some(pace) => self.begin.saturating_add(pace.due(self.sent)),
        };
        match (self.sends_left == 0 || due >= self.end, due <= now) {
            (true, _) => Next::Over,
            (false, true) => Next::Now(due),
            (false, false) => Next::At(due),
        }
    }

    /// Whether it is the number of sends that ends it, and not the time.
    pub(super) fn is_used_up(&self) -> bool {
        self.sends_left == 0
    }

    /// The send that was due was made.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
        self.sends_left -= 1;
    }

    /// There are no more.
    pub(super) fn stop(&mut self) {
        self.sends_left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn paced(rate: f64) -> Schedule {
        Schedule::new(Some(Pace::share(rate, 0, 1)), Duration::ZERO, 10 * SECOND, u64::MAX)
    }

    #[test]
    fn sends_are_due_at_the_rate_however_late_it_is() {
        let mut schedule = paced(1000.0);
        assert_eq!(schedule.next(Duration::ZERO), Next::Now(Duration::ZERO));
        schedule.sent();
        assert_eq!(schedule.next(MILLI / 2), Next::At(MILLI));
        for n in 1..5 {
            assert_eq!(schedule.next(5 * MILLI), Next::Now(n * MILLI), "those that were due meanwhile keep their time");
            schedule.sent();
        }
    }

    #[test]
    fn what_is_due_before_the_end_is_sent_after_it() {
        let mut schedule = paced(1.0);
        let mut sent = 0;
        while let Next::Now(_) = schedule.next(99 * SECOND) {
            schedule.sent();
            sent += 1;
        }
        assert_eq!((sent, schedule.next(99 * SECOND)), (10, Next::Over));
    }

    #[test]
    fn no_drift() {
        let pace = Pace::share(3.0, 0, 1);
        assert_eq!(pace.due(3_000_000), 1_000_000 * SECOND);
        assert_eq!(Pace::share(0.5, 0, 1).due(3), 6 * SECOND);
    }

    #[test]
    fn writers_share_a_rate_in_turn() {
        let pace = |place| Pace::share(4.0, place, 2);
        let due: Vec<_> = [pace(0).due(0), pace(1).due(0), pace(0).due(1), pace(1).due(1)].into();
        assert_eq!(due, [Duration::ZERO, SECOND / 4, SECOND / 2, SECOND * 3 / 4]);
    }

    #[test]
    fn without_a_pace_a_send_is_meant_for_when_it_can_be_made() {
        let mut schedule = Schedule::new(None, SECOND, 3 * SECOND, 2);
        for now in [SECOND, 2 * SECOND] {
            assert_eq!(schedule.next(now), Next::Now(now));
            schedule.sent();
        }
        assert_eq!(schedule.next(2 * SECOND), Next::Over, "no more sends");
        assert!(schedule.is_used_up());
        let schedule = Schedule::new(None, SECOND, 3 * SECOND, 9);
        assert_eq!(schedule.next(3 * SECOND), Next::Over, "no more time");
        assert!(!schedule.is_used_up());
    }

    /// A server that takes one request at a time, 0.1 ms each, and stands still from 5 s to 6 s: the time from `since`
    /// (intended and actual send) to the answer, over ten seconds, sorted.
    fn stalled(schedule: &mut Schedule, since: impl Fn(Duration, Duration) -> Duration) -> Vec<Duration> {
        let (mut now, mut latencies) = (Duration::ZERO, Vec::new());
        loop {
            match schedule.next(now) {
                Next::Over => break,
                Next::At(due) => now = due,
                Next::Now(due) => {
                    schedule.sent();
                    let begun = if (5 * SECOND..6 * SECOND).contains(&now) { 6 * SECOND } else { now };
                    let answered = begun + MILLI / 10;
                    latencies.push(answered - since(due, now));
                    now = answered;
                }
            }
        }
        latencies.sort();
        latencies
    }

    #[test]
    fn a_stalled_server_shows_in_the_percentiles() {
        let percentile = |latencies: &[Duration], p: usize| latencies[latencies.len() * p / 1000];
        let meant = stalled(&mut paced(1000.0), |intended, _| intended);
        assert_eq!(meant.len(), 10_000, "as many as were meant to be");
        assert!(percentile(&meant, 500) < MILLI);
        assert!(percentile(&meant, 950) > 300 * MILLI, "{:?}", percentile(&meant, 950));
        assert!(percentile(&meant, 990) > 800 * MILLI, "{:?}", percentile(&meant, 990));
        let omitted = stalled(&mut paced(1000.0), |_, actual| actual);
        assert!(percentile(&omitted, 999) < MILLI, "what measuring from the actual send would have said");
    }
}
