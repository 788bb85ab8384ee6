//! Acknowledgement by zone: what an answer promises, what the mode says, when a new key may be used.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use twinkeep_core::command::Command;
use twinkeep_core::id::KeyId;
use twinkeep_core::replication::{Durability, Mode};
use twinkeep_raft::{ProposeError, Proposed};
use twinkeep_testkit::records::{INSTANCE, create_instance, create_key};

use crate::support::{Cluster, KEY, config, signed_as, soon};

/// The data nodes of the leader's zone, the leader first, and those of the other zone.
async fn zones(cluster: &Cluster) -> ([u64; 2], [u64; 2]) {
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    match leader {
        1 => ([1, 2], [3, 4]),
        2 => ([2, 1], [3, 4]),
        3 => ([3, 4], [1, 2]),
        _ => ([4, 3], [1, 2]),
    }
}

/// Writes something that may be written twice, and again where a leader died under it.
async fn write(cluster: &Cluster, through: u64) -> Proposed {
    let deadline = soon();
    loop {
        let tick = vec![Command::Clock { unix_ms: 1 }];
        match cluster.propose(through, tick).await {
            Ok(done) => return done,
            Err(ProposeError::Timeout) if Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn mode(cluster: &Cluster, node: u64) -> Mode {
    cluster.node(node).replication().applied().borrow().mode.clone()
}

async fn until_mode(cluster: &Cluster, node: u64, wanted: impl Fn(&Mode) -> bool) -> Mode {
    let deadline = soon();
    loop {
        let mode = mode(cluster, node);
        if wanted(&mode) {
            return mode;
        }
        assert!(Instant::now() < deadline, "node {node} is still in mode `{mode}`");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A cluster whose zones are both counted on. While it forms, a zone may have been slow to answer.
async fn in_sync() -> Cluster {
    let cluster = Cluster::five(config()).await;
    until_mode(&cluster, 1, |mode| *mode == Mode::Sync).await;
    cluster
}

/// Proposes in the name of a caller, as keys and instances need it.
async fn propose_as_caller(cluster: &Cluster, through: u64, command: Command) -> Proposed {
    let batch = signed_as(&KEY, through, "admin", vec![command]);
    cluster.node(through).propose(batch, soon()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_that_every_zone_holds_the_change() {
    let cluster = in_sync().await;
    let (near, far) = zones(&cluster).await;
    for through in [near[0], near[1], far[0]] {
        let done = write(&cluster, through).await;
        assert_eq!(done.durability, Some(Durability::EveryZone), "through node {through}");
        let held = |node: &u64| cluster.node(*node).status().last_index >= Some(done.index);
        assert!(far.iter().any(held), "no node of the other zone has entry {}", done.index);
    }
}

/// Zone b is cut off from zone a and not from the witness: Raft commits with zone a and the witness.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_until_the_zone_that_lacks_the_change_is_given_up() {
    let cluster = in_sync().await;
    let (near, far) = zones(&cluster).await;
    cluster.cuts.between(&near, &far);
    let begun = Instant::now();
    let done = write(&cluster, near[0]).await;
    assert_eq!(done.durability, Some(Durability::SingleZone));
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(800), "given up after {waited:?}");
    assert!(matches!(mode(&cluster, near[0]), Mode::Degraded { .. }));
    let held = cluster.node(far[0]).status().last_index;
    assert!(held < Some(done.index), "the zone that was cut off has the entry after all");
    // From now on nobody waits.
    let begun = Instant::now();
    write(&cluster, near[0]).await;
    assert!(begun.elapsed() < Duration::from_millis(800), "{:?}", begun.elapsed());
    // The zone comes back, catches up, and is counted on again.
    cluster.cuts.heal();
    until_mode(&cluster, near[0], |mode| matches!(mode, Mode::Recovering { .. })).await;
    assert_eq!(write(&cluster, near[0]).await.durability, Some(Durability::SingleZone));
    until_mode(&cluster, near[0], |mode| *mode == Mode::Sync).await;
    assert_eq!(write(&cluster, far[0]).await.durability, Some(Durability::EveryZone));
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_the_leaders_zone_degrades_within_a_moment_of_the_election() {
    let mut cluster = in_sync().await;
    let (near, far) = zones(&cluster).await;
    for node in near {
        cluster.kill(node);
    }
    let killed = Instant::now();
    let done = write(&cluster, far[0]).await;
    assert_eq!(done.durability, Some(Durability::SingleZone));
    let waited = killed.elapsed();
    assert!(waited < Duration::from_secs(3), "written again after {waited:?}");
    let Mode::Degraded { zone } = mode(&cluster, far[0]) else { panic!("not degraded") };
    assert_eq!(zone, cluster.machines[&near[0]].record.placement.zone);
    for node in near {
        cluster.start(node).await;
    }
    until_mode(&cluster, far[0], |mode| *mode == Mode::Sync).await;
    assert_eq!(write(&cluster, near[0]).await.durability, Some(Durability::EveryZone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_voter_outside_the_leaders_zone_is_told() {
    let mut cluster = in_sync().await;
    let (near, far) = zones(&cluster).await;
    cluster.kill(far[1]);
    cluster.kill(5);
    let deadline = soon();
    // Both may answer for as long as they are not known to be silent.
    while write(&cluster, near[0]).await.durability != Some(Durability::SingleCopyOutside) {
        assert!(Instant::now() < deadline, "two copies are claimed where one voter is left");
    }
    let done = write(&cluster, near[0]).await;
    assert!(cluster.node(far[0]).status().last_index >= Some(done.index));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_may_be_used_by_whoever_has_applied_the_answer_and_by_nobody_before() {
    let cluster = in_sync().await;
    propose_as_caller(&cluster, 1, create_instance("main", INSTANCE)).await;
    for (id, through) in [(1, 1), (2, 4), (3, 2)] {
        let mut watched = cluster.node(3).replication().applied();
        let done = propose_as_caller(&cluster, through, create_key(id)).await;
        assert_eq!(done.durability, Some(Durability::EveryZone));
        for node in [1, 2, 3, 4, 5] {
            cluster.node(node).wait_applied(done.index, soon()).await.unwrap();
            let key = KeyId::from_bytes([id; 16]);
            let version = cluster.version(node, key);
            let usable = cluster.node(node).replication().usable_up_to();
            assert!(version.created_index <= usable, "node {node}: {version:?}, {usable}");
            // The answer names the marker or a later entry, never the one that created the key.
            assert!(done.index > version.created_index);
        }
        watched.wait_for(|applied| applied.usable_up_to > 0).await.unwrap();
    }
}

/// Zone a and the witness hold the key, zone b does not: were a used now and lost with the witness, its
/// ciphertexts would stay without a key.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_waits_while_a_zone_lacks_it() {
    let cluster = in_sync().await;
    propose_as_caller(&cluster, 1, create_instance("main", INSTANCE)).await;
    let (near, far) = zones(&cluster).await;
    cluster.cuts.between(&near, &far);
    let leader = cluster.node(near[0]).clone();
    let batch = signed_as(&KEY, near[0], "admin", vec![create_key(9)]);
    let call = tokio::spawn({
        let leader = leader.clone();
        async move { leader.propose(batch, soon()).await }
    });
    let key = KeyId::from_bytes([9; 16]);
    let deadline = soon();
    while cluster.find_version(near[0], key).is_none() {
        assert!(Instant::now() < deadline, "the key was not committed");
        sleep(Duration::from_millis(1)).await;
    }
    let version = cluster.version(near[0], key);
    let mut applied = leader.replication().applied();
    let unlocked = applied
        .wait_for(|applied| applied.usable_up_to >= version.created_index)
        .await
        .unwrap()
        .clone();
    assert!(matches!(unlocked.mode, Mode::Degraded { .. }), "usable in mode {:?}", unlocked.mode);
    assert_eq!(call.await.unwrap().unwrap().durability, Some(Durability::SingleZone));
}

/// The leader hands over while an entry is committed and may not be acknowledged yet: whoever waits learns it
/// from the next leader.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_outlives_its_leader_is_acknowledged_by_the_next() {
    let cluster = in_sync().await;
    let (near, far) = zones(&cluster).await;
    let (old, through) = (near[0], near[1]);
    // Committed with the witness, and not in the far zone.
    cluster.cuts.between(&near, &far);
    let before = cluster.node(through).applied_index();
    let node = cluster.node(through).clone();
    let batch = crate::support::signed(&KEY, through, vec![Command::Clock { unix_ms: 1 }]);
    let call = tokio::spawn(async move { node.propose(batch, soon()).await });
    let deadline = soon();
    while cluster.node(through).applied_index() == before {
        assert!(Instant::now() < deadline, "the entry is not committed");
        sleep(Duration::from_millis(1)).await;
    }
    assert!(!call.is_finished(), "acknowledged before the far zone has it");
    cluster.node(old).drain(soon()).await.unwrap();
    cluster.cuts.heal();
    let done = call.await.unwrap().unwrap();
    assert!(done.durability.is_some());
    assert_ne!(cluster.leader_among(&[1, 2, 3, 4]).await, old);
    cluster.node(through).wait_applied(done.index, soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_leader_hands_over_to_one_that_can_sign() {
    let cluster = in_sync().await;
    let (near, _) = zones(&cluster).await;
    cluster.machines[&near[0]].pen.is_sealed.store(true, std::sync::atomic::Ordering::Relaxed);
    propose_as_caller(&cluster, near[1], create_instance("main", INSTANCE)).await;
    // A new key needs a marker, which the leader cannot sign.
    let done = propose_as_caller(&cluster, near[1], create_key(1)).await;
    assert_eq!(done.durability, Some(Durability::EveryZone));
    assert_ne!(cluster.leader_among(&[1, 2, 3, 4]).await, near[0]);
}

/// What a node would say at 3 a.m. of its zone: everything up to then is here.
fn complete_until_ms(cluster: &Cluster, node: u64) -> u64 {
    cluster.node(node).sync_lease().map_or(0, |lease| lease.until_unix_ms)
}

fn now_ms(cluster: &Cluster) -> u64 {
    use twinkeep_core::clock::Clock as _;
    cluster.machines[&1].watch.unix_ms()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_zone_knows_until_when_it_is_complete_and_the_witness_knows_nothing() {
    let mut cluster = in_sync().await;
    let (near, far) = zones(&cluster).await;
    let deadline = soon();
    for node in [1, 2, 3, 4] {
        while complete_until_ms(&cluster, node) < now_ms(&cluster) {
            assert!(Instant::now() < deadline, "node {node} has no lease");
            sleep(Duration::from_millis(5)).await;
        }
        assert!(complete_until_ms(&cluster, node) <= now_ms(&cluster) + 250, "node {node}");
    }
    assert_eq!(cluster.node(5).sync_lease(), None);

    // Cut off, the far zone learns of nothing any more; what it was promised before ends soon.
    cluster.cuts.between(&near, &far);
    let cut_ms = now_ms(&cluster);
    let lost = write(&cluster, near[0]).await;
    assert_eq!(lost.durability, Some(Durability::SingleZone));
    for node in far {
        let until_ms = complete_until_ms(&cluster, node);
        assert!(until_ms <= cut_ms + 250, "node {node}: {until_ms}, cut at {cut_ms}");
        assert!(now_ms(&cluster) > until_ms, "acknowledged while node {node} still had a lease");
    }

    // A restart forgets at most the second since it was written down.
    let before_ms = complete_until_ms(&cluster, far[0]);
    cluster.kill(far[0]);
    cluster.start(far[0]).await;
    let after_ms = complete_until_ms(&cluster, far[0]);
    assert!(after_ms <= before_ms && after_ms + 1_500 >= before_ms, "{after_ms}, {before_ms}");

    // Complete again only once it has what was written without it.
    cluster.cuts.heal();
    until_mode(&cluster, near[0], |mode| *mode == Mode::Sync).await;
    let deadline = soon();
    while complete_until_ms(&cluster, far[0]) < now_ms(&cluster) {
        assert!(Instant::now() < deadline, "the zone that came back has no lease");
        sleep(Duration::from_millis(5)).await;
    }
    let held = far.map(|node| cluster.node(node).status().last_index);
    assert!(held.into_iter().max().flatten() >= Some(lost.index));
}
