//! The body of a request, for the one operation that takes it: as it comes, or whole. What came of it counts as memory of
//! sessions for as long as it is there, and that is mostly not until the answer: what is read from it, it is not, and a
//! batch that is in its stream counts among the appends.

use std::{mem, ops::Deref, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::request;
use crate::{
    memory::{Held, Share},
    types::{ApiError, ErrorCode},
    wire::inflate,
};

/// Bytes of a unary body, after decompression. A legal batch of 1 MiB takes six times that in JSON when each byte of it
/// is escaped, and a little more for names and brackets.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Bytes of a body for which there is room in any case.
const SMALL: usize = 64 * 1024;

/// Time for a unary body to arrive; clients give up after five seconds.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body that nobody has taken yet, or that is on its way here.
pub(super) struct RequestBody {
    untaken: Option<Incoming>,
    held: Held,
}

/// A whole body, counted until this is dropped.
pub(super) struct WholeBody {
    bytes: Bytes,
    held: Held,
}

/// What was read from a body, counted until this is dropped.
pub(super) struct Counted<T> {
    value: T,
    _held: Held,
}

impl RequestBody {
    /// None of it has come yet; what does counts against `memory`.
    pub(super) fn new(body: Incoming, memory: Arc<Share>) -> Self {
        Self { untaken: Some(body), held: Held::nothing_of(memory) }
    }

    /// The body, as it comes; not counted from now on.
    pub(super) fn take(&mut self) -> Incoming {
        self.untaken.take().expect("a body is taken once, by the operation that the route names")
    }

    /// What nobody took.
    pub(super) fn rest(self) -> Option<Incoming> {
        self.untaken
    }

    /// A body without a byte, whatever there is.
    pub(super) fn none(&mut self) -> WholeBody {
        WholeBody { bytes: Bytes::new(), held: self.held.hand_over() }
    }

    /// The whole body, decompressed. `code` tells of one that cannot be had.
    pub(super) async fn whole(&mut self, headers: &HeaderMap, code: ErrorCode) -> Result<WholeBody, ApiError> {
        let compression = request::content_encoding(headers)?;
        let body = match tokio::time::timeout(BODY_TIMEOUT, self.collect(code)).await {
            Ok(collected) => collected?,
            Err(_elapsed) => {
                let message = format!("the body did not arrive within {} seconds", BODY_TIMEOUT.as_secs());
                return Err(ApiError::new(ErrorCode::RequestTimeout, message));
            }
        };
        let bytes =
            inflate(compression, body, MAX_BODY).map_err(|error| ApiError::new(code, format!("the body: {error}")))?;
        let mut held = self.held.hand_over();
        held.set(bytes.len());
        Ok(WholeBody { bytes, held })
    }

    async fn collect(&mut self, code: ErrorCode) -> Result<Bytes, ApiError> {
        let mut body = self.take();
        // Mostly there is one chunk; of many, small ones may each keep more memory than they have bytes.
        let (mut only, mut all, mut len) = (Bytes::new(), BytesMut::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| ApiError::new(code, format!("the body did not arrive whole: {error}")))?;
            // Trailers mean nothing.
            let Ok(chunk) = frame.into_data() else { continue };
            len += chunk.len();
            if let Err(error) = self.check_room(len, code) {
                self.untaken = Some(body);
                return Err(error);
            }
            self.held.set(len);
            match len == chunk.len() {
                true => only = chunk,
                false => {
                    all.extend_from_slice(&mem::take(&mut only));
                    all.extend_from_slice(&chunk);
                }
            }
        }
        Ok(if all.is_empty() { only } else { all.freeze() })
    }

    /// Whether `len` bytes of the body may be there. What it takes itself is not in its own way: where there is little
    /// memory, one large body after the other has room.
    fn check_room(&self, len: usize, code: ErrorCode) -> Result<(), ApiError> {
        if len > MAX_BODY {
            return Err(ApiError::new(code, format!("the body must not exceed {MAX_BODY} bytes")));
        }
        let share = self.held.share();
        if len > SMALL && share.used().saturating_sub(self.held.bytes()) > share.limit() {
            let error = "too much memory is taken by what others send; send this again";
            return Err(ApiError::new(ErrorCode::RateLimited, error));
        }
        Ok(())
    }
}

impl WholeBody {
    /// What `read` makes of the body, which is a part of it: all of the body stays and counts.
    pub(super) fn read_in_place<T, E>(self, read: impl FnOnce(Bytes) -> Result<T, E>) -> Result<Counted<T>, E> {
        Ok(Counted { value: read(self.bytes)?, _held: self.held })
    }

    /// What `read` makes of the body, which is not a part of it, and takes as much memory as `memory` says.
    pub(super) fn read<T, E>(
        mut self,
        read: impl FnOnce(&[u8]) -> Result<T, E>,
        memory: impl FnOnce(&T) -> usize,
    ) -> Result<Counted<T>, E> {
        let value = read(&self.bytes)?;
        self.held.set(memory(&value));
        Ok(Counted { value, _held: self.held })
    }
}

impl Deref for WholeBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
