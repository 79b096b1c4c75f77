//! Keys of the meta table as the engine allows them in a subject, readable where they can be. Plain text.
//!
//! ASCII letters, digits, `-`, `_` and `/` stand for themselves, every other byte is `=` and two hexadecimal digits, and
//! the empty key is `=`. One token, so that no key is taken for a part of another one's.

use std::fmt::Write;

pub(super) fn encode(key: &[u8]) -> String {
    if key.is_empty() {
        return "=".into();
    }
    let mut text = String::with_capacity(key.len() + 8);
    for &byte in key {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => text.push(byte.into()),
            _ => write!(text, "={byte:02x}").expect("a String takes all that is written"),
        }
    }
    text
}

/// The key that [`encode`] made `text` of.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    if text == "=" {
        return Some(Vec::new());
    }
    let mut key = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'=' => {
                let (digits, after) = after.split_at_checked(2)?;
                key.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                after
            }
            _ => {
                key.push(byte);
                after
            }
        };
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_can_be_read_where_that_is_possible() {
        for (key, text) in [
            (&b""[..], "="),
            (b"b/my-basin-01", "b/my-basin-01"),
            (b"a.b c", "a=2eb=20c"),
            (b"=\x00\xff", "=3d=00=ff"),
            (b">*", "=3e=2a"),
        ] {
            assert_eq!(encode(key), text);
            assert_eq!(decode(text).as_deref(), Some(key));
        }
        for text in ["=2", "=zz", "a="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_key_comes_back(key in proptest::collection::vec(proptest::num::u8::ANY, 0..50)) {
            let text = encode(&key);
            proptest::prop_assert!(!text.contains(['.', ' ', '*', '>']));
            proptest::prop_assert_eq!(decode(&text), Some(key));
        }
    }
}
