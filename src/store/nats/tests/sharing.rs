//! Several gateways on one cluster.

use std::{collections::HashSet, thread};

use bytes::Bytes;
use futures::executor::block_on;

use super::{NatsConfig, cluster, config, connect, count, gateway::Gateway, runtime};
use crate::{
    store::{
        MetaStore, MetaWrite, NatsStore, Removal, Store, StoreError, Version,
        nats::{
            answers::Published,
            engine::Message,
            envelope::{Content, Envelope},
        },
    },
    types::{Head, SeqNum, StreamId, testing},
};

const STREAM: u128 = 4;

/// Two gateways on a store of their own.
fn two() -> Option<(NatsStore, NatsStore, NatsConfig)> {
    let config = config(cluster()?);
    Some((connect(&config), connect(&config), config))
}

#[test]
fn what_waits_goes_into_one_message() {
    let Some((store, ..)) = two() else { return };
    let gateway = Gateway::open(&store, STREAM);
    let bodies: Vec<_> = (0..1000).map(|i| i.to_string()).collect();
    bodies.iter().for_each(|body| gateway.append(&[body]).unwrap());
    gateway.settle();
    assert_eq!(gateway.read(0).unwrap(), bodies);
    let commits = count(&store, "s2s_nats_commits_total");
    assert_eq!(count(&store, "s2s_nats_batches_total"), 1000);
    assert!(commits < 500, "{commits} messages for 1000 batches");
}

#[test]
fn a_message_is_no_larger_than_the_servers_take() {
    let Some((store, ..)) = two() else { return };
    let gateway = Gateway::open(&store, STREAM);
    let body = "x".repeat(1_000_000);
    (0..24).for_each(|_| gateway.append(&[&body]).unwrap());
    gateway.settle();
    assert_eq!(gateway.read(0).unwrap().len(), 24);
    let commits = count(&store, "s2s_nats_commits_total");
    // Four of them fit into the 4 MiB of a message.
    assert!((6..24).contains(&commits), "{commits} messages for 24 MB");
}

#[test]
fn racing_gateways_write_each_record_once() {
    const EACH: usize = 300;
    let Some((first, second, _)) = two() else { return };
    let gateways = [("a", Gateway::open(&first, STREAM)), ("b", Gateway::open(&second, STREAM))];
    thread::scope(|scope| {
        for (name, gateway) in &gateways {
            scope.spawn(move || {
                for i in 0..EACH {
                    gateway.append(&[&format!("{name}{i}")]).unwrap();
                    if i % 10 == 0 {
                        gateway.settle();
                    }
                }
                gateway.settle();
            });
        }
    });
    let all = Gateway::open(&first, STREAM + 2).read(0).unwrap();
    assert!(all.is_empty(), "another stream");
    let all = gateways[0].1.refresh().map(|_| gateways[0].1.read(0).unwrap()).unwrap();
    assert_eq!(all.len(), 2 * EACH);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 2 * EACH, "nothing is there twice");
    for (name, gateway) in &gateways {
        let own: Vec<_> = all.iter().filter(|body| body.starts_with(name)).cloned().collect();
        assert_eq!(own, (0..EACH).map(|i| format!("{name}{i}")).collect::<Vec<_>>(), "in order");
        let state = gateway.state();
        let acked = &state.acked;
        assert_eq!(acked.len(), EACH);
        acked
            .iter()
            .for_each(|(number, body)| assert_eq!(&all[number.get() as usize], body, "where it was acknowledged"));
    }
    assert!(count(&first, "s2s_nats_conflicts_total") + count(&second, "s2s_nats_conflicts_total") > 0);
}

#[test]
fn a_refresh_sees_what_was_acknowledged_elsewhere() {
    let Some((first, second, _)) = two() else { return };
    let (writer, reader) = (Gateway::open(&first, STREAM), Gateway::open(&second, STREAM));
    assert_eq!(reader.refresh(), Ok(Head::default()));
    for i in 1..=20 {
        writer.commit(&["x", "y"]);
        assert_eq!(reader.refresh().unwrap().tail.seq_num, SeqNum::new(2 * i));
        assert_eq!(reader.state().durable.tail.seq_num, SeqNum::new(2 * i), "it was reported before");
    }
    assert_eq!(reader.state().arrivals, 20);
    assert_eq!(reader.state().overtaken, 0);
    assert_eq!(reader.read(0).unwrap().len(), 40);
    reader.commit(&["z"]);
    assert_eq!(writer.refresh().unwrap().tail.seq_num, SeqNum::new(41));
}

#[test]
fn a_refresh_ends_while_others_write() {
    let Some((first, second, _)) = two() else { return };
    let (writer, reader) = (Gateway::open(&first, STREAM), Gateway::open(&second, STREAM));
    thread::scope(|scope| {
        let writing = scope.spawn(|| (0..300).for_each(|_| writer.commit(&["x"])));
        let mut before = SeqNum::FIRST;
        while !writing.is_finished() {
            let acknowledged = writer.state().durable.tail.seq_num;
            let head = reader.refresh().unwrap();
            assert!(head.tail.seq_num >= acknowledged.max(before));
            before = head.tail.seq_num;
        }
    });
    assert_eq!(reader.refresh().unwrap().tail.seq_num, SeqNum::new(300));
}

#[test]
fn a_follower_hears_of_what_others_append_without_asking() {
    let Some((first, second, _)) = two() else { return };
    let (writer, reader) = (Gateway::open(&first, STREAM), Gateway::open(&second, STREAM));
    writer.commit(&["before"]);
    reader.follow();
    reader.wait_for("what was there", |state| state.durable.tail.seq_num == SeqNum::new(1));
    for i in 2..50 {
        writer.commit(&["x"]);
        reader.wait_for("a record", |state| state.durable.tail.seq_num == SeqNum::new(i));
    }
    assert_eq!(count(&second, "s2s_nats_refreshes_total"), 0);
    reader.commit(&["mine"]);
    assert_eq!(reader.read(48).unwrap(), ["x", "mine"]);
}

#[test]
fn a_follower_of_an_empty_stream_hears_of_its_first_record() {
    let Some((first, second, _)) = two() else { return };
    let (writer, reader) = (Gateway::open(&first, STREAM), Gateway::open(&second, STREAM));
    reader.follow();
    writer.follow();
    writer.commit(&["first"]);
    reader.wait_for("a record", |state| state.durable.tail.seq_num == SeqNum::new(1));
    reader.commit(&["second"]);
    writer.wait_for("a record", |state| state.durable.tail.seq_num == SeqNum::new(2));
}

#[test]
fn what_was_missed_is_told_in_order() {
    let Some((first, second, _)) = two() else { return };
    let (writer, late) = (Gateway::open(&first, STREAM), Gateway::open(&second, STREAM));
    (0..200).for_each(|i| writer.commit(&[&i.to_string()]));
    late.commit(&["late"]);
    assert_eq!(late.state().acked, [(SeqNum::new(200), "late".to_owned())]);
    assert_eq!(late.read(198).unwrap(), ["198", "199", "late"]);
}

#[test]
fn a_log_that_others_trimmed_goes_on_at_its_end() {
    let Some((first, second, _)) = two() else { return };
    let (writer, late) = (Gateway::open(&first, STREAM), Gateway::open(&second, STREAM));
    (0..10).for_each(|_| writer.commit(&["x"]));
    block_on(writer.log().trim(SeqNum::new(9))).unwrap();
    late.commit(&["late"]);
    assert_eq!(late.state().acked, [(SeqNum::new(10), "late".to_owned())]);
    assert_eq!(late.read(9).unwrap(), ["x", "late"]);
}

#[test]
fn a_read_goes_on_while_another_gateway_trims() {
    let Some((first, second, _)) = two() else { return };
    for stream in 200..206 {
        let (writer, reader) = (Gateway::open(&first, stream), Gateway::open(&second, stream));
        (0..140).for_each(|_| writer.commit(&["x"]));
        reader.refresh().unwrap();
        thread::scope(|scope| {
            let trimming = scope.spawn(|| block_on(writer.log().trim(SeqNum::new(139))).unwrap());
            while !trimming.is_finished() {
                let read = reader.read(0);
                assert!(read.as_ref().is_ok_and(|read| !read.is_empty()), "{read:?}");
            }
        });
    }
}

/// Messages of the stream that the engine has.
fn messages(store: &NatsStore) -> Vec<Message> {
    let engine = store.shared.engine.clone();
    let subject = engine.names.subject(StreamId::new(STREAM));
    runtime().block_on(async move { engine.several(&subject, 1, 1000, usize::MAX).await.unwrap() })
}

#[test]
fn what_was_trimmed_is_removed_but_for_the_head() {
    let Some((first, second, _)) = two() else { return };
    let writer = Gateway::open(&first, STREAM);
    (0..10).for_each(|_| writer.commit(&["x", "y"]));
    let all = writer.log().stored();
    block_on(writer.log().trim(SeqNum::new(5))).unwrap();
    assert_eq!(messages(&first).len(), 8, "the third message holds record 5");
    assert_eq!(writer.log().stored(), all / 10 * 8);
    assert_eq!(Gateway::open(&second, STREAM).log().stored(), all / 10 * 8);
    block_on(writer.log().trim(SeqNum::new(20))).unwrap();
    assert_eq!(messages(&first).len(), 1);
    assert_eq!(Gateway::open(&second, STREAM).state().durable.tail.seq_num, SeqNum::new(20));
}

#[test]
fn both_gateways_may_trim() {
    let Some((first, second, _)) = two() else { return };
    let gateways = [Gateway::open(&first, STREAM), Gateway::open(&second, STREAM)];
    (0..50).for_each(|_| gateways[0].commit(&["x"]));
    gateways[1].refresh().unwrap();
    thread::scope(|scope| {
        for gateway in &gateways {
            scope.spawn(|| (0..50).for_each(|to| block_on(gateway.log().trim(SeqNum::new(to))).unwrap()));
        }
    });
    assert_eq!(messages(&first).len(), 1);
    for gateway in &gateways {
        assert_eq!(gateway.read(49).unwrap(), ["x"]);
        assert_eq!(gateway.log().stored(), 9);
    }
}

#[test]
fn a_stream_deleted_elsewhere_does_not_come_back() {
    let Some((first, second, _)) = two() else { return };
    let (idle, used) = (Gateway::open(&second, STREAM), Gateway::open(&second, STREAM + 1));
    used.commit(&["x"]);
    for stream in [STREAM, STREAM + 1] {
        block_on(first.delete(StreamId::new(stream))).unwrap();
    }
    idle.append(&["late"]).unwrap();
    assert!(matches!(idle.failure(), StoreError::NotDone(_)), "one that was never written, too");
    assert!(matches!(used.refresh(), Err(StoreError::NotDone(_))));
    assert!(matches!(used.append(&["late"]), Err(StoreError::NotDone(_))));
    assert_eq!(messages(&first).len(), 1, "nothing but its end");
    assert_eq!(Gateway::open(&first, STREAM).state().durable, Head::default());
}

#[test]
fn a_stream_is_removed_only_with_the_tail_that_was_seen() {
    let Some((first, second, _)) = two() else { return };
    let [idle, used] = [STREAM, STREAM + 1].map(|stream| Gateway::open(&second, stream));
    used.commit(&["x"]);
    let delete_at = |stream, tail| block_on(first.delete_at(StreamId::new(stream), SeqNum::new(tail)));
    assert_eq!(delete_at(STREAM + 1, 0), Ok(Removal::Kept));
    used.commit(&["y"]);
    assert_eq!(delete_at(STREAM + 1, 1), Ok(Removal::Kept));
    for (stream, tail) in [(STREAM, 0), (STREAM + 1, 2)] {
        assert_eq!(delete_at(stream, tail), Ok(Removal::Removed));
        assert_eq!(delete_at(stream, tail), Ok(Removal::Removed), "again");
        assert!(Gateway::open(&first, stream).log().was_deleted());
    }
    for gateway in [&idle, &used] {
        gateway.append(&["late"]).unwrap();
        assert!(matches!(gateway.failure(), StoreError::NotDone(_)));
    }
    assert!(!Gateway::open(&first, STREAM + 2).log().was_deleted());
}

/// Of an append on one gateway and a removal on another at the same time one comes first, and the other hears of it.
#[test]
fn an_append_is_not_lost_to_a_removal() {
    let Some((first, second, _)) = two() else { return };
    let mut removals = [0; 2];
    for stream in 100..160 {
        let gateway = Gateway::open(&second, stream);
        let removal = thread::scope(|scope| {
            let removing = scope.spawn(|| block_on(first.delete_at(StreamId::new(stream), SeqNum::FIRST)));
            gateway.append(&["x"]).unwrap();
            gateway.wait_until_told();
            removing.join().unwrap().unwrap()
        });
        let acked = gateway.state().acked.len();
        assert_eq!(removal, [Removal::Removed, Removal::Kept][acked], "stream {stream}");
        removals[acked] += 1;
    }
    println!("{} removed, {} kept", removals[0], removals[1]);
}

#[test]
fn a_follower_hears_of_the_end() {
    let Some((first, second, _)) = two() else { return };
    let follower = Gateway::open(&second, STREAM);
    follower.follow();
    block_on(first.delete(StreamId::new(STREAM))).unwrap();
    assert!(matches!(follower.failure(), StoreError::NotDone(_)));
}

/// Publishes `payload` after everything that is there.
fn publish_raw(store: &NatsStore, payload: Bytes) {
    let engine = store.shared.engine.clone();
    let subject = engine.names.subject(StreamId::new(STREAM));
    let last = messages(store).last().map_or(0, |message| message.sequence);
    let published = runtime().block_on(async move { engine.publish(&subject, payload, last).await });
    assert!(matches!(published, Published::Landed(_)), "{published:?}");
}

#[test]
fn what_is_no_message_of_the_stream_is_damage() {
    let Some((first, second, _)) = two() else { return };
    let (writer, reader) = (Gateway::open(&first, STREAM), Gateway::open(&second, STREAM));
    writer.commit(&["x"]);
    reader.refresh().unwrap();
    publish_raw(&first, "garbage".into());
    assert!(matches!(reader.refresh(), Err(StoreError::Damaged(_))));
    writer.append(&["y"]).unwrap();
    assert!(matches!(writer.failure(), StoreError::Damaged(_)));
    let opened = block_on(first.open(StreamId::new(STREAM), std::sync::Arc::new(Deaf)));
    assert!(matches!(opened.map(|_| ()), Err(StoreError::Damaged(_))));
}

struct Deaf;

impl crate::store::CommitSink for Deaf {
    fn durable(&self, _end: SeqNum) {}
    fn failed(&self, _error: StoreError) {}
}

#[test]
fn a_message_that_continues_another_chain_is_damage() {
    let Some((first, second, _)) = two() else { return };
    let (writer, reader) = (Gateway::open(&first, STREAM), Gateway::open(&second, STREAM));
    writer.commit(&["x"]);
    reader.refresh().unwrap();
    // Whole in itself and at the right place, but after a beginning that nobody acknowledged.
    let batch = testing::batch(1, &[("y", 1)]);
    let head = Head { tail: batch.end(), ..Head::default() };
    let envelope = Envelope {
        id: first.shared.engine.next_write(),
        previous: Default::default(),
        ordinal: 1,
        content: Content::Commit { metered_before: 9, batches: vec![(batch, head)] },
    };
    publish_raw(&first, envelope.encode(StreamId::new(STREAM)).0);
    assert!(matches!(reader.refresh(), Err(StoreError::Damaged(_))));
    assert!(matches!(Gateway::open(&second, STREAM).read(0), Err(StoreError::Damaged(_))));
}

#[test]
fn a_message_that_is_missing_is_damage() {
    let Some((first, second, _)) = two() else { return };
    let writer = Gateway::open(&first, STREAM);
    ["a", "b", "c"].iter().for_each(|body| writer.commit(&[body]));
    let second_message = messages(&first)[1].sequence;
    let engine = first.shared.engine.clone();
    runtime().block_on(async move {
        let subject = engine.names.subject(StreamId::new(STREAM));
        let stream = engine.context.get_stream(&subject.stream).await.unwrap();
        stream.delete_message(second_message).await.unwrap();
    });
    let reader = Gateway::open(&second, STREAM);
    assert!(matches!(reader.read(0), Err(StoreError::Damaged(_))));
    assert_eq!(reader.read(2).unwrap(), ["c"], "what comes after is whole");
}

fn put(store: &NatsStore, key: &str, value: &'static str, expected: Version) -> MetaWrite {
    block_on(store.meta().put(key.as_bytes(), value.into(), expected)).unwrap()
}

fn keys(store: &NatsStore) -> Vec<Bytes> {
    block_on(store.meta().scan(b"", None, 100)).unwrap().into_iter().map(|(key, _)| key).collect()
}

#[test]
fn the_meta_table_is_the_same_everywhere_at_once() {
    let Some((first, second, config)) = two() else { return };
    assert!(keys(&second).is_empty());
    let mut version = Version::ABSENT;
    for _ in 0..20 {
        let MetaWrite::Done(next) = put(&first, "key", "value", version) else { panic!() };
        assert_eq!(block_on(second.meta().get(b"key")).unwrap().unwrap().version, next);
        assert_eq!(block_on(second.meta().scan(b"k", None, 1)).unwrap()[0].1.version, next);
        assert_eq!(put(&second, "key", "late", version), MetaWrite::Conflict);
        version = next;
    }
    assert_eq!(block_on(second.meta().remove(b"key", version)), Ok(MetaWrite::Done(Version::ABSENT)));
    assert!(keys(&first).is_empty());
    let MetaWrite::Done(anew) = put(&first, "key", "value", Version::ABSENT) else { panic!() };
    assert!(anew > version);
    assert_eq!(keys(&connect(&config)), ["key"]);
}

#[test]
fn of_gateways_that_race_for_a_key_one_learns_that_it_was_late() {
    let Some((first, second, _)) = two() else { return };
    let count_once = |meta: &dyn MetaStore| loop {
        let found = block_on(meta.get(b"count")).unwrap();
        let (count, version) = found.map_or((0, Version::ABSENT), |found| (found.value.len(), found.version));
        let next = Bytes::from(vec![b'|'; count + 1]);
        if let MetaWrite::Done(_) = block_on(meta.put(b"count", next, version)).unwrap() {
            break;
        }
    };
    thread::scope(|scope| {
        for store in [&first, &second, &first, &second] {
            scope.spawn(move || (0..25).for_each(|_| count_once(store.meta())));
        }
    });
    assert_eq!(block_on(first.meta().get(b"count")).unwrap().unwrap().value.len(), 100);
}
