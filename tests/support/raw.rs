//! HTTP/2 without a library, for what no library would send, and to see in which frames an answer comes.
//!
//! ```text
//! +-----------------+---------+----------+-------------+---------+
//! | length: 3 bytes | kind: 1 | flags: 1 | stream: 4   | payload |
//! +-----------------+---------+----------+-------------+---------+
//! ```

use bytes::{BufMut, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Gateway, peer::within};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

#[derive(Debug, PartialEq, Eq)]
pub struct RawFrame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A connection on which the preface and empty SETTINGS are sent, and the server's are acknowledged as they come.
pub struct RawPeer {
    socket: TcpStream,
}

impl RawPeer {
    pub async fn connect(gateway: &Gateway) -> Self {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut peer = Self { socket };
        peer.send(&frame(SETTINGS, 0, 0, &[])).await;
        peer
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = within(self.socket.write_all(bytes)).await {
            while let Some(frame) = self.read_frame().await {
                println!("still to be read: {frame:?}");
            }
            panic!("{error}");
        }
    }

    /// The next frame that is not about the connection's settings, windows and life; none when the server closed.
    pub async fn next_frame(&mut self) -> Option<RawFrame> {
        loop {
            let frame = self.read_frame().await?;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(&self::frame(SETTINGS, ACK, 0, &[])).await,
                PING if frame.flags & ACK == 0 => self.send(&self::frame(PING, ACK, 0, &frame.payload)).await,
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    async fn read_frame(&mut self) -> Option<RawFrame> {
        let mut head = [0; 9];
        within(self.socket.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        within(self.socket.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(RawFrame { kind: head[3], flags: head[4], stream, payload })
    }
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + payload.len());
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.put_slice(payload);
    out
}

/// A HEADERS frame that is complete, with these fields.
pub fn headers(flags: u8, stream: u32, fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = BytesMut::new();
    for (name, value) in fields {
        // A literal that is not indexed, with a name of its own, neither of them in Huffman's code.
        block.put_u8(0);
        put_text(&mut block, name.as_bytes());
        put_text(&mut block, value);
    }
    frame(HEADERS, flags | END_HEADERS, stream, &block)
}

/// Length with a prefix of seven bits (RFC 7541 §5.1), then the text.
fn put_text(block: &mut BytesMut, text: &[u8]) {
    match text.len() {
        len @ ..127 => block.put_u8(len as u8),
        len => {
            block.put_u8(127);
            let mut rest = len - 127;
            while rest >= 128 {
                block.put_u8((rest % 128) as u8 | 0x80);
                rest /= 128;
            }
            block.put_u8(rest as u8);
        }
    }
    block.put_slice(text);
}
