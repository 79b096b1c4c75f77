//! How far the chain of a stream's messages is known, and whether another message is the next one. Plain values.

use bytes::Bytes;

use super::{
    engine::Message,
    envelope::{Committed, Content, Damage, Envelope, Link, WriteId},
};
use crate::types::{Head, Position, SeqNum, StreamId};

/// A message of the engine, read.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) link: Link,
    pub(super) envelope: Envelope,
}

/// The end of what is known to be durable, and the way on from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) head: Head,
    /// Number of the last message; 0 if there was none.
    pub(super) last: u64,
    link: Link,
    /// How many messages there were.
    ordinal: u64,
    /// Metered bytes of all records that the stream ever had.
    appended: u64,
    released: Released,
}

/// How much of a stream's beginning was let go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Released {
    /// Records before are gone, or going.
    pub(super) to: SeqNum,
    /// Metered bytes of them, as batches were counted.
    pub(super) metered: u64,
}

/// Where a message lies, for searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) start: SeqNum,
    pub(super) end: Position,
}

/// What a message is to whoever knows the chain up to some point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Known already.
    Old,
    /// The next one.
    Next,
    /// A later one; some before it were let go of, or are yet to be read.
    Later,
    /// The stream was deleted.
    End,
    /// None of this chain: something was lost, or put back, or comes from elsewhere.
    Foreign,
}

impl Stored {
    pub(super) fn decode(stream: StreamId, message: &Message) -> Result<Self, Damage> {
        let (envelope, link) = Envelope::decode(stream, &message.payload)?;
        Ok(Self { sequence: message.sequence, link, envelope })
    }

    pub(super) fn place(&self) -> Place {
        Place { sequence: self.sequence, start: self.envelope.start(), end: self.envelope.end() }
    }

    pub(super) fn is_end(&self) -> bool {
        matches!(self.envelope.content, Content::End)
    }

    /// Whether this one was published directly after `before`.
    pub(super) fn follows(&self, before: &Stored) -> bool {
        self.envelope.previous == before.link && self.envelope.start() == before.envelope.end().seq_num
    }

    /// How much of the stream goes when records before `to` are let go of, this being the message that holds `to`.
    pub(super) fn released_by(&self, to: SeqNum) -> Released {
        let before = self.envelope.batches().iter().take_while(|(batch, _)| batch.end().seq_num <= to);
        let metered: usize = before.map(|(batch, _)| batch.metered()).sum();
        Released { to, metered: self.envelope.metered_before() + metered as u64 }
    }
}

impl Known {
    /// What `last` leaves, of a stream whose earliest message is `first`.
    pub(super) fn after(first: &Stored, last: &Stored) -> Self {
        let mut known = Self::default();
        known.set_end(last);
        let trimmed = known.head.trim_point.min(first.envelope.end().seq_num).max(first.envelope.start());
        known.released = first.released_by(trimmed);
        if known.head.trim_point >= known.head.tail.seq_num {
            known.released = Released { to: known.head.tail.seq_num, metered: known.appended };
        }
        known
    }

    fn set_end(&mut self, last: &Stored) {
        self.head = last.envelope.head();
        self.last = last.sequence;
        self.link = last.link;
        self.ordinal = if last.is_end() { 0 } else { last.envelope.ordinal + 1 };
        self.appended = last.envelope.metered_before() + last.envelope.metered();
    }

    /// Whether the last message is the stream's end.
    pub(super) fn has_ended(&self) -> bool {
        self.last > 0 && self.ordinal == 0
    }

    /// What `message` is to this.
    pub(super) fn fit(&self, message: &Stored) -> Fit {
        let Envelope { previous, ordinal, .. } = message.envelope;
        let start = message.envelope.start();
        match () {
            () if message.sequence <= self.last => Fit::Old,
            () if message.is_end() => Fit::End,
            () if previous == self.link && ordinal == self.ordinal && start == self.head.tail.seq_num => Fit::Next,
            () if ordinal > self.ordinal && start > self.head.tail.seq_num => Fit::Later,
            () => Fit::Foreign,
        }
    }

    /// Goes on to the end of `message`, which is the next one or a later one.
    pub(super) fn advance(&mut self, message: &Stored) {
        self.set_end(message);
    }

    /// The message that carries `batches` on from here, as published by `id`.
    pub(super) fn next(&self, id: WriteId, batches: Vec<Committed>, stream: StreamId) -> (Envelope, Bytes, Link) {
        let content = Content::Commit { metered_before: self.appended, batches };
        let envelope = Envelope { id, previous: self.link, ordinal: self.ordinal, content };
        let (bytes, link) = envelope.encode(stream);
        (envelope, bytes, link)
    }

    /// Where the last message lies, as far as searches want to know: it ends at the tail.
    pub(super) fn released(&self) -> Released {
        self.released
    }

    /// Lets go of what `released` says, if that is more than before.
    pub(super) fn release(&mut self, released: Released) {
        if released.to > self.released.to {
            self.released = released;
        }
    }

    /// The same, with as much let go of as `other` has, if that is more.
    pub(super) fn with_released_of(mut self, other: &Known) -> Self {
        self.release(other.released);
        self
    }

    /// Lets go of everything.
    pub(super) fn release_all(&mut self) {
        self.released = Released { to: self.head.tail.seq_num, metered: self.appended };
    }

    /// Metered bytes of what was not let go of.
    pub(super) fn stored(&self) -> u64 {
        self.appended.saturating_sub(self.released.metered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Batch, testing};

    const STREAM: StreamId = StreamId::new(1);

    fn write(known: &Known, write: u64, sequence: u64, batches: Vec<Batch>) -> Stored {
        let committed = |batch: Batch| {
            let head = Head { tail: batch.end(), ..known.head };
            (batch, head)
        };
        let id = WriteId { writer: 1, write };
        let (_, payload, _) = known.next(id, batches.into_iter().map(committed).collect(), STREAM);
        Stored::decode(STREAM, &Message { sequence, payload }).unwrap()
    }

    /// Three messages: records 0 to 2 in two batches, record 3, record 4.
    fn chain() -> [Stored; 3] {
        let mut known = Known::default();
        let first =
            write(&known, 0, 10, vec![testing::batch(0, &[("a", 1)]), testing::batch(1, &[("b", 2), ("c", 2)])]);
        known.advance(&first);
        let second = write(&known, 1, 20, vec![testing::batch(3, &[("d", 3)])]);
        known.advance(&second);
        let third = write(&known, 2, 30, vec![testing::batch(4, &[("e", 4)])]);
        [first, second, third]
    }

    #[test]
    fn a_chain_is_followed() {
        let [first, second, third] = chain();
        let mut known = Known::default();
        assert_eq!([&first, &second].map(|message| known.fit(message)), [Fit::Next, Fit::Later]);
        known.advance(&first);
        assert_eq!([&first, &second, &third].map(|message| known.fit(message)), [Fit::Old, Fit::Next, Fit::Later]);
        assert_eq!(known.head.tail, Position::new(3, 2));
        known.advance(&second);
        assert_eq!(known.fit(&third), Fit::Next);
        assert!(third.follows(&second) && !third.follows(&first));
    }

    #[test]
    fn what_was_rewritten_or_put_back_does_not_fit() {
        let [first, second, _] = chain();
        let mut known = Known::default();
        known.advance(&first);
        let other_first = write(&Known::default(), 9, 10, vec![testing::batch(0, &[("a", 1); 3])]);
        let mut other = Known::default();
        other.advance(&other_first);
        // The same place and the same number, after another beginning.
        let rewritten = write(&other, 1, 20, vec![testing::batch(3, &[("d", 3)])]);
        assert_eq!((known.fit(&second), known.fit(&rewritten)), (Fit::Next, Fit::Foreign));
        let begun_anew = write(&Known::default(), 5, 21, vec![testing::batch(0, &[("a", 1)])]);
        assert_eq!(known.fit(&begun_anew), Fit::Foreign);
    }

    #[test]
    fn stored_bytes_are_counted_by_batches() {
        let [first, second, third] = chain();
        let all = first.envelope.metered() + second.envelope.metered() + third.envelope.metered();
        let mut known = Known::after(&first, &third);
        assert_eq!(known.stored(), all);
        known.release(first.released_by(SeqNum::new(2)));
        assert_eq!(known.stored(), all - first.envelope.batches()[0].0.metered() as u64, "the second batch is needed");
        known.release(second.released_by(SeqNum::new(3)));
        assert_eq!(known.stored(), second.envelope.metered() + third.envelope.metered());
        assert_eq!(Known::after(&second, &third).stored(), known.stored(), "as one who comes later counts");
        known.release(first.released_by(SeqNum::new(1)));
        assert_eq!(known.released().to, SeqNum::new(3), "nothing comes back");
        known.release_all();
        assert_eq!(known.stored(), 0);
    }

    #[test]
    fn a_stream_begins_anew_after_its_end() {
        let [first, ..] = chain();
        let mut known = Known::default();
        known.advance(&first);
        let end = Envelope {
            id: WriteId { writer: 2, write: 0 },
            previous: Link::default(),
            ordinal: 0,
            content: Content::End,
        };
        let end = Stored::decode(STREAM, &Message { sequence: 40, payload: end.encode(STREAM).0 }).unwrap();
        assert_eq!(known.fit(&end), Fit::End);
        let anew = Known::after(&end, &end);
        assert_eq!((anew.head, anew.last, anew.stored()), (Head::default(), 40, 0));
        let next = write(&anew, 3, 50, vec![testing::batch(0, &[("a", 1)])]);
        assert_eq!(anew.fit(&next), Fit::Next);
    }
}
