//! What is known of a basin and of a stream besides its records: as it is kept, and as a listing shows it.

use super::{
    BasinConfig, BasinName, Cipher, RequestToken, SeqNum, StreamConfig, StreamConfigLayer, StreamId, StreamName,
    Timestamp,
};

/// The request that made a basin or a stream, kept as long as that exists, so that the same request again is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation<C> {
    /// The token it came with.
    pub token: RequestToken,
    /// The configuration it asked for, as it was asked for.
    pub config: C,
}

/// A basin as the catalogue keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasinEntry {
    /// Its configuration.
    pub config: BasinConfig,
    /// Where it is said to live.
    pub location: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its deletion was asked for, while that goes on.
    pub deleted_at: Option<Timestamp>,
    /// The request that made it, if that can come again.
    pub creation: Option<Creation<BasinConfig>>,
}

/// A stream as the catalogue keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// Which life of the name this is.
    pub id: StreamId,
    /// Its configuration, nothing left open.
    pub config: StreamConfig,
    /// The cipher it was made with.
    pub cipher: Option<Cipher>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its deletion was asked for, while that goes on.
    pub deleted_at: Option<Timestamp>,
    /// It goes because it was empty, with its tail here, and only if nobody appended before all had heard of that. Nothing
    /// if it goes in any case, or if one process has it alone, which knows.
    pub empty_at: Option<SeqNum>,
    /// The request that made it, if that can come again.
    pub creation: Option<Creation<StreamConfigLayer>>,
}

/// A basin as a listing shows it (`control-plane.md` §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasinInfo {
    /// Its name.
    pub name: BasinName,
    /// Where it is said to live.
    pub location: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its deletion was asked for, while that goes on.
    pub deleted_at: Option<Timestamp>,
}

/// A stream as a listing shows it (`control-plane.md` §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: StreamName,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its deletion was asked for, while that goes on.
    pub deleted_at: Option<Timestamp>,
    /// The cipher it was made with.
    pub cipher: Option<Cipher>,
}

/// Some entries of a listing, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Whether more match after the last one.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// Nothing, and nothing more.
    pub const EMPTY: Self = Self { entries: Vec::new(), has_more: false };
}

/// What became of a request to make something, or to make sure of it (`s2-provision-result`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provision {
    /// It was not there before.
    Created,
    /// It was there, and has another configuration now.
    Updated,
    /// It was there just so.
    Noop,
}

impl Provision {
    /// As it travels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Provision::Created => "created",
            Provision::Updated => "updated",
            Provision::Noop => "noop",
        }
    }
}
