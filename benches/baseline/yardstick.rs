//! What the two yardstick servers have in common: the socket, the frames that a stream keeps, and splitting them.
//!
//! They judge nothing, number nothing and decode nothing. What they keep is what came in.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::{Buf, Bytes, BytesMut};
use s2s_gateway::{
    types::{AppendAck, Position},
    wire::{Advice, put_append_ack},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// As the gateway tells its peers, so that nothing but the work differs.
pub(crate) const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
pub(crate) const MAX_FRAME_SIZE: u32 = 256 * 1024;
pub(crate) const MAX_STREAMS: u32 = 1_000;
pub(crate) const MAX_SEND_BUFFER: usize = 1024 * 1024;

/// Serves until the process is killed, each connection in a task of its own.
pub(crate) fn serve<F>(connection: impl Fn(TcpStream, Arc<Streams>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}", listener.local_addr().unwrap());
        let streams = Arc::new(Streams::new());
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            tokio::spawn(connection(socket, streams.clone()));
        }
    });
}

/// Streams by their path, and what is answered to all of them.
pub(crate) struct Streams {
    by_path: Mutex<HashMap<String, Arc<Stream>>>,
    pub(crate) acks: Acks,
}

impl Streams {
    fn new() -> Self {
        Self { by_path: Mutex::default(), acks: Acks::new() }
    }

    pub(crate) fn at(&self, path: &str) -> Arc<Stream> {
        self.by_path.lock().unwrap().entry(path.to_owned()).or_default().clone()
    }
}

/// The frames of a stream, as they came.
pub(crate) struct Stream {
    frames: Mutex<Vec<Bytes>>,
    len: watch::Sender<usize>,
}

impl Default for Stream {
    fn default() -> Self {
        Self { frames: Mutex::default(), len: watch::Sender::new(0) }
    }
}

impl Stream {
    /// Keeps the frames that are complete in `splitter`, and says how many they were.
    pub(crate) fn keep(&self, splitter: &mut Splitter) -> usize {
        let mut frames = self.frames.lock().unwrap();
        let before = frames.len();
        frames.extend(splitter);
        let kept = frames.len() - before;
        if kept > 0 {
            self.len.send_replace(frames.len());
        }
        kept
    }

    pub(crate) fn watch(&self) -> watch::Receiver<usize> {
        self.len.subscribe()
    }

    /// A few frames from `next` on.
    pub(crate) fn some_from(&self, next: usize) -> Vec<Bytes> {
        let frames = self.frames.lock().unwrap();
        frames[next..].iter().take(32).cloned().collect()
    }
}

/// Cuts chunks into frames, heads and all.
#[derive(Default)]
pub(crate) struct Splitter(BytesMut);

impl Splitter {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.0.extend_from_slice(chunk);
    }
}

impl Iterator for &mut Splitter {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let len = 3 + self.0.get(..3)?.get_uint(3) as usize;
        (self.0.len() >= len).then(|| self.0.split_to(len).freeze())
    }
}

/// Acks, all the same: of a size as the gateway writes them.
pub(crate) struct Acks(Bytes);

/// More than the smallest frames in the largest chunk.
const MOST_AT_ONCE: usize = 4096;

impl Acks {
    fn new() -> Self {
        let position = |seq_num| Position::new(seq_num, 1_800_000_000_000);
        let ack = AppendAck { start: position(1_000_000), end: position(1_000_100), tail: position(1_000_100) };
        let mut one = BytesMut::new();
        put_append_ack(&mut one, &ack, Advice::None);
        Self(one.repeat(MOST_AT_ONCE).into())
    }

    pub(crate) fn of(&self, frames: usize) -> Bytes {
        assert!(frames <= MOST_AT_ONCE);
        self.0.slice(..self.0.len() / MOST_AT_ONCE * frames)
    }
}

/// Whether a read is to end where the frames do.
pub(crate) fn is_bounded(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.contains("count="))
}
