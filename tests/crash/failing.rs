//! A failing disk: calls that fail from some moment on, with the library of `power`.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{account::Account, power::ForgetfulDisk, process::Gateway};

/// `call` on files whose path has `part` fails with `error` from the `after`th on; then the disk is repaired.
async fn fail_and_check(call: &str, error: i32, after: u64, part: &str) {
    let disk = ForgetfulDisk::new();
    let mut account = Account::new(0);
    let fault = format!("{call},{error},{after},{part}");
    let variables = disk.variables();
    let mut variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.push(("SHIM_FAIL", &fault));
    let mut gateway = Gateway::start(&disk.data(), &variables);
    let client = gateway.client();
    account.check(&client).await;
    let random = StdRng::seed_from_u64(rand::rng().random());
    let account = tokio::time::timeout(Duration::from_secs(60), account.fill(client, random)).await;
    let mut account = account.expect("appends end when the disk fails");
    assert!(!gateway.is_healthy().await, "health says that the disk failed");
    gateway.kill();
    disk.cut(&mut StdRng::seed_from_u64(rand::rng().random()));
    variables.pop();
    let gateway = Gateway::start(&disk.data(), &variables);
    account.check(&gateway.client()).await;
    println!("{fault}: {} records acknowledged before", account.acked());
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_write_nothing_is_acknowledged() {
    fail_and_check("write", ENOSPC, 120, ".jnl").await;
    fail_and_check("write", EIO, 60, ".jnl").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    fail_and_check("sync", EIO, 40, ".jnl").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_disk_that_fails_at_any_call_loses_nothing() {
    let mut random = StdRng::seed_from_u64(rand::rng().random());
    for _ in 0..60 {
        let after = random.random_range(20..400);
        let error = if random.random_bool(0.5) { EIO } else { ENOSPC };
        fail_and_check(if random.random_bool(0.5) { "write" } else { "sync" }, error, after, ".jnl").await;
    }
}
