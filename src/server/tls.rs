//! TLS for the listener: certificates from files or made at start, and what is offered to clients (`http.md` §2).

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

/// Where the listener's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// From PEM files: the chain, the server's own certificate first, and its key.
    Files {
        /// The chain.
        chain: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Made at start for `localhost` and the loopback addresses; clients must be told not to verify it.
    SelfSigned,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read or has nothing of the kind in it.
    #[error("certificate or key {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key are not usable, or not for each other.
    #[error("certificate and key: {0}")]
    Unusable(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("making a certificate: {0}")]
    Making(#[from] rcgen::Error),
}

/// Takes connections in over TLS 1.2 or 1.3, with `h2` and `http/1.1` to choose from.
pub(super) fn acceptor(certificate: &Certificate) -> Result<TlsAcceptor, TlsError> {
    let (chain, key) = match certificate {
        Certificate::Files { chain, key } => (read_chain(chain)?, read_key(key)?),
        Certificate::SelfSigned => self_signed()?,
    };
    // Named, because a process that links two providers has no default one.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn self_signed() -> Result<Identity, rcgen::Error> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.into()], key.into()))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(|chain| chain.collect::<Result<Vec<_>, _>>());
    match read {
        Ok(chain) if chain.is_empty() => Err(unreadable(path, "no certificate in it")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, reason: impl std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

/// A handshake that failed, as an I/O error like any other of a connection.
pub(super) async fn accept<S>(acceptor: &TlsAcceptor, socket: S) -> io::Result<tokio_rustls::server::TlsStream<S>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    tokio::time::timeout(super::http2::HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_can_be_made() {
        assert!(acceptor(&Certificate::SelfSigned).is_ok());
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let certificate = Certificate::Files { chain: chain.clone(), key };
        let error = acceptor(&certificate).err().unwrap().to_string();
        assert!(error.contains("chain.pem"), "{error}");
        std::fs::write(&chain, "nothing of the kind").unwrap();
        let error = acceptor(&certificate).err().unwrap().to_string();
        assert!(error.contains("no certificate"), "{error}");
    }
}
