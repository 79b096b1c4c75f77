//! Encryption of records with the customer's key (`data-plane.md` §11): what is stored is of no use without the key, and
//! the key is never stored.
//!
//! | file | subject |
//! |---|---|
//! | `key` | keys, as a header has them and as a cipher needs them |
//! | `record` | which bytes of a record are encrypted, and in which form they are kept |
//! | `aead` | the ciphers themselves; the only file that names their crates |
//!
//! Nothing here knows a header's name, a lock or a store, and nothing here draws a random number: whoever encrypts hands
//! in where nonces come from.

mod aead;
mod key;
mod record;

pub use key::{EncryptionKey, KeyError, KeyMaterial};
pub use record::{DecryptionFailed, Opened, RecordCipher};
