//! What a record is made of: headers, body, metered size, and the commands that records can be.

use std::fmt;

use super::{SeqNum, Timestamp, layout, limits};

/// Metered bytes of a record with `headers` headers whose names and values take `header_bytes` (`data-plane.md` §1.1).
pub const fn metered_size(headers: usize, header_bytes: usize, body: usize) -> usize {
    8 + 2 * headers + header_bytes + body
}

/// The token that guards a stream against writers that do not name it: up to 36 bytes of UTF-8, empty for none.
///
/// Kept in place, so that the head of a stream is copied without an allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FencingToken {
    len: u8,
    bytes: [u8; limits::MAX_FENCING_TOKEN_LEN],
}

impl FencingToken {
    /// No token in force.
    pub const NONE: FencingToken = FencingToken { len: 0, bytes: [0; limits::MAX_FENCING_TOKEN_LEN] };

    /// Checks the length of `text`.
    pub fn new(text: &str) -> Result<Self, FencingTokenTooLong> {
        let mut token = Self::NONE;
        match token.bytes.get_mut(..text.len()) {
            Some(bytes) => bytes.copy_from_slice(text.as_bytes()),
            None => return Err(FencingTokenTooLong { len: text.len() }),
        }
        // At most 36, by the slice just taken.
        token.len = text.len() as u8;
        Ok(token)
    }

    /// The token; empty if there is none.
    pub fn as_str(&self) -> &str {
        let bytes = &self.bytes[..usize::from(self.len)];
        std::str::from_utf8(bytes).expect("made from a str and never changed")
    }
}

impl Default for FencingToken {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A fencing token of more than 36 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fencing token must not exceed {} bytes, this one has {len}", limits::MAX_FENCING_TOKEN_LEN)]
pub struct FencingTokenTooLong {
    /// Bytes of the token given.
    pub len: usize,
}

/// What a record asks of its stream when its only header has an empty name (`data-plane.md` §1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Put this token in force; the empty one lifts the fence.
    Fence(FencingToken),
    /// Make this the earliest record, as far as it is not past the command itself.
    Trim(SeqNum),
}

impl Command {
    const FENCE: &'static [u8] = b"fence";
    const TRIM: &'static [u8] = b"trim";

    /// The command named by the value of a record's single, nameless header.
    pub(super) fn parse(name: &[u8], body: &[u8]) -> Result<Self, RecordError> {
        match name {
            Self::FENCE => {
                let text = std::str::from_utf8(body).map_err(|_| RecordError::FenceNotUtf8)?;
                Ok(Self::Fence(FencingToken::new(text).map_err(RecordError::FenceTooLong)?))
            }
            Self::TRIM => {
                let bytes = body.try_into().map_err(|_| RecordError::TrimLength { len: body.len() })?;
                Ok(Self::Trim(SeqNum::new(u64::from_be_bytes(bytes))))
            }
            _ => Err(RecordError::UnknownCommand),
        }
    }

    /// The value of the header that names the command.
    pub const fn name(&self) -> &'static [u8] {
        match self {
            Self::Fence(_) => Self::FENCE,
            Self::Trim(_) => Self::TRIM,
        }
    }

    /// The body of the record.
    pub fn body(&self) -> Vec<u8> {
        match self {
            Self::Fence(token) => token.as_str().as_bytes().to_vec(),
            Self::Trim(to) => to.get().to_be_bytes().to_vec(),
        }
    }
}

/// What is wrong with a record (422 `invalid`; `data-plane.md` §1.2, §1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More than 1 MiB metered.
    #[error("a record must not exceed 1048576 metered bytes, this one has {metered}")]
    TooLarge {
        /// Its metered size.
        metered: usize,
    },
    /// With its number and its time it would not fit into a frame.
    #[error("a record must not exceed {} encoded bytes, this one has {encoded}", limits::MAX_FRAME_MESSAGE)]
    TooLongEncoded {
        /// Bytes of the record as a reader would get it, at most.
        encoded: usize,
    },
    /// An empty header name beside other headers.
    #[error("a header name must not be empty unless it is the record's only header, which makes it a command")]
    EmptyHeaderName,
    /// A command other than `fence` and `trim`.
    #[error("a record whose only header has an empty name is a command, and its value must be `fence` or `trim`")]
    UnknownCommand,
    /// A fence command with too long a token.
    #[error("invalid `fence` command: {0}")]
    FenceTooLong(FencingTokenTooLong),
    /// A fence command whose token is not text.
    #[error("invalid `fence` command: the token is not UTF-8")]
    FenceNotUtf8,
    /// A trim command without exactly one number.
    #[error("invalid `trim` command: the body must be a sequence number of 8 bytes, big-endian, this one has {len}")]
    TrimLength {
        /// Bytes of the body given.
        len: usize,
    },
}

/// Headers and body of a record, as slices of the buffer that holds it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordFields<'a> {
    fields: &'a [u8],
    header_tag: u8,
}

impl<'a> RecordFields<'a> {
    /// The fields of an `AppendRecord` behind its timestamp.
    pub(super) const fn of_append(fields: &'a [u8]) -> Self {
        Self { fields, header_tag: layout::APPEND_HEADER }
    }

    /// The fields of a `SequencedRecord` behind its timestamp.
    pub(super) const fn of_sequenced(fields: &'a [u8]) -> Self {
        Self { fields, header_tag: layout::HEADER }
    }

    /// Headers and body as they stand in the record.
    pub(crate) const fn as_bytes(self) -> &'a [u8] {
        self.fields
    }

    /// Names and values, in order.
    pub fn headers(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            if !layout::take_tag(&mut rest, self.header_tag) {
                return None;
            }
            let mut header = layout::take_delimited(&mut rest)?;
            let mut field = |tag| match layout::take_tag(&mut header, tag) {
                true => layout::take_delimited(&mut header).unwrap_or_default(),
                false => &[],
            };
            Some((field(layout::HEADER_NAME), field(layout::HEADER_VALUE)))
        })
    }

    /// The body.
    pub fn body(self) -> &'a [u8] {
        let mut rest = self.fields;
        while layout::take_tag(&mut rest, self.header_tag) {
            layout::take_delimited(&mut rest);
        }
        match rest {
            [] => &[],
            [_body_tag, rest @ ..] => layout::take_delimited(&mut { rest }).unwrap_or_default(),
        }
    }

    /// The command that this record is, if it is one.
    pub fn command(self) -> Option<Command> {
        let mut headers = self.headers();
        match (headers.next(), headers.next()) {
            (Some((b"", name)), None) => Command::parse(name, self.body()).ok(),
            _ => None,
        }
    }
}

impl fmt::Debug for RecordFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_struct("RecordFields")
            .field("headers", &self.headers().map(|(n, v)| (text(n), text(v))).collect::<Vec<_>>())
            .field("body", &text(self.body()))
            .finish()
    }
}

/// A record of a stream, as slices of the batch that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequencedRecord<'a> {
    /// Its number.
    pub seq_num: SeqNum,
    /// Its time.
    pub timestamp: Timestamp,
    /// Its headers and its body.
    pub fields: RecordFields<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metered_sizes_of_the_contract() {
        // data-plane.md §1.1
        assert_eq!(metered_size(0, 0, 0), 8);
        assert_eq!(metered_size(0, 0, 5), 13);
        assert_eq!(metered_size(1, 2, 5), 17);
        assert_eq!(metered_size(1, 5, 12), 27, "fence to producer-123");
        assert_eq!(metered_size(1, 5, 0), 15, "fence cleared");
        assert_eq!(metered_size(1, 4, 8), 22, "trim");
    }

    #[test]
    fn fencing_tokens_up_to_36_bytes() {
        assert_eq!(FencingToken::new("").unwrap(), FencingToken::NONE);
        let longest = "é".repeat(18);
        assert_eq!(FencingToken::new(&longest).unwrap().as_str(), longest);
        assert_eq!(FencingToken::new(&"x".repeat(37)), Err(FencingTokenTooLong { len: 37 }));
    }

    #[test]
    fn commands_match_exactly() {
        // data-plane.md §1.3
        let fence = |token| Command::Fence(FencingToken::new(token).unwrap());
        assert_eq!(Command::parse(b"fence", b"producer-123"), Ok(fence("producer-123")));
        assert_eq!(Command::parse(b"fence", b""), Ok(fence("")));
        assert_eq!(Command::parse(b"trim", &[0, 0, 0, 0, 0, 0, 3, 0xe8]), Ok(Command::Trim(SeqNum::new(1000))));
        for name in [&b"Fence"[..], b"fence ", b"", b"compact", b"TRIM"] {
            assert_eq!(Command::parse(name, b""), Err(RecordError::UnknownCommand), "{name:?}");
        }
        let too_long = RecordError::FenceTooLong(FencingTokenTooLong { len: 37 });
        assert_eq!(Command::parse(b"fence", &[b'x'; 37]), Err(too_long));
        assert_eq!(Command::parse(b"fence", &[0xff]), Err(RecordError::FenceNotUtf8));
        assert_eq!(Command::parse(b"trim", &[0; 7]), Err(RecordError::TrimLength { len: 7 }));
        assert_eq!(Command::parse(b"trim", &[0; 9]), Err(RecordError::TrimLength { len: 9 }));
    }
}
