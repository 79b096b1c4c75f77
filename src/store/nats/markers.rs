//! Markers of removals in the bucket of the meta table, as key-value buckets have them.

/// The header that says of a message that it is no value.
pub(super) const OPERATION: &str = "KV-Operation";
/// How long the marker of a removal is kept: longer than any writer tries.
pub(super) const KEPT_FOR: &str = "1h";
