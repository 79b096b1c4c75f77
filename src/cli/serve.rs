//! `serve`: the gateway.

use std::{fmt::Write, io, net::SocketAddr, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{CliError, block_on, say};
use crate::{
    clock::SystemClock,
    config::{ServeConfig, Tls},
    server::{BasinHost, Certificate, Server, ServerConfig},
    store::MemoryStore,
    streams::{Streams, StreamsConfig},
    telemetry::Telemetry,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  s2s-gateway serve
  s2s-gateway serve --listen 127.0.0.1:0 --memory-limit 4GiB --log debug
  s2s-gateway serve --tls-self-signed --listen 127.0.0.1:8443
  s2s-gateway serve --tls-cert cert.pem --tls-key key.pem --listen 0.0.0.0:443 --insecure-no-auth

The log is kept in memory and is lost when the gateway ends. On SIGTERM or Ctrl-C it stops accepting, tells its
clients to move, lets sessions go on for --drain-timeout and ends.";

/// Serves until it is told to stop.
pub(super) fn run(config: ServeConfig) -> Result<(), CliError> {
    log_to_stderr(&config.log);
    block_on(serve(config))
}

/// The one place where the command line meets the server.
async fn serve(config: ServeConfig) -> Result<(), CliError> {
    let ServeConfig { listen, memory_limit, append_in_flight, tls, drain_timeout, basin_host, log: _ } = config;
    let failed = |error: &dyn std::fmt::Display| CliError::Serve(error.to_string());
    let store = Arc::new(MemoryStore::new(memory_limit));
    let streams =
        Streams::new(store, Arc::new(SystemClock), StreamsConfig { append_in_flight, ..StreamsConfig::default() });
    let server_config = ServerConfig {
        listen,
        tls: certificate(&tls),
        drain_timeout,
        basin_host: basin_host.as_deref().map(BasinHost::new),
    };
    let server =
        Server::bind(server_config, streams, Arc::new(Telemetry::new())).await.map_err(|error| failed(&error))?;
    // Before the address is told, so that whoever knows it can also stop the gateway gently.
    let told_to_stop = told_to_stop().map_err(|error| failed(&error))?;
    print(&welcome(server.address(), &tls));
    server.run(told_to_stop).await.map_err(|error| failed(&error))
}

fn certificate(tls: &Tls) -> Option<Certificate> {
    match tls {
        Tls::Off => None,
        Tls::Files { cert, key } => Some(Certificate::Files { chain: cert.clone(), key: key.clone() }),
        Tls::SelfSigned => Some(Certificate::SelfSigned),
    }
}

/// Ready at the first SIGTERM or Ctrl-C. The next one ends the process as it is: whoever sends two does not want to wait.
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        say("s2s-gateway: draining; a second signal ends it at once");
        tokio::spawn(async move {
            let code = tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 };
            std::process::exit(code);
        });
    })
}

/// What an operator wants to know of a gateway that has just started.
fn welcome(listening: SocketAddr, tls: &Tls) -> String {
    let scheme = if *tls == Tls::Off { "http" } else { "https" };
    let url = format!("{scheme}://{}", reachable(listening));
    let mut text = format!(
        "s2s-gateway {} listens on {scheme}://{listening}\n\
         The log is in memory: it is lost when this process ends.\n\n\
         To use it with the official s2 command line:\n\
         \x20 export S2_ACCOUNT_ENDPOINT={url} S2_BASIN_ENDPOINT={url} S2_ACCESS_TOKEN=ignored\n",
        env!("CARGO_PKG_VERSION"),
    );
    if *tls == Tls::SelfSigned {
        text.push_str("  export S2_SSL_NO_VERIFY=1\n");
    }
    let insecure = if *tls == Tls::SelfSigned { " --insecure" } else { "" };
    write!(
        text,
        "  s2 create-basin my-basin-01\n\
         \x20 s2 create-stream s2://my-basin-01/numbers\n\
         \x20 seq 1000 | s2 append s2://my-basin-01/numbers\n\
         \x20 s2 read s2://my-basin-01/numbers --seq-num 0\n\n\
         Or with this one:\n\
         \x20 export S2S_ADDR={url}\n\
         \x20 seq 1000 | s2s-gateway append --create my-basin-01/numbers{insecure}\n\
         \x20 s2s-gateway read my-basin-01/numbers{insecure}\n",
    )
    .expect("a String takes all that is written");
    text
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
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_welcome_says_how_to_reach_it() {
        let text = welcome("127.0.0.1:8080".parse().unwrap(), &Tls::Off);
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
    fn a_certificate_that_nobody_knows_is_mentioned() {
        let text = welcome("0.0.0.0:8443".parse().unwrap(), &Tls::SelfSigned);
        assert!(text.contains("S2_SSL_NO_VERIFY=1") && text.contains("append --create my-basin-01/numbers --insecure"));
        assert!(
            text.contains("S2_BASIN_ENDPOINT=https://127.0.0.1:8443"),
            "an address that can be connected to: {text}"
        );
    }
}
