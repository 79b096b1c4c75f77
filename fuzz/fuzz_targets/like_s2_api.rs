//! A stream of frames as the published `s2-api` crate reads it and as the gateway does: the same frames, the same inputs,
//! an error from both or from neither. The input is that of `frame_decoder`, so that the two share their seeds.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use s2_api::v1::stream::{
    proto,
    s2s::{FrameDecoder, SessionMessage},
};
use s2s_gateway::{
    types::{AppendInput, Compression},
    wire::{Advice, Frame, FrameBuffer, InputError, decode_append_input, fuzz::split_lengths, message_frame},
};
use tokio_util::codec::Decoder;

fuzz_target!(|data: &[u8]| {
    let (_, stream) = split_lengths(data);
    let (ours, theirs) = (our_frames(stream), their_frames(stream));
    assert_eq!(ours.0.len(), theirs.0.len());
    assert_eq!(ours.1, theirs.1);
    for (ours, theirs) in ours.0.into_iter().zip(theirs.0) {
        same_frame(ours, theirs);
    }
});

#[derive(Debug, PartialEq, Eq)]
enum End {
    Clean,
    Error,
}

fn our_frames(stream: &[u8]) -> (Vec<Frame>, End) {
    let (mut buffer, mut frames) = (FrameBuffer::new(), Vec::new());
    buffer.push(Bytes::copy_from_slice(stream));
    while let Ok(Some(frame)) = buffer.next_frame() {
        frames.push(frame);
    }
    (frames, if buffer.finish().is_ok() { End::Clean } else { End::Error })
}

fn their_frames(stream: &[u8]) -> (Vec<SessionMessage>, End) {
    let (mut rest, mut frames) = (BytesMut::from(stream), Vec::new());
    loop {
        match FrameDecoder.decode_eof(&mut rest) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, End::Clean),
            Err(_) => return (frames, End::Error),
        }
    }
}

fn same_frame(ours: Frame, theirs: SessionMessage) {
    match (ours, theirs) {
        (Frame::Terminal(ours), SessionMessage::Terminal(theirs)) => {
            assert_eq!((ours.status, &ours.body[..]), (theirs.status, theirs.body.as_bytes()));
        }
        (Frame::Message { compression, advice, body }, SessionMessage::Regular(theirs)) => {
            assert_eq!(advice == Advice::Reconnect, theirs.reconnect_advised());
            // What a damaged compressed body amounts to is a matter of the decompressors.
            if compression == Compression::None {
                same_input(&body, theirs.try_into_proto().ok());
            }
        }
        (ours, theirs) => panic!("{ours:?}, {theirs:?}"),
    }
}

fn same_input(message: &Bytes, theirs: Option<proto::AppendInput>) {
    match (decode_append_input(message.clone()), theirs) {
        (Ok(ours), Some(theirs)) => {
            same_records(&ours, &theirs);
            for compression in Compression::ALL {
                comes_across(message, compression, &theirs);
            }
        }
        (Err(InputError::Malformed(_)), None) => {}
        (Err(InputError::Invalid(_) | InputError::FencingTokenTooLong(_)), Some(_)) => {}
        (ours, theirs) => panic!("{ours:?}, {theirs:?}"),
    }
}

fn same_records(ours: &AppendInput, theirs: &proto::AppendInput) {
    assert_eq!(ours.match_seq_num.map(|seq_num| seq_num.get()), theirs.match_seq_num);
    assert_eq!(ours.fencing_token.as_ref().map(|token| token.as_str()), theirs.fencing_token.as_deref());
    assert_eq!(ours.batch.len(), theirs.records.len());
    for (ours, theirs) in ours.batch.records().zip(&theirs.records) {
        let headers = theirs.headers.iter().map(|header| (&header.name[..], &header.value[..]));
        assert!(ours.fields().headers().eq(headers));
        assert_eq!(ours.fields().body(), theirs.body);
        assert_eq!(ours.timestamp.map(|timestamp| timestamp.get()), theirs.timestamp);
    }
}

/// A frame that the gateway writes is read over there.
fn comes_across(message: &[u8], compression: Compression, theirs: &proto::AppendInput) {
    let frame = message_frame(compression, Advice::Reconnect, message).expect("it came in a frame");
    let (frames, end) = their_frames(&frame);
    assert_eq!(end, End::Clean);
    let [SessionMessage::Regular(read)] = &frames[..] else { panic!("{frames:?}") };
    assert!(read.reconnect_advised());
    assert_eq!(&read.clone().try_into_proto::<proto::AppendInput>().expect("as it was"), theirs);
}
