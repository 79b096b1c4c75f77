//! What a client asks to append: a batch within the limits, and the conditions under which it may go in.
//!
//! A batch keeps the bytes it came in. Where its records lie in them, and what they ask for, is known; nothing was
//! copied yet. Such a value cannot exist out of limits (`data-plane.md` §1.2).

use std::ops::Range;

use bytes::{BufMut, Bytes};

use super::{
    Batch, Command, FencingToken, Position, RecordError, RecordFields, SeqNum, Timestamp,
    layout::{self, bytes_field_len, put_bytes_field, put_varint, varint_len},
    limits::{MAX_BATCH_METERED, MAX_BATCH_RECORDS, MAX_FRAME_MESSAGE},
    metered_size,
};

/// Why records are not a batch (422 `invalid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// No records.
    #[error("a record batch must not be empty")]
    Empty,
    /// More than 1000 records.
    #[error("a record batch must not exceed {MAX_BATCH_RECORDS} records")]
    TooManyRecords,
    /// More than 1 MiB metered.
    #[error("a record batch must not exceed {MAX_BATCH_METERED} metered bytes")]
    TooLarge,
    /// One of the records is at fault, and with it the whole batch.
    #[error("record {index} of the batch: {error}")]
    Record {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        error: RecordError,
    },
}

/// Why bytes did not become a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CollectError {
    /// A record's bytes are not in the canonical form; they may still be a good message.
    NotCanonical,
    /// The records are readable and break a rule.
    Invalid(BatchError),
}

/// Where a record lies in the buffer of its batch, and what was learnt on the way through it.
#[derive(Clone, Copy, Debug)]
struct Span {
    timestamp: Option<Timestamp>,
    /// Headers and body, without the timestamp.
    fields_start: u32,
    fields_end: u32,
    /// Bytes of headers: where in the fields the body begins.
    headers_len: u32,
    metered: u32,
}

impl Span {
    /// Walks the `AppendRecord` that `range` of `buffer` holds; `command` is told if it is one.
    fn parse(buffer: &[u8], range: Range<usize>, command: impl FnOnce(Command)) -> Result<Self, SpanError> {
        let end = range.end;
        let mut rest = &buffer[range];
        let timestamp = match layout::take_tag(&mut rest, layout::APPEND_TIMESTAMP) {
            true => Some(Timestamp::new(layout::take_varint(&mut rest).ok_or(SpanError::NotCanonical)?)),
            false => None,
        };
        let fields_start = end - rest.len();
        let headers = HeaderWalk::run(&mut rest).ok_or(SpanError::NotCanonical)?;
        let body_start = end - rest.len();
        let body = optional_field(&mut rest, layout::APPEND_BODY).ok_or(SpanError::NotCanonical)?;
        if !rest.is_empty() {
            return Err(SpanError::NotCanonical);
        }
        let metered = metered_size(headers.count, headers.bytes, body.len());
        let span = Self {
            timestamp,
            fields_start: fields_start as u32,
            fields_end: end as u32,
            headers_len: (body_start - fields_start) as u32,
            metered: metered as u32,
        };
        span.check_size(metered).map_err(SpanError::Invalid)?;
        if headers.nameless > 0 {
            command(headers.command(body).map_err(SpanError::Invalid)?);
        }
        Ok(span)
    }

    fn check_size(&self, metered: usize) -> Result<(), RecordError> {
        if metered > MAX_BATCH_METERED {
            return Err(RecordError::TooLarge { metered });
        }
        // A quarter of a million one-byte headers take twice their metered size, and a reader's frame adds the number,
        // the time, the record's own head and the tail: what could never be read back is not let in.
        let longest = SeqNum::MAX.get();
        let message = layout::uint_field_len(longest) * 2 + self.fields_len();
        let encoded = 1 + varint_len(message as u64) + message + layout::MAX_TAIL_FIELD_LEN;
        match encoded > MAX_FRAME_MESSAGE {
            true => Err(RecordError::TooLongEncoded { encoded }),
            false => Ok(()),
        }
    }

    fn fields_len(&self) -> usize {
        (self.fields_end - self.fields_start) as usize
    }
}

enum SpanError {
    NotCanonical,
    Invalid(RecordError),
}

/// A length-delimited field that is left out when empty.
fn optional_field<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    match layout::take_tag(rest, tag) {
        true => layout::take_delimited(rest).filter(|field| !field.is_empty()),
        false => Some(&[]),
    }
}

/// What a walk over a record's headers learns.
#[derive(Default)]
struct HeaderWalk<'a> {
    count: usize,
    bytes: usize,
    nameless: usize,
    last_value: &'a [u8],
}

impl<'a> HeaderWalk<'a> {
    /// `None` if the headers are not canonical.
    fn run(rest: &mut &'a [u8]) -> Option<Self> {
        let mut walk = Self::default();
        while layout::take_tag(rest, layout::APPEND_HEADER) {
            let mut header = layout::take_delimited(rest)?;
            let name = optional_field(&mut header, layout::HEADER_NAME)?;
            let value = optional_field(&mut header, layout::HEADER_VALUE)?;
            if !header.is_empty() {
                return None;
            }
            walk.count += 1;
            walk.bytes += name.len() + value.len();
            walk.nameless += usize::from(name.is_empty());
            walk.last_value = value;
        }
        Some(walk)
    }

    /// The command that a record with a nameless header is.
    fn command(&self, body: &[u8]) -> Result<Command, RecordError> {
        match self.count {
            1 => Command::parse(self.last_value, body),
            _ => Err(RecordError::EmptyHeaderName),
        }
    }
}

/// 1 to 1000 records of at most 1 MiB metered, each well formed, as slices of the buffer they came in.
#[derive(Clone, Debug)]
pub struct AppendBatch {
    buffer: Bytes,
    spans: Vec<Span>,
    commands: Vec<(usize, Command)>,
    metered: usize,
    all_timestamped: bool,
}

impl AppendBatch {
    /// Collects the `AppendRecord` messages that lie at `records` in `buffer`.
    ///
    /// The limits come first in the order in which a walk meets them; a batch with several faults reports one.
    pub(crate) fn collect(
        buffer: Bytes,
        records: impl IntoIterator<Item = Range<usize>>,
    ) -> Result<Self, CollectError> {
        let (mut spans, mut commands, mut metered, mut all_timestamped) = (Vec::new(), Vec::new(), 0, true);
        for (index, range) in records.into_iter().enumerate() {
            match index {
                // Records of a batch are mostly alike, so the first tells how many there may be; tag and length take two.
                0 => spans.reserve((buffer.len() / (range.len() + 2)).clamp(1, MAX_BATCH_RECORDS)),
                MAX_BATCH_RECORDS => return Err(CollectError::Invalid(BatchError::TooManyRecords)),
                _ => {}
            }
            let command = |command| commands.push((index, command));
            let span = Span::parse(&buffer, range, command).map_err(|error| match error {
                SpanError::NotCanonical => CollectError::NotCanonical,
                SpanError::Invalid(error) => CollectError::Invalid(BatchError::Record { index, error }),
            })?;
            metered += span.metered as usize;
            if metered > MAX_BATCH_METERED {
                return Err(CollectError::Invalid(BatchError::TooLarge));
            }
            all_timestamped &= span.timestamp.is_some();
            spans.push(span);
        }
        match spans.is_empty() {
            true => Err(CollectError::Invalid(BatchError::Empty)),
            false => Ok(Self { buffer, spans, commands, metered, all_timestamped }),
        }
    }

    /// The same records with their headers and bodies in envelopes: a body of `front` bytes, the fields of the record as
    /// a `SequencedRecord` has them, and `back` bytes. `seal` is given each to do with as it likes.
    ///
    /// Commands stay as they are. Timestamps, metered sizes and commands are those of the records in the envelopes.
    pub(crate) fn in_envelopes(&self, front: usize, back: usize, mut seal: impl FnMut(&mut [u8])) -> Self {
        let envelope_len = |span: &Span| bytes_field_len(front + span.fields_len() + back);
        let mut buffer = Vec::with_capacity(self.spans.iter().map(envelope_len).sum());
        let mut commands = self.commands.iter().map(|(index, _)| *index).peekable();
        let put = |(index, span): (usize, &Span)| {
            let fields = &self.buffer[span.fields_start as usize..span.fields_end as usize];
            let fields_start = buffer.len() as u32;
            let headers_len = match commands.next_if_eq(&index) {
                Some(_) => {
                    buffer.put_slice(fields);
                    span.headers_len
                }
                None => {
                    let envelope = put_envelope(&mut buffer, front, fields, back);
                    layout::retag_fields(&mut envelope[front..front + fields.len()], span.headers_len as usize);
                    seal(envelope);
                    0
                }
            };
            Span { fields_start, fields_end: buffer.len() as u32, headers_len, ..*span }
        };
        let spans = self.spans.iter().enumerate().map(put).collect();
        Self { buffer: buffer.into(), spans, commands: self.commands.clone(), ..*self }
    }

    /// How many records: 1 to 1000.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Metered bytes: 8 to 1 MiB.
    pub fn metered(&self) -> usize {
        self.metered
    }

    /// Bytes of memory that the batch made of it takes, at most.
    pub fn sequenced_memory(&self) -> usize {
        // No form of a record takes more than twice its metered size.
        self.buffer.len().min(2 * self.metered) + self.spans.len() * Batch::RECORD_MEMORY + Batch::MEMORY
    }

    /// Whether every record came with a timestamp.
    pub fn all_timestamped(&self) -> bool {
        self.all_timestamped
    }

    /// The commands among the records, each with its place in the batch, in order.
    pub fn commands(&self) -> &[(usize, Command)] {
        &self.commands
    }

    /// The records, in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = AppendRecord<'_>> {
        self.spans.iter().map(|span| AppendRecord {
            timestamp: span.timestamp,
            metered: span.metered,
            headers_len: span.headers_len as usize,
            fields: &self.buffer[span.fields_start as usize..span.fields_end as usize],
        })
    }
}

/// A record on its way in, as slices of the buffer it came in.
#[derive(Clone, Copy, Debug)]
pub struct AppendRecord<'a> {
    /// The client's timestamp, if it gave one.
    pub timestamp: Option<Timestamp>,
    pub(super) metered: u32,
    /// Where in `encoded` the body begins.
    pub(super) headers_len: usize,
    /// Headers and body with the tags of an `AppendRecord`.
    pub(super) fields: &'a [u8],
}

impl<'a> AppendRecord<'a> {
    /// Headers and body.
    pub fn fields(&self) -> RecordFields<'a> {
        RecordFields::of_append(self.fields)
    }

    /// Metered bytes.
    pub fn metered(&self) -> usize {
        self.metered as usize
    }
}

/// Writes the body of an `AppendRecord` with `fields` between `front` and `back` zero bytes; returns what is in it.
fn put_envelope<'a>(out: &'a mut Vec<u8>, front: usize, fields: &[u8], back: usize) -> &'a mut [u8] {
    out.put_u8(layout::APPEND_BODY);
    put_varint(out, (front + fields.len() + back) as u64);
    let at = out.len();
    out.put_bytes(0, front);
    out.put_slice(fields);
    out.put_bytes(0, back);
    &mut out[at..]
}

/// Writes the canonical `AppendInput.records` field of a record to the end of `out`.
pub(crate) fn put_append_record<'a, H>(out: &mut Vec<u8>, timestamp: Option<Timestamp>, headers: H, body: &[u8])
where
    H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
{
    let header_len = |name: &[u8], value: &[u8]| bytes_field_len(name.len()) + bytes_field_len(value.len());
    let field_len = |len: usize| 1 + varint_len(len as u64) + len;
    let headers_len: usize = headers.clone().map(|(name, value)| field_len(header_len(name, value))).sum();
    // Zero is a timestamp of its own here, so the field is written whenever there is one.
    let timestamp_len = timestamp.map_or(0, |timestamp| 1 + varint_len(timestamp.get()));

    out.put_u8(layout::RECORD);
    put_varint(out, (timestamp_len + headers_len + bytes_field_len(body.len())) as u64);
    if let Some(timestamp) = timestamp {
        out.put_u8(layout::APPEND_TIMESTAMP);
        put_varint(out, timestamp.get());
    }
    for (name, value) in headers {
        out.put_u8(layout::APPEND_HEADER);
        put_varint(out, header_len(name, value) as u64);
        put_bytes_field(out, layout::HEADER_NAME, name);
        put_bytes_field(out, layout::HEADER_VALUE, value);
    }
    put_bytes_field(out, layout::APPEND_BODY, body);
}

/// A batch to append and the conditions under which it may be (`data-plane.md` §3).
#[derive(Clone, Debug)]
pub struct AppendInput {
    /// The records.
    pub batch: AppendBatch,
    /// The number that the first record must get, if that matters.
    pub match_seq_num: Option<SeqNum>,
    /// The fencing token that must be in force, if that matters.
    pub fencing_token: Option<FencingToken>,
}

/// What became of an accepted batch (`data-plane.md` §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendAck {
    /// Position of the first record.
    pub start: Position,
    /// The number after the last record, and the last record's timestamp.
    pub end: Position,
    /// The durable tail when the ack was made; at or past `end`.
    pub tail: Position,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::types::FencingTokenTooLong;

    type Headers<'a> = &'a [(&'a [u8], &'a [u8])];

    /// The batch of records that are timestamp, headers, body each.
    pub(crate) fn batch_of(records: &[(Option<u64>, Headers<'_>, &[u8])]) -> Result<AppendBatch, BatchError> {
        let (mut buffer, mut ranges) = (Vec::new(), Vec::new());
        for (timestamp, headers, body) in records {
            let mut record = Vec::new();
            put_append_record(&mut record, timestamp.map(Timestamp::new), headers.iter().copied(), body);
            let message = layout::take_delimited(&mut &record[1..]).unwrap().len();
            buffer.extend(record);
            ranges.push(buffer.len() - message..buffer.len());
        }
        AppendBatch::collect(buffer.into(), ranges).map_err(|error| match error {
            CollectError::Invalid(error) => error,
            CollectError::NotCanonical => panic!("just written"),
        })
    }

    fn record_error(headers: Headers<'_>, body: &[u8]) -> Option<RecordError> {
        // Behind a good record, so that the index is seen to be right.
        match batch_of(&[(None, &[], b"good"), (None, headers, body)]) {
            Ok(_) => None,
            Err(BatchError::Record { index: 1, error }) => Some(error),
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn what_a_batch_will_take_is_known_before_it_is_made() {
        let headers: Headers<'_> = &[(b"name", b"value"), (b"x", b"")];
        let most_headers: Vec<_> = (0..2_000).map(|_| (&b"x"[..], &b""[..])).collect();
        for records in [
            vec![(None, &[][..], &[][..]); 1000],
            vec![(Some(u64::MAX), headers, &b"a body"[..]); 10],
            vec![(None, &most_headers, &[0; 1000])],
        ] {
            let append = batch_of(&records).unwrap();
            let first = SeqNum::new(1 << 63);
            let batch = Batch::sequence(&append, first, |_| Timestamp::new(u64::MAX));
            let (memory, expected) = (batch.memory(), append.sequenced_memory());
            assert!(memory <= expected && expected < 5 * memory, "{memory} of {expected}");
        }
    }

    #[test]
    fn one_to_a_thousand_records() {
        // data-plane.md §1.2
        assert_eq!(batch_of(&[]).unwrap_err(), BatchError::Empty);
        let record = (None, &[][..], &[][..]);
        assert_eq!(batch_of(&[record; 1]).unwrap().len(), 1);
        let most = batch_of(&[record; 1000]).unwrap();
        assert_eq!((most.len(), most.metered(), most.records().len()), (1000, 8000, 1000));
        assert_eq!(batch_of(&[record; 1001]).unwrap_err(), BatchError::TooManyRecords);
    }

    #[test]
    fn a_mebibyte_metered_and_not_one_more() {
        let body = vec![b'a'; 1_048_569];
        let largest = (None, &[][..], &body[..1_048_568]);
        assert_eq!(batch_of(&[largest]).unwrap().metered(), 1_048_576);
        let too_large = RecordError::TooLarge { metered: 1_048_577 };
        let error = batch_of(&[(None, &[], &body)]).unwrap_err();
        assert_eq!(error, BatchError::Record { index: 0, error: too_large });
        assert_eq!(batch_of(&[largest, (None, &[], b"")]).unwrap_err(), BatchError::TooLarge);

        let half = (None, &[][..], &body[..524_280]);
        assert_eq!(batch_of(&[half, half]).unwrap().metered(), 1_048_576);
        let half_and_one = (None, &[][..], &body[..524_281]);
        assert_eq!(batch_of(&[half, half_and_one]).unwrap_err(), BatchError::TooLarge);
    }

    #[test]
    fn a_record_that_no_frame_could_show_is_refused() {
        // Headers of one byte each take 8 bytes and are metered 4.
        let header = (&b"n"[..], &b"v"[..]);
        let headers = vec![header; 262_130];
        let metered = 8 + 4 * headers.len();
        assert!(metered < MAX_BATCH_METERED);
        let at_most = 1 + 4 + 2 * 11 + 8 * headers.len() + layout::MAX_TAIL_FIELD_LEN;
        assert!(at_most <= MAX_FRAME_MESSAGE);
        assert_eq!(record_error(&headers, b""), None);
        let headers = vec![header; 262_142];
        let encoded = at_most + 8 * 12;
        assert_eq!(record_error(&headers, b""), Some(RecordError::TooLongEncoded { encoded }));
    }

    #[test]
    fn nameless_headers() {
        // data-plane.md §1.3
        let (none, named, fence) = ((&b""[..], &b""[..]), (&b"k"[..], &b"v"[..]), (&b""[..], &b"fence"[..]));
        for headers in [&[none, named][..], &[named, none], &[none, none], &[fence, fence], &[fence, named]] {
            assert_eq!(record_error(headers, b""), Some(RecordError::EmptyHeaderName), "{headers:?}");
        }
        for headers in [&[][..], &[named], &[named, named], &[(b"fence", b"")], &[(b"k", b"")], &[(b"\xff", b"\xff")]] {
            assert_eq!(record_error(headers, b"not a token, far too long to be one"), None, "{headers:?}");
        }
    }

    #[test]
    fn command_records() {
        // data-plane.md §1.3
        let too_long = RecordError::FenceTooLong(FencingTokenTooLong { len: 37 });
        for (name, body, error) in [
            (&b"fence"[..], &b""[..], None),
            (b"fence", &[b'x'; 36], None),
            (b"fence", &[b'x'; 37], Some(too_long)),
            (b"fence", b"\xff", Some(RecordError::FenceNotUtf8)),
            (b"trim", &[0; 8], None),
            (b"trim", &[0; 7], Some(RecordError::TrimLength { len: 7 })),
            (b"trim", &[0; 9], Some(RecordError::TrimLength { len: 9 })),
            (b"trim", b"", Some(RecordError::TrimLength { len: 0 })),
            (b"compact", b"", Some(RecordError::UnknownCommand)),
            (b"Fence", b"", Some(RecordError::UnknownCommand)),
            (b"fence ", b"", Some(RecordError::UnknownCommand)),
            (b"", b"", Some(RecordError::UnknownCommand)),
        ] {
            assert_eq!(record_error(&[(b"", name)], body), error, "{name:?} {body:?}");
        }
    }

    #[test]
    fn commands_are_found_among_the_records() {
        let batch = batch_of(&[
            (None, &[], b"a"),
            (Some(5), &[(b"", b"fence")], b"w1"),
            (None, &[(b"fence", b"")], b"w2"),
            (None, &[(b"", b"trim")], &7u64.to_be_bytes()),
        ])
        .unwrap();
        let fence = Command::Fence(FencingToken::new("w1").unwrap());
        assert_eq!(batch.commands(), [(1, fence), (3, Command::Trim(SeqNum::new(7)))]);
        assert_eq!(batch.metered(), 9 + 17 + 17 + 22);
        assert!(!batch.all_timestamped());
    }

    #[test]
    fn timestamps_of_zero_are_timestamps() {
        let batch = batch_of(&[(Some(0), &[], b"a"), (Some(u64::MAX), &[], b"")]).unwrap();
        assert!(batch.all_timestamped());
        let timestamps: Vec<_> = batch.records().map(|record| record.timestamp.map(Timestamp::get)).collect();
        assert_eq!(timestamps, [Some(0), Some(u64::MAX)]);
    }

    #[test]
    fn only_the_canonical_form_is_collected() {
        for record in [
            &[0x1a, 0x00][..],                              // an empty body that is written
            &[0x08, 0x80, 0x00],                            // a longer number than need be
            &[0x1a, 0x01, b'x', 0x08, 1],                   // fields out of order
            &[0x08, 1, 0x08, 2],                            // a field twice
            &[0x20, 1],                                     // an unknown field
            &[0x1a, 0x02, b'x'],                            // not all there
            &[0x12, 0x02, 0x0a, 0x00],                      // an empty name that is written
            &[0x12, 0x06, 0x12, 1, b'v', 0x0a, 1, b'k'],    // value before name
            &[0x1a, 0x01, b'x', 0x12, 0x03, 0x0a, 1, b'k'], // a header behind the body
        ] {
            let buffer = Bytes::copy_from_slice(record);
            let result = AppendBatch::collect(buffer, std::iter::once(0..record.len()));
            assert_eq!(result.unwrap_err(), CollectError::NotCanonical, "{record:02x?}");
        }
    }
}
