//! Instructions of the paths, counted by callgrind and compared with those kept in `benches/instructions.txt`.
//!
//! `cargo bench --bench instructions` fails if a path takes over a tenth more than it did; with `-- --keep` it writes
//! the file anew, to be committed with the change that moved it. `-- NAME` counts only paths with that in their name.
//!
//! Counts do not depend on who else uses the machine, so that they can be compared from commit to commit; another
//! compiler or another kind of processor moves them a little. Each path is gone N and then 2N times in processes of
//! their own: the difference is N steps, without whatever comes before the first.

mod paths;

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs, io,
    path::PathBuf,
    process::{Command, ExitCode},
};

use self::paths::Path;

/// How much more a path may take than is kept of it, in percent.
const TOLERANCE: f64 = 10.0;

/// How often a path is gone: until it had about so many bytes, or records, whichever is less often.
const BYTES: u64 = 4 << 20;
const RECORDS: u64 = 4000;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [step, name, times] = &arguments[..]
        && step == GO
    {
        go(name, times.parse()?);
        return Ok(ExitCode::SUCCESS);
    }
    if Command::new("valgrind").arg("--version").output().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        eprintln!("valgrind is not installed: no instructions were counted, and nothing was compared");
        return Ok(ExitCode::SUCCESS);
    }
    let keep = arguments.iter().any(|argument| argument == "--keep");
    let wanted = arguments.iter().find(|argument| !argument.starts_with("--"));
    let mut kept = Counts::load()?;
    let more = compare(&mut kept, wanted.map_or("", String::as_str))?;
    if keep {
        kept.save()?;
        return Ok(ExitCode::SUCCESS);
    }
    match more {
        0 => Ok(ExitCode::SUCCESS),
        more => {
            eprintln!("{more} paths take over {TOLERANCE} % more than is kept in {}", Counts::file().display());
            eprintln!("if that is right: cargo bench --bench instructions -- --keep");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// How this program is told to go one path and nothing else.
const GO: &str = "--go";

fn all() -> Vec<Path> {
    [paths::codec(), paths::admit(), paths::append(), paths::follow(), paths::catch_up()]
        .into_iter()
        .flatten()
        .collect()
}

fn go(name: &str, times: u64) {
    let path = all().into_iter().find(|path| path.name == name).expect("a path of this program");
    let mut step = path.prepare();
    (0..times).for_each(|_| step());
}

/// Counts the paths with `wanted` in their name, prints them beside what is `kept`, puts them there, and says how many
/// take too much.
fn compare(kept: &mut Counts, wanted: &str) -> Result<usize, Box<dyn Error>> {
    let mut more = 0;
    println!("{:>14} {:>14} {:>8}  instructions of", "now", "kept", "");
    for path in all().iter().filter(|path| path.name.contains(wanted)) {
        let now = count(path)?;
        let before = kept.0.insert(path.name.clone(), now);
        let change = before.map(|before| (now as f64 / before as f64 - 1.0) * 100.0);
        let (before, percent) = match (before, change) {
            (Some(before), Some(change)) => (before.to_string(), format!("{change:+.1} %")),
            _ => ("-".to_owned(), String::new()),
        };
        let too_much = change.is_some_and(|change| change > TOLERANCE);
        println!("{now:>14} {before:>14} {percent:>8}  {}{}", path.name, if too_much { "   ◄ more" } else { "" });
        more += usize::from(too_much);
    }
    Ok(more)
}

/// Instructions of one step of `path`.
fn count(path: &Path) -> Result<u64, Box<dyn Error>> {
    let times = (BYTES / path.work.bytes.max(1)).min(RECORDS / path.work.records.max(1)).max(4);
    Ok((callgrind(path, 2 * times)?.saturating_sub(callgrind(path, times)?)) / times)
}

/// Instructions of a process that goes `path` so many times.
fn callgrind(path: &Path, times: u64) -> Result<u64, Box<dyn Error>> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([GO, &path.name, &times.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&run.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let (true, Some((_, count))) = (run.status.success(), collected) else {
        return Err(format!("{} failed under callgrind: {said}", path.name).into());
    };
    Ok(count.trim().parse()?)
}

/// Instructions a step, by the name of the path.
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn file() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
    }

    /// What is kept; nothing if there is no file.
    fn load() -> Result<Self, Box<dyn Error>> {
        let text = match fs::read_to_string(Self::file()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let mut counts = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (count, name) = line.trim_start().split_once("  ").ok_or("a line without count and name")?;
            counts.insert(name.to_owned(), count.parse()?);
        }
        Ok(Self(counts))
    }

    /// Writes them in the order in which they are counted; a path that is no more is forgotten.
    fn save(&self) -> io::Result<()> {
        let mut text = String::from("# Instructions a step, written by: cargo bench --bench instructions -- --keep\n");
        for path in all() {
            if let Some(count) = self.0.get(&path.name) {
                text.push_str(&format!("{count:>14}  {}\n", path.name));
            }
        }
        fs::write(Self::file(), text)
    }
}
