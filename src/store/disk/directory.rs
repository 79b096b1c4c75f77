//! The data directory: whose it is, and which format lies in it. Knows nothing of what is kept there.
//!
//! ```text
//! DIR/format   "s2s-gateway log 2\n"   written first, and only once
//! DIR/lock     held locked by the process that uses the directory
//! DIR/end      which end of the database was the last one without a crash
//! DIR/log/     the database, and in its `segments` the large batches
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

const TITLE: &str = "s2s-gateway log ";
/// The format that this version reads and writes.
const VERSION: u32 = 2;

/// A directory that this process has for itself, for as long as this is kept.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// It was written by a later version.
    #[error("{path} has format {found}, and this version reads format {VERSION} only: use the version that wrote it")]
    Newer {
        /// Which directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It was written by an earlier version.
    #[error(
        "{path} has format {found}, and this version reads format {VERSION} only: use the version that wrote it, or \
         another directory"
    )]
    Older {
        /// Which directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Something else lies there.
    #[error("{0} is not empty, and no data directory of s2s-gateway")]
    Foreign(PathBuf),
    /// The file that says which format it is cannot be understood.
    #[error("{0} does not say which format the directory has")]
    NoFormat(PathBuf),
    /// The file system refused.
    #[error("{path}: {error}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl DataDirectory {
    /// Takes `path`, made if it is not there, for this process alone.
    pub(super) fn open(path: &Path) -> Result<Self, DirectoryError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |error| DirectoryError::Io { path, error }
        };
        create(path).map_err(failed(path))?;
        let format = path.join("format");
        let has_format = || format.try_exists().map_err(failed(&format));
        // Asked before anything is written there.
        if !has_format()? && is_foreign(path).map_err(failed(path))? {
            return Err(DirectoryError::Foreign(path.into()));
        }
        let lock = lock(path)?;
        match has_format()? {
            true => check_format(path, &fs::read_to_string(&format).map_err(failed(&format))?)?,
            false => write_format(path).map_err(failed(&format))?,
        }
        Ok(Self { path: path.into(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that tells of the last end.
    pub(super) fn end(&self) -> PathBuf {
        self.path.join("end")
    }

    /// Where the database lies.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("log")
    }
}

/// Makes `path`, and makes sure that it is still there after a loss of power.
pub(super) fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(parent.unwrap_or(Path::new("."))),
    }
}

/// Makes durable which files and directories there are in `path`, at every depth.
pub(super) fn sync_directories(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    sync_directory(path)
}

/// Makes durable which files and directories there are in `path` itself.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether `path` has anything that the beginnings of a data directory do not have.
fn is_foreign(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        // A new file system brings the last one.
        if !["lock", "format.new", "lost+found"].iter().any(|known| name == *known) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let file = path.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let lock = lock.map_err(|error| DirectoryError::Io { path: file.clone(), error })?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(DirectoryError::InUse(path.into())),
        Err(TryLockError::Error(error)) => Err(DirectoryError::Io { path: file, error }),
    }
}

/// Writes the file at once or not at all.
fn write_format(path: &Path) -> io::Result<()> {
    let new = path.join("format.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{TITLE}{VERSION}")?;
    file.sync_all()?;
    fs::rename(&new, path.join("format"))?;
    sync_directory(path)
}

fn check_format(path: &Path, text: &str) -> Result<(), DirectoryError> {
    let version = text.trim_end().strip_prefix(TITLE).and_then(|version| version.parse().ok());
    match version {
        Some(VERSION) => Ok(()),
        Some(found) if found < VERSION => Err(DirectoryError::Older { path: path.into(), found }),
        Some(found) => Err(DirectoryError::Newer { path: path.into(), found }),
        None => Err(DirectoryError::NoFormat(path.join("format"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_and_found_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        drop(DataDirectory::open(&path).unwrap());
        assert_eq!(fs::read_to_string(path.join("format")).unwrap(), "s2s-gateway log 2\n");
        assert_eq!(DataDirectory::open(&path).unwrap().database(), path.join("log"));
    }

    #[test]
    fn a_second_process_is_told() {
        let path = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(path.path()).unwrap();
        let refused = DataDirectory::open(path.path()).unwrap_err();
        assert!(matches!(refused, DirectoryError::InUse(_)), "{refused}");
        assert!(refused.to_string().ends_with("is in use by another process"), "{refused}");
        drop(first);
        DataDirectory::open(path.path()).unwrap();
    }

    #[test]
    fn another_format_is_refused_and_named() {
        let path = tempfile::tempdir().unwrap();
        fs::write(path.path().join("format"), "s2s-gateway log 3\n").unwrap();
        let refused = DataDirectory::open(path.path()).unwrap_err();
        assert!(matches!(refused, DirectoryError::Newer { found: 3, .. }), "{refused}");
        fs::write(path.path().join("format"), "s2s-gateway log 1\n").unwrap();
        let refused = DataDirectory::open(path.path()).unwrap_err();
        assert!(matches!(refused, DirectoryError::Older { found: 1, .. }), "{refused}");
        fs::write(path.path().join("format"), "something else").unwrap();
        assert!(matches!(DataDirectory::open(path.path()), Err(DirectoryError::NoFormat(_))));
    }

    #[test]
    fn what_belongs_to_others_is_left_alone() {
        let path = tempfile::tempdir().unwrap();
        fs::write(path.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(DataDirectory::open(path.path()), Err(DirectoryError::Foreign(_))));
        assert_eq!(fs::read_dir(path.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_of_the_making_is_no_obstacle() {
        let path = tempfile::tempdir().unwrap();
        fs::write(path.path().join("lock"), "").unwrap();
        fs::write(path.path().join("format.new"), "s2s-gat").unwrap();
        DataDirectory::open(path.path()).unwrap();
    }
}
