//! Kept usage ↔ the bytes under which the meta table has it.
//!
//! JSON with the version of its form in front, like the catalogue, and held down byte for byte by the tests.
//!
//! ```text
//! page    {"v":1,"series":{"append-ops/express":[[0,12],[5,3]],"storage/storage_metered_size":[[5,589]]}}
//!                           set/name              [number of the bucket in the page, value]
//! stored  {"v":1,"bytes":589,"since":1748473860}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::catalogue::{EntryError, decode, encode};
use crate::types::{StoredSize, UsagePage};

const VERSION: u64 = 1;

/// Writes a page of usage.
pub fn encode_usage_page(page: &UsagePage) -> Vec<u8> {
    let points = |values: &BTreeMap<u32, u64>| values.iter().map(|(&bucket, &value)| (bucket, value)).collect();
    let series = page.series.iter().map(|(name, values)| (name.clone(), points(values))).collect();
    encode(&PageJson { v: VERSION, series })
}

/// Reads a page of usage.
pub fn decode_usage_page(bytes: &[u8]) -> Result<UsagePage, EntryError> {
    let json: PageJson = decode(bytes)?;
    let series = json.series.into_iter().map(|(name, points)| (name, points.into_iter().collect())).collect();
    Ok(UsagePage { series })
}

/// Writes how much a stream keeps.
pub fn encode_stored_size(size: StoredSize) -> Vec<u8> {
    encode(&StoredJson { v: VERSION, bytes: size.bytes, since: size.since })
}

/// Reads how much a stream keeps.
pub fn decode_stored_size(bytes: &[u8]) -> Result<StoredSize, EntryError> {
    let StoredJson { bytes, since, .. } = decode(bytes)?;
    Ok(StoredSize { bytes, since })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageJson {
    v: u64,
    series: BTreeMap<String, Vec<(u32, u64)>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredJson {
    v: u64,
    bytes: u64,
    since: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_kept_so() {
        let series = BTreeMap::from([
            ("append-ops/express".to_owned(), BTreeMap::from([(0, 12), (5, 3)])),
            ("storage/storage_metered_size".to_owned(), BTreeMap::from([(5, u64::MAX)])),
        ]);
        let page = UsagePage { series };
        let bytes = r#"{"v":1,"series":{"append-ops/express":[[0,12],[5,3]],"storage/storage_metered_size":[[5,18446744073709551615]]}}"#;
        assert_eq!(String::from_utf8(encode_usage_page(&page)).unwrap(), bytes);
        assert_eq!(decode_usage_page(bytes.as_bytes()), Ok(page));
    }

    #[test]
    fn sizes_are_kept_so() {
        let size = StoredSize { bytes: 589, since: 1_748_473_860 };
        let bytes = r#"{"v":1,"bytes":589,"since":1748473860}"#;
        assert_eq!(String::from_utf8(encode_stored_size(size)).unwrap(), bytes);
        assert_eq!(decode_stored_size(bytes.as_bytes()), Ok(size));
    }

    #[test]
    fn what_a_newer_gateway_wrote_is_recognised() {
        let newer = decode_usage_page(br#"{"v":2,"else":true}"#);
        assert_eq!(newer, Err(EntryError::NewerVersion { found: 2 }));
        for damaged in ["", "{}", r#"{"v":1}"#, r#"{"v":1,"series":{"a":[[1]]}}"#, r#"{"v":1,"series":{},"x":1}"#] {
            assert!(matches!(decode_usage_page(damaged.as_bytes()), Err(EntryError::Damaged(_))), "{damaged}");
        }
    }
}
