//! The paths of records through the gateway, without sockets and disks, each as something that can be done again and
//! again: criterion times them (`streams`), callgrind counts their instructions (`instructions`).

pub mod records;
mod sessions;

use std::hint::black_box;

use bytes::BytesMut;
use s2s_gateway::{
    sequence::Sequencer,
    types::{AppendAck, BatchSlice, Compression, Position, Timestamping, limits::MAX_FRAME_MESSAGE, testing},
    wire::{
        Advice, FrameBuffer, decode_append_input, deflate, follow_frame, inflate, message_frame, put_append_ack,
        read_frames,
    },
};

use self::records::{NOW, SHAPES, Shape};
use self::sessions::{CommitsAre, World};

/// Something that the gateway does all the time, once a call.
pub type Step = Box<dyn FnMut()>;

/// A path, ready to be gone.
pub struct Path {
    /// Room and what is done there.
    pub name: String,
    /// What one step handles.
    pub work: Work,
    prepare: Box<dyn Fn() -> Step>,
}

/// What one step handles.
#[derive(Clone, Copy)]
pub struct Work {
    /// Records, each counted as often as it is delivered.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Path {
    fn new(name: impl Into<String>, work: Work, prepare: impl Fn() -> Step + 'static) -> Self {
        Self { name: name.into(), work, prepare: Box::new(prepare) }
    }

    /// Everything that is there before the first step.
    pub fn prepare(&self) -> Step {
        (self.prepare)()
    }
}

impl Shape {
    /// `times` batches of this shape.
    fn work(self, times: usize) -> Work {
        let records = (self.records * times) as u64;
        Work { records, bytes: records * self.body as u64 }
    }
}

/// Bytes to values and back.
pub fn codec() -> Vec<Path> {
    let batch = Shape { records: 100, body: 1024 };
    let mut paths = vec![
        Path::new("codec: frame from chunks of 16 KiB", batch.work(1), move || frame_from_chunks(batch)),
        Path::new("codec: ack", Work { records: 1, bytes: 0 }, ack),
    ];
    for shape in SHAPES {
        paths.push(Path::new(format!("codec: append input, {shape}"), shape.work(1), move || append_input(shape)));
    }
    let next_follower = "codec: follow frame for the next follower";
    paths.push(Path::new(next_follower, batch.work(1), move || next_follow_frame(batch)));
    for (times, shape) in
        [(10, batch), (1000, Shape { records: 1, body: 100 }), (1, Shape { records: 1000, body: 100 })]
    {
        let name = format!("codec: page of {times} × ({shape})");
        paths.push(Path::new(name, shape.work(times), move || page(times, shape)));
    }
    for compression in [Compression::Zstd, Compression::Gzip] {
        let name = |direction| format!("codec: {} {direction}, {batch}", compression.coding());
        paths.push(Path::new(name("out"), batch.work(1), move || compress(compression, batch)));
        paths.push(Path::new(name("in"), batch.work(1), move || decompress(compression, batch)));
    }
    paths
}

/// Inputs judged, numbered and stamped.
pub fn admit() -> Vec<Path> {
    let path = |shape: Shape| Path::new(format!("admit: {shape}"), shape.work(1), move || admission(shape));
    SHAPES.into_iter().map(path).collect()
}

/// From input to ack.
pub fn append() -> Vec<Path> {
    let mut paths = Vec::new();
    for (commits, when) in [(CommitsAre::Durable, "durable at once"), (CommitsAre::Reported, "durable later")] {
        for shape in SHAPES {
            let name = format!("append: {shape}, {when}");
            paths.push(Path::new(name, shape.work(1), move || World::new(commits).appending(shape)));
        }
    }
    paths
}

/// From an append to the frames of its followers.
pub fn follow() -> Vec<Path> {
    let record = Shape { records: 1, body: 1024 };
    let path = |followers: usize| {
        let name = format!("follow: {record}, followers: {followers}");
        Path::new(name, record.work(followers), move || World::new(CommitsAre::Durable).followed(record, followers))
    };
    [1, 100, 500].into_iter().map(path).collect()
}

/// From the store to the frames of a reader that catches up.
pub fn catch_up() -> Vec<Path> {
    let mut paths = Vec::new();
    for (times, shape) in [(40, Shape { records: 100, body: 1024 }), (4000, Shape { records: 1, body: 100 })] {
        let name = format!("catch up: {times} × ({shape})");
        paths.push(Path::new(name, shape.work(times), move || World::new(CommitsAre::Kept).read(times, shape)));
    }
    paths
}

fn frame_from_chunks(shape: Shape) -> Step {
    let frame = message_frame(Compression::None, Advice::None, &records::message(shape)).expect("short enough");
    Box::new(move || {
        let (mut buffer, mut rest) = (FrameBuffer::new(), frame.clone());
        while !rest.is_empty() {
            buffer.push(rest.split_to(rest.len().min(16 * 1024)));
            black_box(buffer.next_frame().expect("a good frame"));
        }
    })
}

fn ack() -> Step {
    let end = Position { seq_num: records::FIRST, timestamp: NOW };
    let ack = AppendAck { start: end, end, tail: end };
    let mut out = BytesMut::with_capacity(128);
    Box::new(move || {
        out.clear();
        put_append_ack(&mut out, black_box(&ack), Advice::None);
    })
}

fn append_input(shape: Shape) -> Step {
    let message = records::message(shape);
    Box::new(move || {
        black_box(decode_append_input(message.clone()).expect("well formed"));
    })
}

fn next_follow_frame(shape: Shape) -> Step {
    let batch = records::batch(shape);
    Box::new(move || {
        black_box(follow_frame(&batch, Compression::None, Advice::None));
    })
}

fn page(times: usize, shape: Shape) -> Step {
    let slices: Vec<BatchSlice> = (0..times).map(|_| records::batch(shape).whole()).collect();
    Box::new(move || {
        black_box(read_frames(&slices, Some(Position::EMPTY), Compression::None, Advice::None));
    })
}

fn compress(compression: Compression, shape: Shape) -> Step {
    let message = records::message(shape);
    Box::new(move || {
        black_box(deflate(compression, &message).expect("compressors do not fail"));
    })
}

fn decompress(compression: Compression, shape: Shape) -> Step {
    let body = deflate(compression, &records::message(shape)).expect("compressors do not fail");
    Box::new(move || {
        black_box(inflate(compression, body.clone(), MAX_FRAME_MESSAGE).expect("just deflated"));
    })
}

fn admission(shape: Shape) -> Step {
    let input = testing::uniform_input(shape.records, shape.body);
    let mut sequencer = Sequencer::default();
    Box::new(move || {
        black_box(sequencer.admit(&input, Timestamping::default(), NOW).expect("no condition"));
    })
}
