//! Which stream to talk to, and how: what `append` and `read` are told alike.

use super::{ConfigError, EndpointArgs, EndpointConfig, endpoint::secret, names::stream_path};
use crate::{
    client::{EncryptionKey, StreamPath},
    types::{Compression, Secret},
};

/// What was said of the server and the stream.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectArgs {
    /// The stream: its basin, a slash, its name; s2:// in front may stand
    #[arg(value_name = "BASIN/STREAM")]
    pub stream: String,

    /// The server.
    #[command(flatten)]
    pub server: EndpointArgs,

    /// Compression of what is sent, or asked for: none, zstd or gzip
    #[arg(long, value_name = "NAME", default_value = "none")]
    pub compression: String,

    /// Key of the records if the stream has a cipher: 32 bytes in base64. In the environment it is seen by fewer than
    /// on the command line
    #[arg(long, value_name = "KEY", env = "S2S_ENCRYPTION_KEY", hide_env_values = true, value_parser = secret)]
    pub encryption_key: Option<Secret>,
}

/// Which server and which stream.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// The stream.
    pub stream: StreamPath,
    /// The server.
    pub server: EndpointConfig,
    /// Of the session's frames.
    pub compression: Compression,
    /// What records are encrypted with.
    pub encryption_key: Option<EncryptionKey>,
}

impl ConnectArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<ConnectConfig, ConfigError> {
        Ok(ConnectConfig {
            stream: stream_path(&self.stream)?,
            server: self.server.resolve()?,
            compression: compression(&self.compression)?,
            encryption_key: self.encryption_key.as_ref().map(encryption_key).transpose()?,
        })
    }
}

/// The value is a secret: an error shows nothing of it.
pub(super) fn encryption_key(text: &Secret) -> Result<EncryptionKey, ConfigError> {
    EncryptionKey::new(text.expose()).map_err(|error| ConfigError::alone("--encryption-key", error))
}

pub(super) fn compression(text: &str) -> Result<Compression, ConfigError> {
    match text {
        "none" => Ok(Compression::None),
        "zstd" => Ok(Compression::Zstd),
        "gzip" => Ok(Compression::Gzip),
        _ => Err(ConfigError::of("--compression", text, "expected none, zstd or gzip")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: ConnectArgs,
    }

    fn resolve(words: &[&str]) -> Result<ConnectConfig, ConfigError> {
        Said::try_parse_from([&["it"], words].concat()).expect("grammatical").args.resolve()
    }

    #[test]
    fn compressions() {
        assert_eq!(resolve(&["my-basin-01/s"]).unwrap().compression, Compression::None);
        assert_eq!(resolve(&["my-basin-01/s", "--compression", "zstd"]).unwrap().compression, Compression::Zstd);
        assert_eq!(resolve(&["my-basin-01/s", "--compression", "br"]).unwrap_err().flag, "--compression");
    }

    #[test]
    fn a_key_is_never_shown() {
        const KEY: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=";
        let words = ["it", "my-basin-01/s", "--encryption-key", KEY];
        let said = Said::try_parse_from(words).expect("grammatical").args;
        let config = said.resolve().unwrap();
        assert!(config.encryption_key.is_some());
        assert!(!format!("{said:?} {config:?}").contains("c2Vj"));
        let error = resolve(&["my-basin-01/s", "--encryption-key", &KEY[..40]]).unwrap_err();
        assert_eq!((error.flag, error.value), ("--encryption-key", None));
    }
}
