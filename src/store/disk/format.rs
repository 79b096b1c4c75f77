//! The bytes that stand in the database: keys and values of batches, segments, heads and the meta table, and what stands
//! in a segment before each batch. Knows no database, and no file. Numbers are in big endian where nothing else is said.
//!
//! ```text
//! batch  key     [log, low half 4, high half 4][first seq_num 8][count 4][last timestamp 8][metered before 8][metered 4][place 1]
//!        value   [version 1][checksum 8 LE][batch]                    as `batch_bytes` writes it
//!        or, by its place, a pointer to that value, which stands in a segment behind its key and its length
//! pointer        [version 1][checksum 8 LE][segment 8][offset 8][length 4]
//! in a segment   ([batch key][length 4][value])*
//! segment key    [number 8]
//!        value   [version 1][checksum 8 LE][live 8][written 8]
//! head   key     [stream id 16]
//!        value   [version 1][checksum 8 LE][log 8][tail 8, 8][trim point 8][appended 8][released 8, 8][token length 8][token 0..=36]
//! meta   value   [version of the row 8 LE][value]
//! ```
//!
//! * What a search needs to know of a batch stands in its key, because the engine keeps values apart from keys: seeking
//!   by time, counting and trimming read no record. So does what it leaves of the head: an append that moves only the
//!   tail writes no head, and the head then is the stored one with the end of the last batch ([`StoredHead::after`]).
//! * The low half of a log's number stands first: the engine keeps the first four bytes of a key where it compares them
//!   without following a pointer, and there they are to tell one log from the other.
//! * `metered before` counts the log's records from its first on, so that sizes of ranges are differences.
//! * A checksum (XXH3, 64 bits) covers all that follows it and, by its seed, the key: a value under another key's name is
//!   as wrong as one with a flipped bit.

use bytes::{Buf, BufMut, Bytes};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use crate::{
    store::batch_bytes,
    types::{Batch, FencingToken, Head, Position, SeqNum, Timestamp},
};

/// Of all that has a checksum. What is stored with another version is not read.
const VERSION: u8 = 1;
/// Bytes before what a checksum covers: version and checksum.
const COVER_LEN: usize = 9;
/// A head without its token.
const HEAD_LEN: usize = 8 * 8;

/// Which log a batch is part of: a number of this store, never given twice, also not to a stream that was deleted and
/// made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LogNumber(pub(super) u64);

/// The key of a batch: where it lies, and what searches ask of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchKey {
    pub(super) log: LogNumber,
    pub(super) first: SeqNum,
    /// Records.
    pub(super) count: u32,
    pub(super) last_timestamp: Timestamp,
    /// Metered bytes of all records of the log before this batch.
    pub(super) metered_before: u64,
    /// Metered bytes of its own.
    pub(super) metered: u32,
    /// Stands in the key so that removing batches reads pointers and no batch.
    pub(super) place: Place,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind its key, in the database.
    Database,
    /// In a segment, to which the database has a pointer.
    Segment,
}

/// Which segment: a number that is greater than that of every segment there is when it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SegmentNumber(pub(super) u64);

/// Where in a segment the value of a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) segment: SegmentNumber,
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// How much of a segment is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes that pointers lead to, with what stands before them.
    pub(super) live: u64,
    /// Where what was ever pointed to ends.
    pub(super) written: u64,
}

/// What the database knows of a stream beside its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredHead {
    pub(super) log: LogNumber,
    pub(super) head: Head,
    /// Metered bytes of all records that the log ever had.
    pub(super) appended: u64,
    pub(super) released: Released,
}

/// How much of a log's beginning was let go of: up to the start of a batch, or to the tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Released {
    /// Batches that begin before are no longer part of the log, whether or not they are still stored.
    pub(super) to: SeqNum,
    /// Metered bytes of them.
    pub(super) metered: u64,
}

/// Why stored bytes are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("its format version {0} is unknown")]
    Version(u8),
    #[error("its checksum does not match")]
    Checksum,
    #[error("it is malformed")]
    Malformed,
    #[error("it is missing")]
    Missing,
}

impl BatchKey {
    pub(super) const LEN: usize = 41;

    pub(super) fn of(log: LogNumber, batch: &Batch, metered_before: u64, place: Place) -> Self {
        Self {
            log,
            first: batch.first_seq_num(),
            // By the limits of a batch, both fit.
            count: batch.len() as u32,
            last_timestamp: batch.end().timestamp,
            metered_before,
            metered: batch.metered() as u32,
            place,
        }
    }

    /// Sorts before the key of every batch of `log` that begins at `first` or later, and after all others of the log.
    pub(super) fn lower(log: LogNumber, first: SeqNum) -> [u8; Self::LEN] {
        let (last_timestamp, place) = (Timestamp::new(0), Place::Database);
        Self { log, first, count: 0, last_timestamp, metered_before: 0, metered: 0, place }.to_bytes()
    }

    /// Where the log stands behind this batch.
    pub(super) fn end(&self) -> Position {
        Position { seq_num: self.first.saturating_add(u64::from(self.count)), timestamp: self.last_timestamp }
    }

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let mut rest = &mut bytes[..];
        rest.put_u64(self.log.0.rotate_left(32));
        rest.put_u64(self.first.get());
        rest.put_u32(self.count);
        rest.put_u64(self.last_timestamp.get());
        rest.put_u64(self.metered_before);
        rest.put_u32(self.metered);
        rest.put_u8(self.place as u8);
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, Damage> {
        if bytes.len() != Self::LEN {
            return Err(Damage::Malformed);
        }
        Ok(Self {
            log: LogNumber(bytes.get_u64().rotate_right(32)),
            first: SeqNum::new(bytes.get_u64()),
            count: bytes.get_u32(),
            last_timestamp: Timestamp::new(bytes.get_u64()),
            metered_before: bytes.get_u64(),
            metered: bytes.get_u32(),
            place: Place::decode(bytes.get_u8())?,
        })
    }

    /// Whether the batch of these bytes of a key stands in a segment.
    pub(super) fn is_in_segment(bytes: &[u8]) -> bool {
        bytes.last() == Some(&(Place::Segment as u8))
    }
}

impl Place {
    const fn decode(byte: u8) -> Result<Self, Damage> {
        match byte {
            0 => Ok(Self::Database),
            1 => Ok(Self::Segment),
            _ => Err(Damage::Malformed),
        }
    }
}

impl Pointer {
    const LEN: usize = COVER_LEN + 8 + 8 + 4;

    pub(super) fn encode(&self, key: &BatchKey) -> Bytes {
        let mut value = Vec::with_capacity(Self::LEN);
        value.put_bytes(0, COVER_LEN);
        value.put_u64(self.segment.0);
        value.put_u64(self.offset);
        value.put_u32(self.len);
        cover(&mut value, &key.to_bytes());
        value.into()
    }

    pub(super) fn decode(key: &BatchKey, value: &[u8]) -> Result<Self, Damage> {
        let mut rest = uncover(value, &key.to_bytes())?;
        match value.len() == Self::LEN {
            true => Ok(Self { segment: SegmentNumber(rest.get_u64()), offset: rest.get_u64(), len: rest.get_u32() }),
            false => Err(Damage::Malformed),
        }
    }

    /// Where what it leads to ends.
    pub(super) const fn end(&self) -> u64 {
        self.offset + self.len as u64
    }

    /// Bytes of the segment that are needed for what it leads to.
    pub(super) const fn footprint(&self) -> u64 {
        FrameHead::LEN as u64 + self.len as u64
    }
}

/// What stands in a segment before the value of a batch: whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) key: BatchKey,
    pub(super) len: u32,
}

impl FrameHead {
    pub(super) const LEN: usize = BatchKey::LEN + 4;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..BatchKey::LEN].copy_from_slice(&self.key.to_bytes());
        bytes[BatchKey::LEN..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, Damage> {
        let (key, mut len) = bytes.split_at(BatchKey::LEN);
        Ok(Self { key: BatchKey::decode(key)?, len: len.get_u32() })
    }
}

impl Usage {
    const LEN: usize = COVER_LEN + 8 + 8;

    pub(super) fn encode(&self, segment: SegmentNumber) -> Vec<u8> {
        let mut value = Vec::with_capacity(Self::LEN);
        value.put_bytes(0, COVER_LEN);
        value.put_u64(self.live);
        value.put_u64(self.written);
        cover(&mut value, &segment.0.to_be_bytes());
        value
    }

    pub(super) fn decode(segment: SegmentNumber, value: &[u8]) -> Result<Self, Damage> {
        let mut rest = uncover(value, &segment.0.to_be_bytes())?;
        match value.len() == Self::LEN {
            true => Ok(Self { live: rest.get_u64(), written: rest.get_u64() }),
            false => Err(Damage::Malformed),
        }
    }

    pub(super) fn add(&mut self, pointer: &Pointer) {
        self.live += pointer.footprint();
        self.written = self.written.max(pointer.end());
    }

    pub(super) fn remove(&mut self, pointer: &Pointer) {
        self.live = self.live.saturating_sub(pointer.footprint());
    }

    /// Bytes that nobody needs.
    pub(super) const fn dead(&self) -> u64 {
        self.written.saturating_sub(self.live)
    }
}

/// Whether `value` is one of this key, without its records being looked at.
pub(super) fn check_batch(key: &BatchKey, value: &[u8]) -> Result<(), Damage> {
    uncover(value, &key.to_bytes()).map(|_| ())
}

/// The value of `batch` under `key`: a second copy of its records on their way to the disk. The engine makes one more.
pub(super) fn encode_batch(key: &BatchKey, batch: &Batch) -> Bytes {
    // To the byte, or sharing the value would take an allocation of its own.
    let mut value = Vec::with_capacity(COVER_LEN + batch_bytes::len(batch));
    value.put_bytes(0, COVER_LEN);
    batch_bytes::put(&mut value, batch);
    cover(&mut value, &key.to_bytes());
    value.into()
}

// Varints of lengths and sizes take three bytes at most; times are close together.
fn index_len(batch: &Batch) -> usize {
    16 + 8 * batch.len()
}

/// The value of a batch that goes to a segment, in two pieces, so that its records are not copied.
#[derive(Debug)]
pub(super) struct Pieces {
    front: Bytes,
    records: Bytes,
}

impl Pieces {
    /// What [`encode_batch`] makes of it.
    pub(super) fn of(key: &BatchKey, batch: &Batch) -> Self {
        let mut front = Vec::with_capacity(COVER_LEN + index_len(batch));
        front.put_bytes(0, COVER_LEN);
        batch_bytes::put_index(&mut front, batch);
        let records = batch.records_bytes().clone();
        let mut sum = Xxh3::with_seed(xxh3_64(&key.to_bytes()));
        sum.update(&front[COVER_LEN..]);
        sum.update(&records);
        put_cover(&mut front, sum.digest());
        Self { front: front.into(), records }
    }

    /// A value that was read.
    pub(super) const fn whole(value: Bytes) -> Self {
        Self { front: value, records: Bytes::new() }
    }

    pub(super) const fn len(&self) -> usize {
        self.front.len() + self.records.len()
    }

    /// One behind the other.
    pub(super) fn in_order(&self) -> [&[u8]; 2] {
        [&self.front, &self.records]
    }
}

/// The batch of a key and its value, which it shares.
pub(super) fn decode_batch(key: &BatchKey, value: Bytes) -> Result<Batch, Damage> {
    uncover(&value, &key.to_bytes())?;
    let mut rest = value.slice(COVER_LEN..);
    let batch = batch_bytes::take(key.first, &mut rest).ok_or(Damage::Malformed)?;
    match rest.is_empty() && batch.end() == key.end() {
        true => Ok(batch),
        false => Err(Damage::Malformed),
    }
}

impl StoredHead {
    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let Head { tail, fencing_token, trim_point } = &self.head;
        let token = fencing_token.as_str();
        let mut value = Vec::with_capacity(COVER_LEN + HEAD_LEN + token.len());
        value.put_bytes(0, COVER_LEN);
        value.put_u64(self.log.0);
        value.put_u64(tail.seq_num.get());
        value.put_u64(tail.timestamp.get());
        value.put_u64(trim_point.get());
        value.put_u64(self.appended);
        value.put_u64(self.released.to.get());
        value.put_u64(self.released.metered);
        value.put_u64(token.len() as u64);
        value.put_slice(token.as_bytes());
        cover(&mut value, key);
        value
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Damage> {
        let mut rest = uncover(value, key)?;
        if rest.len() < HEAD_LEN {
            return Err(Damage::Malformed);
        }
        let log = LogNumber(rest.get_u64());
        let tail = Position::new(rest.get_u64(), rest.get_u64());
        let trim_point = SeqNum::new(rest.get_u64());
        let appended = rest.get_u64();
        let released = Released { to: SeqNum::new(rest.get_u64()), metered: rest.get_u64() };
        let token_len = rest.get_u64();
        if token_len != rest.len() as u64 {
            return Err(Damage::Malformed);
        }
        let token = std::str::from_utf8(rest).map_err(|_| Damage::Malformed)?;
        let fencing_token = FencingToken::new(token).map_err(|_| Damage::Malformed)?;
        Ok(Self { log, head: Head { tail, fencing_token, trim_point }, appended, released })
    }

    /// The head that an append left behind which moved only the tail.
    pub(super) fn after(self, batch: &BatchKey) -> Self {
        let head = Head { tail: batch.end(), ..self.head };
        Self { head, appended: batch.metered_before + u64::from(batch.metered), ..self }
    }

    /// Metered bytes of what was not let go of.
    pub(super) fn stored(&self) -> u64 {
        self.appended.saturating_sub(self.released.metered)
    }
}

/// Fills in version and checksum of what was written behind the room for them.
fn cover(value: &mut [u8], key: &[u8]) {
    let checksum = xxh3_64_with_seed(&value[COVER_LEN..], xxh3_64(key));
    put_cover(value, checksum);
}

fn put_cover(value: &mut [u8], checksum: u64) {
    value[0] = VERSION;
    value[1..COVER_LEN].copy_from_slice(&checksum.to_le_bytes());
}

/// What the checksum of `value` covers, if it matches.
fn uncover<'a>(value: &'a [u8], key: &[u8]) -> Result<&'a [u8], Damage> {
    let mut front = value;
    if front.len() < COVER_LEN {
        return Err(Damage::Malformed);
    }
    match (front.get_u8(), front.get_u64_le()) {
        (VERSION, checksum) if checksum == xxh3_64_with_seed(front, xxh3_64(key)) => Ok(front),
        (VERSION, _) => Err(Damage::Checksum),
        (version, _) => Err(Damage::Version(version)),
    }
}

/// The value of a row of the meta table.
pub(super) fn encode_row(version: u64, value: &[u8]) -> Vec<u8> {
    [&version.to_le_bytes(), value].concat()
}

/// Version and value of a row of the meta table.
pub(super) fn decode_row(mut row: Bytes) -> Result<(u64, Bytes), Damage> {
    match row.len() < 8 {
        true => Err(Damage::Malformed),
        false => Ok((row.get_u64_le(), row)),
    }
}

/// A number on its own.
pub(super) fn decode_number(bytes: &[u8]) -> Result<u64, Damage> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| Damage::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::testing::{self, Records, fencing_token};

    fn stored() -> (BatchKey, Batch, Bytes) {
        let batch = testing::batch(7, &[("a", 3), ("", 3), ("some longer body", 1 << 40)]);
        let key = BatchKey::of(LogNumber(5), &batch, 100, Place::Database);
        let value = encode_batch(&key, &batch);
        (key, batch, value)
    }

    fn head() -> StoredHead {
        StoredHead {
            log: LogNumber(9),
            head: Head {
                tail: Position::new(12, 34),
                fencing_token: fencing_token("a token of thirty-six bytes, no less"),
                trim_point: SeqNum::new(3),
            },
            appended: 77,
            released: Released { to: SeqNum::new(2), metered: 22 },
        }
    }

    #[test]
    fn a_batch_comes_back_and_shares_the_bytes() {
        let (key, batch, value) = stored();
        let found = decode_batch(&key, value.clone()).unwrap();
        assert_eq!(format!("{found:?}"), format!("{batch:?}"));
        assert_eq!(found.records_bytes(), batch.records_bytes());
        assert!(found.stored_index().eq(batch.stored_index()));
        assert!(value.as_ptr_range().contains(&found.records_bytes().as_ptr()), "the same bytes");
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let (key, _, value) = stored();
        for i in 0..value.len() * 8 {
            let mut bytes = value.to_vec();
            bytes[i / 8] ^= 1 << (i % 8);
            assert!(decode_batch(&key, bytes.into()).is_err(), "bit {i}");
        }
        for len in 0..value.len() {
            assert!(decode_batch(&key, value.slice(..len)).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn a_batch_under_another_key_is_none() {
        let (key, _, value) = stored();
        for other in [
            BatchKey { log: LogNumber(6), ..key },
            BatchKey { first: SeqNum::new(8), ..key },
            BatchKey { last_timestamp: Timestamp::new(3), ..key },
            BatchKey { metered_before: 0, ..key },
            BatchKey { count: 2, ..key },
            BatchKey { metered: 0, ..key },
            BatchKey { place: Place::Segment, ..key },
        ] {
            assert_eq!(decode_batch(&other, value.clone()).unwrap_err(), Damage::Checksum);
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let (key, _, value) = stored();
        let newer = [&[2], &value[1..]].concat();
        assert_eq!(decode_batch(&key, newer.into()).unwrap_err(), Damage::Version(2));
    }

    #[test]
    fn keys_sort_by_log_and_number() {
        let key = |log, first, timestamp| {
            let (first, last_timestamp) = (SeqNum::new(first), Timestamp::new(timestamp));
            let (count, metered_before, metered, place) = (9, 3, 2, Place::Segment);
            BatchKey { log: LogNumber(log), first, count, last_timestamp, metered_before, metered, place }.to_bytes()
        };
        let sorted = [key(1, 0, 9), key(1, 1, 9), key(1, 256, 0), key(2, 0, 0), key(256, 0, 0)];
        assert!(sorted.is_sorted());
        let (log, first) = (LogNumber(1), SeqNum::new(1));
        assert!(BatchKey::lower(log, first) > sorted[0] && BatchKey::lower(log, first) < sorted[1]);
        assert_eq!(BatchKey::decode(&sorted[2]).unwrap().to_bytes(), sorted[2]);
        assert_eq!(BatchKey::decode(&sorted[2][1..]), Err(Damage::Malformed));
    }

    #[test]
    fn a_batch_tells_the_tail_and_how_much_there_is() {
        let batch = testing::batch(12, &[("a", 40), ("b", 41)]);
        let after = head().after(&BatchKey::of(head().log, &batch, 77, Place::Database));
        let tail = batch.end();
        let expected =
            StoredHead { head: Head { tail, ..head().head }, appended: 77 + batch.metered() as u64, ..head() };
        assert_eq!((after, tail), (expected, Position::new(14, 41)));
    }

    #[test]
    fn a_head_comes_back() {
        for head in [head(), StoredHead { head: Head::default(), ..head() }] {
            let value = head.encode(b"stream");
            assert_eq!(StoredHead::decode(b"stream", &value), Ok(head));
            assert_eq!(StoredHead::decode(b"another", &value), Err(Damage::Checksum));
            for i in 0..value.len() * 8 {
                let mut bytes = value.clone();
                bytes[i / 8] ^= 1 << (i % 8);
                assert!(StoredHead::decode(b"stream", &bytes).is_err(), "bit {i}");
            }
        }
    }

    #[test]
    fn a_pointer_comes_back_under_its_key_only() {
        let (key, ..) = stored();
        let pointer = Pointer { segment: SegmentNumber(3), offset: 1 << 40, len: 70_000 };
        let value = pointer.encode(&key);
        assert_eq!(Pointer::decode(&key, &value), Ok(pointer));
        let other = BatchKey { first: SeqNum::new(8), ..key };
        assert_eq!(Pointer::decode(&other, &value), Err(Damage::Checksum));
        for i in 0..value.len() * 8 {
            let mut bytes = value.to_vec();
            bytes[i / 8] ^= 1 << (i % 8);
            assert!(Pointer::decode(&key, &bytes).is_err(), "bit {i}");
        }
        let head = FrameHead { key, len: pointer.len };
        assert_eq!(FrameHead::decode(&head.to_bytes()), Ok(head));
    }

    #[test]
    fn usage_counts_what_pointers_lead_to() {
        let segment = SegmentNumber(3);
        let pointers = [45, 190].map(|offset| Pointer { segment, offset, len: 100 });
        let mut usage = Usage::default();
        pointers.iter().for_each(|pointer| usage.add(pointer));
        assert_eq!(usage, Usage { live: 290, written: 290 });
        assert_eq!(Usage::decode(segment, &usage.encode(segment)), Ok(usage));
        assert_eq!(Usage::decode(SegmentNumber(4), &usage.encode(segment)), Err(Damage::Checksum));
        usage.remove(&pointers[0]);
        assert_eq!((usage.live, usage.dead()), (145, 145));
    }

    #[test]
    fn rows_of_the_meta_table_come_back() {
        assert_eq!(decode_row(encode_row(7, b"value").into()), Ok((7, Bytes::from_static(b"value"))));
        assert_eq!(decode_row(encode_row(u64::MAX, b"").into()), Ok((u64::MAX, Bytes::new())));
        assert_eq!(decode_row(Bytes::from_static(b"short")), Err(Damage::Malformed));
    }

    proptest! {
        #[test]
        fn any_batch_comes_back(first in any::<u64>(), steps in prop::collection::vec((any::<u64>(), 0usize..300), 1..20)) {
            let mut records = Records::new();
            let mut time = 0u64;
            for (step, len) in steps {
                time = time.saturating_add(step >> (step % 64));
                records = records.record(Some(time), &[(b"name", b"value")], &vec![b'x'; len]);
            }
            let first = SeqNum::new(first.min(u64::MAX - 100));
            let batch = Batch::sequence(&records.input().batch, first, Option::unwrap_or_default);
            let key = BatchKey::of(LogNumber(1), &batch, 0, Place::Database);
            let value = encode_batch(&key, &batch);
            prop_assert_eq!(value.len(), COVER_LEN + batch_bytes::len(&batch));
            let found = decode_batch(&key, value).unwrap();
            prop_assert!(found.stored_index().eq(batch.stored_index()));
            prop_assert_eq!(found.records_bytes(), batch.records_bytes());
            prop_assert_eq!((found.start(), found.end(), found.metered()), (batch.start(), batch.end(), batch.metered()));
            prop_assert_eq!(Pieces::of(&key, &batch).in_order().concat(), encode_batch(&key, &batch));
        }

        #[test]
        fn garbage_is_no_batch_and_harms_nobody(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (key, ..) = stored();
            prop_assert!(decode_batch(&key, bytes.clone().into()).is_err());
            // Past the checksum as well.
            let _ = batch_bytes::take(SeqNum::FIRST, &mut bytes.clone().into());
        }
    }
}
