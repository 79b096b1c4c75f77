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
        let buffer = without_spare_room(self.0);
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

/// `bytes` alone: they may wait for long, and would keep the room that their message had for fields that mean nothing.
pub(super) fn without_spare_room(mut bytes: Vec<u8>) -> Bytes {
    bytes.shrink_to_fit();
    bytes.into()
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::{collection::vec, prelude::*};
    use prost::Message;

    use super::*;
    use crate::{
        types::{Compression, RecordError, limits::MAX_BATCH_RECORDS},
        wire::{Advice, FrameError, InflateError, Terminal, fuzz, proto},
    };

    fn input(records: usize) -> proto::AppendInput {
        proto::AppendInput { records: vec![proto::AppendRecord::default(); records], ..Default::default() }
    }

    fn decode(message: &[u8]) -> Result<AppendInput, InputError> {
        decode_append_input(Bytes::copy_from_slice(message))
    }

    fn malformed(error: ProtobufError) -> InputError {
        InputError::Malformed(DecodeError::Protobuf(error))
    }

    #[test]
    fn what_prost_writes_is_read_in_place() {
        let message = proto::AppendInput {
            records: vec![
                proto::AppendRecord {
                    timestamp: Some(0),
                    headers: vec![
                        proto::Header { name: "k".into(), value: Bytes::new() },
                        proto::Header { name: "k".into(), value: vec![0xff; 300].into() },
                    ],
                    body: "hello".into(),
                },
                proto::AppendRecord { timestamp: None, headers: vec![], body: vec![7; 1000].into() },
                proto::AppendRecord { timestamp: Some(u64::MAX), headers: vec![], body: Bytes::new() },
            ],
            match_seq_num: Some(0),
            fencing_token: Some(String::new()),
        };
        let message = Bytes::from(message.encode_to_vec());
        let input = decode_canonical(&message).unwrap();
        assert_eq!((input.match_seq_num, input.fencing_token), (Some(SeqNum::FIRST), Some(FencingToken::NONE)));
        let body = input.batch.records().nth(1).unwrap().fields().body();
        assert!(message.as_ptr_range().contains(&body.as_ptr()), "a slice of the message");
        fuzz::append_input(&message);
    }

    #[test]
    fn what_is_written_anew_keeps_no_room_of_the_message() {
        let mut writer = RecordsWriter(Vec::with_capacity(1 << 20));
        writer.push(None, [], b"x");
        assert!(BytesMut::from(without_spare_room(writer.0)).capacity() < 100);
    }

    #[test]
    fn malformed_comes_before_invalid() {
        // An invalid record, then something that is not protobuf.
        let mut message = proto::AppendInput {
            records: vec![proto::AppendRecord {
                headers: vec![proto::Header { name: Bytes::new(), value: "compact".into() }],
                ..Default::default()
            }],
            ..Default::default()
        }
        .encode_to_vec();
        let unknown_command = BatchError::Record { index: 0, error: RecordError::UnknownCommand };
        assert_eq!(decode(&message).unwrap_err(), InputError::Invalid(unknown_command));
        message.push(0x0a);
        assert_eq!(decode(&message).unwrap_err(), malformed(ProtobufError::Truncated));

        let mut too_many = input(MAX_BATCH_RECORDS + 1).encode_to_vec();
        assert_eq!(decode(&too_many).unwrap_err(), InputError::Invalid(BatchError::TooManyRecords));
        too_many.extend([0x12, 0x00]);
        assert_eq!(decode(&too_many).unwrap_err(), malformed(ProtobufError::WrongType { number: 2 }));
    }

    #[test]
    fn fencing_tokens_must_be_short_text() {
        let with_token = |token: &[u8]| {
            let mut message = input(1).encode_to_vec();
            message.extend([FENCING_TOKEN, token.len() as u8]);
            message.extend(token);
            decode(&message).map(|input| input.fencing_token)
        };
        assert_eq!(with_token(&[b'x'; 36]).unwrap(), Some(FencingToken::new(&"x".repeat(36)).unwrap()));
        let too_long = InputError::FencingTokenTooLong(FencingTokenTooLong { len: 37 });
        assert_eq!(with_token(&[b'x'; 37]).unwrap_err(), too_long);
        assert_eq!(with_token(&[0xff]).unwrap_err(), malformed(ProtobufError::NotUtf8 { number: 3 }));
    }

    #[test]
    fn unusual_forms_mean_the_same() {
        let hello = [0x0a, 0x07, 0x1a, 0x05, b'h', b'e', b'l', b'l', b'o'];
        for message in [
            // The record behind the condition, and an unknown field of each wire type.
            [&[0x10, 0x05][..], &hello].concat(),
            [&[0x10, 0x05][..], &hello, &[0x78, 0x01, 0x7a, 0x01, 0x00, 0x7d, 1, 2, 3, 4]].concat(),
            [&[0x79, 1, 2, 3, 4, 5, 6, 7, 8][..], &hello, &[0x7b, 0x78, 0x01, 0x7c], &[0x10, 0x05]].concat(),
            // The last of several counts.
            [&hello[..], &[0x10, 0x09, 0x10, 0x05]].concat(),
            // Longer numbers than need be, in a key, a length and a value.
            [&[0x8a, 0x00, 0x87, 0x80, 0x00][..], &hello[2..], &[0x10, 0x85, 0x80, 0x00]].concat(),
            // An unknown field in the record, and a body that the next one replaces.
            [&[0x0a, 0x0c, 0x1a, 0x01, b'x'][..], &hello[2..], &[0x20, 0x01, 0x10, 0x05]].concat(),
        ] {
            let input = decode(&message).unwrap_or_else(|error| panic!("{message:02x?}: {error}"));
            assert_eq!(input.match_seq_num, Some(SeqNum::new(5)), "{message:02x?}");
            assert_eq!(input.batch.records().next().unwrap().fields().body(), b"hello");
            assert_eq!(input.batch.len(), 1);
            fuzz::append_input(&message);
        }
    }

    #[test]
    fn frames_that_do_not_become_inputs() {
        // The rows of s2s.md §3.4 behind the framing.
        let message = |compression, body: &[u8]| {
            let body = Bytes::copy_from_slice(body);
            append_input_of_frame(Frame::Message { compression, advice: Advice::None, body }).unwrap_err()
        };
        let terminal = Frame::Terminal(Terminal { status: 400, body: "{}".into() });
        let unexpected = InputError::Malformed(DecodeError::UnexpectedTerminal);
        assert_eq!(append_input_of_frame(terminal).unwrap_err(), unexpected);
        assert!(matches!(
            message(Compression::Gzip, b"plain"),
            InputError::Malformed(DecodeError::Inflate(InflateError::Corrupt { compression: Compression::Gzip, .. }))
        ));
        let bomb = compress::deflate(Compression::Zstd, &vec![0; MAX_FRAME_MESSAGE + 1]).unwrap();
        let too_large = InflateError::TooLarge { limit: 2_097_151 };
        assert_eq!(message(Compression::Zstd, &bomb), InputError::Malformed(too_large.into()));
        assert_eq!(message(Compression::None, &[0x0b]), malformed(ProtobufError::Truncated));
        let error = InputError::from(FrameError::Empty);
        assert_eq!(error, InputError::Malformed(DecodeError::Frame(FrameError::Empty)));
    }

    /// A record as a writer with habits of its own might encode it.
    #[derive(Clone, Debug)]
    struct Field {
        number: u32,
        value: Value,
        /// Bytes by which its numbers are longer than need be.
        padding: usize,
    }

    #[derive(Clone, Debug)]
    enum Value {
        Varint(u64),
        Bytes(Vec<u8>),
        Message(Vec<Field>),
        Fixed64,
        Fixed32,
        Group(Vec<Field>),
    }

    impl Field {
        fn put(&self, out: &mut Vec<u8>) {
            let key = |wire_type| u64::from(self.number) << 3 | wire_type;
            let varint = |out: &mut Vec<u8>, value: u64| {
                put_varint(out, value);
                let room = 10 - layout::varint_len(value);
                for _ in 0..self.padding.min(room) {
                    *out.last_mut().unwrap() |= 0x80;
                    out.push(0);
                }
            };
            let delimited = |out: &mut Vec<u8>, bytes: &[u8]| {
                varint(out, key(2));
                varint(out, bytes.len() as u64);
                out.extend(bytes);
            };
            match &self.value {
                Value::Varint(value) => {
                    varint(out, key(0));
                    varint(out, *value);
                }
                Value::Bytes(bytes) => delimited(out, bytes),
                Value::Message(fields) => delimited(out, &message(fields)),
                Value::Fixed64 => {
                    varint(out, key(1));
                    out.extend([0xaa; 8]);
                }
                Value::Fixed32 => {
                    varint(out, key(5));
                    out.extend([0xaa; 4]);
                }
                Value::Group(fields) => {
                    varint(out, key(3));
                    fields.iter().for_each(|field| field.put(out));
                    varint(out, key(4));
                }
            }
        }
    }

    fn message(fields: &[Field]) -> Vec<u8> {
        let mut out = Vec::new();
        fields.iter().for_each(|field| field.put(&mut out));
        out
    }

    fn field(number: u32, value: impl Strategy<Value = Value>) -> impl Strategy<Value = Field> {
        let padding = prop_oneof![9 => Just(0usize), 1 => 1usize..3];
        (value, padding).prop_map(move |(value, padding)| Field { number, value, padding })
    }

    fn bytes(len: usize) -> impl Strategy<Value = Value> {
        vec(any::<u8>(), 0..len).prop_map(Value::Bytes)
    }

    fn text() -> impl Strategy<Value = Value> {
        prop_oneof![Just("fence"), Just("trim"), Just(""), Just("k"), Just("12345678")]
            .prop_map(|text| Value::Bytes(text.into()))
    }

    fn unknown() -> impl Strategy<Value = Field> {
        let value = prop_oneof![
            any::<u64>().prop_map(Value::Varint),
            bytes(4),
            Just(Value::Fixed32),
            Just(Value::Fixed64),
            vec(field(9, any::<u64>().prop_map(Value::Varint)), 0..3).prop_map(Value::Group),
        ];
        (4u32..40, field(0, value)).prop_map(|(number, field)| Field { number, ..field })
    }

    /// Fields in no order, some of them twice, now and then one of a wrong type.
    fn header() -> impl Strategy<Value = Value> {
        let known = prop_oneof![8 => field(1, text()), 8 => field(2, text()), 1 => field(2, Just(Value::Varint(1)))];
        vec(prop_oneof![30 => known, 1 => unknown()], 0..3).prop_map(Value::Message)
    }

    fn record() -> impl Strategy<Value = Value> {
        let known = prop_oneof![
            field(1, any::<u64>().prop_map(Value::Varint)),
            field(2, header()),
            field(3, prop_oneof![bytes(40), text()]),
        ];
        vec(prop_oneof![30 => known, 1 => unknown()], 0..4).prop_map(Value::Message)
    }

    fn append_input() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![4 => text(), 1 => bytes(40)];
        let known = prop_oneof![
            8 => field(1, record()),
            1 => field(2, any::<u64>().prop_map(Value::Varint)),
            1 => field(3, token),
        ];
        vec(prop_oneof![30 => known, 1 => unknown()], 0..8).prop_map(|fields| message(&fields))
    }

    fn canonical() -> impl Strategy<Value = proto::AppendInput> {
        let bytes = |len| vec(any::<u8>(), 0..len).prop_map(Bytes::from);
        let name = vec(any::<u8>(), 1..9).prop_map(Bytes::from);
        let header = (name, bytes(9)).prop_map(|(name, value)| proto::Header { name, value });
        let record = (any::<Option<u64>>(), vec(header, 0..4), bytes(300))
            .prop_map(|(timestamp, headers, body)| proto::AppendRecord { timestamp, headers, body });
        (vec(record, 1..9), any::<Option<u64>>(), prop::option::of("[a-z]{0,36}")).prop_map(
            |(records, match_seq_num, fencing_token)| proto::AppendInput { records, match_seq_num, fencing_token },
        )
    }

    proptest! {
        #[test]
        fn any_legal_form_is_read_as_prost_reads_it(message in append_input()) {
            fuzz::append_input(&message);
        }

        #[test]
        fn any_bytes_are_judged_as_prost_judges_them(message in append_input(), at: prop::sample::Index, byte: u8, cut in 0usize..3) {
            let mut message = message;
            message.truncate(message.len().saturating_sub(cut));
            if !message.is_empty() {
                let at = at.index(message.len());
                message[at] = byte;
            }
            fuzz::append_input(&message);
        }

        #[test]
        fn canonical_messages_take_the_short_way(input in canonical()) {
            let message = Bytes::from(input.encode_to_vec());
            prop_assert!(decode_canonical(&message).is_some());
            fuzz::append_input(&message);
        }

        #[test]
        fn groups_may_lie_as_deep_as_prost_lets_them(depth in 95usize..105, inside in 0usize..3) {
            let groups = [vec![0x7b; depth], vec![0x7c; depth]].concat();
            let header = |rest: &[u8]| [&[0x12, rest.len() as u8 | 0x80, (rest.len() >> 7) as u8][..], rest].concat();
            let record = |rest: &[u8]| [&[0x0a, rest.len() as u8 | 0x80, (rest.len() >> 7) as u8][..], rest].concat();
            fuzz::append_input(&match inside {
                0 => [&groups[..], &[0x0a, 0]].concat(),
                1 => record(&groups),
                _ => record(&header(&groups)),
            });
        }
    }
}
