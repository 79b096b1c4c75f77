//! The gateway in a process of its own, over a directory that outlives it.

use std::{num::NonZeroU32, path::Path, process::ExitStatus};

use s2s_gateway::client::{AppendRetry, Client, ClientConfig, RetryPolicy};

use super::serving::{Process, serve};

pub struct Gateway(Process);

impl Gateway {
    /// Starts the binary over `directory`, with `variables` in its environment.
    pub fn start(directory: &Path, variables: &[(&str, &str)]) -> Self {
        Self::try_start(directory, variables).unwrap_or_else(|complaint| panic!("it did not start: {complaint}"))
    }

    /// The same; what it complained of if it did not start.
    pub fn try_start(directory: &Path, variables: &[(&str, &str)]) -> Result<Self, String> {
        let mut command = serve(["--data-dir".as_ref(), directory.as_os_str()]);
        command.envs(variables.iter().copied());
        Process::start(command).map(Self)
    }

    /// A client that tries everything once.
    pub fn client(&self) -> Client {
        let mut config = ClientConfig::new(self.0.url().parse().unwrap());
        config.retry = RetryPolicy { attempts: NonZeroU32::MIN, ..RetryPolicy::default() };
        Client::new(config).unwrap()
    }

    /// A client that tries again what does no harm twice: for what is not tested, and must not fail on a slow machine.
    pub fn patient_client(&self) -> Client {
        let mut config = ClientConfig::new(self.0.url().parse().unwrap());
        let attempts = NonZeroU32::new(5).expect("not zero");
        config.retry = RetryPolicy { attempts, appends: AppendRetry::NoSideEffects, ..RetryPolicy::default() };
        Client::new(config).unwrap()
    }

    /// Whether its `/health` says that it is well.
    #[cfg(target_os = "linux")]
    pub fn is_healthy(&self) -> bool {
        self.health().starts_with("HTTP/1.1 200")
    }

    /// What its `/health` says.
    #[cfg(target_os = "linux")]
    pub fn health(&self) -> String {
        self.0.health()
    }

    /// Whether only what is written to now is still in the journal alone: less than is moved to its place at once.
    #[cfg(target_os = "linux")]
    pub fn has_moved_records(&self) -> bool {
        let metrics = self.0.get("/metrics");
        let of_written = |family: &str| -> f64 {
            let series = format!("{family}{{share=\"written\"}} ");
            metrics.lines().find_map(|line| line.strip_prefix(&series)).expect("it is told").parse().unwrap()
        };
        of_written("s2s_memory_bytes") < of_written("s2s_memory_limit_bytes") / 4.0
    }

    /// Bytes of memory that it has for itself and its files.
    #[cfg(target_os = "linux")]
    pub fn memory(&self) -> usize {
        self.0.memory("VmRSS")
    }

    /// Ends it at once: nothing it does in the end is done.
    pub fn kill(&mut self) -> ExitStatus {
        self.0.kill()
    }
}
