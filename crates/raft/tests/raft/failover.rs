//! Elections, replication, restarts.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use twinkeep_raft::{Part, ProposeError, ReadError};

use crate::support::{Cluster, KEY, config, signed, soon};
use twinkeep_core::command::Command;

#[tokio::test(flavor = "multi_thread")]
async fn a_write_through_any_data_node_reaches_every_node() {
    let cluster = Cluster::five(config()).await;
    for through in [1, 2, 3, 4] {
        let index = cluster.tick(through).await;
        cluster.all_applied(index).await;
    }
    let voters = cluster.node(3).status().members;
    assert_eq!(voters.iter().filter(|member| member.is_voter).count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_data_node_leads_after_the_leader_dies_and_nothing_is_lost() {
    let mut cluster = Cluster::five(config()).await;
    let old = cluster.leader_among(&[1, 2, 3, 4]).await;
    let through = if old == 1 { 3 } else { 1 };
    let before = cluster.tick(through).await;
    cluster.kill(old);
    let survivors: Vec<u64> = (1..=4).filter(|node| *node != old).collect();
    // The proposal waits for the new leader by itself.
    let after = cluster.tick(through).await;
    assert!(after > before);
    let new = cluster.leader_among(&survivors).await;
    assert_ne!(new, old);
    cluster.start(old).await;
    let last = cluster.tick(old).await;
    cluster.all_applied(last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_restarts_with_everything_it_acknowledged() {
    let mut cluster = Cluster::five(config()).await;
    let mut last = 0;
    for _ in 0..20 {
        last = cluster.tick(1).await;
    }
    let records = cluster.node(1).roster().records();
    for number in 1..=5 {
        cluster.kill(number);
    }
    for number in 1..=5 {
        cluster.start(number).await;
    }
    let next = cluster.tick(2).await;
    assert!(next > last);
    cluster.all_applied(next).await;
    for number in 1..=5 {
        assert_eq!(cluster.node(number).roster().records(), records);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_hands_over_without_an_election_timeout() {
    let cluster = Cluster::five(config()).await;
    let old = cluster.leader_among(&[1, 2, 3, 4]).await;
    let begun = Instant::now();
    cluster.node(old).drain(soon()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1_000), "{:?}", begun.elapsed());
    let others: Vec<u64> = (1..=4).filter(|node| *node != old).collect();
    cluster.leader_among(&others).await;
    // A drained node forwards and never leads again.
    cluster.tick(old).await;
    assert_ne!(cluster.node(old).status().part, Part::Leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_writes_and_reads_are_refused_and_nothing_changes() {
    let mut cluster = Cluster::five(config()).await;
    cluster.tick(1).await;
    for number in [3, 4, 5] {
        cluster.kill(number);
    }
    let node = cluster.node(1);
    tokio::time::sleep(Duration::from_millis(800)).await;
    let deadline = Instant::now() + Duration::from_secs(2);
    let batch = signed(&KEY, 1, vec![Command::Clock { unix_ms: 1 }]);
    let refused = node.propose(batch, deadline).await.unwrap_err();
    assert!(
        matches!(refused, ProposeError::NoLeader | ProposeError::NotLeader { .. }),
        "{refused:?}"
    );
    let deadline = Instant::now() + Duration::from_millis(500);
    assert_eq!(node.read_index(deadline).await, Err(ReadError::NoLeader));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_index_covers_every_acknowledged_write() {
    let cluster = Cluster::five(config()).await;
    for (writer, reader) in [(1, 4), (3, 2), (4, 1)] {
        let written = cluster.tick(writer).await;
        let index = cluster.node(reader).read_index(soon()).await.unwrap();
        assert!(index >= written);
        cluster.node(reader).wait_applied(index, soon()).await.unwrap();
    }
    let soonest = Instant::now() + Duration::from_millis(50);
    let behind = cluster.node(2).wait_applied(u64::MAX, soonest).await;
    assert!(matches!(behind, Err(ReadError::Behind { wanted: u64::MAX, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_says_so() {
    let mut cluster = Cluster::new(config());
    cluster.begin().await;
    let node = cluster.node(1).clone();
    let fatal = tokio::spawn({
        let node = node.clone();
        async move { node.fatal().await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!fatal.is_finished());
    node.shutdown().await;
    timeout(Duration::from_secs(3), fatal).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replicated_clock_moves_with_writes() {
    let cluster = Cluster::five(config()).await;
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    // The readings of the other zone's clocks come with the first hello.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let one = cluster.tick(leader).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let other = cluster.tick(leader).await;
    // The clock's own entry stands in front of the second one.
    assert!(other >= one + 2, "{one} {other}");
}
