//! Admission: an input is judged against the head of its stream and becomes a batch, or is refused and changes nothing.
//!
//! It does not know whether what it admitted ever became durable; that is the caller's to see to.
//!
//! ```text
//!   Head { tail, fencing_token, trim_point }
//!      │  fencing token, match_seq_num, numbers left, timestamps: in this order, the first that fails is reported
//!      ▼
//!   Batch at tail …  and  Head { tail', fencing_token', trim_point' }
//! ```

use crate::types::{
    AppendInput, Batch, Command, FencingToken, Head, SeqNum, Timestamp, Timestamping, TimestampingMode,
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
    /// The stream wants the client's timestamps, and a record has none (422).
    #[error("the stream requires a timestamp on every record, record {index} of the batch has none")]
    TimestampMissing {
        /// Which record, from 0; the first of them.
        index: usize,
    },
}

/// The head of a stream as of the last input admitted, and the rules by which it moves.
#[derive(Clone, Debug, Default)]
pub struct Sequencer {
    head: Head,
}

impl Sequencer {
    /// Goes on from `head`.
    pub const fn new(head: Head) -> Self {
        Self { head }
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
        self.check_conditions(input)?;
        self.check_numbers_left(input)?;
        check_timestamps_present(input, timestamping.mode)?;
        let first = self.head.tail.seq_num;
        let batch = Batch::sequence(&input.batch, first, self.stamp(timestamping, now));
        self.head.tail = batch.end();
        for &(index, command) in input.batch.commands() {
            self.obey(command, first.saturating_add(index as u64));
        }
        Ok(batch)
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

fn check_timestamps_present(input: &AppendInput, mode: TimestampingMode) -> Result<(), Rejection> {
    if mode != TimestampingMode::ClientRequire || input.batch.all_timestamped() {
        return Ok(());
    }
    match input.batch.records().position(|record| record.timestamp.is_none()) {
        Some(index) => Err(Rejection::TimestampMissing { index }),
        None => Ok(()),
    }
}
