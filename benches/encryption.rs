//! What encryption with the customer's key costs, on the way in and on the way out.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use s2s_gateway::{
    encryption::{EncryptionKey, RecordCipher},
    types::{Batch, Cipher, SeqNum, StreamId, Timestamp, testing},
};

/// Records in a batch, and bytes of a body.
const SHAPES: [(usize, usize); 3] = [(1, 100), (100, 1024), (1000, 100)];

const NOW: Timestamp = Timestamp::new(1_713_812_735_000);

fn ciphers() -> [(Cipher, RecordCipher); 2] {
    [Cipher::Aegis256, Cipher::Aes256Gcm]
        .map(|cipher| (cipher, RecordCipher::new(cipher, EncryptionKey::new([7; 32]), StreamId::new(1))))
}

/// An input becomes the input that is stored, nonces included.
fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    for (records, len) in SHAPES {
        let batch = testing::uniform_input(records, len).batch;
        group.throughput(Throughput::Bytes(batch.metered() as u64));
        for (name, cipher) in ciphers() {
            group.bench_function(format!("{name} {records} x {len} B"), |bencher| {
                bencher.iter(|| cipher.seal(black_box(&batch), |nonce| rand::fill(nonce)));
            });
        }
    }
    group.finish();
}

/// A stored batch becomes the batch of one reader.
fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    for (records, len) in SHAPES {
        let batch = testing::uniform_input(records, len).batch;
        group.throughput(Throughput::Bytes(batch.metered() as u64));
        for (name, cipher) in ciphers() {
            let sealed = cipher.seal(&batch, |nonce| rand::fill(nonce));
            let stored = Batch::sequence(&sealed, SeqNum::FIRST, |_| NOW).whole();
            group.bench_function(format!("{name} {records} x {len} B"), |bencher| {
                bencher.iter(|| cipher.open(black_box(&stored)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, seal, open);
criterion_main!(benches);
