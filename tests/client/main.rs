//! The client against a peer that says what each test tells it to: what is checked, what is tried again, what is resumed.

mod append;
mod peer;
mod read;
mod unary;

use s2s_gateway::{
    client::{ClientError, Conditions, EncodedInput, InputBuilder, StreamPath},
    types::{ApiError, BasinName, Compression, ErrorCode, SeqNum, StreamName},
};

fn stream() -> StreamPath {
    StreamPath { basin: BasinName::new("my-basin-01").unwrap(), stream: StreamName::new("orders/eu").unwrap() }
}

/// An input of one record.
fn input(body: &str) -> EncodedInput {
    positioned(body, None)
}

/// An input of one record that must get the number `match_seq_num`.
fn positioned(body: &str, match_seq_num: Option<u64>) -> EncodedInput {
    let mut builder = InputBuilder::new();
    builder.push(None, [], body.as_bytes());
    let conditions = Conditions { match_seq_num: match_seq_num.map(SeqNum::new), fencing_token: None };
    builder.build(conditions, Compression::None).unwrap()
}

fn coded(code: ErrorCode) -> ApiError {
    ApiError::new(code, "said the peer")
}

/// What the peer said no with.
fn refusal(error: &ClientError) -> &ApiError {
    match error {
        ClientError::Server { error: s2s_gateway::wire::RemoteError::Known(error), .. } => error,
        other => panic!("not an answer: {other:?}"),
    }
}
