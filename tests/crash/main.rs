//! The binary is ended at random moments, and what it acknowledged must be there when it is started again.
//!
//! * Killed: whatever it wrote is there, however it was cut off.
//! * Without power: only what it synced is there, and of the rest perhaps some.
//! * On a failing disk: nothing is acknowledged that a later start does not find.
//! * On a full disk: appends are refused, and taken again when there is room.
//! * With much data: it starts as fast as with little.
//!
//! A short round of each runs with the other tests; `cargo test --release --test crash -- --ignored` runs hundreds.

mod account;
#[cfg(target_os = "linux")]
mod bulk;
#[cfg(target_os = "linux")]
mod failing;
#[cfg(target_os = "linux")]
mod full;
#[cfg(target_os = "linux")]
mod power;
mod process;
#[cfg(target_os = "linux")]
mod recovery;
#[path = "../support/process.rs"]
mod serving;

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::{account::Account, process::Gateway};

const STREAMS: usize = 4;

/// How a process ends.
trait End {
    /// Starts one.
    fn start(&self) -> Gateway;

    /// Does to the directory what happens to it after the process was killed.
    fn after_kill(&self, random: &mut StdRng);
}

/// Fills, ends, starts again and checks, `rounds` times.
async fn end_and_check(end: &impl End, rounds: usize) {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut accounts: Vec<_> = (0..STREAMS).map(Account::new).collect();
    for round in 0..=rounds {
        let mut gateway = end.start();
        let client = gateway.client();
        for account in &mut accounts {
            account.check(&client).await;
        }
        if round == rounds {
            break;
        }
        let writers: Vec<_> = accounts
            .drain(..)
            .map(|account| tokio::spawn(account.fill(client.clone(), StdRng::seed_from_u64(random.random()))))
            .collect();
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
}

/// Killed, on a disk that keeps everything.
struct Killed(tempfile::TempDir);

impl End for Killed {
    fn start(&self) -> Gateway {
        Gateway::start(self.0.path(), &[])
    }

    fn after_kill(&self, _random: &mut StdRng) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing() {
    end_and_check(&Killed(tempfile::tempdir().unwrap()), 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_process_killed_hundreds_of_times_loses_nothing() {
    end_and_check(&Killed(tempfile::tempdir().unwrap()), 300).await;
}

#[cfg(target_os = "linux")]
mod without_power {
    use super::{bulk::Bulk, power::ForgetfulDisk, *};

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
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lost_power_supply_loses_nothing() {
        end_and_check(&PowerLost(ForgetfulDisk::new(), &[]), 6).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes"]
    async fn power_lost_hundreds_of_times_loses_nothing() {
        end_and_check(&PowerLost(ForgetfulDisk::new(), &[]), 200).await;
    }

    /// A disk on which the name of a new file is durable only when its directory was synced.
    const STRICT: &[(&str, &str)] = &[("SHIM_STRICT", "1")];

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn names_are_as_durable_as_their_files() {
        let end = PowerLost(ForgetfulDisk::new(), STRICT);
        for round in 1..=3 {
            let mut gateway = end.start();
            let mut bulk = Bulk::open(&gateway.client(), "bulk").await;
            // Enough for records to have been moved out of the journal, and for the first of these to be gone.
            bulk.append(&gateway.client(), 120).await.unwrap();
            gateway.kill();
            end.after_kill(&mut StdRng::seed_from_u64(round));
            bulk.check(&end.start().client(), 0).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "takes minutes"]
    async fn power_lost_hundreds_of_times_on_a_strict_disk_loses_nothing() {
        end_and_check(&PowerLost(ForgetfulDisk::new(), STRICT), 200).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_missing_sync_would_be_noticed() {
        let forgotten = tokio::spawn(async {
            end_and_check(&PowerLost(ForgetfulDisk::new(), &[("SHIM_FORGET", ".jnl")]), 20).await;
        });
        let noticed = forgotten.await.expect_err("the journal was never synced, and nothing was missed").into_panic();
        let what = noticed.downcast_ref::<String>().map_or("", String::as_str);
        // Either the account finds less than was acknowledged, or the gateway itself sees that its journal is torn.
        assert!(what.contains("acknowledged, the tail is") || what.contains("it did not start"), "{what}");
    }
}
