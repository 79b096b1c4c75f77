//! What lies below the protocol: compression and TLS.

use s2_sdk::{
    S2,
    types::{Compression, S2Endpoints},
};

use super::{
    sdk::{
        assert_numbered, caught_up, client, config, follow, from_seq_num, in_time, input, new_stream, numbered,
        read_until, record, same_stream, seq_nums,
    },
    support::{Gateway, Setup, proxy::Proxy},
};

#[tokio::test]
async fn every_record_comes_back_once_and_in_order() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let gateway = Gateway::start().await;
        let s2 = S2::new(config(gateway.address).with_compression(compression)).unwrap();
        let stream = new_stream(&s2).await;
        let body = |n: u64| format!("{n:0400}");

        let mut follower = follow(&stream, 0).await;
        let session = stream.append_session(Default::default());
        let mut tickets = Vec::new();
        for n in 0..200 {
            tickets.push(session.submit(input((n * 10..n * 10 + 10).map(|n| record(body(n))))).await.unwrap());
        }
        for (n, ticket) in (0..).zip(tickets) {
            let ack = ticket.await.unwrap();
            assert_eq!((ack.start.seq_num, ack.end.seq_num), (n * 10, n * 10 + 10));
        }
        in_time(session.close()).await.unwrap();

        let records = read_until(&mut follower, 2000).await;
        assert_eq!(seq_nums(&records), (0..2000).collect::<Vec<_>>());
        assert!(records.iter().all(|record| record.body == body(record.seq_num)));
        drop(follower);
        in_time(gateway.stop()).await;
    }
}

#[tokio::test]
async fn whatever_carries_records_is_compressed() {
    /// Records that compress well, 100 KiB of them, and what may be left of them.
    const LEN: u64 = 100 * 1024;
    const LITTLE: u64 = LEN / 10;
    let batch = || input((0..100).map(|_| record(vec![b'x'; 1024])));

    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let gateway = Gateway::start().await;
        let proxy = Proxy::to(gateway.address).await;
        let stream = new_stream(&S2::new(config(proxy.address).with_compression(compression)).unwrap()).await;
        let (requested, replied) = (|| proxy.requested(), || proxy.replied());

        let mut follower = follow(&stream, 0).await;
        assert_eq!(caught_up(&mut follower).await, 0);
        // What the follower is sent comes from another writer, which does not pass the proxy.
        let writer = same_stream(&client(gateway.address));
        let append_beside = async {
            writer.append(batch()).await.unwrap();
            read_until(&mut follower, 100).await
        };
        let following = growth(replied, append_beside).await;
        drop(follower);
        let session = stream.append_session(Default::default());
        let sizes = [
            following,
            growth(replied, async { read_until(&mut follow(&stream, 0).await, 100).await }).await,
            growth(replied, async { stream.read(from_seq_num(0)).await.unwrap() }).await,
            growth(requested, async { stream.append(batch()).await.unwrap() }).await,
            growth(requested, async { session.submit(batch()).await.unwrap().await.unwrap() }).await,
        ];
        match compression {
            Compression::None => assert!(sizes.iter().all(|bytes| *bytes > LEN), "{sizes:?}"),
            _ => assert!(sizes.iter().all(|bytes| *bytes < LITTLE), "{compression:?}: {sizes:?}"),
        }
    }
}

/// How many bytes `work` added.
async fn growth<T>(bytes: impl Fn() -> u64, work: impl Future<Output = T>) -> u64 {
    let before = bytes();
    in_time(work).await;
    bytes() - before
}

#[tokio::test]
async fn clients_with_and_without_compression_read_the_same() {
    let gateway = Gateway::start().await;
    let writer = new_stream(&S2::new(config(gateway.address).with_compression(Compression::Zstd)).unwrap()).await;
    let body = |n: u64| format!("{n:02000}");
    let readers = [Compression::None, Compression::Gzip, Compression::Zstd]
        .map(|compression| same_stream(&S2::new(config(gateway.address).with_compression(compression)).unwrap()));
    let mut followers = Vec::new();
    for reader in &readers {
        followers.push(follow(reader, 0).await);
    }
    for n in 0..20 {
        writer.append(input([record(body(n))])).await.unwrap();
    }
    for follower in &mut followers {
        let records = read_until(follower, 20).await;
        assert_eq!(seq_nums(&records), (0..20).collect::<Vec<_>>());
        assert!(records.iter().all(|record| record.body == body(record.seq_num)));
    }
}

#[tokio::test]
async fn a_client_that_trusts_it_talks_tls_to_a_self_signed_gateway() {
    let gateway = Setup::tls().start().await;
    let endpoints = S2Endpoints::for_endpoint(&format!("https://{}", gateway.address)).unwrap();
    let config = config(gateway.address).with_endpoints(endpoints);

    let trusting = S2::new(config.clone().with_insecure_skip_cert_verification(true)).unwrap();
    let stream = new_stream(&trusting).await;
    let session = stream.append_session(Default::default());
    for n in 0..10 {
        session.submit(numbered(n * 10..n * 10 + 10)).await.unwrap();
    }
    in_time(session.close()).await.unwrap();
    assert_numbered(&read_until(&mut follow(&stream, 0).await, 100).await, 0..100);
    assert_eq!(stream.check_tail().await.unwrap().seq_num, 100);

    // Others do not, and neither does the port talk without TLS.
    let strict = same_stream(&S2::new(config).unwrap());
    assert!(in_time(strict.check_tail()).await.is_err());
    let plain = same_stream(&client(gateway.address));
    assert!(in_time(plain.check_tail()).await.is_err());
}
