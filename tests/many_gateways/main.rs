//! Several gateways on one log: what their clients see is what one stream would show them, whoever is killed meanwhile.

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod history;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use s2s_gateway::{
    client::{Client, ClientConfig, RetryPolicy, StreamPath},
    types::{BasinName, StreamName},
};

use self::{
    clients::{Gateways, Person, Run, read_from},
    history::Operation,
};

/// A client of the gateway at `url` that tries everything once.
fn client_of(url: &str) -> Client {
    let mut config = ClientConfig::new(url.parse().unwrap());
    config.retry = RetryPolicy { attempts: std::num::NonZeroU32::MIN, ..RetryPolicy::default() };
    Client::new(config).unwrap()
}

fn stream(name: &str) -> StreamPath {
    StreamPath { basin: BasinName::new("many-gateways").unwrap(), stream: StreamName::new(name).unwrap() }
}

async fn make(client: &Client, stream: &StreamPath) {
    client.ensure_basin(&stream.basin).await.unwrap();
    client.ensure_stream(stream).await.unwrap();
}

/// `people` clients do `operations` things each to one stream; what they did.
async fn crowd(run: &Run, people: usize, operations: usize, random: &mut StdRng) -> Vec<Operation> {
    let crowd: Vec<_> = (0..people)
        .map(|number| {
            let person = Person::new(run.clone(), number, StdRng::seed_from_u64(random.random()));
            tokio::spawn(person.act(move |history| history.len() < operations))
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
    let history = crowd(&run, 6, 300, &mut seeded()).await;
    let records = read_from(&client, &run.stream, 0).await.unwrap();
    let happened = history::check(&history, &records).unwrap();
    assert!(happened > 300, "{happened} appends had an effect");
    gateway.stop().await;
}
