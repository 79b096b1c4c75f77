//! The durable log beside what the disk itself does and beside memory: synced appends of several shapes, reading them
//! back, and appending while others read and while space is given back.
//!
//! ```text
//! cargo bench --bench disk [-- [--short] [--only WORD] [--fsyncs]]
//! ```
//!
//! `TMPDIR` says on which disk. `--short` takes seconds and says little; `--only` runs what has this word in its name;
//! `--fsyncs` counts system calls with strace. Nothing is compared with former runs: what counts is the ratio of
//! neighbouring lines, because a shared disk is another one a minute later.

mod appends;
mod bare;
mod contention;
mod resources;
mod system_calls;

use std::time::Duration;

use appends::Shape;
use s2s_gateway::{
    store::{DiskStore, MemoryStore},
    types::MemoryShares,
};

/// Shapes of the issue's four figures, and two between.
const SHAPES: [Shape; 6] = [
    Shape { name: "1 x 100 B, waited for", streams: 1, records: 1, len: 100, in_flight: 1 },
    Shape { name: "100 x 1 KiB, waited for", streams: 1, records: 100, len: 1024, in_flight: 1 },
    Shape { name: "100 x 1 KiB, 32 on the way", streams: 1, records: 100, len: 1024, in_flight: 32 },
    Shape { name: "8 x 64 KiB, 8 streams, 8 on the way", streams: 8, records: 8, len: 64 * 1024, in_flight: 8 },
    Shape { name: "1 x 100 B, 200 streams", streams: 200, records: 1, len: 100, in_flight: 1 },
    Shape { name: "10 x 1 KiB, 200 streams", streams: 200, records: 10, len: 1024, in_flight: 1 },
];

/// How much is done of everything.
#[derive(Clone, Copy)]
struct Effort {
    time: Duration,
    /// Bytes after which a measurement of writing ends: many disks are fast only for so long.
    bytes: u64,
}

impl Effort {
    const FULL: Self = Self { time: Duration::from_secs(3), bytes: 1 << 30 };
    const SHORT: Self = Self { time: Duration::from_millis(300), bytes: 64 << 20 };
}

struct Options {
    effort: Effort,
    only: Option<String>,
    fsyncs: bool,
}

impl Options {
    fn of_arguments() -> Self {
        let mut options = Self { effort: Effort::FULL, only: None, fsyncs: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--short" => options.effort = Effort::SHORT,
                "--only" => options.only = arguments.next(),
                "--fsyncs" => options.fsyncs = true,
                // Cargo's own.
                "--bench" => {}
                unknown => panic!("{unknown}: there are --short, --only WORD and --fsyncs"),
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|word| name.contains(word.as_str()))
    }
}

fn main() {
    if let Some(shape) = system_calls::asked_for() {
        return system_calls::run(&SHAPES[shape]);
    }
    let options = Options::of_arguments();
    if options.fsyncs {
        return SHAPES.iter().enumerate().for_each(|(place, shape)| system_calls::count(place, shape));
    }
    resources::head();
    for shape in SHAPES.iter().filter(|shape| options.wants(shape.name)) {
        beside_each_other(shape, options.effort);
    }
    if options.wants("catch-up") {
        catch_up(options.effort);
    }
    if options.wants("beside") {
        contention::measure(options.effort);
    }
}

/// A shape on the bare disk, on the durable log, in memory, and on the bare disk again.
fn beside_each_other(shape: &Shape, effort: Effort) {
    println!("{}", shape.name);
    bare::write_and_sync(shape.bytes(), effort);
    let directory = tempfile::tempdir().unwrap();
    let disk = DiskStore::open(directory.path(), MemoryShares::default()).unwrap();
    appends::run("disk", &disk, shape, effort);
    drop(disk);
    appends::run("memory", &MemoryStore::new(4 << 30), shape, effort);
    bare::write_and_sync(shape.bytes(), effort);
}

fn catch_up(effort: Effort) {
    for len in [1024, 100] {
        let shape = Shape { name: "catch-up read", streams: 1, records: 100, len, in_flight: 32 };
        println!("catch-up read of {} x {len} B, 1 MiB at a time", shape.records);
        let directory = tempfile::tempdir().unwrap();
        let disk = DiskStore::open(directory.path(), MemoryShares::default()).unwrap();
        appends::fill(&disk, &shape, effort);
        appends::catch_up("disk", &disk, effort);
        drop(disk);
        let memory = MemoryStore::new(4 << 30);
        appends::fill(&memory, &shape, effort);
        appends::catch_up("memory", &memory, effort);
    }
}
