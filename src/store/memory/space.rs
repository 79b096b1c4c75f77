//! How much memory all logs together take and may take, and whether the store still takes writes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::store::StoreError;

/// Bytes beyond the limit that only commits which move a trim point may use: room for hundreds of trim commands, which
/// are all it takes to empty a full log.
const TRIM_RESERVE: usize = 128 * 1024;

/// What an append does for the space it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It only takes.
    Keep,
    /// It moves the trim point, so that space will be given back.
    Free,
}

/// The space that the logs share.
#[derive(Debug)]
pub(super) struct Space {
    limit: usize,
    used: AtomicUsize,
    /// The most that was ever in use.
    peak: AtomicUsize,
    closed: AtomicBool,
}

impl Space {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), peak: AtomicUsize::new(0), closed: AtomicBool::new(false) }
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether more would be in use than ever with `bytes` more.
    pub(super) fn grows_with(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) > self.peak.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, or nothing if they do not fit.
    pub(super) fn take(&self, bytes: usize, purpose: Purpose) -> Result<(), StoreError> {
        let limit = match purpose {
            Purpose::Keep => self.limit,
            Purpose::Free => self.limit.saturating_add(TRIM_RESERVE),
        };
        let within = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= limit);
        // The counter guards nothing but itself, so its order to other memory does not matter.
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(before) => {
                self.peak.fetch_max(before + bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(used) => Err(full(bytes, used, self.limit)),
        }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(StoreError::Closed("the memory store was closed".into())),
            false => Ok(()),
        }
    }
}

fn full(bytes: usize, used: usize, limit: usize) -> StoreError {
    StoreError::Full(format!("{bytes} more bytes do not fit, {used} of {limit} bytes of memory are in use").into())
}
