//! Clusters of real processes: nodes that join and leave, faults under load, and what is refused.

use std::time::{Duration, Instant};

use cluster_e2e::chaos_cluster::{self, ClusterChaosOptions, ClusterReport, FAULTS, Fault};
use cluster_e2e::client::Client;
use cluster_e2e::cluster::{Cluster, Side, status};
use cluster_e2e::node::{Node, NodeOptions};

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

/// More of them, and over five nodes, by `cargo xtask chaos cluster`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_go_through_each_fault() {
    let begun = Instant::now();
    let mut report = chaos(3, &FAULTS, 1).await;
    eprintln!("{}", report.tables(SEED, begun.elapsed()));
    let seen = |fault: &Fault| report.faults.get(fault).map(|report| report.rounds);
    // What cuts links is left out where there are no namespaces, and was said to be.
    let has_cuts = Cluster::start(0, &[]).await.unwrap().why_no_cuts().is_none();
    let missing = FAULTS.iter().filter(|fault| seen(fault) != Some(1));
    let missing: Vec<&Fault> = missing.filter(|fault| has_cuts || !fault.cuts_links()).collect();
    assert!(missing.is_empty(), "{missing:?} did not happen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_on_one_node_is_there_on_every_other() {
    let mut cluster = Cluster::start(1, &[]).await.unwrap();
    cluster.add(None).await.unwrap();
    cluster.add(None).await.unwrap();
    let mut clients = Vec::new();
    for node in 0..3 {
        clients.push(Client::connect(&cluster.addresses(node).client).await.unwrap());
    }
    for round in 0..30 {
        let at = |step: usize| &clients[(round + step) % 3];
        let name = format!("made_{round}");
        let ask = async |step: usize, sql: &str| {
            let answer = at(step).query(&sql.replace("$NAME", &name)).await;
            answer.unwrap_or_else(|status| panic!("{sql} in round {round}: {status}"))
        };
        ask(0, "CREATE STREAM $NAME (k BIGINT NOT NULL, n BIGINT) WITH (partitions = 1)").await;
        let opened = at(1).open_producer("maker", &name).await.unwrap();
        assert_eq!(opened.next_sequence, 0, "round {round}");
        ask(2, "INSERT INTO $NAME VALUES (1, 2), (1, 3)").await;
        ask(
            1,
            "CREATE MATERIALIZED VIEW $NAME_sums AS SELECT k, sum(n) AS n FROM $NAME GROUP BY k",
        )
        .await;
        let sums = ask(2, "SELECT k, n FROM $NAME_sums").await;
        assert_eq!(sums.integer_rows::<2>().unwrap(), [[1, 5]], "round {round}");
        ask(0, "DROP MATERIALIZED VIEW $NAME_sums").await;
        ask(1, "DROP STREAM $NAME").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_work_and_say_that_they_survive_no_loss() {
    let cluster = Cluster::start(2, &[]).await.unwrap();
    for node in cluster.running() {
        let status = cluster.command(node, &["status"]).await.unwrap();
        let words: Vec<&str> = status.split_whitespace().collect();
        assert!(words.join(" ").contains("survives no loss"), "{status}");
        let client = cluster.client(node).await.unwrap();
        client.query(&format!("CREATE STREAM of_{node} (n BIGINT)")).await.unwrap();
        client.query(&format!("INSERT INTO of_{node} VALUES (1), (2)")).await.unwrap();
    }
    let said = status::get(&cluster.addresses(0).http, "/restart-risk").await.unwrap();
    assert!(said.starts_with("HTTP/1.1 409"), "{said}");
    assert!(said.contains(r#""group_id":0,"reason":"#), "{said}");
    for (node, stream) in [(0, "of_1"), (1, "of_0")] {
        let client = cluster.client(node).await.unwrap();
        let answer = client.query(&format!("SELECT count(*) FROM {stream}")).await.unwrap();
        assert_eq!(answer.single().unwrap(), 2, "{stream} asked of n{}", node + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_clusters_data_is_refused() {
    let mut cluster = Cluster::start(1, &[]).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut other = Node::start(NodeOptions::default().data_dir(&data)).await.unwrap();
    let client = other.client().await.unwrap();
    let foreign = client.status().await.unwrap().cluster_id;
    assert!(other.terminate(WAIT_MAX).await.unwrap().success());
    let stranger = cluster.prepare(Some(&data)).unwrap();
    let (status, log) = cluster.node_mut(stranger).start_refused(WAIT_MAX).await.unwrap();
    assert!(!status.success(), "{status}");
    let own = cluster.client(0).await.unwrap().status().await.unwrap().cluster_id;
    assert_ne!(own, foreign);
    // Whoever reads it must see which two clusters are mixed up.
    assert!(log.contains(&own) && log.contains(&foreign), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_seeds_says_so_and_joins_when_they_are_there() {
    let mut cluster = Cluster::start(1, &[]).await.unwrap();
    cluster.kill(0).await.unwrap();
    let late = cluster.prepare(None).unwrap();
    cluster.node_mut(late).launch().unwrap();
    let http = cluster.addresses(late).http.clone();
    let seed = cluster.addresses(0).peer.clone();
    status::poll(WAIT_MAX, async || {
        let said = status::readyz(&http).await?;
        anyhow::ensure!(!said.starts_with("HTTP/1.1 200"), "it says that it is ready");
        Ok(said.contains(&seed).then_some(()))
    })
    .await
    .unwrap();
    cluster.node_mut(0).restart().await.unwrap();
    cluster.node_mut(late).wait_ready().await.unwrap();
    let client = cluster.client(late).await.unwrap();
    client.query("CREATE STREAM after (n BIGINT)").await.unwrap();
}
