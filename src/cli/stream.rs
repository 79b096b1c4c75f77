//! `stream`: made, listed, deleted, and where it ends.

use std::io;

use clap::Subcommand;

use super::{
    CliError, ask,
    listing::{Listed, print_pages, shown, time},
    print_line,
};
use crate::{
    config::{
        CreateStreamArgs, CreateStreamConfig, DeleteStreamArgs, DeleteStreamConfig, ListFormat, ListStreamsArgs,
        ListStreamsConfig, TailArgs, TailConfig,
    },
    types::{StreamInfo, StreamNamePart},
    wire::json,
};

const CREATE_EXAMPLES: &str = "\
Examples:
  s2s-gateway stream create my-basin-01/orders
  s2s-gateway stream create my-basin-01/orders --retention infinite
  s2s-gateway stream create my-basin-01/sessions/42 --retention 1d --delete-on-empty 1h

What is not said is as the basin has it. Nothing is printed when it was done; a
stream that exists is an error.";

const LIST_EXAMPLES: &str = "\
Examples:
  s2s-gateway stream list my-basin-01
  s2s-gateway stream list my-basin-01 --prefix sessions/ --json";

const DELETE_EXAMPLES: &str = "\
There is no way back. Nobody can append to or read the stream from then on; its
records go after this returns, and until they are gone it is listed as deleting.";

const TAIL_EXAMPLES: &str = "\
Prints the number that the next record will get, and the timestamp of the last
one in milliseconds since 1970: 1000 @ 1798761600000.";

#[derive(Debug, Subcommand)]
pub(super) enum StreamCommand {
    /// Make a stream
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<CreateStreamArgs>),
    /// List the streams of a basin: name, time of creation, cipher, state
    #[command(after_help = LIST_EXAMPLES)]
    List(Box<ListStreamsArgs>),
    /// Delete a stream
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(Box<DeleteStreamArgs>),
    /// Tell where a stream ends
    #[command(after_help = TAIL_EXAMPLES)]
    Tail(Box<TailArgs>),
}

/// Does what `command` says.
pub(super) fn run(command: &StreamCommand) -> Result<(), CliError> {
    match command {
        StreamCommand::Create(args) => create(&args.resolve()?),
        StreamCommand::List(args) => list(&args.resolve()?),
        StreamCommand::Delete(args) => delete(&args.resolve()?),
        StreamCommand::Tail(args) => tail(&args.resolve()?),
    }
}

fn create(config: &CreateStreamConfig) -> Result<(), CliError> {
    ask(&config.server, async |client| Ok(client.create_stream(&config.stream, &config.config).await?))
}

fn list(config: &ListStreamsConfig) -> Result<(), CliError> {
    let ListStreamsConfig { basin, list } = config;
    ask(&list.server, async |client| {
        let pages = async |request: &_| client.list_streams(basin, request).await;
        print_pages(io::stdout().lock(), list.format, list.prefix.clone(), pages).await
    })
}

fn delete(config: &DeleteStreamConfig) -> Result<(), CliError> {
    ask(&config.server, async |client| Ok(client.delete_stream(&config.stream).await?))
}

fn tail(config: &TailConfig) -> Result<(), CliError> {
    let tail = ask(&config.server, async |client| Ok(client.check_tail(&config.stream).await?))?;
    match config.format {
        ListFormat::Table => print_line(tail.to_string().as_bytes()),
        ListFormat::Json => print_line(&json::encode_tail(tail)),
    }
}

impl Listed for StreamInfo {
    type Part = StreamNamePart;

    const COLUMNS: &'static [&'static str] = &["STREAM", "CREATED", "CIPHER", "STATE"];

    fn cells(&self) -> Vec<String> {
        let cipher = self.cipher.map_or("-", |cipher| cipher.name());
        let state = if self.deleted_at.is_some() { "deleting" } else { "active" };
        vec![shown(self.name.as_str()), time(self.created_at), cipher.into(), state.into()]
    }

    fn json(&self) -> Vec<u8> {
        json::encode_stream_info(self)
    }

    fn place(&self) -> StreamNamePart {
        self.name.clone().into()
    }
}
