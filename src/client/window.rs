//! The inputs of an append session that wait for their acks (`s2s.md` §6.2): what may be sent, what must be sent again,
//! and whether an ack fits. Knows no connection and no time.

use std::collections::VecDeque;

use super::{AtStake, EncodedInput, ProtocolError};
use crate::types::{AppendAck, SeqNum};

/// Inputs in order: those sent over the present connection, then those that still have to be.
///
/// ```text
///   front                                        back
///   [sent, no ack yet] [sent, no ack yet] [not sent] [not sent]
///                                       ^ sent
/// ```
#[derive(Debug)]
pub(super) struct Window {
    inputs: VecDeque<EncodedInput>,
    /// How many of them were sent.
    sent: usize,
    /// Metered bytes of all of them.
    metered: usize,
    limit: usize,
    /// Where the last ack ended.
    acked_to: Option<SeqNum>,
}

impl Window {
    /// An empty window for up to `limit` metered bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { inputs: VecDeque::new(), sent: 0, metered: 0, limit, acked_to: None }
    }

    /// Whether an input of `metered` bytes may be added. One always may if there is no other, whatever the limit.
    pub(super) fn has_room(&self, metered: usize) -> bool {
        self.inputs.is_empty() || self.metered + metered <= self.limit
    }

    /// Adds an input.
    pub(super) fn push(&mut self, input: EncodedInput) {
        self.metered += input.metered();
        self.inputs.push_back(input);
    }

    /// The next input to send; it counts as sent.
    pub(super) fn take_unsent(&mut self) -> Option<&EncodedInput> {
        let input = self.inputs.get(self.sent)?;
        self.sent += 1;
        Some(input)
    }

    /// The connection is gone: everything without an ack must be sent again.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Checks `ack` against the oldest input that was sent, and lets go of that.
    pub(super) fn acknowledge(&mut self, ack: &AppendAck) -> Result<(), ProtocolError> {
        if self.sent == 0 {
            return Err(ProtocolError::StrayAck);
        }
        let input = self.inputs.front().ok_or(ProtocolError::StrayAck)?;
        let (sent, acked) = (input.records() as u64, ack.end.seq_num.since(ack.start.seq_num));
        if sent != acked {
            return Err(ProtocolError::AckCount { sent, acked });
        }
        match self.acked_to {
            Some(previous) if ack.end.seq_num <= previous => {
                return Err(ProtocolError::AckOrder { previous, end: ack.end.seq_num });
            }
            _ => self.acked_to = Some(ack.end.seq_num),
        }
        self.metered -= input.metered();
        self.inputs.pop_front();
        self.sent -= 1;
        Ok(())
    }

    /// What sending again what was sent would risk: nothing, if each of those inputs names the number that it must get.
    pub(super) fn at_stake(&self) -> AtStake {
        match self.inputs.iter().take(self.sent).all(EncodedInput::is_positioned) {
            true => AtStake::Nothing,
            false => AtStake::Duplicates,
        }
    }

    /// Whether inputs that were sent have no ack yet.
    pub(super) fn awaits_ack(&self) -> bool {
        self.sent > 0
    }

    /// Inputs without an ack.
    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether everything has its ack.
    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Metered bytes of the inputs without an ack.
    pub(super) fn metered(&self) -> usize {
        self.metered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::{Conditions, InputBuilder},
        types::{Compression, Position},
    };

    fn input(records: usize, match_seq_num: Option<u64>) -> EncodedInput {
        let mut builder = InputBuilder::new();
        for _ in 0..records {
            builder.push(None, [], b"xx");
        }
        let match_seq_num = match_seq_num.map(SeqNum::new);
        builder.build(Conditions { match_seq_num, fencing_token: None }, Compression::None).unwrap()
    }

    fn ack(start: u64, end: u64) -> AppendAck {
        AppendAck { start: Position::new(start, 0), end: Position::new(end, 0), tail: Position::new(end, 0) }
    }

    fn window(inputs: &[usize]) -> Window {
        let mut window = Window::new(1000);
        inputs.iter().for_each(|records| window.push(input(*records, None)));
        while window.take_unsent().is_some() {}
        window
    }

    #[test]
    fn acks_must_fit_their_inputs() {
        // s2s.md §6.2: in order, with the count of their input, with ends that increase
        for (acks, wrong) in [
            (vec![ack(0, 2), ack(2, 5)], None),
            (vec![ack(7, 9), ack(30, 33)], None),
            (vec![ack(0, 3)], Some(ProtocolError::AckCount { sent: 2, acked: 3 })),
            (vec![ack(3, 1)], Some(ProtocolError::AckCount { sent: 2, acked: 0 })),
            (
                vec![ack(5, 7), ack(2, 5)],
                Some(ProtocolError::AckOrder { previous: SeqNum::new(7), end: SeqNum::new(5) }),
            ),
            (vec![ack(0, 2), ack(2, 5), ack(5, 6)], Some(ProtocolError::StrayAck)),
        ] {
            let mut window = window(&[2, 3]);
            let outcome: Result<(), _> = acks.iter().try_for_each(|ack| window.acknowledge(ack));
            assert_eq!(outcome.err(), wrong, "{acks:?}");
        }
    }

    #[test]
    fn what_was_not_sent_cannot_be_acknowledged() {
        let mut window = Window::new(1000);
        window.push(input(1, None));
        assert_eq!(window.acknowledge(&ack(0, 1)), Err(ProtocolError::StrayAck));
    }

    #[test]
    fn the_limit_is_in_metered_bytes_and_one_input_always_goes() {
        let mut window = Window::new(25);
        assert!(window.has_room(1_000_000), "alone");
        window.push(input(2, None));
        assert!(window.has_room(5) && !window.has_room(6));
        window.take_unsent();
        window.acknowledge(&ack(0, 2)).unwrap();
        assert!(window.is_empty() && window.metered() == 0 && window.has_room(1_000_000));
    }

    #[test]
    fn after_a_loss_everything_without_an_ack_is_sent_again_in_order() {
        let mut window = window(&[1, 2, 3]);
        window.acknowledge(&ack(0, 1)).unwrap();
        window.rewind();
        assert!(!window.awaits_ack());
        let again: Vec<_> = std::iter::from_fn(|| window.take_unsent().map(EncodedInput::records)).collect();
        assert_eq!(again, [2, 3]);
    }

    #[test]
    fn positions_protect_against_duplicates_if_every_sent_input_has_one() {
        let mut window = Window::new(1000);
        window.push(input(1, Some(0)));
        window.push(input(1, None));
        assert_eq!(window.at_stake(), AtStake::Nothing, "nothing was sent");
        window.take_unsent();
        assert_eq!(window.at_stake(), AtStake::Nothing);
        window.take_unsent();
        assert_eq!(window.at_stake(), AtStake::Duplicates);
        window.acknowledge(&ack(0, 1)).unwrap();
        window.acknowledge(&ack(1, 2)).unwrap();
        assert_eq!(window.at_stake(), AtStake::Nothing);
    }
}
