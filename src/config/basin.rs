//! What `basin create` and `basin delete` are told.

use super::{ConfigError, EndpointArgs, EndpointConfig, StreamSettings, names::basin_name};
use crate::types::{BasinConfig, BasinName, Cipher};

/// What was said to `basin create`.
#[derive(Clone, Debug, clap::Args)]
pub struct CreateBasinArgs {
    /// The basin: 8 to 48 lowercase letters, digits and hyphens
    #[arg(value_name = "BASIN")]
    pub basin: String,

    /// Encrypt the records of streams made in it, with a key that clients bring: aegis-256 or aes-256-gcm
    #[arg(long, value_name = "NAME")]
    pub cipher: Option<String>,

    /// Let an append make its stream if that is missing
    #[arg(long)]
    pub create_on_append: bool,

    /// Let a read make its stream if that is missing
    #[arg(long)]
    pub create_on_read: bool,

    /// What its streams fall back on.
    #[command(flatten)]
    pub defaults: StreamSettings,

    /// The server.
    #[command(flatten)]
    pub server: EndpointArgs,
}

/// What was said to `basin delete`.
#[derive(Clone, Debug, clap::Args)]
pub struct DeleteBasinArgs {
    /// The basin
    #[arg(value_name = "BASIN")]
    pub basin: String,

    /// The server.
    #[command(flatten)]
    pub server: EndpointArgs,
}

/// The basin to make.
#[derive(Clone, Debug)]
pub struct CreateBasinConfig {
    /// The server.
    pub server: EndpointConfig,
    /// Its name.
    pub basin: BasinName,
    /// Its configuration.
    pub config: BasinConfig,
}

/// The basin to delete.
#[derive(Clone, Debug)]
pub struct DeleteBasinConfig {
    /// The server.
    pub server: EndpointConfig,
    /// Its name.
    pub basin: BasinName,
}

impl CreateBasinArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<CreateBasinConfig, ConfigError> {
        Ok(CreateBasinConfig {
            server: self.server.resolve()?,
            basin: basin_name(&self.basin)?,
            config: BasinConfig {
                default_stream_config: self.defaults.resolve()?,
                stream_cipher: self.cipher.as_deref().map(cipher).transpose()?,
                create_stream_on_append: self.create_on_append,
                create_stream_on_read: self.create_on_read,
            },
        })
    }
}

impl DeleteBasinArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<DeleteBasinConfig, ConfigError> {
        Ok(DeleteBasinConfig { server: self.server.resolve()?, basin: basin_name(&self.basin)? })
    }
}

pub(super) fn cipher(text: &str) -> Result<Cipher, ConfigError> {
    let known = [Cipher::Aegis256, Cipher::Aes256Gcm];
    let found = known.into_iter().find(|cipher| cipher.name() == text);
    found.ok_or_else(|| ConfigError::of("--cipher", text, "expected aegis-256 or aes-256-gcm"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::types::{RetentionPolicy, StreamConfigLayer};

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: CreateBasinArgs,
    }

    fn resolve(words: &[&str]) -> Result<CreateBasinConfig, ConfigError> {
        Said::try_parse_from([&["create"], words].concat()).expect("grammatical").args.resolve()
    }

    #[test]
    fn settings_of_basins() {
        // control-plane.md §3.2
        assert_eq!(resolve(&["my-basin-01"]).unwrap().config, BasinConfig::default());
        for (name, cipher) in [("aegis-256", Cipher::Aegis256), ("aes-256-gcm", Cipher::Aes256Gcm)] {
            let said = format!("my-basin-01 --cipher {name} --create-on-append --create-on-read --retention infinite");
            let config = resolve(&said.split(' ').collect::<Vec<_>>()).unwrap();
            let defaults =
                StreamConfigLayer { retention_policy: Some(RetentionPolicy::Infinite), ..Default::default() };
            let expected = BasinConfig {
                default_stream_config: defaults,
                stream_cipher: Some(cipher),
                create_stream_on_append: true,
                create_stream_on_read: true,
            };
            assert_eq!((config.basin.as_str(), config.config), ("my-basin-01", expected));
        }
    }

    #[test]
    fn errors_name_flag_and_value() {
        for (flag, value) in [("--cipher", "AES"), ("--retention", "0"), ("--addr", "ftp://h")] {
            let error = resolve(&["my-basin-01", flag, value]).expect_err(flag);
            assert_eq!((error.flag, error.value.as_deref()), (flag, Some(value)));
        }
        assert_eq!(resolve(&["short"]).unwrap_err().flag, "BASIN");
    }
}
