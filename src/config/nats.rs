//! What is said of NATS, to whoever runs a gateway.

use std::path::PathBuf;

use super::ConfigError;
use crate::store::{NatsConfig, SyncCheck};

/// What was said of NATS.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct NatsArgs {
    /// Keep everything in NATS JetStream, together with other gateways: addresses of servers, such as nats://10.0.0.1:4222
    #[arg(long = "nats", value_name = "URL", value_delimiter = ',')]
    servers: Vec<String>,

    /// With --nats: file with the credentials of a user
    #[arg(long = "nats-credentials", value_name = "FILE")]
    credentials: Option<PathBuf>,

    /// With --nats: use TLS, and check the servers against the certificates in this file (PEM)
    #[arg(long = "nats-ca", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// With --nats: what names in it begin with, so that several stores can share it [default: s2s]
    #[arg(long = "nats-prefix", value_name = "NAME")]
    prefix: Option<String>,

    /// With --nats, at its first start: streams of JetStream to spread over, for good [default: 8]
    #[arg(long = "nats-shards", value_name = "COUNT")]
    shards: Option<u64>,

    /// With --nats, at its first start: servers that keep every record: 1, 3 or 5 [default: 3]
    #[arg(long = "nats-replicas", value_name = "COUNT")]
    replicas: Option<usize>,

    /// With --nats: the servers' monitoring, asked at start whether they sync [default: port 8222 of each --nats]
    #[arg(long = "nats-monitor", value_name = "URL", value_delimiter = ',')]
    monitors: Vec<String>,

    /// With --nats: do not ask whether the servers sync before they acknowledge (sync_interval: always)
    #[arg(long = "nats-assume-synced")]
    assume_synced: bool,
}

impl NatsArgs {
    /// What this means; nothing if NATS is not to be used.
    pub(super) fn resolve(&self) -> Result<Option<NatsConfig>, ConfigError> {
        if self.servers.is_empty() {
            return self.said().map_or(Ok(None), |flag| Err(ConfigError::alone(flag, "needs --nats as well")));
        }
        Ok(Some(NatsConfig {
            servers: self.servers.clone(),
            credentials: self.credentials.clone(),
            ca: self.ca.clone(),
            prefix: self.prefix()?,
            shards: self.shards()?,
            replicas: self.replicas()?,
            sync: self.sync()?,
        }))
    }

    /// A flag that was said and means nothing without `--nats`.
    fn said(&self) -> Option<&'static str> {
        let said = [
            ("--nats-credentials", self.credentials.is_some()),
            ("--nats-ca", self.ca.is_some()),
            ("--nats-prefix", self.prefix.is_some()),
            ("--nats-shards", self.shards.is_some()),
            ("--nats-replicas", self.replicas.is_some()),
            ("--nats-monitor", !self.monitors.is_empty()),
            ("--nats-assume-synced", self.assume_synced),
        ];
        said.into_iter().find_map(|(flag, said)| said.then_some(flag))
    }

    fn prefix(&self) -> Result<String, ConfigError> {
        const DEFAULT: &str = "s2s";
        let prefix = self.prefix.as_deref().unwrap_or(DEFAULT);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match (1..=64).contains(&prefix.len()) && prefix.bytes().all(fits) {
            true => Ok(prefix.into()),
            false => Err(ConfigError::of("--nats-prefix", prefix, "expected letters, digits, - and _, at most 64")),
        }
    }

    fn shards(&self) -> Result<Option<u64>, ConfigError> {
        match self.shards {
            Some(shards) if !(1..=256).contains(&shards) => {
                Err(ConfigError::of("--nats-shards", &shards.to_string(), "expected 1 to 256"))
            }
            shards => Ok(shards),
        }
    }

    fn replicas(&self) -> Result<Option<usize>, ConfigError> {
        match self.replicas {
            Some(replicas) if !matches!(replicas, 1 | 3 | 5) => {
                let rule = "expected 1, 3 or 5: of an even number one more must be there for a majority";
                Err(ConfigError::of("--nats-replicas", &replicas.to_string(), rule))
            }
            replicas => Ok(replicas),
        }
    }

    fn sync(&self) -> Result<SyncCheck, ConfigError> {
        match (self.assume_synced, self.monitors.is_empty()) {
            (true, false) => Err(ConfigError::alone("--nats-assume-synced", "cannot be used with --nats-monitor")),
            (true, true) => Ok(SyncCheck::Assume),
            (false, _) => Ok(SyncCheck::Ask(self.monitors.clone())),
        }
    }
}
