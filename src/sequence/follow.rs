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

    /// What has to be done now. While catching up there are records to come, and nothing is due.
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
