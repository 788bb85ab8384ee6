//! Health per service (`grpc.health.v1`), for load balancers and the client library.
//!
//! A sealed node is alive and can be unsealed; it serves no call that needs a key.

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use twinkeep_proto::v1::access_service_server::SERVICE_NAME as ACCESS;
use twinkeep_proto::v1::audit_service_server::SERVICE_NAME as AUDIT;
use twinkeep_proto::v1::cluster_service_server::SERVICE_NAME as CLUSTER;
use twinkeep_proto::v1::crypto_service_server::SERVICE_NAME as CRYPTO;
use twinkeep_proto::v1::instance_service_server::SERVICE_NAME as INSTANCE;
use twinkeep_proto::v1::key_service_server::SERVICE_NAME as KEY;

/// What a node can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Everything.
    Serving,
    /// What needs no key: status, members, unsealing, reading the audit log.
    Sealed,
    /// Nothing: it starts, drains or stops.
    Down,
}

/// The services that a node offers, each with whether it needs a key.
const SERVICES: &[(&str, bool)] = &[
    (ACCESS, true),
    (AUDIT, false),
    (CLUSTER, false),
    (CRYPTO, true),
    (INSTANCE, true),
    (KEY, true),
    // The node as a whole: where callers are sent.
    ("", true),
];

/// Reports a node's condition for every service.
pub async fn report(reporter: &HealthReporter, condition: Condition) {
    for (service, needs_key) in SERVICES {
        let serves = match condition {
            Condition::Serving => true,
            Condition::Sealed => !needs_key,
            Condition::Down => false,
        };
        let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status(*service, status).await;
    }
}
