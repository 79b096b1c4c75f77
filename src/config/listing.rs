//! What all listings are told alike.

use std::str::FromStr;

use super::{ConfigError, EndpointArgs, EndpointConfig};
use crate::types::NameError;

/// What was said of a listing.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Only those whose names begin so
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub prefix: String,

    /// Write each as a line of JSON, as the API has it
    #[arg(long)]
    pub json: bool,

    /// The server.
    #[command(flatten)]
    pub server: EndpointArgs,
}

/// What to list, by names that begin with a `Part`.
#[derive(Clone, Debug)]
pub struct ListConfig<Part> {
    /// The server.
    pub server: EndpointConfig,
    /// How names begin.
    pub prefix: Part,
    /// How entries are written.
    pub format: ListFormat,
}

/// How entries of a listing are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListFormat {
    /// As columns, for people.
    #[default]
    Table,
    /// As a line of JSON each.
    Json,
}

impl ListFormat {
    pub(super) const fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Table }
    }
}

impl ListArgs {
    /// What this means.
    pub fn resolve<Part: FromStr<Err = NameError>>(&self) -> Result<ListConfig<Part>, ConfigError> {
        let prefix = self.prefix.parse().map_err(|error| ConfigError::of("--prefix", &self.prefix, error))?;
        Ok(ListConfig { server: self.server.resolve()?, prefix, format: ListFormat::of(self.json) })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::types::{AccessTokenIdPart, BasinNamePart, StreamNamePart};

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: ListArgs,
    }

    fn said(words: &[&str]) -> ListArgs {
        Said::try_parse_from([&["list"], words].concat()).expect("grammatical").args
    }

    #[test]
    fn listings() {
        let all = said(&[]).resolve::<BasinNamePart>().unwrap();
        assert_eq!((all.prefix, all.format), (BasinNamePart::default(), ListFormat::Table));
        let some = said(&["--prefix", "my-", "--json"]);
        assert_eq!(some.resolve::<BasinNamePart>().unwrap().prefix.as_str(), "my-");
        assert_eq!(some.resolve::<AccessTokenIdPart>().unwrap().format, ListFormat::Json);
        let prefix = said(&["--prefix", "My"]);
        assert_eq!(prefix.resolve::<BasinNamePart>().unwrap_err().flag, "--prefix");
        assert_eq!(prefix.resolve::<StreamNamePart>().unwrap().prefix.as_str(), "My");
    }
}
