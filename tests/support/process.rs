//! The binary in a process of its own. What is asked of it there is each test's affair.
#![allow(dead_code, reason = "each test file uses its part of this")]

use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
};

/// `serve` on a port that the system chooses, with `arguments` and without the environment of this process. The binary is
/// the one that cargo built, or what `GATEWAY_BIN` names.
pub fn serve(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let binary = std::env::var_os("GATEWAY_BIN").unwrap_or(env!("CARGO_BIN_EXE_s2s-gateway").into());
    let mut command = Command::new(binary);
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error"]).args(arguments).env_clear();
    command
}

/// A gateway that runs until it is killed or dropped.
pub struct Process {
    child: Child,
    url: String,
    /// Open, so that the gateway has someone to write to.
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Runs `command` until it says where it listens; what it complained of if it ended instead.
    pub fn start(mut command: Command) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdout, mut stderr) = (BufReader::new(child.stdout.take().unwrap()), child.stderr.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        match first.trim().rsplit(' ').next().filter(|url| url.starts_with("http")) {
            Some(url) => {
                // A pipe that nobody empties would hold up whoever logs.
                thread::spawn(move || io::copy(&mut stderr, &mut io::sink()));
                Ok(Self { url: url.into(), child, stdout })
            }
            None => {
                let mut complaint = String::new();
                stderr.read_to_string(&mut complaint).unwrap();
                assert!(!child.wait().unwrap().success(), "it ended well without having listened");
                Err(complaint)
            }
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Address and port.
    pub fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    /// The next line of what it says on standard output.
    pub fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// The whole answer of its `/health`.
    pub fn health(&self) -> String {
        self.get("/health")
    }

    /// The whole answer to a `GET` of `path`.
    pub fn get(&self, path: &str) -> String {
        let mut connection = TcpStream::connect(self.address()).unwrap();
        write!(connection, "GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Bytes of memory: now (`VmRSS`), or at the most so far (`VmHWM`).
    #[cfg(target_os = "linux")]
    pub fn memory(&self, which: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(which)).expect("every process has some");
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Sends it the signal `name`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "{name} reached nobody");
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Ends it at once: nothing it does in the end is done.
    pub fn kill(&mut self) -> ExitStatus {
        let _ = self.child.kill();
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
