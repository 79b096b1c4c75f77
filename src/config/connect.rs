//! Which server to talk to, and how: what `append` and `read` are told alike.

use super::ConfigError;
use crate::{
    client::{CertificateCheck, Endpoint, StreamPath, Token},
    types::{BasinName, Compression, StreamName},
};

/// What was said of the server and the stream.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectArgs {
    /// The stream: its basin, a slash, its name; s2:// in front may stand
    #[arg(value_name = "BASIN/STREAM")]
    pub stream: String,

    /// Address of the server
    #[arg(long, value_name = "URL", env = "S2S_ADDR", default_value = "http://127.0.0.1:8080")]
    pub addr: String,

    /// Access token to present
    #[arg(long, value_name = "TOKEN", env = "S2S_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Take any certificate that the server shows
    #[arg(long)]
    pub insecure: bool,

    /// Compression of what is sent, or asked for: none, zstd or gzip
    #[arg(long, value_name = "NAME", default_value = "none")]
    pub compression: String,
}

/// Which server and which stream.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// The stream.
    pub stream: StreamPath,
    /// The server.
    pub endpoint: Endpoint,
    /// What to present.
    pub token: Option<Token>,
    /// Whether to look at the server's certificate.
    pub certificates: CertificateCheck,
    /// Of the session's frames.
    pub compression: Compression,
}

impl ConnectArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<ConnectConfig, ConfigError> {
        let endpoint = self.addr.parse().map_err(|error| ConfigError::of("--addr", &self.addr, error))?;
        Ok(ConnectConfig {
            stream: stream_path(&self.stream)?,
            endpoint,
            token: self.token.as_deref().map(token).transpose()?,
            certificates: match self.insecure {
                true => CertificateCheck::Skip,
                false => CertificateCheck::Verify,
            },
            compression: compression(&self.compression)?,
        })
    }
}

fn stream_path(text: &str) -> Result<StreamPath, ConfigError> {
    let wrong = |rule: &dyn std::fmt::Display| ConfigError::of("BASIN/STREAM", text, rule);
    let bare = text.strip_prefix("s2://").unwrap_or(text);
    let (basin, stream) = bare
        .split_once('/')
        .ok_or_else(|| wrong(&"expected the basin, a slash and the stream, e.g. my-basin-01/orders"))?;
    Ok(StreamPath {
        basin: BasinName::new(basin).map_err(|error| wrong(&error))?,
        stream: StreamName::new(stream).map_err(|error| wrong(&error))?,
    })
}

/// The value is a secret: an error shows nothing of it.
fn token(text: &str) -> Result<Token, ConfigError> {
    Token::new(text).map_err(|error| ConfigError::alone("--token", error))
}

fn compression(text: &str) -> Result<Compression, ConfigError> {
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
    fn streams_are_named_with_and_without_a_scheme() {
        for (said, basin, stream) in [
            ("my-basin-01/orders", "my-basin-01", "orders"),
            ("s2://my-basin-01/orders", "my-basin-01", "orders"),
            ("my-basin-01/orders/eu west", "my-basin-01", "orders/eu west"),
            ("my-basin-01//", "my-basin-01", "/"),
        ] {
            let path = resolve(&[said]).unwrap().stream;
            assert_eq!((path.basin.as_str(), path.stream.as_str()), (basin, stream));
        }
        for said in ["orders", "short/orders", "my-basin-01/", "my-basin-01/..", "http://my-basin-01/x"] {
            assert_eq!(resolve(&[said]).unwrap_err().flag, "BASIN/STREAM", "{said}");
        }
    }

    #[test]
    fn the_server() {
        let config =
            resolve(&["my-basin-01/s", "--insecure", "--addr", "https://h:1", "--compression", "zstd"]).unwrap();
        assert_eq!(config.endpoint.origin(), "https://h:1");
        assert_eq!((config.certificates, config.compression), (CertificateCheck::Skip, Compression::Zstd));
        assert_eq!(resolve(&["my-basin-01/s", "--addr", "ftp://h"]).unwrap_err().flag, "--addr");
        assert_eq!(resolve(&["my-basin-01/s", "--compression", "br"]).unwrap_err().flag, "--compression");
    }

    #[test]
    fn a_token_is_never_shown() {
        let error = resolve(&["my-basin-01/s", "--token", "sec\nret"]).unwrap_err();
        assert!(!error.to_string().contains("ret"), "{error}");
        let config = resolve(&["my-basin-01/s", "--token", "secret"]).unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }
}
