//! How much room the file system has left, asked now and then, so that appends end before a write hits the wall: one that
//! fails for want of room is a failed disk, after which nothing is written any more.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{engine::Engine, locked};
use crate::{clock, store::StoreError};

/// What appends leave free, at least: room for the journal to be moved to its place, for merges, for moves out of
/// segments, and for the trims that make room.
const LEAST_RESERVE: u64 = 128 * 1024 * 1024;
const MOST_RESERVE: u64 = 8 * 1024 * 1024 * 1024;
/// The share of the file system that appends leave free.
const RESERVE_SHARE: u64 = 50;
/// How long an answer of the file system holds if little is written: others write to the disk as well, and may be fast.
const HOLDS: Duration = Duration::from_millis(100);
/// Bytes that may be written before it is asked again.
const HOLDS_BYTES: u64 = 64 * 1024 * 1024;

/// What an append does for the space it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It only takes.
    Keep,
    /// It helps to give space back, or nothing could be done about a full disk any more.
    Free,
    /// It gives space back. Only where others took even the reserve is it refused: there it would fail, and with that
    /// the disk.
    Remove,
}

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) free: u64,
    pub(super) total: u64,
}

/// Asks for the room that is left. Tests give answers of their own.
pub(super) type Probe = Box<dyn Fn() -> io::Result<Free> + Send + Sync>;

/// The room that is left.
pub(super) struct Space {
    probe: Probe,
    seen: Mutex<Seen>,
}

struct Seen {
    room: Free,
    at: Instant,
    taken_since: u64,
}

impl Space {
    pub(super) fn new(probe: Probe) -> io::Result<Self> {
        let seen = Seen { room: probe()?, at: clock::instant(), taken_since: 0 };
        Ok(Self { probe, seen: Mutex::new(seen) })
    }

    /// Lets `bytes` be written, if there is room.
    pub(super) fn take(&self, bytes: u64, purpose: Purpose) -> Result<(), StoreError> {
        let mut seen = locked(&self.seen);
        let now = clock::instant();
        if seen.taken_since > HOLDS_BYTES || now.saturating_duration_since(seen.at) >= HOLDS {
            match (self.probe)() {
                Ok(room) => *seen = Seen { room, at: now, taken_since: 0 },
                Err(error) => tracing::warn!(%error, "the file system does not say how much room it has"),
            }
        }
        match seen.has_room(bytes, purpose) {
            true => {
                // In the database: once in the journal, and once when it is moved to its place. What goes to a segment is
                // written once; for that this is too much, until the file system is asked again.
                seen.taken_since += 2 * bytes;
                Ok(())
            }
            false => Err(seen.full(bytes)),
        }
    }

    /// Whether files may be merged, which writes up to `bytes` before it gives anything back: not if that came to what
    /// appends leave free. Where they are refused anyway, it is the only way to give anything back, and is tried.
    pub(super) fn may_merge(&self, bytes: u64) -> bool {
        (self.probe)().is_ok_and(|room| {
            let is_full = room.free < room.reserve();
            is_full || room.free >= bytes.saturating_add(room.reserve())
        })
    }
}

impl Seen {
    fn has_room(&self, bytes: u64, purpose: Purpose) -> bool {
        let left = self.room.free.saturating_sub(self.taken_since).saturating_sub(2 * bytes);
        match purpose {
            Purpose::Keep => left >= self.room.reserve(),
            Purpose::Free => left >= self.room.reserve() / 2,
            Purpose::Remove => left >= self.room.reserve() / 8,
        }
    }

    fn full(&self, bytes: u64) -> StoreError {
        let (free, reserve) = (self.room.free, self.room.reserve());
        StoreError::Full(
            format!("{bytes} more bytes do not fit: {free} bytes are free on the disk, {reserve} are kept free").into(),
        )
    }
}

impl Free {
    fn reserve(&self) -> u64 {
        (self.total / RESERVE_SHARE).clamp(LEAST_RESERVE, MOST_RESERVE)
    }
}

/// Bytes that appends leave free on the file system that `directory` is on.
pub(super) fn reserve_of(directory: &Path) -> io::Result<u64> {
    Ok(ask(directory)?.reserve())
}

/// Asks the file system that `directory` is on. What is written and will be written once more counts as taken.
pub(super) fn of_file_system(directory: &Path, engine: &Arc<Engine>) -> Probe {
    let (directory, engine) = (directory.to_path_buf(), engine.clone());
    Box::new(move || {
        let Free { free, total } = ask(&directory)?;
        Ok(Free { free: free.saturating_sub(engine.unmoved()), total })
    })
}

fn ask(directory: &Path) -> io::Result<Free> {
    let found = rustix::fs::statvfs(directory)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Free { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// A small disk with so many free MiB, of which 128 are kept.
    fn space(free_mib: u64) -> (Space, Arc<AtomicU64>) {
        let free = Arc::new(AtomicU64::new(free_mib * MIB));
        let probed = free.clone();
        let probe = move || Ok(Free { free: probed.load(Relaxed), total: 1024 * MIB });
        (Space::new(Box::new(probe)).unwrap(), free)
    }

    #[tokio::test(start_paused = true)]
    async fn appends_end_before_the_reserve() {
        let (space, free) = space(148);
        for _ in 0..10 {
            space.take(MIB, Purpose::Keep).unwrap();
        }
        let full = space.take(MIB, Purpose::Keep).unwrap_err();
        assert!(matches!(full, StoreError::Full(_)), "{full}");
        assert!(full.to_string().contains("134217728 are kept free"), "{full}");
        space.take(MIB, Purpose::Free).unwrap();
        free.store(60 * MIB, Relaxed);
        tokio::time::advance(HOLDS).await;
        assert!(space.take(MIB, Purpose::Free).is_err(), "the reserve for trimming has an end too");
        space.take(0, Purpose::Remove).unwrap();
        free.store(15 * MIB, Relaxed);
        tokio::time::advance(HOLDS).await;
        assert!(space.take(0, Purpose::Remove).is_err(), "nothing is written where nothing fits");
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_comes_back_is_seen() {
        let (space, free) = space(100);
        assert!(space.take(1, Purpose::Keep).is_err());
        free.store(1000 * MIB, Relaxed);
        assert!(space.take(1, Purpose::Keep).is_err(), "it is not asked for every append");
        tokio::time::advance(HOLDS).await;
        space.take(1, Purpose::Keep).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_others_take_is_seen() {
        let (space, free) = space(1000);
        space.take(1, Purpose::Keep).unwrap();
        free.store(100 * MIB, Relaxed);
        space.take(1, Purpose::Keep).unwrap();
        tokio::time::advance(HOLDS).await;
        assert!(space.take(1, Purpose::Keep).is_err());
    }

    #[test]
    fn merging_files_leaves_appends_their_reserve() {
        for (free, merges) in [(1000, [true, false]), (139, [false, false]), (127, [true, true])] {
            let (space, _) = space(free);
            let found = [872, 873].map(|mib| space.may_merge(mib * MIB));
            assert_eq!(found, merges, "{free} MiB are free");
        }
    }

    #[test]
    fn a_large_disk_keeps_a_share_free() {
        let of = |gib: u64| Free { free: 0, total: gib * 1024 * MIB }.reserve() / MIB;
        assert_eq!([of(1), of(50), of(1000)], [128, 1024, 8192]);
    }
}
