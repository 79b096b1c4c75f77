//! What `read` is told.

use std::time::Duration;

use super::{ConfigError, ConnectArgs, ConnectConfig};
use crate::types::{ReadBounds, ReadRequest, ReadStart, SeqNum, Timestamp};

/// What was said to `read`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReadArgs {
    /// The server and the stream.
    #[command(flatten)]
    pub connect: ConnectArgs,

    /// Start at this record (default: 0)
    #[arg(long, short, value_name = "N", group = "start")]
    pub seq_num: Option<u64>,

    /// Start at the first record with this timestamp or a later one
    #[arg(long, value_name = "MS", group = "start")]
    pub timestamp: Option<u64>,

    /// Start this many records before the tail
    #[arg(long, value_name = "N", group = "start")]
    pub tail_offset: Option<u64>,

    /// If the start is beyond the tail, start at the tail
    #[arg(long)]
    pub clamp: bool,

    /// Go on with new records as they come
    #[arg(long, short, conflicts_with = "wait")]
    pub follow: bool,

    /// Wait this long for a new record before ending
    #[arg(long, value_name = "SECS")]
    pub wait: Option<u32>,

    /// Stop after this many records
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<u64>,

    /// Stop before more than this many metered bytes
    #[arg(long, short, value_name = "N")]
    pub bytes: Option<u64>,

    /// Stop before the first record with this timestamp or a later one
    #[arg(long, value_name = "MS")]
    pub until: Option<u64>,

    /// Write each record as a line of JSON, with number, timestamp and headers
    #[arg(long)]
    pub json: bool,

    /// With --json: names, values and bodies as base64, which keeps bytes that are not text
    #[arg(long, requires = "json")]
    pub base64: bool,
}

/// What `read` does.
#[derive(Clone, Debug)]
pub struct ReadConfig {
    /// The server and the stream.
    pub connect: ConnectConfig,
    /// What to ask for.
    pub request: ReadRequest,
    /// Where the read ends.
    pub end: ReadEnd,
    /// How records are written.
    pub format: OutputFormat,
}

/// Where a read ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// At the tail that the stream has when the read begins, or at a bound before it.
    Tail,
    /// Where the request says: at a bound, after the wait, or never.
    Request,
}

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// The body, byte for byte, and a newline.
    #[default]
    Raw,
    /// JSON, bytes that are not text replaced.
    Json,
    /// JSON, bytes as base64.
    JsonBase64,
}

impl ReadArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<ReadConfig, ConfigError> {
        self.check_until()?;
        Ok(ReadConfig {
            connect: self.connect.resolve()?,
            request: self.request(),
            end: match self.follow || self.wait.is_some() {
                true => ReadEnd::Request,
                false => ReadEnd::Tail,
            },
            format: match (self.json, self.base64) {
                (false, _) => OutputFormat::Raw,
                (true, false) => OutputFormat::Json,
                (true, true) => OutputFormat::JsonBase64,
            },
        })
    }

    fn check_until(&self) -> Result<(), ConfigError> {
        match (self.timestamp, self.until) {
            (Some(start), Some(until)) if start >= until => {
                Err(ConfigError::of("--until", &until.to_string(), format!("must be later than --timestamp {start}")))
            }
            _ => Ok(()),
        }
    }

    fn request(&self) -> ReadRequest {
        let bounds = ReadBounds { count: self.count, bytes: self.bytes, until: self.until.map(Timestamp::new) };
        ReadRequest { start: self.start(), clamp: self.clamp, bounds, wait: self.wait_for(&bounds) }
    }

    fn start(&self) -> ReadStart {
        match (self.seq_num, self.timestamp, self.tail_offset) {
            (_, Some(timestamp), _) => ReadStart::Timestamp(Timestamp::new(timestamp)),
            (_, _, Some(offset)) => ReadStart::TailOffset(offset),
            (seq_num, None, None) => ReadStart::SeqNum(SeqNum::new(seq_num.unwrap_or_default())),
        }
    }

    /// Without bounds a session follows for ever by itself; with one it ends at the tail unless it is told to wait.
    fn wait_for(&self, bounds: &ReadBounds) -> Option<Duration> {
        const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
        match self.follow {
            true => (!bounds.is_unlimited()).then_some(FOR_EVER),
            false => self.wait.map(|secs| Duration::from_secs(secs.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: ReadArgs,
    }

    fn parse(words: &str) -> Result<Said, clap::Error> {
        Said::try_parse_from(["read", "my-basin-01/s"].into_iter().chain(words.split_whitespace()))
    }

    fn resolve(words: &str) -> ReadConfig {
        parse(words).expect("grammatical").args.resolve().expect(words)
    }

    #[test]
    fn starts() {
        for (words, start) in [
            ("", ReadStart::SeqNum(SeqNum::FIRST)),
            ("--seq-num 7", ReadStart::SeqNum(SeqNum::new(7))),
            ("--timestamp 8", ReadStart::Timestamp(Timestamp::new(8))),
            ("--tail-offset 0", ReadStart::TailOffset(0)),
        ] {
            assert_eq!(resolve(words).request.start, start, "{words}");
        }
        assert!(parse("--seq-num 1 --tail-offset 1").is_err());
        assert!(parse("--timestamp 1 --seq-num 1").is_err());
    }

    #[test]
    fn ends() {
        let for_ever = Some(Duration::from_secs(u32::MAX.into()));
        for (words, end, wait) in [
            ("", ReadEnd::Tail, None),
            ("--count 3", ReadEnd::Tail, None),
            ("--until 9 --clamp", ReadEnd::Tail, None),
            ("--follow", ReadEnd::Request, None),
            ("-f -n 3", ReadEnd::Request, for_ever),
            ("--wait 5", ReadEnd::Request, Some(Duration::from_secs(5))),
            ("--wait 0 --bytes 10", ReadEnd::Request, Some(Duration::ZERO)),
        ] {
            let config = resolve(words);
            assert_eq!((config.end, config.request.wait), (end, wait), "{words}");
        }
        assert!(parse("--follow --wait 1").is_err());
    }

    #[test]
    fn a_read_ends_after_it_starts() {
        let said = parse("--timestamp 9 --until 9").unwrap();
        let error = said.args.resolve().unwrap_err();
        assert_eq!((error.flag, error.value.as_deref()), ("--until", Some("9")));
    }

    #[test]
    fn formats() {
        assert_eq!(resolve("").format, OutputFormat::Raw);
        assert_eq!(resolve("--json").format, OutputFormat::Json);
        assert_eq!(resolve("--json --base64").format, OutputFormat::JsonBase64);
        assert!(parse("--base64").is_err());
    }
}
