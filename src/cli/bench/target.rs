//! What a bench is run against: a server somewhere, or a gateway in this process; and the basin and streams that it works
//! in, made before and removed after.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle};

use super::tasks::{SOME, concurrently};
use crate::{
    auth::AuthConfig,
    cli::{
        CliError, client,
        store::{open_store, servers},
    },
    client::{Client, Ensured, RetryPolicy, StreamPath},
    clock::SystemClock,
    config::{BenchConfig, EndpointArgs, EndpointConfig, StoreConfig},
    server::{Cors, Server, ServerConfig},
    streams::{Streams, StreamsConfig},
    telemetry::Telemetry,
    types::{BasinConfig, BasinName, Cipher, LocationName, MemoryShares, StreamName, StreamNamePart},
    wire::params::ListRequest,
};

/// A server that can be measured.
pub(super) struct Target {
    endpoint: EndpointConfig,
    in_process: Option<InProcess>,
    description: String,
}

/// A gateway of our own.
struct InProcess {
    told_to_stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// A directory for a store, removed when this is dropped.
pub(super) struct TemporaryDirectory(PathBuf);

/// The streams of a run.
pub(super) struct Stage {
    control: Client,
    basin: BasinName,
    /// What the names of the streams begin with.
    run: String,
    made_basin: Ensured,
    /// What its records are encrypted with.
    cipher: Option<Cipher>,
    pub(super) streams: Vec<StreamPath>,
}

impl Target {
    /// A server that is there.
    pub(super) fn server(endpoint: &EndpointConfig) -> Self {
        Self { endpoint: endpoint.clone(), in_process: None, description: endpoint.endpoint.origin() }
    }

    /// Starts one over the store that `config` describes.
    pub(super) async fn in_process(config: &StoreConfig) -> Result<Self, CliError> {
        let start = |error: &dyn std::fmt::Display| CliError::Start(error.to_string());
        let store = open_store(config, MemoryShares::default()).await?;
        let streams = Streams::new(store, Arc::new(SystemClock), StreamsConfig::default());
        let server =
            Server::bind(server_config(), streams, Arc::new(Telemetry::new())).await.map_err(|error| start(&error))?;
        let args = EndpointArgs { addr: format!("http://{}", server.address()), token: None, insecure: false };
        let (told_to_stop, stop) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let stopped = server.run(async { drop(stop.await) }).await;
            if let Err(error) = stopped {
                tracing::warn!(%error, "the gateway of this bench did not stop well");
            }
        });
        let kept = match config {
            StoreConfig::Memory(_) => "memory".into(),
            StoreConfig::Disk(directory) => directory.display().to_string(),
            StoreConfig::Nats(nats) => format!("NATS, at {}", servers(nats)),
        };
        Ok(Self {
            endpoint: args.resolve()?,
            in_process: Some(InProcess { told_to_stop, serving }),
            description: format!("a gateway in this process ({kept})"),
        })
    }

    /// In words.
    pub(super) fn description(&self) -> &str {
        &self.description
    }

    /// Whether the server is this process.
    pub(super) fn is_in_process(&self) -> bool {
        self.in_process.is_some()
    }

    /// A client with a connection of its own.
    pub(super) fn client(&self, retry: RetryPolicy) -> Result<Client, CliError> {
        client(&self.endpoint, retry)
    }

    /// Ends what was started.
    pub(super) async fn stop(self) {
        let Some(InProcess { told_to_stop, serving }) = self.in_process else { return };
        let _ = told_to_stop.send(());
        let _ = serving.await;
    }
}

impl Default for TemporaryDirectory {
    /// A name that nothing has yet.
    fn default() -> Self {
        Self(std::env::temp_dir().join(format!("s2s-gateway-bench-{:08x}", rand::random::<u32>())))
    }
}

impl TemporaryDirectory {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.0) {
            // The store may have failed before it made it.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                crate::cli::say(format_args!("s2s-gateway: cannot remove {}: {error}", self.0.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn server_config() -> ServerConfig {
    ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        tls: None,
        drain_timeout: Duration::from_secs(2),
        basin_host: None,
        cors: Cors::default(),
        auth: AuthConfig::Off,
        location: LocationName::default(),
    }
}

impl Stage {
    /// Without streams yet, in the basin that `config` names, which is made if it is missing, or in one of a random
    /// name. A basin that is to have a cipher must not be there.
    pub(super) async fn open(target: &Target, config: &BenchConfig) -> Result<Self, CliError> {
        let control = target.client(RetryPolicy::default())?;
        let run = format!("bench-{:08x}", rand::random::<u32>());
        let basin = config.basin.clone().unwrap_or_else(|| name(BasinName::new(&run)));
        let made_basin = match config.cipher {
            None => control.ensure_basin(&basin).await?,
            stream_cipher => {
                control.create_basin(&basin, &BasinConfig { stream_cipher, ..BasinConfig::default() }).await?;
                Ensured::Created
            }
        };
        Ok(Self { control, basin, run, made_basin, cipher: None, streams: Vec::new() })
    }

    /// Makes `count` streams.
    pub(super) async fn set(&mut self, count: usize) -> Result<(), CliError> {
        let stream = |i| name(StreamName::new(&format!("{}/{i}", self.run)));
        self.streams = (0..count).map(|i| StreamPath { basin: self.basin.clone(), stream: stream(i) }).collect();
        let made = concurrently(SOME, self.streams.clone(), |stream| {
            let control = self.control.clone();
            async move { control.ensure_stream(&stream).await }
        });
        made.await.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.cipher = self.look_up_cipher().await;
        Ok(())
    }

    /// What records of the streams are encrypted with. Whoever may not list streams does not learn it, and without a key
    /// sees appends refused.
    async fn look_up_cipher(&self) -> Option<Cipher> {
        let first = StreamNamePart::from(self.streams.first()?.stream.clone());
        let request = ListRequest { prefix: first, start_after: StreamNamePart::default(), limit: 1 };
        self.control.list_streams(&self.basin, &request).await.ok()?.entries.first()?.cipher
    }

    /// The cipher of the streams, as far as that is known.
    pub(super) fn cipher(&self) -> Option<Cipher> {
        self.cipher
    }

    /// In which basin.
    pub(super) fn basin(&self) -> &BasinName {
        &self.basin
    }

    /// Removes what was made.
    pub(super) async fn strike(self) -> Result<(), CliError> {
        if self.made_basin == Ensured::Created {
            return Ok(self.control.delete_basin(&self.basin).await?);
        }
        let deleted = concurrently(SOME, self.streams, |stream| {
            let control = self.control.clone();
            async move { control.delete_stream(&stream).await }
        });
        Ok(deleted.await.into_iter().collect::<Result<_, _>>()?)
    }
}

fn name<T>(name: Result<T, crate::types::NameError>) -> T {
    name.expect("lower case letters, digits and a hyphen, and not too many of them")
}
