//! What the operator said, and what it means.
//!
//! Everything typed passes two stages. The `…Args` say what was said: flags as words, nothing judged, `clap` fills them.
//! The `…Config` are what it means: checked values that whoever does the work takes as they are. Between the two stands
//! one function each, which opens no port, reads no file and asks no environment, and whose errors name the flag, the
//! value and the rule. What becomes of a configuration is not known here.

mod append;
mod basin;
mod bench;
mod connect;
mod endpoint;
mod listing;
mod names;
mod nats;
mod quantity;
mod read;
mod serve;
mod settings;
mod store;
mod stream;
mod token;

use std::fmt;

pub use append::{AppendArgs, AppendConfig, LineFormat};
pub use basin::{CreateBasinArgs, CreateBasinConfig, DeleteBasinArgs, DeleteBasinConfig};
pub use bench::{BenchArgs, BenchConfig, BenchStore, BenchTarget, Body, LEAST_RECORD, Load, Scenario, Via};
pub use connect::{ConnectArgs, ConnectConfig};
pub use endpoint::{EndpointArgs, EndpointConfig};
pub use listing::{ListArgs, ListConfig, ListFormat};
pub use quantity::{QuantityError, parse_duration, parse_size};
pub use read::{OutputFormat, ReadArgs, ReadConfig, ReadEnd};
pub use serve::{ServeArgs, ServeConfig, root_token};
pub use settings::StreamSettings;
pub use store::StoreConfig;
pub use stream::{
    CreateStreamArgs, CreateStreamConfig, DeleteStreamArgs, DeleteStreamConfig, ListStreamsArgs, ListStreamsConfig,
    TailArgs, TailConfig,
};
pub use token::{IssueTokenArgs, IssueTokenConfig, RevokeTokenArgs, RevokeTokenConfig};

/// Something said that means nothing, or contradicts something else that was said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The flag or argument, as it is typed.
    pub flag: &'static str,
    /// What was said, if it is not the flag alone that is wrong.
    pub value: Option<String>,
    /// What holds instead.
    pub rule: String,
}

impl ConfigError {
    fn of(flag: &'static str, value: &str, rule: impl fmt::Display) -> Self {
        Self { flag, value: Some(value.into()), rule: rule.to_string() }
    }

    fn alone(flag: &'static str, rule: impl fmt::Display) -> Self {
        Self { flag, value: None, rule: rule.to_string() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} {value:?}: {}", self.flag, self.rule),
            None => write!(f, "{}: {}", self.flag, self.rule),
        }
    }
}

fn size(flag: &'static str, text: &str) -> Result<usize, ConfigError> {
    parse_size(text).map_err(|error| ConfigError::of(flag, text, error))
}
