//! Answers that are lost, servers that stop or die, and what a gateway makes of it.

use std::{collections::HashSet, net::SocketAddr, thread, time::Duration};

use super::{NatsConfig, cluster, cluster::Cluster, config, connect, count, gateway::Gateway, proxy::Proxy, runtime};
use crate::{
    store::{NatsStore, Store, nats::engine::Engine},
    types::{Head, SeqNum, StreamId},
};

const STREAM: u128 = 4;

/// A store whose connection a test can cut and hold up, and one beside it that is not disturbed.
fn behind_a_proxy(cluster: &Cluster) -> (NatsStore, NatsStore, Proxy) {
    let config = config(cluster);
    let undisturbed = connect(&config);
    let target: SocketAddr = cluster.address(0);
    let proxy = runtime().block_on(Proxy::to(target));
    let servers = vec![format!("nats://{}", proxy.address)];
    (connect(&NatsConfig { servers, ..config }), undisturbed, proxy)
}

#[test]
fn a_commit_whose_acknowledgement_was_lost_is_there_once() {
    let Some(cluster) = cluster() else { return };
    let (store, other, proxy) = behind_a_proxy(cluster);
    let gateway = Gateway::open(&store, STREAM);
    gateway.commit(&["first"]);
    let observer = Gateway::open(&other, STREAM);
    proxy.hold_replies();
    gateway.append(&["second"]).unwrap();
    // It has landed, and only its writer does not know.
    while observer.refresh().unwrap().tail.seq_num < SeqNum::new(2) {}
    assert_eq!(gateway.state().durable.tail.seq_num, SeqNum::new(1));
    proxy.cut();
    proxy.pass_replies();
    gateway.settle();
    gateway.commit(&["third"]);
    assert_eq!(gateway.read(0).unwrap(), ["first", "second", "third"]);
    assert_eq!(gateway.state().overtaken, 0, "it knew its own");
    assert!(count(&store, "s2s_nats_ambiguous_total") >= 1);
}

#[test]
fn a_commit_whose_acknowledgement_was_lost_is_told_from_another_gateways() {
    let Some(cluster) = cluster() else { return };
    let (store, other, proxy) = behind_a_proxy(cluster);
    let gateway = Gateway::open(&store, STREAM);
    gateway.commit(&["first"]);
    let rival = Gateway::open(&other, STREAM);
    proxy.hold_replies();
    // The same records at the same place: only the one who wrote them knows whose they are.
    rival.commit(&["same"]);
    gateway.append(&["same"]).unwrap();
    proxy.cut();
    proxy.pass_replies();
    gateway.settle();
    assert_eq!(gateway.state().acked.last(), Some(&(SeqNum::new(2), "same".to_owned())));
    assert_eq!(gateway.read(0).unwrap(), ["first", "same", "same"]);
}

/// The node that leads the shard of the stream.
fn leader(cluster: &Cluster, engine: &Engine) -> Option<usize> {
    cluster.leader_of(&engine.names.subject(StreamId::new(STREAM)).stream)
}

/// Appends one record after the other while `disturb` does its worst; everything must be there in the end, once.
fn write_while(cluster: &mut Cluster, disturb: impl FnOnce(&mut Cluster, usize)) {
    let config = config(cluster);
    let stores = [connect(&config), connect(&config)];
    let gateways = [("a", Gateway::open(&stores[0], STREAM)), ("b", Gateway::open(&stores[1], STREAM))];
    gateways.iter().for_each(|(_, gateway)| gateway.commit(&["begin"]));
    let leader = leader(cluster, &stores[0].shared.engine).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for (name, gateway) in &gateways {
            let done = &done;
            scope.spawn(move || {
                let mut written = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    gateway.commit(&[&format!("{name}{written}")]);
                    written += 1;
                }
            });
        }
        disturb(cluster, leader);
        // They write again.
        let tails = gateways.each_ref().map(|(_, gateway)| gateway.state().acked.len());
        for ((_, gateway), before) in gateways.iter().zip(tails) {
            gateway.wait_for("progress", |state| state.acked.len() > before + 10);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let (_, first) = &gateways[0];
    first.refresh().unwrap();
    let all = first.read(0).unwrap();
    let acked: Vec<_> = gateways.iter().flat_map(|(_, gateway)| gateway.state().acked.clone()).collect();
    assert_eq!(all.len(), acked.len(), "what is there was acknowledged, and the other way round");
    let numbers: HashSet<_> = acked.iter().map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), acked.len(), "no number was given twice");
    acked.iter().for_each(|(number, body)| assert_eq!(&all[number.get() as usize], body));
}

#[test]
fn nothing_is_lost_or_doubled_when_the_leader_dies() {
    let Some(mut cluster) = Cluster::start() else { return };
    write_while(&mut cluster, |cluster, leader| cluster.kill(leader));
}

#[test]
fn nothing_is_lost_or_doubled_when_the_leader_stops_and_goes_on() {
    let Some(mut cluster) = Cluster::start() else { return };
    write_while(&mut cluster, |cluster, stopped| {
        cluster.stop(stopped);
        let others = |cluster: &Cluster| (0..3).filter(|&i| i != stopped).any(|i| leads_anything(cluster, i));
        while !others(cluster) {
            thread::yield_now();
        }
        cluster.resume(stopped);
    });
}

/// Whether a node says that it leads a stream of logs.
fn leads_anything(cluster: &Cluster, i: usize) -> bool {
    let answer = cluster.ask(i, "/jsz?streams=1&leader_only=1&accounts=1").unwrap_or_default();
    answer.contains("_log_0\"")
}

#[test]
fn a_store_without_servers_says_so_and_comes_back() {
    let Some(mut node) = Cluster::start_single() else { return };
    let store = connect(&config(&node));
    let gateway = Gateway::open(&store, STREAM);
    gateway.commit(&["before"]);
    assert!(store.health().is_ok());
    node.kill(0);
    while store.health().is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
    gateway.append(&["meanwhile"]).unwrap();
    node.restart(0);
    node.wait_until_ready().unwrap();
    gateway.settle();
    assert!(store.health().is_ok());
    assert_eq!(gateway.read(0).unwrap(), ["before", "meanwhile"]);
    assert_eq!(gateway.refresh().map(|head: Head| head.tail.seq_num), Ok(SeqNum::new(2)));
}
