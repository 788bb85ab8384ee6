//! Waits until a cluster is as it should be: a leader that everybody follows, and nobody behind.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use tokio::time::{Instant, sleep};
use twinkeep_client::Client;
use twinkeep_client::v1::{self, GetStatusResponse, ReplicationMode, Standing};
use twinkeep_tests::{Cluster, Node};

/// Longest wait until everything is as it should be.
const WHOLE_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_PACE: Duration = Duration::from_millis(50);
/// Longest wait for a node to say how it is.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Entries that a node may lack and still have caught up, since new ones are written.
const LAG_MAX: u64 = 100;

/// The data nodes of a cluster, each with an administrator who asks it alone.
pub(crate) struct Views(Vec<(Node, Client)>);

/// A cluster that is as it should be.
pub(crate) struct Whole {
    /// Who leads.
    pub(crate) leader: Node,
    /// The term.
    pub(crate) term: u64,
}

impl Views {
    /// Looks at the data nodes that a cluster has now.
    pub(crate) fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let views = cluster.data_nodes().map(|node| {
            let admin = cluster.client_at("admin", node)?.any_state().with_deadline(LOOK_MAX);
            Ok((node.clone(), admin))
        });
        Ok(Self(views.collect::<anyhow::Result<_>>()?))
    }

    /// Waits until a data node leads, all nodes have caught up, and every zone is counted on.
    pub(crate) async fn until_whole(&self) -> anyhow::Result<Whole> {
        let began = Instant::now();
        loop {
            match self.look().await {
                Ok(whole) => return Ok(whole),
                Err(error) if began.elapsed() > WHOLE_MAX => {
                    return Err(error).context("the cluster is not whole in time");
                }
                Err(_) => sleep(LOOK_PACE).await,
            }
        }
    }

    async fn look(&self) -> anyhow::Result<Whole> {
        let asked = self.0.iter().map(|(node, admin)| async move {
            let status = admin.get_status(v1::GetStatusRequest::default()).await;
            status.with_context(|| format!("node {} does not answer", node.name))
        });
        let statuses = try_join_all(asked).await?;
        let leads = |status: &GetStatusResponse| status.leader_node_id == status.node_id;
        let place = statuses.iter().position(leads).context("no data node leads")?;
        check(&statuses, &statuses[place])?;
        Ok(Whole { leader: self.0[place].0.clone(), term: statuses[place].term })
    }
}

/// Checks that all nodes follow the leader and that it counts on every zone.
fn check(statuses: &[GetStatusResponse], leader: &GetStatusResponse) -> anyhow::Result<()> {
    let follows =
        |status: &GetStatusResponse| status.leader_node_id == leader.node_id && !status.sealed;
    ensure!(statuses.iter().all(follows), "not all nodes follow the same leader");
    let mode = leader.replication.as_ref().map(v1::Replication::mode);
    ensure!(mode == Some(ReplicationMode::Sync), "the replication mode is {mode:?}");
    let others = leader.members.iter().filter(|member| member.node_id != leader.node_id);
    for member in others.filter(|member| member.standing() != Standing::Removed) {
        let lag = leader.committed_index.saturating_sub(member.matched_index);
        if !member.reachable || lag > LAG_MAX {
            bail!("node {} is not there or lags, by {lag} entries", member.node_id);
        }
    }
    Ok(())
}
