//! A `ReadBatch` message walked where it lies: for readers that look at every record once and keep none of them.

use super::protobuf::{Field, Fields, ProtobufError};
use crate::types::{Position, SeqNum, Timestamp, metered_size};

/// A part of a `ReadBatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPart<'a> {
    /// A record.
    Record(RecordView<'a>),
    /// The durable tail.
    Tail(Position),
}

/// A record in its message. Of its headers only so much is kept as tells how long it is, and what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its number.
    pub seq_num: SeqNum,
    /// Its time.
    pub timestamp: Timestamp,
    /// Its body.
    pub body: &'a [u8],
    headers: usize,
    /// Of names and values.
    header_bytes: usize,
    /// Whether there is a header with an empty name.
    has_nameless: bool,
}

impl RecordView<'_> {
    /// Its size as it is counted (`data-plane.md` §1).
    pub const fn metered(&self) -> usize {
        metered_size(self.headers, self.header_bytes, self.body.len())
    }

    /// Whether it is a fence or a trim (`data-plane.md` §1.3).
    pub const fn is_command(&self) -> bool {
        self.headers == 1 && self.has_nameless
    }
}

/// The parts of a message, in order. The first error is the last item.
///
/// All of it is in line, and so in registers: a part that goes through memory is read back before it is written, which
/// took longer than the walk.
#[derive(Clone, Debug)]
pub struct ReadParts<'a>(Fields<'a>);

/// The parts of `message`, a `ReadBatch`. Takes what [`decode_read_batch`](super::decode_read_batch) takes, and builds
/// nothing.
pub fn read_parts(message: &[u8]) -> ReadParts<'_> {
    ReadParts(Fields::of(message))
}

impl<'a> Iterator for ReadParts<'a> {
    type Item = Result<ReadPart<'a>, ProtobufError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let part = match self.0.next()? {
                Ok(field) if field.number == 1 => record(field).map(ReadPart::Record),
                Ok(field) if field.number == 2 => tail(field).map(ReadPart::Tail),
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            return Some(part.inspect_err(|_| self.0 = Fields::of(&[])));
        }
    }
}

#[inline(always)]
fn record(field: Field<'_>) -> Result<RecordView<'_>, ProtobufError> {
    let mut record = RecordView::default();
    for field in field.message()? {
        let field = field?;
        match field.number {
            1 => record.seq_num = SeqNum::new(field.varint()?),
            2 => record.timestamp = Timestamp::new(field.varint()?),
            3 => {
                let (name, value) = header_lens(field)?;
                record.headers += 1;
                record.header_bytes += name + value;
                record.has_nameless |= name == 0;
            }
            4 => record.body = field.bytes()?,
            _ => {}
        }
    }
    Ok(record)
}

/// Bytes of a header's name and of its value.
fn header_lens(field: Field<'_>) -> Result<(usize, usize), ProtobufError> {
    let mut lens = (0, 0);
    for field in field.message()? {
        let field = field?;
        match field.number {
            1 => lens.0 = field.bytes()?.len(),
            2 => lens.1 = field.bytes()?.len(),
            _ => {}
        }
    }
    Ok(lens)
}

fn tail(field: Field<'_>) -> Result<Position, ProtobufError> {
    let mut tail = (0, 0);
    for field in field.message()? {
        let field = field?;
        match field.number {
            1 => tail.0 = field.varint()?,
            2 => tail.1 = field.varint()?,
            _ => {}
        }
    }
    Ok(Position::new(tail.0, tail.1))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{collection::vec, prelude::*};
    use prost::Message;

    use super::*;
    use crate::wire::{ReadBatch, ReadRecord, decode_read_batch, proto};

    fn arb_record() -> impl Strategy<Value = proto::SequencedRecord> {
        let bytes = || vec(any::<u8>(), 0..5).prop_map(Bytes::from);
        let header = (bytes(), bytes()).prop_map(|(name, value)| proto::Header { name, value });
        (any::<u64>(), any::<u64>(), vec(header, 0..3), bytes()).prop_map(|(seq_num, timestamp, headers, body)| {
            proto::SequencedRecord { seq_num, timestamp, headers, body }
        })
    }

    fn is_command(record: &ReadRecord) -> bool {
        matches!(&record.headers[..], [(name, _)] if name.is_empty())
    }

    fn metered(record: &ReadRecord) -> usize {
        let headers = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        metered_size(record.headers.len(), headers, record.body.len())
    }

    /// Holds if walking `message` says the same as building the batch, which may be that it is none.
    fn agrees(message: &[u8]) {
        let parts: Result<Vec<_>, _> = read_parts(message).collect();
        let (Ok(ReadBatch { records, tail }), Ok(parts)) = (decode_read_batch(message.to_vec().into()), parts.clone())
        else {
            assert_eq!(decode_read_batch(message.to_vec().into()).is_ok(), parts.is_ok());
            return;
        };
        let views = parts.iter().filter_map(|part| match part {
            ReadPart::Record(view) => Some(view),
            ReadPart::Tail(_) => None,
        });
        let of_view = |view: &RecordView<'_>| {
            (view.seq_num, view.timestamp, Bytes::copy_from_slice(view.body), view.metered(), view.is_command())
        };
        let of_record = |record: &ReadRecord| {
            (record.seq_num, record.timestamp, record.body.clone(), metered(record), is_command(record))
        };
        assert_eq!(views.map(of_view).collect::<Vec<_>>(), records.iter().map(of_record).collect::<Vec<_>>());
        let last_tail = parts.iter().rev().find_map(|part| match part {
            ReadPart::Tail(tail) => Some(*tail),
            ReadPart::Record(_) => None,
        });
        assert_eq!(last_tail, tail);
    }

    proptest! {
        #[test]
        fn walking_and_building_agree(
            records in vec(arb_record(), 0..4),
            tail in any::<Option<(u64, u64)>>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let tail = tail.map(|(seq_num, timestamp)| proto::StreamPosition { seq_num, timestamp });
            let message = proto::ReadBatch { records, tail }.encode_to_vec();
            agrees(&message);
            agrees(&message[..cut.index(message.len() + 1)]);
        }
    }

    #[test]
    fn a_bad_part_is_the_last() {
        // The second record ends inside a field, or itself.
        for bad in [&b"\x0a\x01\x08"[..], b"\x0a\x05\x08\x01"] {
            let message = [b"\x0a\x02\x08\x01", bad, b"\x0a\x00"].concat();
            let mut parts = read_parts(&message);
            assert!(matches!(parts.next(), Some(Ok(ReadPart::Record(view))) if view.seq_num == SeqNum::new(1)));
            assert!(matches!(parts.next(), Some(Err(_))), "{bad:?}");
            assert!(parts.next().is_none());
        }
    }
}
