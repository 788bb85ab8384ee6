//! Nodes that start again among those that they were lost with: they could be what is left of a life that has ended,
//! and take part in nothing.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::{Cluster, config, soon};

/// How long nodes are given to do what they must not do: many times what an election takes.
const TEMPTED: Duration = Duration::from_secs(3);

/// Five nodes, 1 and 2 in zone a, 3 and 4 in zone b, 5 the witness, with something acknowledged; then all are stopped.
async fn all_stopped() -> Cluster {
    let mut cluster = Cluster::five(config()).await;
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    cluster.tick(leader).await;
    for number in 1..=5 {
        cluster.kill(number);
    }
    for number in 1..=5 {
        cluster.ended(number).await;
    }
    cluster
}

async fn start(cluster: &mut Cluster, numbers: &[u64]) {
    for number in numbers {
        cluster.start(*number).await;
    }
}

async fn until_full(cluster: &Cluster, number: u64) {
    let end = soon();
    while !cluster.node(number).takes_part() {
        assert!(Instant::now() < end, "node {number} does not take part");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_starts_again_with_the_witness_alone_acknowledges_nothing() {
    let mut cluster = all_stopped().await;
    start(&mut cluster, &[1, 2, 5]).await;
    sleep(TEMPTED).await;
    for number in [1, 2, 5] {
        let node = cluster.node(number);
        assert!(!node.takes_part() && node.leader().is_none(), "node {number} takes part");
    }
    // One of the other zone is company for all of them.
    start(&mut cluster, &[3]).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    cluster.tick(leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_went_on_vouches_for_neighbours_and_they_for_it() {
    let mut cluster = Cluster::five(config()).await;
    for number in [3, 4] {
        cluster.kill(number);
    }
    // One after the other, as in an upgrade while a zone is lost; the witness too.
    for number in [1, 2, 5] {
        cluster.kill(number);
        cluster.ended(number).await;
        cluster.start(number).await;
        until_full(&cluster, number).await;
    }
    let leader = cluster.leader_among(&[1, 2]).await;
    cluster.tick(leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_word_stands_for_company() {
    let mut cluster = all_stopped().await;
    start(&mut cluster, &[1, 2, 5]).await;
    for number in [1, 2, 5] {
        cluster.node(number).go_alone();
    }
    let leader = cluster.leader_among(&[1, 2]).await;
    cluster.tick(leader).await;
}
