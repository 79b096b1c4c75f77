//! NATS servers that tests start, and what stands on them.

mod identities;
#[path = "../support/nats.rs"]
mod nats;
#[path = "../support/process.rs"]
mod process;
mod serve;

use nats::Cluster;

#[test]
fn a_cluster_starts_and_outlives_its_nodes() {
    let Some(mut cluster) = Cluster::start() else { return };
    assert_eq!(cluster.urls().len(), 3);
    for lost in 0..3 {
        cluster.kill(lost);
        assert_eq!(cluster.ask(lost, "/varz"), None, "it is gone");
        cluster.remove_data(lost);
        cluster.restart(lost);
        cluster.wait_until_ready().unwrap();
    }
    cluster.stop(0);
    cluster.resume(0);
    cluster.wait_until_ready().unwrap();
}

#[test]
fn the_reference_configuration_syncs_and_takes_large_messages() {
    let Some(node) = Cluster::start_single() else { return };
    let said = node.ask(0, "/varz").unwrap();
    for part in ["\"sync_always\": true", "\"max_payload\": 8388608", "\"version\": \"2.15.1\""] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
