//! Records to measure with: bodies that look like log lines, so that they compress, but not to nothing.

use std::fmt;

use bytes::Bytes;
use s2s_gateway::{
    types::{AppendBatch, AppendInput, Batch, SeqNum, Timestamp},
    wire::{RecordsWriter, decode_append_input},
};

pub const NOW: Timestamp = Timestamp::new(1_713_812_735_000);
pub const FIRST: SeqNum = SeqNum::new(1_000_000);

/// What a batch is made of.
#[derive(Clone, Copy)]
pub struct Shape {
    pub records: usize,
    /// Bytes of each body.
    pub body: usize,
}

pub const SHAPES: [Shape; 3] =
    [Shape { records: 1, body: 100 }, Shape { records: 100, body: 1024 }, Shape { records: 1000, body: 100 }];

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {} B", self.records, self.body)
    }
}

/// The `AppendInput` of a batch.
pub fn message(Shape { records, body }: Shape) -> Bytes {
    let mut writer = RecordsWriter::new();
    let mut state = 1u32;
    for i in 0..records {
        let mut text = format!("time=2026-10-01T12:00:{:02} level=info seq={i} ", i % 60);
        while text.len() < body {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(&format!("key{}={state:x} ", state % 7));
        }
        text.truncate(body);
        writer.push(None, [], text.as_bytes());
    }
    writer.into_append_input(None, None)
}

pub fn input(shape: Shape) -> AppendInput {
    decode_append_input(message(shape)).expect("well formed")
}

pub fn append(shape: Shape) -> AppendBatch {
    input(shape).batch
}

pub fn sequence(append: &AppendBatch) -> Batch {
    Batch::sequence(append, FIRST, |_| NOW)
}

pub fn batch(shape: Shape) -> Batch {
    sequence(&append(shape))
}
