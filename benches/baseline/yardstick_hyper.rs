//! The yardstick on hyper: one task and one channel a session, the front end before any work.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::mpsc};

use crate::yardstick::{
    CONNECTION_WINDOW, MAX_FRAME_SIZE, MAX_SEND_BUFFER, MAX_STREAMS, STREAM_WINDOW, Splitter, Stream, Streams,
    is_bounded,
};

/// Chunks between the task and the body.
const CHANNEL: usize = 16;

pub(crate) async fn connection(socket: TcpStream, streams: Arc<Streams>) {
    let service = service_fn(move |request| {
        let answer = answer(request, &streams);
        async { Ok::<_, Infallible>(answer) }
    });
    let served = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME_SIZE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    // The load hangs up when it has seen enough.
    drop(served);
}

fn answer(request: Request<Incoming>, streams: &Arc<Streams>) -> Response<Receiving> {
    let stream = streams.at(request.uri().path());
    let (chunks, receiving) = mpsc::channel(CHANNEL);
    match *request.method() {
        Method::POST => drop(tokio::spawn(append(request.into_body(), chunks, stream, streams.clone()))),
        Method::GET => drop(tokio::spawn(read(chunks, stream, is_bounded(request.uri().query())))),
        _ => {}
    }
    Response::new(Receiving(receiving))
}

async fn append(mut body: Incoming, chunks: mpsc::Sender<Bytes>, stream: Arc<Stream>, streams: Arc<Streams>) {
    let mut splitter = Splitter::default();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(chunk) = frame.into_data() else { continue };
        splitter.push(&chunk);
        let kept = stream.keep(&mut splitter);
        if kept > 0 && chunks.send(streams.acks.of(kept)).await.is_err() {
            return;
        }
    }
}

async fn read(chunks: mpsc::Sender<Bytes>, stream: Arc<Stream>, bounded: bool) {
    let (mut next, mut len) = (0, stream.watch());
    loop {
        let until = *len.borrow_and_update();
        while next < until {
            let frames = stream.some_from(next);
            next += frames.len();
            for frame in frames {
                if chunks.send(frame).await.is_err() {
                    return;
                }
            }
        }
        if bounded || len.changed().await.is_err() {
            return;
        }
    }
}

struct Receiving(mpsc::Receiver<Bytes>);

impl Body for Receiving {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
