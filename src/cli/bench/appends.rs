//! How the batches of a writer reach the server: over a session, or each in a request of its own. Knows no time.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    assignment::Assignment,
    body::{Batches, Source},
};
use crate::{
    client::{AppendOptions, AppendSession, Client, ClientError, EncryptionKey, JsonInput, StreamPath},
    config::Via,
    types::AppendAck,
};

/// Batches on their way, and their acks.
pub(super) enum Appends {
    Session(Box<AppendSession>),
    Requests(Requests),
}

/// Requests one after the other: of two at once the later one could go in first, and the order could not be checked.
pub(super) struct Requests {
    client: Client,
    path: StreamPath,
    key: Option<EncryptionKey>,
    answer: Option<Answer>,
}

type Answer = Pin<Box<dyn Future<Output = Result<AppendAck, ClientError>> + Send>>;

impl Appends {
    /// Nothing is sent yet.
    pub(super) fn open(assignment: &Assignment) -> Self {
        let Assignment { client, path, key, .. } = assignment;
        match assignment.via {
            Via::Session => {
                // The number of batches in flight is the limit, and not their size.
                let (unacked_limit, encryption_key) = (usize::MAX, key.clone());
                let options = AppendOptions { unacked_limit, encryption_key, ..AppendOptions::default() };
                Self::Session(Box::new(client.append_session(path, options)))
            }
            Via::Requests => {
                Self::Requests(Requests { client: client.clone(), path: path.clone(), key: key.clone(), answer: None })
            }
        }
    }

    /// Sends the next batch of `source`, meant to be sent at `intended`.
    pub(super) fn send(&mut self, batches: &Batches, source: &mut Source, intended: Duration) {
        match self {
            Self::Session(session) => {
                let submitted = session.submit(batches.next(source, intended));
                // A session that has failed is replaced before anything is sent again.
                debug_assert!(submitted.is_ok());
            }
            Self::Requests(requests) => requests.send(batches.next_json(source, intended)),
        }
    }

    /// The ack of the oldest batch that has none. After an error nothing more comes.
    pub(super) fn poll_ack(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AppendAck, ClientError>>> {
        match self {
            Self::Session(session) => session.poll_ack(cx),
            Self::Requests(requests) => requests.poll_ack(cx).map(Some),
        }
    }
}

impl Requests {
    fn send(&mut self, input: JsonInput) {
        debug_assert!(self.answer.is_none(), "one at a time is all that the configuration lets be in flight");
        let (client, path, key) = (self.client.clone(), self.path.clone(), self.key.clone());
        self.answer = Some(Box::pin(async move { client.append(&path, &input, key).await }));
    }

    /// Pending without a request: whoever sends one has this object to itself, and asks again.
    fn poll_ack(&mut self, cx: &mut Context<'_>) -> Poll<Result<AppendAck, ClientError>> {
        let Some(answer) = &mut self.answer else { return Poll::Pending };
        let answered = answer.as_mut().poll(cx);
        if answered.is_ready() {
            self.answer = None;
        }
        answered
    }
}
