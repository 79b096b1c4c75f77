//! HTTP: one port for HTTP/2, HTTP/1.1 and TLS, from the socket to the service and back.
//!
//! | file | subject |
//! |---|---|
//! | `listener` | connections: accepted, served, drained |
//! | `socket` | what the system is told about them |
//! | `gather` | what the sessions of a connection write, in one system call |
//! | `page_cache` | pages compressed for one reader, for the next |
//! | `http2`, `tls` | what connections are told, and how they are kept secret |
//! | `opening` | connections that say nothing |
//! | `drain` | stopping gently |
//! | `route`, `request`, `request_body`, `respond` | what is asked, with which words; how it is answered |
//! | `errors` | which failure is which error of the API |
//! | `cors` | what browsers are told about pages of other origins |
//! | `identity` | who asks, and what they reach |
//! | `operations`, `tokens`, `locations`, `metrics` | one function for each operation |
//! | `metering` | what is counted of each request |
//! | `append_pump`, `read_pump`, `sse_pump`, `body` | the bodies of sessions |
//! | `read_feed` | what the two forms of a read session have in common |
//! | `chunk` | what of a body is on its way, and what that counts for |
//! | `bell` | whether a session has anything new to look at |
//! | `discard` | what is left of requests that were refused early |
//!
//! Nothing here decides about a stream; the service does. Nothing but this room and the client names hyper, h2 or rustls.

mod append_pump;
mod bell;
mod body;
mod chunk;
mod cors;
mod discard;
mod drain;
mod errors;
mod gather;
mod http2;
mod identity;
mod listener;
mod locations;
mod metering;
mod metrics;
mod opening;
mod operations;
mod page_cache;
mod read_feed;
mod read_pump;
mod request;
mod request_body;
mod respond;
mod route;
mod socket;
mod sse_pump;
mod tls;
mod tokens;

use std::{convert::Infallible, sync::Arc};

use http::{Method, Request, Response, request::Parts};
use hyper::body::Incoming;

use self::{
    body::Body, drain::Drain, page_cache::PageCache, request_body::RequestBody, respond::Refusal, route::route,
};
use crate::{auth::Authority, clock, streams::Streams, telemetry::Telemetry, types::LocationName};

pub use cors::Cors;
pub use listener::{BindError, Server, ServerConfig};
pub use request::BasinHost;
pub use tls::{Certificate, TlsError};

/// What all connections share.
struct Gateway {
    streams: Arc<Streams>,
    authority: Arc<Authority>,
    telemetry: Arc<Telemetry>,
    drain: Arc<Drain>,
    pages: Arc<PageCache>,
    basin_host: Option<BasinHost>,
    cors: Cors,
    location: LocationName,
}

impl Gateway {
    /// Answers one request. Its body may still be coming when the answer goes out.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let since = clock::instant();
        let (mut parts, body) = request.into_parts();
        if let Some(allowed) = self.cors.preflight(&parts) {
            return Ok(allowed);
        }
        let mut body = RequestBody::new(body, self.streams.session_memory().clone());
        let response = match route(&parts.method, parts.uri.path()) {
            Ok(route) => {
                self.telemetry.request(route.name());
                let answer = match self.admit(route, &parts.headers, &mut parts.extensions).await {
                    Ok(()) => self.perform(route, &parts, &mut body).await,
                    Err(error) => Err(error.into()),
                };
                self.meter(route, &parts, &answer, since);
                answer
            }
            Err(no_route) => Err(no_route.into()),
        };
        if let Some(untaken) = body.rest() {
            discard::rest(untaken);
        }
        let response = response.unwrap_or_else(|refused| self.refuse(refused, &parts));
        let response = respond::compressed(response, request::accept_encoding(&parts.headers));
        let response = match parts.method {
            Method::HEAD => respond::head_of(response),
            _ => response,
        };
        let mut response = respond::counted(response, self.streams.session_memory());
        self.cors.mark(&parts.headers, &mut response);
        Ok(response)
    }

    fn refuse(&self, refused: Refusal, parts: &Parts) -> Response<Body> {
        let error = match refused {
            Refusal::NoRoute(no_route) => {
                self.telemetry.error(no_route.label());
                return respond::no_route(no_route);
            }
            Refusal::Failed(failure) => errors::api_error(identity::shown_failure(parts, failure)),
            Refusal::Api(error) => error,
        };
        self.telemetry.error(error.label());
        respond::error(&error)
    }
}
