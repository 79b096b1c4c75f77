//! The binary is ended at random moments, and what it acknowledged must be there when it is started again.
//!
//! * Killed: whatever it wrote is there, however it was cut off.
//! * Without power: only what it synced is there, and of the rest perhaps some.
//! * While batches are moved from segment to segment to give space back: the same.
//! * On a failing disk: nothing is acknowledged that a later start does not find.
//! * On a full disk: appends are refused, and taken again when there is room.
//! * With much data: it starts as fast as with little.
//!
//! A short round of each runs with the other tests; `cargo test --release --test crash -- --ignored` runs hundreds, or
//! `CRASH_ROUNDS` of each.

mod account;
#[cfg(target_os = "linux")]
mod bulk;
#[cfg(target_os = "linux")]
mod failing;
#[cfg(target_os = "linux")]
mod full;
#[cfg(target_os = "linux")]
mod moving;
#[cfg(target_os = "linux")]
mod power;
mod process;
#[cfg(target_os = "linux")]
mod recovery;
#[path = "../support/process.rs"]
mod serving;

use std::{path::PathBuf, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use s2s_gateway::{store::DiskStore, types::MemoryShares};
use tokio::{sync::watch, time::timeout};

use self::{account::Account, process::Gateway};

const STREAMS: usize = 4;
/// How long anything may take before a test gives up on it: longer than a slow machine with much to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many rounds a long test runs: so many, or as many as the environment says.
fn many(rounds: usize) -> usize {
    std::env::var("CRASH_ROUNDS").map_or(rounds, |value| value.parse().expect("a number"))
}

/// How a process ends.
trait End {
    /// Starts one.
    fn start(&self) -> Gateway;

    /// Does to the directory what happens to it after the process was killed.
    fn after_kill(&self, random: &mut StdRng);

    /// The directory.
    fn data(&self) -> PathBuf;

    /// Looks at everything that is stored, with nobody using it.
    fn audit(&self) {
        let store = DiskStore::open(&self.data(), MemoryShares::of(64 << 20)).unwrap();
        println!("{:?}", store.audit().unwrap());
    }
}

/// Fills, ends, starts again and checks, `rounds` times.
async fn end_and_check(end: &impl End, rounds: usize) {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut accounts: Vec<_> = (0..STREAMS).map(Account::new).collect();
    for round in 0..=rounds {
        let mut gateway = end.start();
        let (client, patient) = (gateway.client(), gateway.patient_client());
        for account in &mut accounts {
            account.check(&patient).await;
        }
        if round == rounds {
            gateway.kill();
            break;
        }
        let (acks, mut acked) = watch::channel(());
        let writers: Vec<_> = accounts
            .drain(..)
            .map(|account| account.fill(client.clone(), StdRng::seed_from_u64(random.random()), acks.clone()))
            .map(tokio::spawn)
            .collect();
        drop(acks);
        // However slow it is, most rounds have something to lose.
        if random.random_bool(0.7) {
            // Or all writers have ended.
            let _ = timeout(PATIENCE, acked.changed()).await.expect("something is acknowledged");
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(5..200))).await;
        gateway.kill();
        end.after_kill(&mut random);
        for writer in writers {
            accounts.push(writer.await.unwrap());
        }
    }
    let acked: usize = accounts.iter().map(Account::acked).sum();
    println!("{rounds} times, {acked} records acknowledged");
    assert!(acked > 0);
    end.audit();
}

/// Killed, on a disk that keeps everything.
struct Killed(tempfile::TempDir);

impl End for Killed {
    fn start(&self) -> Gateway {
        Gateway::start(self.0.path(), &[])
    }

    fn after_kill(&self, _random: &mut StdRng) {}

    fn data(&self) -> PathBuf {
        self.0.path().into()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing() {
    end_and_check(&Killed(tempfile::tempdir().unwrap()), 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_process_killed_hundreds_of_times_loses_nothing() {
    end_and_check(&Killed(tempfile::tempdir().unwrap()), many(300)).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_while_batches_are_moved_loses_nothing() {
    moving::end_while_moving(&Killed(tempfile::tempdir().unwrap()), 4).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_process_killed_hundreds_of_times_while_batches_are_moved_loses_nothing() {
    moving::end_while_moving(&Killed(tempfile::tempdir().unwrap()), many(200)).await;
}

#[cfg(target_os = "linux")]
mod without_power {
    use super::{
        bulk::{Bulk, Inputs},
        moving::end_while_moving,
        power::ForgetfulDisk,
        *,
    };

    /// Without power, on a disk that forgets what was not synced; what more is said to the library.
    struct PowerLost(ForgetfulDisk, &'static [(&'static str, &'static str)]);

    impl End for PowerLost {
        fn start(&self) -> Gateway {
            let variables = self.0.variables();
            let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let variables: Vec<_> = variables.chain(self.1.iter().copied()).collect();
            Gateway::start(&self.0.data(), &variables)
        }

        fn after_kill(&self, random: &mut StdRng) {
            self.0.cut(random);
        }

        fn data(&self) -> PathBuf {
            self.0.data()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lost_power_supply_loses_nothing() {
        end_and_check(&PowerLost(ForgetfulDisk::new(), &[]), 6).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes"]
    async fn power_lost_hundreds_of_times_loses_nothing() {
        end_and_check(&PowerLost(ForgetfulDisk::new(), &[]), many(200)).await;
    }

    /// A disk on which the name of a new file is durable only when its directory was synced.
    const STRICT: &[(&str, &str)] = &[("SHIM_STRICT", "1")];

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn names_are_as_durable_as_their_files() {
        let end = PowerLost(ForgetfulDisk::new(), STRICT);
        for round in 1..=3 {
            let mut gateway = end.start();
            let mut small = Bulk::open(&gateway.patient_client(), "small", Inputs::Small).await;
            let mut large = Bulk::open(&gateway.patient_client(), "large", Inputs::Large).await;
            // Enough for records to have been moved out of the journal, and for the first of these to be gone.
            small.append(&gateway.patient_client(), 120).await.unwrap();
            large.append(&gateway.patient_client(), 20).await.unwrap();
            gateway.kill();
            end.after_kill(&mut StdRng::seed_from_u64(round));
            let gateway = end.start();
            small.check(&gateway.patient_client(), 0).await;
            large.check(&gateway.patient_client(), 0).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes"]
    async fn power_lost_hundreds_of_times_on_a_strict_disk_loses_nothing() {
        end_and_check(&PowerLost(ForgetfulDisk::new(), STRICT), many(200)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn power_lost_while_batches_are_moved_loses_nothing() {
        end_while_moving(&PowerLost(ForgetfulDisk::new(), &[]), 4).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes"]
    async fn power_lost_hundreds_of_times_while_batches_are_moved_loses_nothing() {
        end_while_moving(&PowerLost(ForgetfulDisk::new(), &[]), many(100)).await;
        end_while_moving(&PowerLost(ForgetfulDisk::new(), STRICT), many(100)).await;
    }

    /// What is noticed when syncs of files with `part` in their paths do nothing.
    async fn noticed_without_syncs_of(forget: &'static [(&'static str, &'static str)]) -> String {
        let forgotten = tokio::spawn(end_and_check_without_power(forget));
        let noticed = forgotten.await.expect_err("something was never synced, and nothing was missed").into_panic();
        noticed.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    async fn end_and_check_without_power(variables: &'static [(&'static str, &'static str)]) {
        end_and_check(&PowerLost(ForgetfulDisk::new(), variables), 20).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_missing_sync_would_be_noticed() {
        let what = noticed_without_syncs_of(&[("SHIM_FORGET", ".jnl")]).await;
        // Either the account finds less than was acknowledged, or the gateway itself sees that its journal is torn.
        assert!(what.contains("acknowledged, the tail is") || what.contains("it did not start"), "{what}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_missing_sync_of_large_batches_would_be_noticed() {
        let what = noticed_without_syncs_of(&[("SHIM_FORGET", "/segments/")]).await;
        // What was acknowledged is pointed to, and is not there.
        assert!(what.to_lowercase().contains("damaged"), "{what}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_missing_sync_of_the_names_of_segments_would_be_noticed() {
        let what = noticed_without_syncs_of(&[("SHIM_STRICT", "1"), ("SHIM_FORGET", "/segments$")]).await;
        assert!(what.to_lowercase().contains("damaged"), "{what}");
    }
}
