//! A sequenced batch: encoded once, in the form in which it is read, and shared by all.
//!
//! ```text
//! buffer   [head 4][record 0][record 1] … [record n-1][tail field]     the follow frame, uncompressed
//!                  └──────── records ────────────────┘                 what is stored, and what readers are sent
//! index                    ^end 0     ^end 1         ^end n-1          with timestamp and running metered size
//! ```
//!
//! A record stands there as a `ReadBatch.records` field: tag, length, `SequencedRecord`. A batch knows nothing of
//! sockets and compresses nothing; it has a place for the frame of each compression, which whoever needs it first fills.
//! What was decrypted for one reader has no such places ([`Rewriting`]).

use std::{
    fmt, mem,
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::{BufMut, Bytes};

use super::{
    AppendBatch, Compression, Loans, Position, RecordFields, SeqNum, SequencedRecord, Timestamp,
    layout::{self, FRAME_HEAD_LEN},
    limits::MAX_FRAME_MESSAGE,
};

/// Records with their numbers and times; a cheap handle to shared bytes.
#[derive(Clone)]
pub struct Batch(Arc<Shared>);

struct Shared {
    records: Bytes,
    index: Box<[Entry]>,
    first: SeqNum,
    /// By [`Compression::index`]; `None` inside: this batch does not fit into one frame.
    follow_frames: [OnceLock<Option<Bytes>>; 3],
    /// Made when it is first asked for.
    loans: OnceLock<Arc<Loans>>,
}

/// What the index knows of a record.
#[derive(Clone, Copy)]
struct Entry {
    timestamp: Timestamp,
    /// Where in the records' bytes it ends.
    end: u32,
    /// Metered bytes of this and all records before it in the batch.
    metered: u32,
}

/// What a store keeps of a record beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredEntry {
    pub(crate) timestamp: Timestamp,
    /// Bytes of the record in the records' bytes.
    pub(crate) len: u32,
    /// Metered bytes of the record. Those of an encrypted record cannot be told from its bytes.
    pub(crate) metered: u32,
}

impl Batch {
    /// Bytes of memory beside its records.
    pub(super) const MEMORY: usize = size_of::<Shared>() + FRAME_HEAD_LEN;

    /// Bytes of memory for each record beside its headers and its body: its place in the index, its number, its time, its
    /// own head, and the envelope if it is encrypted; at most.
    pub(super) const RECORD_MEMORY: usize = size_of::<Entry>() + 64;

    /// Gives the records of `append` the numbers from `first` on and the timestamps that `timestamp` decides, in order.
    ///
    /// This is the one copy between the socket in and the sockets out. Timestamps must not decrease.
    pub fn sequence(
        append: &AppendBatch,
        first: SeqNum,
        timestamp: impl FnMut(Option<Timestamp>) -> Timestamp,
    ) -> Self {
        Self::sequence_in(append, first, timestamp, |_len| None::<Vec<u8>>)
    }

    /// The same in memory that `lend` gives for just so many bytes; if it gives none, in memory of the allocator.
    pub(crate) fn sequence_in<M>(
        append: &AppendBatch,
        first: SeqNum,
        mut timestamp: impl FnMut(Option<Timestamp>) -> Timestamp,
        lend: impl FnOnce(usize) -> Option<M>,
    ) -> Self
    where
        M: AsRef<[u8]> + AsMut<[u8]> + Send + 'static,
    {
        let (mut end, mut metered, mut seq_num) = (0, 0, first);
        let index: Box<[Entry]> = append
            .records()
            .map(|record| {
                let timestamp = timestamp(record.timestamp);
                let len = layout::sequenced_record_len(seq_num, timestamp, record.fields.len());
                end += (1 + layout::varint_len(len as u64) + len) as u32;
                metered += record.metered;
                seq_num = seq_num.saturating_add(1);
                Entry { timestamp, end, metered }
            })
            .collect();
        let last = index.last().expect("an append batch is never empty");
        let tail = Position { seq_num, timestamp: last.timestamp };

        let records = FRAME_HEAD_LEN..FRAME_HEAD_LEN + end as usize;
        let message_len = end as usize + layout::position_field_len(tail);
        let len = FRAME_HEAD_LEN + message_len;
        let buffer = match lend(len) {
            Some(mut lent) => {
                let mut unwritten = Unwritten(lent.as_mut());
                put_frame(&mut unwritten, message_len, append, &index, first, tail);
                debug_assert!(unwritten.0.is_empty());
                Bytes::from_owner(lent)
            }
            None => {
                let mut buffer = Vec::with_capacity(len);
                put_frame(&mut buffer, message_len, append, &index, first, tail);
                debug_assert_eq!(buffer.len(), len);
                buffer.into()
            }
        };
        let shared = Shared::new(buffer.slice(records), index, first);
        let frame = (message_len <= MAX_FRAME_MESSAGE).then_some(buffer);
        shared.follow_frames[Compression::None.index()].get_or_init(|| frame);
        Self(Arc::new(shared))
    }

    /// The batch that [`Batch::sequence`] once made, of its stored parts: the number of its first record, what its
    /// index knew of each record, and the records' bytes, which are shared and not looked at.
    ///
    /// `None` if the index is none of a batch with these bytes. It has no follow frame yet.
    pub(crate) fn from_stored(
        first: SeqNum,
        records: Bytes,
        index: impl ExactSizeIterator<Item = StoredEntry>,
    ) -> Option<Self> {
        let mut entries = Vec::with_capacity(index.len());
        let mut before = Entry { timestamp: Timestamp::default(), end: 0, metered: 0 };
        for StoredEntry { timestamp, len, metered } in index {
            if timestamp < before.timestamp {
                return None;
            }
            before =
                Entry { timestamp, end: before.end.checked_add(len)?, metered: before.metered.checked_add(metered)? };
            entries.push(before);
        }
        let whole = !entries.is_empty() && before.end as usize == records.len();
        let shared = Shared::new(records, entries.into(), first);
        whole.then(|| Self(Arc::new(shared)))
    }

    /// What the index knows of each record: all that a store must keep beside the first number and the records' bytes.
    pub(crate) fn stored_index(&self) -> impl ExactSizeIterator<Item = StoredEntry> {
        (0..self.len()).map(|i| {
            let Entry { timestamp, end, metered } = self.0.index[i];
            let (offset, before) = (self.offset(i) as u32, self.metered_before(i) as u32);
            StoredEntry { timestamp, len: end - offset, metered: metered - before }
        })
    }

    /// How many records: at least one.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.0.index.len()
    }

    /// The number of the first record.
    pub fn first_seq_num(&self) -> SeqNum {
        self.0.first
    }

    /// Position of the first record.
    pub fn start(&self) -> Position {
        Position { seq_num: self.0.first, timestamp: self.0.index[0].timestamp }
    }

    /// The number after the last record, and the last record's timestamp: the tail that this batch leaves behind.
    pub fn end(&self) -> Position {
        let last = self.0.index.last().expect("a batch is never empty");
        Position { seq_num: self.0.first.saturating_add(self.len() as u64), timestamp: last.timestamp }
    }

    /// Metered bytes of all records.
    pub fn metered(&self) -> usize {
        self.0.index.last().map_or(0, |entry| entry.metered as usize)
    }

    /// The records as `ReadBatch.records` fields.
    pub fn records_bytes(&self) -> &Bytes {
        &self.0.records
    }

    /// Bytes of memory that the batch keeps, without the frames that readers may add.
    pub fn memory(&self) -> usize {
        Self::MEMORY + self.0.index.len() * size_of::<Entry>() + self.0.records.len()
    }

    /// Bytes of memory that it keeps, with the frames that readers have added so far.
    pub fn memory_with_frames(&self) -> usize {
        let added = Compression::ALL.into_iter().filter_map(|compression| self.added_frame(compression));
        self.memory() + added.map(Bytes::len).sum::<usize>()
    }

    /// The frame of one compression, if it was made, and is not the bytes around the records themselves.
    fn added_frame(&self, compression: Compression) -> Option<&Bytes> {
        let frame = self.0.follow_frames[compression.index()].get()?.as_ref()?;
        (!self.lies_in(frame)).then_some(frame)
    }

    /// Whether the records' bytes are part of `frame`.
    fn lies_in(&self, frame: &Bytes) -> bool {
        frame.get(FRAME_HEAD_LEN..).is_some_and(|message| message.as_ptr() == self.0.records.as_ptr())
    }

    /// The same batch without the frames that readers have added, and without a place in common for those to come: for
    /// whoever keeps it longer than readers need them. Its records are shared.
    pub fn without_frames(&self) -> Self {
        let Shared { records, index, first, follow_frames, .. } = &*self.0;
        let plain = match self.added_frame(Compression::None) {
            Some(_) => OnceLock::new(),
            None => follow_frames[Compression::None.index()].clone(),
        };
        let follow_frames = [plain, OnceLock::new(), OnceLock::new()];
        Self(Arc::new(Shared { follow_frames, ..Shared::new(records.clone(), index.clone(), *first) }))
    }

    /// The whole frame that followers get for this batch, as `make` builds it the first time it is asked for.
    ///
    /// `None` if a batch of this size has no frame of its own and must be split. `make` must not ask for the same frame.
    pub fn follow_frame(&self, compression: Compression, make: impl FnOnce(&Batch) -> Option<Bytes>) -> Option<&Bytes> {
        self.0.follow_frames[compression.index()].get_or_init(|| make(self)).as_ref()
    }

    /// How many have its bytes at this time, as far as they say so there.
    pub fn loans(&self) -> &Arc<Loans> {
        self.0.loans.get_or_init(Arc::default)
    }

    /// All records of the batch.
    pub fn whole(&self) -> BatchSlice {
        BatchSlice { batch: self.clone(), range: 0..self.len() }
    }

    /// The records from `seq_num` on, if it is in the batch; all of them if it is before.
    pub fn starting_at(&self, seq_num: SeqNum) -> Option<BatchSlice> {
        let skipped = seq_num.since(self.0.first);
        (skipped < self.len() as u64).then(|| BatchSlice { batch: self.clone(), range: skipped as usize..self.len() })
    }

    /// The number of the first record with this timestamp or a later one.
    pub fn seek(&self, timestamp: Timestamp) -> Option<Position> {
        let skipped = self.0.index.partition_point(|entry| entry.timestamp < timestamp);
        let entry = self.0.index.get(skipped)?;
        Some(Position { seq_num: self.0.first.saturating_add(skipped as u64), timestamp: entry.timestamp })
    }

    /// Where record `i` begins in the records' bytes; for `i == len()`, where they end.
    #[inline]
    fn offset(&self, i: usize) -> usize {
        i.checked_sub(1).map_or(0, |before| self.0.index[before].end as usize)
    }

    /// Metered bytes of the records before `i`.
    fn metered_before(&self, i: usize) -> usize {
        i.checked_sub(1).map_or(0, |before| self.0.index[before].metered as usize)
    }
}

impl Shared {
    fn new(records: Bytes, index: Box<[Entry]>, first: SeqNum) -> Self {
        Self { records, index, first, follow_frames: Default::default(), loans: OnceLock::new() }
    }
}

/// Where a batch is written.
trait Place {
    /// Writes `bytes` behind what was written before, and gives them as they stand there.
    fn put(&mut self, bytes: &[u8]) -> &mut [u8];
}

impl Place for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> &mut [u8] {
        let at = self.len();
        self.extend_from_slice(bytes);
        &mut self[at..]
    }
}

/// What is left of memory that has the length of all that is to be written.
struct Unwritten<'a>(&'a mut [u8]);

impl Place for Unwritten<'_> {
    fn put(&mut self, bytes: &[u8]) -> &mut [u8] {
        let (written, rest) = mem::take(&mut self.0).split_at_mut(bytes.len());
        self.0 = rest;
        written.copy_from_slice(bytes);
        written
    }
}

fn put_frame(
    place: &mut impl Place,
    message_len: usize,
    append: &AppendBatch,
    index: &[Entry],
    first: SeqNum,
    tail: Position,
) {
    place.put(&layout::frame_head(0, message_len));
    put_records(place, append, index, first);
    let mut tail_field = layout::Short::new();
    tail_field.position_field(layout::BATCH_TAIL, tail);
    place.put(tail_field.bytes());
}

fn put_records(place: &mut impl Place, append: &AppendBatch, index: &[Entry], first: SeqNum) {
    let mut seq_num = first;
    for (record, entry) in append.records().zip(index) {
        put_record_head(place, seq_num, entry.timestamp, record.fields.len());
        layout::retag_fields(place.put(record.fields), record.headers_len);
        seq_num = seq_num.saturating_add(1);
    }
}

/// Writes a record as far as its headers and body, which take `fields` bytes.
fn put_record_head(place: &mut impl Place, seq_num: SeqNum, timestamp: Timestamp, fields: usize) {
    let mut head = layout::Short::new();
    head.byte(layout::RECORD);
    head.varint(layout::sequenced_record_len(seq_num, timestamp, fields) as u64);
    head.uint_field(layout::SEQ_NUM, seq_num.get());
    head.uint_field(layout::TIMESTAMP, timestamp.get());
    place.put(head.bytes());
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("start", &self.start())
            .field("end", &self.end())
            .field("metered", &self.metered())
            .finish()
    }
}

/// Some consecutive records of a batch, possibly none: what is left of it after a bound cut it.
#[derive(Clone)]
pub struct BatchSlice {
    batch: Batch,
    range: Range<usize>,
}

impl BatchSlice {
    /// A batch of these records alone, copied: for whoever keeps a few of them, and would keep all the others with them.
    ///
    /// There must be some.
    pub fn copied(&self) -> Batch {
        let (start, before) = (self.batch.offset(self.range.start), self.batch.metered_before(self.range.start));
        let alone = |entry: &Entry| Entry {
            timestamp: entry.timestamp,
            end: entry.end - start as u32,
            metered: entry.metered - before as u32,
        };
        let index = self.batch.0.index[self.range.clone()].iter().map(alone).collect();
        let records = Bytes::copy_from_slice(&self.bytes());
        let first = self.first_seq_num();
        Batch(Arc::new(Shared::new(records, index, first)))
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The batch that it is part of.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Whether it is all of its batch.
    pub fn is_whole(&self) -> bool {
        self.range == (0..self.batch.len())
    }

    /// The number of its first record; of an empty slice, where it lies.
    pub fn first_seq_num(&self) -> SeqNum {
        self.batch.0.first.saturating_add(self.range.start as u64)
    }

    /// The number after its last record.
    pub fn end_seq_num(&self) -> SeqNum {
        self.batch.0.first.saturating_add(self.range.end as u64)
    }

    /// Metered bytes of its records.
    pub fn metered(&self) -> usize {
        self.batch.metered_before(self.range.end) - self.batch.metered_before(self.range.start)
    }

    /// Its records as `ReadBatch.records` fields, shared with the batch.
    pub fn bytes(&self) -> Bytes {
        self.batch.0.records.slice(self.batch.offset(self.range.start)..self.batch.offset(self.range.end))
    }

    /// Bytes of [`BatchSlice::bytes`].
    // Asked of every slice of a page several times; in line wherever that is compiled.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        self.batch.offset(self.range.end) - self.batch.offset(self.range.start)
    }

    /// Its records, in order.
    pub fn records(&self) -> impl Iterator<Item = SequencedRecord<'_>> {
        self.range.clone().map(|i| {
            let timestamp = self.batch.0.index[i].timestamp;
            let seq_num = self.batch.0.first.saturating_add(i as u64);
            let mut rest = &self.batch.0.records[self.batch.offset(i)..self.batch.offset(i + 1)];
            layout::take_tag(&mut rest, layout::RECORD);
            let message = layout::take_delimited(&mut rest).expect("a batch is well formed from its making");
            let skipped = layout::sequenced_record_len(seq_num, timestamp, 0);
            SequencedRecord { seq_num, timestamp, fields: RecordFields::of_sequenced(&message[skipped..]) }
        })
    }

    /// Keeps the longest beginning with at most `count` records, at most `metered` bytes of them, and only records
    /// before `until`. Says which bound cut it, if one did.
    #[must_use = "what was cut off may be the end of the read"]
    pub fn cut(&mut self, count: u64, metered: u64, until: Option<Timestamp>) -> Cut {
        let start = self.range.start;
        let index = &self.batch.0.index[self.range.clone()];
        let by_count = usize::try_from(count).unwrap_or(usize::MAX).min(index.len());
        let before = self.batch.metered_before(start) as u64;
        let by_metered = index.partition_point(|entry| u64::from(entry.metered) - before <= metered);
        let by_until = until.map_or(index.len(), |until| index.partition_point(|entry| entry.timestamp < until));
        let kept = by_count.min(by_metered).min(by_until);
        let cut = if kept < index.len() { Cut::Short } else { Cut::Whole };
        self.range.end = start + kept;
        cut
    }

    /// Takes from the front as many records as fit into `encoded` bytes and leaves the rest; at least one, if any.
    #[must_use]
    pub fn split_to_fit(&mut self, encoded: usize) -> BatchSlice {
        let start = self.batch.offset(self.range.start);
        let index = &self.batch.0.index[self.range.clone()];
        let fitting = index.partition_point(|entry| entry.end as usize - start <= encoded);
        let middle = self.range.start + fitting.max(1).min(index.len());
        let front = BatchSlice { batch: self.batch.clone(), range: self.range.start..middle };
        self.range.start = middle;
        front
    }
}

impl fmt::Debug for BatchSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchSlice({}..{})", self.first_seq_num(), self.end_seq_num())
    }
}

/// A batch in the making for one reader: the numbers, times and metered sizes of a slice's records, with other fields.
///
/// ```text
/// buffer   [record 0][record 1] …          no head, no tail: nothing here is ever the frame of several readers
/// ```
pub(crate) struct Rewriting<'a> {
    slice: &'a BatchSlice,
    buffer: Vec<u8>,
    index: Vec<Entry>,
}

impl<'a> Rewriting<'a> {
    /// None of the records of `slice` yet. Their new fields should not be longer than those they have.
    pub(crate) fn of(slice: &'a BatchSlice) -> Self {
        let buffer = Vec::with_capacity(slice.encoded_len());
        Self { slice, buffer, index: Vec::with_capacity(slice.len()) }
    }

    /// Adds the next record of the slice, with what `open` makes of `fields` in place; leaves it out if that fails.
    ///
    /// There must be a next record.
    pub(crate) fn push<E>(&mut self, fields: &[u8], open: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<(), E> {
        let (start, record_at) = (self.slice.range.start, self.buffer.len());
        let of = self.slice.batch.0.index[start + self.index.len()];
        let seq_num = self.slice.first_seq_num().saturating_add(self.index.len() as u64);
        put_record_head(&mut self.buffer, seq_num, of.timestamp, fields.len());
        let fields_at = self.buffer.len();
        self.buffer.put_slice(fields);
        let opened = open(&mut self.buffer[fields_at..]);
        match opened {
            Ok(()) => {
                let metered = of.metered - self.slice.batch.metered_before(start) as u32;
                self.index.push(Entry { timestamp: of.timestamp, end: self.buffer.len() as u32, metered });
            }
            Err(_) => self.buffer.truncate(record_at),
        }
        opened
    }

    /// The batch of the records so far, if there are any. It has no follow frame, and never gets one.
    pub(crate) fn finish(self) -> Option<Batch> {
        let first = self.slice.first_seq_num();
        let follow_frames = std::array::from_fn(|_| OnceLock::from(None));
        let shared = Shared { follow_frames, ..Shared::new(self.buffer.into(), self.index.into(), first) };
        (!shared.index.is_empty()).then(|| Batch(Arc::new(shared)))
    }
}

/// Whether a bound left records out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All records stayed.
    Whole,
    /// Some records at the end were left out.
    Short,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::append::tests::batch_of;

    /// Records 100.. with these timestamps, metered 8, 9, 10, …
    fn batch(timestamps: &[u64]) -> Batch {
        let body = vec![b'x'; timestamps.len()];
        let records: Vec<_> = (0..timestamps.len()).map(|i| (Some(timestamps[i]), &[][..], &body[..i])).collect();
        Batch::sequence(&batch_of(&records).unwrap(), SeqNum::new(100), |timestamp| timestamp.unwrap())
    }

    fn numbers(slice: &BatchSlice) -> Vec<u64> {
        slice.records().map(|record| record.seq_num.get()).collect()
    }

    #[test]
    fn lent_memory_has_the_same_batch() {
        let append = batch_of(&[(None, &[(b"k", b"v")], b"a"), (Some(3), &[], b""), (None, &[], &[7; 200])]).unwrap();
        let timestamp = |given: Option<Timestamp>| given.unwrap_or(Timestamp::new(3));
        let own = Batch::sequence(&append, SeqNum::new(7), timestamp);
        let lent = Batch::sequence_in(&append, SeqNum::new(7), timestamp, |len| Some(vec![0xff; len]));
        let frame = |batch: &Batch| batch.follow_frame(Compression::None, |_| unreachable!("made with it")).cloned();
        assert_eq!(lent.records_bytes(), own.records_bytes());
        assert_eq!(frame(&lent), frame(&own));
        assert!(lent.stored_index().eq(own.stored_index()));
    }

    #[test]
    fn numbers_and_times_are_given_in_order() {
        let append = batch_of(&[(None, &[(b"k", b"")], b"a"), (Some(3), &[], b""), (None, &[], &[0; 200])]).unwrap();
        let mut asked = Vec::new();
        let batch = Batch::sequence(&append, SeqNum::FIRST, |timestamp| {
            asked.push(timestamp.map(Timestamp::get));
            Timestamp::new(10 * asked.len() as u64)
        });
        assert_eq!(asked, [None, Some(3), None]);
        assert_eq!((batch.start(), batch.end()), (Position::new(0, 10), Position::new(3, 30)));
        assert_eq!((batch.len(), batch.metered()), (3, append.metered()));
        for (i, (kept, sent)) in batch.whole().records().zip(append.records()).enumerate() {
            assert_eq!((kept.seq_num.get(), kept.timestamp.get()), (i as u64, 10 * (i as u64 + 1)));
            assert!(kept.fields.headers().eq(sent.fields().headers()));
            assert_eq!(kept.fields.body(), sent.fields().body());
        }
    }

    #[test]
    fn the_plain_follow_frame_is_there_from_the_start() {
        let batch = batch(&[7, 7]);
        let frame = batch.follow_frame(Compression::None, |_| panic!("made already")).unwrap();
        assert_eq!(frame[..4], layout::frame_head(0, frame.len() - 4));
        let records = batch.records_bytes();
        assert_eq!(frame[4..4 + records.len()], records[..]);
        assert_eq!(frame[4..].as_ptr(), records.as_ptr(), "the same bytes");
        assert_eq!(frame[4 + records.len()..], [0x12, 4, 0x08, 102, 0x10, 7]);
    }

    #[test]
    fn another_frame_is_made_once() {
        let batch = batch(&[1]);
        let made = batch.follow_frame(Compression::Zstd, |_| Some(Bytes::from_static(b"frame"))).cloned();
        assert_eq!(made.unwrap(), "frame");
        let again = batch.clone();
        assert_eq!(again.follow_frame(Compression::Zstd, |_| panic!("made already")).unwrap(), "frame");
        assert_eq!(again.follow_frame(Compression::Gzip, |_| None), None);
    }

    #[test]
    fn a_slice_starts_at_a_record() {
        let batch = batch(&[1, 2, 3]);
        let from = |seq_num| batch.starting_at(SeqNum::new(seq_num)).map(|slice| numbers(&slice));
        assert_eq!(from(0), Some(vec![100, 101, 102]));
        assert_eq!(from(100), Some(vec![100, 101, 102]));
        assert_eq!(from(101), Some(vec![101, 102]));
        assert_eq!(from(102), Some(vec![102]));
        assert_eq!((from(103), from(u64::MAX)), (None, None));
        assert!(batch.whole().is_whole() && batch.starting_at(SeqNum::new(5)).unwrap().is_whole());
        assert!(!batch.starting_at(SeqNum::new(101)).unwrap().is_whole());
    }

    #[test]
    fn the_first_record_of_a_time() {
        let batch = batch(&[10, 20, 20, 30]);
        let seek = |timestamp| batch.seek(Timestamp::new(timestamp));
        assert_eq!(seek(0), Some(Position::new(100, 10)));
        assert_eq!(seek(10), Some(Position::new(100, 10)));
        assert_eq!(seek(11), Some(Position::new(101, 20)));
        assert_eq!(seek(20), Some(Position::new(101, 20)));
        assert_eq!(seek(30), Some(Position::new(103, 30)));
        assert_eq!(seek(31), None);
    }

    #[test]
    fn bounds_cut() {
        const NONE: u64 = u64::MAX;
        // Records 100 to 103, metered 8, 9, 10, 11, at 10, 20, 20, 30.
        let batch = batch(&[10, 20, 20, 30]);
        for (count, metered, until, kept, cut) in [
            (NONE, NONE, None, 4, Cut::Whole),
            (4, 38, Some(31), 4, Cut::Whole),
            (3, NONE, None, 3, Cut::Short),
            (0, NONE, None, 0, Cut::Short),
            (NONE, 37, None, 3, Cut::Short),
            (NONE, 27, None, 3, Cut::Short),
            (NONE, 26, None, 2, Cut::Short),
            (NONE, 7, None, 0, Cut::Short),
            (NONE, NONE, Some(30), 3, Cut::Short),
            (NONE, NONE, Some(20), 1, Cut::Short),
            (NONE, NONE, Some(10), 0, Cut::Short),
            (2, 8, Some(30), 1, Cut::Short),
        ] {
            let mut slice = batch.whole();
            let result = slice.cut(count, metered, until.map(Timestamp::new));
            assert_eq!((slice.len(), result), (kept, cut), "{count} {metered} {until:?}");
            assert_eq!(numbers(&slice), (100..100 + kept as u64).collect::<Vec<_>>());
            assert_eq!(slice.is_empty(), kept == 0);
        }
    }

    #[test]
    fn bounds_count_from_the_start_of_the_slice() {
        let mut slice = batch(&[10, 20, 20, 30]).starting_at(SeqNum::new(101)).unwrap();
        assert_eq!(slice.metered(), 9 + 10 + 11);
        assert_eq!(slice.cut(u64::MAX, 19, None), Cut::Short);
        assert_eq!((numbers(&slice), slice.metered()), (vec![101, 102], 19));
        assert_eq!(slice.cut(1, u64::MAX, None), Cut::Short);
        assert_eq!((slice.first_seq_num().get(), slice.end_seq_num().get()), (101, 102));
        assert_eq!(slice.cut(1, 9, Some(Timestamp::new(21))), Cut::Whole);
        assert_eq!(slice.encoded_len(), slice.bytes().len());
    }

    #[test]
    fn at_least_one_record_is_split_off() {
        let batch = batch(&[1, 1, 1]);
        let lens: Vec<_> = (0..3).map(|i| batch.offset(i + 1) - batch.offset(i)).collect();
        for (room, front) in [(0, 1), (lens[0], 1), (lens[0] + lens[1] - 1, 1), (lens[0] + lens[1], 2), (1000, 3)] {
            let mut rest = batch.whole();
            let split = rest.split_to_fit(room);
            assert_eq!((split.len(), rest.len()), (front, 3 - front), "{room}");
            assert_eq!([split.bytes(), rest.bytes()].concat(), batch.records_bytes()[..]);
            assert_eq!(split.end_seq_num(), rest.first_seq_num());
        }
        let mut empty = batch.whole();
        assert_eq!(empty.cut(0, 0, None), Cut::Short);
        assert!(empty.split_to_fit(1000).is_empty() && empty.is_empty());
    }

    #[test]
    fn a_stored_batch_is_the_one_that_was_made() {
        let made = batch(&[10, 20, 20, 30]);
        let stored =
            Batch::from_stored(made.first_seq_num(), made.records_bytes().clone(), made.stored_index()).unwrap();
        assert_eq!(format!("{stored:?}"), format!("{made:?}"));
        assert_eq!(numbers(&stored.whole()), numbers(&made.whole()));
        assert_eq!(stored.records_bytes().as_ptr(), made.records_bytes().as_ptr(), "the same bytes");
        assert!(made.stored_index().eq(stored.stored_index()));
        let frame = stored.follow_frame(Compression::None, |_| Some(Bytes::from_static(b"frame"))).cloned();
        assert_eq!(frame.unwrap(), "frame", "it can have frames of its own");
        assert_eq!(stored.memory_with_frames(), stored.memory() + 5);
        assert_eq!(made.memory_with_frames(), made.memory(), "that one is the bytes around the records");
        assert_eq!(stored.without_frames().memory_with_frames(), stored.memory());
    }

    #[test]
    fn an_index_that_does_not_fit_the_bytes_makes_no_batch() {
        let made = batch(&[10, 20]);
        let index: Vec<_> = made.stored_index().collect();
        let from = |index: Vec<StoredEntry>| {
            Batch::from_stored(SeqNum::FIRST, made.records_bytes().clone(), index.into_iter()).map(|batch| batch.len())
        };
        assert_eq!(from(index.clone()), Some(2));
        assert_eq!(from(vec![]), None);
        assert_eq!(from(index[..1].to_vec()), None, "bytes are left");
        assert_eq!(from([&index[..], &index[1..]].concat()), None, "bytes are missing");
        assert_eq!(
            from(vec![index[0], StoredEntry { timestamp: Timestamp::new(9), ..index[1] }]),
            None,
            "time goes back"
        );
        assert_eq!(from(vec![index[0], StoredEntry { len: u32::MAX, ..index[1] }]), None);
    }

    #[test]
    fn the_last_numbers_of_all() {
        let append = batch_of(&[(None, &[], b"a"), (None, &[], b"b")]).unwrap();
        let batch = Batch::sequence(&append, SeqNum::new(u64::MAX - 2), |_| Timestamp::new(u64::MAX));
        assert_eq!(batch.end(), Position::new(u64::MAX, u64::MAX));
        assert_eq!(numbers(&batch.whole()), [u64::MAX - 2, u64::MAX - 1]);
    }

    proptest! {
        #[test]
        fn slices_are_what_their_records_are(steps in prop::collection::vec(0u64..3, 1..9), from in 0u64..9, count in 0u64..9, metered in 0u64..90) {
            let timestamps: Vec<_> = steps.iter().scan(0, |time, step| { *time += step; Some(*time) }).collect();
            let batch = batch(&timestamps);
            let Some(mut slice) = batch.starting_at(SeqNum::new(100 + from)) else { return Ok(()) };
            let all = numbers(&slice);
            let cut = slice.cut(count, metered, None);
            let kept = numbers(&slice);
            prop_assert!(all.starts_with(&kept));
            prop_assert_eq!(cut == Cut::Short, kept.len() < all.len());
            prop_assert!(kept.len() as u64 <= count && slice.metered() as u64 <= metered);
            let sizes: usize = kept.iter().map(|seq_num| 8 + (seq_num - 100) as usize).sum();
            prop_assert_eq!(slice.metered(), sizes);
            if let Some(next) = all.get(kept.len()) {
                let one_more = sizes as u64 + 8 + (next - 100);
                prop_assert!(kept.len() as u64 == count || one_more > metered);
            }
        }
    }
}
