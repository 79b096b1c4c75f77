//! `AppendAck`, straight into a frame and back (`s2s.md` §4).

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::{
    Advice,
    frame::message_head,
    proto::{self, StreamPosition},
};
use crate::types::{
    AppendAck, Compression, Position,
    layout::{Short, position_field_len},
};

const START: u8 = 0x0a;
const END: u8 = 0x12;
const TAIL: u8 = 0x1a;

/// Why a server's bytes are not an ack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// They are not the message.
    #[error("the ack is not well-formed protobuf: {reason}")]
    Malformed {
        /// What the decoder says.
        reason: String,
    },
    /// A position is missing. Servers write all three, also those of two zeros.
    #[error("the ack has no `{field}`")]
    MissingPosition {
        /// Which one.
        field: &'static str,
    },
}

/// Writes the frame of `ack`. It is always too short to be compressed.
pub fn put_append_ack(out: &mut BytesMut, ack: &AppendAck, advice: Advice) {
    let len = ack_len(ack);
    let head = message_head(Compression::None, advice, len).expect("an ack takes at most 72 bytes");
    let mut frame = Short::new();
    head.into_iter().for_each(|byte| frame.byte(byte));
    put_ack(&mut frame, ack);
    out.extend_from_slice(frame.bytes());
}

/// The message alone, for unary responses.
pub fn encode_append_ack(ack: &AppendAck) -> Bytes {
    let mut message = Short::new();
    put_ack(&mut message, ack);
    Bytes::copy_from_slice(message.bytes())
}

/// The ack that a message holds.
pub fn decode_append_ack(message: Bytes) -> Result<AppendAck, AckError> {
    let ack = proto::AppendAck::decode(message).map_err(|error| AckError::Malformed { reason: error.to_string() })?;
    let position = |field, position: Option<StreamPosition>| match position {
        Some(position) => Ok(Position::new(position.seq_num, position.timestamp)),
        None => Err(AckError::MissingPosition { field }),
    };
    Ok(AppendAck {
        start: position("start", ack.start)?,
        end: position("end", ack.end)?,
        tail: position("tail", ack.tail)?,
    })
}

fn ack_len(ack: &AppendAck) -> usize {
    position_field_len(ack.start) + position_field_len(ack.end) + position_field_len(ack.tail)
}

fn put_ack(out: &mut Short, ack: &AppendAck) {
    out.position_field(START, ack.start);
    out.position_field(END, ack.end);
    out.position_field(TAIL, ack.tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_zeros_are_written_and_missing_ones_are_told() {
        let zeros = AppendAck { start: Position::EMPTY, end: Position::EMPTY, tail: Position::EMPTY };
        let message = encode_append_ack(&zeros);
        assert_eq!(message, [0x0a, 0, 0x12, 0, 0x1a, 0][..]);
        assert_eq!(decode_append_ack(message.clone()), Ok(zeros));
        for (len, field) in [(0, "start"), (2, "end"), (4, "tail")] {
            assert_eq!(decode_append_ack(message.slice(..len)), Err(AckError::MissingPosition { field }));
        }
        assert!(matches!(decode_append_ack(message.slice(..1)), Err(AckError::Malformed { .. })));
    }

    #[test]
    fn the_largest_ack_is_framed_behind_what_is_there() {
        let end = Position::new(u64::MAX, u64::MAX);
        let ack = AppendAck { start: end, end, tail: end };
        let mut out = BytesMut::from(&b"before"[..]);
        put_append_ack(&mut out, &ack, Advice::None);
        assert_eq!(out[..10], *b"before\x00\x00\x49\x00");
        assert_eq!(out.len(), 10 + 72);
        assert_eq!(decode_append_ack(out.freeze().slice(10..)), Ok(ack));
    }
}
