//! `serve --nats`: whom it connects to, what it refuses to start on, and what it says then.

use std::{path::Path, process::Command};

use crate::{
    identities::{Authority, Operator, write},
    nats::Cluster,
    process::{self, Process},
};

/// Starts the binary with `words`; what it complained of if it did not start.
fn serve(words: &[String]) -> Result<Process, String> {
    let mut command = process::serve(["--nats-replicas", "1"]);
    command.args(words);
    Process::start(command)
}

fn assert_serves(words: &[String]) {
    let serving = serve(words).unwrap();
    let health = serving.health();
    assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("\r\n\r\nOK"), "{health}");
}

fn assert_refused(words: &[String], because: &str) {
    match serve(words) {
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
    let mut serving = serve(&with_password("sesame")).unwrap();
    assert_eq!(serving.next_line(), format!("The log is in NATS, at nats://{address}.\n"));
    match serve(&with_password("melon")) {
        Ok(_) => panic!("it was let in"),
        Err(complaint) => assert!(complaint.contains("authorization") && !complaint.contains("melon"), "{complaint}"),
    }
}

#[test]
fn a_bench_has_a_gateway_of_its_own_on_nats() {
    let block = "\nauthorization { user: gateway, password: sesame }\n";
    let Some(node) = Cluster::start_single_with(|configuration| configuration + block) else { return };
    let server = format!("nats://gateway:sesame@{}", node.address(0));
    let mut command = Command::new(env!("CARGO_BIN_EXE_s2s-gateway"));
    command.args(["bench", "appends", "--duration", "100ms", "--json", "--nats-replicas", "1", "--nats", &server]);
    let output = command.args(["--nats-monitor", &node.monitoring_urls()[0]]).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains("in this process (NATS, at nats://127.0.0.1"), "{report}");
    assert!(!report.contains("sesame"), "{report}");
}

#[test]
fn servers_that_do_not_sync_are_served_from_only_if_the_operator_says_so() {
    let late = |configuration: String| configuration.replace("sync_interval: always", "sync_interval: \"2m\"");
    let Some(node) = Cluster::start_single_with(late) else { return };
    assert_refused(&at(&node), "sync_interval: always");
    let assumed = serve(&words(&["--nats", &node.urls()[0], "--nats-assume-synced"])).unwrap();
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
