//! Syncs on a thread of its own, so that the writer can copy meanwhile. Knows nothing of what is in the files.

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

/// The thread that syncs; ends when this is dropped.
pub(super) struct Syncing {
    /// None when it is to end.
    asked: Option<Sender<Asked>>,
    thread: Option<JoinHandle<()>>,
}

/// A file that is to be synced, and where the answer goes.
struct Asked {
    file: Arc<File>,
    done: Sender<io::Result<()>>,
}

/// A sync that was asked for.
pub(super) enum Sync {
    Done(io::Result<()>),
    Running(Receiver<io::Result<()>>),
}

impl Syncing {
    pub(super) fn start() -> io::Result<Self> {
        let (asked, files) = mpsc::channel::<Asked>();
        let thread = thread::Builder::new().name("log-syncs".into()).spawn(move || {
            for Asked { file, done } in files {
                // Whoever does not wait for the answer does not need it.
                let _ = done.send(file.sync_data());
            }
        })?;
        Ok(Self { asked: Some(asked), thread: Some(thread) })
    }

    /// Has what was written to `file` made durable.
    pub(super) fn sync(&self, file: Arc<File>) -> Sync {
        let (done, answer) = mpsc::channel();
        // If nobody takes it, nobody will answer.
        let _ = self.asked.as_ref().map(|asked| asked.send(Asked { file, done }));
        Sync::Running(answer)
    }
}

impl Sync {
    /// On the spot.
    pub(super) fn now(file: &File) -> Self {
        Self::Done(file.sync_data())
    }

    /// Whether there is something to do until it is done.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    /// What came of it, as soon as that is known.
    pub(super) fn wait(self) -> io::Result<()> {
        match self {
            Self::Done(result) => result,
            Self::Running(answer) => {
                answer.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs ended")))
            }
        }
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked said so already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn what_came_of_a_sync_is_told() {
        let syncing = Syncing::start().unwrap();
        let file = Arc::new(tempfile::tempfile().unwrap());
        // A pipe cannot be synced.
        let pipe = Arc::new(File::from(OwnedFd::from(io::pipe().unwrap().1)));
        let asked = [syncing.sync(file.clone()), syncing.sync(pipe.clone()), Sync::now(&file), Sync::now(&pipe)];
        assert_eq!(asked.map(|sync| sync.wait().is_ok()), [true, false, true, false]);
    }
}
