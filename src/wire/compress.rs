//! zstd and gzip, out and back, never trusting what compressed bytes say of themselves.
//!
//! Contexts are kept by thread, not by session: a thousand idle sessions hold none, a busy thread makes its once. zstd is
//! used in one piece, so that no window is allocated whatever a frame's header asks for; its output is the window.

use std::{cell::RefCell, io::Cursor};

use bytes::Bytes;
use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

use crate::types::Compression;

/// Messages of fewer bytes are sent plain even if a compression was negotiated (`s2s.md` §3.3).
pub const COMPRESSION_THRESHOLD: usize = 1024;

const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 6;
/// A window of 32 KiB, the most that deflate has: readable whatever the sender used.
const GZIP_WINDOW_BITS: u8 = 15;
/// Deflate makes at most this many bytes of one.
const DEFLATE_MOST_EXPANSION: usize = 1032;
/// Bytes of gzip's header and trailer together.
const GZIP_FRAMING: usize = 18;
/// `ZSTD_error_dstSize_tooSmall`; zstd keeps the numbers of its common errors.
const ZSTD_OUTPUT_TOO_SMALL: zstd_safe::ErrorCode = 70usize.wrapping_neg();

const ENDS_EARLY: &str = "it ends early";

/// Why compressed bytes could not be read (`s2s.md` §3.4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// There is more in them than is allowed.
    #[error("the decompressed body exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// They are not what the compression makes, or not all of it, or more follows.
    #[error("the body is not valid {}: {reason}", .compression.coding())]
    Corrupt {
        /// What they were supposed to be.
        compression: Compression,
        /// What the decompressor says.
        reason: String,
    },
}

/// The compressor failed: it got no memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} compression failed: {reason}", .compression.coding())]
pub struct DeflateError {
    /// Which one.
    compression: Compression,
    /// What it says.
    reason: String,
}

/// Undoes `compression`, to at most `limit` bytes; without compression the body is passed through.
///
/// Several gzip members, or zstd frames, one after the other are one body; anything else behind them is an error. The
/// memory taken for the result is bounded by `limit`, whatever the headers promise.
pub fn inflate(compression: Compression, body: Bytes, limit: usize) -> Result<Bytes, InflateError> {
    match compression {
        Compression::None if body.len() > limit => Err(InflateError::TooLarge { limit }),
        Compression::None => Ok(body),
        Compression::Zstd => inflate_zstd(&body, limit),
        Compression::Gzip => inflate_gzip(&body, limit),
    }
}

/// Compresses `body`, whatever its size.
pub fn deflate(compression: Compression, body: &[u8]) -> Result<Bytes, DeflateError> {
    let mut out = Vec::new();
    deflate_onto(compression, body, &mut out)?;
    out.shrink_to_fit();
    Ok(out.into())
}

/// Writes `body`, compressed, behind what `out` holds.
pub(super) fn deflate_onto(compression: Compression, body: &[u8], out: &mut Vec<u8>) -> Result<(), DeflateError> {
    match compression {
        Compression::None => {
            out.extend_from_slice(body);
            Ok(())
        }
        Compression::Zstd => deflate_zstd(body, out),
        Compression::Gzip => deflate_gzip(body, out),
    }
    .map_err(|reason| DeflateError { compression, reason })
}

thread_local! {
    static ZSTD_OUT: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    static ZSTD_IN: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    static GZIP_OUT: RefCell<Option<Compress>> = const { RefCell::new(None) };
    static GZIP_IN: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

fn deflate_zstd(body: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    ZSTD_OUT.with_borrow_mut(|slot| {
        let context = slot.get_or_insert_with(zstd_compressor);
        out.reserve_exact(zstd_safe::compress_bound(body.len()));
        context.compress2(&mut behind(out), body).map(drop).map_err(zstd_error)
    })
}

fn zstd_compressor() -> CCtx<'static> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL)).expect("zstd has this level");
    context
}

/// For zstd: the spare capacity of `out`, so that what is there stays.
fn behind(out: &mut Vec<u8>) -> Cursor<&mut Vec<u8>> {
    let position = out.len() as u64;
    let mut cursor = Cursor::new(out);
    cursor.set_position(position);
    cursor
}

fn zstd_error(code: zstd_safe::ErrorCode) -> String {
    zstd_safe::get_error_name(code).to_owned()
}

fn inflate_zstd(body: &[u8], limit: usize) -> Result<Bytes, InflateError> {
    let corrupt = |reason: String| InflateError::Corrupt { compression: Compression::Zstd, reason };
    ZSTD_IN.with_borrow_mut(|slot| {
        let context = slot.get_or_insert_with(DCtx::create);
        let (mut rest, mut out) = (body, Vec::new());
        // At least one, so that an empty body is an error.
        while !rest.is_empty() || body.is_empty() {
            // Walks the headers of the blocks: from here on the frame is known to be whole.
            let len = zstd_safe::find_frame_compressed_size(rest).map_err(|code| corrupt(zstd_error(code)))?;
            let (frame, next) = rest.split_at(len);
            let promised = zstd_safe::get_frame_content_size(frame).map_err(|error| corrupt(error.to_string()))?;
            reserve_for_zstd(&mut out, promised, limit)?;
            match context.decompress(&mut behind(&mut out), frame) {
                Ok(_) if out.len() <= limit => rest = next,
                Ok(_) | Err(ZSTD_OUTPUT_TOO_SMALL) => return Err(InflateError::TooLarge { limit }),
                Err(code) => return Err(corrupt(zstd_error(code))),
            }
        }
        out.shrink_to_fit();
        Ok(out.into())
    })
}

/// Makes room for a frame: what it promises, if that is allowed; one byte more than allowed if it promises nothing.
fn reserve_for_zstd(out: &mut Vec<u8>, promised: Option<u64>, limit: usize) -> Result<(), InflateError> {
    let allowed = limit - out.len();
    let content = match promised.map(usize::try_from) {
        None => allowed + 1,
        Some(Ok(content)) if content <= allowed => content,
        Some(_) => return Err(InflateError::TooLarge { limit }),
    };
    match out.is_empty() {
        true => out.reserve_exact(content),
        // Many tiny frames must not move what is there each time.
        false => out.reserve(content),
    }
    Ok(())
}

fn deflate_gzip(body: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    GZIP_OUT.with_borrow_mut(|slot| {
        let level = flate2::Compression::new(GZIP_LEVEL);
        let context = slot.get_or_insert_with(|| Compress::new_gzip(level, GZIP_WINDOW_BITS));
        context.reset();
        // Enough for what does not compress: stored blocks add 5 bytes to each 16 KiB or so.
        out.reserve_exact(body.len() + body.len() / 1024 + GZIP_FRAMING + 64);
        loop {
            let rest = &body[context.total_in() as usize..];
            match context.compress_vec(rest, out, FlushCompress::Finish).map_err(|error| error.to_string())? {
                Status::StreamEnd => return Ok(()),
                Status::Ok | Status::BufError => out.reserve(body.len() / 8 + 64),
            }
        }
    })
}

fn inflate_gzip(body: &[u8], limit: usize) -> Result<Bytes, InflateError> {
    let corrupt = |reason: String| InflateError::Corrupt { compression: Compression::Gzip, reason };
    GZIP_IN.with_borrow_mut(|slot| {
        let context = slot.get_or_insert_with(|| Decompress::new(false));
        let (mut rest, mut out) = (body, Vec::with_capacity(gzip_first_guess(body, limit)));
        // At least one, so that an empty body is an error.
        while !rest.is_empty() || body.is_empty() {
            gzip_header(&mut rest).ok_or_else(|| corrupt("not a gzip header".to_owned()))?;
            let start = out.len();
            inflate_member(context, &mut rest, &mut out, limit)?;
            let trailer = take_trailer(&mut rest).ok_or_else(|| corrupt(ENDS_EARLY.to_owned()))?;
            if trailer != trailer_of(&out[start..]) {
                return Err(corrupt("the checksum does not match".to_owned()));
            }
        }
        out.shrink_to_fit();
        Ok(out.into())
    })
}

/// The size that the trailer claims, as far as that is possible and allowed.
fn gzip_first_guess(body: &[u8], limit: usize) -> usize {
    let claimed = body.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
    claimed.min(body.len().saturating_mul(DEFLATE_MOST_EXPANSION)).min(limit) + 1
}

/// Undoes the deflate stream at the front of `rest` and moves past it.
fn inflate_member(
    context: &mut Decompress,
    rest: &mut &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), InflateError> {
    let corrupt = |reason: String| InflateError::Corrupt { compression: Compression::Gzip, reason };
    context.reset(false);
    loop {
        if out.len() == out.capacity() {
            out.reserve_exact(out.len().max(4096).min(limit + 1 - out.len()));
        }
        let before = (context.total_in(), out.len());
        let status =
            context.decompress_vec(rest, out, FlushDecompress::None).map_err(|error| corrupt(error.to_string()))?;
        *rest = &rest[(context.total_in() - before.0) as usize..];
        if out.len() > limit {
            return Err(InflateError::TooLarge { limit });
        }
        match status {
            Status::StreamEnd => return Ok(()),
            // There was room, and nothing came of it.
            _ if before == (context.total_in(), out.len()) => return Err(corrupt(ENDS_EARLY.to_owned())),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Moves past the header of a gzip member (RFC 1952 §2.3).
fn gzip_header(rest: &mut &[u8]) -> Option<()> {
    const HEADER_CHECKSUM: u8 = 0x02;
    const EXTRA: u8 = 0x04;
    const NAME: u8 = 0x08;
    const COMMENT: u8 = 0x10;
    const RESERVED: u8 = 0xe0;

    let whole = *rest;
    // Magic number, method (deflate), flags, time, extra flags, operating system.
    let &[0x1f, 0x8b, 8, flags, _, _, _, _, _, _] = rest.split_off(..10)?.first_chunk()? else { return None };
    if flags & RESERVED != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let len = u16::from_le_bytes(*rest.split_off(..2)?.first_chunk()?);
        rest.split_off(..usize::from(len))?;
    }
    for _text in [NAME, COMMENT].into_iter().filter(|bit| flags & bit != 0) {
        let zero = rest.iter().position(|&byte| byte == 0)?;
        rest.split_off(..=zero)?;
    }
    if flags & HEADER_CHECKSUM != 0 {
        let checksum = checksum(&whole[..whole.len() - rest.len()]) as u16;
        return (rest.split_off(..2)? == checksum.to_le_bytes()).then_some(());
    }
    Some(())
}

/// Checksum and size, which follow each member.
fn take_trailer<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    rest.split_off(..8)
}

fn trailer_of(content: &[u8]) -> [u8; 8] {
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&checksum(content).to_le_bytes());
    trailer[4..].copy_from_slice(&(content.len() as u32).to_le_bytes());
    trailer
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::types::limits::MAX_FRAME_MESSAGE;

    const BOTH: [Compression; 2] = [Compression::Zstd, Compression::Gzip];

    fn deflated(compression: Compression, body: &[u8]) -> Bytes {
        deflate(compression, body).unwrap()
    }

    /// As a streaming encoder makes it that does not know what will come.
    fn zstd_without_size(body: &[u8], window_log: u32) -> Bytes {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(body).unwrap();
        let out = encoder.finish().unwrap();
        assert_eq!(zstd_safe::get_frame_content_size(&out).unwrap(), None);
        out.into()
    }

    #[test]
    fn the_limit_is_exact() {
        let body = [b'a'; 5000];
        let mut forms = BOTH.map(|compression| (compression, deflated(compression, &body))).to_vec();
        forms.push((Compression::None, Bytes::copy_from_slice(&body)));
        forms.push((Compression::Zstd, zstd_without_size(&body, 17)));
        for (compression, compressed) in forms {
            assert_eq!(inflate(compression, compressed.clone(), 5000).unwrap(), body[..]);
            for limit in [0, 1, 4999] {
                let result = inflate(compression, compressed.clone(), limit);
                assert_eq!(result, Err(InflateError::TooLarge { limit }), "{compression:?}");
            }
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let body = vec![0; 64 * 1024 * 1024];
        let too_large = Err(InflateError::TooLarge { limit: MAX_FRAME_MESSAGE });
        for (compression, bomb) in [
            (Compression::Zstd, deflated(Compression::Zstd, &body)),
            (Compression::Zstd, zstd_without_size(&body, 27)),
            (Compression::Gzip, deflated(Compression::Gzip, &body)),
        ] {
            assert!(bomb.len() < 70_000);
            assert_eq!(inflate(compression, bomb, MAX_FRAME_MESSAGE), too_large);
        }
        // Many small pieces, each within the limit.
        for compression in BOTH {
            let bomb: Bytes = deflated(compression, &body[..1024 * 1024]).repeat(3).into();
            assert_eq!(inflate(compression, bomb, MAX_FRAME_MESSAGE), too_large);
        }
    }

    #[test]
    fn promises_of_a_header_are_not_believed() {
        // A zstd frame header that promises 2^63 bytes, then an empty last block.
        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0];
        let result = inflate(Compression::Zstd, Bytes::copy_from_slice(&zstd), 100);
        assert_eq!(result, Err(InflateError::TooLarge { limit: 100 }));

        // One that promises 90 bytes and has none, and a gzip trailer that claims 4 GiB.
        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 90, 1, 0, 0];
        let mut gzip = deflated(Compression::Gzip, b"abc").to_vec();
        gzip.splice(gzip.len() - 4.., [0xff; 4]);
        for (compression, body) in
            [(Compression::Zstd, Bytes::copy_from_slice(&zstd)), (Compression::Gzip, gzip.into())]
        {
            assert!(matches!(inflate(compression, body, 100), Err(InflateError::Corrupt { .. })), "{compression:?}");
        }
        assert!(gzip_first_guess(&[0xff; 40], usize::MAX / 2) <= 40 * DEFLATE_MOST_EXPANSION + 1);
        assert_eq!(gzip_first_guess(&[0xff; 40], 100), 101);
    }

    #[test]
    fn windows_of_any_size_are_read() {
        let body = vec![b'a'; 300_000];
        assert_eq!(inflate(Compression::Zstd, zstd_without_size(&body, 27), 300_000).unwrap(), body);
    }

    #[test]
    fn pieces_one_after_the_other_are_one_body() {
        for compression in BOTH {
            let pieces = [&b"abc"[..], b"", &[b'd'; 3000], b"e"];
            let compressed = pieces.map(|piece| deflated(compression, piece)).concat();
            assert_eq!(inflate(compression, compressed.into(), 4000).unwrap(), pieces.concat(), "{compression:?}");
        }
        let mut mixed = zstd_without_size(b"abc", 17).to_vec();
        mixed.extend(deflated(Compression::Zstd, b"def"));
        // A frame to be skipped, of four bytes.
        mixed.extend([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);
        mixed.extend(zstd_without_size(b"ghi", 17));
        assert_eq!(inflate(Compression::Zstd, mixed.into(), 9).unwrap(), "abcdefghi");
    }

    #[test]
    fn a_hundred_thousand_tiny_pieces_take_no_time_each() {
        for compression in BOTH {
            let compressed = deflated(compression, b"x").repeat(100_000);
            assert_eq!(inflate(compression, compressed.into(), 100_000).unwrap().len(), 100_000);
        }
    }

    #[test]
    fn a_body_must_be_whole_and_nothing_more() {
        for compression in BOTH {
            let whole = deflated(compression, &[b'a'; 2000]);
            for len in 0..whole.len() {
                let result = inflate(compression, whole.slice(..len), 2000);
                assert!(matches!(result, Err(InflateError::Corrupt { .. })), "{compression:?} {len}: {result:?}");
            }
            for behind in [&b"\0"[..], b"garbage", &whole[..7]] {
                let result = inflate(compression, [&whole, behind].concat().into(), 2000);
                assert!(matches!(result, Err(InflateError::Corrupt { .. })), "{compression:?} {behind:?}");
            }
        }
    }

    #[test]
    fn checksums_are_checked() {
        let whole = deflated(Compression::Gzip, b"some text");
        for i in whole.len() - 8..whole.len() {
            let mut bad = whole.to_vec();
            bad[i] ^= 1;
            assert!(inflate(Compression::Gzip, bad.into(), 100).is_err(), "{i}");
        }
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(b"some text").unwrap();
        let mut bad = encoder.finish().unwrap();
        assert_eq!(inflate(Compression::Zstd, bad.clone().into(), 100).unwrap(), "some text");
        *bad.last_mut().unwrap() ^= 1;
        assert!(inflate(Compression::Zstd, bad.into(), 100).is_err());
    }

    #[test]
    fn gzip_headers_with_everything_in_them() {
        let header = || flate2::GzBuilder::new().filename("name").comment("comment").extra(vec![1, 2, 3]).mtime(77);
        let mut encoder = header().write(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"some text").unwrap();
        let whole = encoder.finish().unwrap();
        assert_eq!(inflate(Compression::Gzip, whole.clone().into(), 100).unwrap(), "some text");

        // The same with a checksum of the header, which is right, then wrong.
        let header_len = 10 + 2 + 3 + "name\0comment\0".len();
        let (mut head, rest) = (whole[..header_len].to_vec(), &whole[header_len..]);
        head[3] |= 0x02;
        let sum = (checksum(&head) as u16).to_le_bytes();
        let with_sum = |sum: [u8; 2]| Bytes::from([&head, &sum[..], rest].concat());
        assert_eq!(inflate(Compression::Gzip, with_sum(sum), 100).unwrap(), "some text");
        assert!(inflate(Compression::Gzip, with_sum([sum[0] ^ 1, sum[1]]), 100).is_err());

        for (i, byte) in [(0, 0x1e), (1, 0x8c), (2, 7), (3, 0x20)] {
            let mut bad = whole.clone();
            bad[i] = byte;
            assert!(inflate(Compression::Gzip, bad.into(), 100).is_err(), "{i}");
        }
    }

    #[test]
    fn a_failure_leaves_the_context_usable() {
        for compression in BOTH {
            let good = deflated(compression, &[b'a'; 2000]);
            let mut bad = good.to_vec();
            bad.iter_mut().skip(good.len() / 2).for_each(|byte| *byte ^= 0x55);
            assert!(inflate(compression, bad.into(), 2000).is_err());
            assert!(inflate(compression, good.clone(), 100).is_err());
            assert_eq!(inflate(compression, good, 2000).unwrap(), [b'a'; 2000][..]);
        }
    }

    #[test]
    fn what_needs_no_decompression_is_not_copied() {
        let body = Bytes::from(vec![1, 2, 3]);
        assert_eq!(inflate(Compression::None, body.clone(), 3).unwrap().as_ptr(), body.as_ptr());
    }

    proptest! {
        #[test]
        fn bodies_come_back(
            body in prop::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..5000),
            before in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            for compression in Compression::ALL {
                let mut out = before.clone();
                deflate_onto(compression, &body, &mut out).unwrap();
                prop_assert_eq!(&out[..before.len()], &before);
                let compressed = Bytes::from(out).slice(before.len()..);
                prop_assert_eq!(inflate(compression, compressed, body.len()).unwrap(), &body);
            }
        }

        #[test]
        fn rubbish_is_refused_quietly(body in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..40, byte: u8) {
            for compression in BOTH {
                let _ = inflate(compression, Bytes::from(body.clone()), 1000);
                let mut spoilt = deflated(compression, &body).to_vec();
                let at = at % spoilt.len();
                spoilt[at] = byte;
                let _ = inflate(compression, spoilt.into(), 1000);
            }
        }
    }
}
