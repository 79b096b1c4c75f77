//! What is sent: records, batches and frames, encoded before anything is measured.

use std::sync::Arc;

use bytes::Bytes;
use s2s_gateway::{
    types::Compression,
    wire::{Advice, RecordsWriter, message_frame},
};

/// What the bodies of records are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Bytes that do not compress; frames are plain.
    Random,
    /// Lines of a log; frames are zstd.
    Text,
}

impl Content {
    const fn compression(self) -> Compression {
        match self {
            Content::Random => Compression::None,
            Content::Text => Compression::Zstd,
        }
    }
}

/// The shape of every batch of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) records: usize,
    /// Bytes of each record's body.
    pub(crate) body: usize,
    pub(crate) content: Content,
}

impl Shape {
    pub(crate) const fn random(records: usize, body: usize) -> Self {
        Self { records, body, content: Content::Random }
    }

    pub(crate) const fn text(records: usize, body: usize) -> Self {
        Self { records, body, content: Content::Text }
    }

    /// Bytes of bodies in a batch.
    pub(crate) const fn payload(self) -> usize {
        self.records * self.body
    }

    /// `count` different frames.
    pub(crate) fn frames(self, count: usize) -> Frames {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let all: Vec<_> = (0..count).map(|_| self.frame(&mut random)).collect();
        Frames { all: all.into(), at: 0 }
    }

    fn frame(self, random: &mut Random) -> Bytes {
        let mut records = RecordsWriter::new();
        for _ in 0..self.records {
            records.push(None, [], &random.body(self));
        }
        let message = records.into_append_input(None, None);
        message_frame(self.content.compression(), Advice::None, &message).unwrap()
    }
}

/// Frames to be sent over and over.
#[derive(Clone)]
pub(crate) struct Frames {
    all: Arc<[Bytes]>,
    at: usize,
}

impl Frames {
    /// The next `count` frames, each to be sent by itself, as writers do that have one batch after the other.
    pub(crate) fn next(&mut self, count: usize, mut send: impl FnMut(Bytes)) {
        for _ in 0..count {
            send(self.all[self.at].clone());
            self.at = (self.at + 1) % self.all.len();
        }
    }
}

/// A generator that gives the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn body(&mut self, shape: Shape) -> Vec<u8> {
        let mut body = Vec::with_capacity(shape.body + 256);
        while body.len() < shape.body {
            match shape.content {
                Content::Random => body.extend_from_slice(&self.next().to_le_bytes()),
                Content::Text => self.line(&mut body),
            }
        }
        body.truncate(shape.body);
        body
    }

    fn line(&mut self, out: &mut Vec<u8>) {
        const LEVELS: [&str; 4] = ["INFO", "INFO", "WARN", "DEBUG"];
        const WORDS: [&str; 16] = [
            "request", "accepted", "session", "opened", "user", "billing", "cache", "missed", "retry", "upstream",
            "timeout", "finished", "order", "shipped", "payment", "queue",
        ];
        let mut pick = |words: &[&'static str]| words[self.next() as usize % words.len()];
        let words = [(); 6].map(|()| pick(&WORDS)).join(" ");
        let (level, r) = (pick(&LEVELS), self.next());
        let (ms, id, took) = (r % 60_000, (r >> 16) as u32, (r >> 48) % 5000);
        let line = format!(
            "2026-11-21T10:15:{:02}.{:03}Z {level} gateway::{}: {words} id={id:08x} took={took}us\n",
            ms / 1000,
            ms % 1000,
            WORDS[(r >> 40) as usize % 16],
        );
        out.extend_from_slice(line.as_bytes());
    }
}
