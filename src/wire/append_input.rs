//! `AppendInput` → a batch within the limits, and back (`s2s.md` §4, §6.4).
//!
//! Every official client writes the canonical form (`types/layout.rs`), so that form is walked in place: no message is
//! built, nothing is copied, nothing is allocated by record. Whatever else is legal protobuf is first rewritten into it.
//! The second way is also the one that tells what is wrong: bytes that are not protobuf come before a batch that breaks a
//! rule, wherever in the message each of them lies.

use std::ops::Range;

use bytes::{BufMut, Bytes};

use super::{
    DecodeError, Frame, ProtobufError, compress,
    protobuf::{Field, Fields},
};
use crate::types::{
    AppendBatch, AppendInput, BatchError, CollectError, FencingToken, FencingTokenTooLong, SeqNum, Timestamp,
    layout::{self, put_varint},
    limits::MAX_FRAME_MESSAGE,
    put_append_record,
};

/// Tag of `AppendInput.match_seq_num`.
const MATCH_SEQ_NUM: u8 = 0x10;
/// Tag of `AppendInput.fencing_token`.
const FENCING_TOKEN: u8 = 0x1a;

/// Why a client's bytes are not an append.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// They cannot be decoded: 400, `bad_frame` on a session and `bad_proto` in a unary call.
    #[error(transparent)]
    Malformed(DecodeError),
    /// The records are not a batch: 422 `invalid`.
    #[error(transparent)]
    Invalid(BatchError),
    /// The fencing token to be compared is too long to be one: 422 `invalid`.
    #[error(transparent)]
    FencingTokenTooLong(FencingTokenTooLong),
}

impl<E: Into<DecodeError>> From<E> for InputError {
    fn from(error: E) -> Self {
        Self::Malformed(error.into())
    }
}

/// The append that a client's frame asks for.
pub fn append_input_of_frame(frame: Frame) -> Result<AppendInput, InputError> {
    match frame {
        Frame::Terminal(_) => Err(DecodeError::UnexpectedTerminal.into()),
        Frame::Message { compression, body, .. } => {
            decode_append_input(compress::inflate(compression, body, MAX_FRAME_MESSAGE)?)
        }
    }
}

/// The append that an `AppendInput` message asks for. Its records stay slices of `message` if they can.
pub fn decode_append_input(message: Bytes) -> Result<AppendInput, InputError> {
    match decode_canonical(&message) {
        Some(input) => Ok(input),
        None => decode_any_form(&message),
    }
}

/// `None` if there is anything unusual about it, or anything wrong.
fn decode_canonical(message: &Bytes) -> Option<AppendInput> {
    let mut records = CanonicalRanges { len: message.len(), rest: message };
    let batch = AppendBatch::collect(message.clone(), &mut records).ok()?;
    let mut rest = records.rest;
    let match_seq_num = match layout::take_tag(&mut rest, MATCH_SEQ_NUM) {
        true => Some(SeqNum::new(layout::take_varint(&mut rest)?)),
        false => None,
    };
    let fencing_token = match layout::take_tag(&mut rest, FENCING_TOKEN) {
        true => Some(FencingToken::new(std::str::from_utf8(layout::take_delimited(&mut rest)?).ok()?).ok()?),
        false => None,
    };
    rest.is_empty().then_some(AppendInput { batch, match_seq_num, fencing_token })
}

/// Where the records lie that a message begins with; `rest` is what follows them, or the first that is not readable.
struct CanonicalRanges<'a> {
    len: usize,
    rest: &'a [u8],
}

impl Iterator for CanonicalRanges<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let mut rest = self.rest;
        if !layout::take_tag(&mut rest, layout::RECORD) {
            return None;
        }
        let record = layout::take_delimited(&mut rest)?;
        self.rest = rest;
        let end = self.len - rest.len();
        Some(end - record.len()..end)
    }
}

fn decode_any_form(message: &[u8]) -> Result<AppendInput, InputError> {
    // The canonical form is never longer than another one of the same message.
    let mut records = RecordsWriter(Vec::with_capacity(message.len()));
    let (mut match_seq_num, mut fencing_token) = (None, None);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => records.push_message(field)?,
            2 => match_seq_num = Some(SeqNum::new(field.varint()?)),
            3 => fencing_token = Some(field.text()?),
            _ => {}
        }
    }
    let batch = records.into_batch().map_err(InputError::Invalid)?;
    let fencing_token = fencing_token.map(FencingToken::new).transpose().map_err(InputError::FencingTokenTooLong)?;
    Ok(AppendInput { batch, match_seq_num, fencing_token })
}

/// Writes records in the canonical form: what `AppendInput.records` are, one after the other.
#[derive(Clone, Debug, Default)]
pub struct RecordsWriter(Vec<u8>);

impl RecordsWriter {
    /// No records yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record. Whether it is a good one shows in [`RecordsWriter::into_batch`].
    pub fn push<'a, H>(&mut self, timestamp: Option<Timestamp>, headers: H, body: &[u8])
    where
        H: IntoIterator<Item = (&'a [u8], &'a [u8]), IntoIter: Clone>,
    {
        put_append_record(&mut self.0, timestamp, headers.into_iter(), body);
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The batch of these records, if it is one.
    pub fn into_batch(self) -> Result<AppendBatch, BatchError> {
        let buffer = Bytes::from(self.0);
        let records = CanonicalRanges { len: buffer.len(), rest: &buffer };
        AppendBatch::collect(buffer.clone(), records).map_err(|error| match error {
            CollectError::Invalid(error) => error,
            CollectError::NotCanonical => unreachable!("written in the canonical form"),
        })
    }

    /// The `AppendInput` message of these records and conditions. It is not checked: that is the receiver's.
    pub fn into_append_input(self, match_seq_num: Option<SeqNum>, fencing_token: Option<FencingToken>) -> Bytes {
        let mut out = self.0;
        if let Some(seq_num) = match_seq_num {
            out.put_u8(MATCH_SEQ_NUM);
            put_varint(&mut out, seq_num.get());
        }
        // Zero and the empty token are conditions of their own, so a condition is written whenever there is one.
        if let Some(token) = fencing_token {
            out.put_u8(FENCING_TOKEN);
            put_varint(&mut out, token.as_str().len() as u64);
            out.put_slice(token.as_str().as_bytes());
        }
        out.into()
    }

    /// Adds the `AppendRecord` that `field` holds in whatever form.
    fn push_message(&mut self, field: Field<'_>) -> Result<(), ProtobufError> {
        let (mut timestamp, mut body) = (None, &[][..]);
        let fields = field.message()?;
        for field in fields.clone() {
            let field = field?;
            match field.number {
                1 => timestamp = Some(Timestamp::new(field.varint()?)),
                2 => drop(header(field)?),
                3 => body = field.bytes()?,
                _ => {}
            }
        }
        // All of them were read once, so none is lost here.
        let headers = fields.flatten().filter(|field| field.number == 2).flat_map(header);
        put_append_record(&mut self.0, timestamp, headers, body);
        Ok(())
    }
}

/// The name and the value that a `Header` holds in whatever form.
fn header(field: Field<'_>) -> Result<(&[u8], &[u8]), ProtobufError> {
    let (mut name, mut value) = (&[][..], &[][..]);
    for field in field.message()? {
        let field = field?;
        match field.number {
            1 => name = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// The canonical form of `records`: timestamp, headers, body each.
pub fn canonical_records<'a, H>(records: impl IntoIterator<Item = (Option<Timestamp>, H, &'a [u8])>) -> RecordsWriter
where
    H: IntoIterator<Item = (&'a [u8], &'a [u8]), IntoIter: Clone>,
{
    let mut writer = RecordsWriter::new();
    for (timestamp, headers, body) in records {
        writer.push(timestamp, headers, body);
    }
    writer
}

/// The batch of records that [`canonical_records`] wrote.
pub fn batch_from_canonical(records: RecordsWriter) -> Result<AppendBatch, BatchError> {
    records.into_batch()
}
