//! What the fuzz targets drive, beside the code it is about. Each function panics if what it states does not hold.
//!
//! `tests/fuzz_seeds.rs` replays the seeds through the same functions.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use tokio_util::codec::Decoder;

use super::{
    DecodeError, Frame, FrameBuffer, FrameCodec, FrameCodecError, FrameError, InputError, RecordsWriter,
    decode_append_input, decode_read_batch, deflate, encode_read_batch, inflate as wire_inflate, proto,
    put_message_frame, put_terminal_frame,
};
use crate::types::{AppendBatch, AppendInput, Batch, Compression, FencingToken, SeqNum, Timestamp};

/// Frames do not depend on where the chunks are cut, and come back when they are written again.
///
/// `data`: a number of chunk lengths, the lengths (used in turn), the stream.
pub fn frame_decoder(data: &[u8]) {
    let (lengths, stream) = split_lengths(data);
    let whole = frames_of(stream, &[]);
    assert_eq!(frames_of(stream, lengths), whole, "cut into {lengths:?}");
    assert_eq!(frames_of_codec(stream), whole, "tokio's codec");

    let mut again = BytesMut::new();
    for frame in &whole.0 {
        put_frame(&mut again, frame);
    }
    assert_eq!(frames_of(&again, lengths), (whole.0, Ok(())));
}

/// Chunk lengths and stream of the data that [`frame_decoder`] takes.
pub fn split_lengths(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return (&[], &[]) };
    rest.split_at(usize::from(count).min(rest.len()))
}

fn frames_of(stream: &[u8], lengths: &[u8]) -> (Vec<Frame>, Result<(), FrameError>) {
    let (mut buffer, mut frames, mut rest) = (FrameBuffer::new(), Vec::new(), stream);
    let mut lengths = lengths.iter().map(|&len| usize::from(len)).cycle();
    while !rest.is_empty() {
        // A length of zero is a chunk of everything that is left.
        let len = lengths.next().filter(|len| *len > 0).unwrap_or(rest.len()).min(rest.len());
        buffer.push(Bytes::copy_from_slice(&rest[..len]));
        rest.advance(len);
        loop {
            match buffer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, buffer.finish())
}

fn frames_of_codec(stream: &[u8]) -> (Vec<Frame>, Result<(), FrameError>) {
    let (mut rest, mut frames) = (BytesMut::from(stream), Vec::new());
    loop {
        match FrameCodec.decode_eof(&mut rest) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, Ok(())),
            Err(FrameCodecError::Frame(error)) => return (frames, Err(error)),
            Err(error) => panic!("{error}"),
        }
    }
}

fn put_frame(out: &mut BytesMut, frame: &Frame) {
    match frame {
        Frame::Message { compression, advice, body } => put_message_frame(out, *compression, *advice, body),
        Frame::Terminal(terminal) => put_terminal_frame(out, terminal),
    }
    .expect("a frame that was read is short enough to be written");
}

/// Decompression keeps the limit, and what came out goes in and out again.
///
/// `data`: which compression, the limit in KiB, the body.
pub fn inflate(data: &[u8]) {
    let &[choice, limit, ref body @ ..] = data else { return };
    let (compression, limit) = (Compression::ALL[usize::from(choice) % 3], usize::from(limit) * 1024);
    let Ok(content) = wire_inflate(compression, Bytes::copy_from_slice(body), limit) else { return };
    assert!(content.len() <= limit);
    let again = deflate(compression, &content).expect("the compressors do not fail");
    assert_eq!(wire_inflate(compression, again, limit), Ok(content));
}

/// An input is accepted or refused, and read, as a full protobuf decoder would; and its records come back from a batch.
///
/// `data`: an `AppendInput` message.
pub fn append_input(data: &[u8]) {
    let result = decode_append_input(Bytes::copy_from_slice(data));
    match (result, reference_input(data)) {
        (Ok(input), Ok(reference)) => {
            same_input(&input, &reference);
            comes_back(&input.batch);
        }
        (Err(InputError::Malformed(DecodeError::Protobuf(_))), Err(InputError::Malformed(_))) => {}
        (Err(error), Err(reference)) => assert_eq!(error, reference),
        (result, reference) => panic!("{result:?}, and by the reference {reference:?}"),
    }
}

/// The long way: all of it into messages, then into records. Any `Malformed` stands for what prost says.
fn reference_input(data: &[u8]) -> Result<AppendInput, InputError> {
    let message = proto::AppendInput::decode(data).map_err(|_| DecodeError::UnexpectedTerminal)?;
    let mut records = RecordsWriter::new();
    for record in &message.records {
        let headers = record.headers.iter().map(|header| (&header.name[..], &header.value[..]));
        records.push(record.timestamp.map(Timestamp::new), headers, &record.body);
    }
    let batch = records.into_batch().map_err(InputError::Invalid)?;
    let fencing_token = message.fencing_token.as_deref().map(FencingToken::new);
    Ok(AppendInput {
        batch,
        match_seq_num: message.match_seq_num.map(SeqNum::new),
        fencing_token: fencing_token.transpose().map_err(InputError::FencingTokenTooLong)?,
    })
}

fn same_input(input: &AppendInput, reference: &AppendInput) {
    assert_eq!(input.match_seq_num, reference.match_seq_num);
    assert_eq!(input.fencing_token, reference.fencing_token);
    assert_eq!(input.batch.metered(), reference.batch.metered());
    assert_eq!(input.batch.commands(), reference.batch.commands());
    assert_eq!(input.batch.all_timestamped(), reference.batch.all_timestamped());
    assert_eq!(input.batch.len(), reference.batch.len());
    for (record, reference) in input.batch.records().zip(reference.batch.records()) {
        assert_eq!(record.timestamp, reference.timestamp);
        assert_eq!(record.metered(), reference.metered());
        assert_eq!(record.fields(), reference.fields());
    }
}

/// Numbers and stamps the records, shows them to a reader, and compares what it gets.
pub(super) fn comes_back(append: &AppendBatch) {
    let (first, mut last) = (SeqNum::new(7), Timestamp::new(0));
    let batch = Batch::sequence(append, first, |timestamp| {
        last = timestamp.unwrap_or_default().max(last);
        last
    });
    assert_eq!(batch.metered(), append.metered());
    assert_eq!(batch.end().seq_num, first.saturating_add(append.len() as u64));

    let message = encode_read_batch(&[batch.whole()], Some(batch.end())).into_bytes();
    let shown = decode_read_batch(message).expect("written as it is read");
    assert_eq!(shown.tail, Some(batch.end()));
    assert_eq!(shown.records.len(), append.len());
    for ((sent, shown), kept) in append.records().zip(&shown.records).zip(batch.whole().records()) {
        let headers = shown.headers.iter().map(|(name, value)| (&name[..], &value[..]));
        assert!(sent.fields().headers().eq(headers.clone()) && kept.fields.headers().eq(headers));
        assert!(sent.fields().body() == shown.body && kept.fields.body() == shown.body);
        assert_eq!((kept.seq_num, kept.timestamp), (shown.seq_num, shown.timestamp));
        assert!(sent.timestamp.is_none_or(|timestamp| timestamp <= shown.timestamp));
    }
}
