//! Snapshots: signed by data nodes, handed on by anybody, and the logs that end with them.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use twinkeep_core::topology::NodeRole;
use twinkeep_raft::{Config, OpenError, StoresError};

use crate::support::{Cluster, config, soon};

fn often() -> Config {
    Config { snapshot_every: 30, log_kept: 5, ..config() }
}

async fn snapshot_of(cluster: &Cluster, number: u64, at_least: u64) -> u64 {
    let deadline = soon();
    loop {
        let index = cluster.node(number).status().snapshot_index;
        if let Some(index) = index.filter(|index| *index >= at_least) {
            return index;
        }
        assert!(Instant::now() < deadline, "node {number} has snapshot {index:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_learner_gets_the_state_by_snapshot() {
    let mut cluster = Cluster::five(often()).await;
    for _ in 0..80 {
        cluster.tick(1).await;
    }
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    let covered = snapshot_of(&cluster, leader, 30).await;
    cluster.join(6, "b", NodeRole::Data).await;
    let index = cluster.tick(6).await;
    cluster.node(6).wait_applied(index, soon()).await.unwrap();
    assert!(cluster.node(6).status().snapshot_index >= Some(covered));
    let records = cluster.node(1).roster().records();
    assert_eq!(cluster.node(6).roster().records(), records);
    // It starts again from what it installed.
    cluster.kill(6);
    cluster.start(6).await;
    let index = cluster.tick(6).await;
    cluster.node(6).wait_applied(index, soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_witness_and_a_sealed_node_keep_what_others_signed() {
    let cluster = Cluster::five(often()).await;
    cluster.machines[&2].pen.is_sealed.store(true, Ordering::Relaxed);
    for _ in 0..60 {
        cluster.tick(1).await;
    }
    for number in [2, 5] {
        let index = snapshot_of(&cluster, number, 30).await;
        assert!(Some(index) <= cluster.node(number).status().applied_index);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_sealed_nodes_goes_on_without_snapshots() {
    let cluster = Cluster::five(often()).await;
    let before: Vec<_> = (1..=5).map(|n| cluster.node(n).status().snapshot_index).collect();
    for machine in cluster.machines.values() {
        machine.pen.is_sealed.store(true, Ordering::Relaxed);
    }
    for _ in 0..60 {
        cluster.tick(1).await;
    }
    sleep(Duration::from_millis(1_200)).await;
    let after: Vec<_> = (1..=5).map(|n| cluster.node(n).status().snapshot_index).collect();
    assert_eq!(after.iter().max(), before.iter().max());
    cluster.tick(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_log_without_a_snapshot_does_not_start() {
    let mut cluster = Cluster::five(often()).await;
    for _ in 0..120 {
        cluster.tick(1).await;
    }
    snapshot_of(&cluster, 5, 60).await;
    sleep(Duration::from_millis(500)).await;
    cluster.kill(5);
    cluster.ended(5).await;
    fs::remove_dir_all(cluster.machines[&5].folder.join("snapshots")).unwrap();
    let refused = cluster.open(5).await.err();
    let is_refused = matches!(refused, Some(OpenError::Stores(StoresError::NoSnapshot { .. })));
    assert!(is_refused, "{refused:?}");
}

/// The newest ones are torn and an older one is left, with a hole between it and the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_ends_below_the_purged_log_is_not_enough() {
    let mut cluster = Cluster::five(often()).await;
    for _ in 0..40 {
        cluster.tick(1).await;
    }
    snapshot_of(&cluster, 5, 30).await;
    // Nothing is written any more, so no other snapshot arrives while this one is copied.
    sleep(Duration::from_millis(1_200)).await;
    let old = snapshot_of(&cluster, 5, 30).await;
    let folder = cluster.machines[&5].folder.join("snapshots");
    let aside = cluster.machines[&5].folder.join("aside");
    copy(&folder, &aside);
    for _ in 0..120 {
        cluster.tick(1).await;
    }
    snapshot_of(&cluster, 5, old + 60).await;
    sleep(Duration::from_millis(500)).await;
    cluster.kill(5);
    cluster.ended(5).await;
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    let Some(OpenError::Stores(error)) = cluster.open(5).await.err() else {
        panic!("it starts");
    };
    let StoresError::NoSnapshot { purged, newest } = &error else { panic!("{error:?}") };
    assert!(newest.is_some() && *newest < Some(*purged), "{error}");
}

/// Copies the snapshots of a node.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_below_the_state_does_not_start() {
    let mut cluster = Cluster::new(config());
    cluster.begin().await;
    cluster.tick(1).await;
    cluster.kill(1);
    cluster.ended(1).await;
    fs::remove_dir_all(cluster.machines[&1].folder.join("log")).unwrap();
    let refused = cluster.open(1).await.err();
    assert!(matches!(refused, Some(OpenError::Stores(StoresError::Log(_)))), "{refused:?}");
}
