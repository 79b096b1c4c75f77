//! The engine's journal before the engine reads it: whether it ends in a write that was never finished.
//!
//! The engine syncs each write before it begins the next, so all but the last one are whole. The last one may be torn by
//! a loss of power, and was not acknowledged then. The engine leaves out a write that just stops, but refuses to open a
//! journal whose last write has its end and not its middle, as disks leave them; and of a damage further up it says
//! nothing and leaves out all that follows. So the torn end is cut off here, and damage is refused: what is broken, and
//! has writes behind it.
//!
//! A write whose sync failed was not acknowledged either, and nothing was written after it. It may still be found whole,
//! in the system's memory alone; it is written once more then, before anything is written behind it.
//!
//! ```text
//! N.jnl   (write)* zeros          the greatest N is the one that is written
//! write   [01][items 4 LE][sequence 8 LE] (item | clear)* [03][XXH3 of items and clears 8 LE]["FJL" 03]
//! item    [02][kind 1][compression 1][keyspace 8][key length 2][length 4][stored length 4] key value
//! clear   [04][keyspace 8]
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3;

use super::format::BatchKey;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: &[u8] = b"FJL\x03";
/// Of an item without its tag, up to the key.
const ITEM_HEAD_LEN: usize = 1 + 1 + 8 + 2 + 4 + 4;

/// Why the journal is not given to the engine.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("{path} is damaged at byte {at}, and was written beyond: what was acknowledged since would be lost")]
    Damaged { path: PathBuf, at: u64 },
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
}

/// Cuts off what a loss of power, or a failure, left of the last write to the journals in `directory`, and makes durable
/// what then is the last one.
pub(super) fn repair(directory: &Path) -> Result<(), JournalError> {
    let journals = journals(directory).map_err(|error| JournalError::Io { path: directory.into(), error })?;
    let mut last = None;
    for (place, path) in journals.iter().enumerate() {
        let failed = |error| JournalError::Io { path: path.clone(), error };
        let mut journal = Journal::open(path).map_err(failed)?;
        if let Some(broken_at) = journal.find_broken().map_err(failed)? {
            if journal.has_writes_after(broken_at).map_err(failed)? || !are_empty(&journals[place + 1..])? {
                return Err(JournalError::Damaged { path: path.clone(), at: broken_at });
            }
            tracing::info!(journal = %path.display(), at = broken_at, "an unfinished write is left out");
            cut(path, broken_at).map_err(failed)?;
        }
        last = journal.last.map(|write| (path, write)).or(last);
    }
    match last {
        Some((path, write)) => write_again(path, write).map_err(|error| JournalError::Io { path: path.clone(), error }),
        None => Ok(()),
    }
}

/// The journals, in the order in which they were written.
fn journals(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if directory.try_exists()? {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            if let (Some(number), true) = (number, path.extension().is_some_and(|extension| extension == "jnl")) {
                found.push((number, path));
            }
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Whether nothing was written to them. The engine may still begin another journal when a write to the one before failed.
fn are_empty(journals: &[PathBuf]) -> Result<bool, JournalError> {
    for path in journals {
        let is_empty = Journal::open(path).and_then(|mut journal| journal.is_zero_from(0));
        if !is_empty.map_err(|error| JournalError::Io { path: path.clone(), error })? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes what stands there once more, and syncs. If its sync failed, the system may hold it in memory as if it were on
/// the disk, and syncing alone would not bring it there.
fn write_again(path: &Path, write: Range<u64>) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut bytes = vec![0; (write.end - write.start) as usize];
    file.read_exact_at(&mut bytes, write.start)?;
    file.write_all_at(&bytes, write.start)?;
    file.sync_data()
}

fn cut(path: &Path, at: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()
}

struct Journal {
    file: BufReader<File>,
    len: u64,
    /// Of the last whole write that was read.
    sequence: Option<u64>,
    /// Where that one stands.
    last: Option<Range<u64>>,
}

/// What stands at a place in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A write, and where it ends.
    Write { end: u64, sequence: u64 },
    /// Zeros, or the end of the file.
    Nothing,
    /// Neither.
    Broken,
}

impl Journal {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file: BufReader::with_capacity(1 << 18, file), len, sequence: None, last: None })
    }

    /// Where the first thing begins that is not a whole write, if there is one before the end.
    fn find_broken(&mut self) -> io::Result<Option<u64>> {
        let mut at = 0;
        loop {
            match self.look(at)? {
                Found::Write { end, sequence } if self.may_follow(sequence) => {
                    (self.sequence, self.last) = (Some(sequence), Some(at..end));
                    at = end;
                }
                Found::Nothing if self.is_zero_from(at)? => return Ok(None),
                Found::Write { .. } | Found::Nothing | Found::Broken => return Ok(Some(at)),
            }
        }
    }

    /// Whether a whole write begins anywhere behind `broken_at`, of those that came after the last one before it.
    fn has_writes_after(&mut self, broken_at: u64) -> io::Result<bool> {
        let from = self.behind_batches(broken_at)?;
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(from))?;
        self.file.read_to_end(&mut rest)?;
        let starts = rest.iter().enumerate().filter(|(_, byte)| **byte == START);
        let plausible = starts.filter(|(at, _)| {
            let head = rest.get(at + 1..at + 13);
            head.is_some_and(|head| self.may_follow(u64::from_le_bytes(head[4..].try_into().unwrap_or_default())))
        });
        let candidates: Vec<_> = plausible.map(|(at, _)| from + at as u64).collect();
        for at in candidates {
            if let Found::Write { .. } = self.look(at)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where the broken write at `at` goes on behind the batches that it begins with: in them there may be anything, also
    /// what looks like a write, because clients sent it. Behind its first byte if no batch stands there.
    fn behind_batches(&mut self, at: u64) -> io::Result<u64> {
        let len = self.len;
        let mut write = self.write_at(at)?;
        let mut behind = at + 1;
        let passed = write.head().and_then(|_| {
            while write.batch()? {
                behind = len - write.left;
            }
            Ok(())
        });
        match passed {
            Err(Stop::Io(error)) => Err(error),
            Ok(()) | Err(Stop::Zero | Stop::Broken) => Ok(behind),
        }
    }

    /// Whether a write with this sequence number can come next. The checksum does not cover the number.
    fn may_follow(&self, sequence: u64) -> bool {
        // Changes of the engine's files count as well, so some numbers are left out, but not many.
        self.sequence.is_none_or(|last| sequence > last && sequence - last < 1 << 32)
    }

    fn is_zero_from(&mut self, at: u64) -> io::Result<bool> {
        self.file.seek(SeekFrom::Start(at))?;
        let mut bytes = [0; 1 << 16];
        loop {
            match self.file.read(&mut bytes)? {
                0 => return Ok(true),
                read if bytes[..read].iter().any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }

    fn look(&mut self, at: u64) -> io::Result<Found> {
        let len = self.len;
        let mut write = self.write_at(at)?;
        match write.read() {
            Ok(Some(sequence)) => Ok(Found::Write { end: len - write.left, sequence }),
            Ok(None) if at >= self.len => Ok(Found::Nothing),
            Ok(None) => Ok(Found::Broken),
            Err(Stop::Zero) => Ok(Found::Nothing),
            Err(Stop::Io(error)) => Err(error),
            Err(Stop::Broken) => Ok(Found::Broken),
        }
    }

    fn write_at(&mut self, at: u64) -> io::Result<Write<'_>> {
        // A seek within the buffer keeps it.
        let here = self.file.stream_position()?;
        self.file.seek_relative(at as i64 - here as i64)?;
        Ok(Write { file: &mut self.file, left: self.len.saturating_sub(at), sum: Xxh3::new() })
    }
}

/// A write that is being read.
struct Write<'a> {
    file: &'a mut BufReader<File>,
    /// Bytes of the file behind what was read.
    left: u64,
    sum: Xxh3,
}

/// What is known of an item before it is read.
struct ItemHead {
    compression: u8,
    key_len: u16,
    len: u32,
    stored_len: u32,
}

/// Why a write was not read to its end.
enum Stop {
    Zero,
    Broken,
    Io(io::Error),
}

impl ItemHead {
    /// Whether it is that of a batch, and not one that damage left: nothing is compressed, and the length stands there
    /// twice.
    const fn is_of_batch(&self) -> bool {
        self.key_len as usize == BatchKey::LEN && self.compression == 0 && self.len == self.stored_len
    }
}

impl Write<'_> {
    /// Reads one and returns its sequence number; none at the end of the file.
    fn read(&mut self) -> Result<Option<u64>, Stop> {
        if self.left == 0 {
            return Ok(None);
        }
        let (items, sequence) = self.head()?;
        for _ in 0..items {
            self.item()?;
        }
        let [END] = self.take()? else { return Err(Stop::Broken) };
        let sum = u64::from_le_bytes(self.take()?);
        let magic: [u8; MAGIC.len()] = self.take()?;
        match sum == self.sum.digest() && magic == MAGIC {
            true => Ok(Some(sequence)),
            false => Err(Stop::Broken),
        }
    }

    /// How many items follow, and the sequence number.
    fn head(&mut self) -> Result<(u32, u64), Stop> {
        match self.take::<1>()? {
            [START] => {}
            [0] => return Err(Stop::Zero),
            _ => return Err(Stop::Broken),
        }
        Ok((u32::from_le_bytes(self.take()?), u64::from_le_bytes(self.take()?)))
    }

    fn item(&mut self) -> Result<(), Stop> {
        let [tag] = self.take()?;
        self.sum.update(&[tag]);
        match tag {
            ITEM => {
                let head = self.item_head()?;
                self.pass(u64::from(head.key_len) + u64::from(head.stored_len))
            }
            CLEAR => self.pass(8),
            _ => Err(Stop::Broken),
        }
    }

    fn item_head(&mut self) -> Result<ItemHead, Stop> {
        let head: [u8; ITEM_HEAD_LEN] = self.take()?;
        self.sum.update(&head);
        Ok(ItemHead {
            compression: head[1],
            key_len: u16::from_le_bytes([head[10], head[11]]),
            len: u32::from_le_bytes([head[12], head[13], head[14], head[15]]),
            stored_len: u32::from_le_bytes([head[16], head[17], head[18], head[19]]),
        })
    }

    /// Passes over a batch, or over what there is of it; whether there was one.
    fn batch(&mut self) -> Result<bool, Stop> {
        if self.take()? != [ITEM] {
            return Ok(false);
        }
        let head = self.item_head()?;
        if head.is_of_batch() {
            self.pass(self.left.min(u64::from(head.key_len) + u64::from(head.stored_len)))?;
        }
        Ok(head.is_of_batch())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        self.left = self.left.checked_sub(N as u64).ok_or(Stop::Broken)?;
        self.file.read_exact(&mut bytes).map_err(Stop::Io)?;
        Ok(bytes)
    }

    /// Reads on over so many bytes that count for the checksum.
    fn pass(&mut self, count: u64) -> Result<(), Stop> {
        self.left = self.left.checked_sub(count).ok_or(Stop::Broken)?;
        let mut bytes = [0; 1 << 14];
        let mut count = count as usize;
        while count > 0 {
            let part = count.min(bytes.len());
            self.file.read_exact(&mut bytes[..part]).map_err(Stop::Io)?;
            self.sum.update(&bytes[..part]);
            count -= part;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::disk::{
            engine::Engine,
            format::{LogNumber, Place},
        },
        types::{MemoryShares, testing},
    };

    /// Writes to a journal as the engine makes them, and where each ends.
    fn written(directory: &Path, bodies: &[usize]) -> Vec<u64> {
        let engine = Engine::open(directory, MemoryShares::of(8 << 20), Default::default()).unwrap();
        let end_of_writes = || {
            let mut journal = Journal::open(&directory.join("0.jnl")).unwrap();
            let mut at = 0;
            while let Found::Write { end, .. } = journal.look(at).unwrap() {
                at = end;
            }
            at
        };
        let ends = bodies.iter().map(|len| {
            let mut writing = engine.write();
            writing.put_row(b"key".to_vec().into(), 7, &vec![b'x'; *len]);
            writing.remove_reclaim(LogNumber(1));
            writing.commit().unwrap();
            end_of_writes()
        });
        ends.collect()
    }

    fn flip(path: &Path, at: u64) {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
    }

    #[test]
    fn a_whole_journal_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let ends = written(directory.path(), &[10, 100_000, 0]);
        assert!(ends.is_sorted_by(|a, b| a < b) && ends[2] > 100_000, "{ends:?}");
        let len = fs::metadata(directory.path().join("0.jnl")).unwrap().len();
        repair(directory.path()).unwrap();
        assert_eq!(fs::metadata(directory.path().join("0.jnl")).unwrap().len(), len);
    }

    #[test]
    fn the_last_write_is_cut_off_wherever_it_is_broken() {
        for place in [0, 1, 12, 13, 14, 20, 40, 5000, 99_999] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("0.jnl");
            let ends = written(directory.path(), &[10, 100_000]);
            flip(&path, ends[0] + place);
            repair(directory.path()).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), ends[0], "broken {place} bytes in");
            let engine = Engine::open(directory.path(), MemoryShares::of(8 << 20), Default::default()).unwrap();
            assert_eq!(engine.look().row(b"key").unwrap().unwrap().1.len(), 10);
        }
    }

    #[test]
    fn damage_before_the_last_write_is_refused() {
        for place in [0, 1, 12, 13, 14, 20, 40, 5000, 99_999] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("0.jnl");
            let ends = written(directory.path(), &[10, 100_000, 10]);
            flip(&path, ends[0] + place);
            let refused = repair(directory.path()).unwrap_err();
            assert!(matches!(refused, JournalError::Damaged { at, .. } if at == ends[0]), "{refused}");
        }
    }

    /// A whole write of nothing, such as anyone could send as a record.
    fn write_of_nothing(sequence: u64) -> Vec<u8> {
        let head = [&[START][..], &0u32.to_le_bytes(), &sequence.to_le_bytes()].concat();
        [&head[..], &[END], &Xxh3::new().digest().to_le_bytes(), MAGIC].concat()
    }

    /// Two small writes, and between them one of batches with what looks like writes in them; where each ends.
    fn written_around_batches(directory: &Path) -> [u64; 3] {
        let before = written(directory, &[10])[0];
        let engine = Engine::open(directory, MemoryShares::of(8 << 20), Default::default()).unwrap();
        let mut writing = engine.write();
        let body: Vec<_> = (1..20).flat_map(|after| write_of_nothing(after * 50)).collect();
        for first in 0..3 {
            let batch = testing::batch(first, &[("x", 1)]);
            let key = BatchKey::of(LogNumber(1), &batch, 0, Place::Database);
            writing.put_batch(&key, body.clone().into());
        }
        writing.commit().unwrap();
        drop(engine);
        let ends = written(directory, &[10]);
        let mut journal = Journal::open(&directory.join("0.jnl")).unwrap();
        let Found::Write { end, .. } = journal.look(before).unwrap() else { panic!("the batches are whole") };
        [before, end, ends[0]]
    }

    #[test]
    fn what_clients_sent_is_no_write_after_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.jnl");
        let [before, end, _] = written_around_batches(directory.path());
        let mut journal = fs::read(&path).unwrap();
        journal.truncate(end as usize);
        for torn_at in (before + 13..end).step_by(13) {
            // As a process that is killed leaves it, and as a file that has no more.
            for zeros in [1 << 16, 0] {
                fs::write(&path, [&journal[..torn_at as usize], &vec![0; zeros]].concat()).unwrap();
                repair(directory.path()).unwrap();
                assert_eq!(fs::metadata(&path).unwrap().len(), before, "torn at {torn_at}");
            }
        }
    }

    #[test]
    fn damage_in_batches_before_the_last_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.jnl");
        let [before, end, last] = written_around_batches(directory.path());
        let mut journal = fs::read(&path).unwrap();
        journal.truncate(last as usize + 100);
        for at in (before..before + 100).chain((before..end).step_by(17)).chain(end - 40..end) {
            for bit in [1, 0x40] {
                let mut damaged = journal.clone();
                damaged[at as usize] ^= bit;
                fs::write(&path, damaged).unwrap();
                let Err(JournalError::Damaged { at: found, .. }) = repair(directory.path()) else {
                    // What the checksum does not cover, and may be another.
                    assert!((before + 5..before + 13).contains(&at), "bit {bit} of byte {at}");
                    continue;
                };
                assert_eq!(found, before, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_journal_that_was_followed_by_another_with_writes_must_be_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("0.jnl"), directory.path().join("1.jnl"));
        let ends = written(directory.path(), &[10, 100]);
        fs::copy(&first, &second).unwrap();
        repair(directory.path()).unwrap();
        flip(&first, ends[0] + 3);
        assert!(matches!(repair(directory.path()), Err(JournalError::Damaged { .. })));
        // As a write leaves it that failed when the engine was about to begin another one.
        fs::write(&second, [0; 100]).unwrap();
        repair(directory.path()).unwrap();
        assert_eq!(fs::metadata(&first).unwrap().len(), ends[0]);
        let engine = Engine::open(directory.path(), MemoryShares::of(8 << 20), Default::default()).unwrap();
        assert_eq!(engine.look().row(b"key").unwrap().unwrap().1.len(), 10);
    }

    #[test]
    fn the_last_write_is_made_durable_once_more() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("0.jnl"), directory.path().join("1.jnl"));
        let long_ago = std::time::UNIX_EPOCH;
        let touched = |path: &Path| {
            let written = fs::metadata(path).unwrap().modified().unwrap() > long_ago;
            OpenOptions::new().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
            written
        };
        written(directory.path(), &[10, 100]);
        fs::write(&second, [0; 100]).unwrap();
        let before = fs::read(&first).unwrap();
        assert_eq!([touched(&first), touched(&second)], [true; 2]);
        repair(directory.path()).unwrap();
        assert_eq!([touched(&first), touched(&second)], [true, false]);
        assert!(fs::read(&first).unwrap() == before, "the same bytes");
    }

    #[test]
    fn without_journals_there_is_nothing_to_do() {
        let directory = tempfile::tempdir().unwrap();
        repair(directory.path()).unwrap();
        repair(&directory.path().join("missing")).unwrap();
    }
}
