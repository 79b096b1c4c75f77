//! The bytes of a record, in and out, and of the frame around a batch: the one byte form that values keep.
//!
//! A batch is stored, shared and sent as protobuf (`s2s.md` §4), so these few fields are written and walked here by
//! hand; everything else that is protobuf belongs to `wire`. *Canonical* means: fields in ascending order, each at most
//! once, no unknown ones, varints in their shortest form, empty fields left out. The same content has one form.
//!
//! ```text
//! AppendRecord     [08 timestamp]              ([12 len header])*  [1a len body]
//! SequencedRecord  [08 seq_num] [10 timestamp] ([1a len header])*  [22 len body]
//! Header           [0a len name] [12 len value]
//! ```
//!
//! Headers and body differ in nothing but the tags, so a record is sequenced with one copy and a few bytes patched.

use bytes::BufMut;

use super::{Position, SeqNum, Timestamp};

/// Tag of `AppendInput.records` and of `ReadBatch.records`.
pub(crate) const RECORD: u8 = 0x0a;
/// Tag of `AppendRecord.timestamp`.
pub(crate) const APPEND_TIMESTAMP: u8 = 0x08;
/// Tag of `AppendRecord.headers`.
pub(crate) const APPEND_HEADER: u8 = 0x12;
/// Tag of `AppendRecord.body`.
pub(crate) const APPEND_BODY: u8 = 0x1a;
/// Tag of `SequencedRecord.seq_num`, and of `StreamPosition.seq_num`.
pub(crate) const SEQ_NUM: u8 = 0x08;
/// Tag of `SequencedRecord.timestamp`, and of `StreamPosition.timestamp`.
pub(crate) const TIMESTAMP: u8 = 0x10;
/// Tag of `SequencedRecord.headers`.
pub(crate) const HEADER: u8 = 0x1a;
/// Tag of `SequencedRecord.body`.
pub(crate) const BODY: u8 = 0x22;
/// Tag of `Header.name`.
pub(crate) const HEADER_NAME: u8 = 0x0a;
/// Tag of `Header.value`.
pub(crate) const HEADER_VALUE: u8 = 0x12;
/// Tag of `ReadBatch.tail`.
pub(crate) const BATCH_TAIL: u8 = 0x12;

/// Bytes of a frame before its body: three of length, one of flags.
pub(crate) const FRAME_HEAD_LEN: usize = 4;
/// The most bytes that a tail takes as a field of `ReadBatch`: tag, length, two tagged varints.
pub(crate) const MAX_TAIL_FIELD_LEN: usize = 2 + 2 * 11;

/// The head of a regular or terminal frame with `body_len` bytes behind it; the caller keeps it within the limit.
pub(crate) fn frame_head(flag: u8, body_len: usize) -> [u8; FRAME_HEAD_LEN] {
    let length = (body_len as u32 + 1).to_be_bytes();
    [length[1], length[2], length[3], flag]
}

/// Bytes of `value` as a varint: 1 to 10.
pub(crate) const fn varint_len(value: u64) -> usize {
    // One byte for each seven bits begun; `| 1` gives zero its one byte.
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Reads a varint in its shortest form from the front of `bytes` and moves past it.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    // The lengths of most records and bodies take one byte or two.
    match *bytes {
        [byte @ 0..0x80, rest @ ..] => {
            *bytes = rest;
            return Some(u64::from(*byte));
        }
        [low, high @ 0x01..0x80, rest @ ..] => {
            *bytes = rest;
            return Some(u64::from(*low & 0x7f) | u64::from(*high) << 7);
        }
        _ => {}
    }
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            let longer_than_needed = *byte == 0;
            let over_64_bits = i == 9 && *byte > 1;
            *bytes = &bytes[i + 1..];
            return (!longer_than_needed && !over_64_bits).then_some(value);
        }
    }
    None
}

/// Reads a length and as many bytes from the front of `bytes` and moves past them.
pub(crate) fn take_delimited<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(bytes)?).ok()?;
    let (field, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(field)
}

/// Moves past `tag` if it comes next.
pub(crate) fn take_tag(bytes: &mut &[u8], tag: u8) -> bool {
    match *bytes {
        [first, rest @ ..] if *first == tag => {
            *bytes = rest;
            true
        }
        _ => false,
    }
}

/// Bytes of a varint field with a one-byte tag, left out when zero.
pub(crate) const fn uint_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// Bytes of a length-delimited field with a one-byte tag, left out when empty.
pub(crate) const fn bytes_field_len(len: usize) -> usize {
    if len == 0 { 0 } else { 1 + varint_len(len as u64) + len }
}

pub(crate) fn put_bytes_field(out: &mut impl BufMut, tag: u8, value: &[u8]) {
    if !value.is_empty() {
        out.put_u8(tag);
        put_varint(out, value.len() as u64);
        out.put_slice(value);
    }
}

/// Bytes of a `StreamPosition` message.
pub(crate) const fn position_len(position: Position) -> usize {
    uint_field_len(position.seq_num.get()) + uint_field_len(position.timestamp.get())
}

/// Writes a `StreamPosition` as a field that is present even when both numbers are zero.
pub(crate) fn put_position_field(out: &mut impl BufMut, tag: u8, position: Position) {
    let mut field = Short::new();
    field.position_field(tag, position);
    out.put_slice(field.bytes());
}

/// Bytes of what [`put_position_field`] writes.
pub(crate) const fn position_field_len(position: Position) -> usize {
    // A position takes at most 22 bytes, so its length takes one.
    2 + position_len(position)
}

/// A few short fields, put together here and then written in one piece: a buffer that grows asks at each piece whether
/// it must, which for a byte takes longer than to write it.
pub(crate) struct Short {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl Short {
    /// An ack in its frame, three positions with a head in front, takes 76 bytes; nothing else takes more.
    const CAPACITY: usize = 96;

    pub(crate) const fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY], len: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    pub(crate) fn uint_field(&mut self, tag: u8, value: u64) {
        if value != 0 {
            self.byte(tag);
            self.varint(value);
        }
    }

    pub(crate) fn position_field(&mut self, tag: u8, position: Position) {
        self.byte(tag);
        self.varint(position_len(position) as u64);
        self.uint_field(SEQ_NUM, position.seq_num.get());
        self.uint_field(TIMESTAMP, position.timestamp.get());
    }
}

/// Bytes of a `SequencedRecord` message whose headers and body take `fields` bytes.
pub(crate) const fn sequenced_record_len(seq_num: SeqNum, timestamp: Timestamp, fields: usize) -> usize {
    uint_field_len(seq_num.get()) + uint_field_len(timestamp.get()) + fields
}

/// Turns the tags of an `AppendRecord`'s headers and body into those of a `SequencedRecord`.
///
/// `fields` is canonical and its headers end at `body_at`; the body's tag, if there is a body, stands there.
pub(crate) fn retag_fields(fields: &mut [u8], body_at: usize) {
    let mut at = 0;
    while at < body_at {
        fields[at] = HEADER;
        let mut rest = &fields[at + 1..body_at];
        match take_delimited(&mut rest) {
            Some(_) => at = body_at - rest.len(),
            None => unreachable!("the fields of a record were checked when they came in"),
        }
    }
    if let Some(tag) = fields.get_mut(body_at) {
        *tag = BODY;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn varints_longer_than_needed_are_not_canonical() {
        for bytes in [&[0x80, 0x00][..], &[0x81, 0x80, 0x00], &[0x80], &[], &[0xff; 11]] {
            assert_eq!(take_varint(&mut &bytes[..]), None, "{bytes:02x?}");
        }
        let over_64_bits = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(take_varint(&mut &over_64_bits[..]), None);
    }

    proptest! {
        #[test]
        fn varints_come_back(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut rest = &out[..];
            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn frame_heads_hold_their_length(len in 0usize..super::super::limits::MAX_FRAME_LEN) {
            let [a, b, c, flag] = frame_head(0x20, len);
            prop_assert_eq!(u32::from_be_bytes([0, a, b, c]) as usize, len + 1);
            prop_assert_eq!(flag, 0x20);
        }
    }
}
