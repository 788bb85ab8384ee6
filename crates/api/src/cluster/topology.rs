//! WatchTopology.

use futures::StreamExt as _;
use tokio_stream::wrappers::WatchStream;
use twinkeep_proto::v1;

use super::Cluster;
use crate::authorize::{Answers, Entered, HandleStream};
use crate::error::CallError;
use crate::operation as op;
use crate::ports::Topology;

impl HandleStream<op::WatchTopology> for Cluster {
    async fn open(
        &self,
        call: &Entered<op::WatchTopology>,
        _: &v1::WatchTopologyRequest,
    ) -> Result<Answers<op::WatchTopology>, CallError> {
        // Whoever may call anything here may know where to call: no resource is asked for.
        let control = std::sync::Arc::clone(call.records().control());
        let changes = WatchStream::new(self.cluster.topology());
        Ok(Box::pin(changes.map(move |topology| Ok(answer(topology, control.applied_index())))))
    }
}

fn answer(topology: Topology, state_index: u64) -> v1::WatchTopologyResponse {
    let endpoints = topology.endpoints.into_iter().map(|endpoint| v1::Endpoint {
        node_id: endpoint.node.get(),
        zone: endpoint.zone.to_string(),
        address: endpoint.address.to_string(),
        reachable: endpoint.reachable,
        draining: endpoint.draining,
    });
    v1::WatchTopologyResponse {
        endpoints: endpoints.collect(),
        leader_node_id: topology.leader.map_or(0, |leader| leader.get()),
        state_index,
    }
}
