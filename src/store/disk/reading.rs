//! Finding batches: by number, by time. Nothing but keys is read until the batches are known.

use std::mem;

use super::{
    engine::{EngineError, Look},
    format::{BatchKey, Damage, Released, StoredHead},
};
use crate::types::{Batch, Position, SeqNum, Timestamp};

/// A read, which goes on where it was when something was moved meanwhile: it comes to its end, however much is moved.
pub(super) struct Reading {
    from: SeqNum,
    budget: usize,
    found: Vec<Batch>,
    /// Metered bytes of what was found.
    metered: usize,
    /// Where what was found ends, if anything was.
    next: SeqNum,
}

impl Reading {
    /// Of batches from the one that holds `from` on, until they make it `budget` metered bytes or the tail is reached.
    pub(super) const fn new(from: SeqNum, budget: usize) -> Self {
        Self { from, budget, found: Vec::new(), metered: 0, next: from }
    }

    /// Reads them. What is missing between them, or does not fit, is damage: everything up to the tail was once durable.
    pub(super) fn go_on(&mut self, look: &Look<'_>, head: &StoredHead) -> Result<Vec<Batch>, EngineError> {
        let tail = head.head.tail.seq_num;
        let from = self.from.max(head.released.to);
        if from >= tail {
            return Ok(Vec::new());
        }
        // What comes next may have been let go of meanwhile.
        if self.found.is_empty() || self.next < from {
            *self = Self { next: batch_holding(look, head, from)?.first, ..Self::new(self.from, self.budget) };
        }
        self.find(look.batches(head.log, self.next, tail))?;
        match from < self.next && (self.metered >= self.budget || self.next == tail) && self.next <= tail {
            true => Ok(mem::take(&mut self.found)),
            false => Err(missing(self.next)),
        }
    }

    fn find(&mut self, batches: impl Iterator<Item = Result<Batch, EngineError>>) -> Result<(), EngineError> {
        for batch in batches {
            let batch = batch?;
            if batch.first_seq_num() != self.next {
                return Err(missing(self.next));
            }
            self.next = batch.end().seq_num;
            self.metered += batch.metered();
            self.found.push(batch);
            if self.metered >= self.budget {
                break;
            }
        }
        Ok(())
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
