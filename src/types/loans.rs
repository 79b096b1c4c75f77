//! How many have something that is there once. Knows not what it is, nor how large.

use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};

/// How many have the bytes of a batch on their way at this time: whoever counts bytes counts them for the first who has
/// them, until the last one has not.
#[derive(Debug, Default)]
pub struct Loans(AtomicUsize);

/// Whether there is anyone beside the one who came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// There is nobody.
    Nobody,
    /// There is.
    Somebody,
}

impl Loans {
    /// One more has it.
    pub fn begin(&self) -> Others {
        Others::of(self.0.fetch_add(1, AcqRel))
    }

    /// One of those who had it has it no longer.
    pub fn end(&self) -> Others {
        Others::of(self.0.fetch_sub(1, AcqRel) - 1)
    }
}

impl Others {
    const fn of(count: usize) -> Self {
        match count {
            0 => Self::Nobody,
            _ => Self::Somebody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_comes_to_nobody_and_the_last_leaves_nobody() {
        let loans = Loans::default();
        for _ in 0..2 {
            assert_eq!(
                [loans.begin(), loans.begin(), loans.end(), loans.end()],
                [Others::Nobody, Others::Somebody, Others::Somebody, Others::Nobody]
            );
        }
    }
}
