//! What `token issue` and `token revoke` are told.

use std::{str::FromStr, time::Duration};

use super::{ConfigError, EndpointArgs, EndpointConfig, parse_duration};
use crate::{
    types::{
        AccessTokenId, AccessTokenInfo, Expiry, GroupLevel, NameError, OpGroup, OpGroups, Operation, Operations,
        ResourceSet, Scope, StreamSet, Timestamp,
    },
    wire::json::ExpiryText,
};

/// What was said to `token issue`.
#[derive(Clone, Debug, clap::Args)]
pub struct IssueTokenArgs {
    /// What the token is called in listings and when it is revoked; it is no secret
    #[arg(value_name = "ID")]
    pub id: String,

    /// Basins that it reaches: exact:NAME, prefix:P or all (default: none)
    #[arg(long, value_name = "SET")]
    pub basins: Option<String>,

    /// Streams that it reaches in those basins: exact:NAME, prefix:P or all (default: none)
    #[arg(long, value_name = "SET")]
    pub streams: Option<String>,

    /// Access tokens that it may issue, list and revoke: exact:ID, prefix:P or all (default: none)
    #[arg(long, value_name = "SET")]
    pub tokens: Option<String>,

    /// Operations that it may do, by groups: account, basin or stream, a colon, and read, write or rw
    #[arg(long, value_name = "GROUP:LEVEL", value_delimiter = ',')]
    pub allow: Vec<String>,

    /// Operations that it may do, one by one
    #[arg(long = "op", value_name = "NAME", value_delimiter = ',')]
    pub ops: Vec<String>,

    /// When it ends: after a time such as 30d, or at one such as 2027-01-01T00:00:00Z (default: with the token that
    /// issues it)
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,

    /// Put the prefix of --streams in front of every stream name that its bearer says, and take it off again in answers
    #[arg(long)]
    pub auto_prefix: bool,

    /// The server.
    #[command(flatten)]
    pub server: EndpointArgs,
}

/// What was said to `token revoke`.
#[derive(Clone, Debug, clap::Args)]
pub struct RevokeTokenArgs {
    /// What the token is called
    #[arg(value_name = "ID")]
    pub id: String,

    /// The server.
    #[command(flatten)]
    pub server: EndpointArgs,
}

/// The token to issue.
#[derive(Clone, Debug)]
pub struct IssueTokenConfig {
    /// The server.
    pub server: EndpointConfig,
    /// Everything about it but its secret.
    pub token: AccessTokenInfo,
}

/// The token to revoke.
#[derive(Clone, Debug)]
pub struct RevokeTokenConfig {
    /// The server.
    pub server: EndpointConfig,
    /// What it is called.
    pub id: AccessTokenId,
}

impl IssueTokenArgs {
    /// What this means when it is `now`.
    pub fn resolve(&self, now: Timestamp) -> Result<IssueTokenConfig, ConfigError> {
        Ok(IssueTokenConfig {
            server: self.server.resolve()?,
            token: AccessTokenInfo {
                id: id(&self.id)?,
                expires_at: self.expires.as_deref().map(|text| expiry(text, now)).transpose()?,
                auto_prefix_streams: self.auto_prefix,
                scope: self.scope()?,
            },
        })
    }

    fn scope(&self) -> Result<Scope, ConfigError> {
        let scope = Scope {
            basins: resource_set("--basins", self.basins.as_deref())?,
            streams: resource_set("--streams", self.streams.as_deref())?,
            access_tokens: resource_set("--tokens", self.tokens.as_deref())?,
            op_groups: op_groups(&self.allow)?,
            ops: operations(&self.ops)?,
        };
        if scope.operations().is_empty() {
            return Err(ConfigError::alone("--allow", "this or --op is needed: a token must be good for something"));
        }
        if self.auto_prefix && !has_prefix(&scope.streams) {
            return Err(ConfigError::alone("--auto-prefix", "needs --streams prefix:P as well"));
        }
        Ok(scope)
    }
}

impl RevokeTokenArgs {
    /// What this means.
    pub fn resolve(&self) -> Result<RevokeTokenConfig, ConfigError> {
        Ok(RevokeTokenConfig { server: self.server.resolve()?, id: id(&self.id)? })
    }
}

fn id(text: &str) -> Result<AccessTokenId, ConfigError> {
    AccessTokenId::new(text).map_err(|error| ConfigError::of("ID", text, error))
}

fn has_prefix(streams: &StreamSet) -> bool {
    matches!(streams, ResourceSet::Prefix(prefix) if !prefix.as_str().is_empty())
}

/// An empty prefix is refused: it would mean everything, and comes about by a variable that was not set.
fn resource_set<Name, Part>(flag: &'static str, text: Option<&str>) -> Result<ResourceSet<Name, Part>, ConfigError>
where
    Name: FromStr<Err = NameError> + AsRef<str>,
    Part: FromStr<Err = NameError> + AsRef<str> + Default,
{
    let Some(text) = text else { return Ok(ResourceSet::Nothing) };
    let bad_name = |error| ConfigError::of(flag, text, error);
    match text.split_once(':') {
        None if text == "all" => Ok(ResourceSet::everything()),
        Some(("exact", name)) => name.parse().map(ResourceSet::Exact).map_err(bad_name),
        Some(("prefix", "")) => Err(ConfigError::of(flag, text, "the prefix is empty: say all if that is meant")),
        Some(("prefix", prefix)) => prefix.parse().map(ResourceSet::Prefix).map_err(bad_name),
        _ => Err(ConfigError::of(flag, text, "expected exact:NAME, prefix:P or all")),
    }
}

fn op_groups(said: &[String]) -> Result<OpGroups, ConfigError> {
    let rule = "expected account, basin or stream, a colon, and read, write or rw";
    said.iter().try_fold(OpGroups::default(), |granted, text| {
        let (group, levels) = op_group(text).ok_or_else(|| ConfigError::of("--allow", text, rule))?;
        Ok(levels.iter().fold(granted, |granted, level| granted.with(group, *level)))
    })
}

fn op_group(text: &str) -> Option<(OpGroup, &'static [GroupLevel])> {
    let (group, level) = text.split_once(':')?;
    let group = match group {
        "account" => OpGroup::Account,
        "basin" => OpGroup::Basin,
        "stream" => OpGroup::Stream,
        _ => return None,
    };
    let levels: &[GroupLevel] = match level {
        "read" => &[GroupLevel::Read],
        "write" => &[GroupLevel::Write],
        "rw" => &[GroupLevel::Read, GroupLevel::Write],
        _ => return None,
    };
    Some((group, levels))
}

fn operations(said: &[String]) -> Result<Operations, ConfigError> {
    let unknown = |text: &str| ConfigError::of("--op", text, "no such operation; `token issue --help` has their names");
    said.iter().map(|text| Operation::parse(text).ok_or_else(|| unknown(text))).collect()
}

fn expiry(text: &str, now: Timestamp) -> Result<Expiry, ConfigError> {
    let rule = "expected a time from now such as 30d, or a point in time such as 2027-01-01T00:00:00Z";
    let lifetime = parse_duration(text).map(|lifetime| after(now, lifetime)).ok();
    let point = || text.parse().map(|ExpiryText(at)| at).ok();
    match lifetime.or_else(point) {
        None => Err(ConfigError::of("--expires", text, rule)),
        Some(at) if at.has_passed(now) => Err(ConfigError::of("--expires", text, "it would have ended already")),
        Some(at) => Ok(at),
    }
}

fn after(now: Timestamp, lifetime: Duration) -> Expiry {
    let end = Duration::from_millis(now.get()).saturating_add(lifetime);
    Expiry::new(end.as_secs(), end.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::types::{BasinName, StreamNamePart};

    const NOW: Timestamp = Timestamp::new(1_000_500);

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: IssueTokenArgs,
    }

    fn resolve(words: &[&str]) -> Result<AccessTokenInfo, ConfigError> {
        let words = [&["issue", "tenant-42"], words].concat();
        Said::try_parse_from(words).expect("grammatical").args.resolve(NOW).map(|config| config.token)
    }

    #[test]
    fn all_of_a_token() {
        let token = resolve(&[
            "--basins",
            "exact:my-basin-01",
            "--streams",
            "prefix:tenant-42/",
            "--allow",
            "stream:rw,account:read",
            "--op",
            "list-streams",
            "--op",
            "create-stream",
            "--expires",
            "1d",
            "--auto-prefix",
        ]);
        let groups = OpGroups::default()
            .with(OpGroup::Stream, GroupLevel::Read)
            .with(OpGroup::Stream, GroupLevel::Write)
            .with(OpGroup::Account, GroupLevel::Read);
        let expected = AccessTokenInfo {
            id: AccessTokenId::new("tenant-42").unwrap(),
            expires_at: Some(Expiry::new(1000 + 86_400, 500_000_000)),
            auto_prefix_streams: true,
            scope: Scope {
                basins: ResourceSet::Exact(BasinName::new("my-basin-01").unwrap()),
                streams: ResourceSet::Prefix(StreamNamePart::new("tenant-42/").unwrap()),
                access_tokens: ResourceSet::Nothing,
                op_groups: groups,
                ops: [Operation::ListStreams, Operation::CreateStream].into_iter().collect(),
            },
        };
        assert_eq!(token, Ok(expected));
    }

    #[test]
    fn what_is_not_said_is_not_granted() {
        let token = resolve(&["--op", "list-basins"]).unwrap();
        let scope = Scope { ops: [Operation::ListBasins].into_iter().collect(), ..Default::default() };
        assert_eq!((token.scope, token.expires_at, token.auto_prefix_streams), (scope, None, false));
    }

    #[test]
    fn all_of_everything() {
        let every =
            ["--basins", "all", "--streams", "all", "--tokens", "all", "--allow", "account:rw,basin:rw,stream:rw"];
        assert_eq!(resolve(&every).unwrap().scope, Scope::everything());
    }

    #[test]
    fn groups_and_levels() {
        for (text, group) in [("account", OpGroup::Account), ("basin", OpGroup::Basin), ("stream", OpGroup::Stream)] {
            for (level, read, write) in [("read", true, false), ("write", false, true), ("rw", true, true)] {
                let groups = resolve(&["--allow", &format!("{text}:{level}")]).unwrap().scope.op_groups;
                let granted = (groups.contains(group, GroupLevel::Read), groups.contains(group, GroupLevel::Write));
                assert_eq!(granted, (read, write), "{text}:{level}");
            }
        }
    }

    #[test]
    fn every_operation_has_its_name() {
        for op in Operation::ALL {
            assert_eq!(resolve(&["--op", op.as_str()]).unwrap().scope.ops, [*op].into_iter().collect());
        }
    }

    #[test]
    fn expiries() {
        let expires = |text: &str| resolve(&["--op", "read", "--expires", text]).map(|token| token.expires_at);
        for (text, expiry) in [
            ("30d", Expiry::new(1000 + 30 * 86_400, 500_000_000)),
            ("500ms", Expiry::new(1001, 0)),
            ("2027-01-01T00:00:00Z", Expiry::new(1_798_761_600, 0)),
            ("2027-01-01T02:00:00.5+02:00", Expiry::new(1_798_761_600, 500_000_000)),
        ] {
            assert_eq!(expires(text), Ok(Some(expiry)), "{text}");
        }
        for text in ["0", "0s", "1970-01-01T00:16:40.5Z", "1969-01-01T00:00:00Z"] {
            assert!(expires(text).unwrap_err().rule.contains("ended already"), "{text}");
        }
        for text in ["", "30", "tomorrow", "2027-01-01", "99999999999999999999d"] {
            let error = expires(text).unwrap_err();
            assert_eq!((error.flag, error.value.as_deref()), ("--expires", Some(text)));
        }
    }

    #[test]
    fn errors_name_flag_and_value() {
        for (flag, value) in [
            ("--basins", "my-basin-01"),
            ("--basins", "exact:short"),
            ("--basins", "prefix:"),
            ("--basins", "suffix:x"),
            ("--streams", "exact:"),
            ("--streams", "exact:.."),
            ("--streams", "everything"),
            ("--tokens", "prefix:"),
            ("--allow", "stream"),
            ("--allow", "stream:"),
            ("--allow", "stream:all"),
            ("--allow", "streams:rw"),
            ("--op", "fly"),
        ] {
            let error = resolve(&["--op", "read", flag, value]).expect_err(value);
            assert_eq!((error.flag, error.value.as_deref()), (flag, Some(value)));
        }
        for (words, flag) in [
            (&[][..], "--allow"),
            (&["--op", "read", "--auto-prefix"], "--auto-prefix"),
            (&["--op", "read", "--auto-prefix", "--streams", "exact:a"], "--auto-prefix"),
            (&["--op", "read", "--auto-prefix", "--streams", "all"], "--auto-prefix"),
        ] {
            assert_eq!(resolve(words).unwrap_err().flag, flag, "{words:?}");
        }
        let words = ["issue", "..", "--op", "read"];
        assert_eq!(Said::try_parse_from(words).unwrap().args.resolve(NOW).unwrap_err().flag, "ID");
    }
}
