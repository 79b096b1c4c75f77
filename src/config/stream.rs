//! What `stream` is told.

use super::{
    ConfigError, EndpointArgs, EndpointConfig, ListArgs, ListConfig, ListFormat, StreamSettings,
    names::{basin_name, stream_path},
};
use crate::{
    client::StreamPath,
    types::{BasinName, StreamConfigLayer, StreamNamePart},
};

/// What was said to `stream create`.
#[derive(Clone, Debug, clap::Args)]
pub struct CreateStreamArgs {
    /// The stream: its basin, a slash, its name; s2:// in front may stand
    #[arg(value_name = "BASIN/STREAM")]
    pub stream: String,

    /// What is not as the basin has it.
    #[command(flatten)]
    pub settings: StreamSettings,

    /// The server.
    #[command(flatten)]
    pub server: EndpointArgs,
}

/// What was said to `stream list`.
#[derive(Clone, Debug, clap::Args)]
pub struct ListStreamsArgs {
    /// The basin
    #[arg(value_name = "BASIN")]
    pub basin: String,

    /// Which of its streams, and how.
    #[command(flatten)]
    pub list: ListArgs,
}

/// What was said to `stream delete`.
#[derive(Clone, Debug, clap::Args)]
pub struct DeleteStreamArgs {
    /// The stream: its basin, a slash, its name; s2:// in front may stand
    #[arg(value_name = "BASIN/STREAM")]
    pub stream: String,

    /// The server.
    #[command(flatten)]
    pub server: EndpointArgs,
}

/// What was said to `stream tail`.
#[derive(Clone, Debug, clap::Args)]
pub struct TailArgs {
    /// The stream: its basin, a slash, its name; s2:// in front may stand
    #[arg(value_name = "BASIN/STREAM")]
    pub stream: String,

    /// Write the tail as JSON
    #[arg(long)]
    pub json: bool,

    /// The server.
    #[command(flatten)]
    pub server: EndpointArgs,
}

/// The stream to make.
#[derive(Clone, Debug)]
pub struct CreateStreamConfig {
    /// The server.
    pub server: EndpointConfig,
    /// Its name.
    pub stream: StreamPath,
    /// What is not as the basin has it.
    pub config: StreamConfigLayer,
}

/// The streams to list.
#[derive(Clone, Debug)]
pub struct ListStreamsConfig {
    /// Of which basin.
    pub basin: BasinName,
    /// Which of them, and how.
    pub list: ListConfig<StreamNamePart>,
}

/// The stream to delete.
#[derive(Clone, Debug)]
pub struct DeleteStreamConfig {
    /// The server.
    pub server: EndpointConfig,
    /// Its name.
    pub stream: StreamPath,
}

/// The stream whose tail to show.
#[derive(Clone, Debug)]
pub struct TailConfig {
    /// The server.
    pub server: EndpointConfig,
    /// Its name.
    pub stream: StreamPath,
    /// How to show it.
    pub format: ListFormat,
}

impl CreateStreamArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<CreateStreamConfig, ConfigError> {
        let (server, stream) = (self.server.resolve()?, stream_path(&self.stream)?);
        Ok(CreateStreamConfig { server, stream, config: self.settings.resolve()? })
    }
}

impl ListStreamsArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<ListStreamsConfig, ConfigError> {
        Ok(ListStreamsConfig { basin: basin_name(&self.basin)?, list: self.list.resolve()? })
    }
}

impl DeleteStreamArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<DeleteStreamConfig, ConfigError> {
        Ok(DeleteStreamConfig { server: self.server.resolve()?, stream: stream_path(&self.stream)? })
    }
}

impl TailArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<TailConfig, ConfigError> {
        let (server, stream) = (self.server.resolve()?, stream_path(&self.stream)?);
        Ok(TailConfig { server, stream, format: ListFormat::of(self.json) })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Said<A: clap::Args> {
        #[command(flatten)]
        args: A,
    }

    fn said<A: clap::Args>(words: &[&str]) -> A {
        Said::try_parse_from([&["stream"], words].concat()).map(|said: Said<A>| said.args).expect("grammatical")
    }

    #[test]
    fn streams_and_what_becomes_of_them() {
        let made = said::<CreateStreamArgs>(&["s2://my-basin-01/a/b", "--uncapped"]).resolve().unwrap();
        let config = StreamConfigLayer { timestamping_uncapped: Some(true), ..Default::default() };
        assert_eq!((made.stream.to_string().as_str(), made.config), ("my-basin-01/a/b", config));
        let tail = said::<TailArgs>(&["my-basin-01/a", "--json"]).resolve().unwrap();
        assert_eq!((tail.stream.stream.as_str(), tail.format), ("a", ListFormat::Json));
        let listed = said::<ListStreamsArgs>(&["my-basin-01", "--prefix", "a/"]).resolve().unwrap();
        assert_eq!((listed.basin.as_str(), listed.list.prefix.as_str()), ("my-basin-01", "a/"));
    }

    #[test]
    fn errors_name_the_argument() {
        assert_eq!(said::<ListStreamsArgs>(&["my-basin-01/s"]).resolve().unwrap_err().flag, "BASIN");
        assert_eq!(said::<DeleteStreamArgs>(&["my-basin-01"]).resolve().unwrap_err().flag, "BASIN/STREAM");
        assert_eq!(said::<CreateStreamArgs>(&["my-basin-01/"]).resolve().unwrap_err().flag, "BASIN/STREAM");
        assert_eq!(said::<TailArgs>(&["/s"]).resolve().unwrap_err().flag, "BASIN/STREAM");
    }
}
