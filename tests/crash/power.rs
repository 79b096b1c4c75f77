//! Loss of power: what a disk has when everything that was not synced is dropped, or torn, or only partly there.
//!
//! The preloaded library (`tests/shim/power_loss.c`) keeps what is durable; here that becomes a directory again, with
//! some of the rest: of a file any of the pages that were written since, of a directory its names as they were or as
//! they were to be.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::UNIX_EPOCH,
};

use rand::{RngExt, rngs::StdRng};
use tempfile::TempDir;

const PAGE: usize = 4096;

/// The library, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = directory.join("power_loss.so");
        // Under another name first: other tests may have it loaded.
        let new = directory.join(format!("power_loss-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/power_loss.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&new).arg(source).args(["-ldl", "-lpthread"]);
        assert!(compiler.status().expect("a C compiler").success());
        fs::rename(new, &path).unwrap();
        path
    })
}

/// A directory on a disk that forgets what was not synced.
pub struct ForgetfulDisk {
    place: TempDir,
}

impl ForgetfulDisk {
    pub fn new() -> Self {
        let disk = Self { place: tempfile::tempdir().unwrap() };
        fs::create_dir(disk.data()).unwrap();
        disk.clear_shadow();
        disk
    }

    pub fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    fn shadow(&self) -> PathBuf {
        self.place.path().join("shadow")
    }

    /// What a process needs in its environment to be on this disk.
    pub fn variables(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        vec![
            ("LD_PRELOAD".into(), text(library())),
            ("SHIM_ROOT".into(), text(&self.data())),
            ("SHIM_SHADOW".into(), text(&self.shadow())),
        ]
    }

    fn clear_shadow(&self) {
        let _ = fs::remove_dir_all(self.shadow());
        fs::create_dir_all(self.shadow().join("files")).unwrap();
        fs::create_dir_all(self.shadow().join("dirs")).unwrap();
    }

    /// The power goes: from now on the directory has what the disk had, and perhaps some of the rest.
    pub fn cut(&self, random: &mut StdRng) {
        let after = self.place.path().join("after");
        fs::create_dir(&after).unwrap();
        let mut loss = Loss { shadow: self.shadow(), random };
        loss.keep_directory(&key_of(&self.data()).unwrap(), &self.data(), &after);
        fs::remove_dir_all(self.data()).unwrap();
        fs::rename(after, self.data()).unwrap();
        self.clear_shadow();
    }
}

struct Loss<'a> {
    shadow: PathBuf,
    random: &'a mut StdRng,
}

/// A name in a directory: what it names, by a key that is never used again.
struct Named {
    is_directory: bool,
    key: String,
}

type Names = HashMap<String, Named>;

impl Loss<'_> {
    fn keep_directory(&mut self, key: &str, live: &Path, target: &Path) {
        let durable = self.durable_names(key);
        // Journalling file systems bring the names of a directory to the disk in order: here all of them, or none.
        let kept = match live_names(live) {
            Some(live) if key_of(&live.1).as_deref() == Some(key) && self.random.random_bool(0.3) => live.0,
            _ => durable,
        };
        let mut kept: Vec<_> = kept.into_iter().collect();
        kept.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, named) in kept {
            let (live, target) = (live.join(&name), target.join(&name));
            match named.is_directory {
                true => {
                    fs::create_dir(&target).unwrap();
                    self.keep_directory(&named.key, &live, &target);
                }
                false => self.keep_file(&named.key, &live, &target),
            }
        }
    }

    fn durable_names(&self, key: &str) -> Names {
        let listing = fs::read_to_string(self.shadow.join("dirs").join(key)).unwrap_or_default();
        let named = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let (kind, key, name) = (words.next()?, words.next()?, words.next()?);
            Some((name.to_owned(), Named { is_directory: kind == "d", key: key.to_owned() }))
        };
        listing.lines().filter_map(named).collect()
    }

    /// Of a file, what was synced, and of what was written since, perhaps some pages.
    fn keep_file(&mut self, key: &str, live: &Path, target: &Path) {
        let durable = File::open(self.shadow.join("files").join(key)).ok();
        let live = (key_of(live).as_deref() == Some(key)).then(|| File::open(live).unwrap());
        let len = |file: &Option<File>| file.as_ref().map_or(0, |file| file.metadata().unwrap().len());
        let (durable_len, live_len) = (len(&durable), len(&live));
        let kept = File::create(target).unwrap();
        let extended = live.is_some() && self.random.random_bool(0.5);
        let len = if extended { live_len } else { durable_len };
        kept.set_len(len).unwrap();
        // Nothing since, some of it, all of it.
        let share = [0.0, 0.5, 1.0][self.random.random_range(0..3)];
        let (mut durable, mut live) = (Pages(durable), Pages(live));
        for at in (0..len).step_by(PAGE) {
            let (synced, written) = (durable.next(), live.next());
            let page = match written {
                Some(written) if synced.as_ref() != Some(&written) && self.random.random_bool(share) => Some(written),
                _ => synced,
            };
            // Holes stay holes.
            if let Some(page) = page.filter(|page| page.iter().any(|byte| *byte != 0)) {
                let room = usize::try_from(len - at).unwrap().min(PAGE);
                kept.write_all_at(&page[..room], at).unwrap();
            }
        }
    }
}

/// The pages of a file, zeros behind its end; none if there is no file.
struct Pages(Option<File>);

impl Pages {
    fn next(&mut self) -> Option<Box<[u8; PAGE]>> {
        let file = self.0.as_mut()?;
        let mut page = Box::new([0; PAGE]);
        let mut filled = 0;
        while filled < PAGE {
            match file.read(&mut page[filled..]).unwrap() {
                0 => break,
                read => filled += read,
            }
        }
        Some(page)
    }
}

fn live_names(path: &Path) -> Option<(Names, PathBuf)> {
    let entries = fs::read_dir(path).ok()?;
    let named = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let is_directory = entry.file_type().ok()?.is_dir();
        Some((entry.file_name().into_string().ok()?, Named { is_directory, key: key_of(&entry.path())? }))
    });
    Some((named.collect(), path.to_path_buf()))
}

/// What the library calls the file: its number, which may be given again, and its birth.
fn key_of(path: &Path) -> Option<String> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let born = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{}-{}.{}", metadata.ino(), born.as_secs(), born.subsec_nanos()))
}
