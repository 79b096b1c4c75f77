//! The frames of `frame` for `tokio_util::codec`: an adapter, nothing more.

use std::io;

use bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::frame::{Frame, FrameError, FrameTooLong, Head, put_message_frame, put_terminal_frame};
use crate::types::layout::FRAME_HEAD_LEN;

/// Reads and writes S2S frames on anything that `tokio_util::codec::Framed` stands on (`s2s.md` §3).
///
/// Bodies are passed on as they are: compressing them, and undoing it, is the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameCodec;

/// What can go wrong between a transport and frames.
#[derive(Debug, thiserror::Error)]
pub enum FrameCodecError {
    /// The bytes are not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message too long to be sent.
    #[error(transparent)]
    TooLong(#[from] FrameTooLong),
    /// The transport failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = FrameCodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameCodecError> {
        let Some(head) = Head::parse(src)? else { return Ok(None) };
        let len = FRAME_HEAD_LEN + head.body_len;
        if src.len() < len {
            src.reserve(len - src.len());
            return Ok(None);
        }
        src.advance(FRAME_HEAD_LEN);
        Ok(Some(head.frame(src.split_to(head.body_len).freeze())?))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameCodecError> {
        match self.decode(src)? {
            None if !src.is_empty() => Err(FrameError::Truncated { buffered: src.len() }.into()),
            frame => Ok(frame),
        }
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = FrameCodecError;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), FrameCodecError> {
        match frame {
            Frame::Message { compression, advice, body } => put_message_frame(out, compression, advice, &body)?,
            Frame::Terminal(terminal) => put_terminal_frame(out, &terminal)?,
        }
        Ok(())
    }
}
