//! Gateways that are broken on purpose, so that it is seen that the check of histories finds what they do.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use s2s_gateway::{
    client::{AppendOptions, Client, Conditions, InputBuilder, StreamPath},
    store::{
        Commit, CommitSink, Listening, MetaStore, NatsConfig, NatsStore, OpenLog, Sharing, Store, StoreError,
        StoreFuture, StreamLog, SyncCheck,
    },
    types::{Batch, Compression, Head, Position, SeqNum, StreamId, Timestamp},
};
use tokio::sync::mpsc;

use crate::{
    client_of,
    clients::{Gateways, Run, read_from},
    crowd,
    history::{self, Violation},
    make,
    nats::Cluster,
    seeded, stream,
    support::{Gateway, Setup},
};

/// What is wrong with a store.
#[derive(Clone)]
enum Defect {
    /// Nothing.
    None,
    /// It takes what it knows of a head for the newest, and asks nobody.
    StaleTails,
    /// It takes every tenth publication for lost and makes it again, on whatever condition holds by then.
    BlindPublications(mpsc::UnboundedSender<Batch>),
}

struct BrokenStore {
    store: NatsStore,
    defect: Defect,
}

struct BrokenLog {
    log: Arc<dyn StreamLog>,
    head: Head,
    defect: Defect,
    appends: AtomicUsize,
}

impl Store for BrokenStore {
    fn open(&self, stream: StreamId, sink: Arc<dyn CommitSink>) -> StoreFuture<'_, OpenLog> {
        Box::pin(async move {
            let OpenLog { log, head } = self.store.open(stream, sink).await?;
            let log = BrokenLog { log, head, defect: self.defect.clone(), appends: AtomicUsize::new(0) };
            Ok(OpenLog { log: Arc::new(log), head })
        })
    }

    fn delete(&self, stream: StreamId) -> StoreFuture<'_, ()> {
        self.store.delete(stream)
    }

    fn meta(&self) -> &dyn MetaStore {
        self.store.meta()
    }

    fn sharing(&self) -> Sharing {
        self.store.sharing()
    }

    fn health(&self) -> Result<(), StoreError> {
        self.store.health()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.store.close()
    }
}

impl StreamLog for BrokenLog {
    fn append(&self, batch: Batch, head: Head) -> Result<Commit, StoreError> {
        if let Defect::BlindPublications(again) = &self.defect
            && self.appends.fetch_add(1, Ordering::Relaxed) % 10 == 9
        {
            // Nobody listens any more when the test is over.
            let _ = again.send(batch.clone());
        }
        self.log.append(batch, head)
    }

    fn read(&self, from: SeqNum, budget: usize) -> StoreFuture<'_, Vec<Batch>> {
        self.log.read(from, budget)
    }

    fn seek(&self, from: SeqNum, timestamp: Timestamp) -> StoreFuture<'_, Option<Position>> {
        self.log.seek(from, timestamp)
    }

    fn trim(&self, to: SeqNum) -> StoreFuture<'_, ()> {
        self.log.trim(to)
    }

    fn refresh(&self) -> StoreFuture<'_, Head> {
        match self.defect {
            Defect::StaleTails => Box::pin(async { Ok(self.head) }),
            _ => self.log.refresh(),
        }
    }

    fn listen(&self, listening: Listening) {
        self.log.listen(listening);
    }

    fn resume_at(&self, tail: SeqNum) {
        self.log.resume_at(tail);
    }

    fn stored(&self) -> u64 {
        self.log.stored()
    }
}

/// A gateway of this process in front of `cluster`.
async fn gateway(cluster: &Cluster, defect: Defect) -> Gateway {
    let config = NatsConfig {
        servers: cluster.urls(),
        credentials: None,
        ca: None,
        prefix: "broken".into(),
        shards: Some(2),
        replicas: Some(cluster.len()),
        sync: SyncCheck::Ask(cluster.monitoring_urls()),
    };
    let store = NatsStore::connect(&config).await.unwrap();
    Setup::default().start_over(Arc::new(BrokenStore { store, defect })).await
}

/// What the check says of clients of a good gateway and one with `defect`.
async fn check_with(cluster: &Cluster, defect: Defect) -> Result<usize, Violation> {
    let (good, bad) = (gateway(cluster, Defect::None).await, gateway(cluster, defect).await);
    let clients = [&good, &bad].map(|gateway| client_of(&format!("http://{}", gateway.address)));
    let run = Run::new(Gateways::new(clients.to_vec()), stream("broken"));
    make(&clients[0], &run.stream).await;
    let history = crowd(&run, 4, &mut seeded(), |history| history.len() < 100).await;
    let records = read_from(&clients[0], &run.stream, 0).await.unwrap();
    bad.stop().await;
    good.stop().await;
    history::check(&history, &records)
}

/// Puts batches into the stream once more.
async fn publish_again(mut batches: mpsc::UnboundedReceiver<Batch>, client: Client, stream: StreamPath) {
    while let Some(batch) = batches.recv().await {
        let mut input = InputBuilder::new();
        for record in batch.whole().records() {
            input.push(None, record.fields.headers(), record.fields.body());
        }
        let mut session = client.append_session(&stream, AppendOptions::default());
        session.submit(input.build(Conditions::default(), Compression::None).unwrap()).ok().unwrap();
        // A race that it loses makes it no better.
        let _ = session.next_ack().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_tail_is_found() {
    let Some(cluster) = Cluster::start_single() else { return };
    let found = check_with(&cluster, Defect::StaleTails).await;
    let is_found = matches!(found, Err(Violation::OutOfTime { .. } | Violation::Misread(_) | Violation::Untrue(_)));
    assert!(is_found, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blind_second_publication_is_found() {
    let Some(cluster) = Cluster::start_single() else { return };
    let (again, batches) = mpsc::unbounded_channel();
    let accomplice = gateway(&cluster, Defect::None).await;
    let client = client_of(&format!("http://{}", accomplice.address));
    let publishing = tokio::spawn(publish_again(batches, client, stream("broken")));
    let found = check_with(&cluster, Defect::BlindPublications(again)).await;
    publishing.await.unwrap();
    accomplice.stop().await;
    // The second one may even come first: then the one that was acknowledged is not where it was said to be.
    assert!(matches!(found, Err(Violation::Torn(_) | Violation::Lost(_))), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_defect_nothing_is_found() {
    let Some(cluster) = Cluster::start_single() else { return };
    let found = check_with(&cluster, Defect::None).await;
    assert!(found.is_ok(), "{found:?}");
}
