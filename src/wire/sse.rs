//! Server-sent events of a read session, and the id by which a reader that lost its connection goes on
//! (`data-plane.md` §8). Knows no session: it is told what happened, and how much was delivered before.
//!
//! ```text
//! event: batch                                   event: ping                  event: error        data: [DONE]
//! id: <last seq_num>,<records>,<metered bytes>   data: {"timestamp":…,…}      data: {"code":…}
//! data: {"records":[…],"tail":{…}}
//!                                  every event ends with an empty line
//! ```

use std::{fmt, str::FromStr};

use bytes::Bytes;

use super::{error_json, json, negotiate::S2Format};
use crate::types::{ApiError, BatchSlice, Position, ReadRequest, ReadStart, SeqNum, Timestamp};

/// The event that ends a read that came to its regular end.
pub const DONE_EVENT: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// How far a reader has come: the id of a batch event, and the `last-event-id` of a reader that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The last record delivered.
    pub seq_num: SeqNum,
    /// Records delivered so far, over all connections of the read.
    pub records: u64,
    /// Metered bytes of them.
    pub bytes: u64,
}

/// A `last-event-id` that no event of ours had (400 `bad_header`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be three numbers like 42,7,1024 (record, records, bytes), not {0:?}")]
pub struct EventIdError(pub String);

impl EventId {
    /// The rest of the read `request` for a reader that has come this far: it starts behind the last record, and its
    /// bounds are less by what was delivered.
    #[must_use]
    pub fn resume(&self, mut request: ReadRequest) -> ReadRequest {
        request.start = ReadStart::SeqNum(self.seq_num.saturating_add(1));
        request.bounds.count = request.bounds.count.map(|count| count.saturating_sub(self.records));
        request.bounds.bytes = request.bounds.bytes.map(|bytes| bytes.saturating_sub(self.bytes));
        request
    }

    /// The id after `slices` were delivered as well; `before` is `None` for a reader that began anew.
    ///
    /// `None` if there are no records in `slices`.
    pub fn after(before: Option<EventId>, slices: &[BatchSlice]) -> Option<EventId> {
        let last = slices.iter().rfind(|slice| !slice.is_empty())?;
        let (records, bytes) = before.map_or((0, 0), |before| (before.records, before.bytes));
        let (more_records, more_bytes) = slices
            .iter()
            .fold((0, 0), |(records, bytes), slice| (records + slice.len() as u64, bytes + slice.metered() as u64));
        Some(EventId {
            seq_num: last.end_seq_num().saturating_sub(1),
            // A reader may come back with any number.
            records: records.saturating_add(more_records),
            bytes: bytes.saturating_add(more_bytes),
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.seq_num, self.records, self.bytes)
    }
}

impl FromStr for EventId {
    type Err = EventIdError;

    /// Three numbers of digits only, with commas between and nothing else.
    fn from_str(text: &str) -> Result<Self, EventIdError> {
        let mut parts = text.split(',').map(number);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(seq_num)), Some(Some(records)), Some(Some(bytes)), None) => {
                Ok(Self { seq_num: SeqNum::new(seq_num), records, bytes })
            }
            _ => Err(EventIdError(text.into())),
        }
    }
}

/// A decimal number without the sign that Rust's own parser would take.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The event that brings records; `id` counts them already.
pub fn batch_event(id: EventId, slices: &[BatchSlice], tail: Option<Position>, format: S2Format) -> Bytes {
    let mut event = format!("event: batch\nid: {id}\ndata: ").into_bytes();
    json::put_read_batch(&mut event, slices, tail, format);
    ended(event)
}

/// The event that says at `now` that the reader is at the tail.
pub fn ping_event(now: Timestamp, tail: Position) -> Bytes {
    let mut event = b"event: ping\ndata: ".to_vec();
    json::put_ping(&mut event, now, tail);
    ended(event)
}

/// The event that ends a read that failed; nothing follows it.
pub fn error_event(error: &ApiError) -> Bytes {
    let mut event = b"event: error\ndata: ".to_vec();
    event.extend_from_slice(&error_json(error));
    ended(event)
}

/// The JSON of an event has no line break of its own: in strings they are escaped, and between tokens there is nothing.
fn ended(mut event: Vec<u8>) -> Bytes {
    event.extend_from_slice(b"\n\n");
    event.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ErrorCode, ReadBounds, testing};

    fn id(seq_num: u64, records: u64, bytes: u64) -> EventId {
        EventId { seq_num: SeqNum::new(seq_num), records, bytes }
    }

    #[test]
    fn the_example_of_the_contract() {
        // data-plane.md §8
        let batch = testing::batch(4, &[("hello", 1_750_101_582_144)]);
        let slices = [batch.whole()];
        let before = id(3, 4, 61);
        let after = EventId::after(Some(before), &slices).unwrap();
        let event = batch_event(after, &slices, Some(batch.end()), S2Format::Raw);
        assert_eq!(
            event,
            "event: batch\nid: 4,5,74\ndata: {\"records\":[{\"seq_num\":4,\"timestamp\":1750101582144,\"body\":\"hello\"}],\"tail\":{\"seq_num\":5,\"timestamp\":1750101582144}}\n\n"
        );
        let ping = ping_event(Timestamp::new(1_750_101_590_000), batch.end());
        assert_eq!(
            ping,
            "event: ping\ndata: {\"timestamp\":1750101590000,\"tail\":{\"seq_num\":5,\"timestamp\":1750101582144}}\n\n"
        );
        assert_eq!(DONE_EVENT, "data: [DONE]\n\n");
        let error = error_event(&ApiError::new(ErrorCode::Storage, "two\nlines"));
        assert_eq!(error, "event: error\ndata: {\"code\":\"storage\",\"message\":\"two\\nlines\"}\n\n");
    }

    #[test]
    fn an_event_is_four_lines_whatever_is_in_its_records() {
        let batch = testing::batch(0, &[("a\r\nb\n\ndata: [DONE]\n\n", 1)]);
        let after = EventId::after(None, &[batch.whole()]).unwrap();
        let event = batch_event(after, &[batch.whole()], None, S2Format::Raw);
        assert_eq!(event.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count(), 4);
        let event = batch_event(after, &[batch.whole()], None, S2Format::Base64);
        assert!(event.windows(4).any(|bytes| bytes == b"YQ0K"));
    }

    #[test]
    fn ids_count_across_batches_and_connections() {
        let (a, b) = (testing::batch(0, &[("a", 1), ("b", 1)]), testing::batch(2, &[("cc", 1)]));
        let first = EventId::after(None, &[a.whole()]).unwrap();
        assert_eq!(first, id(1, 2, 18));
        assert_eq!(EventId::after(Some(first), &[b.whole()]), Some(id(2, 3, 28)));
        assert_eq!(EventId::after(None, &[a.whole(), b.whole()]), Some(id(2, 3, 28)));
        assert_eq!(EventId::after(Some(first), &[]), None);
        let absurd = id(0, u64::MAX, u64::MAX);
        assert_eq!(EventId::after(Some(absurd), &[a.whole()]), Some(id(1, u64::MAX, u64::MAX)));
    }

    #[test]
    fn last_event_ids() {
        // data-plane.md §8
        for (text, expected) in
            [("4,5,74", id(4, 5, 74)), ("0,0,0", id(0, 0, 0)), ("18446744073709551615,1,8", id(u64::MAX, 1, 8))]
        {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        for bad in [
            "",
            "abc",
            "4",
            "4,5",
            "4,5,",
            "4,5,74,",
            "4,5,74,1",
            "4, 5,74",
            " 4,5,74",
            "4:5:74",
            "-1,5,74",
            "+4,5,74",
            "4,5,x",
            "18446744073709551616,1,8",
        ] {
            assert_eq!(bad.parse::<EventId>(), Err(EventIdError(bad.into())), "{bad:?}");
        }
    }

    #[test]
    fn a_reader_that_comes_back_gets_the_rest() {
        let until = Some(Timestamp::new(9));
        let bounds = ReadBounds { count: Some(10), bytes: Some(100), until };
        let request = ReadRequest { start: ReadStart::TailOffset(3), bounds, clamp: true, wait: None };
        let rest = id(4, 7, 40).resume(request);
        let bounds = ReadBounds { count: Some(3), bytes: Some(60), until };
        assert_eq!(rest, ReadRequest { start: ReadStart::SeqNum(SeqNum::new(5)), bounds, ..request });

        let over = id(u64::MAX, 11, 101).resume(request);
        assert_eq!((over.bounds.count, over.bounds.bytes), (Some(0), Some(0)), "never below nothing");
        assert_eq!(over.start, ReadStart::SeqNum(SeqNum::MAX));
        let unbounded = id(4, 7, 40).resume(ReadRequest::default());
        assert!(unbounded.bounds.is_unlimited());
    }
}
