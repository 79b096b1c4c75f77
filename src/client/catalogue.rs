//! Basins, streams and access tokens: made, listed, deleted (`control-plane.md` §4, §5, §7).
//!
//! A create carries a request token, so that it is recognised when it comes again. A deletion comes again too when its
//! answer was lost; then it may find nothing left to delete, and says so.

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::{Client, ClientError, StreamPath, query::list_query, request::Call, session::unreadable, stream::segment};
use crate::{
    types::{
        AccessTokenId, AccessTokenIdPart, AccessTokenInfo, ApiError, BasinConfig, BasinInfo, BasinName, BasinNamePart,
        ErrorCode, Page, Secret, StreamConfigLayer, StreamInfo, StreamNamePart,
    },
    wire::{RemoteError, calls, json, params::ListRequest},
};

/// What became of making sure that something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It was made.
    Created,
    /// It was there, and is as it was.
    Existed,
}

impl Client {
    /// Makes a basin (`control-plane.md` §4.2).
    pub async fn create_basin(&self, basin: &BasinName, config: &BasinConfig) -> Result<(), ClientError> {
        self.call(&create("/basins", None), calls::create_basin(basin, config)).await.map(drop)
    }

    /// A page of the basins that there are (`control-plane.md` §4.7), those that are being deleted among them.
    pub async fn list_basins(&self, request: &ListRequest<BasinNamePart>) -> Result<Page<BasinInfo>, ClientError> {
        let call = Call::new(Method::GET, format!("/basins?{}", list_query(request)), None);
        json::decode_basins(&self.call(&call, Bytes::new()).await?).map_err(unreadable)
    }

    /// Has a basin deleted, with all its streams, which goes on after the answer (`control-plane.md` §4.6).
    pub async fn delete_basin(&self, basin: &BasinName) -> Result<(), ClientError> {
        self.delete(Call::new(Method::DELETE, format!("/basins/{basin}"), None)).await
    }

    /// Makes a stream; what `config` leaves open is as its basin has it (`control-plane.md` §5.2).
    pub async fn create_stream(&self, stream: &StreamPath, config: &StreamConfigLayer) -> Result<(), ClientError> {
        let call = create("/streams", Some(&stream.basin));
        self.call(&call, calls::create_stream(&stream.stream, config)).await.map(drop)
    }

    /// A page of the streams of `basin` (`control-plane.md` §5.5), those that are being deleted among them.
    pub async fn list_streams(
        &self,
        basin: &BasinName,
        request: &ListRequest<StreamNamePart>,
    ) -> Result<Page<StreamInfo>, ClientError> {
        let call = Call::new(Method::GET, format!("/streams?{}", list_query(request)), Some(basin));
        json::decode_streams(&self.call(&call, Bytes::new()).await?).map_err(unreadable)
    }

    /// Has a stream deleted, which nobody can use from then on (`control-plane.md` §5.5).
    pub async fn delete_stream(&self, stream: &StreamPath) -> Result<(), ClientError> {
        self.delete(Call::new(Method::DELETE, stream.path(), Some(&stream.basin))).await
    }

    /// Sees to it that the basin is there. One that is keeps its configuration, which a `PUT` would reset.
    pub async fn ensure_basin(&self, basin: &BasinName) -> Result<Ensured, ClientError> {
        ensured(self.create_basin(basin, &BasinConfig::default()).await)
    }

    /// Sees to it that the stream is there, in a basin that is. One that is keeps its configuration.
    pub async fn ensure_stream(&self, stream: &StreamPath) -> Result<Ensured, ClientError> {
        ensured(self.create_stream(stream, &StreamConfigLayer::default()).await)
    }

    /// Issues an access token and tells its secret (`control-plane.md` §7.2).
    ///
    /// Is not tried again where it may have happened: then nobody knows the secret, and the token is to be revoked.
    pub async fn issue_access_token(&self, wanted: &AccessTokenInfo) -> Result<Secret, ClientError> {
        let call = Call::new(Method::POST, "/access-tokens", None);
        let answer = self.call_at_most_once(&call, calls::issue_access_token(wanted)).await?;
        json::decode_issued_token(&answer).map_err(unreadable)
    }

    /// A page of the access tokens that there are (`control-plane.md` §7.6), expired ones among them.
    pub async fn list_access_tokens(
        &self,
        request: &ListRequest<AccessTokenIdPart>,
    ) -> Result<Page<AccessTokenInfo>, ClientError> {
        let call = Call::new(Method::GET, format!("/access-tokens?{}", list_query(request)), None);
        json::decode_access_tokens(&self.call(&call, Bytes::new()).await?).map_err(unreadable)
    }

    /// Ends an access token, and with it its sessions (`control-plane.md` §7.6).
    pub async fn revoke_access_token(&self, id: &AccessTokenId) -> Result<(), ClientError> {
        self.delete(Call::new(Method::DELETE, format!("/access-tokens/{}", segment(id.as_str())), None)).await
    }

    async fn delete(&self, call: Call) -> Result<(), ClientError> {
        self.call(&call, Bytes::new()).await.map(drop)
    }
}

fn create(path: &str, basin: Option<&BasinName>) -> Call {
    Call { request_token: Some(request_token()), ..Call::new(Method::POST, path, basin) }
}

/// Makes a create recognisable when it comes again (`errors.md` §5.2): 32 characters of the 36 allowed.
fn request_token() -> HeaderValue {
    let token = format!("{:032x}", rand::random::<u128>());
    HeaderValue::from_str(&token).expect("hexadecimal digits may stand in a header")
}

fn ensured(created: Result<(), ClientError>) -> Result<Ensured, ClientError> {
    match created {
        Ok(()) => Ok(Ensured::Created),
        Err(error) if already_exists(&error) => Ok(Ensured::Existed),
        Err(error) => Err(error),
    }
}

fn already_exists(error: &ClientError) -> bool {
    let code = match error {
        ClientError::Server { error: RemoteError::Known(ApiError::Coded { code, .. }), .. } => *code,
        _ => return false,
    };
    code == ErrorCode::ResourceAlreadyExists
}
