//! A gateway of the test's own: in this process, on a port that the system chose, over memory.
#![allow(dead_code, reason = "each test file uses its part of this")]

pub mod http;
pub mod http1;
pub mod keeping_store;
pub mod late_store;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod raw;
mod shared_store;
pub mod still_time;
pub mod tap;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use s2s_gateway::{
    auth::AuthConfig,
    clock::{Clock, SystemClock},
    server::{Certificate, Cors, Server, ServerConfig},
    store::{MemoryStore, Store},
    streams::{Streams, StreamsConfig},
    telemetry::Telemetry,
    types::LocationName,
};
use tokio::{sync::oneshot, task::JoinHandle};

use self::shared_store::SharedStore;

/// How a test's gateway differs from one with defaults.
pub struct Setup {
    pub memory_limit: usize,
    pub streams: StreamsConfig,
    pub server: ServerConfig,
    pub clock: Arc<dyn Clock>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            memory_limit: 256 * 1024 * 1024,
            streams: StreamsConfig::default(),
            server: ServerConfig {
                listen: ([127, 0, 0, 1], 0).into(),
                tls: None,
                drain_timeout: Duration::from_secs(10),
                basin_host: None,
                cors: Cors::default(),
                auth: AuthConfig::Off,
                location: LocationName::default(),
            },
            clock: Arc::new(SystemClock),
        }
    }
}

impl Setup {
    pub fn tls() -> Self {
        let mut setup = Self::default();
        setup.server.tls = Some(Certificate::SelfSigned);
        setup
    }

    pub fn drain_timeout(drain_timeout: Duration) -> Self {
        let mut setup = Self::default();
        setup.server.drain_timeout = drain_timeout;
        setup
    }

    pub async fn start(self) -> Gateway {
        let streams = self.service(1);
        self.serve(streams).await
    }

    /// Two gateways that serve the same streams, as if each were a process of its own over a store they share.
    pub async fn start_two(self) -> (Gateway, Gateway) {
        let streams = self.service(2);
        let second = Self { server: self.server.clone(), clock: self.clock.clone(), ..self };
        (self.serve(streams.clone()).await, second.serve(streams).await)
    }

    /// A gateway over a store that the test made.
    pub async fn start_over(self, store: Arc<dyn Store>) -> Gateway {
        let streams = Streams::new(store, self.clock.clone(), self.streams);
        self.serve(streams).await
    }

    fn service(&self, gateways: usize) -> Arc<Streams> {
        let store = SharedStore::new(MemoryStore::new(self.memory_limit), gateways);
        Streams::new(Arc::new(store), self.clock.clone(), self.streams)
    }

    async fn serve(self, streams: Arc<Streams>) -> Gateway {
        let telemetry = Arc::new(Telemetry::new());
        let server = Server::bind(self.server, streams.clone(), telemetry.clone()).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            // A test that drops its gateway stops it, too.
            server.run(async { stopped.await.unwrap_or(()) }).await.unwrap();
        });
        Gateway { address, streams, telemetry, stop: Some(stop), running }
    }
}

/// A gateway that runs until it is dropped or stopped.
pub struct Gateway {
    pub address: SocketAddr,
    pub streams: Arc<Streams>,
    pub telemetry: Arc<Telemetry>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Gateway {
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// What an operator's SIGTERM does; the drain goes on meanwhile.
    pub fn tell_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Tells it to stop and waits until it has.
    pub async fn stop(mut self) {
        self.tell_to_stop();
        self.stopped().await;
    }

    /// Whether a gateway that was told to stop has.
    pub fn has_stopped(&self) -> bool {
        self.running.is_finished()
    }

    /// Waits until a gateway that was told to stop has.
    pub async fn stopped(&mut self) {
        (&mut self.running).await.unwrap();
    }

    pub fn metric(&self, series: &str) -> f64 {
        let text = String::from_utf8(self.telemetry.render(self.streams.open_count())).unwrap();
        let line = text.lines().find(|line| line.split(' ').next() == Some(series));
        line.map_or(0.0, |line| line.split(' ').next_back().unwrap().parse().unwrap())
    }
}
