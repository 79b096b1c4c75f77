//! HTTP/1.1 by hand: one connection on which request and response bodies go at the same time, in chunks.

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::peer::within;

pub struct Http1<S> {
    io: S,
    read: BytesMut,
}

/// Status line and header fields; names in lower case.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub fields: HashMap<String, String>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1<S> {
    pub fn over(io: S) -> Self {
        Self { io, read: BytesMut::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        within(self.io.write_all(bytes)).await.unwrap();
        within(self.io.flush()).await.unwrap();
    }

    /// The head of a request; `fields` without the host.
    pub async fn send_head(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes()).await;
    }

    pub async fn send_chunk(&mut self, bytes: &[u8]) {
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.send(&chunk).await;
    }

    pub async fn send_last_chunk(&mut self) {
        self.send(b"0\r\n\r\n").await;
    }

    pub async fn head(&mut self) -> Head {
        let line = self.line().await;
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut fields = HashMap::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(':') else { break };
            fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        Head { status, fields }
    }

    /// The next chunk; none after the last.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        let len = usize::from_str_radix(&self.line().await, 16).unwrap();
        let chunk = self.exactly(len).await;
        assert_eq!(self.line().await, "", "a chunk ends with its line");
        (len > 0).then_some(chunk)
    }

    /// A response with a length, whole.
    pub async fn response(&mut self) -> (Head, Bytes) {
        let head = self.head().await;
        let len = head.fields["content-length"].parse().unwrap();
        let body = self.exactly(len).await;
        (head, body)
    }

    /// Waits until the server closes the connection, and gives what it said before.
    pub async fn closed(mut self) -> BytesMut {
        while let Ok(1..) = within(self.io.read_buf(&mut self.read)).await {}
        self.read
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.read.split_to(end);
                self.read.advance(2);
                return String::from_utf8(line.to_vec()).unwrap();
            }
            self.more().await;
        }
    }

    async fn exactly(&mut self, len: usize) -> Bytes {
        while self.read.len() < len {
            self.more().await;
        }
        self.read.split_to(len).freeze()
    }

    async fn more(&mut self) {
        let read = within(self.io.read_buf(&mut self.read)).await.unwrap();
        assert!(read > 0, "the connection ended in the middle of a response, after {:?}", self.read);
    }
}
