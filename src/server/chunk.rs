//! A piece of a response body on its way out, and what counts as memory for as long as it is there. Knows not what is in
//! the piece.
//!
//! HTTP keeps a piece whole until the last byte of it is written, and gives it up when its stream ends: either way it is
//! dropped, and what it counts for with it.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::{memory::Held, streams::OnItsWay, wire::FrameBuf};

/// Bytes for HTTP to send.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: FrameBuf,
    /// Dropped with the bytes.
    _counted: Counted,
}

/// What is counted of a chunk, until it is dropped.
#[derive(Debug, Default)]
enum Counted {
    #[default]
    Nothing,
    Whole {
        _held: Held,
    },
    OfReader {
        _on_its_way: OnItsWay,
    },
}

impl Chunk {
    /// `bytes`, made of what is `on_its_way` to a reader.
    pub(super) fn of_reader(bytes: FrameBuf, on_its_way: Option<OnItsWay>) -> Self {
        let counted = on_its_way.map_or(Counted::Nothing, |sent| Counted::OfReader { _on_its_way: sent });
        Self { bytes, _counted: counted }
    }

    /// The same bytes, counted by `held`.
    #[must_use]
    pub(super) fn counted(self, held: Held) -> Self {
        Self { _counted: Counted::Whole { _held: held }, ..self }
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What is left, in one piece, and not counted any more.
    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.into_bytes()
    }

    /// What is left, while the chunk stays.
    #[cfg(test)]
    pub(super) fn to_bytes(&self) -> Bytes {
        self.bytes.clone().into_bytes()
    }
}

impl<B: Into<FrameBuf>> From<B> for Chunk {
    fn from(bytes: B) -> Self {
        Self { bytes: bytes.into(), _counted: Counted::Nothing }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn has_remaining(&self) -> bool {
        self.bytes.has_remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(out)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.bytes.copy_to_bytes(len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::Share;

    #[test]
    fn it_counts_until_it_is_dropped_however_much_of_it_was_read() {
        let share = Arc::new(Share::new(10));
        let mut held = Held::nothing_of(share.clone());
        held.set(3);
        let mut chunk = Chunk::from(Bytes::from_static(b"abc")).counted(held);
        assert_eq!(chunk.copy_to_bytes(2), "ab");
        chunk.advance(1);
        assert_eq!((chunk.len(), share.used()), (0, 3));
        drop(chunk);
        assert_eq!(share.used(), 0);
    }
}
