//! Where a server is: what an operator writes, and what that means (`http.md` §3).
//!
//! Knows nothing of connections; a value of this type is an address that can be tried.

use std::{fmt, str::FromStr, sync::Arc};

use http::Uri;

/// Whether the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/2 by prior knowledge over TCP.
    Http,
    /// HTTP/2 over TLS, agreed by ALPN.
    Https,
}

impl Scheme {
    const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// The address of a server: scheme, host, port, and the path before `/streams`.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    scheme: Scheme,
    /// Without the brackets of an IPv6 address.
    host: Arc<str>,
    port: u16,
    /// Begins with `/` and does not end with one; empty for a bare root.
    base_path: Arc<str>,
}

/// Why a text is not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL at all, or one without a host.
    #[error("not an address like `http://127.0.0.1:8080` or `gateway.example.org`")]
    Malformed,
    /// A scheme that is not spoken here.
    #[error("the scheme must be `http` or `https`, not `{0}`")]
    Scheme(String),
    /// A user, a query or a fragment, which mean nothing here.
    #[error("an address has no user, query or fragment")]
    Surplus,
}

impl Endpoint {
    /// Whether the connection is encrypted.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Name or IP address, an IPv6 one without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of `path`, which begins with `/` and is percent-encoded.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin(), self.base_path)
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        let scheme = self.scheme.as_str();
        match self.host.contains(':') {
            true => format!("{scheme}://[{}]:{}", self.host, self.port),
            false => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Without a scheme, `localhost` and `127.0.0.1` are taken as `http` and everything else as `https`; without a
    /// path, it is `/v1`; with one, even `/`, the path is used as it is.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = split_scheme(text)?;
        if rest.contains(['@', '?', '#']) {
            return Err(EndpointError::Surplus);
        }
        // The scheme given to the parser is of no matter, it only makes the rest an absolute form.
        let uri: Uri = format!("http://{rest}").parse().map_err(|_| EndpointError::Malformed)?;
        let authority = uri.authority().ok_or(EndpointError::Malformed)?;
        let port = port(&authority.as_str()[authority.host().len()..])?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(EndpointError::Malformed);
        }
        let scheme = scheme.unwrap_or_else(|| scheme_of(host));
        let base_path = if rest.contains('/') { uri.path().trim_end_matches('/') } else { "/v1" };
        Ok(Self {
            scheme,
            host: host.into(),
            port: port.unwrap_or_else(|| scheme.default_port()),
            base_path: base_path.into(),
        })
    }
}

/// What stands behind the host: nothing, or a colon and a port.
fn port(text: &str) -> Result<Option<u16>, EndpointError> {
    match text.strip_prefix(':') {
        Some(port) => port.parse().map(Some).map_err(|_| EndpointError::Malformed),
        None => Ok(None),
    }
}

fn split_scheme(text: &str) -> Result<(Option<Scheme>, &str), EndpointError> {
    match text.split_once("://") {
        None => Ok((None, text)),
        Some(("http", rest)) => Ok((Some(Scheme::Http), rest)),
        Some(("https", rest)) => Ok((Some(Scheme::Https), rest)),
        Some((other, _)) => Err(EndpointError::Scheme(other.into())),
    }
}

fn scheme_of(host: &str) -> Scheme {
    match host {
        "localhost" | "127.0.0.1" => Scheme::Http,
        _ => Scheme::Https,
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_and_what_it_means() {
        // http.md §3: scheme by host, `/v1` unless a path is given
        for (written, meant) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
            ("https://gateway.example.org", "https://gateway.example.org:443/v1"),
            ("localhost:8080", "http://localhost:8080/v1"),
            ("127.0.0.1", "http://127.0.0.1:80/v1"),
            ("gateway.example.org", "https://gateway.example.org:443/v1"),
            ("10.0.0.7:9000", "https://10.0.0.7:9000/v1"),
            ("http://host/", "http://host:80"),
            ("http://host/s2/v1", "http://host:80/s2/v1"),
            ("http://host:1/s2/v1/", "http://host:1/s2/v1"),
            ("http://[::1]:8080", "http://[::1]:8080/v1"),
        ] {
            let endpoint: Endpoint = written.parse().unwrap_or_else(|e| panic!("{written}: {e}"));
            assert_eq!(endpoint.url(""), meant, "{written}");
        }
    }

    #[test]
    fn what_is_not_an_address() {
        for (written, why) in [
            ("", EndpointError::Malformed),
            ("http://", EndpointError::Malformed),
            ("http://host:99999", EndpointError::Malformed),
            ("http://host:", EndpointError::Malformed),
            ("a b", EndpointError::Malformed),
            ("ftp://host", EndpointError::Scheme("ftp".into())),
            ("http://user@host", EndpointError::Surplus),
            ("http://host/?a=b", EndpointError::Surplus),
        ] {
            assert_eq!(written.parse::<Endpoint>(), Err(why), "{written:?}");
        }
    }

    #[test]
    fn paths_follow_the_base() {
        let endpoint: Endpoint = "localhost:8080".parse().unwrap();
        assert_eq!(endpoint.url("/streams/a%2Fb/records"), "http://localhost:8080/v1/streams/a%2Fb/records");
        let v6: Endpoint = "http://[::1]:8080".parse().unwrap();
        assert_eq!(v6.host(), "::1");
    }
}
