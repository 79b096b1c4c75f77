//! Plain HTTP requests, as a browser or curl sends them, over either version.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::Gateway;

/// Which HTTP the connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

/// A response that is all there.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Sends one request on a connection of its own; the response is there when its headers are.
pub async fn send(
    gateway: &Gateway,
    version: Version,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response<Incoming> {
    let socket = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let uri = match version {
        Version::Http1 => path.to_owned(),
        Version::Http2 => format!("http://{}{path}", gateway.address),
    };
    let mut request = Request::builder().method(method).uri(uri);
    if version == Version::Http1 {
        request = request.header("host", gateway.address.to_string());
    }
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    match version {
        Version::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
        Version::Http2 => {
            let executor = TokioExecutor::new();
            let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, socket).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
    }
}

/// Sends one request and takes the whole response.
pub async fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let response = send(gateway, Version::Http1, method, path, headers, body).await;
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, text }
}

/// Takes a response apart into its server-sent events, each without the empty line that ends it.
pub struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    pub fn of(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; `None` at the end of the response, behind which nothing may be left over.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(event);
            }
            match self.body.frame().await {
                Some(frame) => self.text += str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap(),
                None => {
                    assert_eq!(self.text, "", "the last event has no empty line behind it");
                    return None;
                }
            }
        }
    }

    /// All events up to the end.
    pub async fn rest(mut self) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// Whether the response goes on although nothing more has come so far.
    pub fn is_waiting(&mut self) -> bool {
        let frame = pin!(self.body.frame());
        matches!(frame.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending) && !self.body.is_end_stream()
    }
}
