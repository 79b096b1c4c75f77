//! Access tokens in JSON: what is asked for, and what a listing shows (`control-plane.md` §7).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{JsonError, decode_object, encode, encode_with_capacity, object::Object, rfc3339::ExpiryText};
use crate::types::{
    AccessTokenId, AccessTokenInfo, GroupLevel, NameError, OpGroup, OpGroups, Operation, Operations, Page, ResourceSet,
    Scope, Secret,
};

/// Reads the body of `POST /v1/access-tokens` (`control-plane.md` §7.2). No expiry means the issuer's.
pub fn decode_issue_access_token(body: &[u8]) -> Result<AccessTokenInfo, JsonError> {
    decode_object::<IssueAccessTokenJson>(body)?.try_into()
}

/// Writes the answer to it: the one time that the secret is told.
pub fn encode_issued_token(token: &Secret) -> Vec<u8> {
    encode(&IssuedTokenJson { access_token: token.expose() })
}

/// Writes a token as a listing shows it.
pub fn encode_access_token_info(info: &AccessTokenInfo) -> Vec<u8> {
    encode(&AccessTokenInfoJson::from(info))
}

/// Writes a page of a listing of access tokens (`control-plane.md` §7.6).
pub fn encode_access_tokens(page: &Page<AccessTokenInfo>) -> Vec<u8> {
    let access_tokens = page.entries.iter().map(AccessTokenInfoJson::from).collect();
    let json = AccessTokensJson { access_tokens, has_more: page.has_more };
    encode_with_capacity(64 + page.entries.len() * 384, &json)
}

/// What is asked for; a listing's entry says no less, and reads the same.
#[derive(Deserialize)]
pub(super) struct IssueAccessTokenJson {
    id: String,
    expires_at: Option<ExpiryText>,
    auto_prefix_streams: Option<bool>,
    scope: Object<ScopeJson>,
}

#[derive(Serialize)]
struct IssuedTokenJson<'a> {
    access_token: &'a str,
}

#[derive(Serialize)]
struct AccessTokensJson<'a> {
    access_tokens: Vec<AccessTokenInfoJson<'a>>,
    has_more: bool,
}

/// What a listing shows; what is asked for may say as much.
#[derive(Serialize)]
pub(in crate::wire) struct AccessTokenInfoJson<'a> {
    id: &'a str,
    expires_at: Option<ExpiryText>,
    auto_prefix_streams: bool,
    scope: ScopeJson,
}

impl TryFrom<IssueAccessTokenJson> for AccessTokenInfo {
    type Error = JsonError;

    fn try_from(json: IssueAccessTokenJson) -> Result<Self, JsonError> {
        Ok(Self {
            id: AccessTokenId::new(&json.id).map_err(|error| JsonError::name("id", &error))?,
            expires_at: json.expires_at.map(|ExpiryText(expiry)| expiry),
            auto_prefix_streams: json.auto_prefix_streams.unwrap_or_default(),
            scope: json.scope.into_inner().try_into()?,
        })
    }
}

impl<'a> From<&'a AccessTokenInfo> for AccessTokenInfoJson<'a> {
    fn from(info: &'a AccessTokenInfo) -> Self {
        Self {
            id: info.id.as_str(),
            expires_at: info.expires_at.map(ExpiryText),
            auto_prefix_streams: info.auto_prefix_streams,
            scope: (&info.scope).into(),
        }
    }
}

/// What is absent, or `null`, grants nothing.
#[derive(Serialize, Deserialize)]
pub(in crate::wire) struct ScopeJson {
    basins: Option<ResourceSetJson>,
    streams: Option<ResourceSetJson>,
    access_tokens: Option<ResourceSetJson>,
    op_groups: Option<Object<OpGroupsJson>>,
    ops: Option<Vec<String>>,
}

/// `{"exact":"name"}` or `{"prefix":"p"}`; the empty exact name is none.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ResourceSetJson {
    Exact(String),
    Prefix(String),
}

#[derive(Serialize, Deserialize)]
struct OpGroupsJson {
    account: Option<Object<LevelsJson>>,
    basin: Option<Object<LevelsJson>>,
    stream: Option<Object<LevelsJson>>,
}

#[derive(Serialize, Deserialize)]
struct LevelsJson {
    read: Option<bool>,
    write: Option<bool>,
}

impl TryFrom<ScopeJson> for Scope {
    type Error = JsonError;

    fn try_from(json: ScopeJson) -> Result<Self, JsonError> {
        Ok(Self {
            basins: resource_set("basins", json.basins)?,
            streams: resource_set("streams", json.streams)?,
            access_tokens: resource_set("access_tokens", json.access_tokens)?,
            op_groups: json.op_groups.map(|Object(groups)| groups.into()).unwrap_or_default(),
            ops: operations(&json.ops.unwrap_or_default())?,
        })
    }
}

impl From<&Scope> for ScopeJson {
    fn from(scope: &Scope) -> Self {
        Self {
            basins: ResourceSetJson::of(&scope.basins),
            streams: ResourceSetJson::of(&scope.streams),
            access_tokens: ResourceSetJson::of(&scope.access_tokens),
            op_groups: Some(Object(scope.op_groups.into())),
            ops: Some(scope.ops.iter().map(|op| op.as_str().into()).collect()),
        }
    }
}

fn resource_set<Name, Part>(field: &str, json: Option<ResourceSetJson>) -> Result<ResourceSet<Name, Part>, JsonError>
where
    Name: FromStr<Err = NameError>,
    Part: FromStr<Err = NameError>,
{
    let bad = |error| JsonError::name(field, &error);
    Ok(match json {
        None => ResourceSet::Nothing,
        Some(ResourceSetJson::Exact(name)) if name.is_empty() => ResourceSet::Nothing,
        Some(ResourceSetJson::Exact(name)) => ResourceSet::Exact(name.parse().map_err(bad)?),
        Some(ResourceSetJson::Prefix(prefix)) => ResourceSet::Prefix(prefix.parse().map_err(bad)?),
    })
}

impl ResourceSetJson {
    fn of<Name: AsRef<str>, Part: AsRef<str>>(set: &ResourceSet<Name, Part>) -> Option<Self> {
        match set {
            ResourceSet::Nothing => None,
            ResourceSet::Exact(name) => Some(Self::Exact(name.as_ref().into())),
            ResourceSet::Prefix(prefix) => Some(Self::Prefix(prefix.as_ref().into())),
        }
    }
}

fn operations(names: &[String]) -> Result<Operations, JsonError> {
    let unknown = |name: &String| JsonError::Malformed(format!("ops: there is no operation {name:?}"));
    names.iter().map(|name| Operation::parse(name).ok_or_else(|| unknown(name))).collect()
}

impl From<OpGroupsJson> for OpGroups {
    fn from(json: OpGroupsJson) -> Self {
        let groups = [(OpGroup::Account, json.account), (OpGroup::Basin, json.basin), (OpGroup::Stream, json.stream)];
        groups.into_iter().fold(Self::default(), |granted, (group, levels)| {
            let Some(Object(LevelsJson { read, write })) = levels else { return granted };
            let levels = [(GroupLevel::Read, read), (GroupLevel::Write, write)];
            let of_group = levels.into_iter().filter(|(_, grant)| *grant == Some(true));
            of_group.fold(granted, |granted, (level, _)| granted.with(group, level))
        })
    }
}

impl From<OpGroups> for OpGroupsJson {
    fn from(groups: OpGroups) -> Self {
        let levels = |group| {
            let [read, write] = [GroupLevel::Read, GroupLevel::Write].map(|level| Some(groups.contains(group, level)));
            Some(Object(LevelsJson { read, write }))
        };
        Self { account: levels(OpGroup::Account), basin: levels(OpGroup::Basin), stream: levels(OpGroup::Stream) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BasinName, Expiry, StreamNamePart};

    fn issue(json: &str) -> Result<AccessTokenInfo, JsonError> {
        decode_issue_access_token(json.as_bytes())
    }

    fn tenant() -> AccessTokenInfo {
        let stream = OpGroups::default().with(OpGroup::Stream, GroupLevel::Read);
        AccessTokenInfo {
            id: AccessTokenId::new("tenant-42").unwrap(),
            expires_at: Some(Expiry::new(1_798_761_600, 0)),
            auto_prefix_streams: true,
            scope: Scope {
                basins: ResourceSet::Exact(BasinName::new("my-basin-01").unwrap()),
                streams: ResourceSet::Prefix(StreamNamePart::new("tenant-42/").unwrap()),
                access_tokens: ResourceSet::Nothing,
                op_groups: stream.with(OpGroup::Stream, GroupLevel::Write),
                ops: [Operation::ListStreams, Operation::CreateStream].into_iter().collect(),
            },
        }
    }

    #[test]
    fn the_example_of_the_contract() {
        // control-plane.md §7.2
        let json = r#"{"id":"tenant-42","expires_at":"2027-01-01T00:00:00Z","auto_prefix_streams":true,
            "scope":{"basins":{"exact":"my-basin-01"},"streams":{"prefix":"tenant-42/"},"access_tokens":null,
            "op_groups":{"stream":{"read":true,"write":true}},"ops":["create-stream","list-streams"],"new":1},"new":{}}"#;
        assert_eq!(issue(json), Ok(tenant()));
    }

    #[test]
    fn what_is_left_out_grants_nothing() {
        let bare = AccessTokenInfo {
            id: AccessTokenId::new("t").unwrap(),
            expires_at: None,
            auto_prefix_streams: false,
            scope: Scope::default(),
        };
        for json in [
            r#"{"id":"t","scope":{}}"#,
            r#"{"id":"t","scope":{"basins":null,"streams":{"exact":""},"op_groups":null,"ops":[]},"expires_at":null}"#,
            r#"{"id":"t","scope":{"op_groups":{"account":null,"basin":{},"stream":{"read":false,"write":null}},"ops":null},"auto_prefix_streams":null}"#,
        ] {
            assert_eq!(issue(json), Ok(bare.clone()), "{json}");
        }
        let everything = issue(r#"{"id":"t","scope":{"basins":{"prefix":""},"access_tokens":{"prefix":""}}}"#).unwrap();
        assert_eq!(everything.scope.basins, ResourceSet::everything());
        assert_eq!(everything.scope.access_tokens, ResourceSet::everything());
    }

    #[test]
    fn what_is_refused_as_json() {
        let long = format!(r#"{{"id":"{}","scope":{{}}}}"#, "a".repeat(97));
        for json in [
            "",
            "null",
            "[]",
            r#"{"scope":{}}"#,
            r#"{"id":"t"}"#,
            r#"{"id":"t","scope":null}"#,
            r#"{"id":"t","scope":[]}"#,
            r#"{"id":"","scope":{}}"#,
            r#"{"id":"..","scope":{}}"#,
            r#"{"id":"a\u0000","scope":{}}"#,
            &long,
            r#"{"id":"t","scope":{"ops":["fly"]}}"#,
            r#"{"id":"t","scope":{"ops":"append"}}"#,
            r#"{"id":"t","scope":{"basins":{}}}"#,
            r#"{"id":"t","scope":{"basins":{"exact":"my-basin-01","prefix":""}}}"#,
            r#"{"id":"t","scope":{"basins":{"suffix":"x"}}}"#,
            r#"{"id":"t","scope":{"basins":{"exact":"Short"}}}"#,
            r#"{"id":"t","scope":{"streams":{"prefix":"a\u0000"}}}"#,
            r#"{"id":"t","scope":{"op_groups":{"stream":true}}}"#,
            r#"{"id":"t","scope":{"op_groups":{"stream":{"read":1}}}}"#,
            r#"{"id":"t","scope":{},"expires_at":"tomorrow"}"#,
            r#"{"id":"t","scope":{},"auto_prefix_streams":"yes"}"#,
        ] {
            assert!(matches!(issue(json), Err(JsonError::Malformed(_))), "{json}: {:?}", issue(json));
        }
    }

    #[test]
    fn listings_say_everything() {
        // control-plane.md §7.6
        let shown = r#"{"id":"tenant-42","expires_at":"2027-01-01T00:00:00.000Z","auto_prefix_streams":true,"scope":{"basins":{"exact":"my-basin-01"},"streams":{"prefix":"tenant-42/"},"access_tokens":null,"op_groups":{"account":{"read":false,"write":false},"basin":{"read":false,"write":false},"stream":{"read":true,"write":true}},"ops":["list-streams","create-stream"]}}"#;
        let page = Page { entries: vec![tenant()], has_more: true };
        let expected = format!(r#"{{"access_tokens":[{shown}],"has_more":true}}"#);
        assert_eq!(String::from_utf8_lossy(&encode_access_tokens(&page)), expected);
        assert_eq!(issue(shown), Ok(tenant()), "what is shown can be asked for");
    }

    #[test]
    fn the_secret_is_told_in_full() {
        let json = encode_issued_token(&Secret::new("s2s_abc").unwrap());
        assert_eq!(json, br#"{"access_token":"s2s_abc"}"#);
    }
}
