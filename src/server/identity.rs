//! Who asks: from the `authorization` header to what each operation is told of it (`control-plane.md` §7, `http.md` §4).
//!
//! ```text
//! route ─► admit: who, and may they do that at all? ─► the operation: do they reach what it is about?
//!              401            403                            403, before anything is said about its existence
//! ```
//!
//! Which operations a route needs stands here in one table, so that a new route cannot be forgotten.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use http::{HeaderMap, header, request::Parts};

use super::{Gateway, route::Route};
use crate::{
    auth::{Identity, IdentityWatch, Standing},
    streams::Failure,
    types::{
        ApiError, AppendInput, BasinInfo, BasinName, BasinNamePart, ErrorCode, NameError, Operation, Operations, Page,
        ResourceSet, StreamInfo, StreamName, StreamNamePart,
    },
    wire::params::ListRequest,
};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// Anybody; nobody is asked who they are.
    Open,
    /// Whoever may do one of these operations. The route itself sees to which of them it is, if there are several.
    AnyOf(&'static [Operation]),
}

/// `control-plane.md` §7.4, "What each request needs".
const fn admission(route: Route<'_>) -> Admission {
    use Operation as Op;
    Admission::AnyOf(match route {
        Route::Health | Route::Metrics => return Admission::Open,
        Route::ListBasins => &[Op::ListBasins],
        Route::CreateBasin => &[Op::CreateBasin],
        Route::GetBasin(_) => &[Op::GetBasinConfig],
        Route::EnsureBasin(_) => &[Op::ReconfigureBasin, Op::CreateBasin],
        Route::ReconfigureBasin(_) => &[Op::ReconfigureBasin],
        Route::DeleteBasin(_) => &[Op::DeleteBasin],
        Route::ListStreams => &[Op::ListStreams],
        Route::CreateStream => &[Op::CreateStream],
        Route::GetStream(_) => &[Op::GetStreamConfig],
        Route::EnsureStream(_) => &[Op::ReconfigureStream, Op::CreateStream],
        Route::ReconfigureStream(_) => &[Op::ReconfigureStream],
        Route::DeleteStream(_) => &[Op::DeleteStream],
        Route::Append(_) => &[Op::Append],
        Route::Read(_) => &[Op::Read],
        Route::CheckTail(_) => &[Op::CheckTail],
        Route::Session(_) | Route::ShortSession => &[Op::Append, Op::Read],
        Route::ListAccessTokens => &[Op::ListAccessTokens],
        Route::IssueAccessToken => &[Op::IssueAccessToken],
        Route::RevokeAccessToken(_) => &[Op::RevokeAccessToken],
        Route::AccountMetrics => &[Op::AccountMetrics],
        Route::BasinMetrics(_) => &[Op::BasinMetrics],
        Route::StreamMetrics(..) => &[Op::StreamMetrics],
        Route::ListLocations => &[Op::ListLocations],
        Route::GetDefaultLocation => &[Op::GetDefaultLocation],
        Route::SetDefaultLocation => &[Op::SetDefaultLocation],
    })
}

impl Gateway {
    /// Finds out who asks, and leaves it with the request for [`of`].
    pub(super) async fn admit(
        &self,
        route: Route<'_>,
        headers: &HeaderMap,
        extensions: &mut http::Extensions,
    ) -> Result<(), ApiError> {
        let Admission::AnyOf(operations) = admission(route) else { return Ok(()) };
        let who = self.authority.authenticate(bearer(headers)).await?;
        who.permit_any(operations)?;
        extensions.insert(who);
        Ok(())
    }
}

/// The text behind `Bearer`; a header that says anything else counts as a token that nobody knows.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim_ascii()),
        _ => Some(""),
    }
}

/// Who sent the request. A request that was not admitted is nobody's.
pub(super) fn of(parts: &Parts) -> Result<&Identity, ApiError> {
    let who = parts.extensions.get();
    who.ok_or_else(|| ApiError::new(ErrorCode::Authn, "nobody was asked who they are"))
}

/// That who sent the request is still who they were, for one that had to wait for something (`http.md` §4).
pub(super) fn is_still_valid(parts: &Parts) -> Result<(), ApiError> {
    match of(parts)?.standing() {
        Standing::Valid => Ok(()),
        Standing::Ended => Err(no_longer_valid()),
    }
}

/// The error that ends a request which waits, when who sent it stops being who they were.
pub(super) async fn ended(parts: &Parts) -> ApiError {
    let mut watch = match of(parts) {
        Ok(who) => who.watch(),
        Err(nobody) => return nobody,
    };
    poll_fn(|cx| match watch.poll(cx) {
        Standing::Valid => Poll::Pending,
        Standing::Ended => Poll::Ready(no_longer_valid()),
    })
    .await
}

fn no_longer_valid() -> ApiError {
    ApiError::new(ErrorCode::Authn, "the access token has expired or was revoked")
}

/// The basin `name`, if it is reached.
pub(super) fn reached_basin(parts: &Parts, name: BasinName) -> Result<BasinName, ApiError> {
    of(parts)?.reach_basin(&name)?;
    Ok(name)
}

/// The stream that is meant by `name`, if it is reached; `code` tells of a name that is too long in full.
pub(super) fn reached_stream(
    parts: &Parts,
    basin: &BasinName,
    name: StreamName,
    code: ErrorCode,
) -> Result<StreamName, ApiError> {
    let who = of(parts)?;
    let stream = who.full_stream(name).map_err(|error| too_long(code, &error))?;
    who.reach_stream(basin, &stream)?;
    Ok(stream)
}

fn too_long(code: ErrorCode, error: &NameError) -> ApiError {
    ApiError::new(code, format!("with the access token's prefix, {error}"))
}

/// A stream as it is shown to who asks.
pub(super) fn shown_stream(parts: &Parts, info: StreamInfo) -> Result<StreamInfo, ApiError> {
    Ok(StreamInfo { name: of(parts)?.shown_stream(info.name), ..info })
}

/// A failure as it is told to who asks, who may have another name for the stream in it.
pub(super) fn shown_failure(parts: &Parts, failure: Failure) -> Failure {
    let Ok(who) = of(parts) else { return failure };
    match failure {
        Failure::StreamNotFound(basin, stream) => Failure::StreamNotFound(basin, who.shown_stream(stream)),
        Failure::StreamExists(basin, stream) => Failure::StreamExists(basin, who.shown_stream(stream)),
        failure => failure,
    }
}

/// A page of streams as it is shown to who asks.
pub(super) fn shown_streams(parts: &Parts, page: Page<StreamInfo>) -> Result<Page<StreamInfo>, ApiError> {
    let entries = page.entries.into_iter().map(|info| shown_stream(parts, info)).collect::<Result<_, _>>()?;
    Ok(Page { entries, ..page })
}

/// The part of a listing that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reached<Name, Part> {
    /// What to ask the service for; also for one who reaches nothing, who is told if there is no such basin.
    pub(super) list: ListRequest<Part>,
    told: Told<Name>,
}

/// What of the service's answer may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told<Name> {
    Nothing,
    /// This one, if it is there.
    Only(Name),
    All,
}

impl<Name: PartialEq, Part> Reached<Name, Part> {
    /// What of the service's answer may be told.
    pub(super) fn told<Info>(&self, page: Page<Info>, name: impl Fn(&Info) -> &Name) -> Page<Info> {
        match &self.told {
            Told::All => page,
            Told::Nothing => Page::EMPTY,
            Told::Only(only) => {
                let entries = page.entries.into_iter().filter(|info| name(info) == only).collect();
                Page { entries, has_more: false }
            }
        }
    }
}

/// Of the basins that are asked for, those that are reached.
pub(super) fn reached_basins(
    parts: &Parts,
    list: ListRequest<BasinNamePart>,
) -> Result<Reached<BasinName, BasinNamePart>, ApiError> {
    let set = of(parts)?.basins_within(list.prefix.clone());
    Ok(narrowed(set, list, BasinNamePart::new))
}

/// Of the streams that are asked for, those that are reached, in full names.
pub(super) fn reached_streams(
    parts: &Parts,
    list: ListRequest<StreamNamePart>,
) -> Result<Reached<StreamName, StreamNamePart>, ApiError> {
    let who = of(parts)?;
    let full = |part| who.full_stream_part(part).map_err(|error| too_long(ErrorCode::BadQuery, &error));
    let list = ListRequest { prefix: full(list.prefix)?, start_after: full(list.start_after)?, ..list };
    let set = who.streams_within(list.prefix.clone());
    Ok(narrowed(set, list, StreamNamePart::new))
}

/// The first name in order that begins with a whole name is that name, so one entry is enough to find it.
fn narrowed<Name: AsRef<str>, Part>(
    set: ResourceSet<Name, Part>,
    list: ListRequest<Part>,
    part: impl Fn(&str) -> Result<Part, NameError>,
) -> Reached<Name, Part> {
    match set {
        ResourceSet::Nothing => Reached { list: ListRequest { limit: 1, ..list }, told: Told::Nothing },
        ResourceSet::Prefix(prefix) => Reached { list: ListRequest { prefix, ..list }, told: Told::All },
        ResourceSet::Exact(name) => {
            let prefix = part(name.as_ref()).expect("a name can begin with all of itself");
            Reached { list: ListRequest { prefix, limit: 1, ..list }, told: Told::Only(name) }
        }
    }
}

/// What a session may do, and for how long.
#[derive(Debug)]
pub(super) struct SessionGuard {
    operations: Operations,
    watch: IdentityWatch,
}

impl SessionGuard {
    /// The guard of a session that who sent the request opens, for which they need `operation`.
    pub(super) fn new(parts: &Parts, operation: Operation) -> Result<Self, ApiError> {
        let who = of(parts)?;
        let operations = who.operations();
        operations.permit(operation)?;
        Ok(Self { operations, watch: who.watch() })
    }

    /// The error that ends the session if its token has expired or was revoked (`http.md` §4); wakes the task of `cx`
    /// when that happens.
    pub(super) fn poll_end(&mut self, cx: &Context<'_>) -> Option<ApiError> {
        match self.watch.poll(cx) {
            Standing::Valid => None,
            Standing::Ended => Some(no_longer_valid()),
        }
    }

    /// That the commands in `input` are allowed.
    pub(super) fn permit(&self, input: &AppendInput) -> Result<(), ApiError> {
        Ok(self.operations.permit_commands(&input.batch)?)
    }
}

/// The name of a basin in a listing.
pub(super) const fn basin_name(info: &BasinInfo) -> &BasinName {
    &info.name
}

/// The full name of a stream in a listing.
pub(super) const fn stream_name(info: &StreamInfo) -> &StreamName {
    &info.name
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_stands_behind_bearer() {
        // http.md §4
        let of = |text: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(text).unwrap());
            bearer(&headers).map(str::to_owned)
        };
        for (text, token) in [
            (&b"Bearer abc"[..], "abc"),
            (b"bearer  abc ", "abc"),
            (b"BEARER a b", "a b"),
            (b"Basic abc", ""),
            (b"Bearer", ""),
            (b"Bearer ", ""),
            (b"abc", ""),
            (b"Bearer \xff", ""),
        ] {
            assert_eq!(of(text).as_deref(), Some(token), "{text:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn only_what_is_outside_of_the_api_is_open() {
        assert_eq!(admission(Route::Health), Admission::Open);
        assert_eq!(admission(Route::Metrics), Admission::Open);
        const ENSURE: &[Operation] = &[Operation::ReconfigureBasin, Operation::CreateBasin];
        assert_eq!(admission(Route::EnsureBasin("x")), Admission::AnyOf(ENSURE));
    }

    #[test]
    fn a_request_that_was_not_admitted_is_nobodys() {
        let (parts, ()) = http::Request::new(()).into_parts();
        assert_eq!(of(&parts).unwrap_err().label(), "authn");
        assert_eq!(SessionGuard::new(&parts, Operation::Read).unwrap_err().label(), "authn");
    }
}
