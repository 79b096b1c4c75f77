//! Gateways in processes of their own, in front of a cluster that outlives them.

use s2s_gateway::client::Client;

use crate::{
    client_of,
    nats::Cluster,
    support::process::{Process, serve},
};

pub struct Gateway(Process);

impl Gateway {
    /// Starts the binary in front of `cluster`; what it complained of if it did not start.
    pub fn start(cluster: &Cluster) -> Result<Self, String> {
        let (servers, monitors) = (cluster.urls().join(","), cluster.monitoring_urls().join(","));
        Process::start(serve(["--nats", &servers, "--nats-monitor", &monitors])).map(Self)
    }

    /// A client that tries everything once.
    pub fn client(&self) -> Client {
        client_of(self.url())
    }

    pub fn url(&self) -> &str {
        self.0.url()
    }

    /// Holds it where it is: its connections stay open, and nothing answers on them.
    pub fn stop(&self) {
        self.0.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.0.signal("CONT");
    }
}
