//! Does what a log has to do, one thing after the other, so that the sink hears of everything in order: publishes what
//! waits, finds out what others published, asks for the newest head.
//!
//! # Why nothing is published twice, and nothing acknowledged is lost
//!
//! A message is published on the condition that the message before it, by number, is the last one of its subject. Numbers
//! only grow, and only a deletion lets a subject forget its last number; it leaves a message of its own there. So:
//!
//! * Of all messages published on the same condition, **at most one** ever lands: it takes away the condition.
//! * An answer that does not come says nothing. The message may have landed, or may **land later**, while it waits in
//!   some buffer. Looking once is not enough to know that it will not.
//! * Therefore, after every answer that is not clear, the subject is read first. If a message follows the one that was
//!   last, the matter is decided for good: it is ours by its [`WriteId`](super::envelope::WriteId), or it is another's and ours can never land any more.
//!   If none follows, **the same bytes are published again on the same condition**. Whichever copy lands first takes away
//!   the condition of the other, so that records are never there twice; and if another process lands first, neither does.
//!   This is not a blind second publication: it cannot succeed where the first one did.
//! * Nothing else is published before that is decided. If it cannot be decided in time, the log fails with
//!   [`StoreError::Unknown`] and must be opened again. A copy that is still under way then has two fates: it lands before
//!   the first message of the new log, which sees it as another process's, or its condition is gone.

use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use super::{
    answers::{NoAnswer, Published},
    chain::{Fit, Known, Stored},
    engine::{Message, Pauses},
    envelope::{Committed, Envelope},
    log::{Log, Phase, Refresh, State, Work},
    reading::{SEVERAL, SEVERAL_BYTES, damaged, decode},
};
use crate::{store::StoreError, types::Head};

/// Bytes of commits that are handed to a sink which was overtaken. If it missed more, it is told so, and reads.
const MOST_MISSED: usize = 16 * 1024 * 1024;

/// Hands the log what a consumer brought.
pub(super) fn deliver(log: &Arc<Log>, message: Message) {
    let mut state = log.lock();
    if message.sequence <= state.known.last || matches!(state.phase, Phase::Ended(_)) {
        return;
    }
    state.keep(message);
    see_to(log, state);
}

/// Sees to it that someone does what is to be done.
pub(super) fn see_to(log: &Arc<Log>, mut state: MutexGuard<'_, State>) {
    if state.begin_driving() {
        drop(state);
        log.engine.runtime.spawn(drive(log.clone()));
    }
}

/// Works until there is nothing to do.
async fn drive(log: Arc<Log>) {
    while let Some(work) = log.next_work() {
        let done = match work {
            Work::Look(messages) => look(&log, messages.into()).await,
            Work::CatchUp => catch_up_to_end(&log).await,
            Work::Commit(batches, refreshing) => commit(&log, batches, refreshing).await,
            Work::Refresh(refreshing) => refresh(&log, refreshing).await,
        };
        if let Err(error) = done {
            fail(&log, error);
        }
    }
}

/// Nothing that was accepted will be reported any more, nor anything else.
fn fail(log: &Log, error: StoreError) {
    let mut state = log.lock();
    state.phase = Phase::Ended(error.clone());
    state.forget_all(&error);
    drop(state);
    log.sink.failed(error);
}

fn deleted() -> StoreError {
    StoreError::NotDone("the stream was deleted".into())
}

// Publishing

/// How the publication of a message ended.
enum Outcome {
    /// It is durable, under this number.
    Landed(u64),
    /// It is not, and never will be, because this one is in its place.
    Overtaken(Stored),
}

async fn commit(log: &Log, batches: Vec<Committed>, refreshing: Vec<Refresh>) -> Result<(), StoreError> {
    let known = log.known();
    let count = batches.len();
    let (envelope, message, link) = known.next(log.engine.next_write(), batches, log.stream);
    match publish(log, &known, &envelope, message).await {
        Ok(Outcome::Landed(sequence)) => {
            log.engine.counters.note_commit(count);
            landed(log, Stored { sequence, link, envelope });
            // It was published after they asked, so that whatever was acknowledged before is in its chain.
            answer(refreshing, log.known().head);
        }
        Ok(Outcome::Overtaken(winner)) => {
            log.engine.counters.note_overtaken();
            log.lock().put_back(refreshing);
            let messages = with_those_after(log, winner).await?;
            learn(log, messages, Ours::Lost)?;
        }
        Err(error) => {
            log.lock().put_back(refreshing);
            return Err(error);
        }
    }
    Ok(())
}

/// Publishes `message`, which carries on from `known`, until it is decided what became of it.
async fn publish(log: &Log, known: &Known, envelope: &Envelope, message: Bytes) -> Result<Outcome, StoreError> {
    let mut pauses = Pauses::new();
    let mut certain = true;
    loop {
        let reason = match log.engine.publish(&log.subject, message.clone(), known.last).await {
            Published::Landed(sequence) => return Ok(Outcome::Landed(sequence)),
            // After an attempt of which nothing is known, a refusal of this one says little.
            Published::Refused(error) if certain => return Err(error),
            Published::Refused(error) => error.to_string(),
            Published::Conflict => "another message is about to be the last one".into(),
            Published::Unknown(reason) => {
                tracing::debug!(stream = ?log.stream, reason, "a commit without an answer");
                certain = false;
                reason
            }
        };
        let found = first_after(log, known, &mut pauses).await;
        if let Some(next) = found.map_err(|error| while_undecided(error, certain))? {
            return outcome(envelope, next, certain);
        }
        if !pauses.pause().await {
            return Err(unresolved(&reason));
        }
    }
}

/// The message that follows what is known, if there is one by now.
async fn first_after(log: &Log, known: &Known, pauses: &mut Pauses) -> Result<Option<Stored>, StoreError> {
    loop {
        match next_after(log, known).await {
            Ok(Some(next)) => return decode(log, &next).map(Some),
            Ok(None) => return check_not_gone(log, known).await.map(|()| None),
            Err(NoAnswer(reason)) if !pauses.pause().await => return Err(unresolved(&reason)),
            Err(NoAnswer(_)) => {}
        }
    }
}

/// What `error` says of a message of which, unless this is `certain`, an answer is outstanding that could be an
/// acknowledgement: not that it did not happen. It may have landed before the stream was deleted.
fn while_undecided(error: StoreError, certain: bool) -> StoreError {
    match error {
        StoreError::NotDone(reason) if !certain => unresolved(&reason),
        error => error,
    }
}

/// What became of a message, now that `next` follows what was last before it. `certain` if no answer is outstanding that
/// could be an acknowledgement.
fn outcome(envelope: &Envelope, next: Stored, certain: bool) -> Result<Outcome, StoreError> {
    let in_its_place = next.envelope.ordinal == envelope.ordinal && !next.is_end();
    match () {
        () if next.envelope.id == envelope.id => Ok(Outcome::Landed(next.sequence)),
        () if in_its_place || certain => Ok(Outcome::Overtaken(next)),
        // It may be among those that were let go of since.
        () => Err(unresolved("the beginning of the stream was let go of meanwhile")),
    }
}

fn unresolved(reason: &str) -> StoreError {
    StoreError::Unknown(format!("it did not become known whether NATS took a commit: {reason}").into())
}

async fn next_after(log: &Log, known: &Known) -> Result<Option<Message>, NoAnswer> {
    log.engine.next(&log.subject, known.last + 1).await
}

/// A subject that had messages and has none is that of a stream deleted so long ago that even its end is gone.
async fn check_not_gone(log: &Log, known: &Known) -> Result<(), StoreError> {
    match log.engine.last(&log.subject.stream, &log.subject.name).await {
        Ok(None) if known.last > 0 => Err(deleted()),
        // Whoever is asked may lag; the condition of the next publication decides.
        Ok(_) | Err(NoAnswer(_)) => Ok(()),
    }
}

/// Reports a message of ours.
fn landed(log: &Log, stored: Stored) {
    let end = stored.envelope.end().seq_num;
    log.note_place(stored.place());
    log.lock().known.advance(&stored);
    log.sink.durable(end);
}

// What others published

async fn look(log: &Log, messages: Vec<Message>) -> Result<(), StoreError> {
    let mut next = log.known();
    let mut news: Vec<Stored> = Vec::new();
    for message in &messages {
        let stored = decode(log, message)?;
        match next.fit(&stored) {
            Fit::Old => {}
            Fit::Next => {
                next.advance(&stored);
                news.push(stored);
            }
            Fit::End => return Err(deleted()),
            Fit::Foreign => return Err(foreign(log, &stored)),
            // Something is missing in between.
            Fit::Later => {
                learn(log, std::mem::take(&mut news), Ours::Untouched)?;
                return catch_up_to_end(log).await;
            }
        }
    }
    learn(log, news, Ours::Untouched)
}

fn foreign(log: &Log, stored: &Stored) -> StoreError {
    damaged(log, stored.sequence, &"it does not continue what was durable before")
}

/// Reads on until nothing more is seen, and reports it.
async fn catch_up_to_end(log: &Log) -> Result<(), StoreError> {
    loop {
        let before = log.known().last;
        catch_up(log).await?;
        if log.known().last == before {
            return Ok(());
        }
    }
}

/// Reads what there is after what is known, as far as it is seen at once, and reports it.
async fn catch_up(log: &Log) -> Result<(), StoreError> {
    let known = log.known();
    let mut pauses = Pauses::new();
    loop {
        match next_after(log, &known).await {
            Ok(Some(next)) => {
                let next = decode(log, &next)?;
                let messages = with_those_after(log, next).await?;
                return learn(log, messages, Ours::Untouched);
            }
            Ok(None) => return Ok(()),
            Err(NoAnswer(reason)) if !pauses.pause().await => return Err(StoreError::Unknown(reason.into())),
            Err(NoAnswer(_)) => {}
        }
    }
}

/// `first`, and what some server has after it. That is not all there may be: what is missing is found by the next look,
/// or by the condition of the next publication.
async fn with_those_after(log: &Log, first: Stored) -> Result<Vec<Stored>, StoreError> {
    let mut messages = vec![first];
    let mut bytes = 0;
    while bytes < MOST_MISSED {
        let from = messages.last().map_or(0, |last| last.sequence) + 1;
        let Ok(several) = log.engine.several(&log.subject, from, SEVERAL, SEVERAL_BYTES).await else { break };
        if several.is_empty() {
            break;
        }
        bytes += several.iter().map(|message| message.payload.len()).sum::<usize>();
        for message in &several {
            messages.push(decode(log, message)?);
        }
        if several.len() < SEVERAL && bytes < SEVERAL_BYTES {
            break;
        }
    }
    Ok(messages)
}

/// What became of the message that was being published here, if one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ours {
    /// None was.
    Untouched,
    /// It can never land.
    Lost,
}

/// Tells the sink of messages that others published: one after the other where they follow what is known and nothing was
/// accepted here, otherwise that it was overtaken.
fn learn(log: &Log, messages: Vec<Stored>, ours: Ours) -> Result<(), StoreError> {
    let mut known = log.known();
    let mut missed = Vec::new();
    let mut gap = false;
    for stored in &messages {
        match known.fit(stored) {
            Fit::Old => continue,
            Fit::Next => {}
            Fit::Later => gap = true,
            Fit::End => return Err(deleted()),
            Fit::Foreign => return Err(foreign(log, stored)),
        }
        known.advance(stored);
        log.note_place(stored.place());
        missed.extend_from_slice(stored.envelope.batches());
    }
    if gap {
        // What lies between was let go of before it was seen here.
        missed.clear();
    }
    if known.last == log.known().last {
        return Ok(());
    }
    let trimmed = gap || ours == Ours::Lost;
    tell(log, known, missed, if trimmed { Way::Overtaken } else { Way::Arrivals });
    Ok(())
}

/// How the sink is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Arrivals,
    Overtaken,
}

fn tell(log: &Log, known: Known, missed: Vec<Committed>, way: Way) {
    let head = known.head;
    log.lock().learn(known);
    let mut missed = missed.into_iter();
    if way == Way::Arrivals {
        while let Some((batch, head)) = missed.next() {
            if !log.lock().begin_arrival(head) {
                let rest = std::iter::once((batch, head)).chain(missed).collect();
                return overtaken(log, known.head, rest);
            }
            log.sink.arrived(batch, head);
            log.lock().finish_arrival();
        }
        return;
    }
    overtaken(log, head, missed.collect());
}

fn overtaken(log: &Log, head: Head, missed: Vec<Committed>) {
    log.lock().begin_overtaken();
    log.sink.overtaken(head, missed);
}

// The newest head

/// Finds out a head that was the newest one at some time since it was asked for.
async fn refresh(log: &Log, refreshing: Vec<Refresh>) -> Result<(), StoreError> {
    log.engine.counters.note_refresh();
    match find_newest(log).await {
        Ok(()) => {
            answer(refreshing, log.known().head);
            Ok(())
        }
        // What is known is as good as it was, and so is the log.
        Err(error @ (StoreError::Unknown(_) | StoreError::Full(_))) => {
            refuse(refreshing, &error);
            Ok(())
        }
        Err(error) => {
            // They hear of it when the log has ended.
            log.lock().put_back(refreshing);
            Err(error)
        }
    }
}

/// ```text
/// milestone m ──► the last message, from a server that has m ──► known already: what is known is the newest
///                                                          └──► a later one: read up to it
/// ```
async fn find_newest(log: &Log) -> Result<(), StoreError> {
    let mut pauses = Pauses::new();
    let milestone = loop {
        let reason = match log.engine.milestone(&log.subject).await {
            Published::Landed(sequence) => break sequence,
            Published::Refused(error) => return Err(error),
            Published::Conflict => "others write".into(),
            Published::Unknown(reason) => reason,
        };
        if !pauses.pause().await {
            return Err(unrefreshed(&reason));
        }
    };
    let last = loop {
        match log.engine.last_after(&log.subject, milestone).await {
            Ok(last) => break last,
            Err(NoAnswer(reason)) if !pauses.pause().await => return Err(unrefreshed(&reason)),
            Err(NoAnswer(_)) => {}
        }
    };
    match last {
        Some(last) => learn_up_to(log, last, &mut pauses).await,
        None if log.known().last > 0 => Err(deleted()),
        None => Ok(()),
    }
}

/// Reads on to `last`, which is there, and reports what is new.
async fn learn_up_to(log: &Log, last: Message, pauses: &mut Pauses) -> Result<(), StoreError> {
    if last.sequence <= log.known().last {
        return Ok(());
    }
    let stored = decode(log, &last)?;
    if log.known().fit(&stored) != Fit::Later {
        return learn(log, vec![stored], Ours::Untouched);
    }
    while log.known().last < last.sequence {
        let before = log.known().last;
        catch_up(log).await?;
        if log.known().last == before && !pauses.pause().await {
            return Err(unrefreshed("what is there cannot be read"));
        }
    }
    Ok(())
}

fn unrefreshed(reason: &str) -> StoreError {
    StoreError::Unknown(format!("the newest head did not become known: {reason}").into())
}

fn answer(refreshing: Vec<Refresh>, head: Head) {
    for refresh in refreshing {
        // Whoever asked may have gone.
        let _ = refresh.send(Ok(head));
    }
}

fn refuse(refreshing: Vec<Refresh>, error: &StoreError) {
    for refresh in refreshing {
        let _ = refresh.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_happened_is_not_told_as_what_did_not() {
        assert_eq!(while_undecided(deleted(), true), deleted());
        assert!(matches!(while_undecided(deleted(), false), StoreError::Unknown(_)));
        let damaged = StoreError::Damaged("its checksum does not match".into());
        assert_eq!(while_undecided(damaged.clone(), false), damaged);
    }
}
