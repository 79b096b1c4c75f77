//! The names of basins, streams and access tokens, and what may stand for the beginning of one (`control-plane.md` §2).
//!
//! A value of these types is a valid name; where a bad one surfaced (path, header, body, query) is the server's to say.

use std::{fmt, sync::Arc};

use super::limits::{BASIN_NAME_LEN, MAX_ACCESS_TOKEN_ID_LEN, MAX_REQUEST_TOKEN_LEN, MAX_STREAM_NAME_LEN};

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Shorter than the least length.
    #[error("{what} must be at least {least} bytes long, this one has {len}")]
    TooShort {
        /// What was to be named.
        what: &'static str,
        /// The least length in bytes.
        least: usize,
        /// The length given.
        len: usize,
    },
    /// Longer than the limit.
    #[error("{what} must not exceed {limit} bytes, this one has {len}")]
    TooLong {
        /// What was to be named.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
        /// The length given.
        len: usize,
    },
    /// A basin's name with another character than lowercase letters, digits and hyphens.
    #[error("basin names have only lowercase letters, digits and hyphens, found {0:?}")]
    BasinCharacter(char),
    /// A basin's name that begins or ends with a hyphen.
    #[error("basin names begin and end with a lowercase letter or a digit")]
    BasinEdge,
    /// A location's name with another character than letters, digits, colons, hyphens and dots.
    #[error("location names have only letters, digits, colons, hyphens and dots, found {0:?}")]
    LocationCharacter(char),
    /// `.` or `..`, which intermediaries would take for a folder.
    #[error("{what} must not be \".\" or \"..\"")]
    Dots {
        /// What was to be named.
        what: &'static str,
    },
    /// A NUL byte.
    #[error("{what} must not contain a NUL byte")]
    Nul {
        /// What was to be named.
        what: &'static str,
    },
}

fn within(what: &'static str, text: &str, limit: usize) -> Result<(), NameError> {
    match text.len() {
        len if len > limit => Err(NameError::TooLong { what, limit, len }),
        _ => Ok(()),
    }
}

fn without_nul(what: &'static str, text: &str) -> Result<(), NameError> {
    match text.contains('\0') {
        true => Err(NameError::Nul { what }),
        false => Ok(()),
    }
}

fn without_dots(what: &'static str, text: &str) -> Result<(), NameError> {
    match text {
        "." | ".." => Err(NameError::Dots { what }),
        _ => Ok(()),
    }
}

fn not_empty(what: &'static str, text: &str) -> Result<(), NameError> {
    match text.is_empty() {
        true => Err(NameError::TooShort { what, least: 1, len: 0 }),
        false => Ok(()),
    }
}

fn basin_characters(text: &str) -> Result<(), NameError> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match text.chars().find(|c| !legal(*c)) {
        Some(c) => Err(NameError::BasinCharacter(c)),
        None => Ok(()),
    }
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    };
}

text_newtype! {
    /// A basin's name: 8 to 48 bytes of lowercase letters, digits and hyphens, no hyphen first or last.
    BasinName
}

impl BasinName {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let what = "a basin name";
        let (least, limit) = (*BASIN_NAME_LEN.start(), *BASIN_NAME_LEN.end());
        if text.len() < least {
            return Err(NameError::TooShort { what, least, len: text.len() });
        }
        within(what, text, limit)?;
        basin_characters(text)?;
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::BasinEdge);
        }
        Ok(Self(text.into()))
    }
}

text_newtype! {
    /// A stream's name: 1 to 512 bytes of UTF-8 without NUL, neither `.` nor `..`.
    StreamName
}

impl StreamName {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let what = "a stream name";
        not_empty(what, text)?;
        within(what, text, MAX_STREAM_NAME_LEN)?;
        without_nul(what, text)?;
        without_dots(what, text)?;
        Ok(Self(text.into()))
    }
}

text_newtype! {
    /// What an access token is called in listings and revocations: 1 to 96 bytes of UTF-8 without NUL, neither `.` nor
    /// `..`. It is no secret.
    AccessTokenId
}

impl AccessTokenId {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let what = "an access token id";
        not_empty(what, text)?;
        within(what, text, MAX_ACCESS_TOKEN_ID_LEN)?;
        without_nul(what, text)?;
        without_dots(what, text)?;
        Ok(Self(text.into()))
    }
}

text_newtype! {
    /// The beginning of a basin's name, or a name to list after; may be empty, short, or end with a hyphen.
    BasinNamePart
}

impl Default for BasinNamePart {
    /// The empty one: of every name the beginning, and before all of them.
    fn default() -> Self {
        Self("".into())
    }
}

impl BasinNamePart {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        within("a basin prefix or start", text, *BASIN_NAME_LEN.end())?;
        basin_characters(text)?;
        if text.starts_with('-') {
            return Err(NameError::BasinEdge);
        }
        Ok(Self(text.into()))
    }
}

impl From<BasinName> for BasinNamePart {
    fn from(name: BasinName) -> Self {
        Self(name.0)
    }
}

text_newtype! {
    /// The beginning of a stream's name, or a name to list after; may be empty.
    StreamNamePart
}

impl Default for StreamNamePart {
    /// The empty one: of every name the beginning, and before all of them.
    fn default() -> Self {
        Self("".into())
    }
}

impl StreamNamePart {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let what = "a stream prefix or start";
        within(what, text, MAX_STREAM_NAME_LEN)?;
        without_nul(what, text)?;
        Ok(Self(text.into()))
    }
}

impl From<StreamName> for StreamNamePart {
    fn from(name: StreamName) -> Self {
        Self(name.0)
    }
}

text_newtype! {
    /// The beginning of an access token's id, or an id to list after; may be empty.
    AccessTokenIdPart
}

impl Default for AccessTokenIdPart {
    /// The empty one: of every id the beginning, and before all of them.
    fn default() -> Self {
        Self("".into())
    }
}

impl AccessTokenIdPart {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let what = "an access token prefix or start";
        within(what, text, MAX_ACCESS_TOKEN_ID_LEN)?;
        without_nul(what, text)?;
        Ok(Self(text.into()))
    }
}

impl From<AccessTokenId> for AccessTokenIdPart {
    fn from(id: AccessTokenId) -> Self {
        Self(id.0)
    }
}

text_newtype! {
    /// What makes a create request recognisable when it comes again: at most 36 bytes.
    RequestToken
}

impl RequestToken {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        within("a request token", text, MAX_REQUEST_TOKEN_LEN)?;
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basin_names() {
        for good in ["my-basin-01", "abcdefgh", "0bcdefg9", &"a".repeat(48)] {
            assert_eq!(BasinName::new(good).map(|n| n.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", "short-1", "-abcdefgh", "abcdefgh-", "Abcdefgh", "abc_defgh", "abcdéfgh", &"a".repeat(49)] {
            assert!(BasinName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn stream_names() {
        for good in ["a", "orders/eu", " ", "日本", "...", &"a".repeat(512)] {
            assert_eq!(StreamName::new(good).map(|n| n.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", ".", "..", "a\0b", &"a".repeat(513)] {
            assert!(StreamName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn access_token_ids() {
        for good in ["t", "tenant-42", "a/b c", "日本", &"a".repeat(96)] {
            assert_eq!(AccessTokenId::new(good).map(|id| id.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", ".", "..", "a\0b", &"a".repeat(97)] {
            assert!(AccessTokenId::new(bad).is_err(), "{bad:?}");
        }
        assert!(AccessTokenIdPart::new("").is_ok());
        assert!(AccessTokenIdPart::new(&"a".repeat(97)).is_err());
        assert!(AccessTokenIdPart::new("\0").is_err());
    }

    #[test]
    fn parts_may_be_empty_and_unfinished() {
        for good in ["", "a", "my-", "a1-b"] {
            assert!(BasinNamePart::new(good).is_ok(), "{good:?}");
        }
        for bad in ["-", "A", &"a".repeat(49)] {
            assert!(BasinNamePart::new(bad).is_err(), "{bad:?}");
        }
        assert!(StreamNamePart::new("").is_ok());
        assert!(StreamNamePart::new(".").is_ok());
        assert!(StreamNamePart::new("\0").is_err());
        assert!(StreamNamePart::new(&"é".repeat(257)).is_err());
    }

    #[test]
    fn request_tokens() {
        assert!(RequestToken::new(&"t".repeat(36)).is_ok());
        assert!(RequestToken::new(&"t".repeat(37)).is_err());
    }
}
