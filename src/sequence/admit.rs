//! Admission: an input is judged against the head of its stream and becomes a batch, or is refused and changes nothing.
//!
//! It does not know whether what it admitted ever became durable; that is the caller's to see to.
//!
//! ```text
//!   Head { tail, fencing_token, trim_point }
//!      │  fencing token, match_seq_num, numbers left, those for encrypted records, timestamps: in this order, the first that fails is reported
//!      ▼
//!   Batch at tail …  and  Head { tail', fencing_token', trim_point' }
//! ```

use crate::types::{
    AppendInput, Batch, Cipher, Command, FencingToken, Head, SeqNum, Timestamp, Timestamping, TimestampingMode,
    limits::MAX_AES_256_GCM_SEQ_NUM,
};

/// Why an input was refused (`data-plane.md` §2.2, §3). Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The input names another fencing token than the one in force (412).
    #[error("another fencing token is in force: {current:?}")]
    FencingTokenMismatch {
        /// The one in force.
        current: FencingToken,
    },
    /// The first record would not get the number that the input asks for (412).
    #[error("the next record gets sequence number {next}")]
    SeqNumMismatch {
        /// The number that it would get.
        next: SeqNum,
    },
    /// The numbers do not reach for the whole batch (422).
    #[error("{records} records do not fit from sequence number {next} on: the numbers of the stream are used up")]
    SeqNumsExhausted {
        /// The number that the first record would get.
        next: SeqNum,
        /// How many records there are.
        records: usize,
    },
    /// A record that is not a command would get a number past the last that the stream's cipher has one for (422).
    #[error("encrypted records of the stream end at sequence number {last}, one of the batch would get {attempted}")]
    PastLastEncrypted {
        /// The largest number of an encrypted record.
        last: SeqNum,
        /// The number that the first such record would get.
        attempted: SeqNum,
    },
    /// The stream wants the client's timestamps, and a record has none (422).
    #[error("the stream requires a timestamp on every record, record {index} of the batch has none")]
    TimestampMissing {
        /// Which record, from 0; the first of them.
        index: usize,
    },
}

/// The head of a stream as of the last input admitted, and the rules by which it moves.
#[derive(Clone, Debug)]
pub struct Sequencer {
    head: Head,
    /// The largest number for a record that is not a command.
    last_encrypted: SeqNum,
}

impl Sequencer {
    /// Goes on from `head`, in a stream whose records are not encrypted.
    pub const fn new(head: Head) -> Self {
        Self::with_cipher(head, None)
    }

    /// Goes on from `head`, in a stream with this cipher: it may have fewer numbers (`data-plane.md` §11).
    pub const fn with_cipher(head: Head, cipher: Option<Cipher>) -> Self {
        let last_encrypted = match cipher {
            Some(Cipher::Aes256Gcm) => SeqNum::new(MAX_AES_256_GCM_SEQ_NUM),
            Some(Cipher::Aegis256) | None => SeqNum::MAX,
        };
        Self { head, last_encrypted }
    }

    /// Goes back, or on, to `head`: the next input is judged by it.
    pub const fn set_head(&mut self, head: Head) {
        self.head = head;
    }

    /// What the inputs admitted so far leave behind. A caller that has to take back the last one keeps a copy of this.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Gives the records of `input` their numbers and times, arriving at `now`, if its conditions hold.
    ///
    /// The conditions are judged by the head as it was before the input, also where the input itself sets a fence
    /// (`data-plane.md` §3, §4, §5.1).
    pub fn admit(
        &mut self,
        input: &AppendInput,
        timestamping: Timestamping,
        now: Timestamp,
    ) -> Result<Batch, Rejection> {
        self.admit_in(input, timestamping, now, |_len| None::<Vec<u8>>)
    }

    /// The same, the batch in memory that `lend` gives for just so many bytes, if it gives any.
    pub(crate) fn admit_in<M>(
        &mut self,
        input: &AppendInput,
        timestamping: Timestamping,
        now: Timestamp,
        lend: impl FnOnce(usize) -> Option<M>,
    ) -> Result<Batch, Rejection>
    where
        M: AsRef<[u8]> + AsMut<[u8]> + Send + 'static,
    {
        self.check(input, timestamping)?;
        let first = self.head.tail.seq_num;
        let batch = Batch::sequence_in(&input.batch, first, self.stamp(timestamping, now), lend);
        self.head.tail = batch.end();
        for &(index, command) in input.batch.commands() {
            self.obey(command, first.saturating_add(index as u64));
        }
        Ok(batch)
    }

    /// Whether `input` would be admitted now. Changes nothing.
    pub fn check(&self, input: &AppendInput, timestamping: Timestamping) -> Result<(), Rejection> {
        self.check_conditions(input)?;
        self.check_numbers_left(input)?;
        self.check_encrypted_numbers_left(input)?;
        check_timestamps_present(input, timestamping.mode)
    }

    /// The same rules from `head` on.
    #[must_use]
    pub const fn at(&self, head: Head) -> Self {
        Self { head, ..*self }
    }

    /// The fence comes first, so that a writer who was fenced off learns that and not how far the others are.
    fn check_conditions(&self, input: &AppendInput) -> Result<(), Rejection> {
        let Head { tail, fencing_token, .. } = self.head;
        if input.fencing_token.is_some_and(|expected| expected != fencing_token) {
            return Err(Rejection::FencingTokenMismatch { current: fencing_token });
        }
        if input.match_seq_num.is_some_and(|expected| expected != tail.seq_num) {
            return Err(Rejection::SeqNumMismatch { next: tail.seq_num });
        }
        Ok(())
    }

    /// The tail after the batch is a number too: the largest is never given to a record.
    fn check_numbers_left(&self, input: &AppendInput) -> Result<(), Rejection> {
        let (next, records) = (self.head.tail.seq_num, input.batch.len());
        match next.checked_add(records as u64) {
            Some(_) => Ok(()),
            None => Err(Rejection::SeqNumsExhausted { next, records }),
        }
    }

    /// Commands stand in clear, so they may go past the last number of encrypted records: a stream that used them up can
    /// still be trimmed.
    fn check_encrypted_numbers_left(&self, input: &AppendInput) -> Result<(), Rejection> {
        let (next, last) = (self.head.tail.seq_num, self.last_encrypted);
        if next.saturating_add(input.batch.len() as u64 - 1) <= last {
            return Ok(());
        }
        let past = |index: &usize| next.saturating_add(*index as u64) > last;
        let is_command = |index: usize| input.batch.commands().iter().any(|(command, _)| *command == index);
        match (0..input.batch.len()).filter(past).find(|index| !is_command(*index)) {
            Some(index) => Err(Rejection::PastLastEncrypted { last, attempted: next.saturating_add(index as u64) }),
            None => Ok(()),
        }
    }

    /// Decides the timestamps of a batch, record by record (`data-plane.md` §4): choose, cap, never decrease.
    fn stamp(&self, timestamping: Timestamping, now: Timestamp) -> impl FnMut(Option<Timestamp>) -> Timestamp + use<> {
        let latest_allowed = if timestamping.uncapped { Timestamp::new(u64::MAX) } else { now };
        let mut greatest = self.head.tail.timestamp;
        move |given| {
            let chosen = match timestamping.mode {
                TimestampingMode::ClientPrefer | TimestampingMode::ClientRequire => given.unwrap_or(now),
                TimestampingMode::Arrival => now,
            };
            greatest = greatest.max(chosen.min(latest_allowed));
            greatest
        }
    }

    /// Does what the record with the number `own` commands.
    fn obey(&mut self, command: Command, own: SeqNum) {
        match command {
            Command::Fence(token) => self.head.fencing_token = token,
            // Never past the command itself, so a trim cannot remove what came after it.
            Command::Trim(to) => self.head.trim_point = self.head.trim_point.max(to.min(own.saturating_add(1))),
        }
    }
}

impl Default for Sequencer {
    /// At the beginning of a stream whose records are not encrypted.
    fn default() -> Self {
        Self::new(Head::default())
    }
}

fn check_timestamps_present(input: &AppendInput, mode: TimestampingMode) -> Result<(), Rejection> {
    if mode != TimestampingMode::ClientRequire || input.batch.all_timestamped() {
        return Ok(());
    }
    match input.batch.records().position(|record| record.timestamp.is_none()) {
        Some(index) => Err(Rejection::TimestampMissing { index }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{
        Position,
        testing::{self, Records, fencing_token, input, with_fence, with_match},
    };

    const NOW: Timestamp = Timestamp::new(5000);
    const CAPPED: Timestamping = Timestamping { mode: TimestampingMode::ClientPrefer, uncapped: false };

    fn sequencer(tail: Position, token: &str, trim_point: u64) -> Sequencer {
        let head = Head { tail, fencing_token: fencing_token(token), trim_point: SeqNum::new(trim_point) };
        Sequencer::new(head)
    }

    fn timestamps(batch: &Batch) -> Vec<u64> {
        batch.whole().records().map(|record| record.timestamp.get()).collect()
    }

    /// Admits `input`, or says why not; in the latter case nothing may have changed.
    fn admit(sequencer: &mut Sequencer, input: &AppendInput, timestamping: Timestamping) -> Result<Batch, Rejection> {
        let before = *sequencer.head();
        let result = sequencer.admit(input, timestamping, NOW);
        if result.is_err() {
            assert_eq!(*sequencer.head(), before, "a refused input changes nothing");
        }
        result
    }

    #[test]
    fn numbers_go_on_from_the_tail() {
        let mut sequencer = Sequencer::default();
        let first = admit(&mut sequencer, &input(&[("a", None), ("b", None)]), CAPPED).unwrap();
        let second = admit(&mut sequencer, &input(&[("c", None)]), CAPPED).unwrap();
        assert_eq!((first.start(), first.end()), (Position::new(0, 5000), Position::new(2, 5000)));
        assert_eq!((second.start(), second.end()), (Position::new(2, 5000), Position::new(3, 5000)));
        assert_eq!(*sequencer.head(), Head { tail: Position::new(3, 5000), ..Head::default() });
    }

    #[test]
    fn conditions_of_the_contract() {
        // data-plane.md §3; the tail is 45, the token in force "writer-2" or none.
        let plain = || input(&[("x", None)]);
        let other = |current| Some(Rejection::FencingTokenMismatch { current: fencing_token(current) });
        let next = Some(Rejection::SeqNumMismatch { next: SeqNum::new(45) });
        let cases = [
            ("writer-2", plain(), None, "who names no token is not checked"),
            ("writer-2", with_fence(plain(), "writer-2"), None, "the token in force"),
            ("writer-2", with_fence(plain(), "writer-1"), other("writer-2"), "another token"),
            ("writer-2", with_fence(plain(), ""), other("writer-2"), "no token is in force, it claims"),
            ("", with_fence(plain(), ""), None, "no token is in force"),
            ("", with_fence(plain(), "writer-1"), other(""), "a token where none is in force"),
            ("", with_match(plain(), 45), None, "the next number"),
            ("", with_match(plain(), 44), next, "a number taken"),
            ("", with_match(plain(), 46), next, "a number too far"),
            ("", with_match(plain(), 0), next, "zero is a condition"),
            ("writer-2", with_match(with_fence(plain(), "writer-1"), 7), other("writer-2"), "the fence comes first"),
            ("writer-2", with_match(with_fence(plain(), "writer-2"), 7), next, "the number also counts"),
        ];
        for (token, input, expected, why) in cases {
            let mut sequencer = sequencer(Position::new(45, 1000), token, 0);
            assert_eq!(admit(&mut sequencer, &input, CAPPED).err(), expected, "{why}");
        }
        assert!(admit(&mut Sequencer::default(), &with_match(plain(), 0), CAPPED).is_ok(), "zero, and it is empty");
    }

    #[test]
    fn a_batch_is_judged_by_the_old_token_and_its_last_fence_stands() {
        let mut sequencer = sequencer(Position::EMPTY, "old", 0);
        let fences = || Records::new().fence("first").body(None, b"x").fence("last").input();
        let by_the_new_token = admit(&mut sequencer, &with_fence(fences(), "last"), CAPPED);
        assert_eq!(by_the_new_token.unwrap_err(), Rejection::FencingTokenMismatch { current: fencing_token("old") });
        admit(&mut sequencer, &with_fence(fences(), "old"), CAPPED).unwrap();
        assert_eq!(sequencer.head().fencing_token, fencing_token("last"));
        let cleared = testing::command(Command::Fence(FencingToken::NONE));
        admit(&mut sequencer, &with_fence(cleared, "last"), CAPPED).unwrap();
        assert_eq!(sequencer.head().fencing_token, FencingToken::NONE);
    }

    #[test]
    fn timestamps_of_the_contract() {
        // data-plane.md §4: tail timestamp 1000, now 5000.
        use TimestampingMode::{Arrival, ClientPrefer, ClientRequire};
        let given = [Some(900), Some(4000), Some(9000), None, Some(10)];
        let all_given = [Some(0), Some(4000), Some(9000), Some(6000)];
        let cases: [(_, _, &[Option<u64>], &[u64]); 7] = [
            (ClientPrefer, false, &given, &[1000, 4000, 5000, 5000, 5000]),
            (ClientPrefer, true, &given, &[1000, 4000, 9000, 9000, 9000]),
            (Arrival, false, &given, &[5000; 5]),
            (Arrival, true, &given, &[5000; 5]),
            (ClientRequire, false, &all_given, &[1000, 4000, 5000, 5000]),
            (ClientRequire, true, &all_given, &[1000, 4000, 9000, 9000]),
            (ClientPrefer, false, &[None], &[5000]),
        ];
        for (mode, uncapped, given, expected) in cases {
            let records: Vec<_> = given.iter().map(|timestamp| ("x", *timestamp)).collect();
            let mut sequencer = sequencer(Position::new(7, 1000), "", 0);
            let batch = admit(&mut sequencer, &input(&records), Timestamping { mode, uncapped }).unwrap();
            assert_eq!(timestamps(&batch), expected, "{mode:?}, uncapped: {uncapped}");
            assert_eq!(sequencer.head().tail, batch.end());
        }
    }

    #[test]
    fn timestamps_do_not_follow_a_clock_that_steps_back() {
        // Monotonicity comes after the cap, so what is stored may lie past `now` (data-plane.md §4).
        let mut sequencer = sequencer(Position::new(7, 8000), "", 0);
        let batch = admit(&mut sequencer, &input(&[("x", None), ("x", Some(6000))]), CAPPED).unwrap();
        assert_eq!(timestamps(&batch), [8000, 8000]);
    }

    #[test]
    fn a_required_timestamp_is_required_of_every_record() {
        let require = Timestamping { mode: TimestampingMode::ClientRequire, uncapped: false };
        let cases = [
            (input(&[("x", None)]), 0),
            (input(&[("x", Some(0)), ("x", Some(1)), ("x", None), ("x", None)]), 2),
            (Records::new().body(Some(1), b"x").fence("t").input(), 1),
            (Records::new().trim(3).input(), 0),
        ];
        for (input, index) in cases {
            let result = admit(&mut Sequencer::default(), &input, require);
            assert_eq!(result.unwrap_err(), Rejection::TimestampMissing { index });
        }
        let late = admit(&mut Sequencer::default(), &with_match(input(&[("x", None)]), 9), require);
        assert_eq!(late.unwrap_err(), Rejection::SeqNumMismatch { next: SeqNum::FIRST }, "conditions come first");
    }

    #[test]
    fn the_largest_number_is_never_given_away() {
        let tail = SeqNum::MAX.get() - 2;
        let mut sequencer = sequencer(Position::new(tail, 0), "", 0);
        let three = admit(&mut sequencer, &input(&[("x", None); 3]), CAPPED);
        assert_eq!(three.unwrap_err(), Rejection::SeqNumsExhausted { next: SeqNum::new(tail), records: 3 });
        let two = admit(&mut sequencer, &input(&[("x", None); 2]), CAPPED).unwrap();
        assert_eq!(two.end().seq_num, SeqNum::MAX);
        assert!(admit(&mut sequencer, &input(&[("x", None)]), CAPPED).is_err());
    }

    #[test]
    fn encrypted_records_end_where_their_nonces_do() {
        // data-plane.md §11; the last number of an encrypted record is 2^32 - 1.
        let plain = |count| (0..count).fold(Records::new(), |all, _| all.body(None, b"x"));
        let (last, gcm, aegis) = (u64::from(u32::MAX), Some(Cipher::Aes256Gcm), Some(Cipher::Aegis256));
        let cases = [
            (gcm, last - 1, plain(2), None),
            (gcm, last - 1, plain(3), Some(last + 1)),
            (gcm, last, plain(1), None),
            (gcm, last + 1, plain(1), Some(last + 1)),
            (gcm, last + 7, plain(2), Some(last + 7)),
            (gcm, last - 1, plain(2).trim(0).fence("t"), None),
            (gcm, last, Records::new().fence("t").body(None, b"x"), Some(last + 1)),
            (gcm, last, Records::new().trim(0).trim(1).body(None, b"x").body(None, b"y"), Some(last + 2)),
            (gcm, last + 1000, Records::new().trim(u64::MAX), None),
            (aegis, last, plain(1000), None),
            (None, last, plain(1000), None),
        ];
        for (cipher, tail, records, attempted) in cases {
            let head = Head { tail: Position::new(tail, 0), ..Head::default() };
            let mut sequencer = Sequencer::with_cipher(head, cipher);
            let result = admit(&mut sequencer, &records.input(), CAPPED).map(|batch| batch.start().seq_num);
            let expected = match attempted {
                Some(attempted) => {
                    Err(Rejection::PastLastEncrypted { last: SeqNum::new(last), attempted: SeqNum::new(attempted) })
                }
                None => Ok(SeqNum::new(tail)),
            };
            assert_eq!(result, expected, "{cipher:?} at {tail}");
        }
    }

    #[test]
    fn trim_points_of_the_contract() {
        // data-plane.md §5.1; the tail is 10, the trim point 4, the command is the second record: number 11.
        let cases = [(0, 4), (3, 4), (4, 4), (5, 5), (10, 10), (11, 11), (12, 12), (13, 12), (u64::MAX, 12)];
        for (to, expected) in cases {
            let mut sequencer = sequencer(Position::new(10, 0), "", 4);
            let trim = Records::new().body(None, b"x").trim(to).body(None, b"stays").input();
            admit(&mut sequencer, &trim, CAPPED).unwrap();
            assert_eq!(sequencer.head().trim_point, SeqNum::new(expected), "trim to {to}");
            assert_eq!(sequencer.head().tail.seq_num, SeqNum::new(13), "the tail moves by the records alone");
        }
    }

    #[test]
    fn of_several_trims_the_furthest_stands() {
        let mut sequencer = sequencer(Position::new(10, 0), "", 0);
        admit(&mut sequencer, &Records::new().trim(8).trim(3).input(), CAPPED).unwrap();
        assert_eq!(sequencer.head().trim_point, SeqNum::new(8));
    }
}
