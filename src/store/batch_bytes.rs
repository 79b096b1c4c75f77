//! A batch as backends write it: what its index knows of each record, then the records' bytes as they are. Knows no
//! backend, and no checksum: each covers these bytes in its own way.
//!
//! ```text
//! [count][len, metered, time since the one before]*count[records]
//! ```
//!
//! Numbers are varints; the first record's time counts from zero. The metered size must be kept, because it cannot be
//! told from an encrypted record.

use bytes::{Buf, BufMut, Bytes};

use crate::types::{Batch, SeqNum, StoredEntry, Timestamp, layout};

/// As many bytes as `batch` takes, or more: times are close together, and other numbers are short.
pub(super) fn len_bound(batch: &Batch) -> usize {
    // A count, and per record two varints of sizes that a batch has and one of any time.
    10 + (5 + 5 + 10) * batch.len() + batch.records_bytes().len()
}

/// As many bytes as `batch` takes.
pub(super) fn len(batch: &Batch) -> usize {
    let mut len = layout::varint_len(batch.len() as u64) + batch.records_bytes().len();
    let mut before = 0;
    for entry in batch.stored_index() {
        let sizes = [u64::from(entry.len), u64::from(entry.metered), entry.timestamp.get() - before];
        len += sizes.map(layout::varint_len).iter().sum::<usize>();
        before = entry.timestamp.get();
    }
    len
}

/// Appends `batch` to `out`.
pub(super) fn put(out: &mut Vec<u8>, batch: &Batch) {
    put_index(out, batch);
    out.put_slice(batch.records_bytes());
}

/// Appends to `out` what stands before the records of `batch`.
pub(super) fn put_index(out: &mut Vec<u8>, batch: &Batch) {
    layout::put_varint(out, batch.len() as u64);
    let mut before = 0;
    for entry in batch.stored_index() {
        layout::put_varint(out, u64::from(entry.len));
        layout::put_varint(out, u64::from(entry.metered));
        layout::put_varint(out, entry.timestamp.get() - before);
        before = entry.timestamp.get();
    }
}

/// Takes the batch that begins at `first` from the front of `bytes`, which it shares. `None` if there is none.
pub(super) fn take(first: SeqNum, bytes: &mut Bytes) -> Option<Batch> {
    let mut rest = &bytes[..];
    let index = take_index(&mut rest)?;
    let records = index.iter().try_fold(0usize, |sum, entry| sum.checked_add(entry.len as usize))?;
    bytes.advance(bytes.len() - rest.len());
    let records = (records <= bytes.len()).then(|| bytes.split_to(records))?;
    Batch::from_stored(first, records, index.into_iter())
}

fn take_index(rest: &mut &[u8]) -> Option<Vec<StoredEntry>> {
    let count = usize::try_from(layout::take_varint(rest)?).ok()?;
    // An entry takes at least three bytes, which bounds what is set aside for a count that is wrong.
    let mut index = Vec::with_capacity(count.min(rest.len() / 3));
    let mut before = 0u64;
    for _ in 0..count {
        let len = u32::try_from(layout::take_varint(rest)?).ok()?;
        let metered = u32::try_from(layout::take_varint(rest)?).ok()?;
        before = before.checked_add(layout::take_varint(rest)?)?;
        index.push(StoredEntry { timestamp: Timestamp::new(before), len, metered });
    }
    Some(index)
}
