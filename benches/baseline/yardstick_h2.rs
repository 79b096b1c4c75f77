//! The yardstick on the `h2` crate: what HTTP/2 costs without a server framework.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    server::{Builder, SendResponse},
};
use http::{Method, Request, Response};
use tokio::net::TcpStream;

use crate::yardstick::{
    Acks, CONNECTION_WINDOW, MAX_FRAME_SIZE, MAX_SEND_BUFFER, MAX_STREAMS, STREAM_WINDOW, Splitter, Stream, Streams,
    is_bounded,
};

pub(crate) async fn connection(socket: TcpStream, streams: Arc<Streams>) {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME_SIZE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buffer_size(MAX_SEND_BUFFER);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, streams.clone()));
    }
}

/// Sessions that break off end here; nobody asks why.
async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    streams: Arc<Streams>,
) -> Result<(), h2::Error> {
    let stream = streams.at(request.uri().path());
    let response = |end| Response::new(()).map(|()| end);
    match *request.method() {
        Method::POST => {
            let sending = respond.send_response(response(()), false)?;
            append(request.into_body(), sending, &stream, &streams.acks).await
        }
        Method::GET => {
            let sending = respond.send_response(response(()), false)?;
            read(sending, &stream, is_bounded(request.uri().query())).await
        }
        _ => respond.send_response(response(()), true).map(drop),
    }
}

async fn append(
    mut body: RecvStream,
    mut sending: SendStream<Bytes>,
    stream: &Stream,
    acks: &Acks,
) -> Result<(), h2::Error> {
    let mut splitter = Splitter::default();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        splitter.push(&chunk);
        let kept = stream.keep(&mut splitter);
        if kept > 0 {
            sending.send_data(acks.of(kept), false)?;
        }
    }
    sending.send_data(Bytes::new(), true)
}

async fn read(mut sending: SendStream<Bytes>, stream: &Stream, bounded: bool) -> Result<(), h2::Error> {
    let (mut next, mut len) = (0, stream.watch());
    loop {
        let until = *len.borrow_and_update();
        while next < until {
            let frames = stream.some_from(next);
            next += frames.len();
            for frame in frames {
                send(&mut sending, frame).await?;
            }
        }
        if bounded {
            return sending.send_data(Bytes::new(), true);
        }
        if len.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn send(sending: &mut SendStream<Bytes>, mut frame: Bytes) -> Result<(), h2::Error> {
    while !frame.is_empty() {
        sending.reserve_capacity(frame.len());
        let mut capacity = sending.capacity();
        if capacity == 0 {
            let Some(granted) = poll_fn(|cx| sending.poll_capacity(cx)).await else { return Ok(()) };
            capacity = granted?;
        }
        sending.send_data(frame.split_to(capacity.min(frame.len())), false)?;
    }
    Ok(())
}
