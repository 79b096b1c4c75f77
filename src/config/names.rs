//! How basins and streams are named on a command line.

use super::ConfigError;
use crate::{
    client::StreamPath,
    types::{BasinName, StreamName},
};

/// A basin.
pub(super) fn basin_name(text: &str) -> Result<BasinName, ConfigError> {
    BasinName::new(text).map_err(|error| ConfigError::of("BASIN", text, error))
}

/// A basin, a slash and a stream.
pub(super) fn stream_path(text: &str) -> Result<StreamPath, ConfigError> {
    let wrong = |rule: &dyn std::fmt::Display| ConfigError::of("BASIN/STREAM", text, rule);
    let bare = text.strip_prefix("s2://").unwrap_or(text);
    let (basin, stream) = bare
        .split_once('/')
        .ok_or_else(|| wrong(&"expected the basin, a slash and the stream, e.g. my-basin-01/orders"))?;
    Ok(StreamPath {
        basin: BasinName::new(basin).map_err(|error| wrong(&error))?,
        stream: StreamName::new(stream).map_err(|error| wrong(&error))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_with_and_without_a_scheme() {
        for (said, basin, stream) in [
            ("my-basin-01/orders", "my-basin-01", "orders"),
            ("s2://my-basin-01/orders", "my-basin-01", "orders"),
            ("my-basin-01/orders/eu west", "my-basin-01", "orders/eu west"),
            ("my-basin-01//", "my-basin-01", "/"),
        ] {
            let path = stream_path(said).unwrap();
            assert_eq!((path.basin.as_str(), path.stream.as_str()), (basin, stream));
        }
        for said in ["orders", "short/orders", "my-basin-01/", "my-basin-01/..", "http://my-basin-01/x"] {
            assert_eq!(stream_path(said).unwrap_err().flag, "BASIN/STREAM", "{said}");
        }
    }
}
