//! S2S frames, out of chunks that are cut anywhere, and into bytes (`s2s.md` §3).
//!
//! ```text
//! +-----------------------+----------+--------------------------------+
//! | length: 3 bytes, BE   | flag: 1  | body: length-1 bytes           |
//! +-----------------------+----------+--------------------------------+
//!   flag   T CC R 0000      T terminal, CC compression, R reconnect advised
//! ```
//!
//! What is in a message is not known here, nor who may send which frame.

use std::{collections::VecDeque, mem};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    FrameBuf,
    compress::{self, COMPRESSION_THRESHOLD},
    error_body::error_json,
};
use crate::types::{
    ApiError, Compression,
    layout::{FRAME_HEAD_LEN, frame_head},
    limits::{MAX_FRAME_LEN, MAX_FRAME_MESSAGE},
};

/// Chunks of fewer bytes are joined while they wait, into some of this many.
const SMALL_CHUNK: usize = 256;
const JOINED_UP_TO: usize = 4096;

const LENGTH_LEN: usize = 3;
const STATUS_LEN: usize = 2;

const TERMINAL: u8 = 0x80;
const COMPRESSION: u8 = 0x60;
const ZSTD: u8 = 0x20;
const GZIP: u8 = 0x40;
const RECONNECT: u8 = 0x10;

/// What a frame says about the connection it comes on (`s2s.md` §8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Advice {
    /// Nothing.
    #[default]
    None,
    /// The server is about to stop: finish here, go on over another connection.
    Reconnect,
}

/// A frame as it came, its body still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One protobuf message.
    Message {
        /// How the body is compressed.
        compression: Compression,
        /// What the sender advises.
        advice: Advice,
        /// The message, at most 2 MiB − 1 byte of it.
        body: Bytes,
    },
    /// The error that ended the session.
    Terminal(Terminal),
}

/// What a terminal frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// The HTTP status that a unary call would have had.
    pub status: u16,
    /// An error body: UTF-8, supposedly JSON.
    pub body: Bytes,
}

/// Why bytes are not a frame (`s2s.md` §3.4). No frame can be found after one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is over the limit. Raised when the length is in, without waiting for the rest.
    #[error("a frame's length must not exceed {MAX_FRAME_LEN}, this one's is {length}")]
    TooLong {
        /// The value of the length field.
        length: usize,
    },
    /// The length is zero: there is not even a flag.
    #[error("a frame's length must be at least 1, for its flag")]
    Empty,
    /// The flag names no compression.
    #[error("flag {flag:#04x} names a compression that is not defined")]
    UnknownCompression {
        /// The flag byte.
        flag: u8,
    },
    /// A terminal frame with fewer than two bytes in it.
    #[error("a terminal frame must have a status of {STATUS_LEN} bytes, this one has {len} in all")]
    TerminalWithoutStatus {
        /// Bytes after the flag.
        len: usize,
    },
    /// A terminal frame whose text is not text.
    #[error("the body of a terminal frame is not UTF-8")]
    TerminalNotUtf8,
    /// The end came inside a frame.
    #[error("the end came in the middle of a frame, after {buffered} bytes of it")]
    Truncated {
        /// How much of it there was.
        buffered: usize,
    },
}

/// A message too long to be framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message must not exceed {MAX_FRAME_MESSAGE} bytes in a frame, this one has {len}")]
pub struct FrameTooLong {
    /// Bytes of the message as it would have been sent.
    pub len: usize,
}

/// What the four bytes in front of a body say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    kind: Kind,
    pub(super) body_len: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Message { compression: Compression, advice: Advice },
    Terminal,
}

impl Head {
    /// The head that `bytes` begin with, as soon as there are enough of them; a bad length is told from three.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(&[a, b, c]) = bytes.first_chunk::<LENGTH_LEN>() else { return Ok(None) };
        let body_len = match u32::from_be_bytes([0, a, b, c]) as usize {
            0 => return Err(FrameError::Empty),
            length if length > MAX_FRAME_LEN => return Err(FrameError::TooLong { length }),
            length => length - 1,
        };
        match bytes.get(LENGTH_LEN) {
            Some(&flag) => Ok(Some(Self { kind: Kind::parse(flag, body_len)?, body_len })),
            None => Ok(None),
        }
    }

    /// The frame of this head and `body`, which has the length that the head says.
    pub(super) fn frame(self, body: Bytes) -> Result<Frame, FrameError> {
        match self.kind {
            Kind::Message { compression, advice } => Ok(Frame::Message { compression, advice, body }),
            Kind::Terminal => terminal(body).map(Frame::Terminal),
        }
    }
}

impl Kind {
    /// The terminal bit comes first: the others mean nothing beside it (`s2s.md` §3.1).
    fn parse(flag: u8, body_len: usize) -> Result<Self, FrameError> {
        if flag & TERMINAL != 0 {
            return match body_len < STATUS_LEN {
                true => Err(FrameError::TerminalWithoutStatus { len: body_len }),
                false => Ok(Self::Terminal),
            };
        }
        let compression = match flag & COMPRESSION {
            0 => Compression::None,
            ZSTD => Compression::Zstd,
            GZIP => Compression::Gzip,
            _ => return Err(FrameError::UnknownCompression { flag }),
        };
        let advice = if flag & RECONNECT == 0 { Advice::None } else { Advice::Reconnect };
        Ok(Self::Message { compression, advice })
    }
}

fn terminal(mut body: Bytes) -> Result<Terminal, FrameError> {
    let status = body.try_get_u16().map_err(|_| FrameError::TerminalWithoutStatus { len: body.len() })?;
    match std::str::from_utf8(&body) {
        Ok(_) => Ok(Terminal { status, body }),
        Err(_) => Err(FrameError::TerminalNotUtf8),
    }
}

/// Takes chunks as they come and gives frames.
///
/// A body that lies within one chunk is a slice of it. One that spans chunks is gathered once, into a buffer of its own
/// size, chunk by chunk as they come, so that no chunk is kept for a frame that is not complete. After an error the same
/// error comes again: nobody can know where the next frame would begin.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    /// None of them empty.
    chunks: VecDeque<Bytes>,
    /// Bytes in `chunks`.
    waiting: usize,
    progress: Progress,
}

/// How far the next frame has come.
#[derive(Debug)]
enum Progress {
    /// So many bytes of the head are in, fewer than all.
    Head { bytes: [u8; FRAME_HEAD_LEN], filled: usize },
    /// The body is being gathered from several chunks.
    Body { head: Head, gathered: BytesMut },
    /// There is no next frame.
    Failed(FrameError),
}

impl Default for Progress {
    fn default() -> Self {
        Self::Head { bytes: [0; FRAME_HEAD_LEN], filled: 0 }
    }
}

impl FrameBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what came next. Only what is small is copied before [`FrameBuffer::next_frame`] is called, to those that wait
    /// already: a byte in a chunk of its own takes far more memory than a byte, and so does the one it is a part of.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() || matches!(self.progress, Progress::Failed(_)) {
            return;
        }
        self.waiting += chunk.len();
        match self.chunks.back_mut() {
            Some(last) if chunk.len() < SMALL_CHUNK && last.len() < JOINED_UP_TO => {
                let mut joined = BytesMut::from(mem::take(last));
                joined.put_slice(&chunk);
                *last = joined.freeze();
            }
            _ => self.chunks.push_back(chunk),
        }
    }

    /// The next complete frame; `None` until more chunks are pushed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        self.advance().inspect_err(|&error| *self = Self { progress: Progress::Failed(error), ..Self::default() })
    }

    /// Says whether the end may come here: not inside a frame. Ask when [`FrameBuffer::next_frame`] gives no more.
    pub fn finish(&self) -> Result<(), FrameError> {
        match (&self.progress, self.buffered()) {
            (Progress::Failed(error), _) => Err(*error),
            (_, 0) => Ok(()),
            (_, buffered) => Err(FrameError::Truncated { buffered }),
        }
    }

    /// Bytes pushed and not yet given as frames.
    pub fn buffered(&self) -> usize {
        self.waiting
            + match &self.progress {
                Progress::Head { filled, .. } => *filled,
                Progress::Body { gathered, .. } => FRAME_HEAD_LEN + gathered.len(),
                Progress::Failed(_) => 0,
            }
    }

    fn advance(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Progress::Failed(error) = self.progress {
            return Err(error);
        }
        if let Some(head) = self.fill_head()? {
            if let Some(body) = self.take_slice(head.body_len) {
                self.progress = Progress::default();
                return head.frame(body).map(Some);
            }
            // The length was checked: a peer that announces much and sends little costs at most 2 MiB, and those not
            // touched.
            self.progress = Progress::Body { head, gathered: BytesMut::with_capacity(head.body_len) };
        }
        self.gather()
    }

    /// Moves bytes into the head; gives it when it is complete.
    fn fill_head(&mut self) -> Result<Option<Head>, FrameError> {
        let Progress::Head { bytes, filled } = &mut self.progress else { return Ok(None) };
        while *filled < FRAME_HEAD_LEN
            && let Some(chunk) = self.chunks.front_mut()
        {
            let taken = chunk.len().min(FRAME_HEAD_LEN - *filled);
            chunk.copy_to_slice(&mut bytes[*filled..*filled + taken]);
            *filled += taken;
            self.waiting -= taken;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        Head::parse(&bytes[..*filled])
    }

    /// The next `len` bytes if they lie in one chunk, as a slice of it.
    fn take_slice(&mut self, len: usize) -> Option<Bytes> {
        if len == 0 {
            return Some(Bytes::new());
        }
        let chunk = self.chunks.front_mut().filter(|chunk| chunk.len() >= len)?;
        self.waiting -= len;
        match chunk.len() == len {
            true => self.chunks.pop_front(),
            false => Some(chunk.split_to(len)),
        }
    }

    /// Moves chunks into the body; gives the frame when it is complete.
    fn gather(&mut self) -> Result<Option<Frame>, FrameError> {
        let Progress::Body { head, gathered } = &mut self.progress else { return Ok(None) };
        while let missing @ 1.. = head.body_len - gathered.len() {
            let Some(chunk) = self.chunks.front_mut() else { return Ok(None) };
            let part = chunk.split_to(chunk.len().min(missing));
            gathered.put_slice(&part);
            self.waiting -= part.len();
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        let (head, body) = (*head, mem::take(gathered).freeze());
        self.progress = Progress::default();
        head.frame(body).map(Some)
    }
}

/// The head of a regular frame with `body_len` bytes behind it.
pub(super) fn message_head(
    compression: Compression,
    advice: Advice,
    body_len: usize,
) -> Result<[u8; FRAME_HEAD_LEN], FrameTooLong> {
    match body_len > MAX_FRAME_MESSAGE {
        true => Err(FrameTooLong { len: body_len }),
        false => Ok(frame_head(message_flag(compression, advice), body_len)),
    }
}

const fn message_flag(compression: Compression, advice: Advice) -> u8 {
    let compression = match compression {
        Compression::None => 0,
        Compression::Zstd => ZSTD,
        Compression::Gzip => GZIP,
    };
    match advice {
        Advice::None => compression,
        Advice::Reconnect => compression | RECONNECT,
    }
}

/// An encoded frame with the reconnect flag set, if that is advised: another head in front of the same bytes. Terminal
/// frames are left alone (`s2s.md` §8).
pub fn with_advice(frame: Bytes, advice: Advice) -> FrameBuf {
    match frame.first_chunk::<FRAME_HEAD_LEN>() {
        Some(&[a, b, c, flag]) if advice == Advice::Reconnect && flag & TERMINAL == 0 => {
            let mut out = FrameBuf::from(Bytes::copy_from_slice(&[a, b, c, flag | RECONNECT]));
            out.push(frame.slice(FRAME_HEAD_LEN..));
            out
        }
        _ => frame.into(),
    }
}

/// Writes a regular frame around `body`, which is compressed already as `compression` says.
pub fn put_message_frame(
    out: &mut BytesMut,
    compression: Compression,
    advice: Advice,
    body: &[u8],
) -> Result<(), FrameTooLong> {
    let head = message_head(compression, advice, body.len())?;
    out.reserve(FRAME_HEAD_LEN + body.len());
    out.put_slice(&head);
    out.put_slice(body);
    Ok(())
}

/// A regular frame around `message`, compressed as `negotiated` if that is worth it (`s2s.md` §3.3): below 1 KiB it is not.
///
/// A message whose compressed form would not fit into a frame is sent plain, which every receiver must read.
pub fn message_frame(negotiated: Compression, advice: Advice, message: &[u8]) -> Result<Bytes, FrameTooLong> {
    let plain_head = message_head(Compression::None, advice, message.len())?;
    if negotiated != Compression::None
        && message.len() >= COMPRESSION_THRESHOLD
        && let Some(frame) = compressed_frame(negotiated, advice, message)
    {
        return Ok(frame);
    }
    Ok([&plain_head, message].concat().into())
}

/// `None` if the frame would be too long, or the compressor fails.
fn compressed_frame(compression: Compression, advice: Advice, message: &[u8]) -> Option<Bytes> {
    // The head's place is kept free, so that the compressor writes behind it.
    let mut frame = vec![0; FRAME_HEAD_LEN];
    compress::deflate_onto(compression, message, &mut frame).ok()?;
    let head = message_head(compression, advice, frame.len() - FRAME_HEAD_LEN).ok()?;
    frame[..FRAME_HEAD_LEN].copy_from_slice(&head);
    frame.shrink_to_fit();
    Some(frame.into())
}

/// Writes a terminal frame. Its flag is always `80` (`s2s.md` §3.1).
///
/// Fails if the body is too long; those of [`terminal_frame`] are not.
pub fn put_terminal_frame(out: &mut BytesMut, terminal: &Terminal) -> Result<(), FrameTooLong> {
    let len = STATUS_LEN + terminal.body.len();
    if len > MAX_FRAME_MESSAGE {
        return Err(FrameTooLong { len });
    }
    out.reserve(FRAME_HEAD_LEN + len);
    out.put_slice(&frame_head(TERMINAL, len));
    out.put_u16(terminal.status);
    out.put_slice(&terminal.body);
    Ok(())
}

/// The frame that ends a session with `error` (`s2s.md` §5.4).
pub fn terminal_frame(error: &ApiError) -> Bytes {
    let mut out = BytesMut::new();
    let terminal = Terminal { status: error.status(), body: error_json(error) };
    put_terminal_frame(&mut out, &terminal).expect("error_json keeps bodies to a few KiB");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{types::ErrorCode, wire::fuzz};

    fn pushed(chunks: &[&[u8]]) -> FrameBuffer {
        let mut buffer = FrameBuffer::new();
        chunks.iter().for_each(|chunk| buffer.push(Bytes::copy_from_slice(chunk)));
        buffer
    }

    #[test]
    fn each_bad_frame_has_its_error() {
        // s2s.md §3.4
        for (bytes, error) in [
            (&[0x20, 0x00, 0x01][..], FrameError::TooLong { length: 2_097_153 }),
            (&[0xff, 0xff, 0xff], FrameError::TooLong { length: 16_777_215 }),
            (&[0x00, 0x00, 0x00], FrameError::Empty),
            (&[0, 0, 1, 0x80], FrameError::TerminalWithoutStatus { len: 0 }),
            (&[0, 0, 2, 0x80, 0x01], FrameError::TerminalWithoutStatus { len: 1 }),
            (&[0, 0, 4, 0x80, 0x01, 0x90, 0xff], FrameError::TerminalNotUtf8),
            (&[0, 0, 1, 0x60], FrameError::UnknownCompression { flag: 0x60 }),
            (&[0, 0, 1, 0x7f], FrameError::UnknownCompression { flag: 0x7f }),
        ] {
            let mut buffer = pushed(&[bytes, b"more"]);
            assert_eq!(buffer.next_frame(), Err(error), "{bytes:02x?}");
            // There is no way on from here.
            buffer.push(Bytes::from_static(&[0, 0, 1, 0]));
            assert_eq!(buffer.next_frame(), Err(error));
            assert_eq!(buffer.finish(), Err(error));
            assert_eq!(buffer.buffered(), 0);
        }
    }

    #[test]
    fn the_end_may_come_between_frames_only() {
        let frame = [0, 0, 3, 0, 0x0a, 0];
        for len in 0..=frame.len() {
            let mut buffer = pushed(&[&frame, &frame[..len]]);
            while let Ok(Some(_)) = buffer.next_frame() {}
            let expected = if len % frame.len() == 0 { Ok(()) } else { Err(FrameError::Truncated { buffered: len }) };
            assert_eq!(buffer.finish(), expected, "{len}");
        }
    }

    #[test]
    fn small_chunks_that_wait_are_joined() {
        let (frame, mut buffer) = ([0, 0, 3, 0, 0x0a, 0], FrameBuffer::new());
        for byte in frame.iter().cycle().take(10_000 * frame.len()) {
            buffer.push(Bytes::copy_from_slice(&[*byte]));
        }
        assert!(buffer.chunks.len() <= 20, "{} chunks", buffer.chunks.len());
        assert_eq!(buffer.buffered(), 60_000);
        let one = pushed(&[&frame]).next_frame().unwrap();
        for _ in 0..10_000 {
            assert_eq!(buffer.next_frame().unwrap(), one);
        }
        assert_eq!(buffer.buffered(), 0);
        let large = Bytes::from(vec![0; SMALL_CHUNK]);
        (0..2).for_each(|_| buffer.push(large.clone()));
        assert_eq!(buffer.chunks[1].as_ptr(), large.as_ptr(), "not copied");
    }

    #[test]
    fn the_flag_says_what_the_frame_is() {
        // s2s.md §3.1
        let message =
            |compression, advice| Frame::Message { compression, advice, body: Bytes::from_static(b"\x01\x90") };
        let terminal = || Frame::Terminal(Terminal { status: 400, body: Bytes::new() });
        for (flag, frame) in [
            (0x00, message(Compression::None, Advice::None)),
            (0x10, message(Compression::None, Advice::Reconnect)),
            (0x20, message(Compression::Zstd, Advice::None)),
            (0x30, message(Compression::Zstd, Advice::Reconnect)),
            (0x40, message(Compression::Gzip, Advice::None)),
            (0x50, message(Compression::Gzip, Advice::Reconnect)),
            (0x1f, message(Compression::None, Advice::Reconnect)),
            (0x0f, message(Compression::None, Advice::None)),
            (0x80, terminal()),
            (0xff, terminal()),
        ] {
            assert_eq!(pushed(&[&[0, 0, 3, flag, 0x01, 0x90]]).next_frame(), Ok(Some(frame)), "{flag:02x}");
        }
    }

    #[test]
    fn the_longest_frame_and_one_more() {
        let message = vec![7; MAX_FRAME_MESSAGE + 1];
        let frame = message_frame(Compression::None, Advice::None, &message[1..]).unwrap();
        assert_eq!(frame[..4], [0x20, 0x00, 0x00, 0x00]);
        let mut buffer = pushed(&[&frame]);
        let Ok(Some(Frame::Message { body, .. })) = buffer.next_frame() else { panic!() };
        assert_eq!(body.len(), 2_097_151);

        let too_long = FrameTooLong { len: 2_097_152 };
        assert_eq!(message_frame(Compression::Zstd, Advice::None, &message), Err(too_long));
        assert_eq!(put_message_frame(&mut BytesMut::new(), Compression::None, Advice::None, &message), Err(too_long));
    }

    #[test]
    fn messages_from_1024_bytes_on_are_compressed() {
        // s2s.md §3.3
        for (negotiated, flag) in [(Compression::Zstd, 0x20), (Compression::Gzip, 0x40)] {
            for (len, flag) in [(0, 0), (1023, 0), (1024, flag)] {
                let frame = message_frame(negotiated, Advice::None, &vec![b'a'; len]).unwrap();
                assert_eq!(frame[3], flag, "{len}");
            }
        }
        assert_eq!(message_frame(Compression::None, Advice::None, &[b'a'; 1024]).unwrap()[3], 0);
    }

    #[test]
    fn what_grows_by_compression_is_sent_compressed_if_it_fits() {
        let mut noise = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (noise >> 56) as u8
        })
        .take(MAX_FRAME_MESSAGE)
        .collect();
        for compression in [Compression::Zstd, Compression::Gzip] {
            let short = message_frame(compression, Advice::None, &noise[..2000]).unwrap();
            assert!(short.len() > 2004 && short[3] != 0);
            let longest = message_frame(compression, Advice::Reconnect, &noise).unwrap();
            assert_eq!((longest.len(), longest[3]), (FRAME_HEAD_LEN + noise.len(), 0x10));
        }
    }

    #[test]
    fn a_body_within_a_chunk_is_a_slice_of_it() {
        let chunk = Bytes::from(vec![0, 0, 3, 0, 1, 2, 0, 0, 2, 0, 3]);
        let mut buffer = FrameBuffer::new();
        buffer.push(chunk.clone());
        for place in [4..6, 10..11] {
            let Ok(Some(Frame::Message { body, .. })) = buffer.next_frame() else { panic!() };
            assert_eq!(body.as_ptr_range(), chunk[place].as_ptr_range());
        }
    }

    #[test]
    fn a_frame_that_spans_chunks_keeps_none_of_them() {
        let frame = message_frame(Compression::None, Advice::None, &[5; 1000]).unwrap();
        let (mut buffer, mut alive) = (FrameBuffer::new(), Vec::new());
        for (i, byte) in frame.iter().enumerate() {
            assert_eq!(buffer.buffered(), i);
            let chunk = Bytes::from(vec![*byte].into_boxed_slice());
            alive.push(chunk.clone());
            buffer.push(chunk);
            match buffer.next_frame().unwrap() {
                Some(Frame::Message { body, .. }) => assert_eq!((i + 1, body), (1004, Bytes::from(vec![5; 1000]))),
                _ => assert!(i + 1 < frame.len()),
            }
            assert!(alive.iter().all(Bytes::is_unique), "after {i}");
        }
        assert_eq!(buffer.buffered(), 0);
    }

    #[test]
    fn advice_leaves_terminal_frames_alone() {
        for (flag, advice, expected) in [
            (0x00, Advice::Reconnect, 0x10),
            (0x20, Advice::Reconnect, 0x30),
            (0x50, Advice::Reconnect, 0x50),
            (0x20, Advice::None, 0x20),
            (0x80, Advice::Reconnect, 0x80),
        ] {
            let frame = Bytes::copy_from_slice(&[0, 0, 3, flag, 1, 2]);
            assert_eq!(with_advice(frame, advice).into_bytes(), [0, 0, 3, expected, 1, 2][..]);
        }
    }

    #[test]
    fn a_terminal_frame_is_short_whatever_it_tells() {
        let error = ApiError::new(ErrorCode::Invalid, "\u{1}é".repeat(1_000_000));
        assert!(terminal_frame(&error).len() < 16 * 1024);
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_chunks(
            lengths in prop::collection::vec(1u8..40, 0..20),
            frames in prop::collection::vec((0u8..=255, prop::collection::vec(any::<u8>(), 0..60)), 0..8),
            cut in 0usize..10,
        ) {
            let mut data = vec![lengths.len() as u8];
            data.extend(&lengths);
            for (flag, body) in &frames {
                data.extend(frame_head(*flag, body.len()));
                data.extend(body);
            }
            data.truncate(data.len() - cut.min(data.len()));
            fuzz::frame_decoder(&data);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(data in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..50)) {
            fuzz::frame_decoder(&data);
        }
    }
}
