//! GetStatus.

use twinkeep_core::apply::now_ms;
use twinkeep_core::record::{ClusterRecord, Record as _};
use twinkeep_proto::v1;

use super::Cluster;
use super::zones::leadership;
use crate::authorize::{Entered, Handle};
use crate::convert;
use crate::error::CallError;
use crate::operation as op;

impl Handle<op::GetStatus> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::GetStatus>,
        _: &v1::GetStatusRequest,
    ) -> Result<v1::GetStatusResponse, CallError> {
        call.on_cluster()?;
        let control = self.changes.control();
        let applied_index = control.applied_index();
        let view = control.view();
        let record = ClusterRecord::load(&*view, &())?;
        let record = record.ok_or_else(|| CallError::Missing("the cluster record".to_owned()))?;
        let node = self.cluster.status();
        Ok(v1::GetStatusResponse {
            cluster_id: record.id.to_string(),
            incarnation: record.incarnation.get(),
            node_id: node.node.get(),
            leader_node_id: node.leader.map_or(0, |leader| leader.get()),
            leader_address: control
                .leader()
                .map(|leader| leader.address.to_string())
                .unwrap_or_default(),
            term: node.term,
            last_log_index: node.last_log_index,
            committed_index: node.committed_index,
            applied_index,
            sealed: node.sealed,
            cluster_version: record.version.0,
            cluster_time_unix_ms: now_ms(&*view)?,
            software_version: node.software_version.to_owned(),
            members: self.members()?,
            state_index: 0,
            approvals_min: record.approvals_min.into(),
            replication: control
                .replication()
                .map(|status| convert::replication(&status, control.usable_up_to())),
            leadership: Some(leadership(&*view)?),
        })
    }
}
