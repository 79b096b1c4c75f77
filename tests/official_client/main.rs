//! The official Rust client, unchanged, against a gateway: what users of it rely on.

mod append;
mod catalogue;
mod conditions;
mod encryption;
mod read;
mod reconnect;
mod sdk;
#[path = "../support/mod.rs"]
mod support;
mod transport;
