//! Connections: accepted, served, drained. Knows no route.
//!
//! ```text
//! accept ─► (TLS) ─► preface or request line? ─► HTTP/2 or HTTP/1.1 ─► Gateway::answer
//!
//! told to stop:  close the socket ─► GOAWAY to every connection, advice on every frame
//!   deadline:    end the sessions that are left ─► a moment for their last frames ─► close the store
//! ```

use std::{future::poll_fn, io, net::SocketAddr, pin::pin, sync::Arc, task::Poll, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    BasinHost, Certificate, Cors, Gateway, TlsError,
    drain::{Drain, Phase},
    gather::gather,
    http2::{HEAD_TIMEOUT, HTTP1_MAX_BUFFER, HTTP2, MAX_CONNECTIONS},
    opening::Opening,
    page_cache::PageCache,
    socket, tls,
};
use crate::{
    auth::{AuthConfig, Authority},
    store::StoreError,
    streams::Streams,
    telemetry::Telemetry,
    types::{ConnectionId, LocationName},
};

/// Time for the last frames of sessions that were ended to leave, after the deadline.
const LAST_FRAMES: Duration = Duration::from_secs(2);

/// Pause after a failed accept: such failures (no file descriptors left) last a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How the gateway is to be served.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The certificate, if it is to be TLS.
    pub tls: Option<Certificate>,
    /// How long sessions may go on after the gateway was told to stop.
    pub drain_timeout: Duration,
    /// Hosts that name a basin.
    pub basin_host: Option<BasinHost>,
    /// Whether pages of other origins may use the API.
    pub cors: Cors,
    /// Whether it matters who asks.
    pub auth: AuthConfig,
    /// The one place where basins live, as clients see it.
    pub location: LocationName,
}

/// Why the gateway does not serve.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The certificate is no good.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        reason: io::Error,
    },
}

/// A gateway that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    drain_timeout: Duration,
    gateway: Arc<Gateway>,
}

impl Server {
    /// Opens the port. Connections are taken from then on, and served as soon as [`Server::run`] does.
    pub async fn bind(
        config: ServerConfig,
        streams: Arc<Streams>,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self, BindError> {
        let ServerConfig { listen, tls, drain_timeout, basin_host, cors, auth, location } = config;
        let tls = tls.as_ref().map(tls::acceptor).transpose()?;
        let unusable = |reason| BindError::Listen { address: listen, reason };
        let listener = TcpListener::bind(listen).await.map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        telemetry.show_commits(streams.commit_latency());
        let authority = Authority::new(streams.store().clone(), streams.clock().clone(), &auth);
        let drain = Arc::new(Drain::default());
        let pages = Arc::new(PageCache::new(streams.memory_shares().pages));
        let gateway = Arc::new(Gateway { streams, authority, telemetry, drain, pages, basin_host, cors, location });
        Ok(Self { listener, address, tls, drain_timeout, gateway })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is ready, then drains, and closes the service's store.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), StoreError> {
        let Self { listener, tls, drain_timeout, gateway, .. } = self;
        let mut connections = JoinSet::new();
        let mut numbers = 0..;
        let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = accept(&listener, &limit) => accepted,
            };
            match accepted {
                Ok((socket, permit)) => {
                    let connection = ConnectionId::new(numbers.next().unwrap_or_default());
                    let served = serve(socket, connection, tls.clone(), gateway.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        drain(&gateway, &mut connections, drain_timeout).await;
        gateway.streams.close().await
    }
}

async fn accept(
    listener: &TcpListener,
    limit: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = limit.clone().acquire_owned().await.expect("the limit is never closed");
    let (socket, _peer) = listener.accept().await?;
    Ok((socket, permit))
}

async fn drain(gateway: &Gateway, connections: &mut JoinSet<()>, drain_timeout: Duration) {
    tracing::info!(connections = connections.len(), ?drain_timeout, "draining");
    gateway.drain.advise();
    let all_gone = async |connections: &mut JoinSet<()>| while connections.join_next().await.is_some() {};
    if tokio::time::timeout(drain_timeout, all_gone(connections)).await.is_ok() {
        return;
    }
    tracing::info!(connections = connections.len(), "ending the sessions that are left");
    gateway.drain.end();
    if tokio::time::timeout(LAST_FRAMES, all_gone(connections)).await.is_err() {
        connections.shutdown().await;
    }
}

async fn serve(socket: TcpStream, connection: ConnectionId, tls: Option<TlsAcceptor>, gateway: Arc<Gateway>) {
    let _open = gateway.telemetry.connection();
    let served = async {
        socket::prepare(&socket)?;
        match tls {
            None => serve_http(socket, connection, gateway).await,
            Some(acceptor) => serve_http(tls::accept(&acceptor, socket).await?, connection, gateway).await,
        }
    };
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn serve_http(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    id: ConnectionId,
    gateway: Arc<Gateway>,
) -> Result<(), BoxError> {
    let mut stop = gateway.drain.watch_beginning();
    let service = service_fn(move |mut request| {
        request.extensions_mut().insert(id);
        // The task of a session would otherwise keep room for the answering, some kilobytes, for as long as it lives.
        Box::pin(gateway.clone().answer(request))
    });
    let builder = connection_builder();
    let (io, mut gathered) = gather(Opening::within(HEAD_TIMEOUT, io));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut is_told = false;
    let served = poll_fn(|cx| {
        if !is_told && stop.poll(cx) > Phase::Serving {
            is_told = true;
            connection.as_mut().graceful_shutdown();
        }
        // Each poll is followed by a write of what it gathered.
        match connection.as_mut().poll(cx) {
            Poll::Ready(served) => Poll::Ready(served),
            Poll::Pending => match gathered.poll_write_out(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            },
        }
    });
    let served = served.await;
    // The reason of its end, as far as the socket takes it: a peer that is gone is not waited for.
    let _ = poll_fn(|cx| Poll::Ready(gathered.poll_finish(cx))).await;
    served
}

fn connection_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HTTP1_MAX_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2.stream_window)
        .initial_connection_window_size(HTTP2.connection_window)
        .max_frame_size(HTTP2.max_frame_size)
        .max_concurrent_streams(HTTP2.max_concurrent_streams)
        .max_header_list_size(HTTP2.max_header_list_size)
        .max_send_buf_size(HTTP2.max_send_buffer)
        .keep_alive_interval(HTTP2.ping_interval)
        .keep_alive_timeout(HTTP2.ping_timeout);
    builder
}
