//! The codec: frames in and out, inflate, append input → batch → sequenced batch → follow frame.

#[allow(dead_code, reason = "batches are made here, step by step")]
#[path = "paths/records.rs"]
mod records;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use records::Shape;
use s2s_gateway::{
    types::{AppendAck, AppendBatch, Batch, Compression, Position, SeqNum, Timestamp, limits::MAX_FRAME_MESSAGE},
    wire::{
        Advice, FrameBuffer, decode_append_input, deflate, follow_frame, inflate, message_frame, put_append_ack,
        put_message_frame, read_frames,
    },
};

/// Records × bytes of body.
const SHAPES: [(usize, usize); 3] = [(1, 100), (100, 1024), (1000, 100)];
const BOTH: [Compression; 2] = [Compression::Zstd, Compression::Gzip];

fn name((records, body): (usize, usize)) -> String {
    format!("{records}x{body}B")
}

fn message((records, body): (usize, usize)) -> Bytes {
    records::message(Shape { records, body })
}

fn append(shape: (usize, usize)) -> AppendBatch {
    decode_append_input(message(shape)).expect("well formed").batch
}

fn sequence(append: &AppendBatch) -> Batch {
    Batch::sequence(append, SeqNum::new(1_000_000), |_| Timestamp::new(1_713_812_735_000))
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for shape in SHAPES {
        let frame = message_frame(Compression::None, Advice::None, &message(shape)).expect("short enough");
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(format!("decode/{}/one chunk", name(shape)), |b| {
            b.iter(|| decode(frame.clone(), frame.len()));
        });
        group.bench_function(format!("decode/{}/chunks of 16 KiB", name(shape)), |b| {
            b.iter(|| decode(frame.clone(), 16 * 1024));
        });
        group.bench_function(format!("encode/{}", name(shape)), |b| {
            let mut out = BytesMut::with_capacity(2 * frame.len());
            b.iter(|| {
                out.clear();
                put_message_frame(&mut out, Compression::None, Advice::None, &frame[4..]).expect("short enough");
                black_box(&out);
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode/ack", |b| {
        let end = Position::new(1_000_000, 1_713_812_735_000);
        let ack = AppendAck { start: end, end, tail: end };
        let mut out = BytesMut::with_capacity(128);
        b.iter(|| {
            out.clear();
            put_append_ack(&mut out, black_box(&ack), Advice::None);
            black_box(&out);
        });
    });
    group.finish();
}

fn decode(mut frame: Bytes, chunk: usize) {
    let mut buffer = FrameBuffer::new();
    while !frame.is_empty() {
        buffer.push(frame.split_to(chunk.min(frame.len())));
        black_box(buffer.next_frame().expect("a good frame"));
    }
}

fn compression(c: &mut Criterion) {
    let mut group = c.benchmark_group("compress");
    for shape in [(10, 200), (100, 1024)] {
        let message = message(shape);
        group.throughput(Throughput::Bytes(message.len() as u64));
        for compression in BOTH {
            let body = deflate(compression, &message).expect("compressors do not fail");
            group.bench_function(format!("inflate/{}/{}", compression.coding(), name(shape)), |b| {
                b.iter(|| inflate(compression, body.clone(), MAX_FRAME_MESSAGE).expect("just deflated"));
            });
            group.bench_function(format!("deflate/{}/{}", compression.coding(), name(shape)), |b| {
                b.iter(|| deflate(compression, &message).expect("compressors do not fail"));
            });
        }
    }
    group.finish();
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    for shape in SHAPES {
        let (message, append) = (message(shape), append(shape));
        group.throughput(Throughput::Elements(shape.0 as u64));
        group.bench_function(format!("from append input/{}", name(shape)), |b| {
            b.iter(|| decode_append_input(message.clone()).expect("well formed"));
        });
        // The condition in front: legal, and not as any client writes it.
        let unusual = Bytes::from([&[0x10, 0x05][..], &message].concat());
        group.bench_function(format!("from unusual append input/{}", name(shape)), |b| {
            b.iter(|| decode_append_input(unusual.clone()).expect("well formed"));
        });
        group.bench_function(format!("sequence/{}", name(shape)), |b| b.iter(|| sequence(&append)));
    }
    group.finish();
}

fn readers(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    for shape in SHAPES {
        let append = append(shape);
        group.throughput(Throughput::Bytes(sequence(&append).records_bytes().len() as u64));
        for compression in Compression::ALL {
            let label = format!("{}/{}", compression.coding(), name(shape));
            group.bench_function(format!("first follower/{label}"), |b| {
                let follow = |batch: Batch| follow_frame(&batch, compression, Advice::None);
                b.iter_batched(|| sequence(&append), follow, BatchSize::LargeInput);
            });
            let batch = sequence(&append);
            group.bench_function(format!("next follower/{label}"), |b| {
                b.iter(|| follow_frame(&batch, compression, Advice::None));
            });
        }
        let slices = [sequence(&append).whole(), sequence(&append).whole()];
        group.bench_function(format!("catch up, two batches/{}", name(shape)), |b| {
            b.iter(|| read_frames(&slices, None, Compression::None, Advice::None));
        });
    }
    group.finish();
}

criterion_group!(benches, frames, compression, batches, readers);
criterion_main!(benches);
