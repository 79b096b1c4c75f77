//! wire

pub mod negotiate;
pub mod params;
