//! Stands before a gateway and does wrong to the records of one batch of one read session. Everything else passes.

use std::{
    net::SocketAddr,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use s2s_gateway::{
    types::Compression,
    wire::{Frame, FrameBuffer, decode_read_batch, message_frame},
};
use tokio::net::{TcpListener, TcpStream};

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A batch ends before its last record.
    Lose,
    /// A record is missing from the middle of a batch.
    Gap,
    /// A record has the body of the one before it.
    Double,
    /// Two records have each other's bodies.
    Swap,
    /// A byte of a body is another.
    Damage,
}

pub struct Meddler {
    pub address: SocketAddr,
}

impl Meddler {
    pub async fn before(gateway: SocketAddr, fault: Fault) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let fault = Arc::new(Mutex::new(Some(fault)));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass_on(client, gateway, fault.clone()));
            }
        });
        Self { address }
    }
}

/// What is still to be done wrong.
type ToDo = Arc<Mutex<Option<Fault>>>;

async fn pass_on(client: TcpStream, gateway: SocketAddr, fault: ToDo) {
    let server = TokioIo::new(TcpStream::connect(gateway).await.unwrap());
    let (requests, connection) = http2::handshake(TokioExecutor::new(), server).await.unwrap();
    tokio::spawn(connection);
    let service = service_fn(move |request| meddled(requests.clone(), request, fault.clone()));
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // It ends with its client.
    let _ = serving.serve_connection(TokioIo::new(client), service).await;
}

async fn meddled(
    mut requests: SendRequest<Incoming>,
    request: Request<Incoming>,
    fault: ToDo,
) -> Result<Response<Answer>, hyper::Error> {
    let is_read = request.method() == Method::GET && request.uri().path().ends_with("/records");
    let response = requests.send_request(request).await?;
    Ok(response.map(|body| match is_read {
        true => Answer::Meddled { body, frames: FrameBuffer::new(), fault },
        false => Answer::Passed(body),
    }))
}

enum Answer {
    Passed(Incoming),
    Meddled { body: Incoming, frames: FrameBuffer, fault: ToDo },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, hyper::Error>>> {
        let (body, frames, fault) = match &mut *self {
            Self::Passed(body) => return Pin::new(body).poll_frame(cx),
            Self::Meddled { body, frames, fault } => (body, frames, fault),
        };
        loop {
            if let Some(frame) = frames.next_frame().unwrap() {
                let Frame::Message { compression: Compression::None, advice, body } = frame else {
                    panic!("what is not compressed, and goes well")
                };
                let mut fault = fault.lock().unwrap();
                let message = fault.and_then(|fault| meddle(&body, fault)).inspect(|_| *fault = None);
                let frame = message_frame(Compression::None, advice, &message.unwrap_or(body)).unwrap();
                return Poll::Ready(Some(Ok(http_body::Frame::data(frame))));
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => frame.into_data().into_iter().for_each(|data| frames.push(data)),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// The message with `fault` in it, if it has enough records for that.
fn meddle(message: &Bytes, fault: Fault) -> Option<Bytes> {
    let batch = decode_read_batch(message.clone()).unwrap();
    let bodies: Vec<_> = batch.records.iter().map(|record| place(&record.body, message)).collect();
    let [.., before, last] = &bodies[..] else { return None };
    let mut bytes = message.to_vec();
    match fault {
        // A record ends with its body, so this is all of it.
        Fault::Lose => drop(bytes.drain(before.end..last.end)),
        Fault::Gap => drop(bytes.drain(bodies.get(bodies.len() - 3)?.end..before.end)),
        Fault::Double => bytes.copy_within(before.clone(), last.start),
        Fault::Swap => {
            bytes.copy_within(before.clone(), last.start);
            bytes[before.clone()].copy_from_slice(&message[last.clone()]);
        }
        Fault::Damage => bytes[last.end - 1] ^= 1,
    }
    Some(bytes.into())
}

fn place(part: &Bytes, whole: &Bytes) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}
