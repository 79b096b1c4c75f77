//! wire

pub mod negotiate;
