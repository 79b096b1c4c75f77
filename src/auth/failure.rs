//! Why somebody was not recognised, and why a token was not issued, shown or revoked. How a client is told is the
//! server's to say.

use crate::{
    store::StoreError,
    types::{AccessTokenId, Denied, OutOfScope},
};

/// Why it is not known who asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// They did not say.
    #[error("an access token is needed: `Authorization: Bearer …`")]
    Missing,
    /// What they said is not a token's text.
    #[error("the access token is malformed")]
    Malformed,
    /// No such token, or not any more.
    #[error("the access token is not known, or was revoked")]
    Unknown,
    /// The token's time has passed.
    #[error("the access token has expired")]
    Expired,
    /// The store failed, so nobody can tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a token was not issued, listed or revoked. Nothing was changed, unless the store says that something may have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFailure {
    /// Who asks may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The token would be allowed more than its issuer.
    #[error(transparent)]
    OutOfScope(#[from] OutOfScope),
    /// The token would outlive its issuer.
    #[error("the access token must not expire later than the one that issues it")]
    OutlivesIssuer,
    /// The token could do nothing.
    #[error("Access token permissions cannot be empty")]
    NoOperations,
    /// There is no one prefix to put in front of stream names.
    #[error("Auto prefixing is only allowed for streams with prefix matching")]
    NoPrefix,
    /// The token would have expired already.
    #[error("expires_at must lie in the future")]
    ExpiryPassed,
    /// A token of that id is there.
    #[error("access token {0:?} already exists")]
    Exists(AccessTokenId),
    /// The root token, which is the operator's to change.
    #[error("the root token is the operator's and cannot be revoked; start the gateway with another one")]
    Root,
    /// No token of that id is there.
    #[error("access token {0:?} does not exist")]
    NotFound(AccessTokenId),
    /// The system has no random bytes.
    #[error("no random bytes to be had: {0}")]
    NoRandomness(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
