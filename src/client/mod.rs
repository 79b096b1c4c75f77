//! The protocol from the other side: append sessions, read sessions and a few calls, over one HTTP/2 connection that is
//! made again when it is gone.
//!
//! | file | what it is | sockets and time |
//! |---|---|---|
//! | `endpoint`, `stream`, `query` | what is talked to, and how it is named | none |
//! | `error` | what went wrong: whose fault, and whether it happened | none |
//! | `retry` | whether to try again, and when | a parameter |
//! | `resume` | what is left of a read | a parameter |
//! | `window` | which inputs wait for acks, and whether an ack fits | none |
//! | `input`, `template` | an append input, built once; one that is filled anew each time | none |
//! | `body` | frames from a session to its connection | none |
//! | `connection`, `tls`, `request` | the shell: connections, requests, refusals | yes |
//! | `append`, `read`, `session` | sessions over them | yes |
//! | `unary`, `catalogue` | calls over them | yes |
//!
//! This room knows `wire` and `types`, and nothing of the server.

mod append;
mod body;
mod catalogue;
mod connection;
mod endpoint;
mod error;
mod input;
mod query;
mod read;
mod request;
mod resume;
mod retry;
mod session;
mod stream;
mod template;
mod tls;
mod unary;
mod window;

use std::{fmt, sync::Arc};

pub use append::{AppendOptions, AppendSession, DEFAULT_UNACKED_LIMIT};
pub use catalogue::Ensured;
pub use endpoint::{Endpoint, EndpointError, Scheme};
pub use error::{Awaited, ClientError, Fault, ProtocolError};
pub use input::{Conditions, EncodedInput, InputBuilder, JsonInput};
pub use read::{ReadOptions, ReadSession};
pub use resume::ReadProgress;
pub use retry::{AdviceLimit, AppendRetry, AtStake, Attempts, RetryPolicy, Verdict};
pub use stream::{EncryptionKey, EncryptionKeyError, StreamPath, Token, TokenError};
pub use template::InputTemplate;
pub use tls::CertificateCheck;

use self::{connection::Pool, request::Sender};
use crate::types::ReadRequest;

/// Whom to talk to, and how.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The server.
    pub endpoint: Endpoint,
    /// What to present to it.
    pub token: Option<Token>,
    /// Whether to look at its certificate.
    pub certificates: CertificateCheck,
    /// How to go on after failures.
    pub retry: RetryPolicy,
}

impl ClientConfig {
    /// `endpoint`, without a token, certificates verified, with the usual patience.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, token: None, certificates: CertificateCheck::Verify, retry: RetryPolicy::default() }
    }
}

/// A client of one server; a cheap handle. It must be used within a tokio runtime.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    sender: Sender,
    retry: RetryPolicy,
}

impl Client {
    /// A client that will connect when it is first used. Fails only if there can be no TLS.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let ClientConfig { endpoint, token, certificates, retry } = config;
        let pool = Pool::new(endpoint.clone(), certificates)?;
        Ok(Self(Arc::new(Shared { sender: Sender { endpoint, token, pool }, retry })))
    }

    /// An append session to `stream`. It opens when it is first asked for acks.
    pub fn append_session(&self, stream: &StreamPath, options: AppendOptions) -> AppendSession {
        AppendSession::new(self.clone(), stream, options)
    }

    /// A read session from `stream`. It opens when it is first asked for a batch.
    pub fn read_session(&self, stream: &StreamPath, request: ReadRequest, options: ReadOptions) -> ReadSession {
        ReadSession::new(self.clone(), stream.clone(), request, options)
    }

    fn sender(&self) -> &Sender {
        &self.0.sender
    }

    fn retry_policy(&self) -> RetryPolicy {
        self.0.retry
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.0.sender.endpoint).finish_non_exhaustive()
    }
}
