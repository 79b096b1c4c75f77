//! What admission and the bounds of a read cost, apart from sockets and storage.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use s2s_gateway::{
    sequence::{Remaining, Sequencer},
    types::{Batch, ReadBounds, SeqNum, Timestamp, Timestamping, testing},
};

/// Records in a batch, and bytes of a body.
const SHAPES: [(usize, usize); 3] = [(1, 100), (100, 1024), (1000, 100)];

const NOW: Timestamp = Timestamp::new(1_713_812_735_000);

/// One input becomes one batch, the copy included.
fn admit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admit");
    for (records, len) in SHAPES {
        let input = testing::uniform_input(records, len);
        let mut sequencer = Sequencer::default();
        group.throughput(Throughput::Bytes(input.batch.metered() as u64));
        group.bench_function(format!("{records} x {len} B"), |bencher| {
            bencher.iter(|| sequencer.admit(black_box(&input), Timestamping::default(), NOW));
        });
    }
    group.finish();
}

/// The bounds of a read are applied to one batch: far away, and in the middle of it.
fn take(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("take");
    for (records, len) in SHAPES {
        let input = testing::uniform_input(records, len);
        let batch = Batch::sequence(&input.batch, SeqNum::FIRST, |_| NOW);
        let far = ReadBounds::default();
        let near = ReadBounds { bytes: Some(batch.metered() as u64 / 2), ..far };
        for (name, bounds) in [("all of", far), ("half of", near)] {
            group.bench_function(format!("{name} {records} x {len} B"), |bencher| {
                let limits = || (Remaining::new(bounds), batch.whole());
                bencher.iter_batched(limits, |(mut limits, mut slice)| limits.take(&mut slice), BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, admit, take);
criterion_main!(benches);
