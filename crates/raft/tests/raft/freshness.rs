//! Freshness leases and the barrier that waits for them.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use twinkeep_raft::{Freshness, Laggard};

use crate::support::{Cluster, LEASE_MS, config, id, soon};

const LEASE: Duration = Duration::from_millis(LEASE_MS as u64);

async fn until_fresh(cluster: &Cluster, nodes: &[u64]) {
    let deadline = soon();
    for node in nodes {
        while cluster.node(*node).freshness() != Freshness::Fresh {
            assert!(Instant::now() < deadline, "node {node} is not fresh");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A data node that does not lead, and all others.
async fn follower(cluster: &Cluster) -> (u64, Vec<u64>) {
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    let follower = (1..=4).rev().find(|node| *node != leader).unwrap();
    (follower, (1..=5).filter(|node| *node != follower).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_nodes_are_fresh_and_a_change_is_everywhere_at_once() {
    let cluster = Cluster::five(config()).await;
    until_fresh(&cluster, &[1, 2, 3, 4]).await;
    let mut longest = Duration::ZERO;
    for round in 0..40 {
        let through = round % 4 + 1;
        let index = cluster.tick(through).await;
        let begun = Instant::now();
        let laggards = cluster.node(through).everywhere(index, soon()).await.unwrap();
        longest = longest.max(begun.elapsed());
        assert_eq!(laggards, []);
    }
    assert!(longest < LEASE, "a barrier waited for leases though all nodes answer: {longest:?}");
    for node in [1, 2, 3, 4] {
        assert_eq!(cluster.node(node).freshness(), Freshness::Fresh);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_everywhere_once_a_node_that_nobody_hears_has_no_lease_left() {
    let cluster = Cluster::five(config()).await;
    until_fresh(&cluster, &[1, 2, 3, 4]).await;
    let (lost, others) = follower(&cluster).await;
    let through = others[0];
    cluster.cuts.between(&[lost], &others);
    let index = cluster.tick(through).await;
    let begun = Instant::now();
    let laggards = cluster.node(through).everywhere(index, soon()).await.unwrap();
    let waited = begun.elapsed();
    // From here on no call that is sent to the lost node may be answered by what it knew.
    let freshness = cluster.node(lost).freshness();
    assert!(
        matches!(freshness, Freshness::Stale { age: Some(age) } if age >= LEASE),
        "{freshness:?}"
    );
    let [Laggard { node, lease_left_ms }] = laggards[..] else { panic!("{laggards:?}") };
    assert_eq!(node, id(lost));
    assert!(lease_left_ms <= 0, "{lease_left_ms} ms are left");
    assert!(waited <= LEASE + LEASE / 2, "{waited:?}");

    // Once more: it is gone, and nobody waits for it.
    let index = cluster.tick(through).await;
    let begun = Instant::now();
    cluster.node(through).everywhere(index, soon()).await.unwrap();
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());

    cluster.cuts.heal();
    until_fresh(&cluster, &[lost]).await;
    assert_eq!(cluster.node(through).everywhere(index, soon()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_barrier_without_time_says_how_long_the_lease_may_last() {
    let cluster = Cluster::five(config()).await;
    until_fresh(&cluster, &[1, 2, 3, 4]).await;
    let (lost, others) = follower(&cluster).await;
    cluster.cuts.between(&[lost], &others);
    for through in [others[0], others[1]] {
        let index = cluster.tick(through).await;
        let deadline = Instant::now() + Duration::from_millis(250);
        let laggards = cluster.node(through).everywhere(index, deadline).await.unwrap();
        let [Laggard { node, lease_left_ms }] = laggards[..] else { panic!("{laggards:?}") };
        assert_eq!(node, id(lost));
        assert!((1..=1_011).contains(&lease_left_ms), "{lease_left_ms} ms are left");
        cluster.cuts.heal();
        until_fresh(&cluster, &[lost]).await;
        cluster.cuts.between(&[lost], &others);
    }
}

/// A new leader knows nothing of the leases that the one before let begin, so it waits out the longest.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_waits_for_every_lease_that_may_have_begun_before_it() {
    let mut cluster = Cluster::five(config()).await;
    until_fresh(&cluster, &[1, 2, 3, 4]).await;
    let old = cluster.leader_among(&[1, 2, 3, 4]).await;
    cluster.kill(old);
    let others: Vec<u64> = (1..=4).filter(|node| *node != old).collect();
    let new = cluster.leader_among(&others).await;
    let elected = Instant::now();
    let index = cluster.tick(new).await;
    let laggards = cluster.node(new).everywhere(index, soon()).await.unwrap();
    let [Laggard { node, lease_left_ms }] = laggards[..] else { panic!("{laggards:?}") };
    assert_eq!(node, id(old));
    assert!(lease_left_ms <= 0);
    let waited = elected.elapsed();
    assert!(waited + Duration::from_millis(100) >= LEASE, "only {waited:?}");

    // Restarted, it knows since when it knows nothing, and is fresh again when it has caught up.
    cluster.start(old).await;
    until_fresh(&cluster, &[old]).await;
    assert_eq!(cluster.node(new).everywhere(index, soon()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_every_lease_ends_and_none_begins() {
    let mut cluster = Cluster::five(config()).await;
    until_fresh(&cluster, &[1, 2, 3, 4]).await;
    for node in [3, 4, 5] {
        cluster.kill(node);
    }
    sleep(LEASE + LEASE / 10).await;
    for node in [1, 2] {
        let freshness = cluster.node(node).freshness();
        assert!(
            matches!(freshness, Freshness::Stale { age: Some(_) }),
            "node {node}: {freshness:?}"
        );
    }
    sleep(LEASE).await;
    for node in [1, 2] {
        assert_ne!(cluster.node(node).freshness(), Freshness::Fresh, "node {node}");
    }
}
