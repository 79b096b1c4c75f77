//! Several gateways on one log: what their clients see is what one stream would show them, whoever is killed meanwhile.

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod chaos;
mod clients;
mod history;
mod links;
#[path = "../support/nats.rs"]
mod nats;
mod official;
mod process;
#[path = "../official_client/sdk.rs"]
#[allow(dead_code, reason = "these tests use their part of this")]
mod sdk;

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use s2s_gateway::{
    client::{Client, ClientConfig, RetryPolicy, StreamPath},
    types::{BasinName, StreamName},
};

use self::{
    chaos::{Misfortune, World},
    clients::{Gateways, Person, Run, read_from},
    history::{Moment, Operation, Outcome, What},
};

/// A client of the gateway at `url` that tries everything once.
fn client_of(url: &str) -> Client {
    let mut config = ClientConfig::new(url.parse().unwrap());
    config.retry = RetryPolicy { attempts: NonZeroU32::MIN, ..RetryPolicy::default() };
    Client::new(config).unwrap()
}

fn stream(name: &str) -> StreamPath {
    StreamPath { basin: BasinName::new("many-gateways").unwrap(), stream: StreamName::new(name).unwrap() }
}

async fn make(client: &Client, stream: &StreamPath) {
    client.ensure_basin(&stream.basin).await.unwrap();
    client.ensure_stream(stream).await.unwrap();
}

/// `people` clients do things to one stream while `goes_on` says so of what each did; what they all did.
async fn crowd(
    run: &Run,
    people: usize,
    random: &mut StdRng,
    goes_on: impl Fn(&[Operation]) -> bool + Clone + Send + 'static,
) -> Vec<Operation> {
    let crowd: Vec<_> = (0..people)
        .map(|number| {
            let person = Person::new(run.clone(), number, StdRng::seed_from_u64(random.random()));
            tokio::spawn(person.act(goes_on.clone()))
        })
        .collect();
    let mut history = Vec::new();
    for person in crowd {
        history.extend(person.await.unwrap());
    }
    history
}

/// A generator whose seed is printed, so that a failure can be had again.
fn seeded() -> StdRng {
    let seed = rand::rng().random();
    println!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gateway_is_linearizable() {
    let gateway = support::Gateway::start().await;
    let client = client_of(&format!("http://{}", gateway.address));
    let run = Run::new(Gateways::new(vec![client.clone()]), stream("alone"));
    make(&client, &run.stream).await;
    let history = crowd(&run, 6, &mut seeded(), |history| history.len() < 300).await;
    let records = read_from(&client, &run.stream, 0).await.unwrap();
    let happened = history::check(&history, &records).unwrap();
    assert!(happened > 300, "{happened} appends had an effect");
    gateway.stop().await;
}

/// What a stream holds, as every gateway says. What a held gateway had taken may still come in after the first was asked.
async fn records_of(world: &World, stream: &StreamPath) -> Vec<history::Sent> {
    let mut found: Vec<history::Sent> = Vec::new();
    for client in world.clients() {
        let records = support::peer::within(async {
            loop {
                match read_from(&client, stream, 0).await {
                    Ok(records) => return records,
                    // Not everything has found its leader again.
                    Err(error) => println!("not yet: {error}"),
                }
            }
        });
        let records = records.await;
        assert!(records.starts_with(&found), "two gateways show different streams");
        found = records;
    }
    found
}

/// The longest time in which no append of anyone was acknowledged.
fn longest_gap(history: &[Operation]) -> Duration {
    let acked = |operation: &Operation| match operation.what {
        What::Append { outcome: Outcome::Acked { .. }, .. } => operation.returned,
        _ => None,
    };
    let mut moments: Vec<Moment> = history.iter().filter_map(acked).collect();
    moments.sort_unstable();
    Duration::from_nanos(moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0))
}

/// Lets clients work on four streams for `lasts` while `kinds` of things happen, and checks what each was told.
async fn work_through(mut world: World, kinds: &'static [Misfortune], round: usize, lasts: Duration) -> World {
    let mut random = seeded();
    let until = Instant::now() + lasts;
    let mut crowds = Vec::new();
    for number in 0..4 {
        let run = Run::new(world.places(), stream(&format!("stream-{round}-{number}")));
        make(&world.clients()[0], &run.stream).await;
        let mut random = StdRng::seed_from_u64(random.random());
        let goes_on = move |_: &[Operation]| Instant::now() < until;
        crowds.push(tokio::spawn(async move { (crowd(&run, 4, &mut random, goes_on).await, run.stream) }));
    }
    let goes_on = Arc::new(AtomicBool::new(true));
    let suffering = tokio::task::spawn_blocking({
        let goes_on = goes_on.clone();
        move || {
            let suffered = world.suffer(kinds, &mut random, &goes_on);
            (world, suffered)
        }
    });
    let mut told = Vec::new();
    for crowd in crowds {
        told.push(crowd.await.unwrap());
    }
    goes_on.store(false, Ordering::Relaxed);
    let (world, suffered) = suffering.await.unwrap();
    println!("{suffered:?}");
    for (history, stream) in told {
        let records = records_of(&world, &stream).await;
        let happened =
            history::check(&history, &records).unwrap_or_else(|violation| panic!("{violation} in {stream:?}"));
        let unknown = history.iter().filter(|operation| operation.returned.is_none()).count();
        let (all, gap) = (history.len(), longest_gap(&history));
        println!("{:?}: {all} operations, {happened} appends, {unknown} unknown, longest gap {gap:?}", stream.stream);
        assert!(happened > 0, "nothing was appended");
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_are_linearizable() {
    let Some(world) = World::start(2) else { return };
    work_through(world, &[], 0, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_things_go_wrong() {
    let Some(world) = World::start(2) else { return };
    work_through(world, &Misfortune::ALL, 0, Duration::from_secs(15)).await;
}

/// An hour, or as many seconds as `S2S_FAULTS_SECONDS` says: `cargo test --release --test many_gateways -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes an hour"]
async fn nothing_is_lost_while_things_go_wrong_for_long() {
    let Some(mut world) = World::start(3) else { return };
    let seconds = std::env::var("S2S_FAULTS_SECONDS").map_or(3600, |said| said.parse().expect("a number of seconds"));
    let until = Instant::now() + Duration::from_secs(seconds);
    for round in 0.. {
        if Instant::now() >= until {
            break;
        }
        world = work_through(world, &Misfortune::ALL, round, Duration::from_secs(60)).await;
    }
}
