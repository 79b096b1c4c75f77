//! The official Rust client, unchanged, against a gateway: what users of it rely on.

mod support;

use std::time::Duration;

use futures::StreamExt;
use s2_sdk::{
    S2,
    types::{
        AccountEndpoint, AppendInput, AppendRecord, AppendRecordBatch, BasinEndpoint, BasinName, Compression,
        CreateBasinInput, CreateStreamInput, ReadFrom, ReadInput, ReadStart, S2Config, S2Endpoints, StreamName,
    },
};

use self::support::{Gateway, Setup};

fn client(gateway: &Gateway, compression: Compression) -> S2 {
    let endpoint = format!("http://{}", gateway.address);
    let endpoints =
        S2Endpoints::new(AccountEndpoint::new(&endpoint).unwrap(), BasinEndpoint::new(&endpoint).unwrap()).unwrap();
    S2::new(S2Config::new("a token").with_endpoints(endpoints).with_compression(compression)).unwrap()
}

async fn stream(s2: &S2) -> s2_sdk::S2Stream {
    let basin: BasinName = "my-basin-01".parse().unwrap();
    let name: StreamName = "orders/eu".parse().unwrap();
    s2.create_basin(CreateBasinInput::new(basin.clone())).await.unwrap();
    let basin = s2.basin(basin);
    basin.create_stream(CreateStreamInput::new(name.clone())).await.unwrap();
    basin.stream(name)
}

fn batch(bodies: impl IntoIterator<Item = String>) -> AppendInput {
    let records = bodies.into_iter().map(|body| AppendRecord::new(body).unwrap());
    AppendInput::new(AppendRecordBatch::try_from_iter(records).unwrap())
}

#[tokio::test]
async fn every_record_comes_back_once_and_in_order() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let gateway = Setup::default().start().await;
        let s2 = client(&gateway, compression);
        let stream = stream(&s2).await;

        let start = ReadStart::new().with_from(ReadFrom::SeqNum(0));
        let mut follower = stream.read_session(ReadInput::new().with_start(start), Default::default()).await.unwrap();
        let session = stream.append_session(Default::default());
        let mut tickets = Vec::new();
        for n in 0..200u64 {
            let input = batch((0..10).map(|i| format!("{:0400}", n * 10 + i)));
            tickets.push(session.submit(input).await.unwrap());
        }
        for (n, ticket) in tickets.into_iter().enumerate() {
            let ack = ticket.await.unwrap();
            assert_eq!((ack.start.seq_num, ack.end.seq_num), (n as u64 * 10, n as u64 * 10 + 10));
        }
        session.close().await.unwrap();

        let mut next = 0;
        while next < 2000 {
            let read = follower.next().await.unwrap().unwrap();
            for record in read.records {
                assert_eq!(record.seq_num, next);
                assert_eq!(record.body, format!("{next:0400}").as_bytes());
                next += 1;
            }
        }
        drop(follower);
        tokio::time::timeout(Duration::from_secs(5), gateway.stop()).await.unwrap();
    }
}
