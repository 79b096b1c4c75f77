//! wire

pub mod json;
pub mod negotiate;
pub mod params;
