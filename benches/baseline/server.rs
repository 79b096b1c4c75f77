//! The servers under measurement, as processes: started, asked for their CPU time and their memory, killed.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The yardstick on the `h2` crate.
    H2,
    /// The yardstick on hyper.
    Hyper,
    /// The gateway, in memory.
    Memory,
    /// The gateway, on disk.
    Disk,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::H2, Kind::Hyper, Kind::Memory, Kind::Disk];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::H2 => "h2",
            Kind::Hyper => "hyper",
            Kind::Memory => "memory",
            Kind::Disk => "disk",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("{name}: not one of h2, hyper, memory, disk"))
    }

    /// Whether it is the gateway, and knows more than sessions.
    pub(crate) const fn is_gateway(self) -> bool {
        matches!(self, Kind::Memory | Kind::Disk)
    }
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    process: Child,
    _directory: Option<TempDir>,
}

impl Server {
    /// Starts one and waits until it listens.
    pub(crate) fn start(kind: Kind) -> Self {
        let directory = (kind == Kind::Disk).then(|| TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        let mut command = match kind {
            Kind::H2 | Kind::Hyper => Command::new(std::env::current_exe().unwrap()),
            Kind::Memory | Kind::Disk => Command::new(gateway()),
        };
        match kind {
            Kind::H2 => command.arg("--serve-h2"),
            Kind::Hyper => command.arg("--serve-hyper"),
            Kind::Memory => command.args(["serve", "--listen", "127.0.0.1:0", "--memory", "--memory-limit", "12GiB"]),
            Kind::Disk => {
                let directory = directory.as_ref().unwrap().path();
                command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory)
            }
        };
        let mut process = command.stdout(Stdio::piped()).stdin(Stdio::null()).env("S2S_LOG", "warn").spawn().unwrap();
        let mut first_line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
        let address = first_line.trim().rsplit("://").next().and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{} says no address: {first_line:?}", kind.name()));
        Self { kind, address, process, _directory: directory }
    }

    /// CPU time that it has used, to the nanosecond where the system counts that.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let nanos = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split_ascii_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Bytes of memory that it has.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn gateway() -> PathBuf {
    std::env::var_os("GATEWAY_BIN").map_or_else(|| env!("CARGO_BIN_EXE_s2s-gateway").into(), PathBuf::from)
}
