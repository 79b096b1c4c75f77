//! The store contract on disk with a runtime around it, as in the server: a task of the runtime reports.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

use super::*;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).build().expect("a runtime"));

/// A store that was opened in a runtime.
struct OnRuntime(OnDisk);

impl OnRuntime {
    fn open(directory: Arc<TempDir>) -> Self {
        let _in_runtime = RUNTIME.enter();
        Self(OnDisk::open(directory))
    }
}

impl Backend for OnRuntime {
    fn create() -> Self {
        Self::open(Arc::new(directory_in_memory()))
    }

    fn create_limited(bytes: usize) -> Option<Self> {
        OnDisk::create_limited(bytes).map(Self)
    }

    fn store(&self) -> &dyn Store {
        self.0.store()
    }

    fn reopen(self) -> Option<Self> {
        let OnDisk { store, directory } = self.0;
        drop(store);
        Some(Self::open(directory))
    }
}

suite!(super::OnRuntime);

/// Where the system has one with room. That syncs reach a disk is not the subject here, and they are most of the time.
fn directory_in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let has_room = |found: rustix::fs::StatVfs| found.f_bavail.saturating_mul(found.f_frsize) > 1 << 30;
    match rustix::fs::statvfs(memory).is_ok_and(has_room) {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}
