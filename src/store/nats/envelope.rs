//! One message of the engine: a commit, which is some batches with the heads that they leave, or the end of a stream.
//! Knows no engine.
//!
//! ```text
//! message   [version 1][checksum 8 LE][kind 1][previous 16][writer 8][write 8][ordinal 8][first 8][metered before 8]
//!           [batches]                                                                        first, metered: commits only
//! batches   [count]([token len 1][token][trim point][batch])*count                           batch: as `batch_bytes` writes it
//! ```
//!
//! * The checksum (XXH3, 64 bits) covers all that follows it and, by its seed, the stream's identity: a message under
//!   another stream's name is as wrong as one with a flipped bit.
//! * `previous` is the identity of the stream's message before this one, so that the messages make a chain: one that is
//!   missing, was put back or comes from elsewhere does not fit. The identity of a message is a hash of everything before
//!   its batches, which the checksum stands for.
//! * `writer` and `write` make every message that is ever published another one, also where two gateways write the same
//!   records at the same place. That is how the writer of one whose answer was lost finds out whose it was.
//! * `ordinal` counts the stream's messages, so that messages that were let go of are told from messages that are missing.
//! * `metered before` counts the stream's metered bytes before this message, so that sizes of ranges are differences.
//! * The tail of a head is the end of its batch; only the rest of it is written.

use bytes::{Buf, BufMut, Bytes};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use crate::{
    store::batch_bytes,
    types::{Batch, FencingToken, Head, Position, SeqNum, StreamId, layout},
};

/// What is written with another version is not read.
const VERSION: u8 = 1;
/// Bytes before what the checksum covers: version and checksum.
const COVER_LEN: usize = 9;
/// Bytes of a message before its batches.
const FRONT_LEN: usize = COVER_LEN + 1 + 16 + 5 * 8;
/// Bytes that a batch takes beside its own: the longest token with its length, and a trim point.
const HEAD_BOUND: usize = 1 + 36 + 10;

/// Which message of all that were ever published this is, for the message after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link(u128);

/// Who published a message, and which of theirs it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriteId {
    /// Drawn at random by each process.
    pub(super) writer: u64,
    /// Counted by the process.
    pub(super) write: u64,
}

/// A batch, and the head that it leaves.
pub(super) type Committed = (Batch, Head);

/// What a message says.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) id: WriteId,
    /// The message before it.
    pub(super) previous: Link,
    /// How many messages of the stream came before.
    pub(super) ordinal: u64,
    pub(super) content: Content,
}

/// What a message is for.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Batches that follow one another, at least one.
    Commit {
        /// Metered bytes of the stream's records before these.
        metered_before: u64,
        batches: Vec<Committed>,
    },
    /// The stream was deleted.
    End,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("its format version {0} is unknown")]
    Version(u8),
    #[error("its checksum does not match")]
    Checksum,
    #[error("it is malformed")]
    Malformed,
}

/// As many bytes as `batch` takes in a message, or more.
pub(super) fn len_bound(batch: &Batch) -> usize {
    HEAD_BOUND + batch_bytes::len_bound(batch)
}

/// As many bytes as a message takes beside its batches, or more.
pub(super) const FRONT_BOUND: usize = FRONT_LEN + 10;

impl Envelope {
    /// The message, and what the next one calls it.
    pub(super) fn encode(&self, stream: StreamId) -> (Bytes, Link) {
        let mut out = Vec::with_capacity(FRONT_BOUND + self.batches().iter().map(|(b, _)| len_bound(b)).sum::<usize>());
        out.put_bytes(0, COVER_LEN);
        out.put_u8(self.content.kind());
        out.put_u128(self.previous.0);
        out.put_u64(self.id.writer);
        out.put_u64(self.id.write);
        out.put_u64(self.ordinal);
        out.put_u64(self.batches().first().map_or(0, |(batch, _)| batch.first_seq_num().get()));
        out.put_u64(self.metered_before());
        debug_assert_eq!(out.len(), FRONT_LEN);
        put_batches(&mut out, self.batches());
        cover(&mut out, stream);
        let link = link_of(&out);
        (out.into(), link)
    }

    /// What `message` of `stream` says, and what the next one calls it. Its batches share the bytes.
    pub(super) fn decode(stream: StreamId, message: &Bytes) -> Result<(Self, Link), Damage> {
        let mut rest = uncover(message, stream)?;
        let kind = rest.get_u8();
        let previous = Link(rest.get_u128());
        let id = WriteId { writer: rest.get_u64(), write: rest.get_u64() };
        let ordinal = rest.get_u64();
        let (first, metered_before) = (SeqNum::new(rest.get_u64()), rest.get_u64());
        let batches = take_batches(first, message.slice(FRONT_LEN..)).ok_or(Damage::Malformed)?;
        let content = match (kind, batches.is_empty()) {
            (Content::COMMIT, false) => Content::Commit { metered_before, batches },
            (Content::END, true) => Content::End,
            _ => return Err(Damage::Malformed),
        };
        Ok((Self { id, previous, ordinal, content }, link_of(message)))
    }

    /// The batches, none at the end of a stream.
    pub(super) fn batches(&self) -> &[Committed] {
        match &self.content {
            Content::Commit { batches, .. } => batches,
            Content::End => &[],
        }
    }

    /// Metered bytes of the stream's records before this message.
    pub(super) fn metered_before(&self) -> u64 {
        match self.content {
            Content::Commit { metered_before, .. } => metered_before,
            Content::End => 0,
        }
    }

    /// The head that this message leaves; that of an empty stream after its end.
    pub(super) fn head(&self) -> Head {
        self.batches().last().map_or_else(Head::default, |(_, head)| *head)
    }

    /// The number of the first record; after the end of a stream, where the next one begins.
    pub(super) fn start(&self) -> SeqNum {
        self.batches().first().map_or(SeqNum::FIRST, |(batch, _)| batch.first_seq_num())
    }

    /// Where the next message begins.
    pub(super) fn end(&self) -> Position {
        self.head().tail
    }

    /// Metered bytes of all batches.
    pub(super) fn metered(&self) -> u64 {
        self.batches().iter().map(|(batch, _)| batch.metered() as u64).sum()
    }
}

impl Content {
    const COMMIT: u8 = 0;
    const END: u8 = 1;

    const fn kind(&self) -> u8 {
        match self {
            Self::Commit { .. } => Self::COMMIT,
            Self::End => Self::END,
        }
    }
}

fn put_batches(out: &mut Vec<u8>, batches: &[Committed]) {
    layout::put_varint(out, batches.len() as u64);
    for (batch, head) in batches {
        debug_assert_eq!(head.tail, batch.end(), "a head's tail is the end of its batch");
        let token = head.fencing_token.as_str();
        out.put_u8(token.len() as u8);
        out.put_slice(token.as_bytes());
        layout::put_varint(out, head.trim_point.get());
        batch_bytes::put(out, batch);
    }
}

fn take_batches(mut first: SeqNum, mut rest: Bytes) -> Option<Vec<Committed>> {
    let count = usize::try_from(take_varint(&mut rest)?).ok()?;
    let mut batches = Vec::with_capacity(count.min(rest.len() / 4));
    for _ in 0..count {
        let fencing_token = take_token(&mut rest)?;
        let trim_point = SeqNum::new(take_varint(&mut rest)?);
        let batch = batch_bytes::take(first, &mut rest)?;
        first = batch.end().seq_num;
        let head = Head { tail: batch.end(), fencing_token, trim_point };
        batches.push((batch, head));
    }
    rest.is_empty().then_some(batches)
}

fn take_varint(bytes: &mut Bytes) -> Option<u64> {
    let mut rest = &bytes[..];
    let value = layout::take_varint(&mut rest)?;
    bytes.advance(bytes.len() - rest.len());
    Some(value)
}

fn take_token(bytes: &mut Bytes) -> Option<FencingToken> {
    let len = usize::from(bytes.try_get_u8().ok()?);
    let token = (len <= bytes.len()).then(|| bytes.split_to(len))?;
    FencingToken::new(std::str::from_utf8(&token).ok()?).ok()
}

/// Fills in version and checksum of what was written behind the room for them.
fn cover(message: &mut [u8], stream: StreamId) {
    let checksum = checksum(&message[COVER_LEN..], stream);
    message[0] = VERSION;
    message[1..COVER_LEN].copy_from_slice(&checksum.to_le_bytes());
}

/// What the checksum of `message` covers, if it matches: at least all that comes before the batches.
fn uncover(message: &[u8], stream: StreamId) -> Result<&[u8], Damage> {
    let mut front = message;
    if front.is_empty() {
        return Err(Damage::Malformed);
    }
    match front.get_u8() {
        VERSION if message.len() < FRONT_LEN => Err(Damage::Malformed),
        VERSION if front.get_u64_le() == checksum(front, stream) => Ok(front),
        VERSION => Err(Damage::Checksum),
        version => Err(Damage::Version(version)),
    }
}

fn checksum(covered: &[u8], stream: StreamId) -> u64 {
    xxh3_64_with_seed(covered, xxh3_64(&stream.to_bytes()))
}

fn link_of(message: &[u8]) -> Link {
    Link(xxh3_128(&message[..FRONT_LEN]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::testing::{self, fencing_token};

    const STREAM: StreamId = StreamId::new(7);

    fn commit() -> Envelope {
        let batches = [testing::batch(5, &[("a", 3), ("", 3)]), testing::batch(7, &[("some longer body", 1 << 40)])];
        let heads = [
            Head { tail: batches[0].end(), ..Head::default() },
            Head {
                tail: batches[1].end(),
                fencing_token: fencing_token("a token of thirty-six bytes, no less"),
                trim_point: SeqNum::new(6),
            },
        ];
        Envelope {
            id: WriteId { writer: 1, write: 2 },
            previous: Link(3),
            ordinal: 4,
            content: Content::Commit { metered_before: 100, batches: batches.into_iter().zip(heads).collect() },
        }
    }

    fn end() -> Envelope {
        Envelope { content: Content::End, ..commit() }
    }

    fn same(found: &Envelope, expected: &Envelope) -> bool {
        format!("{found:?}") == format!("{expected:?}")
            && found
                .batches()
                .iter()
                .zip(expected.batches())
                .all(|((a, _), (b, _))| a.records_bytes() == b.records_bytes())
    }

    #[test]
    fn a_message_comes_back_and_shares_the_bytes() {
        for envelope in [commit(), end()] {
            let (message, link) = envelope.encode(STREAM);
            let (found, found_link) = Envelope::decode(STREAM, &message).unwrap();
            assert!(same(&found, &envelope), "{found:?}");
            assert_eq!(found_link, link);
            for (batch, _) in found.batches() {
                assert!(message.as_ptr_range().contains(&batch.records_bytes().as_ptr()), "the same bytes");
            }
        }
        assert_eq!((commit().start(), commit().end()), (SeqNum::new(5), Position::new(8, 1 << 40)));
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        for envelope in [commit(), end()] {
            let (message, _) = envelope.encode(STREAM);
            for i in 0..message.len() * 8 {
                let mut bytes = message.to_vec();
                bytes[i / 8] ^= 1 << (i % 8);
                assert!(Envelope::decode(STREAM, &bytes.into()).is_err(), "bit {i}");
            }
            for len in 0..message.len() {
                assert!(Envelope::decode(STREAM, &message.slice(..len)).is_err(), "cut at {len}");
            }
        }
    }

    #[test]
    fn a_message_of_another_stream_is_none() {
        let (message, _) = commit().encode(STREAM);
        assert_eq!(Envelope::decode(StreamId::new(8), &message).unwrap_err(), Damage::Checksum);
    }

    #[test]
    fn a_newer_format_is_named() {
        let (message, _) = commit().encode(STREAM);
        let newer = [&[2], &message[1..]].concat();
        assert_eq!(Envelope::decode(STREAM, &newer.into()).unwrap_err(), Damage::Version(2));
    }

    #[test]
    fn the_same_records_written_twice_are_two_messages() {
        let (_, link) = commit().encode(STREAM);
        let another = Envelope { id: WriteId { writer: 9, write: 2 }, ..commit() };
        assert_ne!(another.encode(STREAM).1, link);
        assert_eq!(commit().encode(STREAM).1, link, "and a message sent again is the same");
    }

    #[test]
    fn bounds_are_bounds() {
        let envelope = commit();
        let bound = FRONT_BOUND + envelope.batches().iter().map(|(batch, _)| len_bound(batch)).sum::<usize>();
        assert!(envelope.encode(STREAM).0.len() <= bound);
        assert!(end().encode(STREAM).0.len() <= FRONT_BOUND);
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_no_message_and_harms_nobody(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut covered = [vec![0; COVER_LEN], bytes].concat();
            cover(&mut covered, STREAM);
            let _ = Envelope::decode(STREAM, &covered.into());
        }
    }
}
