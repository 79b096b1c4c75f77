//! Readers that follow a stream through one gateway each, whatever becomes of it: in the end each has seen every record,
//! once and in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use s2s_gateway::{
    client::{Client, ReadOptions, ReadSession},
    types::{Compression, ReadBounds, ReadRequest, ReadStart, SeqNum},
    wire::ReadBatch,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    clients::{Run, sent},
    history::Sent,
    support::peer::within,
};

/// A reader looks this often whether it has seen all, and waits this long before it connects again.
const MOMENT: Duration = Duration::from_millis(50);

/// Two readers at every gateway: one takes records as they are, the other compressed.
pub struct Followers {
    /// Where they are to end, once that is known.
    end: Arc<AtomicU64>,
    followers: Vec<JoinHandle<Vec<Sent>>>,
}

impl Followers {
    pub fn start(run: &Run) -> Self {
        let end = Arc::new(AtomicU64::new(u64::MAX));
        let gateways = 0..run.gateways.all().len();
        let each = gateways.flat_map(|gateway| [(gateway, Compression::None), (gateway, Compression::Zstd)]);
        let followers = each
            .map(|(gateway, compression)| {
                let follower = Follower { run: run.clone(), gateway, compression, found: Vec::new() };
                tokio::spawn(follower.follow(end.clone()))
            })
            .collect();
        Self { end, followers }
    }

    /// Waits until all have come to the end of `records`, and compares.
    pub async fn saw(self, records: &[Sent]) {
        self.end.store(records.len() as u64, Ordering::Relaxed);
        for (number, follower) in self.followers.into_iter().enumerate() {
            let found = within(follower).await.unwrap();
            assert!(found == records, "follower {number} saw something else than what is there");
        }
    }
}

struct Follower {
    run: Run,
    gateway: usize,
    compression: Compression,
    found: Vec<Sent>,
}

impl Follower {
    /// Reads on, from where it was if it lost its gateway, until there is no more to come.
    async fn follow(mut self, end: Arc<AtomicU64>) -> Vec<Sent> {
        let is_over = |found: &Vec<Sent>| found.len() as u64 >= end.load(Ordering::Relaxed);
        while !is_over(&self.found) {
            let mut session = self.session(&self.run.gateways.at(self.gateway));
            while !is_over(&self.found) {
                match timeout(MOMENT, session.next_batch()).await {
                    Ok(Some(Ok(batch))) => self.take(batch),
                    // The gateway is gone, or its store is; it is asked again.
                    Ok(Some(Err(_)) | None) => break,
                    Err(_) => {}
                }
            }
            sleep(MOMENT).await;
        }
        self.found
    }

    fn session(&self, gateway: &Client) -> ReadSession {
        let start = ReadStart::SeqNum(SeqNum::new(self.found.len() as u64));
        let request = ReadRequest { start, bounds: ReadBounds::default(), wait: None, clamp: false };
        let options = ReadOptions { compression: self.compression, ..ReadOptions::default() };
        gateway.read_session(&self.run.stream, request, options)
    }

    fn take(&mut self, batch: ReadBatch) {
        for record in batch.records {
            assert_eq!(record.seq_num.get(), self.found.len() as u64, "each record comes once and in order");
            self.found.push(sent(&record));
        }
    }
}
