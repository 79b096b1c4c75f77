//! HTTP/2 connections to one endpoint: made when needed, shared while they last, made again when they are gone.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    Awaited, ClientError, Endpoint,
    body::RequestBody,
    endpoint::Scheme,
    tls::{self, CertificateCheck},
};

/// Until TCP and TLS stand (`http.md` §9).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Until the head of a response is there (`http.md` §9).
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection over which an endpoint is talked to.
pub(super) struct Pool {
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
    current: Mutex<Option<Connection>>,
    /// Held while a connection is made: who comes meanwhile waits for that one.
    connecting: tokio::sync::Mutex<()>,
}

/// One connection, shared by whoever has a handle.
#[derive(Clone)]
pub(super) struct Connection {
    requests: SendRequest<RequestBody>,
    /// Tells this connection from others.
    identity: Arc<()>,
}

impl Pool {
    /// No connection yet.
    pub(super) fn new(endpoint: Endpoint, check: CertificateCheck) -> Result<Self, ClientError> {
        let tls = match endpoint.scheme() {
            Scheme::Http => None,
            Scheme::Https => Some(tls::connector(check).map_err(|reason| cannot_connect(&endpoint, reason))?),
        };
        Ok(Self { endpoint, tls, current: Mutex::new(None), connecting: tokio::sync::Mutex::new(()) })
    }

    /// A connection that was not known to be gone a moment ago.
    pub(super) async fn connection(&self) -> Result<Connection, ClientError> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let connection = match timeout(CONNECT_TIMEOUT, self.connect()).await {
            Ok(connected) => connected.map_err(|error| cannot_connect(&self.endpoint, error))?,
            Err(_) => return Err(cannot_connect(&self.endpoint, "it took more than 3 s")),
        };
        *self.current() = Some(connection.clone());
        Ok(connection)
    }

    /// Opens no further requests on `connection`; those under way go on.
    pub(super) fn retire(&self, connection: &Connection) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|pooled| Arc::ptr_eq(&pooled.identity, &connection.identity)) {
            *current = None;
        }
    }

    fn usable(&self) -> Option<Connection> {
        self.current().as_ref().filter(|connection| !connection.requests.is_closed()).cloned()
    }

    fn current(&self) -> MutexGuard<'_, Option<Connection>> {
        // Nothing panics while it is held.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> io::Result<Connection> {
        let tcp = TcpStream::connect((self.endpoint.host(), self.endpoint.port())).await?;
        // Acks and appends are small and each is waited for.
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => handshake(tcp).await,
            Some(tls) => {
                let name = ServerName::try_from(self.endpoint.host().to_owned()).map_err(io::Error::other)?;
                let stream = tls.connect(name, tcp).await?;
                match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => handshake(stream).await,
                    _ => Err(io::Error::other("the server does not speak HTTP/2 over TLS")),
                }
            }
        }
    }
}

impl Connection {
    /// Sends `request` and waits for the head of the response, for at most `patience`.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        patience: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let response = async {
            self.requests.ready().await.map_err(|_| ClientError::NotSent)?;
            self.requests.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                Some(_) => ClientError::NotSent,
                None => lost(error.error()),
            })
        };
        match timeout(patience, response).await {
            Ok(response) => response,
            Err(_) => Err(ClientError::TimedOut { awaited: Awaited::Response, after: patience }),
        }
    }
}

/// A failure after the request left.
pub(super) fn lost(error: &hyper::Error) -> ClientError {
    use std::error::Error;
    match error.source() {
        Some(source) => ClientError::Lost(format!("{error}: {source}")),
        None => ClientError::Lost(error.to_string()),
    }
}

fn cannot_connect(endpoint: &Endpoint, reason: impl ToString) -> ClientError {
    ClientError::Connect { origin: endpoint.origin(), reason: reason.to_string() }
}

async fn handshake(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<Connection> {
    const MIB: u32 = 1024 * 1024;
    let (requests, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Room for a whole batch on its way while the one before it is being read, and for several sessions at once.
        .initial_stream_window_size(2 * MIB)
        .initial_connection_window_size(16 * MIB)
        // Fewer, larger DATA frames; batches are up to 1 MiB.
        .max_frame_size(128 * 1024)
        // How much of what sessions hand over may wait in the connection itself.
        .max_send_buf_size(2 * MIB as usize)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Ok(Connection { requests, identity: Arc::new(()) })
}
