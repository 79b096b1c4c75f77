//! Inputs and batches made by hand, for tests, benches and fuzzing. Not part of the interface of the crate.

use std::{mem::replace, ops::Range};

use bytes::Bytes;

use super::{
    AppendBatch, AppendInput, Batch, BatchError, CollectError, Command, FencingToken, SeqNum, Timestamp, layout,
    put_append_record,
};

/// Records on their way to becoming an input.
#[derive(Clone, Debug, Default)]
pub struct Records {
    buffer: Vec<u8>,
    /// Where each record's field ends in the buffer.
    ends: Vec<usize>,
}

impl Records {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And one more.
    #[must_use]
    pub fn record(mut self, timestamp: Option<u64>, headers: &[(&[u8], &[u8])], body: &[u8]) -> Self {
        put_append_record(&mut self.buffer, timestamp.map(Timestamp::new), headers.iter().copied(), body);
        self.ends.push(self.buffer.len());
        self
    }

    /// And one with nothing but a body.
    #[must_use]
    pub fn body(self, timestamp: Option<u64>, body: &[u8]) -> Self {
        self.record(timestamp, &[], body)
    }

    /// And one that is a command.
    #[must_use]
    pub fn command(self, timestamp: Option<u64>, command: Command) -> Self {
        self.record(timestamp, &[(b"", command.name())], &command.body())
    }

    /// And one that sets the fence.
    #[must_use]
    pub fn fence(self, token: &str) -> Self {
        self.command(None, Command::Fence(fencing_token(token)))
    }

    /// And one that trims.
    #[must_use]
    pub fn trim(self, to: u64) -> Self {
        self.command(None, Command::Trim(SeqNum::new(to)))
    }

    /// The batch, if the records may be one.
    pub fn try_batch(self) -> Result<AppendBatch, BatchError> {
        let mut start = 0;
        let messages: Vec<_> =
            self.ends.iter().map(|&end| message(&self.buffer, replace(&mut start, end)..end)).collect();
        AppendBatch::collect(Bytes::from(self.buffer), messages).map_err(|error| match error {
            CollectError::Invalid(error) => error,
            CollectError::NotCanonical => unreachable!("put_append_record writes the canonical form"),
        })
    }

    /// The input without conditions; the records must be within the limits.
    pub fn input(self) -> AppendInput {
        match self.try_batch() {
            Ok(batch) => AppendInput { batch, match_seq_num: None, fencing_token: None },
            Err(error) => panic!("records made by hand are not a batch: {error}"),
        }
    }
}

/// Where in `buffer` the message of the field at `field` lies: behind its tag and its length.
fn message(buffer: &[u8], field: Range<usize>) -> Range<usize> {
    let mut rest = &buffer[field.start + 1..field.end];
    let message = layout::take_delimited(&mut rest).map_or(0, <[u8]>::len);
    field.end - message..field.end
}

/// An input of records with these bodies and timestamps.
pub fn input(records: &[(&str, Option<u64>)]) -> AppendInput {
    let all = records.iter().fold(Records::new(), |all, (body, timestamp)| all.body(*timestamp, body.as_bytes()));
    all.input()
}

/// An input of `count` records with bodies of `len` bytes and no timestamps.
pub fn uniform_input(count: usize, len: usize) -> AppendInput {
    let body = vec![b'x'; len];
    (0..count).fold(Records::new(), |all, _| all.body(None, &body)).input()
}

/// An input of this one command.
pub fn command(command: Command) -> AppendInput {
    Records::new().command(None, command).input()
}

/// `input`, on condition that its first record gets the number `seq_num`.
pub fn with_match(input: AppendInput, seq_num: u64) -> AppendInput {
    AppendInput { match_seq_num: Some(SeqNum::new(seq_num)), ..input }
}

/// `input`, on condition that this token is in force.
pub fn with_fence(input: AppendInput, token: &str) -> AppendInput {
    AppendInput { fencing_token: Some(fencing_token(token)), ..input }
}

/// The token `text` of at most 36 bytes.
pub fn fencing_token(text: &str) -> FencingToken {
    match FencingToken::new(text) {
        Ok(token) => token,
        Err(error) => panic!("{error}"),
    }
}

/// A batch of records with these bodies and timestamps, numbered from `first` on.
pub fn batch(first: u64, records: &[(&str, u64)]) -> Batch {
    let input: Vec<_> = records.iter().map(|&(body, timestamp)| (body, Some(timestamp))).collect();
    Batch::sequence(&self::input(&input).batch, SeqNum::new(first), Option::unwrap_or_default)
}
