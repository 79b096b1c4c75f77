//! A server that says what a test tells it to: an HTTP/2 peer on a loopback port, one connection and one request at a
//! time, with frames made by `wire`.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{Request, Response};
use s2s_gateway::{
    client::{Client, ClientConfig, RetryPolicy},
    types::{ApiError, AppendAck, AppendInput, Position},
    wire::{self, Advice, Frame, FrameBuffer, encode_append_ack, error_json, message_frame, terminal_frame},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

pub struct Peer {
    listener: TcpListener,
}

impl Peer {
    pub async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A client of this peer that tries three times.
    pub fn client(&self) -> Client {
        self.client_with(RetryPolicy::default())
    }

    pub fn client_with(&self, retry: RetryPolicy) -> Client {
        let endpoint = format!("http://{}", self.address()).parse().unwrap();
        Client::new(ClientConfig { retry, ..ClientConfig::new(endpoint) }).unwrap()
    }

    /// The next connection that the client makes.
    pub async fn connection(&self) -> Connection {
        let (tcp, _) = self.listener.accept().await.unwrap();
        let (exchanges, received) = mpsc::unbounded_channel();
        let (orders, ordered) = mpsc::unbounded_channel();
        tokio::spawn(drive(tcp, exchanges, ordered));
        Connection { received, orders }
    }

    /// The next request, over a new connection.
    pub async fn request(&self) -> (Connection, Exchange) {
        let mut connection = self.connection().await;
        let exchange = connection.request().await;
        (connection, exchange)
    }

    /// The next session, over a new connection.
    pub async fn session(&self) -> (Connection, Session) {
        let (connection, exchange) = self.request().await;
        (connection, exchange.accept())
    }
}

enum Order {
    GoAway,
    Drop,
}

async fn drive(tcp: TcpStream, exchanges: mpsc::UnboundedSender<Exchange>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .handshake::<_, Bytes>(tcp)
        .await
        .unwrap();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => drop(exchanges.send(Exchange { request, respond })),
                _ => return,
            },
            Some(order) = orders.recv() => match order {
                Order::GoAway => connection.graceful_shutdown(),
                Order::Drop => return,
            },
        }
    }
}

pub struct Connection {
    received: mpsc::UnboundedReceiver<Exchange>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Connection {
    pub async fn request(&mut self) -> Exchange {
        self.received.recv().await.expect("a request over this connection")
    }

    /// Closes it as a stopping server does.
    pub fn go_away(&self) {
        self.orders.send(Order::GoAway).unwrap();
    }

    /// Closes it as a server that dies does.
    pub fn drop_dead(self) {
        self.orders.send(Order::Drop).unwrap();
    }

    /// Waits until the client has closed it.
    pub async fn closed(mut self) {
        assert!(self.received.recv().await.is_none());
    }
}

/// A request, not answered yet.
pub struct Exchange {
    pub request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

impl Exchange {
    pub fn path_and_query(&self) -> &str {
        self.request.uri().path_and_query().unwrap().as_str()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    pub fn accept(mut self) -> Session {
        let head = Response::builder().header("content-type", "s2s/proto").body(()).unwrap();
        let send = self.respond.send_response(head, false).unwrap();
        Session { body: self.request.into_body(), frames: FrameBuffer::new(), send }
    }

    pub fn answer(mut self, response: Response<impl AsRef<str>>) {
        let (head, body) = response.into_parts();
        let mut send = self.respond.send_response(Response::from_parts(head, ()), false).unwrap();
        send.send_data(Bytes::copy_from_slice(body.as_ref().as_bytes()), true).unwrap();
    }

    pub fn refuse(self, error: &ApiError) {
        self.refuse_with(error, &[]);
    }

    pub fn refuse_with(self, error: &ApiError, headers: &[(&str, &str)]) {
        let json = error_json(error);
        let mut response = Response::builder().status(error.status()).header("content-type", "application/json");
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        self.answer(response.body(std::str::from_utf8(&json).unwrap()).unwrap());
    }
}

/// A session as the server sees it.
pub struct Session {
    body: RecvStream,
    frames: FrameBuffer,
    send: SendStream<Bytes>,
}

impl Session {
    /// The next input; `None` when the client has half-closed.
    pub async fn input(&mut self) -> Option<AppendInput> {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                assert!(matches!(frame, Frame::Message { .. }));
                return Some(wire::append_input_of_frame(frame).unwrap());
            }
            match self.body.data().await {
                Some(data) => {
                    let data = data.unwrap();
                    self.body.flow_control().release_capacity(data.len()).unwrap();
                    self.frames.push(data);
                }
                None => return None,
            }
        }
    }

    /// The body of the first record of the next input.
    pub async fn body(&mut self) -> Option<String> {
        let input = self.input().await?;
        let first = input.batch.records().next()?;
        Some(String::from_utf8_lossy(first.fields().body()).into_owned())
    }

    pub fn frame(&mut self, frame: Bytes) {
        self.send.send_data(frame, false).unwrap();
    }

    pub fn ack(&mut self, start: u64, end: u64) {
        self.ack_with(start, end, Advice::None);
    }

    pub fn ack_with(&mut self, start: u64, end: u64, advice: Advice) {
        let ack = AppendAck { start: Position::new(start, 1), end: Position::new(end, 2), tail: Position::new(end, 2) };
        let frame = message_frame(Default::default(), advice, &encode_append_ack(&ack)).unwrap();
        self.frame(frame);
    }

    pub fn terminal(mut self, error: &ApiError) {
        self.send.send_data(terminal_frame(error), true).unwrap();
    }

    pub fn end(mut self) {
        self.send.send_data(Bytes::new(), true).unwrap();
    }

    /// Ends inside a frame, as a connection does that breaks: what was sent before arrives, unlike with a reset.
    pub fn break_off(mut self) {
        self.send.send_data(Bytes::from_static(b"\0\0"), true).unwrap();
    }

    /// Resets; what was sent and has not left is lost.
    pub fn reset(mut self, reason: Reason) {
        self.send.send_reset(reason);
    }
}

impl Session {
    /// The reason for which the client resets the session.
    pub async fn ended_by(mut self) -> Reason {
        std::future::poll_fn(|cx| self.send.poll_reset(cx)).await.unwrap()
    }
}
