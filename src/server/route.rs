//! Which operation a method and a path ask for. Names in the path stay as they came; their decoding comes later.

use http::Method;

/// A path that the gateway knows, with its names as they stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    Health,
    Metrics,
    AccountMetrics,
    BasinMetrics(&'a str),
    StreamMetrics(&'a str, &'a str),
    Locations,
    DefaultLocation,
    Basins,
    Basin(&'a str),
    AccessTokens,
    AccessToken(&'a str),
    Streams,
    Stream(&'a str),
    Records(&'a str),
    Tail(&'a str),
    Session(&'a str),
    ShortSession,
}

/// An operation, with the names that it is about as they stand in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Health,
    /// `GET /metrics`: what Prometheus reads.
    Metrics,
    /// `GET /v1/metrics`: usage.
    AccountMetrics,
    BasinMetrics(&'a str),
    StreamMetrics(&'a str, &'a str),
    ListLocations,
    GetDefaultLocation,
    SetDefaultLocation,
    ListBasins,
    CreateBasin,
    GetBasin(&'a str),
    EnsureBasin(&'a str),
    ReconfigureBasin(&'a str),
    DeleteBasin(&'a str),
    ListAccessTokens,
    IssueAccessToken,
    RevokeAccessToken(&'a str),
    ListStreams,
    CreateStream,
    GetStream(&'a str),
    EnsureStream(&'a str),
    ReconfigureStream(&'a str),
    DeleteStream(&'a str),
    /// `POST …/records`: a session or a single append, by content type.
    Append(&'a str),
    /// `GET …/records`: a session or a single read, by content type.
    Read(&'a str),
    CheckTail(&'a str),
    /// `POST …/session`: an append or a read session, by query.
    Session(&'a str),
    /// `POST /session`: the same, the stream named by a header.
    ShortSession,
}

/// Why there is no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// No such path.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed {
        /// They, as in the `allow` header.
        allow: &'static str,
    },
}

impl NoRoute {
    /// What it counts as in metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
        }
    }
}

/// Finds the operation for `method` and `path`.
pub(super) fn route<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, NoRoute> {
    operation(place(path).ok_or(NoRoute::NotFound)?, method)
}

fn place(path: &str) -> Option<Place<'_>> {
    match path {
        "/health" | "/ping" => return Some(Place::Health),
        "/metrics" => return Some(Place::Metrics),
        "/session" => return Some(Place::ShortSession),
        _ => {}
    }
    let mut segments = path.strip_prefix("/v1/")?.split('/');
    let place = match (segments.next()?, segments.next(), segments.next(), segments.next()) {
        ("session", None, ..) => Place::ShortSession,
        ("metrics", None, ..) => Place::AccountMetrics,
        ("metrics", Some(basin), None, _) => Place::BasinMetrics(basin),
        ("metrics", Some(basin), Some(stream), None) => Place::StreamMetrics(basin, stream),
        ("locations", None, ..) => Place::Locations,
        ("locations", Some("default"), None, _) => Place::DefaultLocation,
        ("basins", None, ..) => Place::Basins,
        ("basins", Some(basin), None, _) => Place::Basin(basin),
        ("access-tokens", None, ..) => Place::AccessTokens,
        ("access-tokens", Some(id), None, _) => Place::AccessToken(id),
        ("streams", None, ..) => Place::Streams,
        ("streams", Some(stream), None, _) => Place::Stream(stream),
        ("streams", Some(stream), Some("records"), None) => Place::Records(stream),
        ("streams", Some(stream), Some("session"), None) => Place::Session(stream),
        ("streams", Some(stream), Some("records"), Some("tail")) if segments.next().is_none() => Place::Tail(stream),
        _ => return None,
    };
    // A trailing slash is another path, not an empty name.
    match place {
        Place::Basin("") | Place::Stream("") | Place::AccessToken("") | Place::BasinMetrics("") => None,
        Place::StreamMetrics("", _) | Place::StreamMetrics(_, "") => None,
        place => Some(place),
    }
}

fn operation<'a>(place: Place<'a>, method: &Method) -> Result<Route<'a>, NoRoute> {
    let not_allowed = |allow| Err(NoRoute::MethodNotAllowed { allow });
    Ok(match (place, method) {
        (Place::Health, &Method::GET | &Method::HEAD) => Route::Health,
        (Place::Metrics, &Method::GET | &Method::HEAD) => Route::Metrics,
        (Place::AccountMetrics, &Method::GET) => Route::AccountMetrics,
        (Place::BasinMetrics(basin), &Method::GET) => Route::BasinMetrics(basin),
        (Place::StreamMetrics(basin, stream), &Method::GET) => Route::StreamMetrics(basin, stream),
        (Place::Locations, &Method::GET) => Route::ListLocations,
        (Place::DefaultLocation, &Method::GET) => Route::GetDefaultLocation,
        (Place::DefaultLocation, &Method::PUT) => Route::SetDefaultLocation,
        (Place::Basins, &Method::GET) => Route::ListBasins,
        (Place::Basins, &Method::POST) => Route::CreateBasin,
        (Place::Basin(basin), &Method::GET) => Route::GetBasin(basin),
        (Place::Basin(basin), &Method::PUT) => Route::EnsureBasin(basin),
        (Place::Basin(basin), &Method::PATCH) => Route::ReconfigureBasin(basin),
        (Place::Basin(basin), &Method::DELETE) => Route::DeleteBasin(basin),
        (Place::AccessTokens, &Method::GET) => Route::ListAccessTokens,
        (Place::AccessTokens, &Method::POST) => Route::IssueAccessToken,
        (Place::AccessToken(id), &Method::DELETE) => Route::RevokeAccessToken(id),
        (Place::Streams, &Method::GET) => Route::ListStreams,
        (Place::Streams, &Method::POST) => Route::CreateStream,
        (Place::Stream(stream), &Method::GET) => Route::GetStream(stream),
        (Place::Stream(stream), &Method::PUT) => Route::EnsureStream(stream),
        (Place::Stream(stream), &Method::PATCH) => Route::ReconfigureStream(stream),
        (Place::Stream(stream), &Method::DELETE) => Route::DeleteStream(stream),
        (Place::Records(stream), &Method::POST) => Route::Append(stream),
        (Place::Records(stream), &Method::GET) => Route::Read(stream),
        (Place::Tail(stream), &Method::GET) => Route::CheckTail(stream),
        (Place::Session(stream), &Method::POST) => Route::Session(stream),
        (Place::ShortSession, &Method::POST) => Route::ShortSession,
        (Place::Health | Place::Metrics, _) => return not_allowed("GET, HEAD"),
        (Place::Basins | Place::Streams | Place::Records(_), _) => return not_allowed("GET, POST"),
        (Place::Basin(_) | Place::Stream(_), _) => return not_allowed("GET, PUT, PATCH, DELETE"),
        (Place::AccessTokens, _) => return not_allowed("GET, POST"),
        (Place::AccessToken(_), _) => return not_allowed("DELETE"),
        (Place::DefaultLocation, _) => return not_allowed("GET, PUT"),
        (Place::Tail(_) | Place::Locations, _) => return not_allowed("GET"),
        (Place::AccountMetrics | Place::BasinMetrics(_) | Place::StreamMetrics(..), _) => return not_allowed("GET"),
        (Place::Session(_) | Place::ShortSession, _) => return not_allowed("POST"),
    })
}

impl Route<'_> {
    /// The operation's name in logs and metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Route::Health => "health",
            Route::Metrics => "metrics",
            Route::AccountMetrics => "account-metrics",
            Route::BasinMetrics(_) => "basin-metrics",
            Route::StreamMetrics(..) => "stream-metrics",
            Route::ListLocations => "list-locations",
            Route::GetDefaultLocation => "get-default-location",
            Route::SetDefaultLocation => "set-default-location",
            Route::ListBasins => "list-basins",
            Route::CreateBasin => "create-basin",
            Route::GetBasin(_) => "get-basin-config",
            Route::EnsureBasin(_) => "ensure-basin",
            Route::ReconfigureBasin(_) => "reconfigure-basin",
            Route::DeleteBasin(_) => "delete-basin",
            Route::ListAccessTokens => "list-access-tokens",
            Route::IssueAccessToken => "issue-access-token",
            Route::RevokeAccessToken(_) => "revoke-access-token",
            Route::ListStreams => "list-streams",
            Route::CreateStream => "create-stream",
            Route::GetStream(_) => "get-stream-config",
            Route::EnsureStream(_) => "ensure-stream",
            Route::ReconfigureStream(_) => "reconfigure-stream",
            Route::DeleteStream(_) => "delete-stream",
            Route::Append(_) => "append",
            Route::Read(_) => "read",
            Route::CheckTail(_) => "check-tail",
            Route::Session(_) | Route::ShortSession => "session",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_place() {
        let cases = [
            ("GET", "/health", Route::Health),
            ("GET", "/ping", Route::Health),
            ("GET", "/metrics", Route::Metrics),
            ("GET", "/v1/metrics", Route::AccountMetrics),
            ("GET", "/v1/metrics/my-basin", Route::BasinMetrics("my-basin")),
            ("GET", "/v1/metrics/my-basin/a%2Fb", Route::StreamMetrics("my-basin", "a%2Fb")),
            ("GET", "/v1/locations", Route::ListLocations),
            ("GET", "/v1/locations/default", Route::GetDefaultLocation),
            ("PUT", "/v1/locations/default", Route::SetDefaultLocation),
            ("GET", "/v1/basins", Route::ListBasins),
            ("POST", "/v1/basins", Route::CreateBasin),
            ("GET", "/v1/basins/my-basin", Route::GetBasin("my-basin")),
            ("PUT", "/v1/basins/my-basin", Route::EnsureBasin("my-basin")),
            ("PATCH", "/v1/basins/my-basin", Route::ReconfigureBasin("my-basin")),
            ("DELETE", "/v1/basins/my-basin", Route::DeleteBasin("my-basin")),
            ("GET", "/v1/access-tokens", Route::ListAccessTokens),
            ("POST", "/v1/access-tokens", Route::IssueAccessToken),
            ("DELETE", "/v1/access-tokens/tenant%2F1", Route::RevokeAccessToken("tenant%2F1")),
            ("GET", "/v1/streams", Route::ListStreams),
            ("POST", "/v1/streams", Route::CreateStream),
            ("GET", "/v1/streams/a%2Fb", Route::GetStream("a%2Fb")),
            ("PUT", "/v1/streams/a", Route::EnsureStream("a")),
            ("PATCH", "/v1/streams/a", Route::ReconfigureStream("a")),
            ("DELETE", "/v1/streams/a", Route::DeleteStream("a")),
            ("POST", "/v1/streams/a/records", Route::Append("a")),
            ("GET", "/v1/streams/a/records", Route::Read("a")),
            ("GET", "/v1/streams/a/records/tail", Route::CheckTail("a")),
            ("POST", "/v1/streams/a/session", Route::Session("a")),
            ("POST", "/session", Route::ShortSession),
            ("POST", "/v1/session", Route::ShortSession),
            ("GET", "/v1/streams/records", Route::GetStream("records")),
            ("GET", "/v1/streams/session", Route::GetStream("session")),
        ];
        for (method, path, expected) in cases {
            assert_eq!(route(&method.parse().unwrap(), path), Ok(expected), "{method} {path}");
        }
    }

    #[test]
    fn other_paths_are_not_found() {
        // errors.md §4.3
        for path in [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v2/basins",
            "/v1/basins/",
            "/v1/streams/",
            "/v1/access-tokens/",
            "/v1/access-tokens/a/b",
            "/v1/streams//records/",
            "/v1/streams/a/",
            "/v1/streams/a/records/",
            "/v1/streams/a/b/records",
            "/v1/streams/a/records/tail/",
            "/v1/streams/a/session/x",
            "/v1/nothing",
            "/v1/metrics/",
            "/v1/metrics/a/",
            "/v1/metrics/a/b/c",
            "/v1/locations/",
            "/v1/locations/local",
            "/v1/locations/default/",
            "/health/",
        ] {
            assert_eq!(route(&Method::GET, path), Err(NoRoute::NotFound), "{path}");
        }
    }

    #[test]
    fn other_methods_are_told_which_there_are() {
        for (method, path, allow) in [
            ("DELETE", "/v1/basins", "GET, POST"),
            ("POST", "/v1/basins/my-basin", "GET, PUT, PATCH, DELETE"),
            ("PUT", "/v1/access-tokens", "GET, POST"),
            ("GET", "/v1/access-tokens/a", "DELETE"),
            ("PUT", "/v1/streams/a/records", "GET, POST"),
            ("POST", "/v1/streams/a/records/tail", "GET"),
            ("GET", "/v1/streams/a/session", "POST"),
            ("POST", "/v1/metrics/my-basin", "GET"),
            ("PUT", "/v1/locations", "GET"),
            ("DELETE", "/v1/locations/default", "GET, PUT"),
            ("GET", "/session", "POST"),
            ("POST", "/health", "GET, HEAD"),
        ] {
            let expected = Err(NoRoute::MethodNotAllowed { allow });
            assert_eq!(route(&method.parse().unwrap(), path), expected, "{method} {path}");
        }
    }
}
