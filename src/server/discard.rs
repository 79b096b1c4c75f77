//! What is left of a request that was answered before it was all there.
//!
//! An answer that ends before the request does makes HTTP/2 reset the stream, and HTTP/1.1 close the connection; some
//! clients then lose the answer they already have. So what is still coming is taken and thrown away for a short time,
//! up to a limit, and only then given up (`s2s.md` §1.3).

use std::{future::poll_fn, pin::Pin, time::Duration};

use bytes::Buf;
use http_body::Body;

const GRACE: Duration = Duration::from_secs(1);
const MOST: usize = 4 * 1024 * 1024;

/// Takes what is left of `body` for a while, in a task of its own.
pub(super) fn rest<B>(body: B)
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
{
    if !body.is_end_stream() {
        tokio::spawn(tokio::time::timeout(GRACE, take(body)));
    }
}

async fn take<B: Body + Unpin>(mut body: B) {
    let mut taken = 0;
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        taken += frame.data_ref().map_or(0, Buf::remaining);
        if taken > MOST {
            return;
        }
    }
}
