//! The settings of connections, as data in one place, and why they are so.

use std::time::Duration;

/// What the gateway tells HTTP/2 peers, and what it bears from them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Http2 {
    /// Unread bytes that a peer may send on one stream. A session is read as fast as its batches are admitted, so this
    /// is what is on the way: two full batches, or a fast link's round trip.
    pub(super) stream_window: u32,
    /// Unread bytes that a peer may send on one connection, over all its streams. h2 also derives from it how many small
    /// DATA frames may lie unread before it takes them for an attack: half of it at 256 bytes a frame, less its payload.
    /// One wake-up of a connection can bring all that lay in the socket before any session gets to read, so this is what
    /// a burst of 65,000 frames of one byte takes.
    pub(super) connection_window: u32,
    /// The largest DATA frame: a 1 MiB batch comes in four, and a reader of many small ones is not held up by it.
    pub(super) max_frame_size: u32,
    /// Sessions and requests at the same time on one connection. Clients open another connection at 90 to 100.
    pub(super) max_concurrent_streams: u32,
    /// A stream's name may take 1.5 KiB percent-encoded, a configuration header some hundred bytes.
    pub(super) max_header_list_size: u32,
    /// Bytes of a response that h2 may hold for one stream that does not take them.
    pub(super) max_send_buffer: usize,
    /// PING after this time without a frame: a reader that vanished is found out even if its stream is silent.
    pub(super) ping_interval: Duration,
    /// A PING not answered for so long ends the connection.
    pub(super) ping_timeout: Duration,
}

/// As the gateway serves.
pub(super) const HTTP2: Http2 = Http2 {
    stream_window: 2 * 1024 * 1024,
    connection_window: 32 * 1024 * 1024,
    max_frame_size: 256 * 1024,
    max_concurrent_streams: 1_000,
    max_header_list_size: 32 * 1024,
    max_send_buffer: 1024 * 1024,
    ping_interval: Duration::from_secs(30),
    ping_timeout: Duration::from_secs(20),
};

/// How a peer is asked for that says nothing and is told nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpKeepalive {
    /// Silence before the first question. HTTP/2 asks sooner, by PING.
    pub(super) idle: Duration,
    /// Time between two questions.
    pub(super) interval: Duration,
    /// Questions without an answer that end the connection.
    pub(super) probes: u32,
}

/// A peer that vanished is found out within two minutes.
pub(super) const TCP_KEEPALIVE: TcpKeepalive =
    TcpKeepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(15), probes: 4 };

/// Time for a client to say which version it speaks, and for one of HTTP/1.1 to send its request's head.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes that a connection of HTTP/1.1 keeps of a head that is not complete, or of a body that is not taken. There may be
/// many connections that nobody has said anything about yet, and a head is no longer than with HTTP/2.
pub(super) const HTTP1_MAX_BUFFER: usize = 64 * 1024;

/// Time for a TLS handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections at the same time; more wait to be accepted.
pub(super) const MAX_CONNECTIONS: usize = 16 * 1024;
