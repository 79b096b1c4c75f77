//! The clock of a reading session: when a heartbeat is due, and when it has waited long enough (`s2s.md` §7.2, §7.4).
//!
//! It reads no clock and draws no random number: both are handed in. It does not know what the reader is sent.
//!
//! ```text
//!                     arrived: a heartbeat is due at once
//!               ┌─────────────────────────────────────────────┐
//!               │                                             ▼
//!         CatchingUp                                       AtTail ◄─┐ heartbeat_sent, delivered:
//!               ▲                                             │  └──┘ the next heartbeat one interval later
//!               └─────────────────────────────────────────────┘
//!                                fell_behind
//!
//!  the wait   Unarmed ── first arrival ──► Armed ◄─┐
//!                                            └─────┘ delivered: from now on anew; nothing else moves it
//! ```

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

/// From this range the time from a frame to the heartbeat after it is drawn, each time anew (`s2s.md` §7.2).
pub const HEARTBEAT_INTERVAL: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(15);

/// What a reading session has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing but wait for records.
    Nothing,
    /// Send a heartbeat.
    Heartbeat,
    /// End: no record came within the wait.
    WaitOver,
}

/// What time it is for one reading session.
#[derive(Clone, Copy, Debug)]
pub struct FollowClock {
    place: Place,
    wait: WaitClock,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    CatchingUp,
    AtTail { heartbeat_at: Instant },
}

#[derive(Clone, Copy, Debug)]
enum WaitClock {
    /// Waits for ever.
    Unlimited,
    /// Was never at the tail.
    Unarmed {
        wait: Duration,
    },
    Armed {
        wait: Duration,
        over_at: Instant,
    },
}

impl WaitClock {
    fn arm(&mut self, now: Instant) {
        if let Self::Unarmed { wait } = *self {
            *self = Self::over_after(wait, now);
        }
    }

    fn restart(&mut self, now: Instant) {
        if let Self::Armed { wait, .. } = *self {
            *self = Self::over_after(wait, now);
        }
    }

    fn over_after(wait: Duration, now: Instant) -> Self {
        // A time that the platform cannot tell is as good as never.
        now.checked_add(wait).map_or(Self::Unlimited, |over_at| Self::Armed { wait, over_at })
    }

    fn over_at(&self) -> Option<Instant> {
        match *self {
            Self::Armed { over_at, .. } => Some(over_at),
            Self::Unlimited | Self::Unarmed { .. } => None,
        }
    }
}

impl FollowClock {
    /// The clock of a session that is catching up and will wait for `wait` between records, `None` for ever.
    pub const fn new(wait: Option<Duration>) -> Self {
        let wait = match wait {
            Some(wait) => WaitClock::Unarmed { wait },
            None => WaitClock::Unlimited,
        };
        Self { place: Place::CatchingUp, wait }
    }

    /// The session is at the tail, for the first time or again: a heartbeat is due, unless the wait is over already.
    ///
    /// With a wait of zero it is over at once, and the session ends without a heartbeat.
    pub fn arrived(&mut self, now: Instant) {
        self.place = Place::AtTail { heartbeat_at: now };
        self.wait.arm(now);
    }

    /// The session left the tail without having delivered all records up to it.
    pub fn fell_behind(&mut self) {
        self.place = Place::CatchingUp;
    }

    /// A batch with records went out, catching up or at the tail; the next heartbeat is due after `interval`.
    pub fn delivered(&mut self, now: Instant, interval: Duration) {
        self.wait.restart(now);
        self.heartbeat_sent(now, interval);
    }

    /// A heartbeat went out; the next one is due after `interval`.
    pub fn heartbeat_sent(&mut self, now: Instant, interval: Duration) {
        if let Place::AtTail { heartbeat_at } = &mut self.place {
            *heartbeat_at = now + interval;
        }
    }

    /// What has to be done now. While catching up there are records to come, and nothing is due: clients resume from the
    /// tail of a heartbeat, and would pass by the records before it.
    pub fn due(&self, now: Instant) -> Due {
        let Place::AtTail { heartbeat_at } = self.place else { return Due::Nothing };
        if self.wait.over_at().is_some_and(|over_at| over_at <= now) {
            return Due::WaitOver;
        }
        match heartbeat_at <= now {
            true => Due::Heartbeat,
            false => Due::Nothing,
        }
    }

    /// When to ask again what is due if no record comes before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let Place::AtTail { heartbeat_at } = self.place else { return None };
        Some(self.wait.over_at().map_or(heartbeat_at, |over_at| over_at.min(heartbeat_at)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(7);

    /// A session, and the instant from which its seconds count.
    struct Session {
        clock: FollowClock,
        began: Instant,
    }

    impl Session {
        fn new(wait: Option<u64>) -> Self {
            Self { clock: FollowClock::new(wait.map(Duration::from_secs)), began: Instant::now() }
        }

        fn at(&self, second: u64) -> Instant {
            self.began + Duration::from_secs(second)
        }

        fn arrived(&mut self, second: u64) {
            self.clock.arrived(self.at(second));
        }

        fn delivered(&mut self, second: u64) {
            self.clock.delivered(self.at(second), INTERVAL);
        }

        fn due(&self, second: u64) -> Due {
            self.clock.due(self.at(second))
        }

        /// Sends the heartbeat that must be due.
        fn heartbeat(&mut self, second: u64) {
            assert_eq!(self.due(second), Due::Heartbeat, "at second {second}");
            self.clock.heartbeat_sent(self.at(second), INTERVAL);
        }

        fn deadline(&self) -> Option<u64> {
            self.clock.next_deadline().map(|deadline| deadline.duration_since(self.began).as_secs())
        }
    }

    #[test]
    fn heartbeats_at_once_on_arrival_and_then_after_silence() {
        // s2s.md §7.2
        let mut session = Session::new(None);
        assert_eq!((session.due(0), session.deadline()), (Due::Nothing, None), "catching up");
        session.arrived(1);
        assert_eq!(session.deadline(), Some(1));
        session.heartbeat(1);
        assert_eq!((session.due(1), session.due(7), session.deadline()), (Due::Nothing, Due::Nothing, Some(8)));
        session.heartbeat(8);
        session.delivered(10);
        assert_eq!((session.due(15), session.deadline()), (Due::Nothing, Some(17)), "restarted by every frame");
        session.heartbeat(17);
        assert_eq!(session.due(1000), Due::Heartbeat, "without a wait it never ends");
    }

    #[test]
    fn each_interval_is_the_one_drawn_for_it() {
        let mut session = Session::new(None);
        session.arrived(0);
        for (sent, interval) in [(0, 5), (5, 15), (20, 9)] {
            session.clock.heartbeat_sent(session.at(sent), Duration::from_secs(interval));
            assert_eq!(session.deadline(), Some(sent + interval));
        }
    }

    #[test]
    fn coming_back_to_the_tail_is_an_arrival() {
        let mut session = Session::new(None);
        session.arrived(0);
        session.heartbeat(0);
        session.clock.fell_behind();
        assert_eq!((session.due(100), session.deadline()), (Due::Nothing, None));
        session.delivered(100);
        session.arrived(101);
        session.heartbeat(101);
    }

    #[test]
    fn the_wait_is_armed_on_the_first_arrival_and_not_before() {
        // s2s.md §7.4, Build: batches while catching up do not arm it.
        let mut session = Session::new(Some(2));
        session.delivered(0);
        assert_eq!(session.due(50), Due::Nothing);
        session.arrived(50);
        session.heartbeat(50);
        assert_eq!((session.due(51), session.deadline()), (Due::Nothing, Some(52)));
        assert_eq!(session.due(52), Due::WaitOver);
    }

    #[test]
    fn records_restart_the_wait_and_heartbeats_do_not() {
        let mut session = Session::new(Some(20));
        session.arrived(0);
        session.heartbeat(0);
        session.heartbeat(7);
        session.delivered(10);
        session.heartbeat(17);
        session.heartbeat(24);
        assert_eq!((session.due(29), session.deadline()), (Due::Nothing, Some(30)));
        assert_eq!(session.due(31), Due::WaitOver, "and not a heartbeat, though one is due too");
    }

    #[test]
    fn falling_behind_and_coming_back_does_not_move_the_wait() {
        let mut session = Session::new(Some(20));
        session.arrived(0);
        session.clock.fell_behind();
        assert_eq!(session.due(30), Due::Nothing, "there are records to come");
        session.arrived(10);
        session.heartbeat(10);
        assert_eq!(session.due(20), Due::WaitOver);
        session.clock.fell_behind();
        session.arrived(21);
        assert_eq!(session.due(21), Due::WaitOver, "no heartbeat after the wait");
        session.clock.fell_behind();
        session.delivered(25);
        session.arrived(26);
        session.heartbeat(26);
        assert_eq!(session.due(44), Due::Heartbeat);
        assert_eq!(session.due(45), Due::WaitOver, "a batch delivered on the way back restarted it");
    }

    #[test]
    fn a_wait_of_zero_ends_at_the_tail_without_a_heartbeat() {
        let mut session = Session::new(Some(0));
        session.delivered(3);
        session.arrived(3);
        assert_eq!(session.due(3), Due::WaitOver);
    }

    #[test]
    fn the_longest_wait_is_no_trouble() {
        let mut session = Session::new(Some(u64::MAX));
        session.arrived(0);
        session.heartbeat(0);
        assert_eq!(session.deadline(), Some(7));
    }

    proptest! {
        /// A session that sleeps until its deadline finds something due then, and nothing before.
        #[test]
        fn deadlines_are_when_something_is_due(
            wait in prop::option::of(0u64..60),
            events in prop::collection::vec((0u8..4, 0u64..10), 1..50),
        ) {
            let mut session = Session::new(wait);
            let mut now = 0;
            for (event, seconds) in events {
                now += seconds;
                match event {
                    0 => session.arrived(now),
                    1 => session.delivered(now),
                    2 => session.clock.fell_behind(),
                    _ => session.clock.heartbeat_sent(session.at(now), INTERVAL),
                }
                let deadline = session.deadline();
                prop_assert_eq!(session.due(now) == Due::Nothing, deadline.is_none_or(|deadline| deadline > now));
                if let Some(deadline) = deadline.filter(|deadline| *deadline > now) {
                    prop_assert_eq!(session.due(deadline - 1), Due::Nothing);
                    prop_assert_ne!(session.due(deadline), Due::Nothing);
                }
            }
        }
    }
}
