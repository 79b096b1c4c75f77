//! Readers that follow a stream through one gateway each, whatever becomes of it: in the end each has seen every record,
//! once and in order.

use std::time::Duration;

use s2s_gateway::{
    client::{Client, ReadOptions, ReadSession},
    types::{Compression, ReadBounds, ReadRequest, ReadStart, SeqNum},
    wire::ReadBatch,
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{
    clients::{Run, sent},
    history::Sent,
    support::peer::within,
};

/// A reader that lost its gateway waits this long before it asks again, so that it leaves the others something of the
/// machine.
const PAUSE: Duration = Duration::from_millis(50);

/// Two readers at every gateway: one takes records as they are, the other compressed.
pub struct Followers {
    /// Where they are to end, once that is known.
    end: watch::Sender<u64>,
    followers: Vec<JoinHandle<Vec<Sent>>>,
}

impl Followers {
    pub fn start(run: &Run) -> Self {
        let (end, known) = watch::channel(u64::MAX);
        let gateways = 0..run.gateways.all().len();
        let each = gateways.flat_map(|gateway| [(gateway, Compression::None), (gateway, Compression::Zstd)]);
        let followers = each
            .map(|(gateway, compression)| {
                let follower = Follower { run: run.clone(), gateway, compression, found: Vec::new() };
                tokio::spawn(follower.follow(known.clone()))
            })
            .collect();
        Self { end, followers }
    }

    /// Waits until all have come to the end of `records`, and compares.
    pub async fn saw(self, records: &[Sent]) {
        self.end.send_replace(records.len() as u64);
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
    async fn follow(mut self, mut end: watch::Receiver<u64>) -> Vec<Sent> {
        while self.is_before(*end.borrow_and_update()) {
            let mut session = self.session(&self.run.gateways.at(self.gateway));
            while self.is_before(*end.borrow_and_update()) {
                tokio::select! {
                    batch = session.next_batch() => match batch {
                        Some(Ok(batch)) => self.take(batch),
                        // The gateway is gone, or its store is.
                        Some(Err(_)) | None => {
                            sleep(PAUSE).await;
                            break;
                        }
                    },
                    Ok(()) = end.changed() => {}
                }
            }
        }
        self.found
    }

    fn is_before(&self, end: u64) -> bool {
        (self.found.len() as u64) < end
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
