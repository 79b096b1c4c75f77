//! When to try again, and how long to wait before (`errors.md` §5.2). Decisions only: no timer, no randomness of its own.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::ClientError;
use crate::types::{Effect, Retry};

/// Which failures of appends are tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendRetry {
    /// All that may pass; records can then go in twice.
    #[default]
    All,
    /// Only those after which nothing can go in twice.
    NoSideEffects,
}

/// How often, how patiently and how boldly to try again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts in all, the first one counted, without a success in between.
    pub attempts: NonZeroU32,
    /// Wait before the second attempt; it doubles with each further one.
    pub first_backoff: Duration,
    /// The wait does not double beyond this.
    pub longest_backoff: Duration,
    /// Which failures of appends are tried again.
    pub appends: AppendRetry,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: NonZeroU32::new(3).expect("not zero"),
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(1),
            appends: AppendRetry::All,
        }
    }
}

impl RetryPolicy {
    /// The wait after `failures` failed attempts; `jitter` from 0 to 1 adds up to as much again.
    fn backoff(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let base = self.first_backoff.saturating_mul(doubled).min(self.longest_backoff);
        base + base.mul_f64(jitter.clamp(0.0, 1.0))
    }
}

/// What doing the same again would risk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStake {
    /// Nothing: it is harmless twice, or nothing was sent.
    Nothing,
    /// Records that were sent and not acknowledged, and could go in twice.
    Duplicates,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again, after this long.
    Retry {
        /// How long to wait before.
        after: Duration,
    },
    /// Report it.
    GiveUp,
}

/// The attempts of one call, or of one session since its last success.
#[derive(Clone, Debug)]
pub struct Attempts {
    policy: RetryPolicy,
    failures: u32,
    /// Whether a draining server was left, and nothing succeeded since.
    drained: bool,
}

impl Attempts {
    /// None so far.
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0, drained: false }
    }

    /// Something came of it: an ack, a batch. The count begins anew.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.drained = false;
    }

    /// Judges a failed attempt.
    ///
    /// Leaving a draining server costs nothing, but only once until something succeeds: a server that drains for ever
    /// must not be asked for ever.
    pub fn failed(&mut self, error: &ClientError, at_stake: AtStake, jitter: f64) -> Verdict {
        if error.is_draining() && !self.drained {
            self.drained = true;
            return Verdict::Retry { after: Duration::ZERO };
        }
        self.failures += 1;
        match self.may_retry(error, at_stake) {
            false => Verdict::GiveUp,
            true => {
                let backoff = self.policy.backoff(self.failures, jitter);
                Verdict::Retry { after: backoff.max(error.retry_after().unwrap_or_default()) }
            }
        }
    }

    fn may_retry(&self, error: &ClientError, at_stake: AtStake) -> bool {
        let safe = error.effect() == Effect::None || at_stake == AtStake::Nothing;
        error.retry() == Retry::Worthwhile
            && self.failures < self.policy.attempts.get()
            && (safe || self.policy.appends == AppendRetry::All)
    }
}

/// A server's advice to go elsewhere, followed at most once in 60 s (`s2s.md` §8).
#[derive(Clone, Copy, Debug, Default)]
pub struct AdviceLimit {
    followed_at: Option<Instant>,
}

impl AdviceLimit {
    const PAUSE: Duration = Duration::from_secs(60);

    /// Whether to follow advice that comes at `now`; if so, it counts as followed.
    pub fn follow(&mut self, now: Instant) -> bool {
        let due = self.followed_at.is_none_or(|at| now.saturating_duration_since(at) >= Self::PAUSE);
        if due {
            self.followed_at = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ApiError, ErrorCode, FencingToken, Position, SeqNum};

    fn coded(code: ErrorCode) -> ClientError {
        ClientError::answered(ApiError::new(code, "said so"))
    }

    fn first_verdict(appends: AppendRetry, error: &ClientError, at_stake: AtStake) -> bool {
        let policy = RetryPolicy { appends, ..RetryPolicy::default() };
        Attempts::new(policy).failed(error, at_stake, 0.0) != Verdict::GiveUp
    }

    #[test]
    fn which_failures_are_tried_again() {
        // errors.md §5.1, §5.2: (failure, policy all, no side effects, no side effects with nothing at stake)
        let lost = ClientError::Lost("reset".into());
        let timed_out = ClientError::TimedOut { awaited: super::super::Awaited::Ack, after: Duration::from_secs(5) };
        let connect = ClientError::Connect { origin: String::new(), reason: String::new() };
        let broken = ClientError::Protocol(super::super::ProtocolError::StrayAck);
        let fenced = ClientError::answered(ApiError::FencingTokenMismatch { current: FencingToken::NONE });
        let raced = ClientError::answered(ApiError::SeqNumMismatch { next: SeqNum::FIRST });
        let range = ClientError::answered(ApiError::OutOfRange { tail: Position::EMPTY });
        let table = [
            (lost, true, false, true),
            (timed_out, true, false, true),
            (connect, true, true, true),
            (ClientError::NotSent, true, true, true),
            (broken, false, false, false),
            (fenced, false, false, false),
            (raced, false, false, false),
            (range, false, false, false),
            (coded(ErrorCode::BadFrame), false, false, false),
            (coded(ErrorCode::Authn), false, false, false),
            (coded(ErrorCode::StreamNotFound), false, false, false),
            (coded(ErrorCode::StreamDeletionPending), false, false, false),
            (coded(ErrorCode::Invalid), false, false, false),
            (coded(ErrorCode::NotImplemented), false, false, false),
            (coded(ErrorCode::TransactionConflict), true, true, true),
            (coded(ErrorCode::RateLimited), true, true, true),
            (coded(ErrorCode::HotServer), true, true, true),
            (coded(ErrorCode::ServerDraining), true, true, true),
            (coded(ErrorCode::RequestTimeout), true, false, true),
            (coded(ErrorCode::Other), true, false, true),
            (coded(ErrorCode::Storage), true, false, true),
            (coded(ErrorCode::Unavailable), true, false, true),
            (coded(ErrorCode::UpstreamTimeout), true, false, true),
        ];
        for (error, all, strict, strict_nothing) in table {
            assert_eq!(first_verdict(AppendRetry::All, &error, AtStake::Duplicates), all, "{error}");
            assert_eq!(first_verdict(AppendRetry::NoSideEffects, &error, AtStake::Duplicates), strict, "{error}");
            let verdict = first_verdict(AppendRetry::NoSideEffects, &error, AtStake::Nothing);
            assert_eq!(verdict, strict_nothing, "{error}");
        }
    }

    #[test]
    fn three_attempts_in_all_and_a_success_begins_anew() {
        let mut attempts = Attempts::new(RetryPolicy::default());
        let mut fail = |jitter| attempts.failed(&ClientError::NotSent, AtStake::Nothing, jitter);
        assert_eq!(fail(0.0), Verdict::Retry { after: Duration::from_millis(100) });
        assert_eq!(fail(1.0), Verdict::Retry { after: Duration::from_millis(400) });
        assert_eq!(fail(0.0), Verdict::GiveUp);
        attempts.succeeded();
        let verdict = attempts.failed(&ClientError::NotSent, AtStake::Nothing, 0.5);
        assert_eq!(verdict, Verdict::Retry { after: Duration::from_millis(150) });
    }

    #[test]
    fn backoff_doubles_up_to_the_longest() {
        let policy = RetryPolicy::default();
        let waits: Vec<_> = (1..=6).map(|failures| policy.backoff(failures, 0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(policy.backoff(1000, 1.0), Duration::from_secs(2));
    }

    #[test]
    fn the_servers_hint_is_a_least_wait() {
        let hinted = |millis| ClientError::Server {
            error: crate::wire::RemoteError::Known(ApiError::new(ErrorCode::RateLimited, "slow down")),
            retry_after: Some(Duration::from_millis(millis)),
        };
        for (hint, wait) in [(700, 700), (10, 100)] {
            let verdict = Attempts::new(RetryPolicy::default()).failed(&hinted(hint), AtStake::Nothing, 0.0);
            assert_eq!(verdict, Verdict::Retry { after: Duration::from_millis(wait) });
        }
    }

    #[test]
    fn draining_is_free_once_between_successes() {
        let policy = RetryPolicy { attempts: NonZeroU32::MIN, ..RetryPolicy::default() };
        let mut attempts = Attempts::new(policy);
        let drained =
            |attempts: &mut Attempts| attempts.failed(&coded(ErrorCode::ServerDraining), AtStake::Nothing, 0.0);
        assert_eq!(drained(&mut attempts), Verdict::Retry { after: Duration::ZERO });
        assert_eq!(drained(&mut attempts), Verdict::GiveUp);
        attempts.succeeded();
        assert_eq!(drained(&mut attempts), Verdict::Retry { after: Duration::ZERO });
    }

    #[test]
    fn advice_is_followed_once_a_minute() {
        let start = Instant::now();
        let mut advice = AdviceLimit::default();
        let followed: Vec<_> =
            [0, 1, 59, 60, 61, 130].map(|secs| advice.follow(start + Duration::from_secs(secs))).into_iter().collect();
        assert_eq!(followed, [true, false, false, true, false, true]);
    }
}
