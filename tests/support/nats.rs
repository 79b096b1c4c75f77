//! NATS servers of a test's own: real ones, on loopback, on ports that the system chose, in folders that go with them.
//!
//! They run with the configuration that operators are told to use (`deploy/nats/nats.conf`). They end when the test does.
//! Nothing waits for a fixed time: what is waited for is asked for, again and again, until a deadline.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of this, from wherever it is")]

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long servers may take to start, to find each other, or to choose a leader anew.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// Some servers that make one cluster, or a server on its own.
pub struct Cluster {
    nodes: Vec<Node>,
    /// By the node that connects and the one that it connects to.
    routes: Vec<Vec<u16>>,
    config: PathBuf,
    folder: TempDir,
    /// Removes the folder when this process ends, for a cluster that is shared by its tests and never dropped.
    remover: Child,
}

/// What becomes of a node while the others run.
struct Node {
    name: String,
    ports: Ports,
    store: PathBuf,
    process: Option<Child>,
    /// Ends the server when this process does, however it ends.
    watcher: Option<Child>,
}

#[derive(Clone, Copy)]
struct Ports {
    clients: u16,
    monitoring: u16,
    routes: u16,
}

impl Cluster {
    /// Three nodes that found each other, or nothing, said loudly, where no server can be installed.
    pub fn start() -> Option<Self> {
        Self::start_nodes(3, &direct)
    }

    /// Three nodes that reach each other only through the ports that `route` gives: for the node that connects, the one
    /// that it connects to, and the port on which that one listens.
    pub fn start_through(route: &dyn Fn(usize, usize, u16) -> u16) -> Option<Self> {
        Self::start_nodes(3, route)
    }

    /// One node, which starts faster and replicates nothing.
    pub fn start_single() -> Option<Self> {
        Self::start_nodes(1, &direct)
    }

    /// One node with a configuration that `change` made of the one that operators are told to use.
    pub fn start_single_with(change: impl Fn(String) -> String) -> Option<Self> {
        Self::start_with(1, change, &direct)
    }

    fn start_nodes(count: usize, route: &dyn Fn(usize, usize, u16) -> u16) -> Option<Self> {
        Self::start_with(count, |configuration| configuration, route)
    }

    fn start_with(
        count: usize,
        change: impl Fn(String) -> String,
        route: &dyn Fn(usize, usize, u16) -> u16,
    ) -> Option<Self> {
        let server = server()?;
        // Somebody else may take a port between its choice and its use; then others are chosen.
        for attempt in 1.. {
            let mut cluster = Self::prepare(count, &change(configuration(count)), route);
            match (0..count).try_for_each(|i| cluster.spawn(server, i)).and_then(|()| cluster.wait_until_ready()) {
                Ok(()) => return Some(cluster),
                Err(error) if attempt == 3 => panic!("no NATS servers: {error}\n{}", cluster.last_words()),
                Err(_) => {}
            }
        }
        unreachable!("the loop ends within")
    }

    fn prepare(count: usize, configuration: &str, route: &dyn Fn(usize, usize, u16) -> u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        fs::write(&config, configuration).unwrap();
        // All listeners at once, or a port would be chosen twice.
        let listeners: Vec<_> = (0..3 * count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let nodes = ports.chunks_exact(3).enumerate().map(|(i, ports)| Node {
            name: format!("n{}", i + 1),
            ports: Ports { clients: ports[0], monitoring: ports[1], routes: ports[2] },
            store: folder.path().join(format!("n{}", i + 1)),
            process: None,
            watcher: None,
        });
        let nodes: Vec<_> = nodes.collect();
        let routes_of = |from| (0..count).map(|to| route(from, to, nodes[to].ports.routes)).collect();
        let routes = (0..count).map(routes_of).collect();
        let remover = at_end("for again in 1 2 3 4 5; do rm -rf \"$0\" && exit; sleep 0.2; done", folder.path());
        Self { nodes, routes, config, folder, remover }
    }

    fn spawn(&mut self, server: &Path, i: usize) -> Result<(), String> {
        let routes: Vec<_> = self.routes[i].iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let log = File::options().create(true).append(true).open(self.log(i)).map_err(|error| error.to_string())?;
        let node = &mut self.nodes[i];
        let listen = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(server);
        command.arg("--config").arg(&self.config).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
            .env("NATS_NAME", &node.name)
            .env("NATS_LISTEN", listen(node.ports.clients))
            .env("NATS_MONITOR", listen(node.ports.monitoring))
            .env("NATS_CLUSTER", listen(node.ports.routes))
            .env("NATS_STORE", &node.store);
        for (i, route) in routes.iter().enumerate() {
            command.env(format!("NATS_ROUTE_{}", i + 1), route);
        }
        let process = command.spawn().map_err(|error| error.to_string())?;
        node.watcher = Some(at_end("kill -9 $0", process.id().to_string()));
        node.process = Some(process);
        Ok(())
    }

    /// How many nodes there are, running or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Where clients connect to node `i`.
    pub fn address(&self, i: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.nodes[i].ports.clients).into()
    }

    /// Where node `i` says how it is.
    pub fn monitoring(&self, i: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.nodes[i].ports.monitoring).into()
    }

    /// Where clients connect to any of the nodes.
    pub fn urls(&self) -> Vec<String> {
        (0..self.len()).map(|i| format!("nats://{}", self.address(i))).collect()
    }

    /// Where all of the nodes say how they are.
    pub fn monitoring_urls(&self) -> Vec<String> {
        (0..self.len()).map(|i| format!("http://{}", self.monitoring(i))).collect()
    }

    /// Ends node `i` as a power cut does its process.
    pub fn kill(&mut self, i: usize) {
        if let Some(mut process) = self.nodes[i].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        // After this its number may be another process's.
        if let Some(watcher) = &mut self.nodes[i].watcher.take() {
            call_off(watcher);
        }
    }

    /// Holds node `i` where it is: its connections stay open, and nothing answers on them.
    pub fn stop(&self, i: usize) {
        self.signal(i, "STOP");
    }

    /// Lets a node that was stopped go on.
    pub fn resume(&self, i: usize) {
        self.signal(i, "CONT");
    }

    fn signal(&self, i: usize, signal: &str) {
        let process = self.nodes[i].process.as_ref().expect("a node that runs");
        let sent = Command::new("kill").args(["-s", signal, &process.id().to_string()]).status().unwrap();
        assert!(sent.success(), "{signal} reached nobody");
    }

    /// Loses all that node `i`, which must not run, had on its disk.
    pub fn remove_data(&self, i: usize) {
        assert!(self.nodes[i].process.is_none(), "the node runs");
        fs::remove_dir_all(&self.nodes[i].store).unwrap();
    }

    /// Starts node `i` again, with the ports and the folder that it had.
    pub fn restart(&mut self, i: usize) {
        self.kill(i);
        let server = server().expect("the server that ran before");
        self.spawn(server, i).unwrap();
    }

    /// Waits until the nodes that run know their leader and say that they are in order.
    pub fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        for i in 0..self.len() {
            while self.nodes[i].process.is_some() && !self.is_ready(i) {
                if let Some(status) = self.ended(i) {
                    return Err(format!("node {} ended with {status}", i + 1));
                }
                if Instant::now() > deadline {
                    return Err(format!("node {} was not ready in time", i + 1));
                }
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn is_ready(&self, i: usize) -> bool {
        let leader = self.len() == 1 || self.ask(i, "/jsz").is_some_and(|answer| answer.contains("\"leader\": \""));
        leader && self.ask(i, "/healthz").is_some()
    }

    fn ended(&mut self, i: usize) -> Option<std::process::ExitStatus> {
        self.nodes[i].process.as_mut().and_then(|process| process.try_wait().unwrap())
    }

    /// What the monitoring of node `i` says at `path`, if that is anything good.
    pub fn ask(&self, i: usize, path: &str) -> Option<String> {
        let mut connection = TcpStream::connect_timeout(&self.monitoring(i), Duration::from_secs(1)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(connection, "GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(answer)
    }

    /// The node that leads `stream`, as those that run see it.
    pub fn leader_of(&self, stream: &str) -> Option<usize> {
        (0..self.len()).filter(|&i| self.nodes[i].process.is_some()).find(|&i| {
            let answer = self.ask(i, "/jsz?streams=1&leader_only=1&accounts=1").unwrap_or_default();
            answer.contains(&format!("\"name\": \"{stream}\""))
        })
    }

    fn log(&self, i: usize) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.nodes[i].name))
    }

    /// The ends of the servers' logs.
    pub fn last_words(&self) -> String {
        let last = |i| {
            let log = fs::read_to_string(self.log(i)).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(10).collect();
            let lines: Vec<_> = lines.into_iter().rev().collect();
            format!("node {}:\n{}\n", i + 1, lines.join("\n"))
        };
        (0..self.len()).map(last).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.len()).for_each(|i| self.kill(i));
        call_off(&mut self.remover);
    }
}

/// Waits for the end of its input, which comes when this process ends, however it ends, and then does `script` with
/// `argument` as `$0`.
fn at_end(script: &str, argument: impl AsRef<OsStr>) -> Child {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("cat >/dev/null; {script}")).arg(argument);
    command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn call_off(waiting: &mut Child) {
    let _ = waiting.kill();
    let _ = waiting.wait();
}

/// Every node listens where others connect.
fn direct(_from: usize, _to: usize, port: u16) -> u16 {
    port
}

/// The configuration that operators are told to use, with no other routes than those in it, and without its cluster for a
/// node on its own.
fn configuration(nodes: usize) -> String {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nats/nats.conf");
    let text = fs::read_to_string(reference).unwrap();
    if nodes > 1 {
        return text.replace("\n  name: s2s\n", "\n  name: s2s\n  no_advertise: true\n");
    }
    let (before, cluster) = text.split_once("\ncluster {\n").expect("a cluster in the configuration");
    let (_, after) = cluster.split_once("\n}\n").expect("an end of the cluster's block");
    format!("{before}\n{after}")
}

/// The server's binary, installed when it is first asked for.
///
/// Where that fails, tests are skipped, unless `S2S_TEST_NATS=required` says that they must not be.
fn server() -> Option<&'static Path> {
    static SERVER: OnceLock<Option<PathBuf>> = OnceLock::new();
    SERVER
        .get_or_init(|| match install() {
            Ok(server) => Some(server),
            Err(error) if env::var("S2S_TEST_NATS").is_ok_and(|said| said == "required") => {
                panic!("nats-server cannot be installed: {error}")
            }
            Err(error) => {
                // Straight to the terminal: what a test prints is shown only if it fails.
                let said = "*".repeat(80);
                let text = format!(
                    "\n{said}\nSKIPPED: tests on NATS, for nats-server cannot be installed:\n{error}\n{said}\n"
                );
                let _ = std::io::stderr().write_all(text.as_bytes());
                None
            }
        })
        .as_deref()
}

fn install() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nats/install");
    let done = Command::new(script).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).trim().into()),
        false => Err(String::from_utf8_lossy(&done.stderr).trim().into()),
    }
}
