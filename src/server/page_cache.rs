//! Compressed frames of catch-up pages, kept for a while for the readers that come next. Knows no session.
//!
//! What a stream has at a number never changes, so a page is known by its stream and its first and last number; a frame
//! made of it is right as long as anyone asks. A page that tells of the tail is another one when the stream has grown.
//! Pages of streams with a cipher never come here.
//!
//! Bounded by the limit that it is made with; what is older than [`KEPT_FOR`] goes, so that a gateway whose readers have
//! all caught up keeps nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    clock,
    types::{Compression, Position, SeqNum, StreamId},
};

/// How long a frame is kept for the next reader.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Bytes that a frame costs beside its own, at most: its key in two places, its slot, and what the allocator takes. A page
/// of a megabyte may be compressed to fewer.
const BESIDE: usize = 4 * size_of::<PageKey>() + 128;

/// Which page, and how it was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PageKey {
    /// Where it is from.
    pub(super) stream: StreamId,
    /// The number of its first record.
    pub(super) first: SeqNum,
    /// The number after its last record.
    pub(super) end: SeqNum,
    /// The tail, if it is told.
    pub(super) tail: Option<Position>,
    /// How.
    pub(super) compression: Compression,
}

/// The frame of a page: made by whoever needs it first, while others who need it wait for that.
type Slot = Arc<OnceLock<Bytes>>;

/// The frames that are kept.
#[derive(Debug)]
pub(super) struct PageCache {
    /// Bytes of frames that are kept at most.
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    pages: HashMap<PageKey, Page>,
    /// In the order in which they came.
    order: VecDeque<(PageKey, Instant)>,
    /// Of all pages.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Page {
    slot: Slot,
    /// What was counted for it: nothing before it is made, and a moment longer.
    bytes: usize,
}

impl PageCache {
    /// Keeps up to `limit` bytes of frames.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    /// Bytes that the frames take that are kept.
    pub(super) fn used(&self) -> usize {
        self.kept().bytes
    }

    /// The frame of the page `key`, as it is kept or as `make` makes it.
    pub(super) fn frame(self: &Arc<Self>, key: PageKey, make: impl FnOnce() -> Bytes) -> Bytes {
        let slot = self.slot(key);
        let mut is_new = false;
        let frame = slot.get_or_init(|| {
            is_new = true;
            make()
        });
        if is_new {
            self.kept().weigh(key, &slot, self.limit);
        }
        frame.clone()
    }

    fn slot(self: &Arc<Self>, key: PageKey) -> Slot {
        let mut kept = self.kept();
        if let Some(page) = kept.pages.get(&key) {
            return page.slot.clone();
        }
        if kept.order.is_empty() {
            tokio::spawn(forget_in_time(Arc::downgrade(self)));
        }
        kept.order.push_back((key, clock::instant()));
        kept.pages.entry(key).or_default().slot.clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Counts the frame that was just made, and lets go of the oldest if there are too many.
    fn weigh(&mut self, key: PageKey, made: &Slot, limit: usize) {
        // It may be gone by now, and another in its place.
        if let Some(page) = self.pages.get_mut(&key).filter(|page| Arc::ptr_eq(&page.slot, made)) {
            page.bytes = BESIDE + made.get().map_or(0, Bytes::len);
            self.bytes += page.bytes;
        }
        while self.bytes > limit && self.forget_oldest() {}
    }

    fn forget_older_than(&mut self, earliest: Instant) {
        while self.order.front().is_some_and(|(_, came)| *came < earliest) && self.forget_oldest() {}
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((key, _)) = self.order.pop_front() else { return false };
        self.bytes -= self.pages.remove(&key).map_or(0, |page| page.bytes);
        true
    }
}

/// Lets go of what grew old until nothing is left.
async fn forget_in_time(cache: Weak<PageCache>) {
    loop {
        tokio::time::sleep(KEPT_FOR / 4).await;
        let Some(cache) = cache.upgrade() else { return };
        let mut kept = cache.kept();
        if let Some(earliest) = clock::instant().checked_sub(KEPT_FOR) {
            kept.forget_older_than(earliest);
        }
        if kept.order.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn key(first: u64) -> PageKey {
        let (first, end) = (SeqNum::new(first), SeqNum::new(first + 1));
        PageKey { stream: StreamId::new(1), first, end, tail: None, compression: Compression::Zstd }
    }

    fn frame(cache: &Arc<PageCache>, first: u64) -> Bytes {
        cache.frame(key(first), || Bytes::from(first.to_string()))
    }

    fn is_kept(cache: &Arc<PageCache>, first: u64) -> bool {
        cache.kept().pages.contains_key(&key(first))
    }

    #[tokio::test]
    async fn the_second_reader_shares_what_the_first_had_made() {
        let cache = Arc::new(PageCache::new(LIMIT));
        let (first, second) = (frame(&cache, 7), cache.frame(key(7), || panic!("it is there")));
        assert_eq!(first.as_ptr(), second.as_ptr());
        let gzip = PageKey { compression: Compression::Gzip, ..key(7) };
        assert_eq!(cache.frame(gzip, || "another".into()), "another");
        let other = PageKey { stream: StreamId::new(2), ..key(7) };
        assert_eq!(cache.frame(other, || "of another stream".into()), "of another stream");
        let at_tail = PageKey { tail: Some(Position::new(8, 1)), ..key(7) };
        assert_eq!(cache.frame(at_tail, || "at the tail".into()), "at the tail");
    }

    #[tokio::test]
    async fn the_oldest_go_when_there_are_too_many() {
        let cache = Arc::new(PageCache::new(LIMIT));
        let large = || Bytes::from(vec![0; LIMIT / 2 - BESIDE]);
        for first in 0..3 {
            cache.frame(key(first), large);
        }
        assert_eq!([0, 1, 2].map(|first| is_kept(&cache, first)), [false, true, true]);
        assert_eq!(cache.kept().bytes, LIMIT);
    }

    #[tokio::test]
    async fn frames_of_a_few_bytes_count_for_what_it_takes_to_keep_them() {
        let cache = Arc::new(PageCache::new(LIMIT));
        for first in 0..10_000 {
            cache.frame(key(first), || Bytes::from_static(b"all the same"));
        }
        assert!((1_000..5_000).contains(&cache.kept().pages.len()), "{}", cache.kept().pages.len());
        assert!(cache.used() <= LIMIT);
    }

    #[tokio::test]
    async fn a_frame_forgotten_while_it_was_made_is_not_counted() {
        let cache = Arc::new(PageCache::new(LIMIT));
        let made = cache.frame(key(0), || {
            assert!(cache.kept().forget_oldest());
            "late".into()
        });
        assert_eq!((made, cache.kept().bytes), ("late".into(), 0));
    }

    #[tokio::test]
    async fn a_frame_forgotten_before_it_is_counted_is_not_counted() {
        let cache = Arc::new(PageCache::new(LIMIT));
        let slot = cache.slot(key(0));
        slot.set("late".into()).unwrap();
        assert!(cache.kept().forget_oldest());
        cache.kept().weigh(key(0), &slot, LIMIT);
        assert_eq!(cache.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_comes_back_for_is_gone_after_a_while() {
        let cache = Arc::new(PageCache::new(LIMIT));
        frame(&cache, 0);
        tokio::time::sleep(KEPT_FOR / 2).await;
        frame(&cache, 1);
        tokio::time::sleep(KEPT_FOR * 4 / 5).await;
        assert_eq!([0, 1].map(|first| is_kept(&cache, first)), [false, true]);
        tokio::time::sleep(KEPT_FOR).await;
        assert!(!is_kept(&cache, 1));
        assert_eq!(cache.kept().bytes, 0);
        frame(&cache, 2);
        tokio::time::sleep(KEPT_FOR * 2).await;
        assert!(!is_kept(&cache, 2), "the next one is looked after too");
    }
}
