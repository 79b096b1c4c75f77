//! A failing disk: calls that fail from some moment on, with the library of `power`.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use tokio::sync::watch;

use super::{
    PATIENCE,
    account::Account,
    bulk::{Bulk, Inputs},
    power::ForgetfulDisk,
    process::Gateway,
};

/// How long after a failure in the background health may say that all is well. A second, if nothing else is to be done.
const SOON: Duration = Duration::from_secs(10);

/// `call` on files whose path has `part` fails with `error` from the `after`th on; then the disk is repaired.
async fn fail_and_check(call: &str, error: i32, after: u64, part: &str) {
    let disk = ForgetfulDisk::new();
    let mut account = Account::new(0);
    let fault = format!("{call},{error},{after},{part}");
    let variables = disk.variables();
    let mut variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.push(("SHIM_FAIL", &fault));
    let mut gateway = Gateway::start(&disk.data(), &variables);
    account.check(&gateway.patient_client()).await;
    let random = StdRng::seed_from_u64(rand::rng().random());
    let filled = account.fill(gateway.client(), random, watch::channel(()).0);
    let account = tokio::time::timeout(PATIENCE, filled).await;
    let mut account = account.expect("appends end when the disk fails");
    assert!(!gateway.is_healthy(), "health says that the disk failed");
    gateway.kill();
    disk.cut(&mut StdRng::seed_from_u64(rand::rng().random()));
    variables.pop();
    let gateway = Gateway::start(&disk.data(), &variables);
    account.check(&gateway.patient_client()).await;
    println!("{fault}: {} records acknowledged before", account.acked());
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_write_nothing_is_acknowledged() {
    fail_and_check("write", ENOSPC, 120, ".jnl").await;
    fail_and_check("write", EIO, 60, ".jnl").await;
    fail_and_check("write", ENOSPC, 5, "/segments/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    fail_and_check("sync", EIO, 40, ".jnl").await;
    fail_and_check("sync", EIO, 3, "/segments/").await;
    // Of the directory, without which a segment has no name; opening it syncs it twice.
    fail_and_check("sync", EIO, 3, "/segments$").await;
}

/// What is done behind the writer's back fails: records are moved from the journal to their files, and files are merged.
/// Health must say so soon, also if nobody appends any more, and nothing may be lost.
async fn fail_in_the_background(call: &str, error: i32, after: u64, part: &str, mib: usize) {
    let disk = ForgetfulDisk::new();
    let variables = disk.variables();
    let mut variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    // Once without, because making the database writes files as well.
    let gateway = Gateway::start(&disk.data(), &variables);
    let mut bulk = Bulk::open(&gateway.patient_client(), "bulk", Inputs::Small).await;
    drop(gateway);
    let fault = format!("{call},{error},{after},{part}");
    variables.push(("SHIM_FAIL", &fault));
    let gateway = Gateway::start(&disk.data(), &variables);
    let failed = bulk.append(&gateway.client(), mib).await.err();
    let began = Instant::now();
    while gateway.is_healthy() {
        assert!(began.elapsed() < SOON, "{fault}: health does not say that the disk failed");
    }
    let health = gateway.health();
    let health = health.lines().last().unwrap_or_default();
    println!("{fault}: append said {failed:?}, health {:.1?} later: {health}", began.elapsed());
    bulk.check(&gateway.patient_client(), 0).await;
    drop(gateway);
    disk.cut(&mut StdRng::seed_from_u64(rand::rng().random()));
    variables.pop();
    let gateway = Gateway::start(&disk.data(), &variables);
    bulk.check(&gateway.patient_client(), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_in_the_background_is_told_soon() {
    // Just as much as is moved at once, or the failure is seen by the append that follows it.
    let mib = 33;
    for part in ["/tables/", "/blobs/"] {
        fail_in_the_background("write", ENOSPC, 1, part, mib).await;
        fail_in_the_background("sync", EIO, 1, part, mib).await;
    }
    // The list of the files that there are.
    fail_in_the_background("sync", EIO, 1, "/current", mib).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn what_fails_in_the_background_at_any_call_loses_nothing() {
    let mut random = StdRng::seed_from_u64(rand::rng().random());
    for _ in 0..super::many(30) {
        let call = if random.random_bool(0.5) { "write" } else { "sync" };
        let error = if random.random_bool(0.5) { EIO } else { ENOSPC };
        let part = ["/tables/", "/blobs/", "/current"][random.random_range(0..3)];
        // The list of files is written anew under another name.
        let call = if part == "/current" { "sync" } else { call };
        // So much is moved about twelve times, and merged in between.
        fail_in_the_background(call, error, random.random_range(1..10), part, 400).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_disk_that_fails_at_any_call_loses_nothing() {
    let mut random = StdRng::seed_from_u64(rand::rng().random());
    for _ in 0..super::many(60) {
        let after = random.random_range(20..400);
        let error = if random.random_bool(0.5) { EIO } else { ENOSPC };
        let call = if random.random_bool(0.5) { "write" } else { "sync" };
        match random.random_bool(0.5) {
            true => fail_and_check(call, error, after, ".jnl").await,
            // One in twelve or so.
            false => fail_and_check(call, error, 1 + after / 12, "/segments/").await,
        }
    }
}
