//! The calls that have one answer: how they are asked again, and check-tail. Those about basins, streams and tokens are
//! in `catalogue`.

use bytes::Bytes;
use http::Method;
use tokio::time::sleep;

use super::{
    AppendRetry, AtStake, Client, ClientError, RetryPolicy, StreamPath, Verdict, request::Call, retry::Attempts,
    session::unreadable,
};
use crate::{types::Position, wire::json};

impl Client {
    /// The durable tail of a stream (`data-plane.md` §9).
    pub async fn check_tail(&self, stream: &StreamPath) -> Result<Position, ClientError> {
        let call = Call::new(Method::GET, format!("{}/tail", stream.records()), Some(&stream.basin));
        let answer = self.call(&call, Bytes::new()).await?;
        json::decode_tail(&answer).map_err(unreadable)
    }

    /// Asks until there is an answer, or no hope of one. Only for what may be done twice.
    pub(super) async fn call(&self, call: &Call, json: Bytes) -> Result<Bytes, ClientError> {
        self.attempt(call, json, Attempts::new(self.retry_policy()), AtStake::Nothing).await
    }

    /// As [`Client::call`], but asks again only where nothing can have happened.
    pub(super) async fn call_at_most_once(&self, call: &Call, json: Bytes) -> Result<Bytes, ClientError> {
        let policy = RetryPolicy { appends: AppendRetry::NoSideEffects, ..self.retry_policy() };
        self.attempt(call, json, Attempts::new(policy), AtStake::Duplicates).await
    }

    async fn attempt(
        &self,
        call: &Call,
        json: Bytes,
        mut attempts: Attempts,
        at_stake: AtStake,
    ) -> Result<Bytes, ClientError> {
        loop {
            let error = match self.sender().call(call, json.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match attempts.failed(&error, at_stake, rand::random()) {
                Verdict::GiveUp => return Err(error),
                Verdict::Retry { after } => {
                    tracing::debug!(%error, ?after, path = call.path, "a call is tried again");
                    sleep(after).await;
                }
            }
        }
    }
}
