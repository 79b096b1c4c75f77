//! What `append` is told.

use std::time::Duration;

use super::{ConfigError, ConnectArgs, ConnectConfig, parse_duration};
use crate::{
    client::{AppendRetry, Conditions},
    types::{FencingToken, SeqNum},
};

/// What was said to `append`.
#[derive(Clone, Debug, clap::Args)]
pub struct AppendArgs {
    /// The server and the stream.
    #[command(flatten)]
    pub connect: ConnectArgs,

    /// Make the basin and the stream first if they are missing
    #[arg(long)]
    pub create: bool,

    /// The sequence number that the first record must get
    #[arg(long, value_name = "N")]
    pub match_seq_num: Option<u64>,

    /// The fencing token that must be in force; "" for none
    #[arg(long, value_name = "TOKEN")]
    pub fencing_token: Option<String>,

    /// Take each line as a JSON object with "body", "headers" (pairs of name and value) and "timestamp"
    #[arg(long)]
    pub json: bool,

    /// With --json: names, values and bodies are base64
    #[arg(long, requires = "json")]
    pub base64: bool,

    /// How long a batch waits for more lines
    #[arg(long, value_name = "DURATION", default_value = "5ms")]
    pub linger: String,

    /// Do not try again where a record could go in twice
    #[arg(long)]
    pub no_duplicates: bool,

    /// Show neither progress nor the last position
    #[arg(long, short)]
    pub quiet: bool,
}

/// What `append` does.
#[derive(Clone, Debug)]
pub struct AppendConfig {
    /// The server and the stream.
    pub connect: ConnectConfig,
    /// Whether to make basin and stream first.
    pub create: bool,
    /// Under which conditions records may go in; `match_seq_num` is the first record's, those after it follow.
    pub conditions: Conditions,
    /// What a line is.
    pub format: LineFormat,
    /// How long a batch waits for more lines.
    pub linger: Duration,
    /// What to try again.
    pub retry: AppendRetry,
    /// Whether to show neither progress nor the last position.
    pub quiet: bool,
}

/// What a line of input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// The body of a record.
    #[default]
    Text,
    /// A record as JSON, its texts as they are.
    Json,
    /// A record as JSON, its texts in base64.
    JsonBase64,
}

impl AppendArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<AppendConfig, ConfigError> {
        Ok(AppendConfig {
            connect: self.connect.resolve()?,
            create: self.create,
            conditions: Conditions {
                match_seq_num: self.match_seq_num.map(SeqNum::new),
                fencing_token: self.fencing_token.as_deref().map(fencing_token).transpose()?,
            },
            format: match (self.json, self.base64) {
                (false, _) => LineFormat::Text,
                (true, false) => LineFormat::Json,
                (true, true) => LineFormat::JsonBase64,
            },
            linger: linger(&self.linger)?,
            retry: match self.no_duplicates {
                true => AppendRetry::NoSideEffects,
                false => AppendRetry::All,
            },
            quiet: self.quiet,
        })
    }
}

fn fencing_token(text: &str) -> Result<FencingToken, ConfigError> {
    FencingToken::new(text).map_err(|error| ConfigError::of("--fencing-token", text, error))
}

fn linger(text: &str) -> Result<Duration, ConfigError> {
    match parse_duration(text) {
        Ok(linger) if linger <= Duration::from_secs(60) => Ok(linger),
        Ok(_) => Err(ConfigError::of("--linger", text, "at most 60s")),
        Err(error) => Err(ConfigError::of("--linger", text, error)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: AppendArgs,
    }

    fn resolve(words: &[&str]) -> Result<AppendConfig, ConfigError> {
        Said::try_parse_from([&["append", "my-basin-01/s"], words].concat()).expect("grammatical").args.resolve()
    }

    #[test]
    fn nothing_said() {
        let config = resolve(&[]).unwrap();
        assert_eq!(config.conditions, Conditions::default());
        assert_eq!((config.format, config.retry), (LineFormat::Text, AppendRetry::All));
        assert_eq!(config.linger, Duration::from_millis(5));
        assert!(!config.create && !config.quiet);
    }

    #[test]
    fn conditions_of_zero_and_of_nothing_are_conditions() {
        // data-plane.md §3.1, §3.2
        let config = resolve(&["--match-seq-num", "0", "--fencing-token", ""]).unwrap();
        let conditions = Conditions { match_seq_num: Some(SeqNum::FIRST), fencing_token: Some(FencingToken::NONE) };
        assert_eq!(config.conditions, conditions);
    }

    #[test]
    fn formats() {
        assert_eq!(resolve(&["--json"]).unwrap().format, LineFormat::Json);
        assert_eq!(resolve(&["--json", "--base64"]).unwrap().format, LineFormat::JsonBase64);
        assert!(Said::try_parse_from(["append", "my-basin-01/s", "--base64"]).is_err(), "base64 of what?");
    }

    #[test]
    fn errors_name_flag_and_value() {
        let long = "x".repeat(37);
        for (words, flag) in [
            (["--fencing-token", &long], "--fencing-token"),
            (["--linger", "5"], "--linger"),
            (["--linger", "2m"], "--linger"),
            (["--addr", ""], "--addr"),
        ] {
            let error = resolve(&words).expect_err(flag);
            assert_eq!((error.flag, error.value.as_deref()), (flag, Some(words[1])));
        }
    }
}
