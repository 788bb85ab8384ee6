//! The lead stays out of a drained zone and goes back to the preferred one, by transfer.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use twinkeep_core::command::Command;
use twinkeep_core::leadership::Leadership;
use twinkeep_core::outcome::{Applied, Outcome};
use twinkeep_core::record::{LeadershipRecord, Record};
use twinkeep_core::replication::Mode;
use twinkeep_raft::{Config, ProposeError};

use crate::support::{Cluster, config, soon};

const ALL: [u64; 4] = [1, 2, 3, 4];
const FAIL_BACK_AFTER: Duration = Duration::from_secs(1);

/// Nodes 1 and 2 stand in zone a, 3 and 4 in zone b.
fn zone(node: u64) -> &'static str {
    if node <= 2 { "zone-a" } else { "zone-b" }
}

fn others(leader: u64) -> ([u64; 2], [u64; 2]) {
    if leader <= 2 { ([1, 2], [3, 4]) } else { ([3, 4], [1, 2]) }
}

async fn in_sync(config: Config) -> Cluster {
    let cluster = Cluster::five(config).await;
    let deadline = soon();
    while cluster.node(1).replication().applied().borrow().mode != Mode::Sync {
        assert!(Instant::now() < deadline, "the cluster does not come into sync");
        sleep(Duration::from_millis(10)).await;
    }
    cluster
}

/// Says which zone shall lead, and which shall not.
async fn set(cluster: &Cluster, through: u64, preferred: Option<&str>, drained: Option<&str>) {
    let name = |zone: &str| zone.parse().unwrap();
    let to = Leadership { preferred: preferred.map(name), drained: drained.map(name) };
    let expected = cluster.running[&through]
        .state
        .view(|state| LeadershipRecord::load(state, &()))
        .unwrap()
        .map(|record| record.revision);
    let done =
        cluster.propose(through, vec![Command::SetLeadership { to, expected }]).await.unwrap();
    assert_eq!(done.outcomes, [Outcome::Applied(Applied::Cluster)]);
}

/// Waits until one of these nodes leads and all that run say so.
async fn led_by(cluster: &Cluster, nodes: &[u64]) -> u64 {
    let deadline = soon();
    loop {
        let said: Vec<_> = cluster.running.values().map(|running| running.node.leader()).collect();
        if let Some(Some(leader)) = said.first()
            && nodes.contains(leader)
            && said.iter().all(|other| other == &said[0])
        {
            return *leader;
        }
        assert!(Instant::now() < deadline, "{nodes:?} do not lead: {said:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn write(cluster: &Cluster, through: u64) {
    let deadline = soon();
    while let Err(error) = cluster.propose(through, vec![Command::Clock { unix_ms: 1 }]).await {
        let may_repeat = matches!(error, ProposeError::Timeout) && Instant::now() < deadline;
        assert!(may_repeat, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drained_zone_hands_over_and_leads_again_only_when_nobody_else_can() {
    let mut cluster = in_sync(config()).await;
    let old = cluster.leader_among(&ALL).await;
    let (drained, left) = others(old);
    set(&cluster, old, None, Some(zone(old))).await;
    let new = led_by(&cluster, &left).await;
    write(&cluster, drained[0]).await;
    // The other one of the zone follows it, not a node that is drained.
    cluster.kill(new);
    let last = if new == left[0] { left[1] } else { left[0] };
    led_by(&cluster, &[last]).await;
    write(&cluster, drained[1]).await;
    // With nobody else, changes are worth more than the wish.
    cluster.kill(last);
    led_by(&cluster, &drained).await;
    write(&cluster, drained[0]).await;
    // And it goes as soon as somebody can take it.
    for node in left {
        cluster.start(node).await;
    }
    led_by(&cluster, &left).await;
    write(&cluster, drained[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lead_goes_to_the_preferred_zone_once_it_was_steady() {
    let config = Config { fail_back_after: FAIL_BACK_AFTER, ..config() };
    let mut cluster = in_sync(config).await;
    let old = cluster.leader_among(&ALL).await;
    let (_, preferred) = others(old);
    let began = Instant::now();
    set(&cluster, old, Some(zone(preferred[0])), None).await;
    let new = led_by(&cluster, &preferred).await;
    assert!(began.elapsed() >= FAIL_BACK_AFTER, "after {:?}", began.elapsed());
    // It comes back after the zone was lost, too.
    for node in preferred {
        cluster.kill(node);
    }
    led_by(&cluster, &others(old).0).await;
    for node in preferred {
        cluster.start(node).await;
    }
    led_by(&cluster, &preferred).await;
    write(&cluster, old).await;
    // A drain weighs more, and taken back lets it go home again.
    set(&cluster, old, Some(zone(new)), Some(zone(new))).await;
    led_by(&cluster, &others(old).0).await;
    set(&cluster, old, Some(zone(new)), None).await;
    led_by(&cluster, &preferred).await;
}
