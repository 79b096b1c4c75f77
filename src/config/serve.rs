//! What `serve` is told.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use tracing_subscriber::EnvFilter;

use super::{ConfigError, StoreConfig, parse_duration, size, store::StoreArgs};
use crate::{
    auth::AuthConfig,
    server::{BasinHost, Certificate, Cors, ServerConfig},
    types::{EmptySecret, LocationName, MemoryShares, Secret},
};

/// What was said to `serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: String,

    /// Ask every client for an access token; needs a root token, from --root-token-file or from S2S_ROOT_TOKEN
    #[arg(long)]
    pub auth: bool,

    /// File with the token that may do everything, from which the first others are issued; needs --auth
    #[arg(long, value_name = "FILE")]
    pub root_token_file: Option<PathBuf>,

    // Only for the environment: the words of a command line are there for everybody on the machine to read.
    #[arg(long, value_name = "S2S_ROOT_TOKEN", env = "S2S_ROOT_TOKEN", hide = true, hide_env_values = true)]
    #[arg(value_parser = root_token)]
    root_token: Option<Secret>,

    /// Listen beyond this machine although nobody is asked who they are
    #[arg(long)]
    pub insecure_no_auth: bool,

    #[command(flatten)]
    store: StoreArgs,

    // Where a user's data is, for the default of the above; from the environment.
    #[arg(long, env = "XDG_DATA_HOME", hide = true, hide_env_values = true)]
    xdg_data_home: Option<OsString>,
    #[arg(long, env = "HOME", hide = true, hide_env_values = true)]
    home: Option<OsString>,

    /// Memory for appends in flight, recent records, caches and what sessions hold, beside what --memory keeps
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    pub memory_budget: String,

    /// Certificate chain to serve TLS with (PEM); needs --tls-key
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM); needs --tls-cert
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Serve TLS with a certificate made at start, for localhost, 127.0.0.1 and ::1
    #[arg(long)]
    pub tls_self_signed: bool,

    /// How long sessions may go on after SIGTERM
    #[arg(long, value_name = "DURATION", default_value = "20s")]
    pub drain_timeout: String,

    /// Take {basin}.SUFFIX as the host of a basin, e.g. b.example.org
    #[arg(long, value_name = "SUFFIX")]
    pub basin_host: Option<String>,

    /// Name of the place where basins live, as clients see it
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub location: String,

    /// Basins and streams to make sure of at start, as JSON; the README has the format
    #[arg(long, value_name = "FILE")]
    pub init_file: Option<PathBuf>,

    /// Do not let pages of other origins use the API
    #[arg(long)]
    pub no_cors: bool,

    /// The longest period that one request for usage metrics may cover
    #[arg(long, value_name = "DURATION", default_value = "30d")]
    pub metrics_range: String,

    /// What to log, in the syntax of tracing's env filter
    #[arg(long, value_name = "FILTER", env = "S2S_LOG", default_value = "info")]
    pub log: String,
}

/// What `serve` does.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where and how to listen, and how to stop. The root token may still have to come from `root_token_file`.
    pub server: ServerConfig,
    /// Where the root token is read from when the gateway starts.
    pub root_token_file: Option<PathBuf>,
    /// Where basins and streams are read from that are to be there.
    pub init_file: Option<PathBuf>,
    /// The longest period of a question about usage.
    pub metrics_range: Duration,
    /// Where streams are kept.
    pub store: StoreConfig,
    /// What may be taken of memory, beside the records of a store that keeps them there.
    pub memory: MemoryShares,
    /// A readable filter for the log.
    pub log: String,
}

impl ServeArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<ServeConfig, ConfigError> {
        Ok(ServeConfig {
            server: ServerConfig {
                listen: self.listen()?,
                tls: self.tls()?,
                drain_timeout: duration("--drain-timeout", &self.drain_timeout)?,
                basin_host: self.basin_host.as_deref().map(basin_host).transpose()?,
                cors: if self.no_cors { Cors::Off } else { Cors::Allow },
                auth: self.auth()?,
                location: LocationName::new(&self.location)
                    .map_err(|error| ConfigError::of("--location", &self.location, error))?,
            },
            root_token_file: self.root_token_file.clone(),
            init_file: self.init_file.clone(),
            metrics_range: duration("--metrics-range", &self.metrics_range)?,
            store: self.store()?,
            memory: memory_budget(&self.memory_budget)?,
            log: log_filter(&self.log)?,
        })
    }

    fn listen(&self) -> Result<SocketAddr, ConfigError> {
        let wrong = |rule: &str| ConfigError::of("--listen", &self.listen, rule);
        let address = socket_address(&self.listen)
            .ok_or_else(|| wrong("expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:0"))?;
        match address.ip().is_loopback() || self.auth || self.insecure_no_auth {
            true => Ok(address),
            false => Err(wrong(
                "this is not a loopback address, and nobody is asked who they are: anyone who reaches the port could \
                 read and write every stream. Add --auth, or --insecure-no-auth if that is meant",
            )),
        }
    }

    fn auth(&self) -> Result<AuthConfig, ConfigError> {
        match (self.auth, &self.root_token_file, &self.root_token) {
            (false, Some(_), _) => Err(ConfigError::alone("--root-token-file", "needs --auth as well")),
            (false, None, _) => Ok(AuthConfig::Off),
            (true, _, _) if self.insecure_no_auth => {
                Err(ConfigError::alone("--insecure-no-auth", "cannot be used with --auth"))
            }
            (true, Some(_), Some(_)) => {
                Err(ConfigError::alone("--root-token-file", "S2S_ROOT_TOKEN is set as well: which one is meant?"))
            }
            (true, None, None) => Err(ConfigError::alone(
                "--auth",
                "needs a root token, from --root-token-file or S2S_ROOT_TOKEN, or nobody could issue the first token",
            )),
            (true, _, root) => Ok(AuthConfig::On { root: root.clone() }),
        }
    }

    fn store(&self) -> Result<StoreConfig, ConfigError> {
        match self.store.resolve()? {
            Some(store) => Ok(store),
            None => self.default_data_directory().map(StoreConfig::Disk),
        }
    }

    /// Where programs of this user keep their data.
    fn default_data_directory(&self) -> Result<PathBuf, ConfigError> {
        // An empty or relative one is to be ignored, says the XDG base directory specification.
        let absolute = |path: &Option<OsString>| path.as_ref().map(PathBuf::from).filter(|path| path.is_absolute());
        let in_home = match cfg!(target_os = "macos") {
            true => "Library/Application Support",
            false => ".local/share",
        };
        let found = absolute(&self.xdg_data_home).or_else(|| Some(absolute(&self.home)?.join(in_home)));
        found.map(|path| path.join("s2s-gateway")).ok_or_else(|| {
            let rule = "needed, as neither XDG_DATA_HOME nor HOME says where data is kept; or say --memory";
            ConfigError::alone("--data-dir", rule)
        })
    }

    fn tls(&self) -> Result<Option<Certificate>, ConfigError> {
        match (&self.tls_cert, &self.tls_key, self.tls_self_signed) {
            (None, None, false) => Ok(None),
            (None, None, true) => Ok(Some(Certificate::SelfSigned)),
            (Some(chain), Some(key), false) => Ok(Some(Certificate::Files { chain: chain.clone(), key: key.clone() })),
            (_, _, true) => {
                Err(ConfigError::alone("--tls-self-signed", "cannot be used with --tls-cert and --tls-key"))
            }
            (Some(_), None, false) => Err(ConfigError::alone("--tls-cert", "needs --tls-key as well")),
            (None, Some(_), false) => Err(ConfigError::alone("--tls-key", "needs --tls-cert as well")),
        }
    }
}

fn memory_budget(text: &str) -> Result<MemoryShares, ConfigError> {
    match size("--memory-budget", text)? {
        bytes if bytes < MemoryShares::LEAST => Err(ConfigError::of("--memory-budget", text, "at least 32MiB")),
        bytes => Ok(MemoryShares::of(bytes)),
    }
}

/// A token in the environment or in a file; the newline that editors leave at its end is not part of it.
pub fn root_token(text: &str) -> Result<Secret, EmptySecret> {
    Secret::new(text.trim_ascii())
}

/// An IP address and a port; `localhost` is taken for 127.0.0.1, without asking anyone.
fn socket_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?)),
        None => text.parse().ok(),
    }
}

fn duration(flag: &'static str, text: &str) -> Result<Duration, ConfigError> {
    parse_duration(text).map_err(|error| ConfigError::of(flag, text, error))
}

fn basin_host(text: &str) -> Result<BasinHost, ConfigError> {
    let suffix = text.trim_start_matches('.');
    let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match suffix.split('.').all(label) {
        true => Ok(BasinHost::new(suffix)),
        false => {
            Err(ConfigError::of("--basin-host", text, "expected a host name such as b.example.org, without a port"))
        }
    }
}

fn log_filter(text: &str) -> Result<String, ConfigError> {
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(ConfigError::of("--log", text, error)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn resolve(words: &str) -> Result<ServeConfig, ConfigError> {
        // Most cases are about something else, and need no home of whoever runs them.
        let elsewhere = ["--memory", "--data-dir", "--nats"].iter().any(|flag| words.contains(flag));
        let store = if elsewhere { "" } else { "--memory" };
        let words = ["serve"].into_iter().chain(words.split_whitespace()).chain(store.split_whitespace());
        Said::try_parse_from(words).expect("grammatical").args.resolve()
    }

    fn fault(words: &str) -> (&'static str, Option<String>) {
        let error = resolve(words).expect_err(words);
        (error.flag, error.value)
    }

    #[test]
    fn nothing_said() {
        let config = resolve("--data-dir d").unwrap();
        assert_eq!(config.server.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.store, StoreConfig::Disk("d".into()));
        assert_eq!(config.memory, MemoryShares::default());
        assert_eq!(config.server.drain_timeout, Duration::from_secs(20));
        assert_eq!((config.server.tls, config.server.basin_host), (None, None));
        assert_eq!(config.server.location, LocationName::default());
    }

    #[test]
    fn everything_said() {
        let config = resolve(
            "--listen 0.0.0.0:0 --insecure-no-auth --memory --memory-limit 64MiB --memory-budget 1GiB --tls-cert c.pem \
             --tls-key k.pem --drain-timeout 1m --basin-host .B.example.org --no-cors --init-file i.json \
             --metrics-range 90d --log warn,s2s_gateway=debug",
        )
        .unwrap();
        assert_eq!(config.server.listen, "0.0.0.0:0".parse().unwrap());
        assert_eq!((config.store, config.memory), (StoreConfig::Memory(64 << 20), MemoryShares::of(1 << 30)));
        assert_eq!(config.server.tls, Some(Certificate::Files { chain: "c.pem".into(), key: "k.pem".into() }));
        assert_eq!(config.server.drain_timeout, Duration::from_secs(60));
        assert_eq!(config.server.basin_host, Some(BasinHost::new("b.example.org")));
        assert_eq!((config.server.cors, config.init_file), (Cors::Off, Some("i.json".into())));
        assert_eq!(config.metrics_range, Duration::from_secs(90 * 86_400));
        assert_eq!(resolve("--tls-self-signed").unwrap().server.tls, Some(Certificate::SelfSigned));
        assert_eq!(resolve("--listen localhost:0").unwrap().server.listen, "127.0.0.1:0".parse().unwrap());
    }

    #[test]
    fn loopback_only_unless_told_twice() {
        for open in ["0.0.0.0:8080", "[::]:80", "192.168.0.7:1"] {
            assert_eq!(fault(&format!("--listen {open}")), ("--listen", Some(open.into())));
            assert!(resolve(&format!("--listen {open} --insecure-no-auth")).is_ok());
        }
        for closed in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1"] {
            assert!(resolve(&format!("--listen {closed}")).is_ok(), "{closed}");
        }
        let error = resolve("--listen 0.0.0.0:1").unwrap_err().to_string();
        assert!(error.contains("--insecure-no-auth"), "{error}");
    }

    #[test]
    fn who_asks_who_clients_are_needs_no_permission_to_listen() {
        let config = resolve("--listen 0.0.0.0:1 --auth --root-token-file root.txt").unwrap();
        assert!(matches!(config.server.auth, AuthConfig::On { root: None }));
        assert_eq!(config.root_token_file, Some("root.txt".into()));
        assert!(matches!(resolve("--auth --root-token t").unwrap().server.auth, AuthConfig::On { root: Some(_) }));
        assert!(matches!(resolve("--root-token t").unwrap().server.auth, AuthConfig::Off), "left in the environment");
    }

    #[test]
    fn the_root_token_is_not_shown() {
        let said = Said::try_parse_from(["serve", "--memory", "--auth", "--root-token", "open-sesame\n"]).unwrap();
        let meant = said.args.resolve().unwrap();
        assert!(!format!("{:?} {meant:?}", said.args).contains("open"), "{:?}", said.args);
        let AuthConfig::On { root: Some(root) } = meant.server.auth else { panic!() };
        assert_eq!(root.expose(), "open-sesame");
    }

    #[test]
    fn streams_are_kept_on_disk_unless_told_otherwise() {
        let directory = |data_home: &str, home: &str| {
            let words = ["serve", "--xdg-data-home", data_home, "--home", home];
            let resolved = Said::try_parse_from(words).unwrap().args.resolve();
            resolved.map(|config| config.store).map_err(|error| error.flag)
        };
        assert_eq!(directory("/data", "/h"), Ok(StoreConfig::Disk("/data/s2s-gateway".into())));
        let Ok(StoreConfig::Disk(in_home)) = directory("relative", "/h") else { panic!() };
        assert!(in_home.starts_with("/h") && in_home.ends_with("s2s-gateway"), "{in_home:?}");
        assert_eq!(directory("", "/h"), Ok(StoreConfig::Disk(in_home)));
        assert_eq!(directory("", ""), Err("--data-dir"));
        assert_eq!(resolve("--data-dir /d").unwrap().store, StoreConfig::Disk("/d".into()));
    }

    #[test]
    fn errors_name_flag_and_value() {
        for (words, flag, value) in [
            ("--listen 8080", "--listen", Some("8080")),
            ("--listen localhost:x", "--listen", Some("localhost:x")),
            ("--listen 127.0.0.1", "--listen", Some("127.0.0.1")),
            ("--memory --memory-limit lots", "--memory-limit", Some("lots")),
            ("--memory-budget 31MiB", "--memory-budget", Some("31MiB")),
            ("--drain-timeout 20", "--drain-timeout", Some("20")),
            ("--metrics-range long", "--metrics-range", Some("long")),
            ("--basin-host a..b", "--basin-host", Some("a..b")),
            ("--basin-host a.b:80", "--basin-host", Some("a.b:80")),
            ("--log a=b=c=", "--log", Some("a=b=c=")),
            ("--auth", "--auth", None),
            ("--root-token-file f", "--root-token-file", None),
            ("--auth --root-token-file f --root-token t", "--root-token-file", None),
            ("--auth --root-token t --insecure-no-auth", "--insecure-no-auth", None),
            ("--tls-cert c", "--tls-cert", None),
            ("--tls-key k", "--tls-key", None),
            ("--tls-self-signed --tls-key k", "--tls-self-signed", None),
            ("--tls-self-signed --tls-cert c --tls-key k", "--tls-self-signed", None),
        ] {
            assert_eq!(fault(words), (flag, value.map(String::from)), "{words}");
        }
    }
}
