//! An append in JSON: the request as records in their canonical bytes, the acknowledgement (`data-plane.md` §2, §6).
//!
//! A request is read in one pass. Strings without escapes are borrowed from it, all others and base64 go through one
//! buffer that is used again for every record, and each record is written once, to the end of the batch's bytes.

use std::{fmt, mem, ops::Range};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{JsonError, decode_object, encode, read_batch::PositionJson};
use crate::{
    types::{
        AppendAck, AppendBatch, AppendInput, CollectError, FencingToken, SeqNum, Timestamp, layout,
        limits::MAX_BATCH_RECORDS, put_append_record,
    },
    wire::{append_input::without_spare_room, negotiate::S2Format},
};

/// Reads the body of an append (`data-plane.md` §6.2).
///
/// What is wrong with the JSON comes before what is wrong with the records.
pub fn decode_append_input(body: &[u8], format: S2Format) -> Result<AppendInput, JsonError> {
    // A record takes fewer bytes in its canonical form than in JSON.
    let mut records = RecordsWriter::new(format, body.len());
    let mut json = serde_json::Deserializer::from_slice(body);
    let conditions = json.deserialize_map(InputVisitor(&mut records))?;
    json.end()?;
    let fencing_token = conditions.fencing_token.map(|token| FencingToken::new(&token)).transpose()?;
    Ok(AppendInput {
        batch: records.into_batch()?,
        match_seq_num: conditions.match_seq_num.map(SeqNum::new),
        fencing_token,
    })
}

/// Writes the acknowledgement of an append (`data-plane.md` §2.3).
pub fn encode_append_ack(ack: &AppendAck) -> Vec<u8> {
    encode(&AppendAckJson { start: ack.start.into(), end: ack.end.into(), tail: ack.tail.into() })
}

/// Reads the acknowledgement of an append.
pub fn decode_append_ack(body: &[u8]) -> Result<AppendAck, JsonError> {
    let AppendAckJson { start, end, tail } = decode_object(body)?;
    Ok(AppendAck { start: start.into(), end: end.into(), tail: tail.into() })
}

#[derive(Serialize, Deserialize)]
struct AppendAckJson {
    start: PositionJson,
    end: PositionJson,
    tail: PositionJson,
}

struct Conditions {
    match_seq_num: Option<u64>,
    fencing_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum InputField {
    Records,
    MatchSeqNum,
    FencingToken,
    #[serde(other)]
    Unknown,
}

struct InputVisitor<'w, 'de>(&'w mut RecordsWriter<'de>);

impl<'de> Visitor<'de> for InputVisitor<'_, 'de> {
    type Value = Conditions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with records")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Conditions, A::Error> {
        let (mut records, mut match_seq_num, mut fencing_token) = (None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                InputField::Records => once(&mut records, "records", map.next_value_seed(&mut *self.0)?)?,
                InputField::MatchSeqNum => once(&mut match_seq_num, "match_seq_num", map.next_value()?)?,
                InputField::FencingToken => once(&mut fencing_token, "fencing_token", map.next_value()?)?,
                InputField::Unknown => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        records.ok_or_else(|| A::Error::missing_field("records"))?;
        Ok(Conditions {
            match_seq_num: match_seq_num.unwrap_or_default(),
            fencing_token: fencing_token.unwrap_or_default(),
        })
    }
}

/// Keeps the value of a field, which may come only once.
fn once<T, E: Error>(slot: &mut Option<T>, field: &'static str, value: T) -> Result<(), E> {
    match slot.replace(value) {
        Some(_) => Err(E::duplicate_field(field)),
        None => Ok(()),
    }
}

/// The batch's bytes as far as they were read, and what is used again from record to record.
struct RecordsWriter<'de> {
    strings: Strings,
    /// Of the record being read.
    headers: Vec<(Piece<'de>, Piece<'de>)>,
    encoded: Vec<u8>,
    /// Where the records' messages lie in `encoded`.
    messages: Vec<Range<usize>>,
    not_base64: Option<usize>,
}

impl<'de> RecordsWriter<'de> {
    fn new(format: S2Format, capacity: usize) -> Self {
        Self {
            strings: Strings { format, decoded: Vec::new(), not_base64: false },
            headers: Vec::new(),
            encoded: Vec::with_capacity(capacity),
            messages: Vec::new(),
            not_base64: None,
        }
    }

    fn write(&mut self, timestamp: Option<u64>, body: &Piece<'de>) {
        let not_base64 = mem::take(&mut self.strings.not_base64);
        // One record too many is enough to say so; those behind it only have to be JSON.
        if self.messages.len() > MAX_BATCH_RECORDS {
            return;
        }
        if not_base64 {
            self.not_base64.get_or_insert(self.messages.len());
        }
        let decoded = &self.strings.decoded[..];
        let headers = self.headers.iter().map(|(name, value)| (name.bytes(decoded), value.bytes(decoded)));
        let start = self.encoded.len();
        put_append_record(&mut self.encoded, timestamp.map(Timestamp::new), headers, body.bytes(decoded));
        self.messages.push(message_of_field(&self.encoded, start));
    }

    fn into_batch(self) -> Result<AppendBatch, JsonError> {
        if let Some(index) = self.not_base64 {
            return Err(JsonError::Base64 { index });
        }
        AppendBatch::collect(without_spare_room(self.encoded), self.messages).map_err(|error| match error {
            CollectError::Invalid(error) => JsonError::Invalid(error),
            CollectError::NotCanonical => unreachable!("these bytes were written by put_append_record"),
        })
    }
}

/// Where the message lies in the length-delimited field that begins at `start` and ends the buffer.
fn message_of_field(buffer: &[u8], start: usize) -> Range<usize> {
    let mut rest = &buffer[start + 1..];
    layout::take_varint(&mut rest).expect("a field has its length behind its tag");
    buffer.len() - rest.len()..buffer.len()
}

impl<'de> DeserializeSeed<'de> for &mut RecordsWriter<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut RecordsWriter<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(RecordVisitor(&mut *self))?.is_some() {}
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum RecordField {
    Timestamp,
    Headers,
    Body,
    #[serde(other)]
    Unknown,
}

struct RecordVisitor<'w, 'de>(&'w mut RecordsWriter<'de>);

impl<'de> DeserializeSeed<'de> for RecordVisitor<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RecordVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let writer = self.0;
        writer.strings.decoded.clear();
        writer.headers.clear();
        let (mut timestamp, mut headers, mut body) = (None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                RecordField::Timestamp => once(&mut timestamp, "timestamp", map.next_value()?)?,
                RecordField::Headers => once(&mut headers, "headers", map.next_value_seed(Headers(&mut *writer))?)?,
                RecordField::Body => once(&mut body, "body", map.next_value_seed(&mut writer.strings)?)?,
                RecordField::Unknown => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        writer.write(timestamp.unwrap_or_default(), &body.unwrap_or_default());
        Ok(())
    }
}

struct Headers<'w, 'de>(&'w mut RecordsWriter<'de>);

impl<'de> DeserializeSeed<'de> for Headers<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Headers<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of headers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let RecordsWriter { strings, headers, .. } = self.0;
        while let Some(header) = seq.next_element_seed(Header(&mut *strings))? {
            headers.push(header);
        }
        Ok(())
    }
}

struct Header<'w>(&'w mut Strings);

impl<'de> DeserializeSeed<'de> for Header<'_> {
    type Value = (Piece<'de>, Piece<'de>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_tuple(2, self)
    }
}

impl<'de> Visitor<'de> for Header<'_> {
    type Value = (Piece<'de>, Piece<'de>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header as [name, value]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let name = seq.next_element_seed(&mut *self.0)?.ok_or_else(|| A::Error::invalid_length(0, &"[name, value]"))?;
        let value =
            seq.next_element_seed(&mut *self.0)?.ok_or_else(|| A::Error::invalid_length(1, &"[name, value]"))?;
        Ok((name, value))
    }
}

/// The bytes that a string of a record stands for.
enum Piece<'de> {
    /// They stand so in the request.
    Borrowed(&'de [u8]),
    /// They are there in [`Strings::decoded`].
    Decoded(Range<usize>),
}

impl Piece<'_> {
    fn bytes<'a>(&'a self, decoded: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Decoded(range) => &decoded[range.clone()],
        }
    }
}

impl Default for Piece<'_> {
    fn default() -> Self {
        Self::Borrowed(&[])
    }
}

/// Reads the strings of a record.
struct Strings {
    format: S2Format,
    /// What could not be borrowed, of the record being read.
    decoded: Vec<u8>,
    /// Whether a string of the record being read is not base64 although it should be. Told only once all of the JSON
    /// is known to be good.
    not_base64: bool,
}

impl Strings {
    fn decode(&mut self, text: &str) -> Piece<'static> {
        let start = self.decoded.len();
        match self.format {
            S2Format::Raw => self.decoded.extend_from_slice(text.as_bytes()),
            S2Format::Base64 => self.not_base64 |= BASE64.decode_vec(text, &mut self.decoded).is_err(),
        }
        Piece::Decoded(start..self.decoded.len())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Strings {
    type Value = Piece<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Piece<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for &mut Strings {
    type Value = Piece<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Piece<'de>, E> {
        Ok(match self.format {
            S2Format::Raw => Piece::Borrowed(text.as_bytes()),
            S2Format::Base64 => self.decode(text),
        })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Piece<'de>, E> {
        Ok(self.decode(text))
    }
}

#[cfg(test)]
mod tests;
