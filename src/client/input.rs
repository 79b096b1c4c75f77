//! One append input as it is sent: built record by record, once, into the frame that goes out; or, for a request of its
//! own, as JSON.

use bytes::Bytes;

use crate::{
    types::{
        Compression, FencingToken, SeqNum, Timestamp,
        limits::{MAX_BATCH_METERED, MAX_BATCH_RECORDS},
        metered_size,
    },
    wire::{Advice, FrameTooLong, RecordsWriter, calls, message_frame},
};

/// Under which conditions an input may go in (`data-plane.md` §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The number that its first record must get.
    pub match_seq_num: Option<SeqNum>,
    /// The token that must be in force.
    pub fencing_token: Option<FencingToken>,
}

/// Records on their way into an input.
#[derive(Clone, Debug, Default)]
pub struct InputBuilder {
    records: RecordsWriter,
    count: usize,
    metered: usize,
}

impl InputBuilder {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a record of `metered` bytes goes in beside those that are there: 1000 records and 1 MiB are the limit.
    pub fn has_room(&self, metered: usize) -> bool {
        self.count < MAX_BATCH_RECORDS && self.metered + metered <= MAX_BATCH_METERED
    }

    /// Adds a record. Limits are not checked here: [`InputBuilder::has_room`] says whether the server would take it.
    pub fn push<'a, H>(&mut self, timestamp: Option<Timestamp>, headers: H, body: &[u8])
    where
        H: IntoIterator<Item = (&'a [u8], &'a [u8]), IntoIter: Clone>,
    {
        let headers = headers.into_iter();
        let (count, bytes) =
            headers.clone().fold((0, 0), |(count, bytes), (name, value)| (count + 1, bytes + name.len() + value.len()));
        self.count += 1;
        self.metered += metered_size(count, bytes, body.len());
        self.records.push(timestamp, headers, body);
    }

    /// Records so far.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Metered bytes so far.
    pub fn metered(&self) -> usize {
        self.metered
    }

    /// Bytes of the message so far.
    pub(super) fn message_len(&self) -> usize {
        self.records.len()
    }

    /// The input of these records, compressed if that is asked for and worth it (1 KiB and more).
    pub fn build(self, conditions: Conditions, compression: Compression) -> Result<EncodedInput, FrameTooLong> {
        let Conditions { match_seq_num, fencing_token } = conditions;
        let message = self.records.into_append_input(match_seq_num, fencing_token);
        Ok(EncodedInput {
            frame: message_frame(compression, Advice::None, &message)?,
            records: self.count,
            metered: self.metered,
            is_positioned: match_seq_num.is_some(),
        })
    }
}

/// An input as it is sent, as often as it takes.
#[derive(Clone, Debug)]
pub struct EncodedInput {
    frame: Bytes,
    records: usize,
    metered: usize,
    is_positioned: bool,
}

impl EncodedInput {
    /// An input without conditions whose frame was made elsewhere.
    pub(super) fn of_frame(frame: Bytes, records: usize, metered: usize) -> Self {
        Self { frame, records, metered, is_positioned: false }
    }

    /// Its frame; a cheap handle.
    pub(super) fn frame(&self) -> Bytes {
        self.frame.clone()
    }

    /// How many records.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Metered bytes of the records.
    pub fn metered(&self) -> usize {
        self.metered
    }

    /// Whether it names the number that its first record must get, so that it cannot go in twice.
    pub fn is_positioned(&self) -> bool {
        self.is_positioned
    }
}

/// An input of a unary append: JSON, its bodies in base64 so that they may be any bytes.
#[derive(Clone, Debug)]
pub struct JsonInput {
    json: Bytes,
    records: usize,
}

impl JsonInput {
    /// Of records with these bodies and nothing else. Limits are not checked here.
    pub fn new<'a>(bodies: impl IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator>) -> Self {
        let bodies = bodies.into_iter();
        Self { records: bodies.len(), json: calls::append_records(bodies) }
    }

    /// The body of its request; a cheap handle.
    pub(super) fn json(&self) -> Bytes {
        self.json.clone()
    }

    /// How many records.
    pub fn records(&self) -> usize {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_the_worked_frame() {
        // s2s.md §5.1: record `x`, match_seq_num = 0, fencing_token = `w1`
        let mut builder = InputBuilder::new();
        builder.push(None, [], b"x");
        let fencing_token = Some(FencingToken::new("w1").unwrap());
        let conditions = Conditions { match_seq_num: Some(SeqNum::FIRST), fencing_token };
        let input = builder.build(conditions, Compression::None).unwrap();
        assert_eq!(&input.frame()[..], b"\0\0\x0c\0\x0a\x03\x1a\x01x\x10\0\x1a\x02w1");
        assert_eq!((input.records(), input.metered(), input.is_positioned()), (1, 9, true));
    }

    #[test]
    fn limits() {
        let mut builder = InputBuilder::new();
        assert!(builder.has_room(MAX_BATCH_METERED));
        assert!(!builder.has_room(MAX_BATCH_METERED + 1));
        builder.push(None, [(&b"k"[..], &b"v"[..])], b"hello");
        assert_eq!((builder.len(), builder.metered()), (1, 17));
        assert!(builder.has_room(MAX_BATCH_METERED - 17));
        assert!(!builder.has_room(MAX_BATCH_METERED - 16));
        for _ in 1..MAX_BATCH_RECORDS {
            builder.push(None, [], b"");
        }
        assert!(!builder.has_room(8));
    }

    #[test]
    fn what_is_worth_it_is_compressed() {
        let build = |len| {
            let mut builder = InputBuilder::new();
            builder.push(None, [], &vec![b'a'; len]);
            builder.build(Conditions::default(), Compression::Zstd).unwrap().frame()
        };
        assert_eq!(build(1000)[3], 0x00, "below the threshold");
        assert_eq!(build(2000)[3], 0x20);
    }
}
