//! The official Rust client against two gateways at once: to it they are one.

use std::net::SocketAddr;

use bytes::Bytes;
use s2_sdk::{
    S2Stream,
    error::{AppendConditionFailed, AppendError},
    types::{CommandRecord, FencingToken, SequencedRecord},
};

use crate::{
    chaos::World,
    sdk::{
        client, follow, from_seq_num, in_time, input, new_stream, next_batch, numbered, read_until, record, same_stream,
    },
};

/// Appends of each of the two writers.
const APPENDS: usize = 100;

/// The same stream through the one gateway and the other.
async fn through_both(world: &World) -> (S2Stream, S2Stream) {
    let [one, other] = [0, 1].map(|number| client(address(world, number)));
    (new_stream(&one).await, same_stream(&other))
}

fn address(world: &World, number: usize) -> SocketAddr {
    world.url(number).trim_start_matches("http://").parse().unwrap()
}

/// All that a follower sees of records.
fn shown(records: &[SequencedRecord]) -> Vec<(u64, u64, Bytes)> {
    records.iter().map(|record| (record.seq_num, record.timestamp, record.body.clone())).collect()
}

fn token(token: &str) -> FencingToken {
    token.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_appends_are_dense_and_both_followers_see_the_same() {
    let Some(world) = World::start(2) else { return };
    let (one, other) = through_both(&world).await;
    let (mut first_follower, mut second_follower) = (follow(&one, 0).await, follow(&other, 0).await);
    let write = |stream: S2Stream, writer: &'static str| async move {
        let mut acks = Vec::new();
        for n in 0..APPENDS {
            let ack = stream.append(input([record(format!("{writer}{n}")), record(format!("{writer}{n}+"))])).await;
            acks.push((ack.unwrap().start.seq_num, format!("{writer}{n}")));
        }
        acks
    };
    let (a, b) = tokio::join!(tokio::spawn(write(one.clone(), "a")), tokio::spawn(write(other.clone(), "b")));
    let acks = [a.unwrap(), b.unwrap()].concat();

    let end = 4 * APPENDS as u64;
    assert_eq!(one.check_tail().await.unwrap().seq_num, end);
    let seen = read_until(&mut first_follower, end).await;
    assert_eq!(seen.iter().map(|record| record.seq_num).collect::<Vec<_>>(), (0..end).collect::<Vec<_>>());
    assert_eq!(shown(&seen), shown(&read_until(&mut second_follower, end).await));
    for (seq_num, body) in acks {
        assert_eq!(seen[seq_num as usize].body, body.as_bytes(), "what was acknowledged at {seq_num}");
        assert_eq!(seen[seq_num as usize + 1].body, format!("{body}+").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_want_the_same_number_one_gets_it() {
    let Some(world) = World::start(2) else { return };
    let (one, other) = through_both(&world).await;
    for next in 0..50 {
        let conditional = || numbered(next..next + 1).with_match_seq_num(next);
        let (a, b) = in_time(async { tokio::join!(one.append(conditional()), other.append(conditional())) }).await;
        let refused = match (a, b) {
            (Ok(ack), Err(error)) | (Err(error), Ok(ack)) => {
                assert_eq!(ack.start.seq_num, next);
                error
            }
            both => panic!("{both:?}"),
        };
        let AppendError::ConditionFailed(AppendConditionFailed::SeqNumMismatch(told)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(told, next + 1);
    }
    assert_eq!(one.check_tail().await.unwrap().seq_num, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_set_on_one_is_in_force_on_the_other() {
    let Some(world) = World::start(2) else { return };
    let (one, other) = through_both(&world).await;
    let mut follower = follow(&other, 0).await;
    for n in 0..10 {
        let current = format!("writer-{n}");
        one.append(input([CommandRecord::fence(token(&current)).into()])).await.unwrap();
        let refused = other.append(numbered(0..1).with_fencing_token(token("another"))).await.unwrap_err();
        let AppendError::ConditionFailed(AppendConditionFailed::FencingTokenMismatch(told)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(told.to_string(), current);
        other.append(numbered(0..1).with_fencing_token(token(&current))).await.unwrap();
        // What the one acknowledged, a reader of the other sees.
        assert_eq!(one.read(from_seq_num(2 * n + 1)).await.unwrap().records.len(), 1);
    }
    let mut seen = 0;
    while seen < 20 {
        seen += next_batch(&mut follower).await.records.len();
    }
}
