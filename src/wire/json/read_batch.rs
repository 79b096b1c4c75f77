//! Records on their way out in JSON, and positions (`data-plane.md` §6.2).

use std::borrow::Cow;

use base64::{Engine as _, display::Base64Display, engine::general_purpose::STANDARD as BASE64};
use serde::{
    Deserialize, Serialize, Serializer,
    ser::{SerializeStruct as _, SerializeTuple as _},
};

use super::{JsonError, decode_object, encode, put};
use crate::{
    types::{BatchSlice, Position, RecordFields, SeqNum, SequencedRecord, Timestamp},
    wire::negotiate::S2Format,
};

/// Writes records and, where it is known, the tail, straight from the batches that hold them.
///
/// As raw text each invalid sequence of UTF-8 becomes U+FFFD.
pub fn encode_read_batch(slices: &[BatchSlice], tail: Option<Position>, format: S2Format) -> Vec<u8> {
    let mut out = Vec::new();
    put_read_batch(&mut out, slices, tail, format);
    out
}

/// The same, behind what is in `out` already.
pub(in crate::wire) fn put_read_batch(
    out: &mut Vec<u8>,
    slices: &[BatchSlice],
    tail: Option<Position>,
    format: S2Format,
) {
    let batch = ReadBatchJson { slices, tail, format };
    out.reserve(batch.estimated_len());
    put(out, &batch);
}

/// Writes what a ping says: what time it is, and where the tail (`data-plane.md` §8).
pub(in crate::wire) fn put_ping(out: &mut Vec<u8>, now: Timestamp, tail: Position) {
    put(out, &PingJson { timestamp: now.get(), tail: tail.into() });
}

/// Writes a tail: the answer to check-tail.
pub fn encode_tail(tail: Position) -> Vec<u8> {
    encode(&TailJson { tail: tail.into() })
}

/// Reads a tail.
pub fn decode_tail(body: &[u8]) -> Result<Position, JsonError> {
    decode_object(body).map(|TailJson { tail }| tail.into())
}

/// A record as it was read from JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonRecord {
    /// Its number.
    pub seq_num: SeqNum,
    /// Its time.
    pub timestamp: Timestamp,
    /// Names and values, in order.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// Reads what [`encode_read_batch`] writes: the records, and the tail if it is there.
pub fn decode_read_batch(body: &[u8], format: S2Format) -> Result<(Vec<JsonRecord>, Option<Position>), JsonError> {
    let batch: OwnedBatchJson<'_> = decode_object(body)?;
    let records = batch.records.into_iter().enumerate();
    let records = records.map(|(index, record)| record.decode(format).ok_or(JsonError::Base64 { index }));
    Ok((records.collect::<Result<_, _>>()?, batch.tail.map(Position::from)))
}

#[derive(Serialize, Deserialize)]
pub(super) struct PositionJson {
    seq_num: u64,
    timestamp: u64,
}

impl From<Position> for PositionJson {
    fn from(position: Position) -> Self {
        Self { seq_num: position.seq_num.get(), timestamp: position.timestamp.get() }
    }
}

impl From<PositionJson> for Position {
    fn from(position: PositionJson) -> Self {
        Position::new(position.seq_num, position.timestamp)
    }
}

#[derive(Serialize)]
struct PingJson {
    timestamp: u64,
    tail: PositionJson,
}

#[derive(Serialize, Deserialize)]
struct TailJson {
    tail: PositionJson,
}

struct ReadBatchJson<'a> {
    slices: &'a [BatchSlice],
    tail: Option<Position>,
    format: S2Format,
}

impl ReadBatchJson<'_> {
    /// About as many bytes as the JSON takes if little of it needs escapes: base64 grows by a third, and each record
    /// has the names of its fields.
    fn estimated_len(&self) -> usize {
        let records: usize = self.slices.iter().map(BatchSlice::len).sum();
        let encoded: usize = self.slices.iter().map(BatchSlice::encoded_len).sum();
        let content = match self.format {
            S2Format::Raw => encoded + encoded / 16,
            S2Format::Base64 => encoded / 3 * 4,
        };
        96 + records * 80 + content
    }
}

impl Serialize for ReadBatchJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut batch = serializer.serialize_struct("ReadBatch", 2)?;
        batch.serialize_field("records", &RecordsJson(self))?;
        if let Some(tail) = self.tail {
            batch.serialize_field("tail", &PositionJson::from(tail))?;
        }
        batch.end()
    }
}

struct RecordsJson<'a>(&'a ReadBatchJson<'a>);

impl Serialize for RecordsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let records = self.0.slices.iter().flat_map(BatchSlice::records);
        serializer.collect_seq(records.map(|record| RecordJson { record, format: self.0.format }))
    }
}

struct RecordJson<'a> {
    record: SequencedRecord<'a>,
    format: S2Format,
}

impl Serialize for RecordJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let SequencedRecord { seq_num, timestamp, fields } = self.record;
        let mut record = serializer.serialize_struct("SequencedRecord", 4)?;
        record.serialize_field("seq_num", &seq_num.get())?;
        record.serialize_field("timestamp", &timestamp.get())?;
        if fields.headers().next().is_some() {
            record.serialize_field("headers", &HeadersJson { fields, format: self.format })?;
        }
        let body = fields.body();
        if !body.is_empty() {
            record.serialize_field("body", &TextJson { bytes: body, format: self.format })?;
        }
        record.end()
    }
}

struct HeadersJson<'a> {
    fields: RecordFields<'a>,
    format: S2Format,
}

impl Serialize for HeadersJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let format = self.format;
        serializer.collect_seq(self.fields.headers().map(|(name, value)| HeaderJson {
            name: TextJson { bytes: name, format },
            value: TextJson { bytes: value, format },
        }))
    }
}

struct HeaderJson<'a> {
    name: TextJson<'a>,
    value: TextJson<'a>,
}

impl Serialize for HeaderJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut header = serializer.serialize_tuple(2)?;
        header.serialize_element(&self.name)?;
        header.serialize_element(&self.value)?;
        header.end()
    }
}

/// Bytes of a record as a string.
struct TextJson<'a> {
    bytes: &'a [u8],
    format: S2Format,
}

impl Serialize for TextJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.format {
            S2Format::Raw => serializer.serialize_str(&String::from_utf8_lossy(self.bytes)),
            S2Format::Base64 => serializer.collect_str(&Base64Display::new(self.bytes, &BASE64)),
        }
    }
}

#[derive(Deserialize)]
struct OwnedBatchJson<'a> {
    #[serde(borrow)]
    records: Vec<OwnedRecordJson<'a>>,
    tail: Option<PositionJson>,
}

#[derive(Deserialize)]
struct OwnedRecordJson<'a> {
    seq_num: u64,
    timestamp: u64,
    #[serde(borrow, default)]
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(borrow, default)]
    body: Cow<'a, str>,
}

impl OwnedRecordJson<'_> {
    /// `None` if a string should be base64 and is not.
    fn decode(self, format: S2Format) -> Option<JsonRecord> {
        let bytes = |text: Cow<'_, str>| match format {
            S2Format::Raw => Some(text.into_owned().into_bytes()),
            S2Format::Base64 => BASE64.decode(&*text).ok(),
        };
        let headers = self.headers.into_iter().map(|(name, value)| Some((bytes(name)?, bytes(value)?)));
        Some(JsonRecord {
            seq_num: SeqNum::new(self.seq_num),
            timestamp: Timestamp::new(self.timestamp),
            headers: headers.collect::<Option<_>>()?,
            body: bytes(self.body)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{types::Batch, wire::json::decode_append_input};

    /// The records of an append as base64 JSON, numbered from `first` on.
    fn batch(first: u64, records: &str) -> Batch {
        let json = format!(r#"{{"records":{records}}}"#);
        let input = decode_append_input(json.as_bytes(), S2Format::Base64).unwrap();
        Batch::sequence(&input.batch, SeqNum::new(first), |timestamp| timestamp.unwrap())
    }

    fn encoded(slices: &[BatchSlice], tail: Option<Position>, format: S2Format) -> String {
        String::from_utf8(encode_read_batch(slices, tail, format)).unwrap()
    }

    #[test]
    fn the_example_of_the_contract() {
        // data-plane.md §6.2; base64 of k, v and hello
        let batch = batch(
            42,
            r#"[{"timestamp":1713812735000,"headers":[["aw==","dg=="]],"body":"aGVsbG8="},{"timestamp":1713812735000}]"#,
        );
        let tail = Some(batch.end());
        let (records, tail_field) = (
            r#""records":[{"seq_num":42,"timestamp":1713812735000,"headers":[["k","v"]],"body":"hello"},{"seq_num":43,"timestamp":1713812735000}]"#,
            r#""tail":{"seq_num":44,"timestamp":1713812735000}"#,
        );
        assert_eq!(encoded(&[batch.whole()], tail, S2Format::Raw), format!("{{{records},{tail_field}}}"));
        assert_eq!(encoded(&[batch.whole()], None, S2Format::Raw), format!("{{{records}}}"));
        assert_eq!(
            encoded(&[batch.whole()], None, S2Format::Base64),
            r#"{"records":[{"seq_num":42,"timestamp":1713812735000,"headers":[["aw==","dg=="]],"body":"aGVsbG8="},{"seq_num":43,"timestamp":1713812735000}]}"#
        );
    }

    #[test]
    fn records_are_always_there() {
        assert_eq!(encoded(&[], None, S2Format::Raw), r#"{"records":[]}"#);
        let heartbeat = encoded(&[], Some(Position::new(7, 8)), S2Format::Raw);
        assert_eq!(heartbeat, r#"{"records":[],"tail":{"seq_num":7,"timestamp":8}}"#);
    }

    #[test]
    fn several_slices_make_one_array() {
        let (a, b) = (batch(0, r#"[{"timestamp":1},{"timestamp":2}]"#), batch(2, r#"[{"timestamp":3}]"#));
        let json = encoded(&[a.starting_at(SeqNum::new(1)).unwrap(), b.whole()], None, S2Format::Raw);
        assert_eq!(json, r#"{"records":[{"seq_num":1,"timestamp":2},{"seq_num":2,"timestamp":3}]}"#);
    }

    #[test]
    fn raw_text_replaces_what_is_not_utf8() {
        // data-plane.md §6.1: ff, 00 and 22 in the body, an incomplete é in the header
        let batch = batch(0, r#"[{"timestamp":0,"headers":[["aw==","ww=="]],"body":"/wAi"}]"#);
        let json = encoded(&[batch.whole()], None, S2Format::Raw);
        assert_eq!(
            json,
            "{\"records\":[{\"seq_num\":0,\"timestamp\":0,\"headers\":[[\"k\",\"\u{fffd}\"]],\"body\":\"\u{fffd}\\u0000\\\"\"}]}"
        );
    }

    #[test]
    fn a_command_keeps_its_empty_name() {
        let batch = batch(0, r#"[{"timestamp":0,"headers":[["","ZmVuY2U="]]}]"#);
        for (format, value) in [(S2Format::Raw, "fence"), (S2Format::Base64, "ZmVuY2U=")] {
            let expected = format!(r#"{{"records":[{{"seq_num":0,"timestamp":0,"headers":[["","{value}"]]}}]}}"#);
            assert_eq!(encoded(&[batch.whole()], None, format), expected);
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let batch =
            batch(3, r#"[{"timestamp":5,"headers":[["aw==","/w=="],["aw==",""]],"body":"AP8="},{"timestamp":6}]"#);
        let json = encode_read_batch(&[batch.whole()], Some(batch.end()), S2Format::Base64);
        let first = JsonRecord {
            seq_num: SeqNum::new(3),
            timestamp: Timestamp::new(5),
            headers: vec![(b"k".to_vec(), vec![0xff]), (b"k".to_vec(), vec![])],
            body: vec![0, 0xff],
        };
        let second =
            JsonRecord { seq_num: SeqNum::new(4), timestamp: Timestamp::new(6), headers: vec![], body: vec![] };
        assert_eq!(decode_read_batch(&json, S2Format::Base64), Ok((vec![first, second], Some(Position::new(5, 6)))));
        assert_eq!(decode_read_batch(br#"{"records":[],"tail":null}"#, S2Format::Raw), Ok((vec![], None)));
        let bad = br#"{"records":[{"seq_num":0,"timestamp":0,"body":"?"}]}"#;
        assert_eq!(decode_read_batch(bad, S2Format::Base64), Err(JsonError::Base64 { index: 0 }));
    }

    #[test]
    fn tails() {
        // data-plane.md §6.2
        let json = br#"{"tail":{"seq_num":44,"timestamp":1713812735000}}"#;
        let tail = Position::new(44, 1_713_812_735_000);
        assert_eq!(encode_tail(tail), json);
        assert_eq!(decode_tail(json), Ok(tail));
        assert_eq!(encode_tail(Position::EMPTY), br#"{"tail":{"seq_num":0,"timestamp":0}}"#);
    }
}
