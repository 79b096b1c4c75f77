//! The text of a token: drawn, recognised, hashed, compared. Knows no entry.
//!
//! ```text
//! s2s_ base64url( 32 bytes from the system's random source │ the token's id, 1 to 96 bytes )
//! ```
//!
//! To its bearer it is opaque. The id in it finds the entry without a search; only the hash of the whole text is kept, and
//! 256 random bits cannot be guessed from a plain SHA-256, as a password could.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::TokenFailure;
use crate::types::{AccessTokenId, Secret, TokenHash};

const PREFIX: &str = "s2s_";
const SECRET_LEN: usize = 32;

/// A new token for `id`.
pub(super) fn draw(id: &AccessTokenId) -> Result<Secret, TokenFailure> {
    let mut content = vec![0; SECRET_LEN];
    SysRng.try_fill_bytes(&mut content).map_err(|error| TokenFailure::NoRandomness(error.to_string()))?;
    content.extend_from_slice(id.as_str().as_bytes());
    let mut text = PREFIX.to_owned();
    URL_SAFE_NO_PAD.encode_string(&content, &mut text);
    Ok(Secret::new(text).expect("it begins with the prefix"))
}

/// The token that `bearer` says it is; `None` if it is not the text of any.
pub(super) fn id_of(bearer: &str) -> Option<AccessTokenId> {
    let content = URL_SAFE_NO_PAD.decode(bearer.strip_prefix(PREFIX)?).ok()?;
    let id = content.get(SECRET_LEN..)?;
    AccessTokenId::new(std::str::from_utf8(id).ok()?).ok()
}

/// What is kept of a token.
pub(super) fn hash(bearer: &str) -> TokenHash {
    TokenHash::new(Sha256::digest(bearer).into())
}

/// Whether two hashes are the same, in a time that does not depend on where they differ.
pub(super) fn same(one: &TokenHash, other: &TokenHash) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> AccessTokenId {
        AccessTokenId::new(text).unwrap()
    }

    #[test]
    fn a_token_names_its_entry() {
        for text in ["t", "tenant/42 é", &"a".repeat(96)] {
            let token = draw(&id(text)).unwrap();
            assert_eq!(id_of(token.expose()), Some(id(text)));
            assert!(token.expose().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
        }
    }

    #[test]
    fn no_two_are_the_same() {
        let (one, other) = (draw(&id("t")).unwrap(), draw(&id("t")).unwrap());
        assert_ne!(one.expose(), other.expose());
        assert!(!same(&hash(one.expose()), &hash(other.expose())));
        assert!(same(&hash(one.expose()), &hash(one.expose())));
    }

    #[test]
    fn what_is_no_token() {
        let encoded = |content: &[u8]| format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(content));
        let nul = [[7; SECRET_LEN].as_slice(), b"a\0"].concat();
        let not_utf8 = [[7; SECRET_LEN].as_slice(), b"\xff"].concat();
        for text in
            ["", PREFIX, "s2s_!", &encoded(b"short"), &encoded(&[7; SECRET_LEN]), &encoded(&nul), &encoded(&not_utf8)]
        {
            assert_eq!(id_of(text), None, "{text:?}");
        }
        let good = encoded(&[[7; SECRET_LEN].as_slice(), b"t"].concat());
        assert_eq!(id_of(&good), Some(id("t")));
        assert_eq!(id_of(&good[1..]), None);
        assert_eq!(id_of(&format!("{good}=")), None);
    }
}
