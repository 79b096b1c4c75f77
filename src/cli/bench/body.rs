//! What a load sends: batches of stamped records, made ready before they are needed.
//!
//! Uncompressed, a batch is a template that is copied and stamped for each send. Compressing is dearer than all else a
//! load does, so a load that goes as fast as it can sends a few batches, compressed beforehand, again and again; the
//! numbers in their records begin anew with each round. What goes at a rate is compressed as it is sent, and knows its
//! time.

use std::{num::NonZeroU64, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::stamp::{FillerSum, STAMP_LEN, Stamp, WriterId};
use crate::{
    client::{EncodedInput, InputTemplate, JsonInput},
    config::{Body, Load},
    types::Compression,
    wire::FrameTooLong,
};

/// The batches of all writers of a run: they differ in their stamps only.
#[derive(Clone, Debug)]
pub(super) struct Batches {
    template: InputTemplate,
    fillers: Vec<FillerSum>,
    compression: Compression,
    /// Of the bodies of a batch.
    bytes: u64,
    /// How many batches are made beforehand.
    cycle: Option<usize>,
}

/// When a batch is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compressed {
    /// Before the load begins, so that its time is not in the way.
    Beforehand,
    /// As it is sent, so that it carries its time.
    Live,
}

/// The batches of one writer, in order.
#[derive(Debug)]
pub(super) struct Source {
    writer: WriterId,
    sent: u64,
    cycle: Vec<EncodedInput>,
}

impl Batches {
    /// Uncompressed bytes of all batches that are made beforehand; a few of each writer there must be.
    const CYCLE_BYTES: usize = 256 * 1024 * 1024;
    const CYCLE: std::ops::RangeInclusive<usize> = 4..=64;

    /// As `load` has them. Fails if they make too long a frame, which many small records may.
    pub(super) fn new(load: &Load, compressed: Compressed) -> Result<Self, FrameTooLong> {
        let bodies: Vec<_> = (0..load.batch).map(|i| filled(load.body, load.record_size, i as u64)).collect();
        let cycle = Self::CYCLE_BYTES / (load.batch_bytes() * load.sessions).max(1);
        let beforehand = compressed == Compressed::Beforehand && load.compression != Compression::None;
        Ok(Self {
            template: InputTemplate::new(bodies.iter().map(Vec::as_slice))?,
            fillers: bodies.iter().map(|body| FillerSum::of(body)).collect(),
            compression: load.compression,
            bytes: load.batch_bytes() as u64,
            cycle: beforehand.then_some(cycle.clamp(*Self::CYCLE.start(), *Self::CYCLE.end())),
        })
    }

    /// After how many of its records a writer numbers anew.
    pub(super) fn period(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.cycle? as u64 * self.records())
    }

    /// Records of each.
    pub(super) fn records(&self) -> u64 {
        self.fillers.len() as u64
    }

    /// Bytes of the bodies of each.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of `writer`, from its first record on.
    pub(super) fn source(&self, writer: WriterId) -> Source {
        let make = |batch| self.make(writer, batch, Duration::ZERO);
        Source { writer, sent: 0, cycle: (0..self.cycle.unwrap_or(0) as u64).map(make).collect() }
    }

    /// The next batch of `source`, meant to be sent at `intended`.
    pub(super) fn next(&self, source: &mut Source, intended: Duration) -> EncodedInput {
        let batch = source.sent;
        source.sent += 1;
        match source.cycle.len() as u64 {
            0 => self.make(source.writer, batch, intended),
            cycle => source.cycle[(batch % cycle) as usize].clone(),
        }
    }

    /// As [`Batches::next`], for a request of its own; never compressed.
    pub(super) fn next_json(&self, source: &mut Source, intended: Duration) -> JsonInput {
        let batch = source.sent;
        source.sent += 1;
        self.template.fill_json(self.stamps(source.writer, batch, intended))
    }

    fn make(&self, writer: WriterId, batch: u64, intended: Duration) -> EncodedInput {
        self.template.fill(self.compression, self.stamps(writer, batch, intended))
    }

    /// Stamps each body of `batch`.
    fn stamps(&self, writer: WriterId, batch: u64, intended: Duration) -> impl FnMut(usize, &mut [u8]) + '_ {
        let first = batch * self.records();
        let intended = u64::try_from(intended.as_nanos()).unwrap_or(u64::MAX);
        move |i, body| Stamp { writer, sequence: first + i as u64, intended }.put(body, self.fillers[i])
    }
}

/// A body of `len` bytes with room for a stamp, another one for each `seed`, the same in every run.
fn filled(body: Body, len: usize, seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = vec![0; len];
    match body {
        Body::Random => random.fill_bytes(&mut bytes[STAMP_LEN..]),
        Body::Text => {
            let mut words = std::iter::repeat_with(|| WORDS[random.next_u32() as usize % WORDS.len()]);
            let mut rest = &mut bytes[STAMP_LEN..];
            while !rest.is_empty() {
                let word = words.next().unwrap_or_default().as_bytes();
                let fits = word.len().min(rest.len());
                rest[..fits].copy_from_slice(&word[..fits]);
                rest = &mut rest[fits..];
            }
        }
    }
    bytes
}

/// Of logs and messages: compresses about as those do.
const WORDS: [&str; 64] = [
    "the ",
    "request ",
    "from ",
    "user ",
    "order ",
    "was ",
    "accepted ",
    "rejected ",
    "after ",
    "timeout ",
    "retry ",
    "level=info ",
    "level=warn ",
    "region=eu-west ",
    "region=us-east ",
    "status=200 ",
    "status=404 ",
    "latency_ms=12 ",
    "latency_ms=7 ",
    "{\"id\":",
    "\"name\":\"",
    "\",\"value\":",
    "}, ",
    "null, ",
    "true, ",
    "false, ",
    "session ",
    "opened ",
    "closed ",
    "by ",
    "peer ",
    "stream ",
    "record ",
    "batch ",
    "tail ",
    "moved ",
    "to ",
    "sequence ",
    "number ",
    "payment ",
    "customer ",
    "invoice ",
    "shipped ",
    "pending ",
    "cancelled ",
    "with ",
    "reason ",
    "none ",
    "trace=9f8e7d6c ",
    "span=01ab ",
    "host=node-3 ",
    "host=node-7 ",
    "GET /v1/streams ",
    "POST /v1/records ",
    "and ",
    "then ",
    "again ",
    "before ",
    "event ",
    "created ",
    "updated ",
    "deleted ",
    "agent ",
    "token ",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn load(compression: Compression) -> Load {
        Load {
            streams: 1,
            sessions: 1,
            followers: 0,
            readers: 0,
            connections: 1,
            record_size: 1000,
            batch: 10,
            in_flight: 1,
            rate: None,
            size: 0,
            compression,
            body: Body::Text,
        }
    }

    #[test]
    fn what_is_sent_live_is_numbered_for_ever() {
        for compressed in [Compressed::Live, Compressed::Beforehand] {
            let batches = Batches::new(&load(Compression::None), compressed).unwrap();
            assert_eq!(batches.period(), None);
            let mut source = batches.source(3);
            let next = |source: &mut Source| batches.next(source, Duration::from_nanos(5));
            let (first, second) = (next(&mut source), next(&mut source));
            assert_eq!((first.records(), first.metered()), (10, 10_080));
            assert_ne!(format!("{first:?}"), format!("{second:?}"));
        }
    }

    #[test]
    fn requests_carry_the_same_records() {
        let batches = Batches::new(&load(Compression::None), Compressed::Beforehand).unwrap();
        let (mut source, mut again) = (batches.source(3), batches.source(3));
        let frames = [batches.next(&mut source, Duration::ZERO), batches.next(&mut source, Duration::ZERO)];
        let requests = [batches.next_json(&mut again, Duration::ZERO), batches.next_json(&mut again, Duration::ZERO)];
        assert_eq!(frames.map(|frame| frame.records()), requests.each_ref().map(JsonInput::records));
        assert_ne!(format!("{:?}", requests[0]), format!("{:?}", requests[1]), "each has its own numbers");
    }

    #[test]
    fn what_was_compressed_beforehand_comes_again() {
        let batches = Batches::new(&load(Compression::Zstd), Compressed::Beforehand).unwrap();
        assert_eq!(batches.period().map(NonZeroU64::get), Some(64 * 10));
        let mut source = batches.source(3);
        let sent: Vec<_> = (0..65).map(|_| format!("{:?}", batches.next(&mut source, Duration::ZERO))).collect();
        assert_eq!(sent[0], sent[64]);
        assert_ne!(sent[0], sent[63]);
        let many = Load { sessions: 100_000, ..load(Compression::Zstd) };
        assert_eq!(Batches::new(&many, Compressed::Beforehand).unwrap().cycle, Some(4));
        assert_eq!(Batches::new(&many, Compressed::Live).unwrap().period(), None);
    }

    #[test]
    fn text_can_be_compressed_and_noise_cannot() {
        let compressed = |body| {
            let bytes = filled(body, 100_000, 1);
            crate::wire::deflate(Compression::Zstd, &bytes).unwrap().len()
        };
        assert!((10_000..50_000).contains(&compressed(Body::Text)), "{}", compressed(Body::Text));
        assert!(compressed(Body::Random) > 99_000);
        assert_ne!(filled(Body::Text, 100, 1), filled(Body::Text, 100, 2));
    }
}
