//! What one writer of a load is to do. Knows no time and sends nothing.

use std::sync::Arc;

use super::body::Batches;
use crate::{
    client::{Client, EncryptionKey, StreamPath},
    config::Via,
};

/// What a writer writes, and where.
#[derive(Clone)]
pub(super) struct Assignment {
    pub(super) client: Client,
    /// Which of the run's streams.
    pub(super) stream: usize,
    pub(super) path: StreamPath,
    /// What the records are encrypted with if the stream has a cipher.
    pub(super) key: Option<EncryptionKey>,
    pub(super) via: Via,
    pub(super) batches: Arc<Batches>,
    /// Batches that may wait for their acks.
    pub(super) in_flight: usize,
    /// Which of the run's tasks.
    pub(super) task: usize,
}
