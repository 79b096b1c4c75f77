//! `ReadBatch` from sequenced batches, sharing their bytes, and back (`s2s.md` §4, §7.1).
//!
//! ```text
//! plain        [head 4 | small slices …][a large slice, shared][… | tail field]
//! compressed   [head 4 | all of it]
//! ```
//!
//! When to send what, and with which tail, is the session's to know.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::{
    Advice, FrameBuf,
    compress::COMPRESSION_THRESHOLD,
    frame::{message_frame, message_head, with_advice},
    proto,
};
use crate::types::{
    Batch, BatchSlice, Compression, Position, SeqNum, Timestamp,
    layout::{BATCH_TAIL, FRAME_HEAD_LEN, MAX_TAIL_FIELD_LEN, position_field_len, put_position_field},
    limits::MAX_FRAME_MESSAGE,
};

/// Slices of fewer bytes are copied next to each other: a segment of its own costs a reference count, an entry in a
/// vectored write and, where there is TLS, a record.
const SHARED_FROM: usize = 4096;

/// Pages of fewer bytes are compressed again for each reader: it takes some tens of microseconds.
const WORTH_SHARING_FROM: usize = 32 * 1024;

/// Bytes of records that go into one frame, so that a tail still fits.
const MAX_FRAME_RECORDS: usize = MAX_FRAME_MESSAGE - MAX_TAIL_FIELD_LEN;

/// What followers are sent when `batch` becomes durable: its records, and the tail that it leaves behind.
///
/// The first follower of each compression makes the frame, all others share its bytes. A batch too long for one frame comes
/// as several; each has the tail, which may be ahead of the records beside it (`s2s.md` §7.3).
pub fn follow_frame(batch: &Batch, compression: Compression, advice: Advice) -> FrameBuf {
    match shared_follow_frame(batch, compression) {
        Some(frame) => with_advice(frame.clone(), advice),
        None => read_frames(&[batch.whole()], Some(batch.end()), compression, advice),
    }
}

/// The frame that all followers of one compression share, unless the plain one would be too long.
///
/// A batch that was sequenced here has the plain one from its making; one that came out of a store, or that another
/// process appended, gets it now. It must be there before the compressed one is begun: a frame cannot be asked for while
/// it is being made.
fn shared_follow_frame(batch: &Batch, compression: Compression) -> Option<&Bytes> {
    let plain = batch.follow_frame(Compression::None, plain_follow_frame)?;
    match compression {
        Compression::None => Some(plain),
        _ => batch.follow_frame(compression, |_| compressed_follow_frame(plain, compression)),
    }
}

fn plain_follow_frame(batch: &Batch) -> Option<Bytes> {
    let fits = batch.records_bytes().len() <= MAX_FRAME_RECORDS;
    fits.then(|| read_frame(&[batch.whole()], Some(batch.end()), Compression::None, Advice::None).into_bytes())
}

fn compressed_follow_frame(plain: &Bytes, compression: Compression) -> Option<Bytes> {
    let message = &plain[FRAME_HEAD_LEN..];
    match message.len() < COMPRESSION_THRESHOLD {
        true => Some(plain.clone()),
        false => message_frame(compression, Advice::None, message).ok(),
    }
}

/// The frames that show `slices`, which follow each other, to one reader: one, or as many as it takes to keep each within
/// the limit. `tail` goes into each.
///
/// The caller bounds records and metered bytes. Without compression, large slices are shared and not copied.
pub fn read_frames(
    slices: &[BatchSlice],
    tail: Option<Position>,
    compression: Compression,
    advice: Advice,
) -> FrameBuf {
    if slices.iter().map(BatchSlice::encoded_len).sum::<usize>() <= MAX_FRAME_RECORDS {
        return read_frame(slices, tail, compression, advice);
    }
    let mut out = FrameBuf::default();
    for slices in split_into_frames(slices) {
        out.append(read_frame(&slices, tail, compression, advice));
    }
    out
}

/// Whether the compressed frame of `slices` is worth keeping for the next reader, and is one frame.
pub fn is_worth_sharing(slices: &[BatchSlice], compression: Compression) -> bool {
    let len = slices.iter().map(BatchSlice::encoded_len).sum::<usize>();
    compression != Compression::None && (WORTH_SHARING_FROM..=MAX_FRAME_RECORDS).contains(&len)
}

/// The frame that shows `slices`, which are [worth sharing](is_worth_sharing), to any reader that is told of the same tail,
/// or of none.
pub fn page_frame(slices: &[BatchSlice], tail: Option<Position>, compression: Compression) -> Bytes {
    read_frame(slices, tail, compression, Advice::None).into_bytes()
}

fn split_into_frames(slices: &[BatchSlice]) -> Vec<Vec<BatchSlice>> {
    let (mut frames, mut frame, mut room) = (Vec::new(), Vec::new(), MAX_FRAME_RECORDS);
    for slice in slices {
        let mut rest = slice.clone();
        while !rest.is_empty() {
            let untouched = rest.clone();
            let front = rest.split_to_fit(room);
            if front.encoded_len() <= room || frame.is_empty() {
                room = room.saturating_sub(front.encoded_len());
                frame.push(front);
            } else {
                // Its first record alone needs more than is left here; in a frame of its own every record fits.
                rest = untouched;
                frames.push(std::mem::take(&mut frame));
                room = MAX_FRAME_RECORDS;
            }
        }
    }
    frames.push(frame);
    frames
}

fn read_frame(slices: &[BatchSlice], tail: Option<Position>, compression: Compression, advice: Advice) -> FrameBuf {
    let len = message_len(slices, tail);
    if compression == Compression::None || len < COMPRESSION_THRESHOLD {
        let head = message_head(Compression::None, advice, len).expect("split to the limit");
        return gather(&head, slices, tail);
    }
    let message = encode_read_batch(slices, tail).into_bytes();
    message_frame(compression, advice, &message).expect("split to the limit").into()
}

/// The frame that tells a reader at the tail that it is there and that the server lives (`s2s.md` §7.2).
pub fn heartbeat_frame(tail: Position, advice: Advice) -> Bytes {
    let len = position_field_len(tail);
    let head = message_head(Compression::None, advice, len).expect("a tail takes at most 24 bytes");
    let mut out = BytesMut::with_capacity(FRAME_HEAD_LEN + len);
    out.put_slice(&head);
    put_position_field(&mut out, BATCH_TAIL, tail);
    out.freeze()
}

/// The message alone, for unary responses. Large slices are shared and not copied.
pub fn encode_read_batch(slices: &[BatchSlice], tail: Option<Position>) -> FrameBuf {
    gather(&[], slices, tail)
}

fn message_len(slices: &[BatchSlice], tail: Option<Position>) -> usize {
    slices.iter().map(BatchSlice::encoded_len).sum::<usize>() + tail.map_or(0, position_field_len)
}

/// `head`, the slices' records and the tail, with what is small in one buffer and what is large shared.
fn gather(head: &[u8], slices: &[BatchSlice], tail: Option<Position>) -> FrameBuf {
    let small = slices.iter().map(BatchSlice::encoded_len).filter(|len| *len < SHARED_FROM).sum::<usize>();
    let mut copied = BytesMut::with_capacity(head.len() + small + tail.map_or(0, position_field_len));
    let mut out = FrameBuf::default();
    copied.put_slice(head);
    for slice in slices {
        let records = slice.bytes();
        if records.len() < SHARED_FROM {
            copied.put_slice(&records);
        } else {
            out.push(copied.split().freeze());
            out.push(records);
        }
    }
    if let Some(tail) = tail {
        put_position_field(&mut copied, BATCH_TAIL, tail);
    }
    out.push(copied.freeze());
    out
}

/// Why a server's bytes are not a `ReadBatch`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch is not well-formed protobuf: {reason}")]
pub struct ReadBatchError {
    /// What the decoder says.
    reason: String,
}

/// What a reader was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBatch {
    /// In order; none in a heartbeat.
    pub records: Vec<ReadRecord>,
    /// The durable tail, where the server said it.
    pub tail: Option<Position>,
}

/// A record as a reader got it. Headers and body are slices of the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRecord {
    /// Its number.
    pub seq_num: SeqNum,
    /// Its time.
    pub timestamp: Timestamp,
    /// Names and values, in order.
    pub headers: Vec<(Bytes, Bytes)>,
    /// Its body.
    pub body: Bytes,
}

/// The batch that a message holds.
pub fn decode_read_batch(message: Bytes) -> Result<ReadBatch, ReadBatchError> {
    let batch = proto::ReadBatch::decode(message).map_err(|error| ReadBatchError { reason: error.to_string() })?;
    Ok(ReadBatch {
        records: batch.records.into_iter().map(read_record).collect(),
        tail: batch.tail.map(|tail| Position::new(tail.seq_num, tail.timestamp)),
    })
}

fn read_record(record: proto::SequencedRecord) -> ReadRecord {
    ReadRecord {
        seq_num: SeqNum::new(record.seq_num),
        timestamp: Timestamp::new(record.timestamp),
        headers: record.headers.into_iter().map(|header| (header.name, header.value)).collect(),
        body: record.body,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        types::AppendBatch,
        wire::{Frame, FrameBuffer, RecordsWriter, fuzz, inflate},
    };

    fn sequence(append: &AppendBatch, first: u64) -> Batch {
        Batch::sequence(append, SeqNum::new(first), |timestamp| timestamp.unwrap_or_default())
    }

    /// Records with these bodies, numbered from `first`.
    fn batch(first: u64, bodies: &[&[u8]]) -> Batch {
        let mut records = RecordsWriter::new();
        bodies.iter().for_each(|body| records.push(None, [], body));
        sequence(&records.into_batch().unwrap(), first)
    }

    /// Within the metered limit, and yet too long for one frame: 1000 records of 260 headers of one byte each, with long
    /// numbers.
    fn batch_over_the_frame_limit(first: u64) -> Batch {
        let mut records = RecordsWriter::new();
        let header = (&b"n"[..], &b"v"[..]);
        (0..1000).for_each(|_| records.push(Some(Timestamp::new(u64::MAX)), [header; 260], b""));
        let batch = sequence(&records.into_batch().unwrap(), first);
        assert!(batch.records_bytes().len() > MAX_FRAME_MESSAGE);
        batch
    }

    /// What a client makes of frames, and their flags.
    fn shown(frames: FrameBuf) -> (Vec<ReadBatch>, Vec<(Compression, Advice)>) {
        let mut buffer = FrameBuffer::new();
        buffer.push(frames.into_bytes());
        let (mut batches, mut flags) = (Vec::new(), Vec::new());
        while let Some(frame) = buffer.next_frame().unwrap() {
            let Frame::Message { compression, advice, body } = frame else { panic!("{frame:?}") };
            batches.push(decode_read_batch(inflate(compression, body, MAX_FRAME_MESSAGE).unwrap()).unwrap());
            flags.push((compression, advice));
        }
        buffer.finish().unwrap();
        (batches, flags)
    }

    fn expected(slices: &[BatchSlice]) -> Vec<ReadRecord> {
        let copied = |(name, value): (&[u8], &[u8])| (Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
        let record = |record: crate::types::SequencedRecord<'_>| ReadRecord {
            seq_num: record.seq_num,
            timestamp: record.timestamp,
            headers: record.fields.headers().map(copied).collect(),
            body: Bytes::copy_from_slice(record.fields.body()),
        };
        slices.iter().flat_map(|slice| slice.records().map(record).collect::<Vec<_>>()).collect()
    }

    /// As a store gives it back, or another process hands it over.
    fn stored(batch: &Batch) -> Batch {
        let records = Bytes::copy_from_slice(batch.records_bytes());
        Batch::from_stored(batch.first_seq_num(), records, batch.stored_index()).unwrap()
    }

    #[test]
    fn followers_of_a_stored_batch_get_what_those_of_a_new_one_got() {
        let made = [batch(5, &[&[b'a'; 3000], b"b"]), batch(9, &[b"short"]), batch_over_the_frame_limit(1 << 60)];
        // Whichever is asked for first.
        for compressions in [Compression::ALL, {
            let mut all = Compression::ALL;
            all.reverse();
            all
        }] {
            for made in &made {
                let stored = stored(made);
                for compression in compressions {
                    let frame = |batch| follow_frame(batch, compression, Advice::None).into_bytes();
                    assert_eq!(frame(&stored), frame(made), "{compression:?}");
                }
                let shared = stored.follow_frame(Compression::None, |_| panic!("made already"));
                assert_eq!(shared.is_some(), made.records_bytes().len() <= MAX_FRAME_RECORDS);
            }
        }
    }

    #[test]
    fn followers_share_one_frame() {
        let batch = batch(5, &[&[b'a'; 3000], b"b"]);
        for compression in Compression::ALL {
            let (a, b) =
                (follow_frame(&batch, compression, Advice::None), follow_frame(&batch, compression, Advice::None));
            assert_eq!(a.chunk().as_ptr_range(), b.chunk().as_ptr_range(), "{compression:?}");
            let (batches, flags) = shown(a);
            assert_eq!(flags, [(compression, Advice::None)]);
            let records = expected(&[batch.whole()]);
            assert_eq!(batches, [ReadBatch { records, tail: Some(Position::new(7, 0)) }]);
        }
    }

    #[test]
    fn advice_changes_the_head_and_shares_the_rest() {
        let batch = batch(5, &[&[b'a'; 3000]]);
        for (compression, flag) in [(Compression::None, 0x10), (Compression::Zstd, 0x30), (Compression::Gzip, 0x50)] {
            let plain = follow_frame(&batch, compression, Advice::None).into_bytes();
            let mut advised = follow_frame(&batch, compression, Advice::Reconnect);
            assert_eq!(advised.copy_to_bytes(4), [plain[0], plain[1], plain[2], flag][..]);
            assert_eq!(advised.chunk().as_ptr_range(), plain[4..].as_ptr_range());
        }
    }

    #[test]
    fn small_batches_are_followed_plain() {
        // s2s.md §3.3. The body's length leaves 1023 and 1024 bytes of message.
        let len = |body: usize| follow_frame(&batch(1, &[&vec![b'a'; body]]), Compression::None, Advice::None).len();
        let body = 1023 + FRAME_HEAD_LEN - len(900) + 900;
        for (body, compressed) in [(body, Compression::None), (body + 1, Compression::Zstd)] {
            let batch = batch(1, &[&vec![b'a'; body]]);
            assert_eq!(shown(follow_frame(&batch, Compression::Zstd, Advice::None)).1, [(compressed, Advice::None)]);
            let tail = Some(batch.end());
            let frames = read_frames(&[batch.whole()], tail, Compression::Zstd, Advice::Reconnect);
            assert_eq!(shown(frames).1, [(compressed, Advice::Reconnect)]);
        }
        let small = batch(1, &[b"x"]);
        let plain = follow_frame(&small, Compression::None, Advice::None);
        let zstd = follow_frame(&small, Compression::Zstd, Advice::None);
        assert_eq!(plain.chunk().as_ptr_range(), zstd.chunk().as_ptr_range(), "not even copied");
    }

    #[test]
    fn large_slices_are_shared_and_small_ones_gathered() {
        let (small, large) = (batch(0, &[b"a", b"b"]), batch(2, &[&[b'c'; SHARED_FROM]]));
        let slices = [small.whole(), large.whole(), small.whole(), small.whole()];
        let mut frame = read_frames(&slices, Some(Position::EMPTY), Compression::None, Advice::None);
        assert_eq!(frame.chunk().len(), FRAME_HEAD_LEN + small.records_bytes().len());
        frame.advance(frame.chunk().len());
        assert_eq!(frame.chunk().as_ptr_range(), large.records_bytes().as_ptr_range());
        frame.advance(frame.chunk().len());
        assert_eq!(frame.chunk().len(), frame.remaining(), "the rest is one segment");
        assert_eq!(frame.remaining(), 2 * small.records_bytes().len() + 2);
    }

    #[test]
    fn batches_too_long_for_a_frame_are_split_between_records() {
        let batch = batch_over_the_frame_limit(1 << 60);
        let tail = Position::new((1 << 60) + 1000, u64::MAX);
        for compression in Compression::ALL {
            let (batches, flags) = shown(follow_frame(&batch, compression, Advice::Reconnect));
            assert_eq!(flags, [(compression, Advice::Reconnect); 2]);
            assert!(batches.iter().all(|batch| batch.tail == Some(tail)));
            let records: Vec<_> = batches.into_iter().flat_map(|batch| batch.records).collect();
            assert_eq!(records, expected(&[batch.whole()]));
        }
    }

    #[test]
    fn a_page_for_anyone_has_the_records_and_the_tail_if_it_ends_there() {
        let slices: Vec<_> = (0..3).map(|i| batch(i, &[&[b'a'; WORTH_SHARING_FROM / 3]]).whole()).collect();
        for compression in [Compression::Zstd, Compression::Gzip] {
            assert!(is_worth_sharing(&slices, compression));
            for tail in [None, Some(slices[2].batch().end())] {
                let (batches, flags) = shown(page_frame(&slices, tail, compression).into());
                assert_eq!(batches, [ReadBatch { records: expected(&slices), tail }]);
                assert_eq!(flags, [(compression, Advice::None)]);
            }
        }
        assert!(!is_worth_sharing(&slices, Compression::None), "its bytes are shared already");
        assert!(!is_worth_sharing(&slices[..1], Compression::Zstd));
        assert!(!is_worth_sharing(&[batch_over_the_frame_limit(1 << 60).whole()], Compression::Zstd));
    }

    #[test]
    fn slices_too_long_for_a_frame_together_fill_several() {
        let body = vec![b'x'; 900_000];
        let slices: Vec<_> = (0..5).map(|i| batch(i, &[&body]).whole()).collect();
        for compression in Compression::ALL {
            let (batches, _) = shown(read_frames(&slices, None, compression, Advice::None));
            assert_eq!(batches.iter().map(|batch| batch.records.len()).collect::<Vec<_>>(), [2, 2, 1]);
            assert!(batches.iter().all(|batch| batch.tail.is_none()));
            let records: Vec<_> = batches.into_iter().flat_map(|batch| batch.records).collect();
            assert_eq!(records, expected(&slices));
        }
    }

    #[test]
    fn the_largest_append_fits_into_one_frame() {
        let batch = batch(u64::MAX - 1, &[&vec![b'a'; 1_048_568]]);
        assert_eq!(batch.metered(), 1_048_576);
        assert_eq!(shown(follow_frame(&batch, Compression::None, Advice::None)).0.len(), 1);
    }

    #[test]
    fn nothing_at_all_is_an_empty_message() {
        assert_eq!(read_frames(&[], None, Compression::Zstd, Advice::None).into_bytes(), [0, 0, 1, 0][..]);
        assert!(encode_read_batch(&[], None).is_empty());
        assert!(decode_read_batch(Bytes::from_static(&[0x0a])).is_err());
    }

    type Record = (Option<u64>, Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>);

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let bytes = |from, to| vec(any::<u8>(), from..to);
        let body = prop_oneof![4 => bytes(0, 40), 1 => bytes(900, 1200), 1 => bytes(4000, 5000)];
        vec((any::<Option<u64>>(), vec((bytes(1, 4), bytes(0, 4)), 0..3), body), 1..8)
    }

    fn append(records: &[Record]) -> AppendBatch {
        let mut writer = RecordsWriter::new();
        for (timestamp, headers, body) in records {
            let headers = headers.iter().map(|(name, value)| (&name[..], &value[..]));
            writer.push(timestamp.map(Timestamp::new), headers, body);
        }
        writer.into_batch().unwrap()
    }

    proptest! {
        #[test]
        fn records_come_back(records in records()) {
            fuzz::comes_back(&append(&records));
        }

        #[test]
        fn readers_see_the_slices(
            batches in vec((records(), any::<prop::sample::Index>(), 0u64..9), 1..4),
            tail in any::<Option<(u64, u64)>>(),
            compression in prop::sample::select(&Compression::ALL[..]),
        ) {
            let slices: Vec<_> = batches
                .iter()
                .map(|(records, from, count)| {
                    let mut time = Timestamp::new(0);
                    let batch = Batch::sequence(&append(records), SeqNum::new(50), |timestamp| {
                        time = time.max(timestamp.unwrap_or_default());
                        time
                    });
                    let mut slice = batch.starting_at(SeqNum::new(50 + from.index(records.len()) as u64)).unwrap();
                    let _ = slice.cut(*count, u64::MAX, None);
                    slice
                })
                .collect();
            let tail = tail.map(|(seq_num, timestamp)| Position::new(seq_num, timestamp));
            let batch = ReadBatch { records: expected(&slices), tail };
            let (batches, flags) = shown(read_frames(&slices, tail, compression, Advice::Reconnect));
            prop_assert_eq!(batches, std::slice::from_ref(&batch));
            prop_assert_eq!(flags[0].1, Advice::Reconnect);
            let message = encode_read_batch(&slices, tail);
            prop_assert_eq!(flags[0].0 == Compression::None, compression == Compression::None || message.len() < 1024);
            prop_assert_eq!(decode_read_batch(message.into_bytes()), Ok(batch));
        }
    }
}
