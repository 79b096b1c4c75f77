//! The calls that have one answer: how they are asked again, append and check-tail. Those about basins, streams and
//! tokens are in `catalogue`.

use bytes::Bytes;
use http::{HeaderValue, Method};
use tokio::time::sleep;

use super::{
    AppendRetry, AtStake, Client, ClientError, EncryptionKey, JsonInput, ProtocolError, RetryPolicy, StreamPath,
    Verdict, request::Call, retry::Attempts, session::unreadable,
};
use crate::{
    types::{AppendAck, Position},
    wire::json,
};

/// The `s2-format` of what [`JsonInput`] holds.
const BASE64: HeaderValue = HeaderValue::from_static("base64");

impl Client {
    /// Appends the records of `input` in a request of their own (`data-plane.md` §2, §6), encrypted with `key` if the
    /// stream has a cipher. A session costs less where there is more than one to come.
    ///
    /// Is tried again as the policy says of appends. Two calls at once go in in no order.
    pub async fn append(
        &self,
        stream: &StreamPath,
        input: &JsonInput,
        key: Option<EncryptionKey>,
    ) -> Result<AppendAck, ClientError> {
        let call = Call {
            format: Some(BASE64),
            encryption_key: key,
            ..Call::new(Method::POST, stream.records(), Some(&stream.basin))
        };
        let attempts = Attempts::new(self.retry_policy());
        let answer = self.attempt(&call, input.json(), attempts, AtStake::Duplicates).await?;
        let ack = json::decode_append_ack(&answer).map_err(unreadable)?;
        match (input.records() as u64, ack.end.seq_num.since(ack.start.seq_num)) {
            (sent, acked) if sent == acked => Ok(ack),
            (sent, acked) => Err(ClientError::Protocol(ProtocolError::AckCount { sent, acked })),
        }
    }

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
