//! A network between client and gateway that a test can count, cut, hold up and send elsewhere. Knows no protocol.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// Passes connections on to a gateway.
pub struct Proxy {
    pub address: SocketAddr,
    network: Arc<Network>,
}

struct Network {
    target: Mutex<SocketAddr>,
    /// Goes up by one when all connections of the moment are to end.
    cuts: watch::Sender<u64>,
    replies: watch::Sender<Replies>,
    /// Bytes from the gateway that may still pass before everything is cut.
    allowance: Mutex<Option<usize>>,
    requested: AtomicU64,
    replied: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Replies {
    Pass,
    Held,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let network = Arc::new(Network {
            target: Mutex::new(target),
            cuts: watch::channel(0).0,
            replies: watch::channel(Replies::Pass).0,
            allowance: Mutex::new(None),
            requested: AtomicU64::new(0),
            replied: AtomicU64::new(0),
        });
        tokio::spawn(accept(listener, network.clone()));
        Self { address, network }
    }

    /// New connections go there; those there are stay where they are.
    pub fn point_to(&self, target: SocketAddr) {
        *self.network.target.lock().unwrap() = target;
    }

    /// Ends all connections, with whatever is on its way.
    pub fn cut(&self) {
        self.network.cut();
    }

    /// Lets so many more bytes through from the gateway, and then cuts, once.
    pub fn cut_after_replies(&self, bytes: usize) {
        *self.network.allowance.lock().unwrap() = Some(bytes);
    }

    /// Keeps back what the gateway answers, while requests go on reaching it.
    pub fn hold_replies(&self) {
        self.network.replies.send_replace(Replies::Held);
    }

    pub fn pass_replies(&self) {
        self.network.replies.send_replace(Replies::Pass);
    }

    /// Bytes that went from the client to the gateway so far.
    pub fn requested(&self) -> u64 {
        self.network.requested.load(Ordering::Relaxed)
    }

    /// Bytes that went from the gateway to the client so far.
    pub fn replied(&self) -> u64 {
        self.network.replied.load(Ordering::Relaxed)
    }
}

impl Network {
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many of `len` bytes may pass; fewer than that, and it is time to cut.
    fn take_allowance(&self, len: usize) -> usize {
        let mut allowance = self.allowance.lock().unwrap();
        match allowance.as_mut() {
            None => len,
            Some(left) if *left >= len => {
                *left -= len;
                len
            }
            Some(_) => allowance.take().unwrap_or(0),
        }
    }
}

async fn accept(listener: TcpListener, network: Arc<Network>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        tokio::spawn(pass_on(client, network.clone()));
    }
}

async fn pass_on(client: TcpStream, network: Arc<Network>) -> io::Result<()> {
    let mut cuts = network.cuts.subscribe();
    let target = *network.target.lock().unwrap();
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let both = async {
        tokio::try_join!(requests(from_client, to_server, &network), replies(from_server, to_client, &network))
    };
    tokio::select! {
        // First: what was held back must not slip out when it is let go right after a cut.
        biased;
        _ = cuts.changed() => Ok(()),
        both = both => both.map(drop),
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, network: &Network) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        network.requested.fetch_add(len as u64, Ordering::Relaxed);
        to.write_all(&buffer[..len]).await?;
    }
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, network: &Network) -> io::Result<()> {
    let mut held = network.replies.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        let _ = held.wait_for(|replies| *replies == Replies::Pass).await;
        let passed = network.take_allowance(len);
        network.replied.fetch_add(passed as u64, Ordering::Relaxed);
        to.write_all(&buffer[..passed]).await?;
        if passed < len {
            network.cut();
        }
    }
}
