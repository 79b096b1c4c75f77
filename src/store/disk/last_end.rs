//! Whether what was written last is still there when a store is opened: a number that it writes at the very end, to the
//! database and to a file beside it. Knows nothing of what else is written.
//!
//! ```text
//! journal    (write) (write) (write) ("ends" 7)       whatever else is lost from its end, this is lost first
//! DIR/end    7                                        written after it, so that it is never ahead
//! ```
//!
//! A journal without its end looks like one whose last write was never finished, and what is gone from a stream's end looks
//! as if it had never been: the streams would be shorter without anyone having noticed. After a crash, when an unfinished
//! write is what is to be expected, this tells of the end before it.

use std::{fs, io, path::PathBuf};

use super::engine::{Engine, EngineError};

/// The last end of a store.
pub(super) struct LastEnd {
    file: PathBuf,
    number: u64,
    is_certain: bool,
}

impl LastEnd {
    /// Finds it in the database, where it must be if `file` says so.
    pub(super) fn find(engine: &Engine, file: PathBuf) -> Result<Self, EngineError> {
        let number = engine.look().ends()?;
        // One that cannot be read says nothing: it was not synced.
        let noted = fs::read_to_string(&file).ok().and_then(|text| text.trim_end().parse::<u64>().ok());
        match noted.is_none_or(|noted| noted <= number) {
            true => Ok(Self { file, number, is_certain: noted.is_some() }),
            false => Err(EngineError::Damaged(format!(
                "what was written last is missing from its journal; remove {} to go on without it",
                file.display()
            ))),
        }
    }

    /// Whether it is known that what was written before it is there: not if `file` is missing, which is how an operator goes
    /// on without that.
    pub(super) const fn is_certain(&self) -> bool {
        self.is_certain
    }

    /// Notes another one. Nothing is written after it.
    pub(super) fn note(&self, engine: &Engine) -> Result<(), EngineError> {
        let number = self.number + 1;
        engine.wait_for_room()?;
        let mut writing = engine.write();
        writing.put_ends(number);
        writing.commit()?;
        self.write_file(number).map_err(EngineError::failed)
    }

    /// Not synced: where it is lost, the one before is as true.
    fn write_file(&self, number: u64) -> io::Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{number}\n"))?;
        fs::rename(&new, &self.file)
    }
}
