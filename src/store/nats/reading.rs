//! Finding messages of a stream and reading them: by number, by time. Every one is checked when it is read, and that it
//! follows the one before it.
//!
//! Any server is asked, because what is durable does not change; one that lags and misses what is known to be there is not
//! taken at its word, and the leader is asked instead.

use super::{
    answers::NoAnswer,
    chain::{Known, Place, Released, Stored},
    engine::{Message, Pauses},
    log::Log,
    places::Between,
};
use crate::{
    store::StoreError,
    types::{Batch, Position, SeqNum, Timestamp},
};

/// Messages that are asked for at once, to read or to catch up; and about how many bytes of them.
pub(super) const SEVERAL: usize = 64;
pub(super) const SEVERAL_BYTES: usize = 4 * 1024 * 1024;

/// Batches from the one that holds `from` on, until they make it `budget` metered bytes or the tail is reached.
pub(super) async fn read(log: &Log, from: SeqNum, budget: usize) -> Result<Vec<Batch>, StoreError> {
    let known = log.known();
    let from = from.max(known.released().to);
    let reaches = |place: &Place| place.end.seq_num > from;
    let Some(first) = find(log, &known, reaches).await? else { return Ok(Vec::new()) };
    let mut found = Found { from, budget, batches: Vec::new(), metered: 0 };
    let (mut next, mut before) = (first, None::<Stored>);
    while next <= known.last {
        for message in several(log, next, found.missing()).await? {
            if message.sequence > known.last {
                // It was not reported yet.
                return Ok(found.batches);
            }
            let stored = decode(log, &message)?;
            if let Some(before) = before.as_ref().filter(|before| !stored.follows(before)) {
                return match is_whole_after(log, before).await? {
                    true => Ok(found.batches),
                    false => Err(damaged(log, message.sequence, &"it does not follow the one before it")),
                };
            }
            log.note_place(stored.place());
            if found.add(&stored) {
                return Ok(found.batches);
            }
            next = stored.sequence + 1;
            before = Some(stored);
        }
    }
    Ok(found.batches)
}

/// Whether nothing is missing after `before`, as the leader knows it, although something else came next: what lies in
/// between was trimmed meanwhile, or is just being trimmed.
async fn is_whole_after(log: &Log, before: &Stored) -> Result<bool, StoreError> {
    let ask = async |from| Ok::<_, StoreError>(from_leader_patiently(log, from).await?.into_iter().next());
    match ask(before.sequence).await? {
        Some(first) if first.sequence > before.sequence => Ok(true),
        Some(_) => match ask(before.sequence + 1).await? {
            Some(next) => Ok(decode(log, &next)?.follows(before)),
            None => Ok(false),
        },
        None => Ok(false),
    }
}

/// What was read so far.
struct Found {
    from: SeqNum,
    budget: usize,
    batches: Vec<Batch>,
    metered: usize,
}

impl Found {
    /// Adds what is wanted of a message; whether that is enough.
    fn add(&mut self, stored: &Stored) -> bool {
        for (batch, _) in stored.envelope.batches() {
            if batch.end().seq_num > self.from {
                self.metered += batch.metered();
                self.batches.push(batch.clone());
                if self.metered >= self.budget {
                    return true;
                }
            }
        }
        false
    }

    /// Bytes to ask for: the budget counts records without their index, so that a little more is needed.
    fn missing(&self) -> usize {
        let metered = self.budget.saturating_sub(self.metered);
        metered.saturating_add(metered / 8).clamp(1, SEVERAL_BYTES)
    }
}

/// The earliest record at or after `from` whose timestamp is `timestamp` or later.
pub(super) async fn seek(log: &Log, from: SeqNum, timestamp: Timestamp) -> Result<Option<Position>, StoreError> {
    let known = log.known();
    let from = from.max(known.released().to);
    let reaches = |place: &Place| place.end.seq_num > from && place.end.timestamp >= timestamp;
    let Some(sequence) = find(log, &known, reaches).await? else { return Ok(None) };
    let stored = message_at(log, sequence).await?;
    let batches = stored.envelope.batches().iter().map(|(batch, _)| batch);
    let mut reaching = batches.filter(|batch| batch.end().seq_num > from && batch.end().timestamp >= timestamp);
    Ok(reaching.next().and_then(|batch| match batch.seek(timestamp)? {
        found if found.seq_num < from => position_of(batch, from),
        found => Some(found),
    }))
}

/// Lets go of records before `to`, as far as no message that is still needed holds them. The last message is always
/// needed: it is the head.
pub(super) async fn trim(log: &Log, to: SeqNum) -> Result<(), StoreError> {
    if log.known().head.tail.seq_num < to {
        log.settle().await;
    }
    let known = log.known();
    if to <= known.released().to || known.last == 0 {
        return Ok(());
    }
    if to >= known.head.tail.seq_num {
        purge(log, known.last).await?;
        log.release_up_to(&known);
        return Ok(());
    }
    let Some(sequence) = find(log, &known, |place| place.end.seq_num > to).await? else { return Ok(()) };
    let first_kept = message_at(log, sequence).await?;
    purge(log, sequence).await?;
    let released: Released = first_kept.released_by(to.max(first_kept.envelope.start()));
    log.release(released);
    Ok(())
}

async fn purge(log: &Log, to: u64) -> Result<(), StoreError> {
    let mut pauses = Pauses::new();
    loop {
        match log.engine.purge(&log.subject, to).await {
            Ok(()) => return Ok(()),
            // Doing it twice does no harm.
            Err(error) if !pauses.pause().await => return Err(StoreError::Unknown(error.to_string().into())),
            Err(_) => {}
        }
    }
}

/// A number from which on the first message of the stream is the first one of which `reaches` is true; nothing if there
/// is none up to the tail. Of all messages after one of which it is true, it is true.
async fn find(log: &Log, known: &Known, reaches: impl Fn(&Place) -> bool + Copy) -> Result<Option<u64>, StoreError> {
    // The last message is known by its end only.
    let last = Place { sequence: known.last, start: known.head.tail.seq_num, end: known.head.tail };
    if known.last == 0 || !reaches(&last) {
        return Ok(None);
    }
    let between = log.places().around(reaches);
    if let Some(sequence) = between.exact() {
        return Ok(Some(sequence));
    }
    let Between { before, at_most } = between;
    // The message is the first one of the stream from `low` on, or lies between `low` and `high`, both included.
    let mut low = before.map_or(1, |place| place.sequence + 1);
    let mut high = at_most.map_or(known.last, |place| place.sequence.min(known.last));
    // Most searches end right here: the reader goes on where it was, or begins with what is oldest.
    let mut middle = low;
    while low < high {
        let place = message_at(log, middle).await?.place();
        match reaches(&place) {
            true if middle == low => return Ok(Some(place.sequence)),
            // There is nothing between `middle` and this one.
            true => high = middle,
            false => low = place.sequence + 1,
        }
        middle = low + (high - low) / 2;
    }
    Ok(Some(high))
}

/// The first message with number `from`, which is at most that of the last one, or a higher one.
async fn message_at(log: &Log, from: u64) -> Result<Stored, StoreError> {
    let found = several_of(log, from, 1, 1).await?;
    let message = found.first().ok_or_else(|| damaged(log, from, &"it is missing"))?;
    let stored = decode(log, message)?;
    log.note_place(stored.place());
    Ok(stored)
}

async fn several(log: &Log, from: u64, bytes: usize) -> Result<Vec<Message>, StoreError> {
    several_of(log, from, SEVERAL, bytes).await
}

/// At least one message from number `from` on, which is at most that of the last one.
async fn several_of(log: &Log, from: u64, count: usize, bytes: usize) -> Result<Vec<Message>, StoreError> {
    let mut pauses = Pauses::new();
    loop {
        let asked = match log.engine.several(&log.subject, from, count, bytes).await {
            Ok(found) if found.is_empty() => from_leader(log, from).await,
            asked => asked,
        };
        match asked {
            Ok(found) if found.is_empty() => return Err(nothing_there(log, from)),
            Ok(found) => return Ok(found),
            Err(error) if !pauses.pause().await => return Err(StoreError::Unknown(error.to_string().into())),
            Err(_) => {}
        }
    }
}

async fn from_leader(log: &Log, from: u64) -> Result<Vec<Message>, NoAnswer> {
    Ok(log.engine.next(&log.subject, from).await?.into_iter().collect())
}

async fn from_leader_patiently(log: &Log, from: u64) -> Result<Vec<Message>, StoreError> {
    let mut pauses = Pauses::new();
    loop {
        match from_leader(log, from).await {
            Ok(found) => return Ok(found),
            Err(error) if !pauses.pause().await => return Err(StoreError::Unknown(error.to_string().into())),
            Err(_) => {}
        }
    }
}

/// The last message of a stream stays, unless the stream is deleted.
fn nothing_there(log: &Log, from: u64) -> StoreError {
    damaged(log, from, &"it is missing, with all that come after it; or the stream was deleted")
}

pub(super) fn decode(log: &Log, message: &Message) -> Result<Stored, StoreError> {
    Stored::decode(log.stream, message).map_err(|damage| damaged(log, message.sequence, &damage))
}

pub(super) fn damaged(log: &Log, sequence: u64, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("stream {:?}: message {sequence}: {reason}", log.stream).into())
}

fn position_of(batch: &Batch, seq_num: SeqNum) -> Option<Position> {
    let slice = batch.starting_at(seq_num)?;
    let record = slice.records().next()?;
    Some(Position { seq_num: record.seq_num, timestamp: record.timestamp })
}
