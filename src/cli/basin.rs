//! `basin`: made, listed, deleted.

use std::io;

use clap::Subcommand;

use super::{
    CliError, ask,
    listing::{Listed, print_pages, shown, time},
};
use crate::{
    config::{CreateBasinArgs, CreateBasinConfig, DeleteBasinArgs, DeleteBasinConfig, ListArgs, ListConfig},
    types::{BasinInfo, BasinNamePart},
    wire::json,
};

const CREATE_EXAMPLES: &str = "\
Examples:
  s2s-gateway basin create my-basin-01
  s2s-gateway basin create my-basin-01 --create-on-append --retention 30d
  s2s-gateway basin create my-basin-01 --cipher aegis-256

--retention, --timestamping, --uncapped and --delete-on-empty are for the
streams that are made in the basin and are not told otherwise. Nothing is
printed when it was done; a basin that exists is an error.";

const LIST_EXAMPLES: &str = "\
Examples:
  s2s-gateway basin list
  s2s-gateway basin list --prefix my- --json";

const DELETE_EXAMPLES: &str = "\
All streams of the basin go with it, and there is no way back. The deletion
goes on after this returns; until it is done the basin is listed as deleting.";

#[derive(Debug, Subcommand)]
pub(super) enum BasinCommand {
    /// Make a basin
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<CreateBasinArgs>),
    /// List basins: name, time of creation, location, state
    #[command(after_help = LIST_EXAMPLES)]
    List(Box<ListArgs>),
    /// Delete a basin with all its streams
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(Box<DeleteBasinArgs>),
}

/// Does what `command` says.
pub(super) fn run(command: &BasinCommand) -> Result<(), CliError> {
    match command {
        BasinCommand::Create(args) => create(&args.resolve()?),
        BasinCommand::List(args) => list(&args.resolve()?),
        BasinCommand::Delete(args) => delete(&args.resolve()?),
    }
}

fn create(config: &CreateBasinConfig) -> Result<(), CliError> {
    ask(&config.server, async |client| Ok(client.create_basin(&config.basin, &config.config).await?))
}

fn list(config: &ListConfig<BasinNamePart>) -> Result<(), CliError> {
    ask(&config.server, async |client| {
        let pages = async |request: &_| client.list_basins(request).await;
        print_pages(io::stdout().lock(), config.format, config.prefix.clone(), pages).await
    })
}

fn delete(config: &DeleteBasinConfig) -> Result<(), CliError> {
    ask(&config.server, async |client| Ok(client.delete_basin(&config.basin).await?))
}

impl Listed for BasinInfo {
    type Part = BasinNamePart;

    const COLUMNS: &'static [&'static str] = &["BASIN", "CREATED", "LOCATION", "STATE"];

    fn cells(&self) -> Vec<String> {
        let location = self.location.as_deref().map_or_else(|| "-".into(), shown);
        let state = if self.deleted_at.is_some() { "deleting" } else { "active" };
        vec![self.name.to_string(), time(self.created_at), location, state.into()]
    }

    fn json(&self) -> Vec<u8> {
        json::encode_basin_info(self)
    }

    fn place(&self) -> BasinNamePart {
        self.name.clone().into()
    }
}
