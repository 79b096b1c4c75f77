//! Why a store in NATS cannot be opened, in words for the operator.

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An address, or what is to authenticate the gateway, cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// No server took the connection.
    #[error("no connection to NATS: {0}")]
    Unreachable(String),
    /// A server is too old.
    #[error("the NATS server has version {0}; 2.12.0 or later is needed")]
    Version(String),
    /// Servers do not take messages of the size that a batch has.
    #[error("max_payload of the NATS servers is {0} bytes; 2097152 or more are needed (max_payload: 8MB in nats.conf)")]
    Payload(usize),
    /// The engine does not keep anything.
    #[error("JetStream cannot be used: {0}")]
    JetStream(String),
    /// A server acknowledges what is not on its disk.
    #[error(
        "the NATS server at {0} acknowledges before it syncs, and may lose that: set `sync_interval: always` in its \
         jetstream block"
    )]
    NotSyncing(String),
    /// It cannot be seen whether servers do.
    #[error(
        "{seen} NATS servers said that they sync before they acknowledge, {needed} are needed ({reason}). If they do, \
         --nats-assume-synced goes on without asking"
    )]
    SyncUnseen {
        /// How many said so.
        seen: usize,
        /// A majority of the replicas.
        needed: usize,
        /// Why there are not more.
        reason: String,
    },
    /// The store was made in another shape.
    #[error("the store in NATS has {found} {what}; it cannot have {asked}")]
    Shape {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: String,
        /// How many were asked for.
        asked: String,
    },
}
