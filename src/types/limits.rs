//! The numbers of the contract that bound what a client may send (`data-plane.md` §1.2, `s2s.md` §3.3).

/// Records in one append, and in one batch on the wire.
pub const MAX_BATCH_RECORDS: usize = 1000;
/// Metered bytes of one append, of one record, and of one batch on the wire: 1 MiB.
pub const MAX_BATCH_METERED: usize = 1024 * 1024;
/// Bytes of a fencing token.
pub const MAX_FENCING_TOKEN_LEN: usize = 36;
/// Bytes of a request token.
pub const MAX_REQUEST_TOKEN_LEN: usize = 36;
/// Bytes of a stream name.
pub const MAX_STREAM_NAME_LEN: usize = 512;
/// Bytes of an access token's id.
pub const MAX_ACCESS_TOKEN_ID_LEN: usize = 96;
/// Bytes of a basin name.
pub const BASIN_NAME_LEN: std::ops::RangeInclusive<usize> = 8..=48;
/// The largest value of an S2S frame's length field, which counts the flag byte and the body: 2 MiB.
pub const MAX_FRAME_LEN: usize = 2 * 1024 * 1024;
/// The largest protobuf in a frame, before compression and after.
pub const MAX_FRAME_MESSAGE: usize = MAX_FRAME_LEN - 1;
/// Entries on one page of a listing.
pub const MAX_LIST_LIMIT: usize = 1000;
/// Seconds that a unary read may wait for a record.
pub const MAX_UNARY_WAIT_SECS: u32 = 60;
/// The largest number of an encrypted record of an `aes-256-gcm` stream: nonces of 96 random bits stay distinct with the
/// probability that NIST SP 800-38D asks for up to 2^32 of them under one key (`data-plane.md` §11).
pub const MAX_AES_256_GCM_SEQ_NUM: u64 = u32::MAX as u64;
