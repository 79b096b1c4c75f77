//! The body of a response: one buffer that is all there, or a session that makes its chunks when it is polled.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::{append_pump::AppendPump, bell::Belled, chunk::Chunk, read_pump::ReadPump, sse_pump::SsePump};

/// What hyper sends.
pub(super) enum Body {
    /// Nothing, or all at once.
    Whole(Option<Chunk>),
    /// The acks of an append session.
    Append(Box<Belled<AppendPump<Incoming>>>),
    /// The batches of a read session.
    Read(Box<Belled<ReadPump>>),
    /// The batches of a read session, as server-sent events.
    Sse(Box<SsePump>),
}

impl Body {
    pub(super) const EMPTY: Body = Body::Whole(None);
}

impl http_body::Body for Body {
    type Data = Chunk;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, Infallible>>> {
        let chunk = match self.get_mut() {
            Body::Whole(whole) => Poll::Ready(whole.take()),
            Body::Append(pump) => pump.poll_chunk(cx),
            Body::Read(pump) => pump.poll_chunk(cx),
            Body::Sse(pump) => pump.poll_chunk(cx),
        };
        chunk.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(whole) => whole.is_none(),
            Body::Append(pump) => pump.session().is_over(),
            Body::Read(pump) => pump.session().is_over(),
            Body::Sse(pump) => pump.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(whole) => SizeHint::with_exact(whole.as_ref().map_or(0, Chunk::len) as u64),
            Body::Append(_) | Body::Read(_) | Body::Sse(_) => SizeHint::default(),
        }
    }
}
