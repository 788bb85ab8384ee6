//! The cluster: `twinkeep.v1.ClusterService`.

mod diagnose;
mod members;
mod seal;
mod status;
mod topology;
mod zones;

use std::sync::Arc;

use tonic::{Request, Response, Status};
use twinkeep_proto::v1;
use twinkeep_proto::v1::cluster_service_server::ClusterService;

use crate::authorize::{Gate, Outgoing};
use crate::change::Changes;
use crate::handles::Handles;
use crate::operation as op;
use crate::ports::{ClusterControl, Ports};

/// `twinkeep.v1.ClusterService`.
pub(crate) struct Cluster {
    gate: Arc<Gate>,
    changes: Changes,
    handles: Arc<Handles>,
    cluster: Arc<dyn ClusterControl>,
}

impl Cluster {
    pub(crate) fn new(gate: Arc<Gate>, handles: Arc<Handles>, ports: &Ports) -> Self {
        let cluster = Arc::clone(&ports.cluster);
        Self { gate, changes: Changes::new(ports), handles, cluster }
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    type WatchTopologyStream = Outgoing<v1::WatchTopologyResponse>;

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        self.gate.unary::<op::GetStatus, _>(self, request).await
    }

    async fn diagnose(
        &self,
        request: Request<v1::DiagnoseRequest>,
    ) -> Result<Response<v1::DiagnoseResponse>, Status> {
        self.gate.unary::<op::Diagnose, _>(self, request).await
    }

    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        self.gate.unary::<op::ListMembers, _>(self, request).await
    }

    async fn watch_topology(
        &self,
        request: Request<v1::WatchTopologyRequest>,
    ) -> Result<Response<Self::WatchTopologyStream>, Status> {
        self.gate.stream::<op::WatchTopology, _>(self, request).await
    }

    async fn admit_node(
        &self,
        request: Request<v1::AdmitNodeRequest>,
    ) -> Result<Response<v1::AdmitNodeResponse>, Status> {
        self.gate.unary::<op::AdmitNode, _>(self, request).await
    }

    async fn promote_nodes(
        &self,
        request: Request<v1::PromoteNodesRequest>,
    ) -> Result<Response<v1::PromoteNodesResponse>, Status> {
        self.gate.unary::<op::PromoteNodes, _>(self, request).await
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        self.gate.unary::<op::RemoveNode, _>(self, request).await
    }

    async fn unseal(
        &self,
        request: Request<v1::UnsealRequest>,
    ) -> Result<Response<v1::UnsealResponse>, Status> {
        self.gate.unary::<op::Unseal, _>(self, request).await
    }

    async fn seal(
        &self,
        request: Request<v1::SealRequest>,
    ) -> Result<Response<v1::SealResponse>, Status> {
        self.gate.unary::<op::Seal, _>(self, request).await
    }

    async fn drain_zone(
        &self,
        request: Request<v1::DrainZoneRequest>,
    ) -> Result<Response<v1::DrainZoneResponse>, Status> {
        self.gate.unary::<op::DrainZone, _>(self, request).await
    }

    async fn undrain_zone(
        &self,
        request: Request<v1::UndrainZoneRequest>,
    ) -> Result<Response<v1::UndrainZoneResponse>, Status> {
        self.gate.unary::<op::UndrainZone, _>(self, request).await
    }

    async fn prefer_zone(
        &self,
        request: Request<v1::PreferZoneRequest>,
    ) -> Result<Response<v1::PreferZoneResponse>, Status> {
        self.gate.unary::<op::PreferZone, _>(self, request).await
    }
}
