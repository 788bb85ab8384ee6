//! Members that were taken out while the development cluster ran, or after: it goes on without them.
//!
//! `twinkeep cluster remove` tells the cluster, not this folder. Started again, such a node ends with one
//! line. It counts as removed when it has ended and no node that serves lists it: a node that lags may not
//! list one that has just joined, which then has not ended.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use twinkeep_client::v1;

use super::layout::{DevNode, Layout};
use super::{process, up};

/// Longest time until those who serve again have applied what a removed node has.
const KNOWN_MAX: Duration = Duration::from_secs(5);
/// Longest time for a removed node to notice and to end.
const ENDED_MAX: Duration = Duration::from_secs(15);

/// Waits until every data node serves or turns out to have been removed, and takes removed members out of the
/// layout.
pub(super) async fn wait_and_retire(layout: &mut Layout) -> anyhow::Result<()> {
    let (mut serving, mut failed) = (Vec::new(), Vec::new());
    for node in layout.nodes().iter().filter(|node| !node.witness) {
        match up::wait_until_serving(layout, node).await {
            Ok(()) => serving.push(node.clone()),
            Err(error) => failed.push((node.name.clone(), error)),
        }
    }
    let started = Instant::now();
    loop {
        let unlisted = unlisted(layout, &serving).await;
        let is_unlisted = |name: &str| unlisted.iter().any(|node| node.name == name);
        match failed.iter().position(|(name, _)| !is_unlisted(name)) {
            None => return retire(layout, unlisted).await,
            Some(place) if started.elapsed() > KNOWN_MAX => {
                return Err(failed.swap_remove(place).1);
            }
            Some(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Takes those out that end.
async fn retire(layout: &mut Layout, unlisted: Vec<DevNode>) -> anyhow::Result<()> {
    let started = Instant::now();
    for node in unlisted {
        while process::running(layout, &node).is_some() && started.elapsed() < ENDED_MAX {
            sleep(Duration::from_millis(50)).await;
        }
        if process::running(layout, &node).is_some() {
            continue;
        }
        layout.retire(&node.name)?;
        up::progress(&format!(
            "node {} was removed from the cluster and is not started any more; its folder {} can be deleted",
            node.name,
            layout.folder(&node).display()
        ));
    }
    Ok(())
}

/// Returns the nodes of the layout that none of those who serve lists as a member; none if nobody answers.
async fn unlisted(layout: &Layout, serving: &[DevNode]) -> Vec<DevNode> {
    let mut members = Vec::new();
    for node in serving {
        let Ok(client) = up::client_of(layout, up::ADMIN, [node], &node.zone) else { continue };
        if let Ok(answer) = client.list_members(v1::ListMembersRequest::default()).await {
            members.extend(answer.members);
        }
    }
    let known = |node: &&DevNode| !members.is_empty() && !is_listed(node, &members);
    layout.nodes().iter().filter(known).cloned().collect()
}

fn is_listed(node: &DevNode, members: &[v1::Member]) -> bool {
    let address = node.peer_address.to_string();
    let removed = i32::from(v1::Standing::Removed);
    members
        .iter()
        .filter(|member| member.standing != removed)
        .any(|member| member.placement.as_ref().is_some_and(|place| place.peer_address == address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_is_listed_by_its_address_unless_it_is_as_removed() {
        let node = DevNode {
            name: "b2".to_owned(),
            zone: "b".to_owned(),
            witness: false,
            client_address: "127.0.2.2:7100".parse().unwrap(),
            peer_address: "127.0.2.2:7101".parse().unwrap(),
            metrics_address: None,
        };
        let member = |address: &str, standing: v1::Standing| v1::Member {
            placement: Some(v1::Placement {
                peer_address: address.to_owned(),
                ..Default::default()
            }),
            standing: standing.into(),
            ..Default::default()
        };
        let (own, other) = ("127.0.2.2:7101", "127.0.2.1:7101");
        let (removed, voter) = (v1::Standing::Removed, v1::Standing::Voter);
        assert!(!is_listed(&node, &[member(own, removed), member(other, voter)]));
        assert!(is_listed(&node, &[member(own, removed), member(own, voter)]));
        assert!(!is_listed(&node, &[]));
    }
}
