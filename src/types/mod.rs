//! Values: names, positions, records, batches, limits, configurations, error codes.
//!
//! Everything here is plain data that cannot exist against its rules. Nothing here knows a runtime, a socket, a file, a
//! clock, or another module of the crate; the only bytes it knows are those of a record (`layout`).

mod access_token;
mod append;
mod arrivals;
mod batch;
mod catalogue;
mod compression;
mod config;
mod error;
mod init;
pub(crate) mod layout;
pub mod limits;
mod loans;
mod location;
mod memory;
mod name;
mod position;
mod read;
mod reconfigure;
mod record;
mod scope;
mod secret;
mod stream;
#[doc(hidden)]
pub mod testing;
mod usage;

pub use access_token::{AccessTokenEntry, AccessTokenInfo, Expiry, TokenHash};
pub use append::{AppendAck, AppendBatch, AppendInput, AppendRecord, BatchError};
pub(crate) use append::{CollectError, put_append_record};
pub use arrivals::{ArrivalMark, Arrivals};
pub use batch::{Batch, BatchSlice, Cut};
pub(crate) use batch::{Rewriting, StoredEntry};
pub use catalogue::{BasinEntry, BasinInfo, Creation, Page, Provision, StreamEntry, StreamInfo};
pub use compression::Compression;
pub use config::{
    BasinConfig, Cipher, RetentionPolicy, StorageClass, StreamConfig, StreamConfigLayer, Timestamping, TimestampingMode,
};
pub use error::{ApiError, Effect, ErrorCode, Retry};
pub use init::{InitBasin, InitStream};
pub use loans::{Loans, Others};
pub use location::{LocationInfo, LocationName};
pub use memory::MemoryShares;
pub use name::{
    AccessTokenId, AccessTokenIdPart, BasinName, BasinNamePart, NameError, RequestToken, StreamName, StreamNamePart,
};
pub use position::{Position, SeqNum, Timestamp};
pub use read::{ReadBounds, ReadRequest, ReadStart};
pub use reconfigure::{BasinReconfiguration, Change, StreamReconfiguration};
pub use record::{
    Command, FencingToken, FencingTokenTooLong, RecordError, RecordFields, SequencedRecord, metered_size,
};
pub use scope::{
    AccessTokenSet, BasinSet, Denied, GroupLevel, OpGroup, OpGroups, Operation, Operations, OutOfScope, ResourceSet,
    Scope, StreamSet,
};
pub use secret::{EmptySecret, Secret};
pub use stream::{Head, StreamId};
pub use usage::{
    AccountMetricSet, AccountOperation, BasinMetricSet, BasinOperation, ConnectionId, Interval, Metric, MetricQuery,
    MetricQueryError, MetricSet, MetricUnit, RANGE_LEEWAY, RangeLimits, StoredSize, StreamMetricSet, TimeRange,
    UsagePage, epoch_seconds,
};
