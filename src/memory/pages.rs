//! Whole pages of memory, asked from the system all at once. Knows not what is put there.
//!
//! Memory that the allocator has from the system comes page by page, with a fault for each, when it is first written to.
//! For a large piece that is certain to be written, to ask for all of its pages at once costs half of that. Pieces that
//! were used before cost nothing, and those only the allocator has.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use memmap2::{MmapMut, MmapOptions};

/// Bytes of a piece below which the call costs as much as the faults.
const LEAST: usize = 64 * 1024;

/// Pieces at the same time: each may be a mapping of its own, and Linux lets a process have 65,530 of those.
const MOST: usize = 30_000;

/// How many there are in the process.
static PIECES: AtomicUsize = AtomicUsize::new(0);

/// A piece of memory, given back to the system when it is dropped. It takes up to a page more than it has bytes.
#[derive(Debug)]
pub struct Pages(MmapMut);

impl Pages {
    /// `len` bytes. `None` if these are better had from the allocator: they are few, or there are too many pieces, or the
    /// system refuses.
    pub fn take(len: usize) -> Option<Self> {
        if len < LEAST || PIECES.load(Relaxed) >= MOST {
            return None;
        }
        let pages = MmapOptions::new().len(len).populate().map_anon().ok()?;
        // Whoever counts at the same time makes it a few more than the most, which is no harm.
        PIECES.fetch_add(1, Relaxed);
        Some(Self(pages))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        PIECES.fetch_sub(1, Relaxed);
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Pages {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_have_their_length_and_can_be_written() {
        let mut pages = Pages::take(LEAST + 1).expect("the system has some");
        pages.as_mut().fill(7);
        assert_eq!(pages.as_ref(), [7; LEAST + 1]);
        assert!(Pages::take(LEAST - 1).is_none());
    }
}
