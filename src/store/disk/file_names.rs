//! Names for the engine's files of records, durable before there is anything in them. Knows nothing of what is in them.
//!
//! The engine syncs a new file of records, and never the directory that it stands in. ext4, XFS and btrfs make the name
//! of a new file durable with the file; POSIX does not ask for it, and without its name the file is lost, though the
//! engine has noted it as durable and has thrown away the journal. The engine numbers these files one by one and makes
//! one by truncating whatever has its name, so the next names are always there before it comes to them:
//!
//! ```text
//! DIR/38 .. DIR/41     files of records
//! DIR/42 .. DIR/105    empty, their names durable: the engine's next ones
//! ```
//!
//! The engine removes those that it did not come to when it is opened the next time.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::{directory::sync_directory, locked};

/// So many names are ready at first, and at least half as many at any time: what a merge may need until they are looked
/// after again. A file has up to 64 MiB.
const READY: u64 = 64;

/// The names in one directory.
pub(super) struct FileNames {
    directory: PathBuf,
    numbers: Mutex<Numbers>,
}

struct Numbers {
    /// The first that was not yet seen to be used.
    next: u64,
    /// The first that has no durable name.
    end: u64,
}

impl FileNames {
    /// Makes names ready in `directory`, where files already have numbers.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let mut next = 0;
        for entry in fs::read_dir(directory)? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            next = next.max(number.map_or(0, |number| number + 1));
        }
        let mut numbers = Numbers { next, end: next };
        numbers.prepare(directory)?;
        Ok(Self { directory: directory.into(), numbers: Mutex::new(numbers) })
    }

    /// Sees to it that enough names are ready. Costs next to nothing when there are.
    pub(super) fn keep_ready(&self) -> io::Result<()> {
        let mut numbers = locked(&self.numbers);
        while numbers.next < numbers.end && is_used(&self.directory, numbers.next)? {
            numbers.next += 1;
        }
        match numbers.end - numbers.next {
            left if left > READY / 2 => Ok(()),
            0 => numbers.prepare(&self.directory),
            // Where there is no room for names now, there may be later.
            _ => numbers.prepare(&self.directory).or(Ok(())),
        }
    }
}

impl Numbers {
    fn prepare(&mut self, directory: &Path) -> io::Result<()> {
        let end = self.next + READY;
        for number in self.end..end {
            // Not truncated: the engine may have been faster.
            File::options().append(true).create(true).open(path_of(directory, number))?;
        }
        sync_directory(directory)?;
        self.end = end;
        Ok(())
    }
}

/// Whether the engine has come to this number: it wrote to the file, or removed it because it had nothing to write.
fn is_used(directory: &Path, number: u64) -> io::Result<bool> {
    match fs::metadata(path_of(directory, number)) {
        Ok(metadata) => Ok(metadata.len() > 0),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ready(directory: &Path, number: u64) -> bool {
        fs::metadata(path_of(directory, number)).is_ok_and(|metadata| metadata.len() == 0)
    }

    #[test]
    fn the_next_names_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        fs::write(directory.join("7"), "records").unwrap();
        FileNames::open(directory).unwrap();
        assert!((8..8 + READY).all(|number| is_ready(directory, number)));
        assert!(!is_ready(directory, 8 + READY));
        assert_eq!(fs::read(directory.join("7")).unwrap(), b"records");
    }

    #[test]
    fn names_that_were_used_are_followed_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let names = FileNames::open(directory).unwrap();
        names.keep_ready().unwrap();
        assert!(!is_ready(directory, READY), "there were enough");
        for number in 0..READY - 1 {
            match number % 2 {
                0 => fs::write(path_of(directory, number), "records").unwrap(),
                _ => fs::remove_file(path_of(directory, number)).unwrap(),
            }
        }
        names.keep_ready().unwrap();
        assert!((READY - 1..2 * READY - 1).all(|number| is_ready(directory, number)));
        assert_eq!(fs::read(directory.join("0")).unwrap(), b"records");
    }
}
