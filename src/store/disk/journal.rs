//! The engine's journal before the engine reads it: whether it ends in a write that was never finished.
//!
//! The engine syncs each write before it begins the next, so all but the last one are whole. The last one may be torn by
//! a loss of power, and was not acknowledged then. The engine leaves out a write that just stops, but refuses to open a
//! journal whose last write has its end and not its middle, as disks leave them; and of a damage further up it says
//! nothing and leaves out all that follows. So the torn end is cut off here, and damage is refused.
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
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3;

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

/// Cuts off what a loss of power left of the last write to the journals in `directory`.
pub(super) fn repair(directory: &Path) -> Result<(), JournalError> {
    let journals = journals(directory).map_err(|error| JournalError::Io { path: directory.into(), error })?;
    for (place, path) in journals.iter().enumerate() {
        let failed = |error| JournalError::Io { path: path.clone(), error };
        let mut journal = Journal::open(path).map_err(failed)?;
        let Some(broken_at) = journal.find_broken().map_err(failed)? else { continue };
        let is_last = place + 1 == journals.len();
        if !is_last || journal.has_writes_after(broken_at).map_err(failed)? {
            return Err(JournalError::Damaged { path: path.clone(), at: broken_at });
        }
        tracing::info!(journal = %path.display(), at = broken_at, "an unfinished write is left out");
        cut(path, broken_at).map_err(failed)?;
    }
    Ok(())
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
        Ok(Self { file: BufReader::with_capacity(1 << 18, file), len, sequence: None })
    }

    /// Where the first thing begins that is not a whole write, if there is one before the end.
    fn find_broken(&mut self) -> io::Result<Option<u64>> {
        let mut at = 0;
        loop {
            match self.look(at)? {
                Found::Write { end, sequence } if self.may_follow(sequence) => {
                    at = end;
                    self.sequence = Some(sequence);
                }
                Found::Nothing if self.is_zero_from(at)? => return Ok(None),
                Found::Write { .. } | Found::Nothing | Found::Broken => return Ok(Some(at)),
            }
        }
    }

    /// Whether a whole write begins anywhere behind `broken_at`, of those that came after the last one before it.
    fn has_writes_after(&mut self, broken_at: u64) -> io::Result<bool> {
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(broken_at))?;
        self.file.read_to_end(&mut rest)?;
        let starts = rest.iter().enumerate().skip(1).filter(|(_, byte)| **byte == START);
        let plausible = starts.filter(|(at, _)| {
            let head = rest.get(at + 1..at + 13);
            head.is_some_and(|head| self.may_follow(u64::from_le_bytes(head[4..].try_into().unwrap_or_default())))
        });
        let candidates: Vec<_> = plausible.map(|(at, _)| broken_at + at as u64).collect();
        for at in candidates {
            if let Found::Write { .. } = self.look(at)? {
                return Ok(true);
            }
        }
        Ok(false)
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
        // A seek within the buffer keeps it.
        let here = self.file.stream_position()?;
        self.file.seek_relative(at as i64 - here as i64)?;
        let mut write = Write { file: &mut self.file, left: self.len.saturating_sub(at), sum: Xxh3::new() };
        match write.read() {
            Ok(Some(sequence)) => Ok(Found::Write { end: self.len - write.left, sequence }),
            Ok(None) if at >= self.len => Ok(Found::Nothing),
            Ok(None) => Ok(Found::Broken),
            Err(Stop::Zero) => Ok(Found::Nothing),
            Err(Stop::Io(error)) => Err(error),
            Err(Stop::Broken) => Ok(Found::Broken),
        }
    }
}

/// A write that is being read.
struct Write<'a> {
    file: &'a mut BufReader<File>,
    /// Bytes of the file behind what was read.
    left: u64,
    sum: Xxh3,
}

/// Why a write was not read to its end.
enum Stop {
    Zero,
    Broken,
    Io(io::Error),
}

impl Write<'_> {
    /// Reads one and returns its sequence number; none at the end of the file.
    fn read(&mut self) -> Result<Option<u64>, Stop> {
        if self.left == 0 {
            return Ok(None);
        }
        match self.take::<1>()? {
            [START] => {}
            [0] => return Err(Stop::Zero),
            _ => return Err(Stop::Broken),
        }
        let items = u32::from_le_bytes(self.take()?);
        let sequence = u64::from_le_bytes(self.take()?);
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

    fn item(&mut self) -> Result<(), Stop> {
        let [tag] = self.take()?;
        self.sum.update(&[tag]);
        match tag {
            ITEM => {
                let head: [u8; ITEM_HEAD_LEN] = self.take()?;
                self.sum.update(&head);
                let key_len = u16::from_le_bytes([head[10], head[11]]);
                let stored_len = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
                self.pass(u64::from(key_len) + u64::from(stored_len))
            }
            CLEAR => self.pass(8),
            _ => Err(Stop::Broken),
        }
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
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::{
        store::disk::{engine::Engine, format::LogNumber},
        types::MemoryShares,
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

    #[test]
    fn a_journal_that_was_followed_by_another_must_be_whole() {
        let directory = tempfile::tempdir().unwrap();
        let ends = written(directory.path(), &[10, 100]);
        fs::write(directory.path().join("1.jnl"), [0; 100]).unwrap();
        repair(directory.path()).unwrap();
        flip(&directory.path().join("0.jnl"), ends[0] + 3);
        assert!(matches!(repair(directory.path()), Err(JournalError::Damaged { .. })));
    }

    #[test]
    fn without_journals_there_is_nothing_to_do() {
        let directory = tempfile::tempdir().unwrap();
        repair(directory.path()).unwrap();
        repair(&directory.path().join("missing")).unwrap();
    }
}
