//! Reports of this program's own making, for other programs.

use serde::Serialize;

/// `report` as one JSON value.
///
/// # Panics
///
/// If it has a map whose keys are not text, which would be a mistake in its type.
pub fn encode_report(report: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(report).expect("a report is made of structures, numbers and text")
}
