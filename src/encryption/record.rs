//! Records of an encrypted stream: what of them is encrypted, and the form in which it is kept.
//!
//! ```text
//! body of a stored record that is not a command, and has no headers
//!  0        1              1+n                                     len-16
//! [format] [nonce, n]     [headers and body, encrypted]           [tag 16]
//!    1     n = 32         as a `SequencedRecord` has them          aegis-256
//!    2     n = 12                                                  aes-256-gcm
//!
//! associated data   [format][stream's identity, 16]
//! ```
//!
//! Numbers, times and commands stay in clear: the gateway works by them without a key. A record's ciphertext opens in its
//! own stream only, and in one life of it. Its place there is not bound: records are encrypted before the stream's lock,
//! and their numbers are given under it; binding the place in the batch instead would bind how a store cuts its batches.
//! So whoever can write to the store can reorder, repeat and drop records of a stream, and cannot make or change any.

use super::{
    EncryptionKey, KeyError, KeyMaterial,
    aead::{Aead, NotGenuine, TAG_LEN},
};
use crate::types::{AppendBatch, Batch, BatchSlice, Cipher, RecordFields, Rewriting, SeqNum, StreamId, layout};

/// Bytes before the nonce.
const FORMAT_LEN: usize = 1;
/// The format of records encrypted with AEGIS-256.
const FORMAT_AEGIS_256: u8 = 1;
/// The format of records encrypted with AES-256-GCM.
const FORMAT_AES_256_GCM: u8 = 2;

type AssociatedData = [u8; FORMAT_LEN + 16];

/// A record is not what was encrypted for this stream with this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {seq_num} cannot be decrypted with the encryption key of the request")]
pub struct DecryptionFailed {
    /// Which record.
    pub seq_num: SeqNum,
}

/// What came of decrypting records.
#[derive(Debug)]
pub struct Opened {
    /// The records before the first that could not be decrypted, if there are any. Nobody else gets this batch.
    pub readable: Option<Batch>,
    /// That first one, if there is one.
    pub failure: Option<DecryptionFailed>,
}

/// Encrypts and decrypts the records of one stream with one key.
pub struct RecordCipher {
    aead: Aead,
    nonce_len: usize,
    associated: AssociatedData,
}

impl RecordCipher {
    /// For the stream with this identity.
    pub fn new(cipher: Cipher, key: EncryptionKey, stream: StreamId) -> Self {
        Self {
            aead: Aead::new(cipher, key),
            nonce_len: cipher.nonce_len(),
            associated: associated_data(cipher, stream),
        }
    }

    /// For a stream that may have a cipher, and the key of a request that may have one. A key for no cipher is ignored.
    pub fn of_request(
        cipher: Option<Cipher>,
        key: Option<&KeyMaterial>,
        stream: StreamId,
    ) -> Result<Option<Self>, KeyError> {
        let Some(cipher) = cipher else { return Ok(None) };
        Ok(Some(Self::new(cipher, EncryptionKey::required(cipher, key)?, stream)))
    }

    /// The batch as it is stored: the same records, timestamps, metered sizes and commands, the rest encrypted.
    ///
    /// `draw` fills a nonce with bytes that nobody can foresee.
    pub fn seal(&self, batch: &AppendBatch, mut draw: impl FnMut(&mut [u8])) -> AppendBatch {
        batch.in_envelopes(self.front_len(), TAG_LEN, |envelope| self.seal_envelope(envelope, &mut draw))
    }

    /// Decrypts the records of `slice` up to the first that cannot be.
    pub fn open(&self, slice: &BatchSlice) -> Opened {
        let mut opened = Rewriting::of(slice);
        for record in slice.records() {
            if let Err(NotGenuine) = self.open_record(record.fields, &mut opened) {
                let failure = DecryptionFailed { seq_num: record.seq_num };
                return Opened { readable: opened.finish(), failure: Some(failure) };
            }
        }
        Opened { readable: opened.finish(), failure: None }
    }

    fn seal_envelope(&self, envelope: &mut [u8], draw: &mut impl FnMut(&mut [u8])) {
        let (front, rest) = envelope.split_at_mut(self.front_len());
        let (text, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
        let (format, nonce) = front.split_at_mut(FORMAT_LEN);
        format.copy_from_slice(self.format());
        draw(nonce);
        tag.copy_from_slice(&self.aead.seal(nonce, &self.associated, text));
    }

    fn open_record(&self, fields: RecordFields<'_>, opened: &mut Rewriting<'_>) -> Result<(), NotGenuine> {
        // Only commands have headers; no other record is believed in clear.
        if fields.as_bytes().first() == Some(&layout::HEADER) {
            return match fields.command() {
                Some(_) => opened.push(fields.as_bytes(), |_| Ok(())),
                None => Err(NotGenuine),
            };
        }
        let Envelope { nonce, text, tag } = self.envelope(fields.body()).ok_or(NotGenuine)?;
        opened.push(text, |text| self.aead.open(nonce, &self.associated, text, tag))
    }

    /// `None` if `body` has another format, or is too short.
    fn envelope<'a>(&self, body: &'a [u8]) -> Option<Envelope<'a>> {
        let rest = body.strip_prefix(self.format())?;
        let (nonce, rest) = rest.split_at_checked(self.nonce_len)?;
        let (text, tag) = rest.split_last_chunk()?;
        Some(Envelope { nonce, text, tag })
    }

    fn format(&self) -> &[u8] {
        &self.associated[..FORMAT_LEN]
    }

    const fn front_len(&self) -> usize {
        FORMAT_LEN + self.nonce_len
    }
}

/// The parts of an encrypted record's body.
struct Envelope<'a> {
    nonce: &'a [u8],
    text: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

fn associated_data(cipher: Cipher, stream: StreamId) -> AssociatedData {
    let mut associated: AssociatedData = [0; FORMAT_LEN + 16];
    let (format, identity) = associated.split_at_mut(FORMAT_LEN);
    format[0] = match cipher {
        Cipher::Aegis256 => FORMAT_AEGIS_256,
        Cipher::Aes256Gcm => FORMAT_AES_256_GCM,
    };
    identity.copy_from_slice(&stream.to_bytes());
    associated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{
        Compression, Timestamp,
        limits::{MAX_BATCH_METERED, MAX_BATCH_RECORDS},
        testing::{self, Records, uniform_input},
    };

    const CIPHERS: [Cipher; 2] = [Cipher::Aegis256, Cipher::Aes256Gcm];
    const STREAM: StreamId = StreamId::new(0xabcd);

    fn cipher(cipher: Cipher, key: u8, stream: StreamId) -> RecordCipher {
        RecordCipher::new(cipher, EncryptionKey::new([key; 32]), stream)
    }

    /// Nonces that count: distinct, and the same in each run.
    fn nonces() -> impl FnMut(&mut [u8]) {
        let mut drawn = 0u8;
        move |nonce| {
            drawn = drawn.wrapping_add(1);
            nonce.fill(drawn);
        }
    }

    fn stored(cipher: &RecordCipher, batch: &AppendBatch, first: u64) -> Batch {
        let sealed = cipher.seal(batch, nonces());
        Batch::sequence(&sealed, SeqNum::new(first), |given| given.unwrap_or(Timestamp::new(77)))
    }

    fn in_clear(batch: &AppendBatch, first: u64) -> Batch {
        Batch::sequence(batch, SeqNum::new(first), |given| given.unwrap_or(Timestamp::new(77)))
    }

    /// The same bytes, numbers, times and metered sizes, however it is cut.
    fn assert_same(opened: &BatchSlice, expected: &BatchSlice) {
        assert_eq!(opened.bytes(), expected.bytes());
        assert!(opened.records().eq(expected.records()));
        assert_eq!((opened.metered(), opened.batch().end()), (expected.metered(), expected.batch().end()));
        for metered in (0..expected.metered() as u64).step_by(expected.metered().div_ceil(40)) {
            let (mut opened, mut expected) = (opened.clone(), expected.clone());
            assert_eq!(opened.cut(u64::MAX, metered, None), expected.cut(u64::MAX, metered, None));
            assert_eq!(opened.len(), expected.len(), "cut at {metered} metered bytes");
        }
    }

    fn samples() -> Vec<AppendBatch> {
        let widest = Records::new().body(Some(u64::MAX), &vec![0xee; MAX_BATCH_METERED - 8]);
        let mixed = Records::new()
            .fence("writer-1")
            .record(None, &[(b"k", b"v"), (b"k", b""), (b"\xff", b"\x00")], b"body")
            .body(Some(0), b"")
            .trim(3)
            .record(Some(9), &[(b"only", b"headers")], b"")
            .record(None, &[(b"fence", b"")], b"an ordinary record")
            .fence("");
        [Records::new().body(None, b""), Records::new().body(None, b"hello"), Records::new().trim(0), mixed, widest]
            .into_iter()
            .map(|records| records.try_batch().unwrap())
            .chain([uniform_input(MAX_BATCH_RECORDS, 0).batch, uniform_input(MAX_BATCH_RECORDS, 1040).batch])
            .collect()
    }

    #[test]
    fn records_come_back_as_they_were() {
        for (name, batch) in CIPHERS.into_iter().flat_map(|name| samples().into_iter().map(move |batch| (name, batch)))
        {
            let cipher = cipher(name, 1, STREAM);
            for first in [0, 1, 1 << 40] {
                let stored = stored(&cipher, &batch, first);
                let expected = in_clear(&batch, first).whole();
                assert_eq!((stored.metered(), stored.end()), (expected.metered(), expected.batch().end()));
                let opened = cipher.open(&stored.whole());
                assert_eq!(opened.failure, None, "{name}");
                assert_same(&opened.readable.unwrap().whole(), &expected);
            }
        }
    }

    #[test]
    fn what_rules_and_limits_see_is_the_plaintext() {
        let cipher = cipher(Cipher::Aegis256, 1, STREAM);
        for batch in samples() {
            let sealed = cipher.seal(&batch, nonces());
            assert_eq!((sealed.len(), sealed.metered()), (batch.len(), batch.metered()));
            assert_eq!((sealed.commands(), sealed.all_timestamped()), (batch.commands(), batch.all_timestamped()));
            assert!(sealed.records().map(|r| r.timestamp).eq(batch.records().map(|r| r.timestamp)));
            assert!(sealed.records().map(|r| r.metered()).eq(batch.records().map(|r| r.metered())));
        }
    }

    #[test]
    fn only_commands_are_stored_in_clear() {
        let batch = Records::new().fence("token").record(None, &[(b"secret-k", b"secret-v")], b"secret-b").trim(7);
        let batch = batch.try_batch().unwrap();
        for name in CIPHERS {
            let stored = stored(&cipher(name, 1, STREAM), &batch, 0);
            let text = String::from_utf8_lossy(stored.records_bytes()).into_owned();
            assert!(
                text.contains("fence") && text.contains("token") && text.contains("trim") && !text.contains("secret")
            );
            let (whole, clear) = (stored.whole(), in_clear(&batch, 0).whole());
            let encrypted = whole.records().nth(1).unwrap().fields;
            assert_eq!(encrypted.headers().count(), 0);
            let overhead = FORMAT_LEN + name.nonce_len() + TAG_LEN;
            let fields = clear.records().nth(1).unwrap().fields.as_bytes().len();
            assert_eq!(encrypted.body().len(), fields + overhead);
        }
    }

    #[test]
    fn every_record_has_a_nonce_of_its_own() {
        let mut drawn = Vec::new();
        cipher(Cipher::Aes256Gcm, 1, STREAM).seal(&uniform_input(50, 3).batch, |nonce| {
            nonce.fill(drawn.len() as u8);
            drawn.push(nonce.to_vec());
        });
        assert_eq!(drawn.len(), 50);
        assert!(drawn.iter().all(|nonce| nonce.len() == 12));
    }

    #[test]
    fn slices_are_opened_without_what_was_cut_off() {
        let batch = uniform_input(10, 5).batch;
        let cipher = cipher(Cipher::Aegis256, 1, STREAM);
        let mut slice = stored(&cipher, &batch, 100).starting_at(SeqNum::new(103)).unwrap();
        assert_eq!(slice.cut(4, u64::MAX, None), crate::types::Cut::Short);
        let opened = cipher.open(&slice).readable.unwrap().whole();
        assert_eq!((opened.first_seq_num(), opened.end_seq_num()), (SeqNum::new(103), SeqNum::new(107)));
        let mut expected = in_clear(&batch, 100).starting_at(SeqNum::new(103)).unwrap();
        assert_eq!(expected.cut(4, u64::MAX, None), crate::types::Cut::Short);
        assert_eq!((opened.bytes(), opened.metered()), (expected.bytes(), expected.metered()));
        let nothing = cipher.open(&{
            let _ = slice.cut(0, 0, None);
            slice
        });
        assert!(nothing.readable.is_none() && nothing.failure.is_none());
    }

    #[test]
    fn what_was_decrypted_for_one_reader_has_no_frame_to_share() {
        let cipher = cipher(Cipher::Aegis256, 1, STREAM);
        let opened = cipher.open(&stored(&cipher, &uniform_input(3, 5).batch, 0).whole()).readable.unwrap();
        for compression in [Compression::None, Compression::Zstd, Compression::Gzip] {
            assert_eq!(opened.follow_frame(compression, |_| panic!("asked for a frame to share")), None);
        }
    }

    #[test]
    fn the_readable_records_before_the_first_failure_are_kept() {
        for name in CIPHERS {
            let (ours, theirs) = (cipher(name, 1, STREAM), cipher(name, 2, STREAM));
            let batch = Records::new().fence("t").trim(1).body(None, b"x").fence("u").try_batch().unwrap();
            let opened = theirs.open(&stored(&ours, &batch, 20).whole());
            assert_eq!(opened.failure, Some(DecryptionFailed { seq_num: SeqNum::new(22) }), "{name}");
            let readable = opened.readable.unwrap();
            assert_eq!((readable.start().seq_num, readable.end().seq_num), (SeqNum::new(20), SeqNum::new(22)));
            assert_eq!(readable.metered(), 16 + 22);
        }
    }

    #[test]
    fn other_keys_streams_and_ciphers_do_not_open_it() {
        let batch = testing::uniform_input(1, 100).batch;
        for name in CIPHERS {
            let stored = stored(&cipher(name, 1, STREAM), &batch, 0).whole();
            let failed = Some(DecryptionFailed { seq_num: SeqNum::FIRST });
            let other = CIPHERS.into_iter().find(|other| *other != name).unwrap();
            for wrong in [cipher(name, 2, STREAM), cipher(name, 1, StreamId::new(0xabce)), cipher(other, 1, STREAM)] {
                let opened = wrong.open(&stored);
                assert!(opened.readable.is_none());
                assert_eq!(opened.failure, failed);
            }
        }
    }

    #[test]
    fn records_in_clear_are_not_believed() {
        let forged = [
            Records::new().body(None, b""),
            Records::new().body(None, b"hello"),
            Records::new().body(None, &[FORMAT_AEGIS_256]),
            Records::new().body(None, &[FORMAT_AEGIS_256; 48]),
            Records::new().body(None, &[FORMAT_AEGIS_256; 49]),
            Records::new().record(None, &[(b"k", b"v")], b"hello"),
            Records::new().record(None, &[(b"fence", b"")], b""),
        ];
        for records in forged {
            let batch = in_clear(&records.try_batch().unwrap(), 0);
            for name in CIPHERS {
                assert!(cipher(name, 1, STREAM).open(&batch.whole()).failure.is_some(), "{:?}", batch.whole());
            }
        }
    }

    proptest! {
        #[test]
        fn no_bit_of_a_record_can_be_changed(
            name in prop::sample::select(&CIPHERS[..]),
            body in prop::collection::vec(any::<u8>(), 0..80),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let cipher = cipher(name, 1, STREAM);
            let batch = Records::new().record(None, &[(b"k", b"v")], &body).try_batch().unwrap();
            let stored = stored(&cipher, &batch, 0);
            let mut envelope = stored.whole().records().next().unwrap().fields.body().to_vec();
            let at = at.index(envelope.len());
            envelope[at] ^= 1 << bit;
            let tampered = in_clear(&Records::new().body(None, &envelope).try_batch().unwrap(), 0);
            prop_assert!(cipher.open(&tampered.whole()).failure.is_some());
        }

        #[test]
        fn any_headers_and_body_come_back(
            name in prop::sample::select(&CIPHERS[..]),
            records in prop::collection::vec(
                (
                    prop::option::of(any::<u64>()),
                    prop::collection::vec((prop::collection::vec(any::<u8>(), 1..9), prop::collection::vec(any::<u8>(), 0..9)), 0..4),
                    prop::collection::vec(any::<u8>(), 0..300),
                ),
                1..20,
            ),
        ) {
            let cipher = cipher(name, 1, STREAM);
            let mut all = Records::new();
            for (timestamp, headers, body) in &records {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
                all = all.record(*timestamp, &headers, body);
            }
            let batch = all.try_batch().unwrap();
            let opened = cipher.open(&stored(&cipher, &batch, 5).whole()).readable.unwrap();
            let expected = in_clear(&batch, 5);
            prop_assert_eq!(opened.records_bytes(), expected.records_bytes());
        }
    }
}
