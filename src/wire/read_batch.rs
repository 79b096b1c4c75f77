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
    frame::{advised, message_frame, message_head},
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

/// Bytes of records that go into one frame, so that a tail still fits.
const MAX_FRAME_RECORDS: usize = MAX_FRAME_MESSAGE - MAX_TAIL_FIELD_LEN;

/// What followers are sent when `batch` becomes durable: its records, and the tail that it leaves behind.
///
/// The first follower of each compression makes the frame, all others share its bytes. A batch too long for one frame comes
/// as several; each has the tail, which may be ahead of the records beside it (`s2s.md` §7.3).
pub fn follow_frame(batch: &Batch, compression: Compression, advice: Advice) -> FrameBuf {
    match batch.follow_frame(compression, |batch| compressed_follow_frame(batch, compression)) {
        Some(frame) => with_advice(frame.clone(), advice),
        None => read_frames(&[batch.whole()], Some(batch.end()), compression, advice),
    }
}

/// The frame that all followers of one compression share. The plain one is there from the batch's making, unless it would
/// be too long.
fn compressed_follow_frame(batch: &Batch, compression: Compression) -> Option<Bytes> {
    let plain = batch.follow_frame(Compression::None, |_| None)?;
    let message = &plain[FRAME_HEAD_LEN..];
    match message.len() < COMPRESSION_THRESHOLD {
        true => Some(plain.clone()),
        false => message_frame(compression, Advice::None, message).ok(),
    }
}

/// `frame` as it is, or with another head in front of what is shared.
fn with_advice(frame: Bytes, advice: Advice) -> FrameBuf {
    match (advice, frame.first_chunk::<FRAME_HEAD_LEN>()) {
        (Advice::Reconnect, Some(&head)) => {
            let mut out = FrameBuf::from(Bytes::copy_from_slice(&advised(head, advice)));
            out.push(frame.slice(FRAME_HEAD_LEN..));
            out
        }
        _ => frame.into(),
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
