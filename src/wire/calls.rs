//! The JSON that a client asks with in the few unary calls that this crate's own client makes (`control-plane.md` §4.2,
//! §5.2). Reading it is `json`'s.

use bytes::Bytes;
use serde::Serialize;

use crate::types::{BasinName, StreamName};

/// The body of `POST /v1/basins` for a basin with the defaults.
pub fn create_basin(basin: &BasinName) -> Bytes {
    encode(&CreateBasin { basin: basin.as_str() })
}

/// The body of `POST /v1/streams` for a stream with its basin's defaults.
pub fn create_stream(stream: &StreamName) -> Bytes {
    encode(&CreateStream { stream: stream.as_str() })
}

#[derive(Serialize)]
struct CreateBasin<'a> {
    basin: &'a str,
}

#[derive(Serialize)]
struct CreateStream<'a> {
    stream: &'a str,
}

fn encode(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("strings under fixed keys always serialize").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    #[test]
    fn what_is_asked_is_what_is_heard() {
        let basin = BasinName::new("my-basin-01").unwrap();
        assert_eq!(json::decode_create_basin(&create_basin(&basin)).unwrap().name, basin);
        let stream = StreamName::new("orders \"eu\"/日").unwrap();
        assert_eq!(json::decode_create_stream(&create_stream(&stream)).unwrap().name, stream);
    }
}
