//! The calls that have one answer: check-tail, and what it takes to have a stream to append to.

use bytes::Bytes;
use http::{HeaderValue, Method};
use tokio::time::sleep;

use super::{AtStake, Client, ClientError, StreamPath, Verdict, request::Call, retry::Attempts, session::unreadable};
use crate::{
    types::{ApiError, BasinName, ErrorCode, Position},
    wire::{RemoteError, calls, json},
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
    /// The durable tail of a stream (`data-plane.md` §9).
    pub async fn check_tail(&self, stream: &StreamPath) -> Result<Position, ClientError> {
        let call = Call::new(Method::GET, format!("{}/tail", stream.records()), Some(&stream.basin));
        let answer = self.call(&call, Bytes::new()).await?;
        json::decode_tail(&answer).map_err(unreadable)
    }

    /// Makes a basin with the defaults (`control-plane.md` §4.2).
    pub async fn create_basin(&self, basin: &BasinName) -> Result<(), ClientError> {
        let mut call = Call::new(Method::POST, "/basins", None);
        call.request_token = Some(request_token());
        self.call(&call, calls::create_basin(basin)).await.map(drop)
    }

    /// Makes a stream with its basin's defaults (`control-plane.md` §5.2).
    pub async fn create_stream(&self, stream: &StreamPath) -> Result<(), ClientError> {
        let mut call = Call::new(Method::POST, "/streams", Some(&stream.basin));
        call.request_token = Some(request_token());
        self.call(&call, calls::create_stream(&stream.stream)).await.map(drop)
    }

    /// Sees to it that the basin is there. One that is keeps its configuration, which a `PUT` would reset.
    pub async fn ensure_basin(&self, basin: &BasinName) -> Result<Ensured, ClientError> {
        ensured(self.create_basin(basin).await)
    }

    /// Sees to it that the stream is there, in a basin that is. One that is keeps its configuration.
    pub async fn ensure_stream(&self, stream: &StreamPath) -> Result<Ensured, ClientError> {
        ensured(self.create_stream(stream).await)
    }

    /// Asks until there is an answer, or no hope of one. All of these calls may be made twice.
    async fn call(&self, call: &Call, json: Bytes) -> Result<Bytes, ClientError> {
        let mut attempts = Attempts::new(self.retry_policy());
        loop {
            let error = match self.sender().call(call, json.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match attempts.failed(&error, AtStake::Nothing, rand::random()) {
                Verdict::GiveUp => return Err(error),
                Verdict::Retry { after } => {
                    tracing::debug!(%error, ?after, path = call.path, "a call is tried again");
                    sleep(after).await;
                }
            }
        }
    }
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
