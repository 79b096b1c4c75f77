//! The writers of a stream: what each was promised, in the order of its inputs. Knows no stream and no lock.
//!
//! ```text
//! inputs of a writer    1 … 4         5, 6              7, 8
//!                       told      `promised`        `taken_back`
//!                             numbers they have   refused where others write too: the state they were judged by
//!                             once durable        may be old, or never become durable; judged again
//! ```
//!
//! If that refuses one, it and those behind it are let go of at once, and the refusal is kept until what came before is
//! told.
//!
//! Nothing is ever taken back where one process writes alone.

use std::collections::{HashMap, VecDeque};

use slab::Slab;
use tokio::sync::OwnedSemaphorePermit;

use super::Failure;
use crate::{
    memory::let_go_of_room,
    types::{AppendInput, Position, SeqNum, Timestamp},
};

/// Which writer. Not used again for another one, unlike the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WriterId {
    slot: usize,
    serial: u64,
}

/// The numbers that an input gets if it becomes durable where it was put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub(super) start: Position,
    pub(super) end: Position,
    pub(super) metered: usize,
}

/// An input that is to be judged again, in the form in which it is stored. It has had no effect.
#[derive(Debug)]
pub(super) struct TakenBack {
    pub(super) input: AppendInput,
    pub(super) arrived: Timestamp,
    /// Its bytes of the in-flight budget.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// How many inputs were ever taken back at some time: who learns of the stream after that knows enough to refuse them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TakenBackSoFar(u64);

#[derive(Default)]
pub(super) struct Writers {
    slots: Slab<Writer>,
    entered: u64,
    taken_back: TakenBackSoFar,
}

#[derive(Default)]
struct Writer {
    serial: u64,
    promised: VecDeque<Promise>,
    taken_back: VecDeque<TakenBack>,
    /// When the first of them was.
    first_taken_back: TakenBackSoFar,
    /// Why the input behind what was promised, and all behind that, are not put into the log.
    refusal: Option<Failure>,
}

/// What comes next for a writer that has inputs outstanding.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// This, once it is durable.
    Promised(Promise),
    /// An input that must be judged again.
    TakenBack,
    /// An input that was judged again, and refused.
    Refused(Failure),
}

impl Writers {
    pub(super) fn enter(&mut self) -> WriterId {
        self.entered += 1;
        let serial = self.entered;
        WriterId { slot: self.slots.insert(Writer { serial, ..Writer::default() }), serial }
    }

    /// What was promised to the writer, nobody waits for any more.
    pub(super) fn leave(&mut self, id: WriterId) {
        self.slots.remove(id.slot);
    }

    /// To one that has left, nothing is promised.
    pub(super) fn promise(&mut self, id: WriterId, promise: Promise) {
        if let Some(writer) = self.get_mut(id) {
            writer.promised.push_back(promise);
        }
    }

    /// Undoes the last promise to the writer: its batch did not become durable.
    pub(super) fn recall(&mut self, id: WriterId) {
        if let Some(writer) = self.get_mut(id) {
            writer.promised.pop_back();
        }
    }

    /// Nothing if the writer has no input outstanding.
    pub(super) fn next(&self, id: WriterId) -> Option<Next> {
        let writer = self.get(id)?;
        let promised = writer.promised.front().map(|promise| Next::Promised(*promise));
        let refused = || writer.refusal.clone().map(Next::Refused);
        promised.or_else(refused).or_else(|| (!writer.taken_back.is_empty()).then_some(Next::TakenBack))
    }

    /// Takes the writer's next promise if a durable tail at `tail` keeps it.
    pub(super) fn take_kept(&mut self, id: WriterId, tail: SeqNum) -> Option<Promise> {
        let promised = &mut self.get_mut(id)?.promised;
        let kept = promised.pop_front_if(|promise| promise.end.seq_num <= tail);
        let_go_of_room(promised);
        kept
    }

    /// Puts `input` behind what was taken back of the writer before; behind what was refused, nothing is kept.
    pub(super) fn take_back(&mut self, id: WriterId, input: TakenBack) {
        self.taken_back.0 += 1;
        let so_far = self.taken_back;
        if let Some(writer) = self.get_mut(id).filter(|writer| writer.refusal.is_none()) {
            if writer.taken_back.is_empty() {
                writer.first_taken_back = so_far;
            }
            writer.taken_back.push_back(input);
        }
    }

    /// Puts `inputs` before what was taken back of the writer before, which came in after them.
    pub(super) fn take_back_before(&mut self, id: WriterId, mut inputs: VecDeque<TakenBack>) {
        self.taken_back.0 += 1;
        let so_far = self.taken_back;
        if let Some(writer) = self.get_mut(id) {
            inputs.append(&mut writer.taken_back);
            writer.taken_back = inputs;
            writer.first_taken_back = so_far;
        }
    }

    /// Whether what the writer appends must wait behind what was taken back of it, or is not put in at all.
    pub(super) fn is_held_up(&self, id: WriterId) -> bool {
        self.get(id).is_some_and(|writer| !writer.taken_back.is_empty() || writer.refusal.is_some())
    }

    pub(super) fn taken_back_so_far(&self) -> TakenBackSoFar {
        self.taken_back
    }

    /// Whether the first input that is now taken back of the writer was so at that time.
    pub(super) fn has_taken_back(&self, id: WriterId, then: TakenBackSoFar) -> bool {
        self.get(id).is_some_and(|writer| !writer.taken_back.is_empty() && writer.first_taken_back <= then)
    }

    /// Those of whom something is taken back.
    pub(super) fn with_taken_back(&self) -> Vec<WriterId> {
        let waits = |(_, writer): &(usize, &Writer)| !writer.taken_back.is_empty();
        self.slots.iter().filter(waits).map(|(slot, writer)| WriterId { slot, serial: writer.serial }).collect()
    }

    /// Whether something was promised to the writer that a durable tail at `tail` does not keep.
    pub(super) fn has_promised_beyond(&self, id: WriterId, tail: SeqNum) -> bool {
        let promised = self.get(id).and_then(|writer| writer.promised.back());
        promised.is_some_and(|promise| promise.end.seq_num > tail)
    }

    /// Lets go of what was taken back of the writer, which is told `failure` when all that was promised to it is.
    pub(super) fn refuse(&mut self, id: WriterId, failure: Failure) {
        if let Some(writer) = self.get_mut(id) {
            writer.taken_back.clear();
            writer.refusal = Some(failure);
        }
    }

    pub(super) fn first_taken_back(&mut self, id: WriterId) -> Option<TakenBack> {
        self.get_mut(id)?.taken_back.pop_front()
    }

    /// Puts back what [`Writers::first_taken_back`] gave.
    pub(super) fn put_back(&mut self, id: WriterId, input: TakenBack) {
        if let Some(writer) = self.get_mut(id) {
            writer.taken_back.push_front(input);
        }
    }

    /// Drops what was taken back of the writer.
    pub(super) fn forget_taken_back(&mut self, id: WriterId) {
        if let Some(writer) = self.get_mut(id) {
            writer.taken_back.clear();
        }
    }

    /// Drops what was taken back of anyone: the log is gone.
    pub(super) fn forget_all_taken_back(&mut self) {
        self.slots.iter_mut().for_each(|(_, writer)| writer.taken_back.clear());
    }

    fn get(&self, id: WriterId) -> Option<&Writer> {
        self.slots.get(id.slot).filter(|writer| writer.serial == id.serial)
    }

    fn get_mut(&mut self, id: WriterId) -> Option<&mut Writer> {
        self.slots.get_mut(id.slot).filter(|writer| writer.serial == id.serial)
    }
}

/// Inputs of several writers that are being taken back, in the order in which they came in.
///
/// The first input of a writer that is refused takes those behind it along: they have no effect if it has none
/// (`s2s.md` §6.4).
#[derive(Default)]
pub(super) struct Refusals(HashMap<WriterId, VecDeque<TakenBack>>);

impl Refusals {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn concern(&self, id: WriterId) -> bool {
        self.0.contains_key(&id)
    }

    pub(super) fn add(&mut self, id: WriterId, input: TakenBack) {
        self.0.entry(id).or_default().push_back(input);
    }

    pub(super) fn give_to(self, writers: &mut Writers) {
        for (id, inputs) in self.0 {
            writers.take_back_before(id, inputs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::testing;

    fn promise(end: u64) -> Promise {
        Promise { start: Position::new(end - 1, 0), end: Position::new(end, 0), metered: 9 }
    }

    fn taken_back(body: &str) -> TakenBack {
        TakenBack { input: testing::input(&[(body, None)]), arrived: Timestamp::default(), permit: None }
    }

    fn body(taken: Option<TakenBack>) -> String {
        let input = taken.expect("one is there").input;
        let body = input.batch.records().next().map(|record| record.fields().body().to_vec());
        String::from_utf8(body.unwrap_or_default()).unwrap()
    }

    #[test]
    fn promises_are_kept_in_order_as_the_tail_moves() {
        let mut writers = Writers::default();
        let id = writers.enter();
        writers.promise(id, promise(3));
        writers.promise(id, promise(5));
        assert!(writers.take_kept(id, SeqNum::new(2)).is_none());
        assert_eq!(writers.take_kept(id, SeqNum::new(9)).map(|kept| kept.end.seq_num.get()), Some(3));
        writers.recall(id);
        assert!(writers.next(id).is_none());
    }

    #[test]
    fn what_is_taken_back_later_but_came_in_earlier_goes_first() {
        let mut writers = Writers::default();
        let id = writers.enter();
        writers.take_back(id, taken_back("c"));
        let mut refusals = Refusals::default();
        refusals.add(id, taken_back("a"));
        assert!(refusals.concern(id));
        refusals.add(id, taken_back("b"));
        refusals.give_to(&mut writers);
        for expected in ["a", "b", "c"] {
            assert!(matches!(writers.next(id), Some(Next::TakenBack)));
            assert_eq!(body(writers.first_taken_back(id)), expected);
        }
        assert!(!writers.is_held_up(id));
    }

    #[test]
    fn a_refusal_is_told_after_what_was_promised_and_nothing_is_kept_behind_it() {
        let mut writers = Writers::default();
        let id = writers.enter();
        writers.promise(id, promise(3));
        writers.take_back(id, taken_back("a"));
        assert!(writers.has_promised_beyond(id, SeqNum::new(2)) && !writers.has_promised_beyond(id, SeqNum::new(3)));
        writers.refuse(id, Failure::Conflict);
        writers.take_back(id, taken_back("b"));
        assert!(
            writers.is_held_up(id) && writers.first_taken_back(id).is_none() && writers.with_taken_back().is_empty()
        );
        assert!(matches!(writers.next(id), Some(Next::Promised(_))));
        assert!(writers.take_kept(id, SeqNum::new(3)).is_some());
        assert!(matches!(writers.next(id), Some(Next::Refused(Failure::Conflict))));
    }

    #[test]
    fn what_is_taken_back_later_is_told_apart() {
        let mut writers = Writers::default();
        let (id, other) = (writers.enter(), writers.enter());
        writers.take_back(id, taken_back("a"));
        let then = writers.taken_back_so_far();
        writers.take_back(id, taken_back("b"));
        assert!(writers.has_taken_back(id, then), "its first was");
        assert_eq!(writers.with_taken_back(), [id]);
        writers.take_back(other, taken_back("c"));
        assert!(!writers.has_taken_back(other, then));
        assert_eq!(body(writers.first_taken_back(id)), "a");
        writers.take_back_before(id, [taken_back("a")].into());
        assert!(!writers.has_taken_back(id, then), "it was judged in between");
    }

    #[test]
    fn a_writer_that_was_told_everything_keeps_little() {
        let mut writers = Writers::default();
        let id = writers.enter();
        (1..=10_000).for_each(|end| writers.promise(id, promise(end)));
        while writers.take_kept(id, SeqNum::new(10_000)).is_some() {}
        assert!(writers.slots[id.slot].promised.capacity() < 1000);
    }

    #[test]
    fn a_slot_used_again_is_another_writer() {
        let mut writers = Writers::default();
        let gone = writers.enter();
        writers.leave(gone);
        let next = writers.enter();
        assert_ne!(gone, next);
        writers.promise(gone, promise(1));
        writers.take_back(gone, taken_back("a"));
        assert!(writers.next(next).is_none());
    }
}
