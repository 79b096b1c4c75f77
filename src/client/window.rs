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
