//! wire

pub mod catalogue;
pub mod json;
pub mod negotiate;
pub mod params;
