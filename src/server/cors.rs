//! What browsers must be told so that pages of other origins may use the API (`http.md` §7).
//!
//! Knows no operation: a preflight is answered without looking at its path, and every other response is marked on its
//! way out, errors and sessions too. A request without an `origin` is from no browser page, and nothing is said.

use http::{
    HeaderMap, HeaderValue, Method, Response,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
    request::Parts,
};

use super::body::Body;

/// Whether pages of other origins may use the API.
///
/// Where a token is asked for, allowing it gives no page a right that it did not have: the API knows no cookie, and a
/// page that holds a token could as well send it from a server of its own. Where none is asked for, it lets every page
/// that a browser on this machine shows do what whoever reaches the port may do, which is everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Pages of every origin, with every method and header that they name.
    #[default]
    Allow,
    /// Browsers are told nothing, and keep such pages from it.
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
        let asked = (self, &parts.method) == (Self::Allow, &Method::OPTIONS);
        let (origin, method) = (parts.headers.get(ORIGIN)?, parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?);
        if !asked {
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
        let Some(origin) = request.get(ORIGIN).filter(|_| self == Self::Allow) else { return };
        let headers = response.headers_mut();
        allow_origin(headers, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.append(VARY, VARIES);
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
