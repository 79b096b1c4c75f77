//! What a client names and presents: a stream in its basin, a token, a key.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::types::{BasinName, StreamName};

/// Everything but what RFC 3986 calls unreserved: a name is one segment, so a slash in it must not look like one.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `name` as a segment of a path, or as a value in a query.
pub(super) fn segment(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, SEGMENT)
}

/// A stream and the basin that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPath {
    /// The basin.
    pub basin: BasinName,
    /// The stream in it.
    pub stream: StreamName,
}

impl StreamPath {
    /// The path of the stream, below the endpoint's base.
    pub(super) fn path(&self) -> String {
        format!("/streams/{}", segment(self.stream.as_str()))
    }

    /// The path of the stream's records, below the endpoint's base.
    pub(super) fn records(&self) -> String {
        format!("{}/records", self.path())
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

/// The customer's key for the records of streams with a cipher (`data-plane.md` §11); shown nowhere.
#[derive(Clone)]
pub struct EncryptionKey(HeaderValue);

/// A key that no cipher takes. What was given is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an encryption key is 32 bytes in standard base64, which makes 44 characters")]
pub struct EncryptionKeyError;

impl EncryptionKey {
    /// Checks `text`, the base64 of 32 bytes; white space around it is not part of it.
    pub fn new(text: &str) -> Result<Self, EncryptionKeyError> {
        const KEY_LEN: usize = 32;
        // The decoder wants room for whole groups of three bytes.
        let mut key = Zeroizing::new([0; KEY_LEN + 1]);
        match STANDARD.decode_slice(text.trim_ascii(), key.as_mut_slice()) {
            Ok(KEY_LEN) => {}
            _ => return Err(EncryptionKeyError),
        }
        let mut value = HeaderValue::from_str(text.trim_ascii()).map_err(|_| EncryptionKeyError)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// The value of `s2-encryption-key`.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(…)")
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
    fn encryption_keys() {
        // data-plane.md §11
        let of = |len: usize| STANDARD.encode(vec![0xa5; len]);
        let padded = format!(" {}\n", of(32));
        assert_eq!(EncryptionKey::new(&padded).unwrap().header(), of(32));
        let long = of(64);
        let url_safe = of(32).replace('+', "-").replace('/', "_") + "_";
        for bad in ["", "secret", &of(31), &of(33), &long, &of(32)[..43], &url_safe] {
            assert!(EncryptionKey::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(format!("{:?}", EncryptionKey::new(&of(32)).unwrap()), "EncryptionKey(…)");
    }

    #[test]
    fn tokens() {
        assert_eq!(Token::new("abc").unwrap().header(), "Bearer abc");
        for bad in ["", "a b", "a\nb", "ä"] {
            assert!(Token::new(bad).is_err(), "{bad:?}");
        }
    }
}
