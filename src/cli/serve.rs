//! `serve`: the gateway.

use std::{
    fmt::{Display, Write},
    io::{self, IsTerminal},
    net::SocketAddr,
    path::Path,
    pin::pin,
    sync::Arc,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use tracing_subscriber::EnvFilter;

use super::{
    CliError, block_on,
    freed_memory::keep_freed_memory,
    store::{open_store, servers},
};
use crate::{
    auth::AuthConfig,
    clock::SystemClock,
    config::{ServeConfig, StoreConfig, root_token},
    server::{Certificate, Server},
    streams::{Streams, StreamsConfig},
    telemetry::Telemetry,
    types::{InitBasin, LocationName, Secret},
    usage::UsageConfig,
    wire::json,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  s2s-gateway serve
  s2s-gateway serve --data-dir /var/lib/s2s-gateway --listen 127.0.0.1:0
  s2s-gateway serve --memory --memory-limit 4GiB --log debug
  s2s-gateway serve --tls-self-signed --listen 127.0.0.1:8443
  s2s-gateway serve --tls-cert cert.pem --tls-key key.pem --listen 0.0.0.0:443 --auth \\
    --root-token-file root-token.txt
  s2s-gateway serve --nats nats://10.0.0.1:4222,nats://10.0.0.2:4222,nats://10.0.0.3:4222

What was acknowledged is on the disk, in --data-dir, with --nats on the disks of
a majority of its servers, or with --memory in memory until the gateway ends. On
SIGTERM or Ctrl-C it stops accepting, tells its clients to move, lets sessions
go on for --drain-timeout and ends. A second signal ends it at once.";

/// Serves until it is told to stop.
pub(super) fn run(config: ServeConfig) -> Result<(), CliError> {
    log_to_stderr(&config.log);
    keep_freed_memory();
    block_on(serve(config))
}

async fn serve(mut config: ServeConfig) -> Result<(), CliError> {
    if let Some(file) = &config.root_token_file {
        config.server.auth = AuthConfig::On { root: Some(read_root_token(file)?) };
    }
    let tls = config.server.tls.clone();
    let access = Access::of(&config.server.auth);
    let store = open_store(&config.store, config.memory).await?;
    let usage = UsageConfig { max_range: config.metrics_range, ..UsageConfig::default() };
    let limits = StreamsConfig { memory: config.memory, usage, ..StreamsConfig::default() };
    let streams = Streams::new(store, Arc::new(SystemClock), limits);
    if let Some(file) = &config.init_file {
        let init = read_init_file(file, &config.server.location)?;
        streams.ensure_all(&init).await.map_err(|error| unusable("--init-file", file)(&error))?;
    }
    let mut signals = Signals::listen().map_err(|error| CliError::Start(error.to_string()))?;
    let server = Server::bind(config.server, streams, Arc::new(Telemetry::new())).await.map_err(failed)?;
    print(&welcome(server.address(), tls.as_ref(), access, &config.store));

    let (told_to_stop, stop) = oneshot::channel();
    let mut serving = pin!(server.run(async {
        // The sender waits for a signal first; it is not dropped before.
        let _ = stop.await;
    }));
    tokio::select! {
        served = &mut serving => return served.map_err(failed),
        () = signals.next() => {}
    }
    tracing::info!("told to stop: no new sessions, those that run may finish");
    let _ = told_to_stop.send(());
    tokio::select! {
        served = serving => served.map_err(failed),
        () = signals.next() => Err(CliError::Serve("told to stop again: sessions were cut off".into())),
    }
}

fn unusable(flag: &'static str, file: &Path) -> impl Fn(&dyn Display) -> CliError {
    move |reason| CliError::Start(format!("{flag} {}: {reason}", file.display()))
}

fn read_root_token(file: &Path) -> Result<Secret, CliError> {
    let unusable = unusable("--root-token-file", file);
    let text = std::fs::read_to_string(file).map_err(|error| unusable(&error))?;
    root_token(&text).map_err(|error| unusable(&error))
}

/// The basins that are to be there, all of them in the one place that there is.
fn read_init_file(file: &Path, location: &LocationName) -> Result<Vec<InitBasin>, CliError> {
    let unusable = unusable("--init-file", file);
    let text = std::fs::read(file).map_err(|error| unusable(&error))?;
    let basins = json::decode_init_file(&text).map_err(|error| unusable(&error))?;
    let elsewhere = |basin: &&InitBasin| basin.location.as_deref().is_some_and(|named| named != location.as_str());
    match basins.iter().find(elsewhere) {
        Some(InitBasin { name, .. }) => Err(unusable(&format!("{name}: the only location is {location}"))),
        None => Ok(basins),
    }
}

/// Who gets in, as far as the welcome is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Everybody,
    WhoeverHasAToken,
}

impl Access {
    const fn of(auth: &AuthConfig) -> Self {
        match auth {
            AuthConfig::Off => Self::Everybody,
            AuthConfig::On { .. } => Self::WhoeverHasAToken,
        }
    }

    /// What to set the official client's token to.
    const fn token(self) -> &'static str {
        match self {
            Self::Everybody => "ignored",
            Self::WhoeverHasAToken => "\"$S2S_ROOT_TOKEN\"",
        }
    }
}

fn failed(error: impl ToString) -> CliError {
    CliError::Serve(error.to_string())
}

/// SIGTERM, and SIGINT from Ctrl-C. Whoever listens has taken them from the process, which they would end at once.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What an operator wants to know of a gateway that has just started.
fn welcome(listening: SocketAddr, tls: Option<&Certificate>, access: Access, store: &StoreConfig) -> String {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", reachable(listening));
    let token = access.token();
    let mut text = format!(
        "s2s-gateway {} listens on {scheme}://{listening}\n\
         {}\n\n\
         To use it with the official s2 command line:\n\
         \x20 export S2_ACCOUNT_ENDPOINT={url} S2_BASIN_ENDPOINT={url} S2_ACCESS_TOKEN={token}\n",
        env!("CARGO_PKG_VERSION"),
        whereabouts(store),
    );
    let self_signed = tls == Some(&Certificate::SelfSigned);
    if self_signed {
        text.push_str("  export S2_SSL_NO_VERIFY=1\n");
    }
    let insecure = if self_signed { " --insecure" } else { "" };
    write!(
        text,
        "  s2 create-basin my-basin-01\n\
         \x20 s2 create-stream s2://my-basin-01/numbers\n\
         \x20 seq 1000 | s2 append s2://my-basin-01/numbers\n\
         \x20 s2 read s2://my-basin-01/numbers --seq-num 0\n\n\
         Or with this one:\n\
         \x20 export S2S_ADDR={url} S2S_TOKEN={token}\n\
         \x20 seq 1000 | s2s-gateway append --create my-basin-01/numbers{insecure}\n\
         \x20 s2s-gateway read my-basin-01/numbers{insecure}\n",
    )
    .expect("a String takes all that is written");
    text
}

/// Where the log is, for whoever looks for it later.
fn whereabouts(store: &StoreConfig) -> String {
    match store {
        StoreConfig::Disk(directory) => format!("The log is in {}.", directory.display()),
        StoreConfig::Memory(_) => "The log is in memory: it is lost when this process ends.".into(),
        StoreConfig::Nats(nats) => format!("The log is in NATS, at {}.", servers(nats)),
    }
}

/// Where a client on this machine finds what listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], v6.port())),
        address => address,
    }
}

/// A gateway serves whether or not anyone reads what it says.
fn print(text: &str) {
    use io::Write;
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn log_to_stderr(filter: &str) {
    // The filter was read once already, when the configuration was made.
    let filter = EnvFilter::builder().parse_lossy(filter);
    // Within a process that has a subscriber, that one stays.
    let colours = io::stderr().is_terminal();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_welcome_says_how_to_reach_it() {
        let text = welcome("127.0.0.1:8080".parse().unwrap(), None, Access::Everybody, &StoreConfig::Memory(1));
        for part in [
            "listens on http://127.0.0.1:8080",
            "lost when this process ends",
            "S2_ACCOUNT_ENDPOINT=http://127.0.0.1:8080 S2_BASIN_ENDPOINT=http://127.0.0.1:8080 S2_ACCESS_TOKEN=ignored",
            "s2 create-basin my-basin-01",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("NO_VERIFY"));
    }

    #[test]
    fn a_file_with_basins_in_a_place_that_is_not_there_changes_nothing() {
        // control-plane.md §4.2, §6
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("init.json");
        let location = LocationName::new("eu.1").unwrap();
        for (named, is_there) in [("null", true), (r#""eu.1""#, true), (r#""us.1""#, false)] {
            let text =
                format!(r#"{{"basins":[{{"name":"my-basin-01"}},{{"name":"my-basin-02","location":{named}}}]}}"#);
            std::fs::write(&file, text).unwrap();
            let read = read_init_file(&file, &location).map(|basins| basins.len()).map_err(|error| error.to_string());
            match is_there {
                true => assert_eq!(read, Ok(2)),
                false => assert!(read.unwrap_err().contains("init.json: my-basin-02: the only location is eu.1")),
            }
        }
    }

    #[test]
    fn a_certificate_that_nobody_knows_is_mentioned() {
        let text = welcome(
            "0.0.0.0:8443".parse().unwrap(),
            Some(&Certificate::SelfSigned),
            Access::Everybody,
            &StoreConfig::Disk("/data".into()),
        );
        assert!(text.contains("The log is in /data.\n"), "{text}");
        assert!(text.contains("S2_SSL_NO_VERIFY=1") && text.contains("append --create my-basin-01/numbers --insecure"));
        assert!(
            text.contains("S2_BASIN_ENDPOINT=https://127.0.0.1:8443"),
            "an address that can be connected to: {text}"
        );
    }
}
