//! What a node says of its health.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use super::State;

/// What a node does when it is asked for its health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Health {
    /// It serves.
    #[default]
    Serving,
    /// It does not: it is sealed, or stops.
    NotServing,
    /// It does not answer.
    Silent,
    /// It knows no such service.
    Unknown,
}

type Changes = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl health_server::Health for State {
    type WatchStream = Changes;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        assert_eq!(request.get_ref().service, "twinkeep.v1.CryptoService");
        self.tally.probes.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let health = *self.health.lock().unwrap();
        let status = match health {
            Health::Serving => ServingStatus::Serving,
            Health::NotServing => ServingStatus::NotServing,
            Health::Silent => std::future::pending().await,
            Health::Unknown => return Err(Status::not_found("no such service")),
        };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Changes>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }
}
