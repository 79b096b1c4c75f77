//! What JSON costs on the unary paths: an append read into a batch, a batch written for a reader.

use std::{fmt::Write as _, hint::black_box};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use s2s_gateway::{
    types::{Batch, SeqNum, Timestamp},
    wire::{
        json::{decode_append_input, encode_read_batch},
        negotiate::S2Format,
    },
};

/// Records and bytes of body in each.
const SHAPES: [(usize, usize); 2] = [(1, 100), (100, 1024)];
const FORMATS: [(&str, S2Format); 2] = [("raw", S2Format::Raw), ("base64", S2Format::Base64)];

/// An append whose bodies are letters, which are good base64 as well.
fn append_json(records: usize, body: usize) -> String {
    let mut json = String::from(r#"{"records":["#);
    for i in 0..records {
        let comma = if i == 0 { "" } else { "," };
        write!(json, r#"{comma}{{"headers":[["aaaa","bbbb"]],"body":"{}"}}"#, "abcd".repeat(body / 4)).unwrap();
    }
    json + "]}"
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("json append");
    for (records, body) in SHAPES {
        let json = append_json(records, body);
        group.throughput(Throughput::Bytes(json.len() as u64));
        for (name, format) in FORMATS {
            group.bench_function(BenchmarkId::new(name, format!("{records}x{body}")), |b| {
                b.iter(|| decode_append_input(black_box(json.as_bytes()), format).unwrap());
            });
        }
    }
    group.finish();
}

fn read_batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("json read batch");
    for (records, body) in SHAPES {
        let input = decode_append_input(append_json(records, body).as_bytes(), S2Format::Raw).unwrap();
        let now = Timestamp::new(1_713_812_735_000);
        let batch = Batch::sequence(&input.batch, SeqNum::new(1_000_000), |_| now);
        let slices = [batch.whole()];
        group.throughput(Throughput::Bytes(slices[0].encoded_len() as u64));
        for (name, format) in FORMATS {
            group.bench_function(BenchmarkId::new(name, format!("{records}x{body}")), |b| {
                b.iter(|| encode_read_batch(black_box(&slices), Some(batch.end()), format));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, append, read_batch);
criterion_main!(benches);
