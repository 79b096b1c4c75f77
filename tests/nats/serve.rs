//! `serve --nats`: whom it connects to, what it refuses to start on, and what it says then.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::{
    identities::{Authority, Operator, write},
    nats::Cluster,
};

/// A gateway in a process of its own.
struct Serving {
    process: Child,
    address: String,
    /// What it said first, but its address.
    said: String,
    _stdout: BufReader<ChildStdout>,
}

impl Serving {
    /// Starts the binary with `words` after `serve`; what it complained of if it did not start.
    fn start(words: &[String]) -> Result<Self, String> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_s2s-gateway"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--nats-replicas", "1"])
            .args(words)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let (mut first, mut said) = (String::new(), String::new());
        stdout.read_line(&mut first).unwrap();
        let Some((_, address)) = first.trim().split_once("http://") else {
            let mut complaint = String::new();
            process.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
            assert!(!process.wait().unwrap().success());
            return Err(complaint);
        };
        stdout.read_line(&mut said).unwrap();
        Ok(Self { address: address.into(), said, process, _stdout: stdout })
    }

    fn health(&self) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        connection.write_all(b"GET /health HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn assert_serves(words: &[String]) {
    let serving = Serving::start(words).unwrap();
    let health = serving.health();
    assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("\r\n\r\nOK"), "{health}");
}

fn assert_refused(words: &[String], because: &str) {
    match Serving::start(words) {
        Ok(_) => panic!("{words:?} was not refused"),
        Err(complaint) => assert!(complaint.contains(because), "{because:?} in {complaint}"),
    }
}

/// What leads to `node`.
fn at(node: &Cluster) -> Vec<String> {
    words(&["--nats", &node.urls()[0], "--nats-monitor", &node.monitoring_urls()[0]])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn with_file(words: &[String], flag: &str, file: &Path) -> Vec<String> {
    words.iter().cloned().chain([flag.to_owned(), file.to_str().unwrap().to_owned()]).collect()
}

#[test]
fn servers_are_checked_against_the_certificates_that_were_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    let block = authority.tls_block(folder);
    let Some(node) = Cluster::start_single_with(|configuration| configuration + &block) else { return };
    let node = at(&node);
    let checked_against = |file: &Path| with_file(&node, "--nats-ca", file);
    assert_serves(&checked_against(&authority.file(folder, "ca.pem")));
    assert_refused(&checked_against(&Authority::new().file(folder, "others.pem")), "certificate");
    // The system knows nothing of this authority.
    assert_refused(&node, "certificate");
    assert_refused(&checked_against(&folder.join("missing.pem")), "missing.pem");
}

#[test]
fn servers_without_tls_are_refused_when_certificates_were_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some(node) = Cluster::start_single() else { return };
    let file = Authority::new().file(folder.path(), "ca.pem");
    assert_refused(&with_file(&at(&node), "--nats-ca", &file), "no connection to NATS");
}

#[test]
fn a_gateway_is_let_in_with_its_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let operator = Operator::new();
    let Some(node) = Cluster::start_single_with(|configuration| configuration + &operator.block()) else { return };
    let node = at(&node);
    let with_credentials = |file: &Path| with_file(&node, "--nats-credentials", file);
    assert_serves(&with_credentials(&operator.credentials(folder, "gateway.creds")));
    let stranger = Operator::new().credentials(folder, "stranger.creds");
    assert_refused(&with_credentials(&stranger), "authorization");
    assert_refused(&node, "authorization");
    assert_refused(&with_credentials(&write(folder, "empty.creds", "")), "empty.creds");
    assert_refused(&with_credentials(&folder.join("missing.creds")), "missing.creds");
}

#[test]
fn a_password_in_an_address_is_not_shown() {
    let block = "\nauthorization { user: gateway, password: sesame }\n";
    let Some(node) = Cluster::start_single_with(|configuration| configuration + block) else { return };
    let (address, monitor) = (node.address(0), &node.monitoring_urls()[0]);
    let with_password =
        |password: &str| words(&["--nats", &format!("nats://gateway:{password}@{address}"), "--nats-monitor", monitor]);
    let serving = Serving::start(&with_password("sesame")).unwrap();
    assert_eq!(serving.said, format!("The log is in NATS, at nats://{address}.\n"));
    match Serving::start(&with_password("melon")) {
        Ok(_) => panic!("it was let in"),
        Err(complaint) => assert!(complaint.contains("authorization") && !complaint.contains("melon"), "{complaint}"),
    }
}

#[test]
fn servers_that_do_not_sync_are_served_from_only_if_the_operator_says_so() {
    let late = |configuration: String| configuration.replace("sync_interval: always", "sync_interval: \"2m\"");
    let Some(node) = Cluster::start_single_with(late) else { return };
    assert_refused(&at(&node), "sync_interval: always");
    let assumed = Serving::start(&words(&["--nats", &node.urls()[0], "--nats-assume-synced"])).unwrap();
    let health = assumed.health();
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("\r\n\r\nOK\n"), "{health}");
    assert!(health.contains("nobody checked that the NATS servers sync"), "{health}");
}

#[test]
fn a_store_of_another_shape_is_refused() {
    let Some(node) = Cluster::start_single() else { return };
    assert_serves(&at(&node));
    let mut other = at(&node);
    other.extend(words(&["--nats-shards", "2"]));
    assert_refused(&other, "the store in NATS has 8 shards; it cannot have 2");
}
