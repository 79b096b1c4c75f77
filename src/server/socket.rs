//! What the system is told about the socket of a connection. Knows nothing of what is spoken over it.

use std::io;

use rustix::net::sockopt;
use tokio::net::TcpStream;

use super::http2::TCP_KEEPALIVE;

/// Makes a socket that was accepted ready to be served. Fails if its peer is gone already.
pub(super) fn prepare(socket: &TcpStream) -> io::Result<()> {
    // Acks are small and must not wait for company.
    socket.set_nodelay(true)?;
    // A peer that vanished without a word is found out also where nothing is sent to it: HTTP/1.1 has no PING.
    sockopt::set_tcp_keepidle(socket, TCP_KEEPALIVE.idle)?;
    sockopt::set_tcp_keepintvl(socket, TCP_KEEPALIVE.interval)?;
    sockopt::set_tcp_keepcnt(socket, TCP_KEEPALIVE.probes)?;
    sockopt::set_socket_keepalive(socket, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_vanishes_is_asked_for() {
        // s2s.md §6.5
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        assert!(!sockopt::socket_keepalive(&socket).unwrap());
        prepare(&socket).unwrap();
        assert!(sockopt::socket_keepalive(&socket).unwrap() && socket.nodelay().unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), TCP_KEEPALIVE.idle);
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), TCP_KEEPALIVE.interval);
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), TCP_KEEPALIVE.probes);
    }
}
