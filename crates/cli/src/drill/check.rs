//! Whether a cluster is fit for a drill: one that is ill already would be measured ill.

use anyhow::bail;

use crate::cluster;
use crate::dev::layout::{DevNode, Layout};
use crate::dev::{loss, process, up};

/// Checks that every process runs and that the cluster is healthy; returns the leader.
pub(super) async fn fit(layout: &Layout) -> anyhow::Result<&DevNode> {
    for node in layout.nodes() {
        let name = &node.name;
        match process::running(layout, node) {
            None => bail!(
                "node {name} does not run on this machine: `twinkeep dev up` starts what does not run"
            ),
            Some(pid) if process::is_stopped(pid) => bail!(
                "node {name} is stopped (SIGSTOP): `twinkeep dev start-node {name}` lets it go on"
            ),
            Some(_) => {}
        }
    }
    if let Some(trouble) = cluster::trouble(&up::client(layout, up::ADMIN)?).await? {
        bail!(
            "the cluster is not healthy, and a drill would measure that: {trouble}; `twinkeep doctor` says what to do, \
             `twinkeep cluster watch` when it is over"
        );
    }
    loss::leader(layout).await
}
