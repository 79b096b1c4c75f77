//! `token`: issued, listed, revoked.

use std::io;

use clap::Subcommand;

use super::{
    CliError, ask,
    listing::{Listed, print_pages, shown},
    print_line,
};
use crate::{
    clock::{Clock, SystemClock},
    config::{IssueTokenArgs, IssueTokenConfig, ListArgs, ListConfig, RevokeTokenArgs, RevokeTokenConfig},
    types::{AccessTokenIdPart, AccessTokenInfo, GroupLevel, OpGroup, ResourceSet, Scope},
    wire::json::{self, ExpiryText},
};

const ISSUE_EXAMPLES: &str = "\
Examples:
  s2s-gateway token issue admin --basins all --streams all --tokens all \\
    --allow account:rw,basin:rw,stream:rw
  s2s-gateway token issue tenant-42 --basins exact:my-basin-01 --streams prefix:tenant-42/ \\
    --auto-prefix --allow stream:rw --op list-streams,create-stream --expires 30d
  READER=$(s2s-gateway token issue reader --basins prefix:my- --streams all --allow stream:read)

Standard output has the secret and nothing else. It is told this once, and kept
nowhere: who loses it revokes the token and issues another. A token can do no
more than the one that issues it, which --token or S2S_TOKEN names.

Operations, by the group and level that have them:
  account:read   list-basins get-basin-config list-access-tokens account-metrics
                 list-locations get-default-location
  account:write  create-basin delete-basin reconfigure-basin issue-access-token
                 revoke-access-token set-default-location
  basin:read     list-streams get-basin-config get-stream-config basin-metrics
  basin:write    create-stream delete-stream reconfigure-stream
  stream:read    check-tail read get-stream-config stream-metrics
  stream:write   append trim fence
Those on basins need --basins as well, those on streams --basins and --streams,
and those on access tokens --tokens.";

const LIST_EXAMPLES: &str = "\
Examples:
  s2s-gateway token list
  s2s-gateway token list --prefix tenant- --json";

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Issue a token and print its secret, which is told only this once
    #[command(after_help = ISSUE_EXAMPLES)]
    Issue(Box<IssueTokenArgs>),
    /// List tokens, without their secrets: id, expiry, what they may do, and to what
    #[command(after_help = LIST_EXAMPLES)]
    List(Box<ListArgs>),
    /// End a token, and with it all sessions of its bearers
    Revoke(Box<RevokeTokenArgs>),
}

/// Does what `command` says.
pub(super) fn run(command: &TokenCommand) -> Result<(), CliError> {
    match command {
        TokenCommand::Issue(args) => issue(&args.resolve(SystemClock.now())?),
        TokenCommand::List(args) => list(&args.resolve()?),
        TokenCommand::Revoke(args) => revoke(&args.resolve()?),
    }
}

fn issue(config: &IssueTokenConfig) -> Result<(), CliError> {
    let secret = ask(&config.server, async |client| Ok(client.issue_access_token(&config.token).await?))?;
    print_line(secret.expose().as_bytes())
}

fn list(config: &ListConfig<AccessTokenIdPart>) -> Result<(), CliError> {
    ask(&config.server, async |client| {
        let pages = async |request: &_| client.list_access_tokens(request).await;
        print_pages(io::stdout().lock(), config.format, config.prefix.clone(), pages).await
    })
}

fn revoke(config: &RevokeTokenConfig) -> Result<(), CliError> {
    ask(&config.server, async |client| Ok(client.revoke_access_token(&config.id).await?))
}

impl Listed for AccessTokenInfo {
    type Part = AccessTokenIdPart;

    const COLUMNS: &'static [&'static str] = &["ID", "EXPIRES", "ALLOWS", "BASINS", "STREAMS", "TOKENS"];

    fn cells(&self) -> Vec<String> {
        let Scope { basins, streams, access_tokens, .. } = &self.scope;
        let auto_prefix = if self.auto_prefix_streams { " (auto)" } else { "" };
        vec![
            shown(self.id.as_str()),
            self.expires_at.map_or_else(|| "never".into(), |at| ExpiryText(at).to_string()),
            allowed(&self.scope),
            set(basins),
            set(streams) + auto_prefix,
            set(access_tokens),
        ]
    }

    fn json(&self) -> Vec<u8> {
        json::encode_access_token_info(self)
    }

    fn place(&self) -> AccessTokenIdPart {
        self.id.clone().into()
    }
}

/// Groups and operations as `--allow` and `--op` take them.
fn allowed(scope: &Scope) -> String {
    let groups = [("account", OpGroup::Account), ("basin", OpGroup::Basin), ("stream", OpGroup::Stream)];
    let groups = groups.into_iter().filter_map(|(name, group)| {
        let levels = [GroupLevel::Read, GroupLevel::Write].map(|level| scope.op_groups.contains(group, level));
        let level = match levels {
            [false, false] => return None,
            [true, false] => "read",
            [false, true] => "write",
            [true, true] => "rw",
        };
        Some(format!("{name}:{level}"))
    });
    let ops = scope.ops.iter().map(|op| op.as_str().to_owned());
    groups.chain(ops).collect::<Vec<_>>().join(",")
}

/// A set as `--basins`, `--streams` and `--tokens` take it; `-` for the empty one.
fn set<Name: AsRef<str>, Part: AsRef<str>>(set: &ResourceSet<Name, Part>) -> String {
    match set {
        ResourceSet::Nothing => "-".into(),
        ResourceSet::Exact(name) => format!("exact:{}", shown(name.as_ref())),
        ResourceSet::Prefix(prefix) if prefix.as_ref().is_empty() => "all".into(),
        ResourceSet::Prefix(prefix) => format!("prefix:{}", shown(prefix.as_ref())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{AccessTokenId, Expiry, OpGroups, Operation, StreamNamePart};

    #[test]
    fn tokens_in_short() {
        let tenant = AccessTokenInfo {
            id: AccessTokenId::new("tenant-42").unwrap(),
            expires_at: Some(Expiry::new(1_798_761_600, 0)),
            auto_prefix_streams: true,
            scope: Scope {
                basins: ResourceSet::everything(),
                streams: ResourceSet::Prefix(StreamNamePart::new("tenant-42/").unwrap()),
                access_tokens: ResourceSet::Exact(AccessTokenId::new("a\x1b[2J").unwrap()),
                op_groups: OpGroups::default().with(OpGroup::Stream, GroupLevel::Write),
                ops: [Operation::ListStreams].into_iter().collect(),
            },
        };
        let cells = tenant.cells();
        let expected = [
            "tenant-42",
            "2027-01-01T00:00:00.000Z",
            "stream:write,list-streams",
            "all",
            "prefix:tenant-42/ (auto)",
            "exact:a\\u{1b}[2J",
        ];
        assert_eq!(cells, expected);
        assert_eq!(allowed(&Scope::everything()), "account:rw,basin:rw,stream:rw");
    }

    #[test]
    fn the_help_knows_every_operation_and_its_groups() {
        let groups = [("account", OpGroup::Account), ("basin", OpGroup::Basin), ("stream", OpGroup::Stream)];
        let levels = [("read", GroupLevel::Read), ("write", GroupLevel::Write)];
        let mut granted: Vec<(String, Vec<&str>)> = Vec::new();
        let listed = ISSUE_EXAMPLES.lines().skip_while(|line| !line.starts_with("Operations")).skip(1);
        for line in listed.take_while(|line| line.starts_with(' ')) {
            let mut words = line.split_whitespace().peekable();
            if let Some(group) = words.next_if(|word| word.contains(':')) {
                granted.push((group.into(), Vec::new()));
            }
            granted.last_mut().unwrap().1.extend(words);
        }
        assert_eq!(granted.len(), 6);
        for (group_name, group) in groups {
            for (level_name, level) in levels {
                let name = format!("{group_name}:{level_name}");
                let mut ops = granted.iter().find(|(group, _)| *group == name).unwrap().1.clone();
                let mut expected: Vec<_> =
                    OpGroups::default().with(group, level).operations().iter().map(Operation::as_str).collect();
                ops.sort_unstable();
                expected.sort_unstable();
                assert_eq!(ops, expected, "{name}");
            }
        }
    }
}
