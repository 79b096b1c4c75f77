//! Whether a store is what it says of itself: what is noted of segments is what pointers come to, and batches are whole.
//! Reads everything; for tests of what crashes leave, and for those who doubt a disk.

use std::collections::BTreeMap;

use super::{
    engine::{Engine, EngineError, Look},
    format::{BatchKey, Pointer, SegmentNumber, Usage},
};

/// What was found to be in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Batches in the database.
    pub in_database: u64,
    /// Batches in segments.
    pub in_segments: u64,
    /// Segments, with live batches or without.
    pub segments: u64,
}

/// Looks at everything, as it is at one moment.
pub(super) fn audit(engine: &Engine) -> Result<Audit, EngineError> {
    let look = engine.look();
    let (mut found, mut live) = (Audit::default(), BTreeMap::new());
    for row in look.all_batches() {
        let (key, pointer) = row?;
        match pointer {
            None => found.in_database += 1,
            Some(pointer) => {
                found.in_segments += 1;
                add(&mut live, &pointer);
            }
        }
        check_batch(&look, &key)?;
    }
    let noted = look.usage()?;
    found.segments = noted.len() as u64;
    compare(&noted, &live)?;
    Ok(found)
}

fn add(live: &mut BTreeMap<SegmentNumber, Usage>, pointer: &Pointer) {
    live.entry(pointer.segment).or_default().add(pointer);
}

/// One that was moved since is whole: that was looked at when it was moved.
fn check_batch(look: &Look<'_>, key: &BatchKey) -> Result<(), EngineError> {
    match look.batch(key) {
        Ok(_) | Err(EngineError::Moved) => Ok(()),
        Err(error) => Err(error),
    }
}

fn compare(noted: &BTreeMap<SegmentNumber, Usage>, live: &BTreeMap<SegmentNumber, Usage>) -> Result<(), EngineError> {
    for segment in noted.keys().chain(live.keys()) {
        let of = |usage: &BTreeMap<_, Usage>| usage.get(segment).copied().unwrap_or_default();
        let (noted, live) = (of(noted), of(live));
        // Behind what is live there may be what was.
        if noted.live != live.live || noted.written < live.written {
            let how = format!("segment {}: noted as {noted:?}, and pointers come to {live:?}", segment.0);
            return Err(EngineError::Damaged(how));
        }
    }
    Ok(())
}
