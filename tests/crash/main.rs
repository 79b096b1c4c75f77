//! The binary is ended at random moments, and what it acknowledged must be there when it is started again.
//!
//! A short round of each runs with the other tests; `cargo test --release --test crash -- --ignored` runs hundreds.

mod account;
mod process;

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::{account::Account, process::Gateway};

const STREAMS: usize = 4;

/// Fills, kills, starts again and checks, `rounds` times.
async fn kill_and_check(rounds: usize, seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut accounts: Vec<_> = (0..STREAMS).map(Account::new).collect();
    for round in 0..=rounds {
        let mut gateway = Gateway::start(directory.path(), &[]);
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
        for writer in writers {
            accounts.push(writer.await.unwrap());
        }
    }
    let acked: usize = accounts.iter().map(Account::acked).sum();
    println!("{rounds} kills, {acked} records acknowledged (seed {seed})");
    assert!(acked > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing() {
    kill_and_check(6, rand::rng().random()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_process_killed_hundreds_of_times_loses_nothing() {
    kill_and_check(300, rand::rng().random()).await;
}
