//! The gateway in a process of its own, over a directory that outlives it.

use std::{
    io::{BufRead, BufReader, Read},
    num::NonZeroU32,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use s2s_gateway::client::{Client, ClientConfig, RetryPolicy};

pub struct Gateway {
    process: Child,
    url: String,
    /// Open, so that the gateway has someone to write to.
    _stdout: BufReader<ChildStdout>,
}

impl Gateway {
    /// Starts the binary over `directory`, with `variables` in its environment.
    pub fn start(directory: &Path, variables: &[(&str, &str)]) -> Self {
        Self::try_start(directory, variables).unwrap_or_else(|complaint| panic!("it did not start: {complaint}"))
    }

    /// The same; what it complained of if it did not start.
    pub fn try_start(directory: &Path, variables: &[(&str, &str)]) -> Result<Self, String> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_s2s-gateway"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data-dir"])
            .arg(directory)
            .env_clear()
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        match first.trim().rsplit(' ').next().filter(|url| url.starts_with("http")) {
            Some(url) => Ok(Self { url: url.into(), process, _stdout: stdout }),
            None => {
                let mut complaint = String::new();
                process.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
                process.wait().unwrap();
                Err(complaint)
            }
        }
    }

    /// A client that tries everything once.
    pub fn client(&self) -> Client {
        let mut config = ClientConfig::new(self.url.parse().unwrap());
        config.retry = RetryPolicy { attempts: NonZeroU32::MIN, ..RetryPolicy::default() };
        Client::new(config).unwrap()
    }

    /// Whether its `/health` says that it is well.
    #[cfg(target_os = "linux")]
    pub async fn is_healthy(&self) -> bool {
        self.health().await.starts_with("HTTP/1.1 200")
    }

    /// What its `/health` says.
    #[cfg(target_os = "linux")]
    pub async fn health(&self) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut connection = tokio::net::TcpStream::connect(self.url.trim_start_matches("http://")).await.unwrap();
        connection.write_all(b"GET /health HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Bytes of memory that it has for itself and its files.
    #[cfg(target_os = "linux")]
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has some");
        kib.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Ends it at once: nothing it does in the end is done.
    pub fn kill(&mut self) -> ExitStatus {
        let _ = self.process.kill();
        self.process.wait().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}
