//! Entries of access tokens ↔ the bytes under which the meta table keeps them, in the way of the [catalogue](super::catalogue).
//!
//! ```text
//! {"v":1,"hash":"<64 hex>","expires_at":{"secs":s,"nanos":n}|null,"auto_prefix_streams":false,"scope":{…},"created_at":ms}
//! ```
//!
//! The hash is all there is of the secret. The id is the key's.

use serde::{Deserialize, Serialize};

use super::{
    catalogue::{EntryError, VERSION, decode, encode},
    json::ScopeJson,
};
use crate::types::{AccessTokenEntry, AccessTokenId, AccessTokenInfo, Expiry, Timestamp, TokenHash};

/// Writes a token's entry.
pub fn encode_token_entry(entry: &AccessTokenEntry) -> Vec<u8> {
    encode(&TokenEntryJson {
        v: VERSION,
        hash: entry.hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
        expires_at: entry.info.expires_at.map(|at| ExpiryJson { secs: at.secs(), nanos: at.nanos() }),
        auto_prefix_streams: entry.info.auto_prefix_streams,
        scope: (&entry.info.scope).into(),
        created_at: entry.created_at.get(),
    })
}

/// Reads the entry of the token `id`.
pub fn decode_token_entry(id: AccessTokenId, bytes: &[u8]) -> Result<AccessTokenEntry, EntryError> {
    let json: TokenEntryJson = decode(bytes)?;
    let info = AccessTokenInfo {
        id,
        expires_at: json.expires_at.map(|at| Expiry::new(at.secs, at.nanos)),
        auto_prefix_streams: json.auto_prefix_streams,
        scope: json.scope.try_into()?,
    };
    Ok(AccessTokenEntry { info, hash: decode_hash(&json.hash)?, created_at: Timestamp::new(json.created_at) })
}

// No field is passed over: what adds one makes a new version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntryJson {
    v: u64,
    hash: String,
    expires_at: Option<ExpiryJson>,
    auto_prefix_streams: bool,
    scope: ScopeJson,
    created_at: u64,
}

#[derive(Serialize, Deserialize)]
struct ExpiryJson {
    secs: u64,
    nanos: u32,
}

/// 64 lowercase hexadecimal digits. The text is not told: it belongs in no message.
fn decode_hash(text: &str) -> Result<TokenHash, EntryError> {
    let damaged = || EntryError::Damaged("the hash of an access token is not 64 hexadecimal digits".into());
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
    let byte = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    let bytes: Option<Vec<u8>> = match text.len() {
        64 => text.as_bytes().chunks_exact(2).map(byte).collect(),
        _ => None,
    };
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(TokenHash::new).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;
    use crate::types::{OpGroups, Operation, Operations, ResourceSet, Scope, StreamName};

    const TOKEN: &str = r#"{"v":1,"hash":"00ff000000000000000000000000000000000000000000000000000000000001","expires_at":{"secs":5,"nanos":6},"auto_prefix_streams":false,"scope":{"basins":{"prefix":""},"streams":{"exact":"orders"},"access_tokens":null,"op_groups":{"account":{"read":true,"write":true},"basin":{"read":true,"write":true},"stream":{"read":true,"write":true}},"ops":["fence"]},"created_at":7}"#;

    fn id() -> AccessTokenId {
        AccessTokenId::new("tenant-42").unwrap()
    }

    #[test]
    fn the_stored_form_stays_as_it_is() {
        let entry = decode_token_entry(id(), TOKEN.as_bytes()).unwrap();
        assert_eq!(entry.hash.as_bytes()[..2], [0, 0xff]);
        let expected = AccessTokenInfo {
            id: id(),
            expires_at: Some(Expiry::new(5, 6)),
            auto_prefix_streams: false,
            scope: Scope {
                basins: ResourceSet::everything(),
                streams: ResourceSet::Exact(StreamName::new("orders").unwrap()),
                access_tokens: ResourceSet::Nothing,
                op_groups: OpGroups::ALL,
                ops: [Operation::Fence].into_iter().collect(),
            },
        };
        assert_eq!((entry.info.clone(), entry.created_at), (expected, Timestamp::new(7)));
        assert_eq!(String::from_utf8_lossy(&encode_token_entry(&entry)), TOKEN);
    }

    #[test]
    fn what_is_not_an_entry() {
        let newer = decode_token_entry(id(), br#"{"v":2}"#).map(drop);
        assert_eq!(newer, Err(EntryError::NewerVersion { found: 2 }));
        for bytes in [
            String::new(),
            TOKEN.replace("00ff", "00FF"),
            TOKEN.replace("00ff", "0ff"),
            TOKEN.replace("00ff", "+0ff"),
            TOKEN.replace("00ff", "é00"),
            TOKEN.replace("\"fence\"", "\"fly\""),
            TOKEN.replace("\"v\":1", "\"v\":1,\"new\":1"),
        ] {
            let decoded = decode_token_entry(id(), bytes.as_bytes()).map(drop);
            assert!(matches!(decoded, Err(EntryError::Damaged(_))), "{bytes}: {decoded:?}");
        }
    }

    proptest! {
        #[test]
        fn entries_come_back(
            hash in any::<[u8; 32]>(),
            expires_at in option::of((any::<u64>(), 0..1_000_000_000u32)),
            auto_prefix_streams in any::<bool>(),
            ops in prop::sample::subsequence(Operation::ALL.to_vec(), 0..=24),
            created_at in any::<u64>(),
        ) {
            let scope = Scope { ops: ops.into_iter().collect::<Operations>(), ..Default::default() };
            let expires_at = expires_at.map(|(secs, nanos)| Expiry::new(secs, nanos));
            let info = AccessTokenInfo { id: id(), expires_at, auto_prefix_streams, scope };
            let created_at = Timestamp::new(created_at);
            let entry = AccessTokenEntry { info: info.clone(), hash: TokenHash::new(hash), created_at };
            let decoded = decode_token_entry(id(), &encode_token_entry(&entry)).unwrap();
            prop_assert_eq!((decoded.info, decoded.hash.as_bytes(), decoded.created_at), (info, &hash, created_at));
        }
    }
}
