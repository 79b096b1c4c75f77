//! What stands in front of every record of a load: who wrote it, as which one, when it was meant to go, and a checksum
//! over all of it. Knows no time and no order.
//!
//! ```text
//! 0         4           8            16             24
//! [writer   |checksum   |sequence    |intended      |filler …        ]   numbers are big-endian
//! ```
//!
//! The checksum of the filler is the seed of the stamp's. Who sends the same filler again and again computes the first
//! once and stamps for the price of 20 bytes; who checks computes both.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::config::LEAST_RECORD;

/// Bytes of a stamp: the least that a record of a load has.
pub(super) const STAMP_LEN: usize = LEAST_RECORD;

/// Tells writers of one run apart.
pub(super) type WriterId = u32;

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) writer: WriterId,
    /// Which of the writer's records, from 0.
    pub(super) sequence: u64,
    /// When it was meant to be sent: nanoseconds since the run began.
    pub(super) intended: u64,
}

/// The checksum of a filler, computed once for all records that carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FillerSum(u64);

impl FillerSum {
    /// Of what stands behind the stamp in `body`.
    pub(super) fn of(body: &[u8]) -> Self {
        Self(xxh3_64(&body[STAMP_LEN..]))
    }
}

impl Stamp {
    /// Writes itself to the front of `body`, whose filler has the checksum `filler`.
    ///
    /// # Panics
    ///
    /// If `body` is shorter than a stamp, which the configuration rules out.
    pub(super) fn put(self, body: &mut [u8], filler: FillerSum) {
        body[..4].copy_from_slice(&self.writer.to_be_bytes());
        body[4..8].copy_from_slice(&self.checksum(filler).to_be_bytes());
        body[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        body[16..STAMP_LEN].copy_from_slice(&self.intended.to_be_bytes());
    }

    /// The stamp of a record whose every byte is as it was written; nothing for one that is damaged.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let (front, rest) = body.split_first_chunk::<8>()?;
        let number = |at: usize| Some(u64::from_be_bytes(*rest.get(at..)?.first_chunk()?));
        let stamp =
            Self { writer: u32::from_be_bytes(*front.first_chunk()?), sequence: number(0)?, intended: number(8)? };
        (front[4..] == stamp.checksum(FillerSum::of(body)).to_be_bytes()).then_some(stamp)
    }

    fn checksum(self, filler: FillerSum) -> u32 {
        let mut said = [0; 20];
        said[..4].copy_from_slice(&self.writer.to_be_bytes());
        said[4..12].copy_from_slice(&self.sequence.to_be_bytes());
        said[12..].copy_from_slice(&self.intended.to_be_bytes());
        // The low half is as good as the whole.
        xxh3_64_with_seed(&said, filler.0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(len: usize) -> (Stamp, Vec<u8>) {
        let mut body: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let stamp = Stamp { writer: 7, sequence: 1 << 40, intended: 123_456_789 };
        let filler = FillerSum::of(&body);
        stamp.put(&mut body, filler);
        (stamp, body)
    }

    #[test]
    fn what_is_stamped_is_read() {
        for len in [STAMP_LEN, STAMP_LEN + 1, 100, 5000] {
            let (stamp, body) = stamped(len);
            assert_eq!(Stamp::of(&body), Some(stamp), "{len}");
        }
    }

    #[test]
    fn no_byte_can_change_unseen() {
        let (_, body) = stamped(100);
        for at in 0..body.len() {
            let mut damaged = body.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Stamp::of(&damaged), None, "byte {at}");
        }
        assert_eq!(Stamp::of(&body[..99]), None, "cut short");
        assert_eq!(Stamp::of(&[&body[..], b"x"].concat()), None, "longer");
        for len in 0..STAMP_LEN {
            assert_eq!(Stamp::of(&body[..len]), None, "{len}");
        }
    }
}
