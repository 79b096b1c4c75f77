//! Ends while batches are moved: the batches of two streams lie between each other in segments, and one stream is trimmed
//! again and again, so that to give its space back the other's must be moved.

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use s2s_gateway::{
    client::Client,
    types::{Command, SeqNum},
};

use super::{
    End, PATIENCE,
    bulk::{Bulk, Inputs},
};

/// So much of the stream that stays is written in a round, in so many parts, with three times as much beside it.
const STAYS_MIB: usize = 1;
const PARTS: usize = 4;
/// After so many rounds it is let go of, too.
const KEPT_ROUNDS: usize = 8;

/// Ends, starts again and checks, `rounds` times.
pub async fn end_while_moving(end: &impl End, rounds: usize) {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // Where the rounds began that are kept.
    let mut kept = VecDeque::from([0]);
    for _ in 0..rounds {
        let mut gateway = end.start();
        let client = gateway.patient_client();
        let (mut stays, mut goes) = open(&client).await;
        stays.check(&client, kept[0]).await;
        fill(&client, &mut stays, &mut goes).await;
        kept.push_back(stays.acked);
        if kept.len() > KEPT_ROUNDS {
            kept.pop_front();
            trim(&client, &mut stays, kept[0]).await;
        }
        let to = goes.acked;
        trim(&client, &mut goes, to).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..100))).await;
        gateway.kill();
        end.after_kill(&mut random);
    }
    let mut gateway = end.start();
    let (stays, _) = open(&gateway.patient_client()).await;
    let live = (stays.acked - kept[0]) * Bulk::BODY as u64;
    wait_until_moved(&end.data(), live).await;
    stays.check(&gateway.patient_client(), kept[0]).await;
    println!("{rounds} times, {} records acknowledged, {} MiB of them kept", stays.acked, live >> 20);
    gateway.kill();
    end.audit();
}

async fn open(client: &Client) -> (Bulk, Bulk) {
    (Bulk::open(client, "stays", Inputs::Large).await, Bulk::open(client, "goes", Inputs::Large).await)
}

async fn fill(client: &Client, stays: &mut Bulk, goes: &mut Bulk) {
    for _ in 0..PARTS {
        goes.append(client, 3 * STAYS_MIB).await.unwrap();
        stays.append(client, STAYS_MIB).await.unwrap();
    }
}

async fn trim(client: &Client, bulk: &mut Bulk, to: u64) {
    bulk.command(client, Command::Trim(SeqNum::new(to))).await.unwrap();
}

/// Half of what is in segments may be dead, when nothing more is to be done, beside what is set aside for the current one.
async fn wait_until_moved(data: &Path, live: u64) {
    const SET_ASIDE: u64 = 16 << 20;
    let began = Instant::now();
    while size_of_segments(data) > 2 * live + SET_ASIDE + (1 << 20) {
        assert!(began.elapsed() < PATIENCE, "{} bytes for {live}", size_of_segments(data));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn size_of_segments(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("log/segments")).unwrap();
    // One may be deleted meanwhile.
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}
