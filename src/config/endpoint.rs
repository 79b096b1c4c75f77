//! Which server to talk to, and as whom: what every command but `serve` is told.

use super::ConfigError;
use crate::{
    client::{CertificateCheck, Endpoint, Token},
    types::{EmptySecret, Secret},
};

/// What was said of the server.
#[derive(Clone, Debug, clap::Args)]
pub struct EndpointArgs {
    /// Address of the server
    #[arg(long, value_name = "URL", env = "S2S_ADDR", default_value = "http://127.0.0.1:8080")]
    pub addr: String,

    /// Access token to present
    #[arg(long, value_name = "TOKEN", env = "S2S_TOKEN", hide_env_values = true, value_parser = secret)]
    pub token: Option<Secret>,

    /// Take any certificate that the server shows
    #[arg(long)]
    pub insecure: bool,
}

/// Which server, and what to present to it.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// The server.
    pub endpoint: Endpoint,
    /// What to present.
    pub token: Option<Token>,
    /// Whether to look at the server's certificate.
    pub certificates: CertificateCheck,
}

impl EndpointArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<EndpointConfig, ConfigError> {
        Ok(EndpointConfig {
            endpoint: self.addr.parse().map_err(|error| ConfigError::of("--addr", &self.addr, error))?,
            token: self.token.as_ref().map(token).transpose()?,
            certificates: match self.insecure {
                true => CertificateCheck::Skip,
                false => CertificateCheck::Verify,
            },
        })
    }
}

/// Keeps what is said out of sight from the beginning.
pub(super) fn secret(text: &str) -> Result<Secret, EmptySecret> {
    Secret::new(text)
}

/// The value is a secret: an error shows nothing of it.
fn token(text: &Secret) -> Result<Token, ConfigError> {
    Token::new(text.expose()).map_err(|error| ConfigError::alone("--token", error))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: EndpointArgs,
    }

    fn said(words: &[&str]) -> EndpointArgs {
        Said::try_parse_from([&["it"], words].concat()).expect("grammatical").args
    }

    #[test]
    fn the_server() {
        let config = said(&["--insecure", "--addr", "https://h:1"]).resolve().unwrap();
        assert_eq!((config.endpoint.origin().as_str(), config.certificates), ("https://h:1", CertificateCheck::Skip));
        assert_eq!(said(&["--addr", "ftp://h"]).resolve().unwrap_err().flag, "--addr");
        assert_eq!(said(&[]).resolve().unwrap().certificates, CertificateCheck::Verify);
    }

    #[test]
    fn a_token_is_never_shown() {
        let error = said(&["--token", "sec\nret"]).resolve().unwrap_err();
        assert!(!error.to_string().contains("ret"), "{error}");
        let said = said(&["--token", "secret"]);
        assert!(!format!("{said:?} {:?}", said.resolve().unwrap()).contains("secret"));
        assert!(Said::try_parse_from(["it", "--token", ""]).is_err());
    }
}
