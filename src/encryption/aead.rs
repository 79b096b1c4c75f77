//! The ciphers: authenticated encryption of a few bytes in place. Knows no record.
//!
//! `aegis` wraps libaegis, the C code of the algorithm's author, which finds out what the processor can do when it runs;
//! the crate's pure Rust form must be told when it is built, and is slow when it is not. `aes-gcm` finds that out when it
//! runs, too, and clears its key schedule. Ring, which is here for TLS, is two to three times as fast at AES-256-GCM and
//! leaves the schedule, the key with it, in memory that it gave back.
//!
//! A nonce drawn at random for each record keeps AES-256-GCM sound for 2^32 records a key. The limit on sequence numbers
//! counts those of one stream; who uses one key for many busy streams should choose AEGIS-256, which has no such limit.

use aegis::aegis256::Aegis256;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};

use super::EncryptionKey;
use crate::types::Cipher;

/// Bytes that prove that a text is genuine. More would cost every record 16 bytes more, and 128 bits cannot be guessed.
pub(super) const TAG_LEN: usize = 16;

type Tag = [u8; TAG_LEN];

/// The text, the associated data or the key is not what it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotGenuine;

impl Cipher {
    /// Bytes of a nonce: enough to draw it at random for every record of a stream, for `aes-256-gcm` up to 2^32 of them.
    pub(super) const fn nonce_len(self) -> usize {
        match self {
            Self::Aegis256 => 32,
            Self::Aes256Gcm => 12,
        }
    }
}

/// A cipher and a key.
pub(super) enum Aead {
    /// Takes its key with each nonce.
    Aegis256(EncryptionKey),
    /// Has its key worked out once; that takes about a kilobyte.
    Aes256Gcm(Box<Aes256Gcm>),
}

impl Aead {
    pub(super) fn new(cipher: Cipher, key: EncryptionKey) -> Self {
        match cipher {
            Cipher::Aegis256 => Self::Aegis256(key),
            Cipher::Aes256Gcm => Self::Aes256Gcm(Box::new(Aes256Gcm::new(key.bytes().into()))),
        }
    }

    /// Encrypts `text` in place. A nonce is never used twice; it has the length that the cipher's nonces have.
    pub(super) fn seal(&self, nonce: &[u8], associated: &[u8], text: &mut [u8]) -> Tag {
        match self {
            Self::Aegis256(key) => aegis256(key, nonce).encrypt_in_place(text, associated),
            Self::Aes256Gcm(cipher) => cipher
                .encrypt_inout_detached(aes_nonce(nonce), associated, text.into())
                .expect("a record is far shorter than the 64 GiB that the cipher takes")
                .into(),
        }
    }

    /// Decrypts `text` in place. What it holds if it is not genuine says nothing.
    pub(super) fn open(&self, nonce: &[u8], associated: &[u8], text: &mut [u8], tag: &Tag) -> Result<(), NotGenuine> {
        match self {
            Self::Aegis256(key) => aegis256(key, nonce).decrypt_in_place(text, tag, associated).map_err(|_| NotGenuine),
            Self::Aes256Gcm(cipher) => cipher
                .decrypt_inout_detached(aes_nonce(nonce), associated, text.into(), tag.into())
                .map_err(|_| NotGenuine),
        }
    }
}

fn aegis256(key: &EncryptionKey, nonce: &[u8]) -> Aegis256<TAG_LEN> {
    Aegis256::new(key.bytes(), nonce.try_into().expect("as long as this cipher's nonces are"))
}

fn aes_nonce(nonce: &[u8]) -> &aes_gcm::Nonce<aes_gcm::aes::cipher::consts::U12> {
    nonce.try_into().expect("as long as this cipher's nonces are")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Vector {
        cipher: Cipher,
        key: &'static str,
        nonce: &'static str,
        associated: &'static str,
        text: &'static str,
        sealed: &'static str,
        tag: &'static str,
    }

    /// RFC 10032 (AEGIS), test vectors 1 to 4 of AEGIS-256; the specification of GCM, test cases 13, 14 and 16.
    const VECTORS: [Vector; 7] = [
        aegis(
            "",
            "00000000000000000000000000000000",
            "754fc3d8c973246dcc6d741412a4b236",
            "3fe91994768b332ed7f570a19ec5896e",
        ),
        aegis("", "", "", "e3def978a0f054afd1e761d7553afba3"),
        aegis(
            "0001020304050607",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "f373079ed84b2709faee373584585d60accd191db310ef5d8b11833df9dec711",
            "8d86f91ee606e9ff26a01b64ccbdd91d",
        ),
        aegis(
            "0001020304050607",
            "000102030405060708090a0b0c0d",
            "f373079ed84b2709faee37358458",
            "c60b9c2d33ceb058f96e6dd03c215652",
        ),
        Vector {
            cipher: Cipher::Aes256Gcm,
            key: "0000000000000000000000000000000000000000000000000000000000000000",
            nonce: "000000000000000000000000",
            associated: "",
            text: "",
            sealed: "",
            tag: "530f8afbc74536b9a963b4f1c4cb738b",
        },
        Vector {
            cipher: Cipher::Aes256Gcm,
            key: "0000000000000000000000000000000000000000000000000000000000000000",
            nonce: "000000000000000000000000",
            associated: "",
            text: "00000000000000000000000000000000",
            sealed: "cea7403d4d606b6e074ec5d3baf39d18",
            tag: "d0d1c8a799996bf0265b98b5d48ab919",
        },
        Vector {
            cipher: Cipher::Aes256Gcm,
            key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            nonce: "cafebabefacedbaddecaf888",
            associated: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            text: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
                   b16aedf5aa0de657ba637b39",
            sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                     c5f61e6393ba7a0abcc9f662",
            tag: "76fc6ece0f4e1768cddf8853bb2d551b",
        },
    ];

    const fn aegis(associated: &'static str, text: &'static str, sealed: &'static str, tag: &'static str) -> Vector {
        Vector {
            cipher: Cipher::Aegis256,
            key: "1001000000000000000000000000000000000000000000000000000000000000",
            nonce: "1000020000000000000000000000000000000000000000000000000000000000",
            associated,
            text,
            sealed,
            tag,
        }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
        hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn known_answers_of_the_specifications() {
        for Vector { cipher, key, nonce, associated, text, sealed, tag } in VECTORS {
            let aead = Aead::new(cipher, EncryptionKey::new(bytes(key).try_into().unwrap()));
            let (nonce, associated, mut work) = (bytes(nonce), bytes(associated), bytes(text));
            assert_eq!(nonce.len(), cipher.nonce_len());
            let made = aead.seal(&nonce, &associated, &mut work);
            assert_eq!((hex(&work), hex(&made)), (sealed.to_owned(), tag.to_owned()), "{cipher}");
            assert_eq!(aead.open(&nonce, &associated, &mut work, &made), Ok(()));
            assert_eq!(hex(&work), text);
        }
    }

    #[test]
    fn nothing_but_the_same_is_genuine() {
        for cipher in [Cipher::Aegis256, Cipher::Aes256Gcm] {
            let aead = Aead::new(cipher, EncryptionKey::new([1; 32]));
            let other = Aead::new(cipher, EncryptionKey::new([2; 32]));
            let nonce = vec![3; cipher.nonce_len()];
            let mut sealed = *b"a record";
            let tag = aead.seal(&nonce, b"stream", &mut sealed);
            let open = |aead: &Aead, nonce: &[u8], associated, mut text: [u8; 8], tag| {
                aead.open(nonce, associated, &mut text, &tag)
            };
            assert_eq!(open(&aead, &nonce, &b"stream"[..], sealed, tag), Ok(()));
            let flipped = |mut bytes: Vec<u8>| {
                bytes[0] ^= 1;
                bytes
            };
            let wrong = Err(NotGenuine);
            assert_eq!(open(&other, &nonce, b"stream", sealed, tag), wrong, "{cipher}: key");
            assert_eq!(open(&aead, &flipped(nonce.clone()), b"stream", sealed, tag), wrong, "{cipher}: nonce");
            assert_eq!(open(&aead, &nonce, b"other", sealed, tag), wrong, "{cipher}: associated data");
            let text = flipped(sealed.to_vec()).try_into().unwrap();
            assert_eq!(open(&aead, &nonce, b"stream", text, tag), wrong, "{cipher}: text");
            let tag = flipped(tag.to_vec()).try_into().unwrap();
            assert_eq!(open(&aead, &nonce, b"stream", sealed, tag), wrong, "{cipher}: tag");
        }
    }
}
