//! What happens to nodes and gateways while clients are at work, one misfortune at a time.

use std::{
    fmt,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use s2s_gateway::client::Client;

use crate::{clients::Gateways, links::Links, nats::Cluster, process::Gateway};

/// How long a misfortune lasts, in milliseconds; longer than it takes to choose another leader, mostly.
const LASTS: Range<u64> = 200..6_000;
/// How long all is well between two, in milliseconds.
const QUIET: Range<u64> = 100..2_000;

/// Something that happens to a node or a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misfortune {
    /// Its process is gone.
    NodeKilled,
    /// All processes are gone, at once.
    AllNodesKilled,
    /// It answers nothing.
    NodeStopped,
    /// The others do not reach it, clients do.
    NodeCutOff,
    /// Its process and its folder are gone.
    NodeDataLost,
    /// Its process is gone.
    GatewayKilled,
    /// It answers nothing for a while, and then goes on where it was.
    GatewayStopped,
}

impl Misfortune {
    pub const ALL: [Self; 7] = [
        Self::NodeKilled,
        Self::AllNodesKilled,
        Self::NodeStopped,
        Self::NodeCutOff,
        Self::NodeDataLost,
        Self::GatewayKilled,
        Self::GatewayStopped,
    ];
}

impl fmt::Display for Misfortune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A cluster, some gateways, and the network between the nodes.
pub struct World {
    cluster: Cluster,
    links: Links,
    gateways: Vec<Gateway>,
    places: Gateways,
}

impl World {
    /// Three nodes and `gateways` gateways, or nothing where there are no nodes to be had.
    pub fn start(gateways: usize) -> Option<Self> {
        let links = std::cell::RefCell::new(Links::default());
        let cluster = Cluster::start_through(&|from, to, port| match from == to {
            true => port,
            false => links.borrow_mut().add(from, to, port),
        })?;
        let gateways: Vec<_> = (0..gateways).map(|_| Gateway::start(&cluster).unwrap()).collect();
        let places = Gateways::new(gateways.iter().map(Gateway::client).collect());
        Some(Self { cluster, links: links.into_inner(), gateways, places })
    }

    /// Where the gateways are, also after they moved.
    pub fn places(&self) -> Gateways {
        self.places.clone()
    }

    pub fn url(&self, gateway: usize) -> &str {
        self.gateways[gateway].url()
    }

    pub fn clients(&self) -> Vec<Client> {
        self.places.all()
    }

    /// Lets one thing after the other happen, and be mended again, while `goes_on`; what happened.
    pub fn suffer(&mut self, kinds: &[Misfortune], random: &mut StdRng, goes_on: &AtomicBool) -> Vec<Misfortune> {
        let mut suffered = Vec::new();
        while let (Some(&misfortune), true) = (kinds.choose(random), goes_on.load(Ordering::Relaxed)) {
            thread::sleep(Duration::from_millis(random.random_range(QUIET)));
            self.let_happen(misfortune, random);
            suffered.push(misfortune);
        }
        suffered
    }

    fn let_happen(&mut self, misfortune: Misfortune, random: &mut StdRng) {
        let node = random.random_range(0..self.cluster.len());
        let gateway = random.random_range(0..self.gateways.len());
        let lasts = Duration::from_millis(random.random_range(LASTS));
        match misfortune {
            Misfortune::NodeKilled => {
                self.cluster.kill(node);
                thread::sleep(lasts);
                self.cluster.restart(node);
            }
            Misfortune::AllNodesKilled => {
                (0..self.cluster.len()).for_each(|node| self.cluster.kill(node));
                thread::sleep(lasts);
                (0..self.cluster.len()).for_each(|node| self.cluster.restart(node));
            }
            Misfortune::NodeStopped => {
                self.cluster.stop(node);
                thread::sleep(lasts);
                self.cluster.resume(node);
            }
            Misfortune::NodeCutOff => {
                self.links.cut_off(node);
                thread::sleep(lasts);
                self.links.restore(node);
            }
            Misfortune::NodeDataLost => {
                self.cluster.kill(node);
                self.cluster.remove_data(node);
                thread::sleep(lasts);
                self.cluster.restart(node);
            }
            Misfortune::GatewayKilled => {
                let started = Gateway::start(&self.cluster).expect("the nodes are in order");
                self.places.moved(gateway, started.client());
                self.gateways[gateway] = started;
            }
            Misfortune::GatewayStopped => {
                self.gateways[gateway].stop();
                thread::sleep(lasts);
                self.gateways[gateway].resume();
            }
        }
        // One thing at a time: two lost nodes of three would be too many.
        self.cluster.wait_until_ready().unwrap();
    }
}
