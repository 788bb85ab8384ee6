//! Disks that went back in time: a node with an old copy takes no part, says why, and nothing is lost.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use twinkeep_core::command::Command;
use twinkeep_raft::{Fatal, Node};

use crate::support::{Cluster, KEY, config, signed, soon};

/// Longest until a node with an old disk is refused.
const REFUSAL_MAX: Duration = Duration::from_secs(5);

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Stops a node and returns a copy of what it has on disk then.
async fn copy_of_disk(cluster: &mut Cluster, number: u64) -> tempfile::TempDir {
    cluster.kill(number);
    cluster.ended(number).await;
    let kept = tempfile::TempDir::new().unwrap();
    copy(&cluster.machines[&number].folder, kept.path());
    kept
}

/// Stops a node and puts an old copy of its disk back; returns the newest one.
async fn put_back(cluster: &mut Cluster, number: u64, old: &Path) -> tempfile::TempDir {
    let newest = copy_of_disk(cluster, number).await;
    replace_disk(cluster, number, old);
    newest
}

fn replace_disk(cluster: &Cluster, number: u64, by: &Path) {
    let folder = &cluster.machines[&number].folder;
    std::fs::remove_dir_all(folder).unwrap();
    copy(by, folder);
}

async fn refusal(node: &Node) -> String {
    match timeout(REFUSAL_MAX, node.fatal()).await {
        Ok(fatal @ Fatal::RolledBack(_)) => fatal.to_string(),
        other => panic!("the old disk was taken: {other:?}"),
    }
}

async fn until_full(node: &Node) {
    let end = soon();
    while !node.takes_part() {
        assert!(Instant::now() < end, "node {} does not take part", node.id());
        sleep(Duration::from_millis(5)).await;
    }
}

async fn write(cluster: &Cluster, through: u64, count: usize) -> u64 {
    let mut last = 0;
    for _ in 0..count {
        last = cluster.tick(through).await;
    }
    last
}

/// Lets heartbeats tell everybody who acknowledged what.
async fn let_it_be_known() {
    sleep(Duration::from_millis(300)).await;
}

/// An old copy of one node's disk is put back while the nodes of `dead` are down. It is refused with its reason;
/// with the newest copy the node goes on.
async fn refuse_old_disk(cluster: &mut Cluster, number: u64, through: u64, dead: &[u64]) {
    let old = copy_of_disk(cluster, number).await;
    cluster.start(number).await;
    let last = write(cluster, through, 20).await;
    cluster.all_applied(last).await;
    let_it_be_known().await;
    for node in dead {
        cluster.kill(*node);
    }
    let newest = put_back(cluster, number, old.path()).await;
    cluster.start(number).await;
    let why = refusal(cluster.node(number)).await;
    assert!(why.contains(&format!("the disk of node {number} is an older copy")), "{why}");
    assert!(!cluster.node(number).takes_part());
    cluster.kill(number);
    cluster.ended(number).await;
    replace_disk(cluster, number, newest.path());
    cluster.start(number).await;
    for node in dead {
        cluster.start(*node).await;
    }
    until_full(cluster.node(number)).await;
    let last = write(cluster, through, 1).await;
    cluster.all_applied(last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_disk_of_a_follower_is_refused_with_every_node_up_and_with_a_zone_dead() {
    let mut cluster = Cluster::five(config()).await;
    for dead in [&[][..], &[3, 4]] {
        let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
        let follower = if leader == 1 { 2 } else { 1 };
        let through = if follower == 1 { 2 } else { 1 };
        refuse_old_disk(&mut cluster, follower, through, dead).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_disk_of_a_leader_is_refused_with_every_node_up_and_with_a_zone_dead() {
    let mut cluster = Cluster::five(config()).await;
    for zone_dies in [false, true] {
        let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
        let (neighbour, other) = match leader {
            1 => (2, [3, 4]),
            2 => (1, [3, 4]),
            3 => (4, [1, 2]),
            _ => (3, [1, 2]),
        };
        let dead: &[u64] = if zone_dies { &other } else { &[] };
        refuse_old_disk(&mut cluster, leader, neighbour, dead).await;
    }
}

/// Entries are on a leader, the witness, and a node of the other zone, whose disk goes back. It still reaches the
/// two, but they do not reach it, nor the two nodes that were down: together with those it is a majority that
/// has none of the entries.
#[tokio::test(flavor = "multi_thread")]
async fn a_voter_with_an_old_disk_loses_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::five(config()).await;
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    // One that keeps what it acknowledged, one of the other zone that will not, and their neighbours.
    let [near, far] = if leader <= 2 { [[1, 2], [3, 4]] } else { [[3, 4], [1, 2]] };
    let (neighbour, lost) = (near[0] + near[1] - leader, far[0]);
    let old = copy_of_disk(&mut cluster, lost).await;
    cluster.start(lost).await;
    until_full(cluster.node(lost)).await;
    for absent in [neighbour, far[1]] {
        cluster.kill(absent);
        cluster.ended(absent).await;
    }
    let last = write(&cluster, leader, 20).await;
    let _newest = put_back(&mut cluster, lost, old.path()).await;
    cluster.cuts.between(&[leader, 5], &[neighbour, far[1]]);
    cluster.cuts.one_way(&[leader, 5], lost);
    for number in [neighbour, far[1], lost] {
        cluster.start(number).await;
    }
    // What these three could do without knowing of the entries, they would do within two elections.
    let deadline = Instant::now() + Duration::from_secs(3);
    let node = cluster.node(neighbour).clone();
    let batch = signed(&KEY, neighbour, vec![Command::Clock { unix_ms: 1 }]);
    if let Ok(written) = node.propose(batch, deadline).await {
        panic!("entry {} is acknowledged, and those up to {last} are gone", written.index);
    }
    drop(node);
    refusal(cluster.node(lost)).await;
    cluster.kill(lost);
    cluster.cuts.heal();
    let index = cluster.tick(neighbour).await;
    assert!(index > last);
    cluster.all_applied(index).await;
}

/// What was counted of the node that lost it is counted no more: the leader that counted it gives way.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_counted_what_is_lost_hands_over() {
    let mut cluster = Cluster::five(config()).await;
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    let follower = if leader == 3 { 4 } else { 3 };
    let old = copy_of_disk(&mut cluster, follower).await;
    cluster.start(follower).await;
    let last = write(&cluster, leader, 20).await;
    cluster.all_applied(last).await;
    let_it_be_known().await;
    let term = cluster.node(leader).status().term;
    let _newest = put_back(&mut cluster, follower, old.path()).await;
    cluster.start(follower).await;
    refusal(cluster.node(follower)).await;
    let end = soon();
    while cluster.node(5).status().term == term {
        assert!(Instant::now() < end, "the leader goes on");
        sleep(Duration::from_millis(5)).await;
    }
    cluster.kill(follower);
    let others: Vec<_> = (1..=4).filter(|node| ![leader, follower].contains(node)).collect();
    cluster.leader_among(&others).await;
    assert!(cluster.tick(others[0]).await > last);
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_restarts_are_let_in_one_by_one_with_a_zone_dead_and_all_at_once() {
    let mut cluster = Cluster::five(config()).await;
    write(&cluster, 1, 20).await;
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    let follower = if leader == 1 { 2 } else { 1 };
    for number in [follower, leader, 5] {
        cluster.kill(number);
        cluster.ended(number).await;
        let began = Instant::now();
        cluster.start(number).await;
        until_full(cluster.node(number)).await;
        println!("node {number} takes part again after {:?}", began.elapsed());
    }
    for number in [3, 4, 1] {
        cluster.kill(number);
        cluster.ended(number).await;
    }
    let began = Instant::now();
    cluster.start(1).await;
    until_full(cluster.node(1)).await;
    println!("with a zone dead after {:?}", began.elapsed());
    assert!(cluster.tick(1).await > 0);
    for number in [1, 2, 5] {
        cluster.kill(number);
        cluster.ended(number).await;
    }
    let began = Instant::now();
    for number in 1..=5 {
        cluster.start(number).await;
    }
    for number in 1..=5 {
        until_full(cluster.node(number)).await;
    }
    println!("all five after {:?}", began.elapsed());
    let last = cluster.tick(2).await;
    cluster.all_applied(last).await;
}
