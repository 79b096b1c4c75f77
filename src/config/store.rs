//! Where a gateway is told to keep streams. Knows no default: who asks has one of its own.

use std::path::PathBuf;

use super::{ConfigError, nats::NatsArgs, size};
use crate::{store::NatsConfig, types::limits::MAX_BATCH_METERED};

/// What was said of where streams are kept.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct StoreArgs {
    /// Directory to keep everything in, for this process alone [default: serve: s2s-gateway in the user's data directory;
    /// bench: one that is made for the run and removed after it]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Keep everything in memory only, and lose it at the end
    #[arg(long)]
    memory: bool,

    /// With --memory: memory for the records of all streams; appends fail when it is used up [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<String>,

    #[command(flatten)]
    nats: NatsArgs,
}

/// Where streams are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// In this directory.
    Disk(PathBuf),
    /// In memory, in at most so many bytes of it.
    Memory(usize),
    /// In NATS, together with other gateways.
    Nats(NatsConfig),
}

const DEFAULT_MEMORY_LIMIT: usize = 1 << 30;

impl StoreArgs {
    /// What this means; nothing if nothing was said.
    pub(super) fn resolve(&self) -> Result<Option<StoreConfig>, ConfigError> {
        if let Some(nats) = self.nats.resolve()? {
            return match (self.memory, &self.data_dir, &self.memory_limit) {
                (false, None, None) => Ok(Some(StoreConfig::Nats(nats))),
                _ => Err(ConfigError::alone("--nats", "cannot be used with --memory or --data-dir")),
            };
        }
        match (self.memory, &self.data_dir, &self.memory_limit) {
            (true, Some(_), _) => Err(ConfigError::alone("--memory", "cannot be used with --data-dir")),
            (true, None, None) => Ok(Some(StoreConfig::Memory(DEFAULT_MEMORY_LIMIT))),
            (true, None, Some(limit)) => memory_limit(limit).map(|limit| Some(StoreConfig::Memory(limit))),
            (false, _, Some(_)) => Err(ConfigError::alone("--memory-limit", "needs --memory as well")),
            (false, Some(directory), None) => Ok(Some(StoreConfig::Disk(directory.clone()))),
            (false, None, None) => Ok(None),
        }
    }
}

fn memory_limit(text: &str) -> Result<usize, ConfigError> {
    // Below this not even a few batches have room, and every append would fail.
    const LEAST: usize = 16 * MAX_BATCH_METERED;
    match size("--memory-limit", text)? {
        bytes if bytes < LEAST => Err(ConfigError::of("--memory-limit", text, "at least 16MiB")),
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::store::SyncCheck;

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: StoreArgs,
    }

    fn resolve(words: &str) -> Result<Option<StoreConfig>, ConfigError> {
        Said::try_parse_from(["gateway"].into_iter().chain(words.split_whitespace())).expect(words).args.resolve()
    }

    #[test]
    fn each_place_by_itself() {
        for (words, meant) in [
            ("", None),
            ("--data-dir /d", Some(StoreConfig::Disk("/d".into()))),
            ("--memory", Some(StoreConfig::Memory(1 << 30))),
            ("--memory --memory-limit 64MiB", Some(StoreConfig::Memory(64 << 20))),
        ] {
            assert_eq!(resolve(words), Ok(meant), "{words}");
        }
    }

    #[test]
    fn in_nats_together_with_others() {
        let nats = |words: &str| match resolve(words) {
            Ok(Some(StoreConfig::Nats(nats))) => nats,
            other => panic!("{other:?}"),
        };
        let plain = nats("--nats nats://a:4222,nats://b:4222");
        assert_eq!(plain.servers, ["nats://a:4222", "nats://b:4222"]);
        assert_eq!((plain.prefix.as_str(), plain.shards, plain.replicas), ("s2s", None, None));
        assert_eq!(plain.sync, SyncCheck::Ask(Vec::new()));
        let full = nats(
            "--nats a --nats b --nats-credentials c --nats-ca d --nats-prefix p-1 --nats-shards 16 --nats-replicas 5 \
             --nats-monitor http://a:1,http://b:1",
        );
        assert_eq!(full.servers, ["a", "b"]);
        assert_eq!((full.credentials, full.ca), (Some("c".into()), Some("d".into())));
        assert_eq!((full.prefix.as_str(), full.shards, full.replicas), ("p-1", Some(16), Some(5)));
        assert_eq!(full.sync, SyncCheck::Ask(vec!["http://a:1".into(), "http://b:1".into()]));
        assert_eq!(nats("--nats a --nats-assume-synced").sync, SyncCheck::Assume);
    }

    #[test]
    fn errors_name_flag_and_value() {
        for (words, flag, value) in [
            ("--memory --memory-limit lots", "--memory-limit", Some("lots")),
            ("--memory --memory-limit 1MiB", "--memory-limit", Some("1MiB")),
            ("--memory-limit 1GiB", "--memory-limit", None),
            ("--memory-limit 1GiB --data-dir d", "--memory-limit", None),
            ("--memory --data-dir d", "--memory", None),
            ("--memory --nats a", "--nats", None),
            ("--data-dir d --nats a", "--nats", None),
            ("--nats a --nats-prefix a.b", "--nats-prefix", Some("a.b")),
            ("--nats a --nats-shards 0", "--nats-shards", Some("0")),
            ("--nats a --nats-replicas 2", "--nats-replicas", Some("2")),
            ("--nats a --nats-assume-synced --nats-monitor m", "--nats-assume-synced", None),
            ("--memory --nats-shards 3", "--nats-shards", None),
            ("--memory --nats-assume-synced", "--nats-assume-synced", None),
        ] {
            let error = resolve(words).expect_err(words);
            assert_eq!((error.flag, error.value.as_deref()), (flag, value), "{words}");
        }
    }
}
