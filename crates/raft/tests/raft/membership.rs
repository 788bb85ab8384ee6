//! Who belongs to the group, and who does not.

use std::time::Duration;

use tokio::time::Instant;
use twinkeep_core::command::{Command, StandingChange};
use twinkeep_core::outcome::{Outcome, Refusal};
use twinkeep_core::topology::{NodeRole, Standing};
use twinkeep_raft::{Contact, InitializeError};

use crate::support::{Cluster, KEY, config, id, signed, soon};

fn voters(cluster: &Cluster, seen_by: u64) -> Vec<u64> {
    let members = cluster.node(seen_by).status().members;
    members.into_iter().filter(|member| member.is_voter).map(|member| member.node).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serving_learner_gets_every_entry_and_counts_in_no_quorum() {
    let mut cluster = Cluster::five(config()).await;
    cluster.join(6, "a", NodeRole::Data).await;
    let index = cluster.tick(6).await;
    cluster.all_applied(index).await;
    cluster.followed().await;
    assert_eq!(voters(&cluster, 6), [1, 2, 3, 4, 5]);
    // Three of six answer, and three of five voters are enough.
    cluster.kill(1);
    cluster.kill(2);
    let index = cluster.tick(6).await;
    cluster.all_applied(index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_replaced_in_one_change() {
    let mut cluster = Cluster::five(config()).await;
    cluster.join(6, "a", NodeRole::Data).await;
    cluster.kill(2);
    cluster.change_standings(&[(2, Standing::Removed), (6, Standing::Voter)]).await;
    cluster.followed().await;
    assert_eq!(voters(&cluster, 3), [1, 3, 4, 5, 6]);
    let index = cluster.tick(6).await;
    cluster.all_applied(index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_heard_by_nobody() {
    let mut cluster = Cluster::five(config()).await;
    cluster.join(6, "a", NodeRole::Data).await;
    let index = cluster.tick(6).await;
    cluster.all_applied(index).await;
    cluster.set_standings(&[6], Standing::Removed).await;
    for number in 1..=5 {
        cluster.node(number).membership_followed(soon()).await.unwrap();
    }
    let before = cluster.tick(1).await;
    // What it says is refused where it arrives, and it gets no entry any more.
    let batch = signed(&KEY, 6, vec![Command::Clock { unix_ms: 1 }]);
    let deadline = Instant::now() + Duration::from_secs(1);
    cluster.node(6).propose(batch, deadline).await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(cluster.node(6).status().applied_index.unwrap() < before);
}

/// A new leader sends old entries again, and among them memberships that name a node which was removed
/// since. They were taken for forgeries, and nothing was ever committed again.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_in_old_entries_stops_no_new_leader() {
    let mut cluster = Cluster::five(config()).await;
    cluster.join(6, "a", NodeRole::Data).await;
    cluster.set_standings(&[6], Standing::Removed).await;
    for number in 1..=5 {
        cluster.node(number).membership_followed(soon()).await.unwrap();
    }
    cluster.kill(6);
    let mut living = vec![1, 2, 3, 4];
    for _ in 0..2 {
        let leader = cluster.leader_among(&living).await;
        cluster.kill(leader);
        living.retain(|number| *number != leader);
        let index = cluster.tick(living[0]).await;
        cluster.all_applied(index).await;
        cluster.start(leader).await;
        living.push(leader);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_never_gets_a_majority_without_saying_so() {
    let mut cluster = Cluster::new(config());
    cluster.begin().await;
    cluster.join(2, "a", NodeRole::Data).await;
    let revision = cluster.node(1).roster().records()[&2].revision;
    let change = StandingChange { node: id(2), to: Standing::Voter, expected: revision };
    let done = cluster.propose(1, vec![Command::SetStandings { changes: vec![change] }]).await;
    let outcomes = done.unwrap().outcomes;
    assert!(matches!(outcomes[0], Outcome::Refused(Refusal::Misplaced(_))), "{outcomes:?}");
    assert_eq!(voters(&cluster, 1), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_begins_once() {
    let mut cluster = Cluster::new(config());
    cluster.begin().await;
    let again = cluster.node(1).initialize(Contact::new("127.0.1.1:1")).await;
    assert_eq!(again, Err(InitializeError::Begun));
}
