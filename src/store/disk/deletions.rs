//! Files that are deleted, by the engine or because they are segments that nobody needs: kept open, and their space given
//! back a little at a time, so that appends need not wait for it. Knows which names the engine gives its files, and nothing
//! of what is in them.
//!
//! ```text
//! watched   has a name          the engine writes it, or reads it, or will delete it; or it is such a segment
//!    │  it is deleted
//!    ▼
//! deleted   has no name, and all its space until it is cut, step by step
//! ```
//!
//! The engine writes everything to a journal first, and deletes a journal of 64 MiB for every 64 MiB. A file system that
//! tells its disk at once what is free (mounted with `discard`) is busy with one such deletion for some 75 ms, in which
//! no sync comes back. A file that is still open is not freed when it is deleted; nor is anything left of it if the
//! process ends.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{directory::sync_directory, locked};
use crate::clock;

/// Bytes that are given back at once.
const STEP: u64 = 4 * 1024 * 1024;
/// After a step, this many times as long as it took is left to others, while little is kept.
const REST: f64 = 20.0;
/// Bytes of deleted files that are kept at most before there is no rest any more: the next start after a crash waits
/// until the system has freed them.
const MOST_KEPT: u64 = 256 * 1024 * 1024;
/// The share of the free space that may be kept, too.
const KEPT_SHARE: u64 = 8;
/// How long a journal that is not written any more may have been deleted without anyone having noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Files with records in them that are watched at most while some of them are merged: each takes a descriptor.
const MOST_MERGED: usize = 256;
/// Shorter files are freed soon enough.
const LEAST_WATCHED: u64 = STEP;

/// What was and will be deleted in the directory of a database, segments included.
pub(super) struct Deletions {
    directory: PathBuf,
    files: Mutex<Files>,
    asked: Mutex<Asked>,
    came: Condvar,
}

#[derive(Default)]
struct Files {
    watched: HashMap<PathBuf, File>,
    deleted: VecDeque<Deleted>,
}

/// A file without a name.
struct Deleted {
    file: File,
    /// Bytes that were not given back yet.
    left: u64,
}

#[derive(Default)]
struct Asked {
    to_look: bool,
    to_end: bool,
}

impl Deletions {
    /// Nothing is watched before [`start`].
    pub(super) fn of(database: &Path) -> Self {
        Self {
            directory: database.into(),
            files: Mutex::default(),
            asked: Mutex::new(Asked { to_look: true, to_end: false }),
            came: Condvar::new(),
        }
    }

    /// Says that there are other journals than before.
    pub(super) fn look(&self) {
        locked(&self.asked).to_look = true;
        self.came.notify_one();
    }

    /// Tells the thread to leave what is left to the system.
    pub(super) fn end(&self) {
        locked(&self.asked).to_end = true;
        self.came.notify_one();
    }

    /// Does `merge`, which may delete files with records in them, and watches over them meanwhile.
    pub(super) fn during<T>(&self, merge: impl FnOnce() -> T) -> T {
        self.watch(record_files(&self.directory), MOST_MERGED);
        let result = merge();
        let mut files = self.lock();
        files.collect();
        files.watched.retain(|path, _| is_journal(path));
        drop(files);
        self.look();
        result
    }

    /// Deletes a file that nobody writes.
    pub(super) fn delete(&self, path: &Path) -> io::Result<()> {
        self.watch([path.to_path_buf()].into_iter(), usize::MAX);
        fs::remove_file(path)?;
        self.look();
        Ok(())
    }

    fn run(&self) {
        while let Some(mut file) = self.next() {
            let began = clock::instant();
            match file.give_back_some() {
                Ok(()) if file.left > 0 => self.lock().deleted.push_front(file),
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "a deleted file is left to the system"),
            }
            self.rest(began);
        }
    }

    /// Waits for a file that was deleted and takes it; none at the end.
    fn next(&self) -> Option<Deleted> {
        loop {
            self.watch(journals(&self.directory), usize::MAX);
            let (found, journals) = {
                let mut files = self.lock();
                files.collect();
                (files.deleted.pop_front(), files.watched.len())
            };
            if self.has_ended() {
                return None;
            }
            if found.is_some() {
                return found;
            }
            self.wait(journals);
        }
    }

    /// Waits until it is told that there is something; for a while only, if there are journals that may be deleted.
    fn wait(&self, journals: usize) {
        let idle = |asked: &mut Asked| !asked.to_look && !asked.to_end;
        let asked = locked(&self.asked);
        let mut asked = match journals > 1 {
            true => {
                let waited = self.came.wait_timeout_while(asked, LOOK_AGAIN, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            false => self.came.wait_while(asked, idle).unwrap_or_else(PoisonError::into_inner),
        };
        asked.to_look = false;
    }

    /// Opens those of `paths` that are not open, while there are fewer than `most`.
    fn watch(&self, paths: impl Iterator<Item = PathBuf>, most: usize) {
        let mut files = self.lock();
        for path in paths {
            if files.watched.len() >= most {
                break;
            }
            if !files.watched.contains_key(&path)
                // One that cannot be opened any more is freed already.
                && let Ok(file) = OpenOptions::new().write(true).open(&path)
            {
                files.watched.insert(path, file);
            }
        }
    }

    /// The more is kept, the shorter; woken by the end.
    fn rest(&self, began: Instant) {
        let took = clock::instant().saturating_duration_since(began);
        let kept = self.lock().deleted.iter().map(|file| file.left).sum::<u64>();
        let most = free_space(&self.directory).map_or(0, |free| MOST_KEPT.min(free / KEPT_SHARE));
        let calm = 1.0 - kept as f64 / most.max(1) as f64;
        let rest = took.mul_f64(REST * calm.max(0.0));
        let resting = self.came.wait_timeout_while(locked(&self.asked), rest, |asked| !asked.to_end);
        drop(resting.unwrap_or_else(PoisonError::into_inner));
    }

    fn has_ended(&self) -> bool {
        locked(&self.asked).to_end
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        locked(&self.files)
    }
}

impl Files {
    /// Finds out which files were deleted.
    fn collect(&mut self) {
        for (path, file) in self.watched.extract_if(|_, file| is_deleted(file)) {
            // Were its name still there after a loss of power, it must not stand for a file that was cut.
            let synced = path.parent().map(sync_directory);
            if let (Some(Ok(())), Ok(metadata)) = (synced, file.metadata()) {
                self.deleted.push_back(Deleted { file, left: metadata.len() });
            }
        }
    }
}

impl Deleted {
    fn give_back_some(&mut self) -> io::Result<()> {
        self.left = self.left.saturating_sub(STEP);
        self.file.set_len(self.left)
    }
}

fn is_deleted(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}

fn journals(database: &Path) -> impl Iterator<Item = PathBuf> {
    files_in(database).filter(|path| is_journal(path))
}

/// The files that hold large records, the oldest first.
fn record_files(database: &Path) -> impl Iterator<Item = PathBuf> {
    let files = files_in(&database.join("keyspaces")).flat_map(|keyspace| files_in(&keyspace.join("blobs")));
    let large = |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.len() >= LEAST_WATCHED);
    let mut files: Vec<_> = files.filter(large).collect();
    files.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok()));
    files.into_iter()
}

fn files_in(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn free_space(directory: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Starts the thread that gives back.
pub(super) fn start(deletions: Arc<Deletions>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("log-deletions".into()).spawn(move || deletions.run())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(file: &File) -> u64 {
        file.metadata().unwrap().blocks()
    }

    /// A directory with a journal of three steps, and the journal.
    fn with_journal() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let journal = directory.path().join("0.jnl");
        fs::write(&journal, vec![1; 3 * STEP as usize]).unwrap();
        (directory, journal)
    }

    #[test]
    fn a_deleted_file_is_given_back_in_steps() {
        let (directory, journal) = with_journal();
        let deletions = Deletions::of(directory.path());
        let also_open = File::open(&journal).unwrap();
        deletions.watch(journals(directory.path()), 1);
        deletions.lock().collect();
        assert!(deletions.lock().deleted.is_empty(), "it has its name");
        fs::remove_file(&journal).unwrap();
        let mut file = deletions.next().unwrap();
        assert_eq!(also_open.metadata().unwrap().len(), 3 * STEP);
        for left in (0..3).rev() {
            file.give_back_some().unwrap();
            assert_eq!(also_open.metadata().unwrap().len(), left * STEP);
        }
        assert_eq!((file.left, blocks(&also_open)), (0, 0));
        assert!(deletions.lock().watched.is_empty());
    }

    #[test]
    fn the_thread_finds_what_is_deleted_and_ends_when_told() {
        let (directory, journal) = with_journal();
        let deletions = Arc::new(Deletions::of(directory.path()));
        let also_open = File::open(&journal).unwrap();
        deletions.watch(journals(directory.path()), 1);
        fs::remove_file(&journal).unwrap();
        let thread = start(deletions.clone()).unwrap();
        while also_open.metadata().unwrap().len() > 0 {
            thread::yield_now();
        }
        deletions.end();
        thread.join().unwrap();
    }

    #[test]
    fn files_are_watched_while_they_are_merged_and_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = directory.path().join("keyspaces/1/blobs");
        fs::create_dir_all(&blobs).unwrap();
        let of = |name: &str| blobs.join(name);
        fs::write(of("10"), vec![1; STEP as usize]).unwrap();
        fs::write(of("9"), vec![1; STEP as usize]).unwrap();
        fs::write(of("11"), b"short").unwrap();
        assert!(record_files(directory.path()).eq([of("9"), of("10")]), "the oldest first, and no short ones");
        let deletions = Deletions::of(directory.path());
        deletions.during(|| fs::remove_file(of("10")).unwrap());
        let files = deletions.lock();
        assert_eq!((files.watched.len(), files.deleted.len()), (0, 1));
    }
}
