//! The witness: it votes, leads when nobody else can, and serves nobody.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use twinkeep_raft::Part;

use crate::support::{Cluster, config};

/// Two zones cannot see each other, the witness sees both, and writes go on in zone a. When zone a
/// dies then, the witness alone has the newest entries, and zone b could not elect anybody for ever.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_witness_brings_a_data_node_up_to_date_and_hands_over() {
    let mut cluster = Cluster::five(config()).await;
    let leader = cluster.leader_among(&[1, 2, 3, 4]).await;
    let (near, far) = if leader <= 2 { ([1, 2], [3, 4]) } else { ([3, 4], [1, 2]) };
    cluster.cuts.between(&near, &far);
    let mut last = 0;
    for _ in 0..20 {
        last = cluster.tick(leader).await;
    }
    cluster.node(5).wait_applied(last, crate::support::soon()).await.unwrap();
    let behind = cluster.node(far[0]).status().last_index.unwrap();
    assert!(behind < last, "the far zone must lack entries");
    for number in near {
        cluster.kill(number);
    }
    cluster.cuts.heal();
    let new = cluster.leader_among(&far).await;
    cluster.node(new).wait_applied(last, crate::support::soon()).await.unwrap();
    cluster.tick(far[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_witness_never_stays_leader_and_never_serves() {
    let cluster = Cluster::five(config()).await;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert_ne!(cluster.node(5).status().part, Part::Leader);
        sleep(Duration::from_millis(20)).await;
    }
    // Proposals at the witness are not its own: they go to whoever leads, signed by nobody it could.
    let batch = crate::support::signed(&crate::support::KEY, 5, Vec::new());
    let deadline = Instant::now() + Duration::from_secs(2);
    cluster.node(5).propose(batch, deadline).await.unwrap_err();
}
