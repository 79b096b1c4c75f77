//! What a client names and presents: a stream in its basin, a token.

use std::fmt;

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::types::{BasinName, StreamName};

/// Everything but what RFC 3986 calls unreserved: a name is one segment, so a slash in it must not look like one.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A stream and the basin that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPath {
    /// The basin.
    pub basin: BasinName,
    /// The stream in it.
    pub stream: StreamName,
}

impl StreamPath {
    /// The path of the stream's records, below the endpoint's base.
    pub(super) fn records(&self) -> String {
        format!("/streams/{}/records", utf8_percent_encode(self.stream.as_str(), SEGMENT))
    }
}

impl fmt::Display for StreamPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.basin, self.stream)
    }
}

/// An access token; shown nowhere.
#[derive(Clone)]
pub struct Token(HeaderValue);

/// A token that cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is made of visible ASCII characters")]
pub struct TokenError;

impl Token {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| TokenError)?;
        value.set_sensitive(true);
        if visible { Ok(Self(value)) } else { Err(TokenError) }
    }

    /// The value of `authorization`.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment() {
        for (stream, path) in [
            ("orders", "/streams/orders/records"),
            ("orders/eu west", "/streams/orders%2Feu%20west/records"),
            ("日", "/streams/%E6%97%A5/records"),
            ("a%2F", "/streams/a%252F/records"),
            ("...", "/streams/.../records"),
        ] {
            let stream = StreamName::new(stream).unwrap();
            let target = StreamPath { basin: BasinName::new("my-basin-01").unwrap(), stream };
            assert_eq!(target.records(), path);
        }
    }

    #[test]
    fn tokens() {
        assert_eq!(Token::new("abc").unwrap().header(), "Bearer abc");
        for bad in ["", "a b", "a\nb", "ä"] {
            assert!(Token::new(bad).is_err(), "{bad:?}");
        }
    }
}
