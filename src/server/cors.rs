//! What browsers must be told so that pages of other origins may use the API (`http.md` §7).
//!
//! Knows no operation: a preflight is answered without looking at its path, and every other response is marked on its
//! way out, errors and sessions too. A request without an `origin` is from no browser page, and nothing is said.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderValue, Method, Response, Uri,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
    request::Parts,
};

use super::body::Body;

/// Which pages of other origins may use the API, with every method and header that they name.
///
/// Where a token is asked for, allowing it gives no page a right that it did not have: the API knows no cookie, and a
/// page that holds a token could as well send it from a server of its own. Where none is asked for, whoever reaches the
/// port may do everything, and a browser on this machine reaches it for every page that it shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Those of every origin.
    #[default]
    Allow,
    /// Those that come from this machine: of `localhost` and the loopback addresses.
    Local,
    /// None: browsers are told nothing, and keep such pages from it.
    Off,
}

/// The response headers, beside those that every page may read, that a client looks at.
const EXPOSED: HeaderValue = HeaderValue::from_static("s2-provision-result, retry-after-ms, allow, content-encoding");

/// Seconds for which a browser need not ask again; browsers have limits of their own, two hours at the most.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// A response to a page depends on whose it is.
const VARIES: HeaderValue = HeaderValue::from_static("origin");
const PREFLIGHT_VARIES: HeaderValue =
    HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers");

impl Cors {
    /// The answer to a request that only asks, on behalf of a page, whether another one may be sent.
    pub(super) fn preflight(self, parts: &Parts) -> Option<Response<Body>> {
        let (origin, method) = (parts.headers.get(ORIGIN)?, parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?);
        if parts.method != Method::OPTIONS || !self.allows(origin) {
            return None;
        }
        let mut response = Response::new(Body::EMPTY);
        let headers = response.headers_mut();
        allow_origin(headers, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        if let Some(asked) = parts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        headers.insert(VARY, PREFLIGHT_VARIES);
        Some(response)
    }

    /// Lets the page that sent the `request` read its response.
    pub(super) fn mark(self, request: &HeaderMap, response: &mut Response<Body>) {
        let Some(origin) = request.get(ORIGIN).filter(|origin| self.allows(origin)) else { return };
        let headers = response.headers_mut();
        allow_origin(headers, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.append(VARY, VARIES);
    }

    fn allows(self, origin: &HeaderValue) -> bool {
        match self {
            Self::Allow => true,
            Self::Local => is_local(origin),
            Self::Off => false,
        }
    }
}

/// Whether a page of `origin` comes from this machine. `null`, which many pages are, does not.
fn is_local(origin: &HeaderValue) -> bool {
    let Ok(origin) = Uri::try_from(origin.as_bytes()) else { return false };
    let (Some("http" | "https"), Some(host)) = (origin.scheme_str(), origin.host()) else { return false };
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// The origin by name, because browsers do not take `*` together with credentials.
fn allow_origin(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
}

#[cfg(test)]
mod tests {
    use http::{Request, StatusCode};

    use super::*;

    const PAGE: &str = "https://app.example.org";

    fn parts(method: Method, headers: &[(&str, &str)]) -> Parts {
        let request = headers.iter().fold(Request::builder().method(method), |request, (n, v)| request.header(*n, *v));
        request.body(()).unwrap().into_parts().0
    }

    fn text(response: &Response<Body>, name: &str) -> Option<String> {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_preflight_is_allowed_what_it_asks() {
        // http.md §5.1, §7
        let asked = "authorization, s2-basin, content-type, accept, s2-format, s2-request-token, s2-encryption-key, \
                     s2-stream-config, last-event-id";
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let headers = [
                ("origin", PAGE),
                ("access-control-request-method", method),
                ("access-control-request-headers", asked),
            ];
            let response = Cors::Allow.preflight(&parts(Method::OPTIONS, &headers)).unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            for (name, expected) in [
                ("access-control-allow-origin", PAGE),
                ("access-control-allow-credentials", "true"),
                ("access-control-allow-methods", method),
                ("access-control-allow-headers", asked),
            ] {
                assert_eq!(text(&response, name).as_deref(), Some(expected), "{name}");
            }
            assert!(Cors::Off.preflight(&parts(Method::OPTIONS, &headers)).is_none());
        }
    }

    #[test]
    fn only_pages_of_this_machine_are_local() {
        let allowed = |origin| {
            let headers = [("origin", origin), ("access-control-request-method", "GET")];
            let answered = Cors::Local.preflight(&parts(Method::OPTIONS, &headers)).is_some();
            let mut response = Response::new(Body::EMPTY);
            Cors::Local.mark(&parts(Method::GET, &headers).headers, &mut response);
            assert_eq!(answered, !response.headers().is_empty(), "{origin}");
            answered
        };
        for local in [
            "http://localhost",
            "http://localhost:3000",
            "https://app.localhost:3000",
            "http://127.0.0.1:8080",
            "http://127.8.0.1",
            "http://[::1]:8080",
        ] {
            assert!(allowed(local), "{local}");
        }
        for foreign in [
            PAGE,
            "null",
            "",
            "localhost",
            "file://",
            "http://localhost.example.org",
            "http://notlocalhost",
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
            "http://[::2]",
            "ftp://localhost",
            "http://localhost@example.org",
        ] {
            assert!(!allowed(foreign), "{foreign}");
        }
    }

    #[test]
    fn other_requests_are_no_preflights() {
        let asks = ("access-control-request-method", "GET");
        for (method, headers) in [
            (Method::GET, &[("origin", PAGE), asks][..]),
            (Method::OPTIONS, &[("origin", PAGE)]),
            (Method::OPTIONS, &[asks]),
        ] {
            assert!(Cors::Allow.preflight(&parts(method, headers)).is_none(), "{headers:?}");
        }
    }

    #[test]
    fn a_page_may_read_its_response() {
        let marked = |cors: Cors, headers: &[(&str, &str)]| {
            let mut response = Response::new(Body::EMPTY);
            response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
            cors.mark(&parts(Method::GET, headers).headers, &mut response);
            response
        };
        let response = marked(Cors::Allow, &[("origin", PAGE)]);
        assert_eq!(text(&response, "access-control-allow-origin").as_deref(), Some(PAGE));
        assert_eq!(text(&response, "access-control-allow-credentials").as_deref(), Some("true"));
        let exposed = text(&response, "access-control-expose-headers").unwrap();
        assert!(exposed.starts_with("s2-provision-result, retry-after-ms"), "{exposed}");
        assert_eq!(response.headers().get_all(VARY).iter().count(), 2, "what it varied by before stays");
        for response in [marked(Cors::Allow, &[]), marked(Cors::Off, &[("origin", PAGE)])] {
            assert_eq!(response.headers().len(), 1, "nothing is said");
        }
    }
}
