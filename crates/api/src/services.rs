//! All services of a node, ready to be added to a tonic server.

use std::fmt;
use std::sync::Arc;

use tonic::service::Routes;
use tonic::transport::server::Router;
use tonic_reflection::server::Builder;
use twinkeep_core::id::ClusterId;
use twinkeep_proto::v1::access_service_server::AccessServiceServer;
use twinkeep_proto::v1::audit_service_server::AuditServiceServer;
use twinkeep_proto::v1::cluster_service_server::ClusterServiceServer;
use twinkeep_proto::v1::crypto_service_server::CryptoServiceServer;
use twinkeep_proto::v1::instance_service_server::InstanceServiceServer;
use twinkeep_proto::v1::key_service_server::KeyServiceServer;

use crate::access::Access;
use crate::audit_log::AuditLog;
use crate::authorize::Gate;
use crate::cluster::Cluster;
use crate::crypto::Crypto;
use crate::handles::Handles;
use crate::instances::Instances;
use crate::keys::Keys;
use crate::limits::REQUEST_BYTES_MAX;
use crate::ports::Ports;
use crate::records::Records;

/// All services of a node.
pub struct Services {
    ports: Ports,
    gate: Arc<Gate>,
    handles: Arc<Handles>,
}

impl Services {
    /// Makes the services of a node of a cluster.
    #[must_use]
    pub fn new(cluster: ClusterId, ports: Ports) -> Self {
        let records = Arc::new(Records::new(Arc::clone(&ports.control)));
        let gate = Arc::new(Gate::new(cluster, &ports, records));
        let handles = Arc::new(Handles::new(&ports));
        Self { ports, gate, handles }
    }

    /// Returns the services as routes for [`tonic::transport::Server`]. Health and reflection are added
    /// by the server.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let gate = || Arc::clone(&self.gate);
        let handles = || Arc::clone(&self.handles);
        let ports = &self.ports;
        macro_rules! bounded {
            ($server:ident, $service:expr) => {
                $server::new($service).max_decoding_message_size(REQUEST_BYTES_MAX)
            };
        }
        Routes::new(bounded!(CryptoServiceServer, Crypto::new(gate(), handles(), ports)))
            .add_service(bounded!(KeyServiceServer, Keys::new(gate(), ports)))
            .add_service(bounded!(InstanceServiceServer, Instances::new(gate(), ports)))
            .add_service(bounded!(AccessServiceServer, Access::new(gate(), ports)))
            .add_service(bounded!(ClusterServiceServer, Cluster::new(gate(), handles(), ports)))
            .add_service(bounded!(AuditServiceServer, AuditLog::new(gate(), ports)))
    }

    /// Forgets all open keys. To be called after the vault was sealed by other means than the `Seal` call.
    pub fn forget_open_keys(&self) {
        self.handles.forget_all();
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

/// Adds gRPC reflection (v1 and v1alpha, as older clients ask) for the public services and health. Peer
/// services are not in it.
#[must_use]
pub fn reflection<L>(server: Router<L>) -> Router<L> {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(twinkeep_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder().build_v1().expect("our own descriptors decode");
    let v1alpha = builder().build_v1alpha().expect("our own descriptors decode");
    server.add_service(v1).add_service(v1alpha)
}
