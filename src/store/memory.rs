//! The reference log: everything in order in memory, under a configured limit.

/// A store that keeps everything in memory.
pub struct MemoryStore;
