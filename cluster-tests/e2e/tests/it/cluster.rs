//! Clusters of real processes: nodes that join and leave, faults under load, and what is refused.

use std::time::{Duration, Instant};

use cluster_e2e::chaos_cluster::{self, ClusterChaosOptions, ClusterReport, Fault};
use cluster_e2e::client::Client;
use cluster_e2e::cluster::{Cluster, Side, status};

const SEED: u64 = 20_261_122;

/// What is not there by then is not coming.
const WAIT_MAX: Duration = Duration::from_secs(60);

async fn chaos(nodes: usize, faults: &[Fault], rounds: u32) -> ClusterReport {
    let options = ClusterChaosOptions {
        nodes,
        rounds,
        faults: faults.to_vec(),
        seed: SEED,
        rate: 5_000,
        segment_bytes: 256 << 10,
    };
    eprintln!("seed {}", options.seed);
    let report = chaos_cluster::run(&options, &mut |line| eprintln!("{line}")).await.unwrap();
    report.check().unwrap();
    // A run that hit nothing proves nothing.
    assert!(0 < report.retries, "{report:?}");
    assert!(0 < report.reads.1, "{report:?}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_goes_through_kills() {
    let report = chaos(1, &[Fault::KillAll], 5).await;
    assert_eq!(report.faults[&Fault::KillAll].rounds, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_link_is_silent_until_it_heals() {
    let mut cluster = Cluster::start(1, &[]).await.unwrap();
    if let Some(reason) = cluster.why_no_cuts() {
        return crate::skip(&format!("cut links: {reason}"));
    }
    let address = cluster.addresses(0).client.clone();
    let (near, far) = (cluster.reach(Side::Near), cluster.reach(Side::Far));
    let ask = async |side: Side| {
        let reach = if side == Side::Near { &near } else { &far };
        let client = Client::connect_with(&address, reach).await?;
        anyhow::Ok(client.status().await?.node_id)
    };
    cluster.split(&[0]).unwrap();
    let begun = Instant::now();
    let error = ask(Side::Near).await.unwrap_err();
    assert!(Duration::from_millis(400) < begun.elapsed(), "not silent: {error:#}");
    ask(Side::Far).await.unwrap();
    cluster.heal().unwrap();
    ask(Side::Near).await.unwrap();
    cluster.isolate_from_peers(0).unwrap();
    let peer = cluster.addresses(0).peer.clone();
    let reached = Client::connect_with(&peer, &cluster.reach(Side::Near)).await;
    assert!(reached.is_err(), "{reached:?}");
    ask(Side::Near).await.unwrap();
    cluster.heal().unwrap();

    cluster.pause(0).await.unwrap();
    assert!(ask(Side::Near).await.is_err());
    cluster.resume(0).unwrap();
    status::poll(WAIT_MAX, async || Ok(Some(ask(Side::Near).await?))).await.unwrap();
    cluster.kill(0).await.unwrap();
    cluster.restart_dead().await.unwrap();
    ask(Side::Near).await.unwrap();
}
