//! Keys: as a request has them, and as a cipher needs them. Neither can be printed, and both are wiped when let go of.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::types::Cipher;

/// Bytes of a key, for every cipher.
const KEY_LEN: usize = 32;

/// Bytes of the base64 of a key, and the most that any request may have as one.
const MAX_MATERIAL_LEN: usize = 44;

/// Room for the longest material, decoded.
const MAX_DECODED_LEN: usize = 33;

/// Why a key is not one (400 `bad_header`). What was given is nowhere in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or more than the base64 of a key.
    #[error("an encryption key is 1 to {MAX_MATERIAL_LEN} bytes of base64, this one has {len}")]
    MaterialLength {
        /// Bytes given, without the white space around them.
        len: usize,
    },
    /// The stream has a cipher and the request no key.
    #[error("the stream is encrypted with {cipher}, and the request has no encryption key")]
    Missing {
        /// The stream's.
        cipher: Cipher,
    },
    /// Not base64 in the standard alphabet, with padding.
    #[error("the encryption key for the stream's cipher {cipher} is not base64")]
    NotBase64 {
        /// The stream's.
        cipher: Cipher,
    },
    /// Not as long as the cipher's keys are.
    #[error("the encryption key for the stream's cipher {cipher} must have {KEY_LEN} bytes, this one has {len}")]
    Length {
        /// The stream's.
        cipher: Cipher,
        /// Bytes given, decoded.
        len: usize,
    },
}

/// What a request gives as its key, not looked into yet: a stream without a cipher takes anything of a length that a key
/// could have.
///
/// On the heap, so that moving it leaves no copy behind.
pub struct KeyMaterial(Zeroizing<Box<str>>);

impl KeyMaterial {
    /// Takes what stands in `text`, without the white space around it: 1 to 44 bytes.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        match text.trim() {
            text if (1..=MAX_MATERIAL_LEN).contains(&text.len()) => Ok(Self(Zeroizing::new(text.into()))),
            text => Err(KeyError::MaterialLength { len: text.len() }),
        }
    }
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaterial(…)")
    }
}

/// A key of 32 bytes.
///
/// Whether it is the right one for a stream nobody here knows: that shows when a record is decrypted.
pub struct EncryptionKey(Box<Zeroizing<[u8; KEY_LEN]>>);

impl EncryptionKey {
    /// The key `bytes`.
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }

    /// The key that `material` is, for a stream with `cipher`.
    pub fn required(cipher: Cipher, material: Option<&KeyMaterial>) -> Result<Self, KeyError> {
        let text = &material.ok_or(KeyError::Missing { cipher })?.0;
        let mut decoded = Zeroizing::new([0; MAX_DECODED_LEN]);
        let len = STANDARD
            .decode_slice(text.as_bytes(), decoded.as_mut_slice())
            .map_err(|_| KeyError::NotBase64 { cipher })?;
        match decoded[..len].try_into() {
            Ok(bytes) => Ok(Self::new(bytes)),
            Err(_) => Err(KeyError::Length { cipher, len }),
        }
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
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

    const CIPHER: Cipher = Cipher::Aegis256;

    fn key(text: &str) -> Result<[u8; 32], KeyError> {
        let material = KeyMaterial::new(text)?;
        EncryptionKey::required(CIPHER, Some(&material)).map(|key| *key.bytes())
    }

    #[test]
    fn keys_of_the_contract() {
        // data-plane.md §11
        let of = |len: usize| STANDARD.encode(vec![7; len]);
        let not_base64 = Err(KeyError::NotBase64 { cipher: CIPHER });
        let cases = [
            (of(32), Ok([7; 32])),
            (format!(" \t{} ", of(32)), Ok([7; 32])),
            (String::new(), Err(KeyError::MaterialLength { len: 0 })),
            ("  ".into(), Err(KeyError::MaterialLength { len: 0 })),
            ("A".repeat(45), Err(KeyError::MaterialLength { len: 45 })),
            (of(64), Err(KeyError::MaterialLength { len: 88 })),
            (format!("{} {}", of(12), "A".repeat(27)), not_base64),
            ("not base64 at all".into(), not_base64),
            ("-".repeat(43) + "=", not_base64),
            ("A".repeat(43), not_base64),
            ("A".repeat(41), not_base64),
            (of(31), Err(KeyError::Length { cipher: CIPHER, len: 31 })),
            (of(33), Err(KeyError::Length { cipher: CIPHER, len: 33 })),
            (of(16), Err(KeyError::Length { cipher: CIPHER, len: 16 })),
            (of(1), Err(KeyError::Length { cipher: CIPHER, len: 1 })),
        ];
        for (text, expected) in cases {
            assert_eq!(key(&text), expected, "{text:?}");
        }
        let missing = EncryptionKey::required(Cipher::Aes256Gcm, None).map(|_| ());
        assert_eq!(missing, Err(KeyError::Missing { cipher: Cipher::Aes256Gcm }));
    }

    #[test]
    fn keys_are_in_no_text() {
        let text = STANDARD.encode([0xa5; 32]);
        let material = KeyMaterial::new(&text).unwrap();
        let key = EncryptionKey::required(CIPHER, Some(&material)).unwrap();
        assert_eq!(format!("{material:?} {key:?}"), "KeyMaterial(…) EncryptionKey(…)");

        for secret in ["secret-secret-secret", "c2VjcmV0LXNlY3JldA=="] {
            let material = KeyMaterial::new(secret).unwrap();
            let error = EncryptionKey::required(CIPHER, Some(&material)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(&secret[..6]), "{error}");
        }
    }
}
