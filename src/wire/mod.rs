//! Bytes ↔ values: S2S frames, compression, protobuf, JSON, error bodies.
//!
//! | file | bytes | values |
//! |---|---|---|
//! | `frame` | S2S frames, in chunks as they come | [`Frame`] |
//! | `frame_codec` | the same for `tokio_util::codec` | |
//! | `frame_buf` | response bodies of shared segments | [`FrameBuf`] |
//! | `compress` | zstd and gzip, bounded | |
//! | `protobuf` | the fields of any legal message | |
//! | `append_input` | `AppendInput` | [`AppendInput`](crate::types::AppendInput) |
//! | `ack` | `AppendAck` | [`AppendAck`](crate::types::AppendAck) |
//! | `read_batch` | `ReadBatch` | [`Batch`](crate::types::Batch), [`ReadBatch`] |
//! | `read_parts` | `ReadBatch`, where it lies | [`ReadPart`] |
//! | `sse` | server-sent events, `last-event-id` | [`EventId`](sse::EventId) |
//! | `decode_error` | what cannot be decoded | [`DecodeError`] |
//! | `error_body` | error JSON, terminal frames | [`ApiError`](crate::types::ApiError), [`RemoteError`] |
//! | `json` | JSON bodies of requests and responses | records, basins, streams, configurations |
//! | `calls` | JSON bodies as a client writes them | |
//! | `lines` | records as lines of JSON, for the command line | |
//! | `negotiate`, `params` | headers and query strings | compression, media types, [`ReadRequest`](crate::types::ReadRequest) |
//! | `metrics_query` | query strings about usage | [`MetricQuery`](crate::types::MetricQuery) |
//! | `catalogue` | entries of the meta table | [`BasinEntry`](crate::types::BasinEntry), [`StreamEntry`](crate::types::StreamEntry) |
//! | `token`, `usage` | the same for access tokens and for what was used | |
//!
//! This room knows no rule of a stream, no runtime (but for one trait of `tokio_util`), no socket and no clock. Everything
//! in it is a plain function of its arguments. What comes from a peer is never trusted: not a length, not a content size,
//! not the form of a message.

mod ack;
mod append_input;
pub mod calls;
pub mod catalogue;
mod compress;
mod decode_error;
mod error_body;
mod frame;
mod frame_buf;
mod frame_codec;
#[doc(hidden)]
pub mod fuzz;
pub mod json;
pub mod lines;
pub mod metrics_query;
pub mod negotiate;
pub mod params;
mod proto;
mod protobuf;
mod read_batch;
mod read_parts;
pub mod sse;
pub mod token;
pub mod usage;
#[cfg(test)]
mod worked_frames;

pub use ack::{AckError, decode_append_ack, encode_append_ack, put_append_ack};
pub use append_input::{InputError, RecordsWriter, append_input_of_frame, decode_append_input};
pub use compress::{COMPRESSION_THRESHOLD, DeflateError, InflateError, deflate, inflate};
pub use decode_error::DecodeError;
pub use error_body::{RemoteError, error_json, parse_error};
pub use frame::{
    Advice, Frame, FrameBuffer, FrameError, FrameTooLong, Terminal, message_frame, put_message_frame,
    put_terminal_frame, terminal_frame, with_advice,
};
pub use frame_buf::FrameBuf;
pub use frame_codec::{FrameCodec, FrameCodecError};
pub use protobuf::ProtobufError;
pub use read_batch::{
    ReadBatch, ReadBatchError, ReadRecord, decode_read_batch, encode_read_batch, follow_frame, heartbeat_frame,
    is_worth_sharing, page_frame, read_frames,
};
pub use read_parts::{ReadPart, ReadParts, RecordView, read_parts};
