//! Our client and our gateway, with something between them that breaks connections or leads elsewhere.

mod support;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use s2s_gateway::{
    client::{
        AppendOptions, AppendSession, Client, ClientConfig, Conditions, EncodedInput, InputBuilder, ReadOptions,
        StreamPath,
    },
    types::{BasinName, Compression, ReadBounds, ReadRequest, ReadStart, SeqNum, StreamName},
};
use support::{Gateway, Setup};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

fn stream() -> StreamPath {
    StreamPath { basin: BasinName::new("my-basin-01").unwrap(), stream: StreamName::new("orders").unwrap() }
}

fn client(address: SocketAddr) -> Client {
    Client::new(ClientConfig::new(format!("http://{address}").parse().unwrap())).unwrap()
}

async fn client_with_stream(address: SocketAddr) -> Client {
    let client = client(address);
    client.ensure_basin(&stream().basin).await.unwrap();
    client.ensure_stream(&stream()).await.unwrap();
    client
}

/// An input of `count` records whose bodies are the numbers from `first` on, and some length.
fn numbers(first: usize, count: usize, compression: Compression) -> EncodedInput {
    let mut builder = InputBuilder::new();
    (first..first + count).for_each(|i| builder.push(None, [], format!("{i:0200}").as_bytes()));
    builder.build(Conditions::default(), compression).unwrap()
}

/// Appends numbers `0..inputs * each`, as fast as there is room.
async fn append_numbers(session: &mut AppendSession, inputs: usize, each: usize, compression: Compression) {
    let mut submitted = 0;
    let mut acked = 0;
    while acked < inputs {
        while submitted < inputs && session.has_room(each * 208) {
            session.submit(numbers(submitted * each, each, compression)).unwrap();
            submitted += 1;
        }
        let ack = session.next_ack().await.unwrap().unwrap();
        acked += 1;
        assert_eq!(ack.end.seq_num.since(ack.start.seq_num) as usize, each);
    }
    session.finish();
    assert!(session.next_ack().await.is_none());
}

/// The numbers in the stream's first `count` records, each of which must have its place for a sequence number.
async fn read_numbers(client: &Client, count: usize, compression: Compression) -> Vec<usize> {
    let bounds = ReadBounds { count: Some(count as u64), ..ReadBounds::default() };
    let request = ReadRequest {
        start: ReadStart::SeqNum(SeqNum::FIRST),
        bounds,
        wait: Some(Duration::from_secs(10)),
        clamp: false,
    };
    let options = ReadOptions { compression, ..ReadOptions::default() };
    let mut session = client.read_session(&stream(), request, options);
    let mut numbers = Vec::new();
    while let Some(batch) = session.next_batch().await {
        for record in batch.unwrap().records {
            assert_eq!(record.seq_num.get() as usize, numbers.len());
            numbers.push(std::str::from_utf8(&record.body).unwrap().parse().unwrap());
        }
    }
    numbers
}

/// Leads connections to wherever it is told, and breaks them when so many bytes have come back.
struct Between {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
}

impl Between {
    async fn start(target: SocketAddr, bytes_back: Option<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(target));
        let leads_to = target.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let target = *leads_to.lock().unwrap();
                tokio::spawn(lead(near, target, bytes_back));
            }
        });
        Self { address, target }
    }

    fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }
}

async fn lead(near: TcpStream, target: SocketAddr, bytes_back: Option<u64>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let ((mut near_read, mut near_write), (far_read, mut far_write)) = (near.into_split(), far.into_split());
    let mut back = far_read.take(bytes_back.unwrap_or(u64::MAX));
    tokio::select! {
        _ = copy(&mut near_read, &mut far_write) => {}
        _ = copy(&mut back, &mut near_write) => {}
    }
    // What was counted has been handed on; both sides are closed when their halves are dropped.
    let _ = near_write.flush().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_in_comes_out_in_every_compression() {
    for compression in Compression::ALL {
        let gateway = Gateway::start().await;
        let client = client_with_stream(gateway.address).await;
        let mut session = client.append_session(&stream(), AppendOptions::default());
        let append = append_numbers(&mut session, 100, 200, compression);
        // A reader follows meanwhile, over the same connection.
        let (read, ()) = tokio::join!(read_numbers(&client, 20_000, compression), append);
        assert!(read.into_iter().eq(0..20_000), "{compression:?}");
        assert_eq!(client.check_tail(&stream()).await.unwrap().seq_num, SeqNum::new(20_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_over_connections_that_keep_breaking_gets_each_record_once() {
    let gateway = Gateway::start().await;
    let client = client_with_stream(gateway.address).await;
    let mut session = client.append_session(&stream(), AppendOptions::default());
    append_numbers(&mut session, 40, 500, Compression::None).await;
    // A frame is up to 1000 records of 208 metered bytes: each connection carries a few, and breaks inside one.
    let between = Between::start(gateway.address, Some(1_000_000)).await;
    let read = read_numbers(&self::client(between.address), 20_000, Compression::None).await;
    assert!(read.into_iter().eq(0..20_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_moves_from_a_stopping_gateway_to_the_next_without_loss_or_doubling() {
    // s2s.md §8
    let (mut first, second) = Setup::default().start_two().await;
    let between = Between::start(first.address, None).await;
    let client = client_with_stream(between.address).await;
    let mut session = client.append_session(&stream(), AppendOptions::default());
    for i in 0..5 {
        session.submit(numbers(i * 10, 10, Compression::None)).unwrap();
    }
    session.next_ack().await.unwrap().unwrap();

    between.lead_to(second.address);
    first.tell_to_stop();
    let mut acked = 1;
    for i in 5..300 {
        session.submit(numbers(i * 10, 10, Compression::None)).unwrap();
        session.next_ack().await.unwrap().unwrap();
        acked += 1;
    }
    session.finish();
    while let Some(ack) = session.next_ack().await {
        ack.unwrap();
        acked += 1;
    }
    assert_eq!(acked, 300);
    first.stopped().await;
    let read = read_numbers(&client, 3000, Compression::None).await;
    assert!(read.into_iter().eq(0..3000));
    assert_eq!(client.check_tail(&stream()).await.unwrap().seq_num, SeqNum::new(3000));
}
