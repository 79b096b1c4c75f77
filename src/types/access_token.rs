//! What is known of an access token besides its secret (`control-plane.md` §7).

use std::fmt;

use super::{AccessTokenId, Scope, Timestamp};

/// The end of a token's life, to the nanosecond: clients compare what they set with what they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry {
    secs: u64,
    nanos: u32,
}

impl Expiry {
    /// `secs` seconds and `nanos` nanoseconds after the Unix epoch; more than a second's nanoseconds count as the last.
    pub const fn new(secs: u64, nanos: u32) -> Self {
        let nanos = if nanos < 1_000_000_000 { nanos } else { 999_999_999 };
        Self { secs, nanos }
    }

    /// Whole seconds since the Unix epoch.
    pub const fn secs(self) -> u64 {
        self.secs
    }

    /// Nanoseconds of the second that has begun.
    pub const fn nanos(self) -> u32 {
        self.nanos
    }

    /// Whether `now` is that late.
    pub fn has_passed(self, now: Timestamp) -> bool {
        let now = now.get();
        Self::new(now / 1000, (now % 1000) as u32 * 1_000_000) >= self
    }
}

/// An access token as a listing shows it, and as it is asked for (`control-plane.md` §7.2, §7.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTokenInfo {
    /// Its name, unique in the account.
    pub id: AccessTokenId,
    /// When it ends. `None`: never; of one that is asked for: when its issuer does.
    pub expires_at: Option<Expiry>,
    /// Whether the prefix of the streams in its scope is put in front of every stream name that its bearer says, and
    /// taken off every one that is said to its bearer.
    pub auto_prefix_streams: bool,
    /// What it may do.
    pub scope: Scope,
}

/// SHA-256 of a token's text: what is kept of it.
///
/// Has no equality of its own, since it must be compared in constant time.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash `bytes`.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// An access token as it is kept.
#[derive(Clone, Debug)]
pub struct AccessTokenEntry {
    /// What a listing shows.
    pub info: AccessTokenInfo,
    /// What its text is recognised by.
    pub hash: TokenHash,
    /// When it was issued.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_when_the_clock_has_come_to_its_expiry() {
        let expiry = Expiry::new(5, 1_000_001);
        for (now, passed) in [(0, false), (5000, false), (5001, false), (5002, true), (6000, true), (u64::MAX, true)] {
            assert_eq!(expiry.has_passed(Timestamp::new(now)), passed, "{now}");
        }
        assert!(Expiry::new(5, 1_000_000).has_passed(Timestamp::new(5001)), "not one moment longer");
        assert!(!Expiry::new(u64::MAX, 0).has_passed(Timestamp::new(u64::MAX)));
    }

    #[test]
    fn expiries_sort_by_time() {
        assert!(Expiry::new(1, 999_999_999) < Expiry::new(2, 0));
        assert_eq!(Expiry::new(1, u32::MAX), Expiry::new(1, 999_999_999));
    }
}
