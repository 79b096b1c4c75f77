//! A disk that fills up for real: a file system of its own, of a few hundred MiB, in memory.
//!
//! Mounting takes rights that not everybody has: without them these tests say so and test nothing.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command as Process,
    sync::Arc,
    time::{Duration, Instant},
};

use s2s_gateway::{
    client::{Client, ClientError},
    types::{ApiError, Command, ErrorCode, SeqNum},
    wire::RemoteError,
};
use tempfile::TempDir;

use super::{
    PATIENCE,
    bulk::{Bulk, Inputs},
    process::Gateway,
};

/// Of which the gateway keeps 128 free.
const MIB: usize = 640;

/// A small file system, for as long as this is kept.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None, and a loud word, where it cannot be mounted.
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mounted = Process::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={MIB}m"), "tmpfs"])
            .arg(place.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(place)),
            Ok(output) => skipped(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => skipped(&error.to_string()),
        }
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Someone else's file, of so many MiB, or of all that is left.
    fn fill(&self, mib: usize) -> PathBuf {
        let path = self.0.path().join("of someone else");
        let mut file = File::create(&path).unwrap();
        let bytes = vec![7; 1 << 20];
        for _ in 0..mib {
            if file.write_all(&bytes).is_err() {
                break;
            }
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Process::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn skipped(why: &str) -> Option<SmallDisk> {
    // Past the test harness, which would swallow it.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED, a file system cannot be mounted here: {}", why.trim());
    None
}

/// Appends until the disk is full, which must be said as it is to be said.
async fn append_until_full(bulk: &mut Bulk, client: &Client) {
    let refused = bulk.append(client, 10 * MIB).await.expect_err("the disk is smaller than that");
    assert!(says_full(&refused), "{refused}");
}

fn says_full(error: &ClientError) -> bool {
    let full = ErrorCode::RateLimited;
    matches!(error, ClientError::Server { error: RemoteError::Known(ApiError::Coded { code, .. }), .. } if *code == full)
}

/// Asks until it is so.
fn eventually(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never was");
    }
}

/// Appends a little, again and again, until it is taken.
async fn append_again(bulk: &mut Bulk, client: &Client) -> Duration {
    let began = Instant::now();
    loop {
        match bulk.append(client, 1).await {
            Ok(()) => return began.elapsed(),
            Err(error) if began.elapsed() < PATIENCE => {
                assert!(says_full(&error), "{error}");
            }
            Err(error) => panic!("there is room again, and still: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_end_at_a_full_disk_and_go_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let gateway = Gateway::start(&disk.data(), &[]);
    let client = gateway.client();
    let (mut one, mut other) =
        (Bulk::open(&client, "one", Inputs::Large).await, Bulk::open(&client, "other", Inputs::Large).await);
    let others_file = disk.fill(150);
    other.append(&client, 1).await.unwrap();

    append_until_full(&mut one, &client).await;
    assert!(gateway.is_healthy(), "a full disk is not a failed one");
    one.check(&client, 0).await;
    other.check(&client, 0).await;
    println!("full with {} records", one.acked);

    fs::remove_file(&others_file).unwrap();
    println!("room made by someone else: taken again after {:.1?}", append_again(&mut other, &client).await);
    append_until_full(&mut one, &client).await;
    println!("full with {} records", one.acked);

    let to = one.acked;
    one.command(&client, Command::Trim(SeqNum::new(to))).await.expect("what makes room is taken");
    println!("room made by trimming: taken again after {:.1?}", append_again(&mut other, &client).await);
    append_until_full(&mut other, &client).await;
    one.check(&client, to).await;

    client.delete_stream(&other.stream).await.unwrap();
    println!("room made by deleting: taken again after {:.1?}", append_again(&mut one, &client).await);
    assert!(gateway.is_healthy());
    drop(gateway);
    let gateway = Gateway::start(&disk.data(), &[]);
    one.check(&gateway.patient_client(), to).await;
}

/// Where every segment has something that stays, that must be moved before there is room, and moving it takes some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_room_again_although_what_stays_lies_everywhere() {
    let Some(disk) = SmallDisk::mount() else { return };
    let gateway = Gateway::start(&disk.data(), &[]);
    let client = gateway.client();
    let (mut stays, mut goes) =
        (Bulk::open(&client, "stays", Inputs::Large).await, Bulk::open(&client, "goes", Inputs::Large).await);
    let refused = loop {
        if let Err(refused) = stays.append(&client, 2).await {
            break refused;
        }
        if let Err(refused) = goes.append(&client, 3).await {
            break refused;
        }
    };
    assert!(says_full(&refused), "{refused}");
    client.delete_stream(&goes.stream).await.unwrap();
    let began = Instant::now();
    for _ in 0..MIB / 5 {
        append_again(&mut stays, &client).await;
    }
    println!("a fifth of the disk was taken again after {:.1?}", began.elapsed());
    assert!(gateway.is_healthy());
    stays.check(&gateway.patient_client(), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_someone_else_fills_to_the_last_byte_is_not_written_to() {
    let Some(disk) = SmallDisk::mount() else { return };
    let gateway = Gateway::start(&disk.data(), &[]);
    let client = gateway.client();
    let mut bulk = Bulk::open(&client, "bulk", Inputs::Large).await;
    bulk.append(&client, 50).await.unwrap();
    // Records that are being moved out of the journal need room, and there is nobody to be told if there is none.
    eventually(|| gateway.has_moved_records());
    let others_file = disk.fill(MIB);
    let began = Instant::now();
    // Longer than the gateway leaves its own rows unwritten.
    while began.elapsed() < Duration::from_secs(3) {
        append_until_full(&mut bulk, &client).await;
        assert!(gateway.is_healthy(), "{}", gateway.health());
    }
    bulk.check(&client, 0).await;
    fs::remove_file(others_file).unwrap();
    println!("taken again after {:.1?}", append_again(&mut bulk, &client).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_someone_else_fills_during_appends_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let gateway = Gateway::start(&disk.data(), &[]);
    let client = gateway.client();
    let mut bulk = Bulk::open(&client, "bulk", Inputs::Large).await;
    bulk.append(&client, 50).await.unwrap();
    let disk = Arc::new(disk);
    let filling = {
        let disk = disk.clone();
        tokio::task::spawn_blocking(move || disk.fill(MIB))
    };
    let refused = bulk.append(&client, 10 * MIB).await.expect_err("the disk is full");
    println!("{} records, then: {refused}", bulk.acked);
    fs::remove_file(filling.await.unwrap()).unwrap();
    bulk.check(&client, 0).await;
    let healthy = gateway.is_healthy();
    drop(gateway);
    let gateway = Gateway::start(&disk.data(), &[]);
    bulk.check(&gateway.patient_client(), 0).await;
    println!("healthy before the restart: {healthy}");
}
