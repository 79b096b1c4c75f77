//! What an access token may do: operations, groups of them, and sets of resources (`control-plane.md` §7.3, §7.4).
//!
//! ```text
//! Scope ── op_groups ∪ ops ─► Operations          one bit each; what may be done
//!       └─ basins, streams, access_tokens         ResourceSet each; to what
//! ```
//!
//! A request is in scope when its operation is among the operations and each resource it names in its set. A scope never
//! says no to something it said yes to before: there are no exceptions and no order.

use std::fmt;

use super::{
    AccessTokenId, AccessTokenIdPart, BasinName, BasinNamePart, Command, StreamName, StreamNamePart,
    append::AppendBatch,
};

/// What operations are about, as far as granting them together goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpGroup {
    /// Basins, tokens, locations, the account's usage.
    Account,
    /// A basin's streams and usage.
    Basin,
    /// Records.
    Stream,
}

/// Whether operations look or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupLevel {
    /// They look.
    Read,
    /// They change.
    Write,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $op:ident = $text:literal in $($group:ident $level:ident)or+;)*) => {
        /// An operation of the API that a token can be allowed (`control-plane.md` §7.4).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Operation { $($(#[$doc])* $op,)* }

        impl Operation {
            /// Every operation, in the order of the contract.
            pub const ALL: &[Operation] = &[$(Operation::$op,)*];

            /// As it travels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Operation::$op => $text,)* }
            }

            /// The groups, and the level of each, any of which grants it.
            pub const fn granted_by(self) -> &'static [(OpGroup, GroupLevel)] {
                match self { $(Operation::$op => &[$((OpGroup::$group, GroupLevel::$level)),+],)* }
            }
        }
    };
}

operations! {
    /// To list basins.
    ListBasins = "list-basins" in Account Read;
    /// To make a basin.
    CreateBasin = "create-basin" in Account Write;
    /// To delete a basin.
    DeleteBasin = "delete-basin" in Account Write;
    /// To change a basin's configuration.
    ReconfigureBasin = "reconfigure-basin" in Account Write;
    /// To see a basin's configuration. The published tables contradict each other, so either group will do.
    GetBasinConfig = "get-basin-config" in Basin Read or Account Read;
    /// To list access tokens.
    ListAccessTokens = "list-access-tokens" in Account Read;
    /// To issue an access token.
    IssueAccessToken = "issue-access-token" in Account Write;
    /// To revoke an access token.
    RevokeAccessToken = "revoke-access-token" in Account Write;
    /// To see the account's usage.
    AccountMetrics = "account-metrics" in Account Read;
    /// To list locations.
    ListLocations = "list-locations" in Account Read;
    /// To see where basins are made that name no location.
    GetDefaultLocation = "get-default-location" in Account Read;
    /// To say where basins are made that name no location.
    SetDefaultLocation = "set-default-location" in Account Write;
    /// To list a basin's streams.
    ListStreams = "list-streams" in Basin Read;
    /// To see a basin's usage.
    BasinMetrics = "basin-metrics" in Basin Read;
    /// To make a stream.
    CreateStream = "create-stream" in Basin Write;
    /// To delete a stream.
    DeleteStream = "delete-stream" in Basin Write;
    /// To change a stream's configuration.
    ReconfigureStream = "reconfigure-stream" in Basin Write;
    /// To see a stream's configuration. The published tables contradict each other, so either group will do.
    GetStreamConfig = "get-stream-config" in Basin Read or Stream Read;
    /// To ask where a stream ends.
    CheckTail = "check-tail" in Stream Read;
    /// To read records.
    Read = "read" in Stream Read;
    /// To see a stream's usage.
    StreamMetrics = "stream-metrics" in Stream Read;
    /// To append records.
    Append = "append" in Stream Write;
    /// To append trim commands.
    Trim = "trim" in Stream Write;
    /// To append fence commands.
    Fence = "fence" in Stream Write;
}

impl Operation {
    /// The operation that travels as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.as_str() == text)
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

impl From<Command> for Operation {
    fn from(command: Command) -> Self {
        match command {
            Command::Fence(_) => Self::Fence,
            Command::Trim(_) => Self::Trim,
        }
    }
}

/// A set of operations.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Operations(u32);

impl Operations {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Every one.
    pub const ALL: Self = Self((1 << Operation::ALL.len()) - 1);

    /// Whether `op` is one of them.
    pub const fn contains(self, op: Operation) -> bool {
        self.0 & op.bit() != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and `others`.
    #[must_use]
    pub const fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those of these that are not among `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Each of them, in the order of the contract.
    pub fn iter(self) -> impl Iterator<Item = Operation> {
        Operation::ALL.iter().copied().filter(move |op| self.contains(*op))
    }

    /// That all of these are to be had that the commands of `batch` ask for (`control-plane.md` §7.4).
    pub fn permit_commands(self, batch: &AppendBatch) -> Result<(), Denied> {
        batch.commands().iter().try_for_each(|(_, command)| self.permit((*command).into()))
    }

    /// That `op` is one of them.
    pub const fn permit(self, op: Operation) -> Result<(), Denied> {
        match self.contains(op) {
            true => Ok(()),
            false => Err(Denied::Operation(op)),
        }
    }
}

impl FromIterator<Operation> for Operations {
    fn from_iter<I: IntoIterator<Item = Operation>>(ops: I) -> Self {
        Self(ops.into_iter().fold(0, |bits, op| bits | op.bit()))
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Operation::as_str)).finish()
    }
}

/// Groups of operations, each granted at its levels.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct OpGroups(u8);

impl OpGroups {
    /// Every group at every level.
    pub const ALL: Self = Self(0b11_1111);

    /// Whether `group` is granted at `level`.
    pub const fn contains(self, group: OpGroup, level: GroupLevel) -> bool {
        self.0 & Self::bit(group, level) != 0
    }

    /// These and `group` at `level`.
    #[must_use]
    pub const fn with(self, group: OpGroup, level: GroupLevel) -> Self {
        Self(self.0 | Self::bit(group, level))
    }

    /// The operations that are in them today.
    pub fn operations(self) -> Operations {
        let granted = |op: &Operation| op.granted_by().iter().any(|(group, level)| self.contains(*group, *level));
        Operation::ALL.iter().copied().filter(granted).collect()
    }

    const fn bit(group: OpGroup, level: GroupLevel) -> u8 {
        1 << (2 * group as u8 + level as u8)
    }
}

impl fmt::Debug for OpGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = f.debug_set();
        for group in [OpGroup::Account, OpGroup::Basin, OpGroup::Stream] {
            for level in [GroupLevel::Read, GroupLevel::Write] {
                if self.contains(group, level) {
                    set.entry(&(group, level));
                }
            }
        }
        set.finish()
    }
}

/// Which resources of a kind a token reaches, by name (`control-plane.md` §7.3).
///
/// `Part` is what may stand for the beginning of a `Name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResourceSet<Name, Part> {
    /// None. On the wire absent, `null` or `{"exact":""}`.
    #[default]
    Nothing,
    /// The one of this name.
    Exact(Name),
    /// All whose names begin so; with the empty prefix all there are.
    Prefix(Part),
}

/// Basins.
pub type BasinSet = ResourceSet<BasinName, BasinNamePart>;
/// Streams, in all the basins that are reached.
pub type StreamSet = ResourceSet<StreamName, StreamNamePart>;
/// Access tokens.
pub type AccessTokenSet = ResourceSet<AccessTokenId, AccessTokenIdPart>;

impl<Name: AsRef<str>, Part: AsRef<str> + Default> ResourceSet<Name, Part> {
    /// All there are.
    pub fn everything() -> Self {
        Self::Prefix(Part::default())
    }

    /// Whether the resource called `name` is one of them.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Exact(exact) => exact.as_ref() == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_ref()),
        }
    }

    /// Whether every resource that can be in `other` is in this set.
    ///
    /// A prefix is never within one name, even if no other name could begin so: names may become longer.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Nothing) => true,
            (_, Self::Exact(name)) => self.contains(name.as_ref()),
            (Self::Prefix(prefix), Self::Prefix(other)) => other.as_ref().starts_with(prefix.as_ref()),
            (Self::Nothing | Self::Exact(_), Self::Prefix(_)) => false,
        }
    }
}

impl<Name: AsRef<str> + Clone, Part: AsRef<str> + Clone> ResourceSet<Name, Part> {
    /// Those of the set whose names begin with `prefix`.
    #[must_use]
    pub fn within(&self, prefix: &Part) -> Self {
        match self {
            Self::Exact(name) if name.as_ref().starts_with(prefix.as_ref()) => self.clone(),
            Self::Prefix(own) if own.as_ref().starts_with(prefix.as_ref()) => self.clone(),
            Self::Prefix(own) if prefix.as_ref().starts_with(own.as_ref()) => Self::Prefix(prefix.clone()),
            _ => Self::Nothing,
        }
    }
}

/// What a token may do, and to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The basins that it reaches.
    pub basins: BasinSet,
    /// The streams that it reaches, in those basins.
    pub streams: StreamSet,
    /// The access tokens that it may issue, see and revoke.
    pub access_tokens: AccessTokenSet,
    /// Groups of operations. A later version may put more operations into them.
    pub op_groups: OpGroups,
    /// Single operations.
    pub ops: Operations,
}

/// Why something is not allowed (403 `permission_denied`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The operation is not among those of the scope.
    #[error("the access token does not allow {}", .0.as_str())]
    Operation(Operation),
    /// The basin is not among those of the scope.
    #[error("the access token does not reach basin {0}")]
    Basin(BasinName),
    /// The stream is not among those of the scope.
    #[error("the access token does not reach stream {0:?}")]
    Stream(StreamName),
    /// The access token is not among those of the scope.
    #[error("the access token does not reach access token {0:?}")]
    AccessToken(AccessTokenId),
}

/// Why a scope would be more than the one it is to be taken from (403 `permission_denied`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfScope {
    /// An operation would be more.
    #[error("the issuing access token does not allow {} itself", .0.as_str())]
    Operation(Operation),
    /// Resources would be more.
    #[error("the issuing access token does not reach all of those {0} itself")]
    Resources(&'static str),
}

impl Scope {
    /// Everything.
    pub fn everything() -> Self {
        Self {
            basins: ResourceSet::everything(),
            streams: ResourceSet::everything(),
            access_tokens: ResourceSet::everything(),
            op_groups: OpGroups::ALL,
            ops: Operations::NONE,
        }
    }

    /// All operations that it allows: those of the groups and the single ones.
    pub fn operations(&self) -> Operations {
        self.op_groups.operations().union(self.ops)
    }

    /// That it reaches `basin`.
    pub fn reach_basin(&self, basin: &BasinName) -> Result<(), Denied> {
        match self.basins.contains(basin.as_str()) {
            true => Ok(()),
            false => Err(Denied::Basin(basin.clone())),
        }
    }

    /// That it reaches `stream` of `basin`, both.
    pub fn reach_stream(&self, basin: &BasinName, stream: &StreamName) -> Result<(), Denied> {
        self.reach_basin(basin)?;
        match self.streams.contains(stream.as_str()) {
            true => Ok(()),
            false => Err(Denied::Stream(stream.clone())),
        }
    }

    /// That it reaches the access token `id`.
    pub fn reach_access_token(&self, id: &AccessTokenId) -> Result<(), Denied> {
        match self.access_tokens.contains(id.as_str()) {
            true => Ok(()),
            false => Err(Denied::AccessToken(id.clone())),
        }
    }

    /// That `child` allows nothing and reaches nothing that this scope does not (`control-plane.md` §7.2).
    pub fn covers(&self, child: &Self) -> Result<(), OutOfScope> {
        if let Some(op) = child.operations().without(self.operations()).iter().next() {
            return Err(OutOfScope::Operation(op));
        }
        let within = |covered: bool, what| if covered { Ok(()) } else { Err(OutOfScope::Resources(what)) };
        within(self.basins.covers(&child.basins), "basins")?;
        within(self.streams.covers(&child.streams), "streams")?;
        within(self.access_tokens.covers(&child.access_tokens), "access tokens")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::testing::Records;

    /// `control-plane.md` §7.4, the last column, word for word.
    const BUILD: &[(&str, &str)] = &[
        ("list-basins", "account read"),
        ("create-basin", "account write"),
        ("delete-basin", "account write"),
        ("reconfigure-basin", "account write"),
        ("get-basin-config", "basin read or account read"),
        ("list-access-tokens", "account read"),
        ("issue-access-token", "account write"),
        ("revoke-access-token", "account write"),
        ("account-metrics", "account read"),
        ("list-locations", "account read"),
        ("get-default-location", "account read"),
        ("set-default-location", "account write"),
        ("list-streams", "basin read"),
        ("basin-metrics", "basin read"),
        ("create-stream", "basin write"),
        ("delete-stream", "basin write"),
        ("reconfigure-stream", "basin write"),
        ("get-stream-config", "basin read or stream read"),
        ("check-tail", "stream read"),
        ("read", "stream read"),
        ("stream-metrics", "stream read"),
        ("append", "stream write"),
        ("trim", "stream write"),
        ("fence", "stream write"),
    ];

    const GROUPS: [(&str, OpGroup, GroupLevel); 6] = [
        ("account read", OpGroup::Account, GroupLevel::Read),
        ("account write", OpGroup::Account, GroupLevel::Write),
        ("basin read", OpGroup::Basin, GroupLevel::Read),
        ("basin write", OpGroup::Basin, GroupLevel::Write),
        ("stream read", OpGroup::Stream, GroupLevel::Read),
        ("stream write", OpGroup::Stream, GroupLevel::Write),
    ];

    #[test]
    fn every_operation_is_in_its_groups() {
        assert_eq!(Operation::ALL.len(), 24);
        let names: Vec<_> = BUILD.iter().map(|(name, _)| Operation::parse(name).map(Operation::as_str)).collect();
        assert_eq!(names, BUILD.iter().map(|(name, _)| Some(*name)).collect::<Vec<_>>());
        for (name, group, level) in GROUPS {
            let granted: Vec<_> = OpGroups::default().with(group, level).operations().iter().collect();
            let expected: Vec<_> = BUILD
                .iter()
                .filter(|(_, groups)| groups.split(" or ").any(|granting| granting == name))
                .filter_map(|(op, _)| Operation::parse(op))
                .collect();
            assert_eq!(granted, expected, "{name}");
        }
        assert_eq!(OpGroups::ALL.operations(), Operations::ALL);
        assert_eq!(Operation::parse("append "), None);
    }

    #[test]
    fn what_the_tests_of_clients_know() {
        // control-plane.md §7.4, below the table
        let scope = |op_groups| Scope { op_groups, ..Default::default() };
        let reader = scope(OpGroups::default().with(OpGroup::Account, GroupLevel::Read)).operations();
        assert!(reader.contains(Operation::ListBasins) && !reader.contains(Operation::CreateBasin));
        let stream = OpGroups::default().with(OpGroup::Stream, GroupLevel::Read);
        let streamer = scope(stream.with(OpGroup::Stream, GroupLevel::Write)).operations();
        assert!(streamer.contains(Operation::Append) && streamer.contains(Operation::Read));
        assert!(!streamer.contains(Operation::CreateStream));
    }

    fn exact(name: &str) -> StreamSet {
        ResourceSet::Exact(StreamName::new(name).unwrap())
    }

    fn prefix(prefix: &str) -> StreamSet {
        ResourceSet::Prefix(StreamNamePart::new(prefix).unwrap())
    }

    #[test]
    fn what_resource_sets_match() {
        // control-plane.md §7.3; `{"exact":""}` becomes Nothing where JSON is read
        let cases = [
            (exact("name"), &["name"][..], &["", "nam", "name2", "Name"][..]),
            (prefix("p"), &["p", "p/q"], &["", "q", "P"]),
            (prefix(""), &["", "anything"], &[]),
            (StreamSet::default(), &[], &["", "anything"]),
        ];
        for (set, yes, no) in cases {
            assert!(yes.iter().all(|name| set.contains(name)), "{set:?}");
            assert!(!no.iter().any(|name| set.contains(name)), "{set:?}");
        }
    }

    #[test]
    fn commands_need_operations_of_their_own() {
        let ops = |ops: &[Operation]| ops.iter().copied().collect::<Operations>();
        let batch = |records: Records| records.try_batch().unwrap();
        let plain = || Records::new().body(None, b"x");
        let cases = [
            (ops(&[]), plain(), Ok(())),
            (ops(&[Operation::Append]), plain().fence("a"), Err(Denied::Operation(Operation::Fence))),
            (ops(&[Operation::Fence]), plain().fence("a"), Ok(())),
            (ops(&[Operation::Fence]), plain().fence("a").trim(1), Err(Denied::Operation(Operation::Trim))),
            (ops(&[Operation::Trim]), Records::new().trim(1), Ok(())),
        ];
        for (ops, records, expected) in cases {
            assert_eq!(ops.permit_commands(&batch(records)), expected, "{ops:?}");
        }
    }

    fn sets() -> impl Strategy<Value = StreamSet> {
        prop_oneof![
            Just(StreamSet::default()),
            "[ab]{1,3}".prop_map(|s| exact(&s)),
            "[ab]{0,3}".prop_map(|s| prefix(&s))
        ]
    }

    fn basin_sets() -> impl Strategy<Value = BasinSet> {
        prop_oneof![
            Just(BasinSet::default()),
            "basin-[ab]{2,3}".prop_map(|name| ResourceSet::Exact(BasinName::new(&name).unwrap())),
            "(basin-[ab]{0,3})?".prop_map(|part| ResourceSet::Prefix(BasinNamePart::new(&part).unwrap())),
        ]
    }

    fn token_sets() -> impl Strategy<Value = AccessTokenSet> {
        prop_oneof![
            Just(AccessTokenSet::default()),
            "[ab]{1,3}".prop_map(|name| ResourceSet::Exact(AccessTokenId::new(&name).unwrap())),
            "[ab]{0,3}".prop_map(|part| ResourceSet::Prefix(AccessTokenIdPart::new(&part).unwrap())),
        ]
    }

    fn groups() -> impl Strategy<Value = OpGroups> {
        prop::sample::subsequence(GROUPS.to_vec(), 0..=6).prop_map(|granted| {
            granted.iter().fold(OpGroups::default(), |all, (_, group, level)| all.with(*group, *level))
        })
    }

    fn operations() -> impl Strategy<Value = Operations> {
        prop::sample::subsequence(Operation::ALL.to_vec(), 0..=24).prop_map(|ops| ops.into_iter().collect())
    }

    fn scopes() -> impl Strategy<Value = Scope> {
        (basin_sets(), sets(), token_sets(), groups(), operations()).prop_map(
            |(basins, streams, access_tokens, op_groups, ops)| Scope { basins, streams, access_tokens, op_groups, ops },
        )
    }

    /// A part of `parent`, or something near it: an unrelated scope is hardly ever covered.
    fn families() -> impl Strategy<Value = (Scope, Scope)> {
        (scopes(), scopes(), operations(), any::<[bool; 4]>()).prop_map(|(parent, mut child, dropped, same)| {
            if same[0] {
                child.op_groups = OpGroups::default();
                child.ops = parent.operations().without(dropped);
            }
            if same[1] {
                child.basins = parent.basins.clone();
            }
            if same[2] {
                child.streams = parent.streams.clone();
            }
            if same[3] {
                child.access_tokens = parent.access_tokens.clone();
            }
            (parent, child)
        })
    }

    fn stream_names() -> impl Strategy<Value = StreamName> {
        "[ab]{1,4}".prop_map(|name| StreamName::new(&name).unwrap())
    }

    fn basin_names() -> impl Strategy<Value = BasinName> {
        "basin-[ab]{2,4}".prop_map(|name| BasinName::new(&name).unwrap())
    }

    proptest! {
        #[test]
        fn a_token_can_do_what_its_scope_says_and_nothing_else(scope in scopes()) {
            for (name, granting) in BUILD {
                let op = Operation::parse(name).unwrap();
                let by_group = granting.split(" or ").any(|granting| {
                    let (_, group, level) = GROUPS.iter().find(|(name, ..)| *name == granting).unwrap();
                    scope.op_groups.contains(*group, *level)
                });
                prop_assert_eq!(scope.operations().contains(op), by_group || scope.ops.contains(op), "{}", name);
            }
        }

        #[test]
        fn a_stream_is_reached_only_through_its_basin(scope in scopes(), basin in basin_names(), stream in stream_names()) {
            let in_basins = match &scope.basins {
                ResourceSet::Nothing => false,
                ResourceSet::Exact(name) => *name == basin,
                ResourceSet::Prefix(part) => basin.as_str().starts_with(part.as_str()),
            };
            let in_streams = scope.streams.contains(stream.as_str());
            prop_assert_eq!(scope.reach_basin(&basin).is_ok(), in_basins);
            prop_assert_eq!(scope.reach_stream(&basin, &stream).is_ok(), in_basins && in_streams);
        }

        #[test]
        fn a_child_never_does_more_than_its_parent(
            (parent, child) in families(),
            basin in basin_names(),
            stream in stream_names(),
            id in "[ab]{1,4}",
        ) {
            if parent.covers(&child).is_ok() {
                prop_assert!(child.operations().without(parent.operations()).is_empty());
                let id = AccessTokenId::new(&id).unwrap();
                prop_assert!(child.reach_basin(&basin).is_err() || parent.reach_basin(&basin).is_ok());
                prop_assert!(child.reach_stream(&basin, &stream).is_err() || parent.reach_stream(&basin, &stream).is_ok());
                prop_assert!(child.reach_access_token(&id).is_err() || parent.reach_access_token(&id).is_ok());
            }
        }

        #[test]
        fn what_is_not_covered_has_something_more(parent in sets(), child in sets()) {
            // No generated name has a "c", so no name and no longer prefix of the parent's can be the witness.
            let witness = match &child {
                ResourceSet::Nothing => None,
                ResourceSet::Exact(name) => Some(name.to_string()),
                ResourceSet::Prefix(part) => Some(format!("{part}c")),
            };
            if !parent.covers(&child) {
                let witness = witness.expect("nothing is within every set");
                prop_assert!(child.contains(&witness) && !parent.contains(&witness));
            }
        }

        #[test]
        fn covering_is_an_order(scope in scopes(), (parent, child) in families()) {
            prop_assert_eq!(scope.covers(&scope), Ok(()));
            prop_assert_eq!(Scope::everything().covers(&scope), Ok(()));
            prop_assert_eq!(scope.covers(&Scope::default()), Ok(()));
            if scope.covers(&parent).is_ok() && parent.covers(&child).is_ok() {
                prop_assert_eq!(scope.covers(&child), Ok(()));
            }
        }

        #[test]
        fn a_part_of_a_set_is_what_begins_so(set in sets(), part in "[ab]{0,3}", name in "[ab]{1,4}") {
            let within = set.within(&StreamNamePart::new(&part).unwrap());
            prop_assert_eq!(within.contains(&name), set.contains(&name) && name.starts_with(&part));
        }
    }
}
