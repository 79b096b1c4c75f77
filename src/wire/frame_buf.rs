//! The bytes of a response body as one buffer or a few that are shared, without copying them into one.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// One or more frames, or any other piece of a body, ready to be written.
///
/// Parts of it may be shared with other readers' bodies and with the batches that they show.
#[derive(Clone, Debug, Default)]
pub struct FrameBuf(Segments);

#[derive(Clone, Debug)]
enum Segments {
    One(Bytes),
    /// None of them empty.
    Many(VecDeque<Bytes>),
}

impl Default for Segments {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl FrameBuf {
    /// Bytes left.
    pub fn len(&self) -> usize {
        self.remaining()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        !self.has_remaining()
    }

    /// Adds `segment` to the end.
    pub fn push(&mut self, segment: Bytes) {
        if segment.is_empty() {
            return;
        }
        match &mut self.0 {
            Segments::One(only) if only.is_empty() => *only = segment,
            Segments::One(only) => self.0 = Segments::Many([std::mem::take(only), segment].into()),
            Segments::Many(segments) => segments.push_back(segment),
        }
    }

    /// Adds all of `other` to the end.
    pub fn append(&mut self, other: FrameBuf) {
        match other.0 {
            Segments::One(only) => self.push(only),
            Segments::Many(segments) => segments.into_iter().for_each(|segment| self.push(segment)),
        }
    }

    /// All that is left in one piece; copied only if it is in several.
    pub fn into_bytes(mut self) -> Bytes {
        self.copy_to_bytes(self.remaining())
    }
}

impl From<Bytes> for FrameBuf {
    fn from(bytes: Bytes) -> Self {
        Self(Segments::One(bytes))
    }
}

impl Buf for FrameBuf {
    fn remaining(&self) -> usize {
        match &self.0 {
            Segments::One(only) => only.len(),
            Segments::Many(segments) => segments.iter().map(Bytes::len).sum(),
        }
    }

    fn has_remaining(&self) -> bool {
        match &self.0 {
            Segments::One(only) => !only.is_empty(),
            Segments::Many(segments) => !segments.is_empty(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match &self.0 {
            Segments::One(only) => only,
            Segments::Many(segments) => segments.front().map_or(&[], |front| front),
        }
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        match &self.0 {
            Segments::One(only) => only.chunks_vectored(out),
            Segments::Many(segments) => {
                out.iter_mut().zip(segments).map(|(slot, segment)| *slot = IoSlice::new(segment)).count()
            }
        }
    }

    fn advance(&mut self, mut count: usize) {
        let segments = match &mut self.0 {
            Segments::One(only) => return only.advance(count),
            Segments::Many(segments) => segments,
        };
        while count > 0 {
            let front = segments.front_mut().expect("advanced past the end");
            if count < front.len() {
                return front.advance(count);
            }
            count -= front.len();
            segments.pop_front();
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let segments = match &mut self.0 {
            Segments::One(only) => return only.split_to(len),
            Segments::Many(segments) => segments,
        };
        match segments.front_mut() {
            Some(front) if len < front.len() => front.split_to(len),
            Some(front) if len == front.len() => segments.pop_front().unwrap_or_default(),
            _ => {
                assert!(len <= self.remaining(), "copied past the end");
                let mut out = BytesMut::with_capacity(len);
                out.put(self.take(len));
                out.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buf(segments: &[Vec<u8>]) -> FrameBuf {
        let mut buf = FrameBuf::default();
        segments.iter().for_each(|segment| buf.push(segment.clone().into()));
        buf
    }

    #[test]
    fn one_segment_is_given_out_as_it_is() {
        let bytes = Bytes::from(vec![1, 2, 3]);
        let out = FrameBuf::from(bytes.clone()).into_bytes();
        assert_eq!(out.as_ptr(), bytes.as_ptr());
    }

    proptest! {
        #[test]
        fn segments_read_as_one(
            segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..6),
            steps in prop::collection::vec(0usize..7, 0..6),
        ) {
            let whole = segments.concat();
            let mut left = buf(&segments);
            let mut rest = &whole[..];
            for step in steps {
                let step = step.min(rest.len());
                prop_assert_eq!(buf(&segments).copy_to_bytes(step), &whole[..step]);
                left.advance(step);
                rest = &rest[step..];
                prop_assert_eq!(left.len(), rest.len());
                prop_assert_eq!(left.is_empty(), rest.is_empty());
                prop_assert!(rest.starts_with(left.chunk()) && left.chunk().is_empty() == rest.is_empty());
                let mut vectored = [IoSlice::new(&[]); 8];
                let count = left.chunks_vectored(&mut vectored);
                prop_assert_eq!(vectored[..count].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>(), rest);
            }
            prop_assert_eq!(left.into_bytes(), rest);
        }

        #[test]
        fn appended_is_behind(a in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 0..4),
                              b in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 0..4)) {
            let mut joined = buf(&a);
            joined.append(buf(&b));
            prop_assert_eq!(joined.into_bytes(), [a.concat(), b.concat()].concat());
        }
    }
}
