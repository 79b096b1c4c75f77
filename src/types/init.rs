//! Basins and streams that are to be there when the gateway starts.

use super::{BasinConfig, BasinName, StreamConfigLayer, StreamName};

/// A basin that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitBasin {
    /// Its name.
    pub name: BasinName,
    /// Its configuration; what was left out has its default.
    pub config: BasinConfig,
    /// Where it shall live, if that was said.
    pub location: Option<String>,
    /// The streams that are to be there in it; others may be there, too.
    pub streams: Vec<InitStream>,
}

/// A stream that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitStream {
    /// Its name.
    pub name: StreamName,
    /// Its configuration; what is left open, the basin's defaults decide.
    pub config: StreamConfigLayer,
}
