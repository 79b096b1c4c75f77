//! A second telling of the rules of `admit`, slow and plain, and a check of the one against the other.
//!
//! Arbitrary bytes are a script of appends, so that a fuzzer and a property test drive the same check. Numbers in a script
//! are small and relative to what there is, which makes conditions hold as often as they fail.
//!
//! ```text
//! script   [numbers already used 1] append*           0x80 and more: so many less 0x80 are left instead
//! append   [how 1] [clock 1] [records 1] record*      clock: step of the time, signed; records: 1 to 8, by the low bits
//! record   [what 1] [value 1] [timestamp 1]
//!
//! how      bits 0-1  match_seq_num: absent, the tail, one more, zero
//!          bits 2-4  fencing token: absent from 4 on, else one of the four
//!          bits 5-6  mode
//!          bit  7    uncapped
//! what     0 fence to one of the four tokens, by value; 1 trim to value records after the first number, 255: all;
//!          else a body of value bytes; bit 7: with a timestamp, `timestamp` after the time now, signed
//! ```

use crate::types::{
    AppendInput, Batch, Command, Head, Position, SeqNum, Timestamp, Timestamping, TimestampingMode,
    testing::{Records, fencing_token, with_fence, with_match},
};

use super::{Rejection, Sequencer};

const TOKENS: [&str; 4] = ["", "a", "writer-1", "0123456789-0123456789-0123456789-012"];

/// Runs `script` against a [`Sequencer`] and the plain telling of its rules, and panics where they differ.
pub fn check(script: &[u8]) {
    let mut script = Script { rest: script };
    let Some(used) = script.byte() else { return };
    let first = if used < 0x80 { u64::from(used) } else { u64::MAX - u64::from(used - 0x80) };
    let head = Head { tail: Position::new(first, 0), trim_point: SeqNum::new(first), ..Head::default() };
    let mut sequencer = Sequencer::new(head);
    let mut model = Model { first, timestamps: Vec::new(), token: "", trim_point: first };
    let mut now = 1000;
    while let Some(append) = Append::read(&mut script, &model, &mut now) {
        let before = *sequencer.head();
        let expected = model.append(&append);
        let admitted = sequencer.admit(&append.input(), append.timestamping, Timestamp::new(append.now));
        let head = *sequencer.head();
        assert!(admitted.is_ok() || head == before, "a refused input changes nothing");
        assert_eq!(admitted.as_ref().map(positions), expected.as_ref().map(|_| model.last(append.records.len())));
        assert_eq!(head, model.head());
        assert!(head.trim_point >= before.trim_point && head.trim_point <= head.tail.seq_num);
        assert!(head.tail.timestamp >= before.tail.timestamp);
    }
}

fn positions(batch: &Batch) -> Vec<Position> {
    let records = batch.whole();
    let positions = records.records().map(|record| Position { seq_num: record.seq_num, timestamp: record.timestamp });
    positions.collect()
}

struct Script<'a> {
    rest: &'a [u8],
}

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    /// A number around `middle`.
    fn around(&mut self, middle: u64) -> Option<u64> {
        Some(middle.saturating_add_signed(i64::from(self.byte()? as i8)))
    }
}

struct Append {
    match_seq_num: Option<u64>,
    token: Option<&'static str>,
    timestamping: Timestamping,
    now: u64,
    records: Vec<Record>,
}

struct Record {
    timestamp: Option<u64>,
    content: Content,
}

enum Content {
    Fence(&'static str),
    Trim(u64),
    Body(usize),
}

impl Append {
    fn read(script: &mut Script<'_>, model: &Model, now: &mut u64) -> Option<Self> {
        let how = script.byte()?;
        *now = script.around(*now)?;
        let records = 1 + script.byte()? % 8;
        Some(Self {
            match_seq_num: [None, Some(model.tail()), Some(model.tail().wrapping_add(1)), Some(0)]
                [usize::from(how & 3)],
            token: TOKENS.get(usize::from(how >> 2 & 7)).copied(),
            timestamping: Timestamping { mode: mode(how >> 5 & 3), uncapped: how >> 7 == 1 },
            now: *now,
            records: (0..records).map(|_| Record::read(script, model, *now)).collect::<Option<_>>()?,
        })
    }

    fn input(&self) -> AppendInput {
        let records = self.records.iter().fold(Records::new(), |records, record| match record.content {
            Content::Fence(token) => records.command(record.timestamp, Command::Fence(fencing_token(token))),
            Content::Trim(to) => records.command(record.timestamp, Command::Trim(SeqNum::new(to))),
            Content::Body(len) => records.body(record.timestamp, &vec![b'x'; len]),
        });
        let input = self.match_seq_num.into_iter().fold(records.input(), with_match);
        self.token.into_iter().fold(input, with_fence)
    }
}

fn mode(bits: u8) -> TimestampingMode {
    match bits {
        0 => TimestampingMode::ClientRequire,
        1 => TimestampingMode::Arrival,
        _ => TimestampingMode::ClientPrefer,
    }
}

impl Record {
    fn read(script: &mut Script<'_>, model: &Model, now: u64) -> Option<Self> {
        let (what, value) = (script.byte()?, script.byte()?);
        let timestamp = script.around(now)?;
        let content = match (what & 0x7f, value) {
            (0, value) => Content::Fence(TOKENS[usize::from(value & 3)]),
            (1, u8::MAX) => Content::Trim(u64::MAX),
            (1, value) => Content::Trim(model.first.saturating_add(value.into())),
            (_, value) => Content::Body(value.into()),
        };
        Some(Self { timestamp: (what & 0x80 != 0).then_some(timestamp), content })
    }
}

/// A stream as the contract tells of it: every record that there was.
struct Model {
    /// The number of the first record.
    first: u64,
    timestamps: Vec<u64>,
    token: &'static str,
    trim_point: u64,
}

impl Model {
    fn tail(&self) -> u64 {
        self.first + self.timestamps.len() as u64
    }

    fn head(&self) -> Head {
        Head {
            tail: Position::new(self.tail(), self.timestamps.last().copied().unwrap_or(0)),
            fencing_token: fencing_token(self.token),
            trim_point: SeqNum::new(self.trim_point),
        }
    }

    /// Positions of the last `records` records.
    fn last(&self, records: usize) -> Vec<Position> {
        let all = (self.first..=u64::MAX)
            .zip(&self.timestamps)
            .map(|(seq_num, timestamp)| Position::new(seq_num, *timestamp));
        all.skip(self.timestamps.len() - records).collect()
    }

    fn append(&mut self, append: &Append) -> Result<(), Rejection> {
        self.judge(append)?;
        for record in &append.records {
            let own = self.tail();
            self.timestamps.push(self.timestamp(record.timestamp, append));
            match record.content {
                Content::Fence(token) => self.token = token,
                Content::Trim(to) if to > own => self.trim_point = own + 1,
                Content::Trim(to) if to > self.trim_point => self.trim_point = to,
                Content::Trim(_) | Content::Body(_) => {}
            }
        }
        Ok(())
    }

    fn judge(&self, append: &Append) -> Result<(), Rejection> {
        if append.token.is_some() && append.token != Some(self.token) {
            return Err(Rejection::FencingTokenMismatch { current: fencing_token(self.token) });
        }
        let next = SeqNum::new(self.tail());
        if append.match_seq_num.is_some() && append.match_seq_num != Some(self.tail()) {
            return Err(Rejection::SeqNumMismatch { next });
        }
        let records = append.records.len();
        if u64::MAX - self.tail() < records as u64 {
            return Err(Rejection::SeqNumsExhausted { next, records });
        }
        let required = append.timestamping.mode == TimestampingMode::ClientRequire;
        match append.records.iter().position(|record| required && record.timestamp.is_none()) {
            Some(index) => Err(Rejection::TimestampMissing { index }),
            None => Ok(()),
        }
    }

    fn timestamp(&self, given: Option<u64>, append: &Append) -> u64 {
        let mut timestamp = given.unwrap_or(append.now);
        if append.timestamping.mode == TimestampingMode::Arrival {
            timestamp = append.now;
        }
        if !append.timestamping.uncapped && timestamp > append.now {
            timestamp = append.now;
        }
        self.timestamps.iter().copied().fold(timestamp, u64::max)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::check;

    /// The seeds of the fuzz target.
    const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/sequencer");

    #[test]
    fn seeds_pass() {
        let seeds: Vec<_> = fs::read_dir(SEEDS).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!seeds.is_empty());
        for seed in seeds {
            check(&fs::read(seed).unwrap());
        }
    }

    proptest! {
        #[test]
        fn admission_is_as_the_contract_tells_it(script in prop::collection::vec(any::<u8>(), 0..400)) {
            check(&script);
        }
    }
}
