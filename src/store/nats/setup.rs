//! Connecting to the engine, and what must be there: checked, and made when it is missing.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event, ServerAddr,
    jetstream::{
        Context, ErrorCode,
        context::CreateStreamErrorKind,
        stream::{Config, DiscardPolicy, PersistenceMode, StorageType},
    },
};
use rand::Rng;
use tokio::sync::watch;

use super::{
    answers::with_source,
    checks::{self, Syncing},
    connect_error::ConnectError,
    engine::{Engine, Names, Pauses},
};

/// Streams of the engine that the subjects are spread over, unless told otherwise at the first start.
const DEFAULT_SHARDS: u64 = 8;
/// Servers that have every message, unless told otherwise at the first start.
const DEFAULT_REPLICAS: usize = 3;
/// After so long without a word from it a server is asked whether it is there; after twice that it is given up.
const PING: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Of what is written in the engine, as the engine's streams are marked with it.
const FORMAT: &str = "1";

/// Where the engine is, and how it is to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsConfig {
    /// Addresses of servers, at least one; others of the cluster are found by themselves.
    pub servers: Vec<String>,
    /// File with the credentials of a user.
    pub credentials: Option<PathBuf>,
    /// File with the certificates that those of the servers are checked against, instead of the system's; asks for TLS.
    pub ca: Option<PathBuf>,
    /// What the names of everything in the engine begin with, so that several stores can share one.
    pub prefix: String,
    /// Streams of the engine to spread over. Counts at the first start only; another number is refused later.
    pub shards: Option<u64>,
    /// Servers that have every message. Counts at the first start only; another number is refused later.
    pub replicas: Option<usize>,
    /// How it is known that the servers sync before they acknowledge.
    pub sync: SyncCheck,
}

/// How it is known that servers sync before they acknowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncCheck {
    /// Their monitoring says so, at these addresses; at port 8222 of each server if there are none.
    Ask(Vec<String>),
    /// The operator says so.
    Assume,
}

/// A connection that was checked, to an engine that has all it should.
pub(super) async fn connect(config: &NatsConfig) -> Result<(Engine, Syncing), ConnectError> {
    let (client, losses) = connect_client(config).await?;
    let server = client.server_info();
    checks::check_version(&server.version)?;
    checks::check_payload(client.max_payload())?;
    let names = |shards| Names { prefix: config.prefix.clone(), shards };
    let writer = rand::rng().next_u64();
    // To make streams takes longer than anything after that.
    let mut context = async_nats::jetstream::new(client.clone());
    context.set_timeout(Duration::from_secs(10));
    let wanted = meta_stream(config, &names(1));
    let meta = ensure(&context, wanted.clone()).await?;
    let shape = Shape::read(&meta)?;
    shape.check(config)?;
    check_keeps(&meta, &Config { num_replicas: shape.replicas, ..wanted })?;
    let syncing = match &config.sync {
        SyncCheck::Assume => Syncing::Assumed,
        SyncCheck::Ask(monitors) => {
            checks::check_syncing(&monitors_or_default(monitors, &config.servers), shape.replicas).await?;
            Syncing::Seen
        }
    };
    let names = names(shape.shards);
    for shard in 0..names.shards {
        let wanted = log_stream(&names, shard, shape.replicas);
        check_keeps(&ensure(&context, wanted.clone()).await?, &wanted)?;
    }
    Ok((Engine::new(client, losses, names, shape.replicas, writer), syncing))
}

async fn connect_client(config: &NatsConfig) -> Result<(Client, watch::Receiver<u64>), ConnectError> {
    let servers: Vec<ServerAddr> = config.servers.iter().map(|server| address(server)).collect::<Result<_, _>>()?;
    // The engine's crate takes the process' default, and a process that links two providers has none. One that was chosen
    // before stays.
    let _ = async_nats::rustls::crypto::ring::default_provider().install_default();
    let (lost, losses) = watch::channel(0u64);
    let mut options = ConnectOptions::new()
        .name("s2s-gateway")
        .ping_interval(PING)
        .reconnect_delay_callback(|attempts| {
            LONGEST_PAUSE.min(Duration::from_millis(1 << attempts.min(16)).saturating_sub(Duration::from_millis(2)))
        })
        .event_callback(move |event| {
            if matches!(event, Event::Disconnected) {
                lost.send_modify(|count| *count += 1);
            }
            async move { tracing::debug!(%event, "NATS") }
        });
    if let Some((user, password)) = user_in(&servers) {
        options = options.user_and_password(user, password);
    }
    if let Some(file) = &config.credentials {
        let unusable = |error| ConnectError::Unusable(format!("credentials in {}: {error}", file.display()));
        options = options.credentials_file(file).await.map_err(unusable)?;
    }
    if let Some(file) = &config.ca {
        // The engine's crate would not say which file is missing.
        let unusable = |error| ConnectError::Unusable(format!("certificates in {}: {error}", file.display()));
        tokio::fs::metadata(file).await.map_err(unusable)?;
        options = options.add_root_certificates(file.clone()).require_tls(true);
    }
    let client = options.connect(servers).await.map_err(|error| ConnectError::Unreachable(with_source(&error)))?;
    Ok((client, losses))
}

/// The user that an address names, for all of them: the engine's crate does not look there.
fn user_in(servers: &[ServerAddr]) -> Option<(String, String)> {
    let of = |server: &ServerAddr| Some((server.username()?.to_owned(), server.password()?.to_owned()));
    servers.iter().find_map(of)
}

fn address(server: &str) -> Result<ServerAddr, ConnectError> {
    let shown = checks::without_user(server);
    server.parse().map_err(|error| ConnectError::Unusable(format!("{shown} is no address of a NATS server: {error}")))
}

fn monitors_or_default(monitors: &[String], servers: &[String]) -> Vec<String> {
    const PORT: u16 = 8222;
    if !monitors.is_empty() {
        return monitors.to_vec();
    }
    let host = |server: &String| server.parse::<ServerAddr>().ok().map(|server| server.host().to_owned());
    servers.iter().filter_map(host).map(|host| format!("http://{host}:{PORT}")).collect()
}

/// What was chosen when the store was first opened.
struct Shape {
    shards: u64,
    replicas: usize,
}

impl Shape {
    const FORMAT: &str = "s2s-format";
    const SHARDS: &str = "s2s-shards";

    fn metadata(shards: u64) -> HashMap<String, String> {
        [(Self::FORMAT, FORMAT.to_owned()), (Self::SHARDS, shards.to_string())].map(|(k, v)| (k.to_owned(), v)).into()
    }

    /// As the meta table's stream is marked.
    fn read(meta: &Config) -> Result<Self, ConnectError> {
        let said = |key| meta.metadata.get(key).map(String::as_str);
        let foreign = || ConnectError::JetStream(format!("{} was not made by this program", meta.name));
        let shards = said(Self::SHARDS).and_then(|shards| shards.parse().ok()).filter(|&shards| shards > 0);
        match said(Self::FORMAT) {
            Some(FORMAT) => Ok(Self { shards: shards.ok_or_else(foreign)?, replicas: meta.num_replicas.max(1) }),
            Some(format) => Err(ConnectError::Shape {
                what: "as the version of its format",
                found: format.into(),
                asked: FORMAT.into(),
            }),
            None => Err(foreign()),
        }
    }

    fn check(&self, config: &NatsConfig) -> Result<(), ConnectError> {
        check_same("shards", self.shards, config.shards)?;
        check_same("replicas", self.replicas, config.replicas)
    }
}

fn check_same<T: PartialEq + ToString>(what: &'static str, found: T, asked: Option<T>) -> Result<(), ConnectError> {
    match asked {
        Some(asked) if asked != found => {
            Err(ConnectError::Shape { what, found: found.to_string(), asked: asked.to_string() })
        }
        _ => Ok(()),
    }
}

/// The bucket of the meta table, as key-value buckets are.
fn meta_stream(config: &NatsConfig, names: &Names) -> Config {
    Config {
        name: names.meta_stream(),
        subjects: vec![names.meta_subject(">")],
        max_messages_per_subject: 1,
        metadata: Shape::metadata(config.shards.unwrap_or(DEFAULT_SHARDS)),
        ..stream_of(config.replicas.unwrap_or(DEFAULT_REPLICAS))
    }
}

fn log_stream(names: &Names, shard: u64, replicas: usize) -> Config {
    Config { name: names.log_stream(shard), subjects: names.log_subjects(shard), ..stream_of(replicas) }
}

fn stream_of(replicas: usize) -> Config {
    Config {
        storage: StorageType::File,
        num_replicas: replicas,
        // What does not fit is refused; the other policy would drop what is oldest.
        discard: DiscardPolicy::New,
        allow_rollup: true,
        allow_direct: true,
        allow_message_ttl: true,
        ..Config::default()
    }
}

/// That the engine's stream, as it was `found`, keeps what it acknowledges as the `wanted` one would: someone may have
/// changed it since it was made.
fn check_keeps(found: &Config, wanted: &Config) -> Result<(), ConnectError> {
    let kept_of_subject = |config: &Config| config.max_messages_per_subject.max(0);
    let wrong = match () {
        () if found.storage != wanted.storage => "is not kept in files",
        () if found.num_replicas < wanted.num_replicas => "has fewer replicas than the meta table",
        () if found.persist_mode == Some(PersistenceMode::Async) => "acknowledges before it has written",
        () if found.retention != wanted.retention => "removes what consumers have seen",
        () if found.discard != wanted.discard => "removes what is oldest when it is full",
        () if found.max_age != wanted.max_age => "removes what has a certain age",
        () if kept_of_subject(found) != kept_of_subject(wanted) => "keeps another number of messages of each subject",
        () if found.subject_delete_marker_ttl.is_some() => "leaves markers where messages expire",
        () if !(found.allow_rollup && found.allow_direct && found.allow_message_ttl) || found.deny_purge => {
            "does not allow rollups, direct reads, lifetimes and purges"
        }
        () => return Ok(()),
    };
    Err(ConnectError::JetStream(format!("the stream {} was changed, and {wrong}", found.name)))
}

/// The stream of that name, made if it is not there; as it is then.
async fn ensure(context: &Context, wanted: Config) -> Result<Config, ConnectError> {
    let mut pauses = Pauses::new();
    loop {
        let name = wanted.name.clone();
        let reason = match context.create_stream(wanted.clone()).await {
            Ok(made) => return Ok(made.cached_info().config.clone()),
            // It is there already, and may differ in what was chosen at the first start.
            Err(error) if code_of(&error.kind()) == Some(ErrorCode::STREAM_NAME_EXIST) => {
                match context.get_stream(&name).await {
                    Ok(found) => return Ok(found.cached_info().config.clone()),
                    Err(error) => with_source(&error),
                }
            }
            Err(error) => match error.kind() {
                // Servers that have just started may not know their leader yet.
                CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::Response => with_source(&error),
                CreateStreamErrorKind::JetStream(refused) if may_pass(&refused) => refused.to_string(),
                _ => return Err(ConnectError::JetStream(format!("making {name}: {}", with_source(&error)))),
            },
        };
        if !pauses.pause().await {
            return Err(ConnectError::JetStream(format!("making {name}: {reason}")));
        }
    }
}

fn code_of(kind: &CreateStreamErrorKind) -> Option<ErrorCode> {
    match kind {
        CreateStreamErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    }
}

/// Whether a stream that cannot be made now may be made in a moment: when leaders are chosen, or when the servers that
/// should have it have found each other. (A node that has just started is offline to the leader until they spoke.)
fn may_pass(error: &async_nats::jetstream::Error) -> bool {
    match error.error_code() {
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => false,
        ErrorCode::CLUSTER_NO_PEERS => true,
        _ => error.code() == 503,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitoring_is_asked_beside_each_server_unless_told_otherwise() {
        let servers = ["nats://10.0.0.1:4222".to_owned(), "n2.example.org".to_owned()];
        assert_eq!(monitors_or_default(&[], &servers), ["http://10.0.0.1:8222", "http://n2.example.org:8222"]);
        assert_eq!(monitors_or_default(&["http://m:1".to_owned()], &servers), ["http://m:1"]);
    }

    #[test]
    fn streams_that_would_lose_what_they_acknowledge_are_refused() {
        let names = Names { prefix: "s2s".into(), shards: 1 };
        let made = log_stream(&names, 0, 3);
        for (change, is_refused) in [
            ((|_| {}) as fn(&mut Config), false),
            (|config| config.num_replicas = 5, false),
            (|config| config.max_bytes = 1 << 40, false),
            (|config| config.max_messages_per_subject = -1, false),
            (|config| config.num_replicas = 1, true),
            (|config| config.storage = StorageType::Memory, true),
            (|config| config.discard = DiscardPolicy::Old, true),
            (|config| config.max_age = Duration::from_secs(3600), true),
            (|config| config.max_messages_per_subject = 1, true),
            (|config| config.persist_mode = Some(PersistenceMode::Async), true),
            (|config| config.subject_delete_marker_ttl = Some(Duration::from_secs(1)), true),
            (|config| config.deny_purge = true, true),
        ] {
            let mut found = made.clone();
            change(&mut found);
            assert_eq!(check_keeps(&found, &made).is_err(), is_refused, "{found:?}");
        }
    }
}
