//! Append sessions (`s2s.md` §6, §8).

use std::{num::NonZeroU32, time::Duration};

use h2::Reason;
use http::Response;
use s2s_gateway::{
    client::{
        AppendOptions, AppendRetry, AppendSession, Awaited, ClientError, EncryptionKey, ProtocolError, RetryPolicy,
    },
    types::{ApiError, Compression, ErrorCode, SeqNum},
    wire::Advice,
};

use crate::{
    coded, input,
    peer::{Peer, Session},
    positioned, refusal, stream,
};

/// What the acks of a session's rest say: where each ended, or how the session failed.
async fn rest(session: &mut AppendSession) -> Result<Vec<u64>, ClientError> {
    let mut ends = Vec::new();
    while let Some(ack) = session.next_ack().await {
        ends.push(ack?.end.seq_num.get());
    }
    Ok(ends)
}

fn submit(session: &mut AppendSession, bodies: &[&str]) {
    for body in bodies {
        session.submit(input(body)).unwrap();
    }
}

/// Takes the next inputs, which must have these bodies.
async fn expect(server: &mut Session, bodies: &[&str]) {
    for body in bodies {
        assert_eq!(server.body().await.as_deref(), Some(*body));
    }
}

/// A peer that takes one session to its end: acks every input, numbering from `first`.
async fn ack_all(server: &mut Session, first: u64) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(body) = server.body().await {
        let at = first + bodies.len() as u64;
        server.ack(at, at + 1);
        bodies.push(body);
    }
    bodies
}

#[tokio::test]
async fn inputs_go_in_pipelined_and_acks_come_in_order() {
    let peer = Peer::bind().await;
    let mut session = peer.client().append_session(&stream(), AppendOptions::default());
    submit(&mut session, &["a", "b", "c"]);
    session.finish();
    let server = async {
        let (_connection, mut server) = peer.session().await;
        expect(&mut server, &["a", "b", "c"]).await;
        assert!(server.input().await.is_none(), "half-closed");
        (0..3).for_each(|i| server.ack(i, i + 1));
        server.end();
        _connection
    };
    let (ends, _connection) = tokio::join!(rest(&mut session), server);
    assert_eq!(ends.unwrap(), [1, 2, 3]);
    assert_eq!((session.unacked(), session.unacked_bytes()), (0, 0));
    assert!(session.submit(input("late")).is_err());
}

#[tokio::test]
async fn the_request_is_the_one_of_the_contract() {
    // s2s.md §1.1
    let peer = Peer::bind().await;
    let key = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
    let options = AppendOptions {
        compression: Compression::Zstd,
        encryption_key: Some(EncryptionKey::new(key).unwrap()),
        ..AppendOptions::default()
    };
    let mut session = peer.client().append_session(&stream(), options);
    let server = async {
        let (connection, exchange) = peer.request().await;
        assert_eq!(exchange.request.method(), "POST");
        assert_eq!(exchange.path_and_query(), "/v1/streams/orders%2Feu/records");
        assert_eq!(exchange.header("content-type"), Some("s2s/proto"));
        assert_eq!(exchange.header("s2-basin"), Some("my-basin-01"));
        assert_eq!(exchange.header("accept-encoding"), Some("zstd"));
        assert_eq!(exchange.header("s2-encryption-key"), Some(key));
        assert_eq!(exchange.header("content-encoding"), None);
        exchange.accept().end();
        connection
    };
    session.finish();
    let (ends, _connection) = tokio::join!(rest(&mut session), server);
    assert!(ends.unwrap().is_empty());
}

#[tokio::test]
async fn acks_that_do_not_fit_end_the_session_for_good() {
    for (acks, wrong) in [
        (vec![(0, 2)], ProtocolError::AckCount { sent: 1, acked: 2 }),
        (vec![(5, 6), (5, 6)], ProtocolError::AckOrder { previous: SeqNum::new(6), end: SeqNum::new(6) }),
        (vec![(0, 1), (1, 2), (2, 3)], ProtocolError::StrayAck),
    ] {
        let peer = Peer::bind().await;
        let mut session = peer.client().append_session(&stream(), AppendOptions::default());
        submit(&mut session, &["a", "b"]);
        let server = async {
            let (connection, mut server) = peer.session().await;
            expect(&mut server, &["a", "b"]).await;
            acks.iter().for_each(|(start, end)| server.ack(*start, *end));
            (connection, server)
        };
        let (outcome, _server) = tokio::join!(rest(&mut session), server);
        assert!(matches!(&outcome, Err(ClientError::Protocol(found)) if *found == wrong), "{outcome:?}");
        assert!(session.next_ack().await.is_none(), "nothing comes after an error");
    }
}

#[tokio::test]
async fn a_clean_end_with_inputs_unacked_is_a_broken_promise() {
    let peer = Peer::bind().await;
    let mut session = peer.client().append_session(&stream(), AppendOptions::default());
    submit(&mut session, &["a", "b"]);
    let server = async {
        let (connection, mut server) = peer.session().await;
        expect(&mut server, &["a", "b"]).await;
        server.ack(0, 1);
        server.end();
        connection
    };
    let (outcome, _connection) = tokio::join!(rest(&mut session), server);
    assert!(matches!(outcome, Err(ClientError::Protocol(ProtocolError::EarlyEnd { unacked: 1 }))));
}

#[tokio::test]
async fn a_terminal_frame_comes_after_the_acks_before_it() {
    let peer = Peer::bind().await;
    let mut session = peer.client().append_session(&stream(), AppendOptions::default());
    submit(&mut session, &["a", "b"]);
    let server = async {
        let (connection, mut server) = peer.session().await;
        expect(&mut server, &["a", "b"]).await;
        server.ack(0, 1);
        server.terminal(&ApiError::SeqNumMismatch { next: SeqNum::new(1) });
        connection
    };
    let client = async {
        assert_eq!(session.next_ack().await.unwrap().unwrap().end.seq_num, SeqNum::new(1));
        let error = session.next_ack().await.unwrap().unwrap_err();
        assert_eq!(*refusal(&error), ApiError::SeqNumMismatch { next: SeqNum::new(1) });
        assert!(session.next_ack().await.is_none());
    };
    tokio::join!(client, server);
}

#[tokio::test]
async fn a_draining_server_is_left_without_loss_and_without_doubling() {
    // One attempt only: leaving costs none.
    let peer = Peer::bind().await;
    let policy =
        RetryPolicy { attempts: NonZeroU32::MIN, appends: AppendRetry::NoSideEffects, ..RetryPolicy::default() };
    let mut session = peer.client_with(policy).append_session(&stream(), AppendOptions::default());
    submit(&mut session, &["a", "b", "c"]);
    session.finish();
    let server = async {
        let (first, mut server) = peer.session().await;
        expect(&mut server, &["a", "b"]).await;
        server.ack(0, 1);
        server.terminal(&coded(ErrorCode::ServerDraining));
        let (second, mut server) = peer.session().await;
        let bodies = ack_all(&mut server, 1).await;
        server.end();
        (first, second, bodies)
    };
    let (ends, (.., bodies)) = tokio::join!(rest(&mut session), server);
    assert_eq!(ends.unwrap(), [1, 2, 3]);
    assert_eq!(bodies, ["b", "c"], "what was acknowledged is not sent again");
}

#[tokio::test]
async fn advice_to_reconnect_is_followed_when_the_acks_are_in() {
    // s2s.md §8: half-close, collect the acks, go elsewhere; once a minute
    let peer = Peer::bind().await;
    let mut session = peer.client().append_session(&stream(), AppendOptions::default());
    submit(&mut session, &["a", "b"]);
    let server = async {
        let (first, mut server) = peer.session().await;
        expect(&mut server, &["a", "b"]).await;
        server.ack_with(0, 1, Advice::Reconnect);
        assert!(server.input().await.is_none(), "half-closed, though more is to come");
        server.ack_with(1, 2, Advice::Reconnect);
        server.end();
        let (second, mut server) = peer.session().await;
        expect(&mut server, &["c"]).await;
        server.ack_with(2, 3, Advice::Reconnect);
        expect(&mut server, &["d"]).await;
        server.ack(3, 4);
        assert!(server.input().await.is_none());
        server.end();
        (first, second)
    };
    let client = async {
        assert_eq!(session.next_ack().await.unwrap().unwrap().end.seq_num.get(), 1);
        submit(&mut session, &["c"]);
        for end in [2, 3] {
            assert_eq!(session.next_ack().await.unwrap().unwrap().end.seq_num.get(), end);
        }
        submit(&mut session, &["d"]);
        session.finish();
        rest(&mut session).await
    };
    let (ends, _connections) = tokio::join!(client, server);
    assert_eq!(ends.unwrap(), [4]);
}

#[tokio::test]
async fn what_a_lost_connection_took_along_is_sent_again_if_that_is_allowed() {
    for (policy, match_seq_num, again) in [
        (AppendRetry::All, None, true),
        (AppendRetry::NoSideEffects, None, false),
        (AppendRetry::NoSideEffects, Some(0), true),
    ] {
        let peer = Peer::bind().await;
        let retry = RetryPolicy { appends: policy, ..RetryPolicy::default() };
        let mut session = peer.client_with(retry).append_session(&stream(), AppendOptions::default());
        session.submit(positioned("a", match_seq_num)).unwrap();
        session.finish();
        let server = async {
            let (connection, mut server) = peer.session().await;
            expect(&mut server, &["a"]).await;
            connection.drop_dead();
            if again {
                let (connection, mut server) = peer.session().await;
                let bodies = ack_all(&mut server, 0).await;
                assert_eq!(bodies, ["a"]);
                server.end();
                connection.closed().await;
            }
        };
        let client = async {
            let outcome = rest(&mut session).await;
            drop(session);
            outcome
        };
        let (outcome, ()) = tokio::join!(client, server);
        match again {
            true => assert_eq!(outcome.unwrap(), [1]),
            false => assert!(matches!(outcome, Err(ClientError::Lost(_))), "{outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_broken_session_goes_on_and_success_renews_the_attempts() {
    let peer = Peer::bind().await;
    let policy = RetryPolicy { attempts: NonZeroU32::new(2).unwrap(), ..RetryPolicy::default() };
    let mut session = peer.client_with(policy).append_session(&stream(), AppendOptions::default());
    submit(&mut session, &["0", "1", "2", "3"]);
    session.finish();
    let server = async {
        let mut connections = Vec::new();
        for i in 0..4 {
            let (connection, mut server) = peer.session().await;
            expect(&mut server, &[i.to_string().as_str()]).await;
            server.ack(i, i + 1);
            match i {
                3 => server.end(),
                _ => server.break_off(),
            }
            connections.push(connection);
        }
        connections
    };
    let (ends, _connections) = tokio::join!(rest(&mut session), server);
    assert_eq!(ends.unwrap(), [1, 2, 3, 4], "four connections with two attempts");
}

#[tokio::test]
async fn refusals_before_the_session_are_judged_by_their_code() {
    let peer = Peer::bind().await;
    let mut session = peer.client().append_session(&stream(), AppendOptions::default());
    session.finish();
    let server = async {
        let (mut connection, exchange) = peer.request().await;
        exchange.refuse_with(&coded(ErrorCode::RateLimited), &[("retry-after-ms", "1")]);
        // An answer is no reason to leave the connection.
        connection.request().await.refuse(&coded(ErrorCode::StreamNotFound));
        connection
    };
    let (outcome, _connection) = tokio::join!(rest(&mut session), server);
    assert_eq!(*refusal(&outcome.unwrap_err()), coded(ErrorCode::StreamNotFound));
}

#[tokio::test]
async fn an_answer_that_is_no_session_is_not_taken_for_one() {
    let peer = Peer::bind().await;
    let mut session = peer.client().append_session(&stream(), AppendOptions::default());
    let server = async {
        let (connection, exchange) = peer.request().await;
        exchange.answer(Response::builder().header("content-type", "text/html").body("hello").unwrap());
        connection
    };
    let (outcome, _connection) = tokio::join!(rest(&mut session), server);
    assert!(matches!(outcome, Err(ClientError::Protocol(ProtocolError::NotASession { status: 200, .. }))));
}

#[tokio::test]
async fn three_attempts_to_connect_and_it_did_not_happen() {
    let unused = Peer::bind().await;
    let client = unused.client();
    drop(unused);
    let mut session = client.append_session(&stream(), AppendOptions::default());
    submit(&mut session, &["a"]);
    let error = session.next_ack().await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
    assert_eq!(error.effect(), s2s_gateway::types::Effect::None);
}

#[tokio::test]
async fn room_is_bounded_and_comes_back_with_acks() {
    let peer = Peer::bind().await;
    let options = AppendOptions { unacked_limit: 20, ..AppendOptions::default() };
    let mut session = peer.client().append_session(&stream(), options);
    submit(&mut session, &["a", "b"]);
    assert!(!session.has_room(9), "18 of 20 bytes are taken");
    let server = async {
        let (connection, mut server) = peer.session().await;
        expect(&mut server, &["a"]).await;
        server.ack(0, 1);
        (connection, server)
    };
    let (ack, _server) = tokio::join!(session.next_ack(), server);
    ack.unwrap().unwrap();
    assert!(session.has_room(9));
    assert_eq!((session.unacked(), session.unacked_bytes()), (1, 9));
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_five_seconds() {
    let peer = Peer::bind().await;
    let policy = RetryPolicy { attempts: NonZeroU32::MIN, ..RetryPolicy::default() };
    let mut session = peer.client_with(policy).append_session(&stream(), AppendOptions::default());
    submit(&mut session, &["a"]);
    let server = async {
        let (connection, mut server) = peer.session().await;
        expect(&mut server, &["a"]).await;
        tokio::time::pause();
        // The first time the connection has taken something since it was last looked at; the second time it has not.
        tokio::time::advance(Duration::from_millis(5001)).await;
        tokio::time::advance(Duration::from_millis(5001)).await;
        tokio::time::resume();
        (connection, server)
    };
    let (outcome, _server) = tokio::join!(rest(&mut session), server);
    assert!(matches!(outcome, Err(ClientError::TimedOut { awaited: Awaited::Ack, .. })), "{outcome:?}");
}

#[tokio::test]
async fn an_idle_session_outlives_its_connection() {
    // s2s.md §6.5: append sessions may be silent for hours; when there is more to say a new connection will do
    let peer = Peer::bind().await;
    let mut session = peer.client().append_session(&stream(), AppendOptions::default());
    let server = async {
        let (connection, mut server) = peer.session().await;
        expect(&mut server, &["a"]).await;
        server.ack(0, 1);
        (connection, server)
    };
    submit(&mut session, &["a"]);
    let (ack, (connection, _server)) = tokio::join!(session.next_ack(), server);
    ack.unwrap().unwrap();
    connection.drop_dead();
    let server = async {
        let (connection, mut server) = peer.session().await;
        expect(&mut server, &["b"]).await;
        server.ack(1, 2);
        (connection, server)
    };
    submit(&mut session, &["b"]);
    let (ack, _server) = tokio::join!(session.next_ack(), server);
    assert_eq!(ack.unwrap().unwrap().end.seq_num.get(), 2);
}

#[tokio::test]
async fn a_dropped_session_is_not_a_finished_one() {
    let peer = Peer::bind().await;
    let mut session = peer.client().append_session(&stream(), AppendOptions::default());
    submit(&mut session, &["a"]);
    let server = async {
        let (connection, mut server) = peer.session().await;
        expect(&mut server, &["a"]).await;
        server.ack(0, 1);
        (connection, server)
    };
    let (ack, (_connection, server)) = tokio::join!(session.next_ack(), server);
    ack.unwrap().unwrap();
    drop(session);
    assert_ne!(server.ended_by().await, Reason::NO_ERROR);
}
