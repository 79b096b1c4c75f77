//! The load: HTTP/2 connections and sessions over them, on the bare `h2` crate. Nothing is encoded while it runs, and of
//! what comes back only the heads of frames are looked at.

use std::{future::Future, time::Duration};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{Method, Request, request};
use tokio::net::TcpStream;

use crate::{payload::Frames, server::Server};

const BASIN: &str = "baseline-01";

/// Ends a measurement that would hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `load` on a runtime of its own: one thread, so that the server has at least a core.
pub(crate) fn run<T>(load: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, load).await.expect("it went on for too long") })
}

/// One connection.
#[derive(Clone)]
pub(crate) struct Connection(SendRequest<Bytes>);

impl Connection {
    pub(crate) async fn open(server: &Server) -> Self {
        let socket = TcpStream::connect(server.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(4 * 1024 * 1024).initial_connection_window_size(32 * 1024 * 1024);
        let (requests, connection) = builder.handshake(socket).await.unwrap();
        tokio::spawn(connection);
        Self(requests)
    }

    /// A basin with `streams` streams.
    pub(crate) async fn provision(&self, server: &Server, streams: usize) {
        if server.kind.is_gateway() {
            self.put(format!("/v1/basins/{BASIN}")).await;
            for i in 0..streams {
                self.put(format!("/v1/streams/{}", stream_name(i))).await;
            }
        }
    }

    async fn put(&self, path: String) {
        let (status, body) = self.call(request(Method::PUT, &path), Bytes::new()).await;
        assert!(status == 201 || status == 200, "{path}: {status} {body:?}");
    }

    /// A whole request and the whole of its response.
    pub(crate) async fn call(&self, request: request::Builder, body: Bytes) -> (u16, Bytes) {
        let mut requests = self.0.clone().ready().await.unwrap();
        let (response, mut sending) = requests.send_request(request.body(()).unwrap(), body.is_empty()).unwrap();
        if !body.is_empty() {
            sending.send_data(body, true).unwrap();
        }
        let (head, mut receiving) = response.await.unwrap().into_parts();
        let mut whole = BytesMut::new();
        while let Some(chunk) = receiving.data().await {
            let chunk = chunk.unwrap();
            receiving.flow_control().release_capacity(chunk.len()).unwrap();
            whole.extend_from_slice(&chunk);
        }
        (head.status.as_u16(), whole.freeze())
    }

    /// One JSON append.
    pub(crate) async fn append_json(&self, stream: usize, body: Bytes) {
        let request = request(Method::POST, &records_path(stream)).header("content-type", "application/json");
        let (status, body) = self.call(request, body).await;
        assert_eq!(status, 200, "{body:?}");
    }

    pub(crate) async fn append_session(&self, stream: usize) -> (SendStream<Bytes>, Receiving) {
        self.session(Method::POST, &records_path(stream), "zstd").await
    }

    /// A read session from the beginning, with these query parameters too.
    pub(crate) async fn read_session(&self, stream: usize, query: &str, encoding: &'static str) -> Receiving {
        let path = format!("{}?seq_num=0{query}", records_path(stream));
        self.session(Method::GET, &path, encoding).await.1
    }

    async fn session(&self, method: Method, path: &str, encoding: &'static str) -> (SendStream<Bytes>, Receiving) {
        let end = method == Method::GET;
        let request = request(method, path).header("content-type", "s2s/proto").header("accept-encoding", encoding);
        let mut requests = self.0.clone().ready().await.unwrap();
        let (response, sending) = requests.send_request(request.body(()).unwrap(), end).unwrap();
        let (head, body) = response.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        (sending, Receiving { body, scanner: Scanner::default() })
    }
}

fn request(method: Method, path: &str) -> request::Builder {
    Request::builder().method(method).uri(format!("http://localhost{path}")).header("s2-basin", BASIN)
}

fn records_path(stream: usize) -> String {
    format!("/v1/streams/{}/records", stream_name(stream))
}

fn stream_name(stream: usize) -> String {
    format!("stream-{stream}")
}

/// Keeps `in_flight` batches on the way for ever; `acked` is told how many acks came, each time some came.
pub(crate) async fn keep_appending(
    (mut sending, mut receiving): (SendStream<Bytes>, Receiving),
    mut frames: Frames,
    in_flight: usize,
    mut acked: impl FnMut(usize),
) {
    let mut send = |count| frames.next(count, |bytes| sending.send_data(bytes, false).unwrap());
    send(in_flight);
    loop {
        let acks = receiving.next().await.expect("the session goes on").frames;
        acked(acks);
        send(acks);
    }
}

/// The receiving side of a session.
pub(crate) struct Receiving {
    body: RecvStream,
    scanner: Scanner,
}

/// What came at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    /// Frames that begin in it, without heartbeats.
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

impl Receiving {
    /// The next chunk; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Came> {
        let chunk = self.body.data().await?.unwrap();
        self.body.flow_control().release_capacity(chunk.len()).unwrap();
        Some(Came { frames: self.scanner.scan(&chunk), bytes: chunk.len() })
    }

    /// Waits for a frame, or more.
    pub(crate) async fn next_frames(&mut self) -> usize {
        loop {
            match self.next().await.expect("the session goes on").frames {
                0 => {}
                frames => return frames,
            }
        }
    }
}

/// Bytes after the head: fewer are a heartbeat's.
const SHORTEST_BODY: usize = 30;

/// Finds the heads of frames in chunks that are cut anywhere.
#[derive(Default)]
struct Scanner {
    head: [u8; 4],
    filled: usize,
    /// Bytes of the current body still to come.
    body: usize,
}

impl Scanner {
    /// Counts the frames whose heads end in `chunk`. A terminal frame ends the measurement.
    fn scan(&mut self, mut chunk: &[u8]) -> usize {
        let mut frames = 0;
        while !chunk.is_empty() {
            let skipped = self.body.min(chunk.len());
            self.body -= skipped;
            chunk = &chunk[skipped..];
            while self.body == 0
                && let Some((byte, rest)) = chunk.split_first()
            {
                self.head[self.filled] = *byte;
                self.filled += 1;
                chunk = rest;
                if self.filled == self.head.len() {
                    let [a, b, c, flag] = self.head;
                    self.filled = 0;
                    self.body = u32::from_be_bytes([0, a, b, c]) as usize - 1;
                    assert!(flag & 0x80 == 0, "terminal: {:?}", String::from_utf8_lossy(chunk));
                    frames += usize::from(self.body >= SHORTEST_BODY);
                }
            }
        }
        frames
    }
}
