//! The other side of a session, by the byte: an HTTP/2 client that sends what it is told, in DATA frames of the test's
//! choosing, and expects frame by frame what comes back. Over it also unary requests, for all that is not a session.

use std::{
    future::{Future, poll_fn},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{
    PingPong, Reason, RecvStream, SendStream,
    client::{Builder, SendRequest},
};
use http::{HeaderMap, Request, header, request, response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use s2s_gateway::{
    types::{AppendAck, Compression, FencingToken, SeqNum},
    wire::{
        Advice, Frame, FrameBuffer, ReadBatch, RecordsWriter, decode_append_ack, decode_read_batch, inflate,
        message_frame,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};

use super::Gateway;

/// The basin of every test.
pub const BASIN: &str = "my-basin-01";

/// Far more than anything here takes: it ends a test that would wait for ever, and is never waited for.
pub const SAFETY_NET: Duration = Duration::from_secs(120);

const MAX_MESSAGE: usize = 2 * 1024 * 1024;

/// `what` happens, or the test fails.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SAFETY_NET, what).await.expect("what should happen did not, for a long time")
}

/// Gives way to the server until `condition` holds.
pub async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Settings of a peer that lets many small frames lie unread, as sessions that a test does not look at do: h2 takes half
/// of the connection's window for what it bears of them.
pub fn settings() -> Builder {
    let mut settings = Builder::new();
    settings.initial_window_size(4 * 1024 * 1024).initial_connection_window_size(32 * 1024 * 1024);
    settings
}

/// One connection.
pub struct Peer {
    requests: SendRequest<Bytes>,
    pings: PingPong,
    driver: JoinHandle<Result<(), h2::Error>>,
    bearer: Option<String>,
}

impl Peer {
    pub async fn connect(gateway: &Gateway) -> Self {
        Self::connect_with(gateway, &settings()).await
    }

    /// With settings of choice: windows, frame sizes.
    pub async fn connect_with(gateway: &Gateway, settings: &Builder) -> Self {
        let socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self::over(socket, settings).await
    }

    pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, settings: &Builder) -> Self {
        let (requests, mut connection) = within(settings.handshake(io)).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        Self { requests, pings, driver: tokio::spawn(connection), bearer: None }
    }

    /// The same connection for the bearer of `token`.
    pub fn bearing(mut self, token: &str) -> Self {
        self.bearer = Some(format!("Bearer {token}"));
        self
    }

    /// Sends the head of a request, and says whether that is all of it.
    pub async fn open(&mut self, mut request: Request<()>, end: bool) -> Opening {
        if let Some(bearer) = &self.bearer {
            request.headers_mut().entry(header::AUTHORIZATION).or_insert(bearer.parse().unwrap());
        }
        let mut requests = within(self.requests.clone().ready()).await.unwrap();
        let (response, sending) = requests.send_request(request, end).unwrap();
        Opening { response, sending }
    }

    /// Opens an append session; it must be granted.
    pub async fn append_session(&mut self, stream: &str) -> Session {
        self.append_session_with(stream, &[]).await
    }

    pub async fn append_session_with(&mut self, stream: &str, headers: &[(&str, &str)]) -> Session {
        let request = with_headers(session_request("POST", &records_path(stream)), headers);
        self.open(request, false).await.granted().await
    }

    /// Opens a read session with these query parameters; it must be granted.
    pub async fn read_session(&mut self, stream: &str, query: &str) -> Session {
        self.read_session_with(stream, query, &[]).await
    }

    pub async fn read_session_with(&mut self, stream: &str, query: &str, headers: &[(&str, &str)]) -> Session {
        let path = format!("{}?{query}", records_path(stream));
        let request = with_headers(session_request("GET", &path), headers);
        self.open(request, true).await.granted().await
    }

    /// A whole request and the whole of its response.
    pub async fn call(&mut self, request: Request<Bytes>) -> Reply {
        let (parts, body) = request.into_parts();
        let mut opening = self.open(Request::from_parts(parts, ()), body.is_empty()).await;
        if !body.is_empty() {
            opening.sending.send_data(body, true).unwrap();
        }
        opening.answered().await.reply().await
    }

    /// A request without a body.
    pub async fn get(&mut self, path: &str) -> Reply {
        self.call(basin_request("GET", path).body(Bytes::new()).unwrap()).await
    }

    /// A request with a JSON body.
    pub async fn json(&mut self, method: &str, path: &str, body: impl Into<Bytes>) -> Reply {
        let request = basin_request(method, path).header("content-type", "application/json");
        self.call(request.body(body.into()).unwrap()).await
    }

    /// A basin with these streams.
    pub async fn provision(&mut self, streams: &[&str]) {
        let reply = self.json("PUT", &format!("/v1/basins/{BASIN}"), "").await;
        assert!(matches!(reply.status(), 200 | 201), "{reply:?}");
        for stream in streams {
            assert_eq!(self.json("PUT", &stream_path(stream), "").await.status(), 201);
        }
    }

    /// The stream's tail.
    pub async fn tail(&mut self, stream: &str) -> u64 {
        let reply = self.get(&format!("{}/tail", records_path(stream))).await;
        assert_eq!(reply.status(), 200, "{reply:?}");
        reply.json()["tail"]["seq_num"].as_u64().unwrap()
    }

    /// There and back: what was sent before has arrived, and the server is up.
    pub async fn ping(&mut self) {
        within(self.pings.ping(h2::Ping::opaque())).await.unwrap();
    }

    /// Whether the server lets another request begin here; not after its GOAWAY.
    pub async fn takes_requests(&self) -> bool {
        within(self.requests.clone().ready()).await.is_ok()
    }

    /// Drops the TCP connection.
    pub async fn hang_up(self) {
        self.driver.abort();
        let _ = self.driver.await;
    }

    /// Waits until the server has closed the connection, and gives the reason of its GOAWAY.
    pub async fn closed(self) -> Reason {
        drop(self.requests);
        match within(self.driver).await.unwrap() {
            Ok(()) => Reason::NO_ERROR,
            Err(error) => error.reason().unwrap_or_else(|| panic!("{error}")),
        }
    }
}

/// A request of which the head is sent.
pub struct Opening {
    pub response: h2::client::ResponseFuture,
    pub sending: SendStream<Bytes>,
}

impl Opening {
    /// Waits for the head of the response, whatever it says.
    pub async fn answered(self) -> Session {
        let (head, receiving) = within(self.response).await.expect("a response").into_parts();
        Session { head, sending: self.sending, receiving, frames: FrameBuffer::new() }
    }

    /// Waits for the head of the response, which must grant a session.
    pub async fn granted(self) -> Session {
        let session = self.answered().await;
        assert_eq!(session.head.status, 200);
        session
    }
}

/// A session, or any request, of which the response has begun.
pub struct Session {
    pub head: response::Parts,
    sending: SendStream<Bytes>,
    receiving: RecvStream,
    frames: FrameBuffer,
}

impl Session {
    /// Sends `bytes` in one DATA frame, or as many as the server's settings ask for.
    pub fn send(&mut self, bytes: impl Into<Bytes>) {
        self.sending.send_data(bytes.into(), false).unwrap();
    }

    /// Sends `bytes` in DATA frames of `size` bytes each.
    pub fn send_in_pieces(&mut self, bytes: impl Into<Bytes>, size: usize) {
        let mut rest = bytes.into();
        while !rest.is_empty() {
            self.send(rest.split_to(size.min(rest.len())));
        }
    }

    /// Half-closes.
    pub fn end(&mut self) {
        self.sending.send_data(Bytes::new(), true).unwrap();
    }

    /// RST_STREAM.
    pub fn reset(mut self) {
        self.sending.send_reset(Reason::CANCEL);
    }

    /// Sends as long as the server's window lets it through, at most `limit` bytes; gives how many it were.
    ///
    /// Makes of `input` as many as it takes, cut anywhere.
    pub async fn send_until_window_is_full(&mut self, peer: &mut Peer, input: &Bytes, limit: usize) -> usize {
        let (mut sent, mut rest) = (0, input.clone());
        while sent < limit {
            self.sending.reserve_capacity(64 * 1024);
            let window = match self.sending.capacity() {
                0 => {
                    // After a few round trips the server has read what it wants to read.
                    for _ in 0..5 {
                        peer.ping().await;
                    }
                    self.sending.capacity()
                }
                window => window,
            };
            if window == 0 {
                break;
            }
            let piece = rest.split_to(window.min(rest.len()));
            sent += piece.len();
            self.sending.send_data(piece, false).unwrap();
            if rest.is_empty() {
                rest = input.clone();
            }
        }
        sent
    }

    /// The next frame; none at the end of the response.
    pub async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.next_frame().expect("the server sends frames") {
                return Some(frame);
            }
            match within(self.receiving.data()).await {
                Some(chunk) => {
                    let chunk = chunk.expect("the response goes on");
                    self.receiving.flow_control().release_capacity(chunk.len()).unwrap();
                    self.frames.push(chunk);
                }
                None => {
                    self.frames.finish().expect("the response ends between frames");
                    return None;
                }
            }
        }
    }

    /// The next frame, which must be a regular one: its message, and what it advises.
    pub async fn expect_message(&mut self) -> (Bytes, Advice) {
        let (compression, advice, body) = self.expect_body().await;
        (inflate(compression, body, MAX_MESSAGE).unwrap(), advice)
    }

    /// The next frame, which must be a regular one, as it came.
    pub async fn expect_body(&mut self) -> (Compression, Advice, Bytes) {
        match self.next_frame().await {
            Some(Frame::Message { compression, advice, body }) => (compression, advice, body),
            Some(Frame::Terminal(terminal)) => panic!("a terminal frame: {terminal:?}"),
            None => panic!("the end"),
        }
    }

    pub async fn expect_ack(&mut self) -> AppendAck {
        decode_append_ack(self.expect_message().await.0).unwrap()
    }

    /// The numbers of the first record and of the one after the last, of the next ack.
    pub async fn expect_acked(&mut self) -> (u64, u64) {
        let ack = self.expect_ack().await;
        assert!(ack.tail.seq_num >= ack.end.seq_num, "{ack:?}");
        (ack.start.seq_num.get(), ack.end.seq_num.get())
    }

    pub async fn expect_batch(&mut self) -> ReadBatch {
        decode_read_batch(self.expect_message().await.0).unwrap()
    }

    /// A batch without records, with a tail: its sequence number.
    pub async fn expect_heartbeat(&mut self) -> u64 {
        let batch = self.expect_batch().await;
        assert!(batch.records.is_empty(), "{batch:?}");
        batch.tail.expect("a heartbeat has a tail").seq_num.get()
    }

    /// The next `count` records, in as many batches as it takes; heartbeats between them do not matter.
    pub async fn expect_records(&mut self, count: usize) -> Vec<(u64, Bytes)> {
        let mut records = Vec::new();
        while records.len() < count {
            let batch = self.expect_batch().await;
            records.extend(batch.records.into_iter().map(|record| (record.seq_num.get(), record.body)));
        }
        assert_eq!(records.len(), count);
        records
    }

    /// A terminal frame, and nothing more.
    pub async fn expect_terminal(&mut self) -> (u16, serde_json::Value) {
        match self.next_frame().await {
            Some(Frame::Terminal(terminal)) => {
                self.expect_end().await;
                (terminal.status, serde_json::from_slice(&terminal.body).unwrap())
            }
            other => panic!("not a terminal frame: {other:?}"),
        }
    }

    /// A terminal frame with this status and code.
    pub async fn expect_failure(&mut self, status: u16, code: &str) {
        let (found, body) = self.expect_terminal().await;
        assert_eq!((found, body["code"].as_str()), (status, Some(code)), "{body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    }

    /// END_STREAM without another frame.
    pub async fn expect_end(&mut self) {
        assert_eq!(self.next_frame().await, None);
    }

    /// Waits until the server resets the stream, and gives its reason.
    pub async fn expect_reset(&mut self) -> Reason {
        within(poll_fn(|cx| self.sending.poll_reset(cx))).await.unwrap()
    }

    /// The whole of a response that is not a session.
    pub async fn reply(mut self) -> Reply {
        let mut body = BytesMut::new();
        while let Some(chunk) = within(self.receiving.data()).await {
            let chunk = chunk.expect("the response goes on");
            self.receiving.flow_control().release_capacity(chunk.len()).unwrap();
            body.put(chunk);
        }
        Reply { head: self.head, body: body.freeze() }
    }
}

/// The whole of a unary response.
#[derive(Debug)]
pub struct Reply {
    pub head: response::Parts,
    pub body: Bytes,
}

impl Reply {
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// An error of the standard shape.
    #[track_caller]
    pub fn assert_error(&self, status: u16, code: &str) {
        assert_eq!(self.status(), status, "{code} wanted: {self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "whatever was accepted");
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    }

    /// Out of range, with this tail.
    #[track_caller]
    pub fn assert_out_of_range(&self, tail: u64) {
        assert_eq!(self.status(), 416, "{self:?}");
        assert_eq!((self.header("content-type"), self.header("content-range")), (Some("application/json"), None));
        let body = self.json();
        assert_eq!(body["tail"]["seq_num"], tail, "{body}");
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    }
}

/// A session that has nothing to do with what a test is about, and must not notice it.
pub struct Bystander {
    appends: Session,
    follows: Session,
    next: u64,
    _peer: Peer,
}

impl Bystander {
    pub async fn open(gateway: &Gateway) -> Self {
        let mut peer = Peer::connect(gateway).await;
        peer.provision(&["bystander"]).await;
        let appends = peer.append_session("bystander").await;
        let follows = peer.read_session("bystander", "seq_num=0").await;
        let mut bystander = Self { appends, follows, next: 0, _peer: peer };
        assert_eq!(bystander.follows.expect_heartbeat().await, 0);
        bystander.still_works().await;
        bystander
    }

    /// Appends, is acknowledged, reads it back.
    pub async fn still_works(&mut self) {
        let body = format!("the bystander's record {}", self.next);
        self.appends.send(input([&body]));
        assert_eq!(self.appends.expect_acked().await, (self.next, self.next + 1));
        assert_eq!(self.follows.expect_records(1).await, [(self.next, body.into())]);
        self.next += 1;
    }
}

/// A gateway with the basin and these streams, a connection to it, and a bystander.
pub async fn gateway_with(streams: &[&str]) -> (Gateway, Peer, Bystander) {
    let gateway = Gateway::start().await;
    let bystander = Bystander::open(&gateway).await;
    let mut peer = Peer::connect(&gateway).await;
    peer.provision(streams).await;
    (gateway, peer, bystander)
}

/// The segment of a path that names `stream`.
pub fn segment(stream: &str) -> String {
    utf8_percent_encode(stream, NON_ALPHANUMERIC).to_string()
}

pub fn stream_path(stream: &str) -> String {
    format!("/v1/streams/{}", segment(stream))
}

pub fn records_path(stream: &str) -> String {
    format!("{}/records", stream_path(stream))
}

/// A request that names the basin.
pub fn basin_request(method: &str, path: &str) -> request::Builder {
    any_request(method, path).header("s2-basin", BASIN)
}

pub fn any_request(method: &str, path: &str) -> request::Builder {
    Request::builder().method(method).uri(format!("http://localhost{path}"))
}

/// A request for a session.
pub fn session_request(method: &str, path: &str) -> Request<()> {
    basin_request(method, path).header(header::CONTENT_TYPE, "s2s/proto").body(()).unwrap()
}

pub fn with_headers<B>(mut request: Request<B>, headers: &[(&str, &str)]) -> Request<B> {
    append_headers(request.headers_mut(), headers);
    request
}

fn append_headers(map: &mut HeaderMap, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        map.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
}

/// The frame of an append of records with these bodies.
pub fn input<B: AsRef<[u8]>>(bodies: impl IntoIterator<Item = B>) -> Bytes {
    frame(&message(bodies))
}

/// The same on a condition: the number of its first record, the token in force.
pub fn input_if<B: AsRef<[u8]>>(
    bodies: impl IntoIterator<Item = B>,
    match_seq_num: Option<u64>,
    token: Option<&str>,
) -> Bytes {
    let token = token.map(|token| FencingToken::new(token).unwrap());
    frame(&records(bodies).into_append_input(match_seq_num.map(SeqNum::new), token))
}

/// The frame of an append of this one record.
pub fn record(headers: &[(&[u8], &[u8])], body: &[u8]) -> Bytes {
    let mut records = RecordsWriter::new();
    records.push(None, headers.iter().copied(), body);
    frame(&records.into_append_input(None, None))
}

/// An `AppendInput` message.
pub fn message<B: AsRef<[u8]>>(bodies: impl IntoIterator<Item = B>) -> Bytes {
    records(bodies).into_append_input(None, None)
}

fn records<B: AsRef<[u8]>>(bodies: impl IntoIterator<Item = B>) -> RecordsWriter {
    let mut records = RecordsWriter::new();
    for body in bodies {
        records.push(None, [], body.as_ref());
    }
    records
}

/// A plain regular frame around `message`.
pub fn frame(message: &[u8]) -> Bytes {
    message_frame(Compression::None, Advice::None, message).unwrap()
}

/// A frame as the bits of its head say, true or not.
pub fn raw_frame(length: usize, flag: u8, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_uint(length as u64, 3);
    bytes.put_u8(flag);
    bytes.put_slice(body);
    bytes.freeze()
}

/// A frame with this flag around `body`, its length right.
pub fn flagged_frame(flag: u8, body: &[u8]) -> Bytes {
    raw_frame(body.len() + 1, flag, body)
}
