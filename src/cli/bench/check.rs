//! Whether every record is there: each once, in its writer's order, undamaged. Judges stamps as they come; knows neither
//! where they come from nor how long it took.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    iter::Sum,
    num::NonZeroU64,
    ops::{Add, AddAssign},
};

use serde::Serialize;

use super::stamp::{Stamp, WriterId};

/// What was found wrong, in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Findings {
    /// Looked at.
    pub(super) checked: u64,
    /// Acknowledged, or passed by a later one of the same writer, and not there.
    pub(super) lost: u64,
    /// There again.
    pub(super) doubled: u64,
    /// There, but behind a later one of the same writer.
    pub(super) reordered: u64,
    /// With bytes that nobody wrote.
    pub(super) damaged: u64,
    /// Of a writer that has not written here, or never so much.
    pub(super) foreign: u64,
}

impl Findings {
    /// Whether nothing was wrong.
    pub(super) fn is_clean(&self) -> bool {
        *self == Self { checked: self.checked, ..Self::default() }
    }
}

impl AddAssign for Findings {
    fn add_assign(&mut self, other: Self) {
        self.checked += other.checked;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.damaged += other.damaged;
        self.foreign += other.foreign;
    }
}

impl Add for Findings {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Sum for Findings {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Self::add)
    }
}

/// What a writer knows of its own records, once it has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) writer: WriterId,
    /// Sent; those behind the acknowledged ones may be there or not.
    pub(super) sent: u64,
    /// Acknowledged: these must be there.
    pub(super) acked: u64,
}

/// Follows one stream from its first record on.
#[derive(Clone, Debug, Default)]
pub(super) struct Checker {
    writers: Vec<Seen>,
    places: HashMap<WriterId, usize>,
    /// Whose record came last: the next one is most often of the same.
    last: usize,
    /// After how many records writers begin to number anew; the numbers are endless without.
    period: Option<NonZeroU64>,
    findings: Findings,
}

/// What came of one writer.
#[derive(Clone, Debug)]
struct Seen {
    writer: WriterId,
    /// The number that is due.
    next: u64,
    /// Numbers below `next` that have not come: first and the one behind the last.
    missing: BTreeMap<u64, u64>,
}

impl Checker {
    /// Before the first record, of writers that number anew after `period`.
    pub(super) fn new(period: Option<NonZeroU64>) -> Self {
        Self { period, ..Self::default() }
    }

    /// Takes the next record of the stream, and gives what it says of itself.
    pub(super) fn see(&mut self, body: &[u8]) -> Option<Stamp> {
        self.findings.checked += 1;
        let Some(stamp) = Stamp::of(body) else {
            self.findings.damaged += 1;
            return None;
        };
        let period = self.period;
        let seen = self.seen_of(stamp.writer);
        let sequence = period.map_or(stamp.sequence, |period| nearest(seen.next, stamp.sequence, period));
        match seen.take(sequence) {
            Order::Due => {}
            Order::Late => self.findings.reordered += 1,
            Order::Again => self.findings.doubled += 1,
        }
        Some(stamp)
    }

    /// What was found until now, while more may come: what is missing counts as lost.
    pub(super) fn findings(&self) -> Findings {
        let missing: u64 = self.writers.iter().map(Seen::missing).sum();
        Findings { lost: self.findings.lost + missing, ..self.findings }
    }

    /// What was found, when every record of the stream was seen and the `accounts` are those of all who wrote to it.
    pub(super) fn finish(&self, accounts: &[Account]) -> Findings {
        let mut findings = self.findings();
        for account in accounts {
            let next = self.places.get(&account.writer).map_or(0, |place| self.writers[*place].next);
            findings.lost += account.acked.saturating_sub(next);
            findings.foreign += next.saturating_sub(account.sent);
        }
        let known: HashSet<_> = accounts.iter().map(|account| account.writer).collect();
        let strangers = self.writers.iter().filter(|seen| !known.contains(&seen.writer));
        findings.foreign += strangers.map(|seen| seen.next - seen.missing()).sum::<u64>();
        findings
    }

    fn seen_of(&mut self, writer: WriterId) -> &mut Seen {
        if self.writers.get(self.last).is_none_or(|seen| seen.writer != writer) {
            self.last = *self.places.entry(writer).or_insert_with(|| {
                self.writers.push(Seen { writer, next: 0, missing: BTreeMap::new() });
                self.writers.len() - 1
            });
        }
        &mut self.writers[self.last]
    }
}

/// How a record stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Due,
    Late,
    Again,
}

impl Seen {
    fn take(&mut self, sequence: u64) -> Order {
        if sequence >= self.next {
            if sequence > self.next {
                self.missing.insert(self.next, sequence);
            }
            self.next = sequence + 1;
            return Order::Due;
        }
        match self.fill(sequence) {
            true => Order::Late,
            false => Order::Again,
        }
    }

    /// Whether `sequence` was missing; it is no longer.
    fn fill(&mut self, sequence: u64) -> bool {
        let Some((&start, &end)) = self.missing.range(..=sequence).next_back() else { return false };
        if sequence >= end {
            return false;
        }
        self.missing.remove(&start);
        if start < sequence {
            self.missing.insert(start, sequence);
        }
        if sequence + 1 < end {
            self.missing.insert(sequence + 1, end);
        }
        true
    }

    fn missing(&self) -> u64 {
        self.missing.iter().map(|(start, end)| end - start).sum()
    }
}

/// Of all numbers that are `stamped` modulo `period`, the one nearest to `due`.
fn nearest(due: u64, stamped: u64, period: NonZeroU64) -> u64 {
    let ahead = (stamped + period.get() - due % period) % period;
    match ahead <= period.get() / 2 || due + ahead < period.get() {
        true => due + ahead,
        false => due + ahead - period.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stamp::FillerSum, *};

    fn body(writer: WriterId, sequence: u64) -> Vec<u8> {
        let mut body = vec![b'x'; 40];
        let filler = FillerSum::of(&body);
        Stamp { writer, sequence, intended: 0 }.put(&mut body, filler);
        body
    }

    /// What is found when one writer's records come as `sequences`, of which `acked` were acknowledged and all sent.
    fn found(sequences: &[u64], acked: u64) -> Findings {
        let mut checker = Checker::default();
        for sequence in sequences {
            checker.see(&body(1, *sequence));
        }
        checker.finish(&[Account { writer: 1, sent: 100, acked }])
    }

    #[test]
    fn each_once_and_in_order_is_clean() {
        let findings = found(&[0, 1, 2, 3], 4);
        assert!(findings.is_clean(), "{findings:?}");
        assert_eq!(findings.checked, 4);
        assert!(found(&[0, 1, 2, 3, 4, 5], 4).is_clean(), "sent and not acknowledged may be there");
    }

    #[test]
    fn faults_are_told_apart() {
        let clean = |checked| Findings { checked, ..Findings::default() };
        for (sequences, acked, expected) in [
            (&[0, 1, 3][..], 4, Findings { lost: 1, ..clean(3) }),
            (&[0, 1], 4, Findings { lost: 2, ..clean(2) }),
            (&[], 4, Findings { lost: 4, ..clean(0) }),
            (&[2, 3], 4, Findings { lost: 2, ..clean(2) }),
            (&[0, 5], 6, Findings { lost: 4, ..clean(2) }),
            (&[0, 1, 1, 2], 3, Findings { doubled: 1, ..clean(4) }),
            (&[0, 1, 0, 1, 2], 3, Findings { doubled: 2, ..clean(5) }),
            (&[0, 2, 1, 3], 4, Findings { reordered: 1, ..clean(4) }),
            (&[3, 0, 1, 2], 4, Findings { reordered: 3, ..clean(4) }),
            (&[0, 4, 2, 2], 5, Findings { lost: 2, reordered: 1, doubled: 1, ..clean(4) }),
            (&[0, 1, 100], 2, Findings { lost: 98, foreign: 1, ..clean(3) }),
        ] {
            assert_eq!(found(sequences, acked), expected, "{sequences:?}");
        }
    }

    #[test]
    fn damage_is_seen_and_the_record_is_missing() {
        let mut checker = Checker::default();
        let mut damaged = body(1, 1);
        damaged[30] ^= 1;
        assert_eq!(checker.see(&body(1, 0)).map(|stamp| stamp.sequence), Some(0));
        assert_eq!(checker.see(&damaged), None);
        assert_eq!(checker.see(&body(1, 2)).map(|stamp| stamp.sequence), Some(2));
        let findings = checker.finish(&[Account { writer: 1, sent: 3, acked: 3 }]);
        assert_eq!(findings, Findings { checked: 3, damaged: 1, lost: 1, ..Findings::default() });
    }

    #[test]
    fn writers_are_followed_apart() {
        let mut checker = Checker::default();
        for (writer, sequence) in [(1, 0), (2, 0), (1, 1), (2, 2), (1, 2), (9, 0)] {
            checker.see(&body(writer, sequence));
        }
        let account = |writer| Account { writer, sent: 3, acked: 3 };
        let findings = checker.finish(&[account(1), account(2), account(3)]);
        let expected = Findings { checked: 6, lost: 1 + 3, foreign: 1, ..Findings::default() };
        assert_eq!(findings, expected, "one of writer 2, all of writer 3; nobody knows writer 9");
    }

    #[test]
    fn numbers_that_begin_anew() {
        let period = NonZeroU64::new(4);
        let found = |sequences: &[u64], acked| {
            let mut checker = Checker::new(period);
            for sequence in sequences {
                checker.see(&body(1, *sequence));
            }
            checker.finish(&[Account { writer: 1, sent: acked, acked }])
        };
        assert!(found(&[0, 1, 2, 3, 0, 1, 2, 3, 0], 9).is_clean());
        assert_eq!(found(&[0, 1, 2, 0, 1], 6).lost, 1);
        assert_eq!(found(&[0, 1, 2, 3, 0, 0, 1], 6).doubled, 1);
        assert_eq!(found(&[0, 1, 2, 3], 8).lost, 4, "a whole period is missed by the account");
    }
}
