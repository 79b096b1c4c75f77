//! The network between the nodes of a cluster, from each to each, so that one can be cut off from the others while its
//! clients still reach it.

use std::{net::SocketAddr, thread};

use tokio::runtime::{Builder, Runtime};

use crate::support::proxy::Proxy;

/// Nobody listens there.
const NOWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

/// Proxies on all ways from one node to another.
#[derive(Default)]
pub struct Links {
    links: Vec<Link>,
    runtime: Option<Runtime>,
}

struct Link {
    from: usize,
    to: usize,
    target: SocketAddr,
    proxy: Proxy,
}

impl Links {
    /// Puts a proxy on the way to `port`; where to connect instead.
    pub fn add(&mut self, from: usize, to: usize, port: u16) -> u16 {
        let target = ([127, 0, 0, 1], port).into();
        let runtime = self
            .runtime
            .get_or_insert_with(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
        // The test has a runtime of its own, which must not wait for another one.
        let proxy = thread::scope(|scope| scope.spawn(|| runtime.block_on(Proxy::to(target))).join().unwrap());
        let listens_at = proxy.address.port();
        self.links.push(Link { from, to, target, proxy });
        listens_at
    }

    /// Ends what connects `node` with the others, and keeps it so.
    pub fn cut_off(&self, node: usize) {
        for link in self.of(node) {
            link.proxy.point_to(NOWHERE.into());
            link.proxy.cut();
        }
    }

    /// Lets `node` and the others connect again.
    pub fn restore(&self, node: usize) {
        self.of(node).for_each(|link| link.proxy.point_to(link.target));
    }

    fn of(&self, node: usize) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| link.from == node || link.to == node)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
