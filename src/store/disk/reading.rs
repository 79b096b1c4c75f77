//! Finding batches: by number, by time. Nothing but keys is read until the batches are known.

use super::{
    engine::{EngineError, Look},
    format::{BatchKey, Damage, Released, StoredHead},
};
use crate::types::{Batch, Position, SeqNum, Timestamp};

/// Batches from the one that holds `from` on, until they make it `budget` metered bytes or the tail is reached.
///
/// What is missing between them, or does not fit, is damage: everything up to the tail was once durable.
pub(super) fn read(look: &Look<'_>, head: &StoredHead, from: SeqNum, budget: usize) -> Result<Vec<Batch>, EngineError> {
    let tail = head.head.tail.seq_num;
    let from = from.max(head.released.to);
    if from >= tail {
        return Ok(Vec::new());
    }
    let mut next = batch_holding(look, head, from)?.first;
    let (mut batches, mut metered) = (Vec::new(), 0);
    for batch in look.batches(head.log, next, tail) {
        let batch = batch?;
        if batch.first_seq_num() != next {
            return Err(missing(next));
        }
        next = batch.end().seq_num;
        metered += batch.metered();
        batches.push(batch);
        if metered >= budget {
            break;
        }
    }
    match from < next && (metered >= budget || next == tail) && next <= tail {
        true => Ok(batches),
        false => Err(missing(next)),
    }
}

/// The earliest record at or after `from` whose timestamp is `timestamp` or later.
///
/// Timestamps do not decrease, so the batch is found by halving; the keys know the times of their batches' ends.
pub(super) fn seek(
    look: &Look<'_>,
    head: &StoredHead,
    from: SeqNum,
    timestamp: Timestamp,
) -> Result<Option<Position>, EngineError> {
    let tail = head.head.tail;
    let from = from.max(head.released.to);
    if from >= tail.seq_num || tail.timestamp < timestamp {
        return Ok(None);
    }
    // The batch that is looked for holds a number from `low` to `high`, both included.
    let (mut low, mut high) = (from, tail.seq_num.saturating_sub(1));
    // The one that holds `high`.
    let mut found = batch_holding(look, head, high)?;
    while low < high {
        let middle = SeqNum::new(low.get() + (high.get() - low.get()) / 2);
        let batch = batch_holding(look, head, middle)?;
        if batch.last_timestamp >= timestamp {
            found = batch;
            high = batch.first.max(low);
        } else {
            low = middle.saturating_add(1);
        }
    }
    let batch = look.batch(&found)?;
    Ok(batch.seek(timestamp).and_then(|position| match position.seq_num < from {
        true => position_of(&batch, from),
        false => Some(position),
    }))
}

/// How much of the log goes when everything before `to` is let go of, if that is more than before.
pub(super) fn released_by(look: &Look<'_>, head: &StoredHead, to: SeqNum) -> Result<Option<Released>, EngineError> {
    let tail = head.head.tail.seq_num;
    let released = match to {
        _ if to <= head.released.to => return Ok(None),
        _ if to >= tail => Released { to: tail, metered: head.appended },
        _ => {
            let first_kept = batch_holding(look, head, to)?;
            Released { to: first_kept.first, metered: first_kept.metered_before }
        }
    };
    Ok((released.to > head.released.to).then_some(released))
}

/// The head as the last batch left it: appends that moved nothing but the tail did not write it again.
///
/// Its last batch must be there, which a head without its batches would not have.
pub(super) fn head_after_last(look: &Look<'_>, written: StoredHead) -> Result<StoredHead, EngineError> {
    let tail = written.head.tail.seq_num;
    let last = look.batch_keys(written.log, written.released.to, SeqNum::MAX).next_back().transpose()?;
    match last {
        Some(last) if last.first >= tail => Ok(written.after(&last)),
        Some(last) if last.end().seq_num == tail => Ok(written),
        None if written.released.to == tail => Ok(written),
        _ => Err(missing(tail.saturating_sub(1))),
    }
}

/// The key of the last batch that begins at `seq_num` or before, which must be neither trimmed nor beyond the tail.
fn batch_holding(look: &Look<'_>, head: &StoredHead, seq_num: SeqNum) -> Result<BatchKey, EngineError> {
    let mut keys = look.batch_keys(head.log, head.released.to, seq_num.saturating_add(1));
    keys.next_back().unwrap_or_else(|| Err(missing(seq_num)))
}

fn missing(seq_num: SeqNum) -> EngineError {
    EngineError::Damaged(format!("the batch with record {seq_num}: {}", Damage::Missing))
}

fn position_of(batch: &Batch, seq_num: SeqNum) -> Option<Position> {
    let slice = batch.starting_at(seq_num)?;
    let record = slice.records().next()?;
    Some(Position { seq_num: record.seq_num, timestamp: record.timestamp })
}
