//! Text that must not be seen: not in a log, not in a debug output, not by accident.

use std::fmt;

/// A secret in clear, one byte at least. It can be shown only by asking for it.
#[derive(Clone)]
pub struct Secret(Box<str>);

/// There was no text to be a secret: one that everybody knows is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret must not be empty")]
pub struct EmptySecret;

impl Secret {
    /// Takes `text`, which must not be empty.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, EmptySecret> {
        let text = text.into();
        match text.is_empty() {
            true => Err(EmptySecret),
            false => Ok(Self(text)),
        }
    }

    /// The text, for the one place that must write or hash it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_seen() {
        let secret = Secret::new("open sesame").unwrap();
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "[redacted] Some(\n    [redacted],\n)");
        assert_eq!(secret.expose(), "open sesame");
    }

    #[test]
    fn there_is_one() {
        assert_eq!(Secret::new("").map(drop), Err(EmptySecret));
    }
}
