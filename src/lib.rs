//! **s2s-gateway**: a session gateway for the S2 durable-streams API.
//!
//! Clients open append sessions and read sessions over HTTP/2 in the S2S protocol; the gateway checks, numbers and
//! stores their records through a storage trait and streams them back to readers.
//!
//! # The map
//!
//! | room | what it is for | what it does not know |
//! |---|---|---|
//! | [`types`] | values: names, positions, records, commands, limits, configurations, error codes, the sequenced batch | any other room |
//! | [`wire`] | bytes ↔ values: S2S frames, compression, protobuf, JSON, error bodies | rules of a stream, sockets |
//! | [`sequence`] | the rules of a stream: admit an input, plan a read | bytes on the wire, storage |
//! | [`encryption`] | records with the customer's key: what is encrypted, and how | rules of a stream, storage, randomness |
//! | [`store`] | durability: the traits, the contract suite, the backends | any rule of the protocol |
//! | [`usage`] | usage metrics: counted, kept in buckets, asked for | HTTP, what a stream is |
//! | [`streams`] | the service: open streams, append and read sessions, the catalogue | HTTP |
//! | [`auth`] | access tokens: issued, kept, recognised, revoked; who asks, and what they may | HTTP, streams |
//! | [`server`] | HTTP: listener and TLS, drain, routes, requests, responses, session bodies | how a stream decides |
//! | [`client`] | the same protocol from the other side | the server |
//! | [`config`] | what the operator said, and what it means | files, ports, what becomes of it |
//! | [`cli`] | `serve`; `append`, `read`; `token`, `basin`, `stream`; `bench` | everything behind them |
//! | [`telemetry`] | what the gateway counts about itself | sessions and streams |
//! | [`memory`] | bytes of memory counted against a limit; whole pages of it | what they are used for |
//! | `watchers` | sessions that are to be woken when something ends | what ends |
//! | `to_the_end` | work that goes on although nobody waits for it | what it is |
//! | [`clock`] | the time of day, and the time for deadlines | |
//!
//! Arrows point down only; no two modules import each other:
//!
//! ```text
//!                 cli, main
//!                     │
//!                   config
//!         ┌───────────┴──────────────┐
//!      client                     server
//!         │        ┌─────────────────┼─────┐
//!         │     streams              │    auth
//!         │        ├─────────┬───────┴─┐   │
//!         │        │       usage   telemetry
//!         │        ├─────────┤             │
//!         └───── wire    sequence    store ┘   encryption
//!                  └─────────┴─────────┴───────────┘
//!                                types                    clock, memory, watchers, to_the_end:
//!                                                         from every room that needs them
//! ```
//!
//! What holds:
//!
//! * `types`, `wire`, `sequence` and `encryption` know no runtime, no hyper, no file and no clock. Time and randomness
//!   come in as parameters.
//! * prost and serde_json are named only in `wire`; hyper, h2 and rustls only in `server` and `client`, which do not
//!   import each other.
//! * `store` knows durability and no rule of the protocol. Each engine's crate is named only in its own folder there.
//! * The ciphers' crates are named only in `encryption`. Keys are printed nowhere and stored nowhere.
//! * `streams` is the only place that joins rules and storage.
//! * `auth` is the only place that draws and hashes secrets; what is to be kept out of sight is a `Secret` of `types`.
//! * Only `config` and `cli` see arguments and environment; only `clock` reads a clock.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod auth;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod encryption;
pub mod memory;
pub mod sequence;
pub mod server;
pub mod store;
pub mod streams;
pub mod telemetry;
mod to_the_end;
pub mod types;
pub mod usage;
mod watchers;
pub mod wire;
