//! Gateways in processes of their own, in front of a cluster that outlives them.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
};

use s2s_gateway::client::Client;

use crate::{client_of, nats::Cluster};

pub struct Gateway {
    process: Child,
    url: String,
    /// Open, so that the gateway has someone to write to.
    _stdout: BufReader<ChildStdout>,
}

impl Gateway {
    /// Starts the binary in front of `cluster`; what it complained of if it did not start.
    pub fn start(cluster: &Cluster) -> Result<Self, String> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_s2s-gateway"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--nats", &cluster.urls().join(",")])
            .args(["--nats-monitor", &cluster.monitoring_urls().join(",")])
            .env_clear()
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
        client_of(&self.url)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds it where it is: its connections stay open, and nothing answers on them.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success(), "{signal} reached nobody");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
