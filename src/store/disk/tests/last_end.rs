//! What is lost from the end of the journal is noticed, if the store was ended since.

use std::{fs, path::PathBuf};

use super::*;

fn journals(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory.join("log")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).collect()
}

/// The journals as they are, to be put back.
struct Saved(Vec<(PathBuf, Vec<u8>)>);

impl Saved {
    fn of(directory: &Path) -> Self {
        Self(journals(directory).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect())
    }

    /// In the place of those that are there.
    fn put_back(&self, directory: &Path) {
        journals(directory).iter().for_each(|path| fs::remove_file(path).unwrap());
        self.0.iter().for_each(|(path, journal)| fs::write(path, journal).unwrap());
    }
}

/// A store that was ended, without what one of its streams was given after it had been ended before; and that.
fn without_end(kept: &str, lost: &str) -> (Arc<TempDir>, Saved) {
    let disk = OnDisk::create();
    Writer::open(&disk.store, 1).append(kept).unwrap();
    let OnDisk { store, directory } = disk;
    drop(store);
    let before = Saved::of(directory.path());
    let disk = OnDisk::open(directory);
    Writer::open(&disk.store, 1).append(lost).unwrap();
    let OnDisk { store, directory } = disk;
    drop(store);
    let whole = Saved::of(directory.path());
    before.put_back(directory.path());
    (directory, whole)
}

fn noted(disk: &OnDisk) -> Option<String> {
    fs::read_to_string(disk.directory.path().join("end")).ok()
}

#[test]
fn it_is_noted_when_the_store_is_closed() {
    let disk = OnDisk::create();
    Writer::open(&disk.store, 1).send("x").unwrap();
    assert_eq!(noted(&disk), None);
    block_on(disk.store.close()).unwrap();
    assert_eq!(noted(&disk).as_deref(), Some("1\n"));
    block_on(disk.store.close()).unwrap();
    let disk = disk.reopen().unwrap();
    assert_eq!(noted(&disk).as_deref(), Some("1\n"), "closing and dropping is one end");
    assert_eq!(Writer::open(&disk.store, 1).read(0), Ok(1));
}

#[test]
fn a_journal_without_its_end_is_refused() {
    let (directory, _) = without_end("kept", "lost");
    for _ in 0..2 {
        let refused = DiskStore::open(directory.path(), MEMORY).unwrap_err();
        assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
        assert!(refused.to_string().contains("what was written last is missing"), "{refused}");
    }
    fs::remove_file(directory.path().join("end")).unwrap();
    let disk = OnDisk::open(directory);
    assert_eq!(Writer::open(&disk.store, 1).read(0), Ok(1), "what is left is there for those who say so");
}

#[test]
fn nothing_is_given_back_while_the_end_is_missing() {
    // Both stand in segments, and the journal has the only pointer to the second.
    let body = |letter: &str| letter.repeat(3000);
    let (directory, whole) = without_end(&body("k"), &body("l"));
    for _ in 0..2 {
        DiskStore::open(directory.path(), MEMORY).unwrap_err();
    }
    whole.put_back(directory.path());
    let disk = OnDisk::open(directory);
    assert_eq!(Writer::open(&disk.store, 1).read(0), Ok(2), "where the end is found again, so is what it points to");
}

#[test]
fn a_damaged_last_write_is_refused() {
    let disk = OnDisk::create();
    Writer::open(&disk.store, 1).append("x").unwrap();
    let OnDisk { store, directory } = disk;
    drop(store);
    let [path] = &journals(directory.path())[..] else { panic!("there is one journal") };
    let mut journal = fs::read(path).unwrap();
    let last = journal.iter().rposition(|byte| *byte != 0).unwrap();
    journal[last - 20] ^= 1;
    fs::write(path, journal).unwrap();
    DiskStore::open(directory.path(), MEMORY).unwrap_err();
}

#[test]
fn without_the_file_nothing_is_known() {
    for torn in ["", "x", "\0\0"] {
        let disk = OnDisk::create();
        Writer::open(&disk.store, 1).append("x").unwrap();
        let OnDisk { store, directory } = disk;
        drop(store);
        fs::write(directory.path().join("end"), torn).unwrap();
        let disk = OnDisk::open(directory);
        assert_eq!(Writer::open(&disk.store, 1).read(0), Ok(1));
        let disk = disk.reopen().unwrap();
        assert_eq!(noted(&disk).as_deref(), Some("2\n"));
    }
}

#[test]
fn an_end_after_a_failure_is_not_noted() {
    let disk = OnDisk::create();
    disk.store.shared.queue.fail("a disk that failed".into());
    assert!(matches!(block_on(disk.store.close()), Err(StoreError::Closed(_))));
    let OnDisk { store, directory } = disk;
    drop(store);
    assert!(!directory.path().join("end").exists());
}
