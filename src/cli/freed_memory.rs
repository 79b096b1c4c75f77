//! What becomes of memory that was freed: whether the allocator keeps it for what comes next, or gives it back to the
//! system. Knows no gateway.

use std::hint::black_box;

/// Bytes: twice as many stay with an allocator's arena. Two sessions' receive windows fill as much, again and again.
const KEPT: usize = 4 * 1024 * 1024;

/// Has the allocator keep what a burst of frames leaves behind, some megabytes, for the next burst.
///
/// glibc gives memory back to the system as soon as 128 KiB lie free at the end of a heap. A writer of large batches
/// passes that limit at each wake-up, and the pages given back are cleared and mapped again, one fault each, for what it
/// sends next: a third of the system's part of an append to disk. The limit is not fixed: "when a chunk of memory
/// allocated using mmap(2) is deallocated", glibc raises it to twice the size of that chunk (`mallopt(3)`, at
/// `M_MMAP_THRESHOLD`). So a chunk is allocated here and freed, without ever being touched. Other allocators see a large
/// allocation and nothing else.
pub(super) fn keep_freed_memory() {
    // Out of the compiler's sight, which would leave out both.
    drop(black_box(Vec::<u8>::with_capacity(KEPT)));
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// Page faults of this thread that needed no disk, so far.
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux says it");
        let (_name, fields) = stat.rsplit_once(')').expect("the name stands in brackets");
        // The tenth field of all, the eighth behind the name.
        fields.split_ascii_whitespace().nth(7).and_then(|faults| faults.parse().ok()).expect("a number")
    }

    /// What a wake-up takes and leaves, touched page by page.
    fn burst() {
        let buffers: Vec<_> = (0..3).map(|_| vec![1_u8; 1024 * 1024]).collect();
        drop(black_box(buffers));
    }

    #[test]
    fn what_a_burst_left_is_there_for_the_next() {
        const BURSTS: u64 = 50;
        const PAGES: u64 = 3 * 256;
        keep_freed_memory();
        burst();
        let before = faults();
        (0..BURSTS).for_each(|_| burst());
        // Other tests may have taken some of it meanwhile.
        let faults = faults() - before;
        assert!(faults < BURSTS * PAGES / 4, "{faults} faults in {BURSTS} bursts of {PAGES} pages");
    }
}
