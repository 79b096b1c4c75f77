//! Where basins live (`control-plane.md` §6).

use std::{fmt, sync::Arc};

use super::NameError;

/// A location's name: 1 to 64 letters, digits, colons, hyphens and dots (`control-plane.md` §2).
#[derive(Clone, PartialEq, Eq)]
pub struct LocationName(Arc<str>);

impl LocationName {
    /// The largest name in bytes.
    const MAX_LEN: usize = 64;

    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let what = "a location";
        if text.is_empty() {
            return Err(NameError::TooShort { what, least: 1, len: 0 });
        }
        if text.len() > Self::MAX_LEN {
            return Err(NameError::TooLong { what, limit: Self::MAX_LEN, len: text.len() });
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '.');
        match text.chars().find(|c| !legal(*c)) {
            Some(c) => Err(NameError::LocationCharacter(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LocationName {
    /// `local`.
    fn default() -> Self {
        Self("local".into())
    }
}

impl fmt::Display for LocationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for LocationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A location as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocationInfo {
    /// Its name.
    pub name: LocationName,
    /// Whether it is this account's alone.
    pub is_private: bool,
    /// The storage classes that streams there can have.
    pub storage_classes: &'static [&'static str],
    /// The one that they have when none was said.
    pub default_storage_class: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_names() {
        // control-plane.md §2
        for good in ["a", "aws:us-east-1", "eu.1", "Local", &"a".repeat(64)] {
            assert_eq!(LocationName::new(good).map(|name| name.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "é", "a/b", "a_b", "\0", &"a".repeat(65)] {
            assert!(LocationName::new(bad).is_err(), "{bad:?}");
        }
    }
}
