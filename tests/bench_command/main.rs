//! `bench` as its users meet it: every scenario for a moment, against a gateway of its own and against one elsewhere; and
//! against one that does wrong.

#[path = "../support/mod.rs"]
mod support;

mod meddler;

use std::process::{Output, Stdio};

use meddler::{Fault, Meddler};
use s2s_gateway::{auth::AuthConfig, types::Secret};
use serde_json::Value;
use support::Gateway;
use tokio::process::Command;

fn command(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_s2s-gateway"));
    command.arg("bench").args(words.split_whitespace()).env_clear().kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn bench(words: &str) -> Output {
    command(words).output().await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The report of a run that ended well.
fn report(output: &Output) -> Value {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(text(&output.stdout).lines().count(), 1, "JSON and nothing else");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn latency_names(report: &Value) -> Vec<&str> {
    let latencies = report["latencies"].as_array().unwrap();
    for latency in latencies {
        assert!(latency["count"].as_u64().unwrap() > 0 && latency["p50"].as_f64() <= latency["max"].as_f64());
    }
    latencies.iter().map(|latency| latency["name"].as_str().unwrap()).collect()
}

/// Each scenario: what it is told, which latencies it reports, and whether appends and reads count.
const SCENARIOS: [(&str, &[&str], bool, bool); 10] = [
    ("appends --streams 2 --sessions 3 --connections 2", &["append to ack"], true, false),
    ("appends --compression zstd --batch 10", &["append to ack"], true, false),
    ("latency", &["append to ack"], true, false),
    ("latency --rate 200 --sessions 2", &["append to ack", "sent after its time"], true, false),
    ("unary --sessions 3 --streams 2 --connections 3 --batch 2", &["append to ack"], true, false),
    ("unary --rate 100 --body random", &["append to ack", "sent after its time"], true, false),
    ("catch-up --size 300KiB --batch 10 --readers 2 --compression gzip", &[], false, true),
    (
        "fan-out --followers 5 --streams 2 --compression zstd --record-size 2KiB",
        &["append to ack", "append to delivery", "sent after its time", "session to first record"],
        true,
        true,
    ),
    ("idle --followers 12 --connections 3", &["append to delivery", "session to first record"], false, false),
    (
        "mixed --streams 2 --followers 3",
        &["append to ack", "append to delivery", "sent after its time", "session to first record"],
        true,
        true,
    ),
];

fn check_scenario(words: &str, output: &Output, latencies: &[&str], appends: bool, reads: bool) {
    let report = report(output);
    assert_eq!(report["scenario"], words.split(' ').next().unwrap());
    assert_eq!(latency_names(&report), latencies, "{words}");
    for (what, is_counted) in [("appended", appends), ("read", reads)] {
        assert_eq!(report[what]["records"].as_u64().is_some_and(|records| records > 0), is_counted, "{words}: {what}");
    }
    let checks = report["checks"].as_object().unwrap();
    let wrong: Vec<_> = checks.iter().filter(|(what, count)| *what != "checked" && **count != 0).collect();
    assert!(wrong.is_empty() && checks["checked"].as_u64().unwrap() > 0, "{words}: {wrong:?}");
    assert_eq!((&report["errors"], &report["violations"]), (&serde_json::json!({}), &serde_json::json!({})), "{words}");
    assert_eq!(report["interrupted"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_against_a_gateway_in_memory() {
    for (words, latencies, appends, reads) in SCENARIOS {
        let output = bench(&format!("{words} --memory --duration 200ms --json")).await;
        check_scenario(words, &output, latencies, appends, reads);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_against_a_server_which_is_left_as_it_was() {
    let gateway = Gateway::start().await;
    let addr = format!("http://{}", gateway.address);
    for (words, latencies, appends, reads) in SCENARIOS {
        let output = bench(&format!("{words} --addr {addr} --duration 200ms --json")).await;
        check_scenario(words, &output, latencies, appends, reads);
    }
    let listing = Command::new(env!("CARGO_BIN_EXE_s2s-gateway"))
        .args(["basin", "list", "--addr", &addr])
        .output()
        .await
        .unwrap();
    let left = text(&listing.stdout).lines().skip(1).filter(|line| !line.ends_with("deleting"));
    assert_eq!(left.count(), 0, "{listing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_that_other_commands_use_is_not_loaded() {
    let mut command = command("latency --memory --duration 100ms --json");
    let report = report(&command.env("S2S_ADDR", "http://127.0.0.1:1").output().await.unwrap());
    assert_eq!(report["server"], "a gateway in this process (memory)");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_sessions_as_a_connection_may_have() {
    let report = report(&bench("latency --memory --sessions 1000 --duration 100ms --json").await);
    assert_eq!(report["errors"], serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_on_the_disk_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let run = || command("appends --duration 100ms --json").env("TMPDIR", temporary.path()).output();
    // Several at once: each has work left in the background when it is done.
    for output in futures::future::join_all((0..8).map(|_| run())).await {
        let output = output.unwrap();
        let report = report(&output);
        assert!(report["server"].as_str().unwrap().contains(temporary.path().to_str().unwrap()), "{report}");
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    // One that was named stays.
    let kept = temporary.path().join("data");
    let words = format!("latency --duration 100ms --data-dir {}", kept.display());
    assert!(bench(&words).await.status.success());
    assert!(kept.is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_and_a_picture() {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("it.svg");
    let output = bench(&format!("latency --memory --duration 300ms --plot {}", svg.display())).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let table = text(&output.stdout);
    for part in ["latency on a gateway in this process (memory)", "append to ack", "p99.9", "each once, in order"] {
        assert!(table.contains(part), "{part:?} in {table}");
    }
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert!(picture.contains("append to ack"));
    let nowhere = directory.path().join("missing/it.svg");
    let output = bench(&format!("latency --memory --duration 100ms --plot {}", nowhere.display())).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("append to ack"), "the figures are not lost: {output:?}");
    assert!(text(&output.stderr).starts_with("s2s-gateway: --plot "), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
async fn the_servers_process_is_watched() {
    let gateway = Gateway::start().await;
    let id = std::process::id();
    let words = format!("latency --addr http://{} --pid {id} --duration 300ms --json", gateway.address);
    let report = report(&bench(&words).await);
    let server = &report["processes"][0];
    assert_eq!((&server["role"], &server["pid"]), (&"server".into(), &id.into()));
    assert!(server["cpu_seconds"].as_f64().unwrap() > 0.0 && server["resident_most"].as_u64().unwrap() > 0);
    assert_eq!(report["processes"][1]["role"], "load");
    let nobody = bench("appends --memory --pid 4294967295").await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("--pid"), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_it_reports_what_it_has() {
    let gateway = Gateway::start().await;
    let words = format!("fan-out --followers 2 --addr http://{} --duration 1h", gateway.address);
    let running = command(&words).spawn().unwrap();
    while gateway.metric("s2s_acks_total") < 20.0 {
        tokio::task::yield_now().await;
    }
    interrupt(running.id().unwrap()).await;
    let output = running.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).lines().next().unwrap().ends_with("s measured, interrupted"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_does_wrong_fails_the_run() {
    for (fault, found) in [
        (Fault::Lose, "1 lost, 0 doubled, 0 out of order, 0 damaged, 0 foreign"),
        (Fault::Double, "1 lost, 1 doubled, 0 out of order, 0 damaged, 0 foreign"),
        (Fault::Swap, "0 lost, 0 doubled, 1 out of order, 0 damaged, 0 foreign"),
        (Fault::Damage, "1 lost, 0 doubled, 0 out of order, 1 damaged, 0 foreign"),
    ] {
        for scenario in [
            "latency --batch 5",
            "unary --streams 1 --batch 5",
            "catch-up --size 1MiB",
            "fan-out --followers 1 --batch 5",
        ] {
            let gateway = Gateway::start().await;
            let meddler = Meddler::before(gateway.address, fault).await;
            let words = format!("{scenario} --addr http://{} --duration 200ms", meddler.address);
            let output = bench(&words).await;
            assert_eq!(output.status.code(), Some(1), "{fault:?}, {scenario}: {output:?}");
            assert_eq!(text(&output.stderr), "s2s-gateway: the check failed\n");
            let failed = text(&output.stdout).lines().find(|line| line.starts_with("FAILED")).unwrap_or_default();
            assert!(failed.ends_with(found), "{fault:?}, {scenario}: {failed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_inside_a_batch_breaks_the_protocol() {
    let gateway = Gateway::start().await;
    let meddler = Meddler::before(gateway.address, Fault::Gap).await;
    let output = bench(&format!("latency --batch 5 --addr http://{} --duration 100ms", meddler.address)).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("FAILED, 1×: the server broke the protocol"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted() {
    let gateway = support::Setup { memory_limit: 4 << 20, ..support::Setup::default() }.start().await;
    let words = format!("catch-up --size 64MiB --addr http://{} --duration 100ms", gateway.address);
    let output = bench(&words).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("429 rate_limited"), "{output:?}");
    assert!(!text(&output.stdout).contains("FAILED"), "a server may refuse: {output:?}");
    assert!(text(&output.stderr).contains("gave up"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn misuse_and_nobody_there() {
    for words in ["appends --record-size 1", "fan-out --batch 1001", "latency --rate 0"] {
        let output = bench(&format!("{words} --memory")).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1);
    }
    let output = bench("appends --addr http://127.0.0.1:1").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot connect"), "{output:?}");
    assert!(bench("--help").await.status.success());
}

/// Tells the process to stop, as Ctrl-C does.
async fn interrupt(id: u32) {
    assert!(Command::new("kill").args(["-s", "INT", &id.to_string()]).status().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_before_it_measures_it_cleans_up() {
    let temporary = tempfile::tempdir().unwrap();
    let is_empty = || std::fs::read_dir(temporary.path()).unwrap().next().is_none();
    // So many streams that it never comes to measuring them.
    let running = command("appends --streams 1000000").env("TMPDIR", temporary.path()).spawn().unwrap();
    while is_empty() {
        tokio::task::yield_now().await;
    }
    interrupt(running.id().unwrap()).await;
    let output = running.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("interrupted before"), "{output:?}");
    assert!(is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_it_is_interrupted_it_cleans_up() {
    let temporary = tempfile::tempdir().unwrap();
    let is_empty = || std::fs::read_dir(temporary.path()).unwrap().next().is_none();
    let mut running = command("catch-up --size 1GiB").env("TMPDIR", temporary.path()).spawn().unwrap();
    while is_empty() {
        tokio::task::yield_now().await;
    }
    while running.try_wait().unwrap().is_none() {
        // It may end in between.
        let id = running.id().map(|id| id.to_string()).unwrap_or_default();
        let _ = Command::new("kill").args(["-s", "INT", &id]).stderr(Stdio::null()).status().await.unwrap();
    }
    let output = running.wait_with_output().await.unwrap();
    assert!(output.status.code().is_some(), "no signal ended it: {output:?}");
    assert!(is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tokens_and_a_certificate_of_its_own() {
    let mut setup = support::Setup::tls();
    setup.server.auth = AuthConfig::On { root: Some(Secret::new("root-token").unwrap()) };
    let gateway = setup.start().await;
    let words = format!("latency --addr https://{} --duration 100ms --json", gateway.address);
    report(&bench(&format!("{words} --insecure --token root-token")).await);
    report(&command(&format!("{words} --insecure")).env("S2S_TOKEN", "root-token").output().await.unwrap());
    for (missing, said) in [("--insecure", "token"), ("--insecure --token another", "token"), ("", "certificate")] {
        let output = bench(&format!("{words} {missing}")).await;
        assert_eq!(output.status.code(), Some(1), "{missing:?}: {output:?}");
        assert!(output.stdout.is_empty() && text(&output.stderr).contains(said), "{missing:?}: {output:?}");
    }
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[tokio::test(flavor = "multi_thread")]
async fn a_basin_with_a_cipher_needs_a_key() {
    let gateway = Gateway::start().await;
    let addr = format!("http://{}", gateway.address);
    let made = Command::new(env!("CARGO_BIN_EXE_s2s-gateway"))
        .args(["basin", "create", "secret-basin", "--cipher", "aegis-256", "--addr", &addr])
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let words = format!("latency --basin secret-basin --addr {addr} --duration 100ms --json");
    let output = bench(&words).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "nothing was measured: {output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("secret-basin") && said.contains("aegis-256") && said.contains("--encryption-key"), "{said}");
    assert_eq!(report(&bench(&format!("{words} --encryption-key {KEY}")).await)["settings"]["cipher"], "aegis-256");
    let output = bench(&format!("{words} --encryption-key {KEY} --cipher aes-256-gcm")).await;
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("resource_already_exists"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_with_a_cipher() {
    // Without optimization the other cipher takes seconds for what some of them have in flight.
    let with_the_fast_one = SCENARIOS.map(|scenario| (scenario, "aegis-256"));
    let latency = ("latency", &["append to ack"][..], true, false);
    for ((words, latencies, appends, reads), cipher) in with_the_fast_one.into_iter().chain([(latency, "aes-256-gcm")])
    {
        let mut command = command(&format!("{words} --memory --cipher {cipher} --duration 100ms --json"));
        let output = command.env("S2S_ENCRYPTION_KEY", KEY).output().await.unwrap();
        check_scenario(words, &output, latencies, appends, reads);
        assert_eq!(report(&output)["settings"]["cipher"], cipher);
    }
}
