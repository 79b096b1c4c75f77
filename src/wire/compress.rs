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

const NO_MEMORY: &str = "no memory for a context";
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
        let context = match slot {
            Some(context) => context,
            None => slot.insert(zstd_compressor()?),
        };
        out.reserve_exact(zstd_safe::compress_bound(body.len()));
        context.compress2(&mut behind(out), body).map(drop).map_err(zstd_error)
    })
}

fn zstd_compressor() -> Result<CCtx<'static>, String> {
    let mut context = CCtx::try_create().ok_or(NO_MEMORY)?;
    context.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL)).map_err(zstd_error)?;
    Ok(context)
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
        let context = match slot {
            Some(context) => context,
            None => slot.insert(DCtx::try_create().ok_or_else(|| corrupt(NO_MEMORY.to_owned()))?),
        };
        let (mut rest, mut out) = (body, Vec::new());
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
            out.reserve_exact(out.len().clamp(4096, limit + 1 - out.len()));
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
