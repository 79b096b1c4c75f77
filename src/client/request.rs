//! Requests of this client: their heads, and the responses that are not what was hoped for.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{
    Awaited, ClientError, EncryptionKey, Endpoint, ProtocolError, Token,
    body::RequestBody,
    connection::{Connection, Pool, REQUEST_TIMEOUT},
};
use crate::{
    types::{BasinName, Compression},
    wire,
};

/// The media type of a session, in both directions (`s2s.md` §1.1).
const SESSION: HeaderValue = HeaderValue::from_static("s2s/proto");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// No answer to a unary call of this client is longer: a page of 1000 tokens whose names are as long as names may be, and
/// all of them escaped, has 5 MB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// What is asked for, without a body; it can be asked again.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query below the endpoint's base.
    pub(super) path: String,
    /// Empty for calls of the account.
    pub(super) basin: Option<BasinName>,
    pub(super) compression: Compression,
    pub(super) request_token: Option<HeaderValue>,
    /// How records are written in JSON; as text without.
    pub(super) format: Option<HeaderValue>,
    pub(super) encryption_key: Option<EncryptionKey>,
}

impl Call {
    /// A call with nothing but the necessary.
    pub(super) fn new(method: Method, path: impl Into<String>, basin: Option<&BasinName>) -> Self {
        Self {
            method,
            path: path.into(),
            basin: basin.cloned(),
            compression: Compression::None,
            request_token: None,
            format: None,
            encryption_key: None,
        }
    }
}

/// Who asks, and whom.
pub(super) struct Sender {
    pub(super) endpoint: Endpoint,
    pub(super) token: Option<Token>,
    pub(super) pool: Pool,
}

impl Sender {
    /// Sends a unary call and collects its answer, within 5 s each.
    pub(super) async fn call(&self, call: &Call, json: Bytes) -> Result<Bytes, ClientError> {
        let content_type = (!json.is_empty()).then_some(JSON);
        let request = self.request(call, content_type, RequestBody::whole(json));
        let (connection, response) = self.send(request).await?;
        match response.status().is_success() {
            true => collect(response).await.inspect_err(|_| self.pool.retire(&connection)),
            false => Err(refusal(response).await),
        }
    }

    /// Opens a session: returns when the server has agreed to it.
    pub(super) async fn open(&self, call: &Call, body: RequestBody) -> Result<(Connection, Incoming), ClientError> {
        let request = self.request(call, Some(SESSION), body);
        let (connection, response) = self.send(request).await?;
        match (response.status(), response.headers().get(CONTENT_TYPE)) {
            (StatusCode::OK, Some(content_type)) if *content_type == SESSION => Ok((connection, response.into_body())),
            (status, content_type) if status.is_success() => {
                let content_type = content_type.map_or_else(String::new, |value| format!("{value:?}"));
                Err(ClientError::Protocol(ProtocolError::NotASession { status: status.as_u16(), content_type }))
            }
            _ => Err(refusal(response).await),
        }
    }

    async fn send(&self, request: Request<RequestBody>) -> Result<(Connection, Response<Incoming>), ClientError> {
        let mut connection = self.pool.connection().await?;
        match connection.send(request, REQUEST_TIMEOUT).await {
            Ok(response) => Ok((connection, response)),
            Err(error) => {
                self.pool.retire(&connection);
                Err(error)
            }
        }
    }

    fn request(&self, call: &Call, content_type: Option<HeaderValue>, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = self
            .endpoint
            .url(&call.path)
            .parse()
            .expect("endpoints were parsed as URLs, paths and queries are percent-encoded");
        self.put_headers(request.headers_mut(), call, content_type);
        request
    }

    fn put_headers(&self, headers: &mut HeaderMap, call: &Call, content_type: Option<HeaderValue>) {
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("s2s-gateway/", env!("CARGO_PKG_VERSION"))));
        let basin = call
            .basin
            .as_ref()
            .map(|basin| HeaderValue::from_str(basin.as_str()).expect("basin names are letters, digits and hyphens"));
        let accepted = match call.compression {
            Compression::None => None,
            compression => Some(HeaderValue::from_static(compression.coding())),
        };
        let optional = [
            (CONTENT_TYPE, content_type),
            (AUTHORIZATION, self.token.as_ref().map(Token::header)),
            (ACCEPT_ENCODING, accepted),
            (http::HeaderName::from_static("s2-basin"), basin),
            (http::HeaderName::from_static("s2-request-token"), call.request_token.clone()),
            (http::HeaderName::from_static("s2-format"), call.format.clone()),
            (
                http::HeaderName::from_static("s2-encryption-key"),
                call.encryption_key.as_ref().map(EncryptionKey::header),
            ),
        ];
        headers.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    }
}

/// What a response that is not a success says (`errors.md` §1).
async fn refusal(response: Response<Incoming>) -> ClientError {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    match collect(response).await {
        Ok(body) => ClientError::Server { error: wire::parse_error(status, &body), retry_after },
        Err(error) => error,
    }
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
    match timeout(REQUEST_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(ClientError::Lost(error.to_string())),
        Err(_) => Err(ClientError::TimedOut { awaited: Awaited::Response, after: REQUEST_TIMEOUT }),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let millis = headers.get("retry-after-ms")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(millis))
}
