//! What the operations on access tokens do with their requests (`control-plane.md` §7).

use http::{Response, StatusCode, header, request::Parts};

use super::{
    Gateway,
    body::Body,
    identity,
    operations::{Answer, json_body},
    request,
    request_body::RequestBody,
    respond,
};
use crate::wire::{json, params};

impl Gateway {
    pub(super) async fn list_access_tokens(&self, parts: &Parts) -> Answer {
        let list = params::list_access_tokens(parts.uri.query())?;
        let who = identity::of(parts)?;
        let page = self.authority.list(who, list.prefix, &list.start_after, list.limit).await?;
        Ok(respond::json(StatusCode::OK, json::encode_access_tokens(&page)))
    }

    pub(super) async fn issue_access_token(&self, parts: &Parts, body: &mut RequestBody) -> Answer {
        let wanted = json::decode_issue_access_token(&json_body(parts, body).await?)?;
        let token = self.authority.issue(identity::of(parts)?, wanted).await?;
        Ok(uncached(respond::json(StatusCode::CREATED, json::encode_issued_token(&token))))
    }

    pub(super) async fn revoke_access_token(&self, id: &str, parts: &Parts) -> Answer {
        let id = request::access_token_in_path(id)?;
        self.authority.revoke(identity::of(parts)?, &id).await?;
        Ok(respond::no_content())
    }
}

/// A secret is not for anybody to keep on its way.
fn uncached(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
