//! What `bench` is told.

use std::{path::PathBuf, time::Duration};

use super::{
    ConfigError, EndpointArgs, EndpointConfig, StoreConfig,
    basin::cipher,
    connect::{compression, encryption_key},
    endpoint::secret,
    parse_duration, size,
    store::StoreArgs,
};
use crate::{
    client::EncryptionKey,
    types::{
        BasinName, Cipher, Compression, Secret,
        limits::{MAX_BATCH_METERED, MAX_BATCH_RECORDS},
        metered_size,
    },
};

/// What was said to `bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    pub scenario: Scenario,

    /// Address of the server; without it, a gateway inside this process is measured
    // Not from the environment: a load goes where it was sent, and `serve` tells everyone to set S2S_ADDR.
    #[arg(long, value_name = "URL")]
    pub addr: Option<String>,

    /// Access token to present
    #[arg(long, value_name = "TOKEN", env = "S2S_TOKEN", hide_env_values = true, value_parser = secret)]
    pub token: Option<Secret>,

    /// Take any certificate that the server shows
    #[arg(long)]
    pub insecure: bool,

    #[command(flatten)]
    store: StoreArgs,

    /// Basin to work in; it is made, and deleted if it was [default: one of a random name]
    #[arg(long, value_name = "NAME")]
    pub basin: Option<String>,

    /// Make the basin with this cipher, aegis-256 or aes-256-gcm; it must not be there yet
    #[arg(long, value_name = "NAME", requires = "encryption_key")]
    pub cipher: Option<String>,

    /// Key of the records if the basin has a cipher: 32 bytes in base64. In the environment it is seen by fewer than on
    /// the command line
    #[arg(long, value_name = "KEY", env = "S2S_ENCRYPTION_KEY", hide_env_values = true, value_parser = secret)]
    pub encryption_key: Option<Secret>,

    /// Leave the streams where they are
    #[arg(long)]
    pub keep: bool,

    /// How long to measure; catch-up ends at the end of its first round at the earliest
    #[arg(long, short, value_name = "DURATION", default_value = "10s")]
    pub duration: String,

    /// How many streams [default: 1; mixed: 4; unary: 8]
    #[arg(long, value_name = "N")]
    pub streams: Option<usize>,

    /// How many append sessions, or clients that append by requests, spread over the streams [default: one a stream]
    #[arg(long, value_name = "N")]
    pub sessions: Option<usize>,

    /// How many read sessions that follow, spread over the streams [default: fan-out 100; idle 1000; mixed 16]
    #[arg(long, value_name = "N")]
    pub followers: Option<usize>,

    /// How many read sessions that read from the first record on, again and again [default: catch-up 1; mixed 2]
    #[arg(long, value_name = "N")]
    pub readers: Option<usize>,

    /// How many connections, shared by all sessions [default: 1; unary: 8; idle: 10]
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,

    /// Bytes of a record's body, at least 24 [default: 1KiB; latency, unary: 100]
    #[arg(long, value_name = "SIZE")]
    pub record_size: Option<String>,

    /// Records of a batch [default: 100; latency, unary, fan-out, idle: 1; mixed: 10]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,

    /// Batches of a session that may wait for their acks [default: 32; latency: 1; with a rate 1024;
    /// unary: always 1]
    #[arg(long, value_name = "N")]
    pub in_flight: Option<usize>,

    /// Batches per second, of all sessions together, sent when they are due however long the server takes; latencies
    /// count from then [default: as fast as acks come; fan-out, mixed: 200]
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,

    /// Bytes of bodies that catch-up reads [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,

    /// Compression of what is sent, and asked for: none, zstd or gzip
    #[arg(long, value_name = "NAME", default_value = "none")]
    pub compression: String,

    /// What bodies are made of: words, or bytes that cannot be compressed
    #[arg(long, value_enum, default_value_t = Body::Text)]
    pub body: Body,

    /// The server's process, whose CPU and memory are to be reported (Linux, on this machine)
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,

    /// Print the report as JSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// Draw throughput over time and the distribution of latencies
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Appends, as many as go in
    Appends,
    /// The time from append to ack, one in flight or at a rate
    Latency,
    /// Appends without sessions: each a JSON request, of which a client has one under way
    Unary,
    /// Reading what is there, from the first record to the tail
    CatchUp,
    /// One writer, many followers: the time from append to each of them
    FanOut,
    /// Followers to whom nothing is sent
    Idle,
    /// Writers, followers and readers at once
    Mixed,
}

impl Scenario {
    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Appends => "appends",
            Self::Latency => "latency",
            Self::Unary => "unary",
            Self::CatchUp => "catch-up",
            Self::FanOut => "fan-out",
            Self::Idle => "idle",
            Self::Mixed => "mixed",
        }
    }

    /// How it appends.
    pub const fn via(self) -> Via {
        match self {
            Self::Unary => Via::Requests,
            Self::Appends | Self::Latency | Self::CatchUp | Self::FanOut | Self::Idle | Self::Mixed => Via::Session,
        }
    }
}

/// How appends reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Over append sessions (`s2s.md` §6).
    Session,
    /// Each in a JSON request of its own (`data-plane.md` §6).
    Requests,
}

/// What bodies are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Body {
    /// Words.
    #[default]
    Text,
    /// Bytes that cannot be compressed.
    Random,
}

impl Body {
    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Random => "random",
        }
    }
}

/// What `bench` does.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// What is measured.
    pub scenario: Scenario,
    /// Whom to measure.
    pub target: BenchTarget,
    /// The basin to work in; one of a random name without.
    pub basin: Option<BasinName>,
    /// The cipher of the basin, which is to be made with it.
    pub cipher: Option<Cipher>,
    /// What records are encrypted with if the basin has a cipher.
    pub encryption_key: Option<EncryptionKey>,
    /// Whether to leave the streams where they are.
    pub keep: bool,
    /// How long to measure.
    pub duration: Duration,
    /// What is done.
    pub load: Load,
    /// The server's process, to be watched.
    pub pid: Option<u32>,
    /// Whether the report is JSON.
    pub json: bool,
    /// Where a picture goes.
    pub plot: Option<PathBuf>,
    /// Whether to show no progress.
    pub quiet: bool,
}

/// Whom to measure.
#[derive(Clone, Debug)]
pub enum BenchTarget {
    /// A server somewhere.
    Server(EndpointConfig),
    /// A gateway of this process's own, over this store.
    InProcess(BenchStore),
}

/// Where the gateway of a bench keeps its streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BenchStore {
    /// As `serve` would.
    Given(StoreConfig),
    /// On the disk, in a directory that is made for the run and removed after it.
    TemporaryDirectory,
}

/// How much of what is done at once. Every count but followers and readers is at least one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Streams.
    pub streams: usize,
    /// Append sessions, over all streams.
    pub sessions: usize,
    /// Sessions that follow, over all streams.
    pub followers: usize,
    /// Sessions that read from the first record on, over all streams.
    pub readers: usize,
    /// Connections that they all share.
    pub connections: usize,
    /// Bytes of a body.
    pub record_size: usize,
    /// Records of a batch; it is within the limits of the protocol.
    pub batch: usize,
    /// Batches of a session that may wait for their acks.
    pub in_flight: usize,
    /// Batches per second, of all sessions; as many as acks allow without.
    pub rate: Option<f64>,
    /// Bytes of bodies that are there to be read.
    pub size: usize,
    /// Of the frames, both ways.
    pub compression: Compression,
    /// What bodies are made of.
    pub body: Body,
}

impl Load {
    /// Bytes of the bodies of a batch.
    pub fn batch_bytes(&self) -> usize {
        self.batch * self.record_size
    }
}

/// The least body: what the check writes into each.
pub const LEAST_RECORD: usize = 24;

impl BenchArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<BenchConfig, ConfigError> {
        Ok(BenchConfig {
            scenario: self.scenario,
            target: self.target()?,
            basin: self.basin.as_deref().map(basin).transpose()?,
            cipher: self.cipher.as_deref().map(cipher).transpose()?,
            encryption_key: self.encryption_key.as_ref().map(encryption_key).transpose()?,
            keep: self.keep,
            duration: match parse_duration(&self.duration) {
                Ok(Duration::ZERO) => Err(ConfigError::of("--duration", &self.duration, "more than nothing")),
                Ok(duration) => Ok(duration),
                Err(error) => Err(ConfigError::of("--duration", &self.duration, error)),
            }?,
            load: self.load()?,
            pid: self.pid,
            json: self.json,
            plot: self.plot.clone(),
            quiet: self.quiet,
        })
    }

    fn target(&self) -> Result<BenchTarget, ConfigError> {
        let store = self.store.resolve()?;
        let Some(addr) = &self.addr else {
            return Ok(BenchTarget::InProcess(store.map_or(BenchStore::TemporaryDirectory, BenchStore::Given)));
        };
        if store.is_some() {
            let rule = "says which server is measured: --memory, --data-dir and --nats are for one inside this process";
            return Err(ConfigError::alone("--addr", rule));
        }
        let server = EndpointArgs { addr: addr.clone(), token: self.token.clone(), insecure: self.insecure };
        server.resolve().map(BenchTarget::Server)
    }

    /// What would change nothing is refused: the report would show it as if it had.
    fn check_that_all_is_used(&self) -> Result<(), ConfigError> {
        use Scenario::{CatchUp, FanOut, Idle, Mixed};
        let scenario = self.scenario;
        let said = [
            ("--followers", self.followers.is_some(), matches!(scenario, FanOut | Idle | Mixed)),
            ("--readers", self.readers.is_some(), matches!(scenario, CatchUp | FanOut | Mixed)),
            ("--rate", self.rate.is_some(), !matches!(scenario, CatchUp | Idle)),
            ("--size", self.size.is_some(), scenario == CatchUp),
        ];
        match said.into_iter().find(|(_, is_said, is_used)| *is_said && !is_used) {
            Some((flag, ..)) => Err(ConfigError::alone(flag, format_args!("means nothing to {}", scenario.name()))),
            None => Ok(()),
        }
    }

    fn load(&self) -> Result<Load, ConfigError> {
        self.check_that_all_is_used()?;
        let usual = Usual::of(self.scenario);
        let rate = self.rate.map(rate).transpose()?.or(usual.rate);
        let streams = at_least_one("--streams", self.streams, usual.streams)?;
        let in_flight = if rate.is_some() { usual.in_flight_at_a_rate } else { usual.in_flight };
        let load = Load {
            streams,
            sessions: at_least_one("--sessions", self.sessions, streams)?,
            followers: self.followers.unwrap_or(usual.followers),
            readers: self.readers.unwrap_or(usual.readers),
            connections: at_least_one("--connections", self.connections, usual.connections)?,
            record_size: record_size(self.record_size.as_deref().unwrap_or(usual.record_size))?,
            batch: at_least_one("--batch", self.batch, usual.batch)?,
            in_flight: at_least_one("--in-flight", self.in_flight, in_flight)?,
            rate,
            size: size("--size", self.size.as_deref().unwrap_or("256MiB"))?,
            compression: compression(&self.compression)?,
            body: self.body,
        };
        check_batch(&load)?;
        if self.scenario.via() == Via::Requests {
            check_requests(&load)?;
        }
        Ok(load)
    }
}

/// What a scenario is like where nothing else is said.
struct Usual {
    streams: usize,
    followers: usize,
    readers: usize,
    connections: usize,
    record_size: &'static str,
    batch: usize,
    in_flight: usize,
    in_flight_at_a_rate: usize,
    rate: Option<f64>,
}

impl Usual {
    const fn of(scenario: Scenario) -> Self {
        let appends = Self {
            streams: 1,
            followers: 0,
            readers: 0,
            connections: 1,
            record_size: "1KiB",
            batch: 100,
            in_flight: 32,
            in_flight_at_a_rate: 1024,
            rate: None,
        };
        match scenario {
            Scenario::Appends => appends,
            Scenario::Latency => Self { record_size: "100", batch: 1, in_flight: 1, ..appends },
            Scenario::Unary => Self {
                streams: 8,
                connections: 8,
                record_size: "100",
                batch: 1,
                in_flight: 1,
                in_flight_at_a_rate: 1,
                ..appends
            },
            Scenario::CatchUp => Self { readers: 1, ..appends },
            Scenario::FanOut => Self { followers: 100, batch: 1, rate: Some(200.0), ..appends },
            Scenario::Idle => Self { followers: 1000, connections: 10, batch: 1, ..appends },
            Scenario::Mixed => Self { streams: 4, followers: 16, readers: 2, batch: 10, rate: Some(200.0), ..appends },
        }
    }
}

fn check_batch(load: &Load) -> Result<(), ConfigError> {
    let metered = load.batch.saturating_mul(metered_size(0, 0, load.record_size));
    if load.batch > MAX_BATCH_RECORDS || metered > MAX_BATCH_METERED {
        let rule = "a batch has at most 1000 records and, 8 bytes for each record counted, 1MiB";
        return Err(ConfigError::of("--batch", &load.batch.to_string(), rule));
    }
    Ok(())
}

fn check_requests(load: &Load) -> Result<(), ConfigError> {
    if load.in_flight > 1 {
        let rule =
            "1: of two requests at once the later one may go in first; --sessions says how many clients there are";
        return Err(ConfigError::of("--in-flight", &load.in_flight.to_string(), rule));
    }
    if load.compression != Compression::None {
        return Err(ConfigError::of("--compression", load.compression.coding(), "none: JSON is sent as it is"));
    }
    Ok(())
}

fn at_least_one(flag: &'static str, said: Option<usize>, usual: usize) -> Result<usize, ConfigError> {
    match said {
        Some(0) => Err(ConfigError::of(flag, "0", "at least 1")),
        said => Ok(said.unwrap_or(usual)),
    }
}

fn rate(rate: f64) -> Result<f64, ConfigError> {
    match (1e-3..=1e9).contains(&rate) {
        true => Ok(rate),
        false => Err(ConfigError::of("--rate", &rate.to_string(), "from 0.001 to 1000000000 batches per second")),
    }
}

fn record_size(text: &str) -> Result<usize, ConfigError> {
    match size("--record-size", text)? {
        bytes if bytes < LEAST_RECORD => {
            Err(ConfigError::of("--record-size", text, "at least 24 bytes, which the check needs"))
        }
        bytes => Ok(bytes),
    }
}

fn basin(text: &str) -> Result<BasinName, ConfigError> {
    BasinName::new(text).map_err(|error| ConfigError::of("--basin", text, error))
}

#[cfg(test)]
mod tests {
    use clap::{Parser, ValueEnum};

    use super::*;

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(words: &str) -> Result<BenchArgs, clap::Error> {
        Said::try_parse_from(["bench"].into_iter().chain(words.split_whitespace())).map(|said| said.args)
    }

    fn resolve(words: &str) -> Result<BenchConfig, ConfigError> {
        parse(words).expect("grammatical").resolve()
    }

    #[test]
    fn nothing_said() {
        let config = resolve("appends").unwrap();
        assert!(matches!(config.target, BenchTarget::InProcess(BenchStore::TemporaryDirectory)));
        assert_eq!(config.duration, Duration::from_secs(10));
        let load = config.load;
        assert_eq!((load.streams, load.sessions, load.batch, load.record_size), (1, 1, 100, 1024));
        assert_eq!((load.in_flight, load.rate, load.compression), (32, None, Compression::None));
    }

    #[test]
    fn scenarios_have_their_own_defaults() {
        for scenario in Scenario::value_variants() {
            let typed = scenario.to_possible_value().unwrap();
            assert_eq!(typed.get_name(), scenario.name());
            let load = resolve(scenario.name()).unwrap().load;
            assert!(load.streams > 0 && load.sessions == load.streams && load.connections > 0, "{scenario:?}");
        }
        assert_eq!(resolve("latency").unwrap().load.in_flight, 1);
        assert_eq!(resolve("latency --rate 50").unwrap().load.in_flight, 1024, "nothing holds an open loop back");
        for words in ["unary", "unary --rate 50", "unary --in-flight 1"] {
            assert_eq!(resolve(words).unwrap().load.in_flight, 1, "requests of one client have an order: {words}");
        }
        assert_eq!(resolve("latency --rate 50 --in-flight 2").unwrap().load.in_flight, 2);
        assert_eq!(resolve("idle").unwrap().load.followers, 1000);
        assert_eq!(resolve("appends --streams 7").unwrap().load.sessions, 7);
    }

    #[test]
    fn whom_to_measure() {
        let store = |words: &str| match resolve(words).unwrap().target {
            BenchTarget::InProcess(store) => store,
            BenchTarget::Server(server) => panic!("{server:?}"),
        };
        let memory = |bytes| BenchStore::Given(StoreConfig::Memory(bytes));
        assert_eq!(store("appends --memory"), memory(1 << 30));
        assert_eq!(store("appends --memory --memory-limit 2GiB"), memory(2 << 30));
        assert_eq!(store("appends --data-dir d"), BenchStore::Given(StoreConfig::Disk("d".into())));
        let BenchTarget::Server(server) = resolve("appends --addr http://h:1 --token t").unwrap().target else {
            panic!()
        };
        assert_eq!((server.endpoint.origin().as_str(), server.token.is_some()), ("http://h:1", true));
        let store = store("appends --nats nats://n:1");
        assert!(
            matches!(&store, BenchStore::Given(StoreConfig::Nats(nats)) if nats.servers == ["nats://n:1"]),
            "{store:?}"
        );
        for words in ["everything", "appends --batch x"] {
            assert!(parse(words).is_err(), "{words}");
        }
    }

    #[test]
    fn errors_name_flag_and_value() {
        for (words, flag) in [
            ("--addr ftp://h", "--addr"),
            ("--basin short", "--basin"),
            ("--duration 0", "--duration"),
            ("--duration 5", "--duration"),
            ("--streams 0", "--streams"),
            ("--sessions 0", "--sessions"),
            ("--connections 0", "--connections"),
            ("--batch 0", "--batch"),
            ("--batch 1001 --record-size 24", "--batch"),
            ("--batch 1 --record-size 1MiB", "--batch"),
            ("--record-size 23", "--record-size"),
            ("--in-flight 0", "--in-flight"),
            ("--rate 0", "--rate"),
            ("--rate NaN", "--rate"),
            ("--compression br", "--compression"),
            ("--cipher AES --encryption-key AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "--cipher"),
        ] {
            let error = resolve(&format!("appends {words}")).expect_err(words);
            assert_eq!(error.flag, flag, "{words}");
            let value = words.split(' ').nth(1);
            assert_eq!(error.value.as_deref(), value, "{words}");
        }
        for store in ["--memory", "--data-dir d", "--nats n"] {
            let error = resolve(&format!("appends --addr http://h:1 {store}")).expect_err(store);
            assert_eq!((error.flag, error.value), ("--addr", None));
        }
        for (words, flag) in [("--in-flight 2", "--in-flight"), ("--compression zstd", "--compression")] {
            assert_eq!(resolve(&format!("unary {words}")).unwrap_err().flag, flag);
        }
    }

    #[test]
    fn what_would_change_nothing_is_refused() {
        for (flag, used, unused) in [
            ("--followers", "fan-out idle mixed", "appends latency unary catch-up"),
            ("--readers", "catch-up fan-out mixed", "appends latency unary idle"),
            ("--rate", "appends latency unary fan-out mixed", "catch-up idle"),
            ("--size", "catch-up", "appends latency unary fan-out idle mixed"),
        ] {
            let resolved = |scenario| resolve(&format!("{scenario} {flag} 3"));
            assert_eq!(used.split(' ').map(resolved).filter(Result::is_err).count(), 0, "{flag}");
            for error in unused.split(' ').map(resolved) {
                assert_eq!(error.unwrap_err().flag, flag);
            }
            assert_eq!((used.split(' ').count() + unused.split(' ').count()), Scenario::value_variants().len());
        }
        assert_eq!(resolve("catch-up --size much").unwrap_err().value.as_deref(), Some("much"));
    }

    #[test]
    fn a_key_is_not_shown_and_a_cipher_needs_one() {
        let error = resolve("appends --encryption-key secret").unwrap_err();
        assert_eq!((error.flag, error.value), ("--encryption-key", None));
        let config = resolve("appends --encryption-key AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        assert!(config.encryption_key.is_some() && config.cipher.is_none());
        assert!(parse("appends --cipher aegis-256").is_err());
    }
}
