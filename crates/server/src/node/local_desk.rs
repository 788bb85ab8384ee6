//! What a node of a cluster answers on its own socket, `admin.sock` in its data folder: unsealing, also before its
//! endpoint can open, and what only somebody at the machine should decide.

use std::sync::Arc;

use anyhow::Context;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use twinkeep_api::ports::{UnsealProgress, UnsealSecret};
use twinkeep_proto::local::v1::local_service_server::{LocalService, LocalServiceServer};
use twinkeep_proto::local::v1::{
    GoAloneRequest, GoAloneResponse, InitRequest, InitResponse, UnsealRequest, UnsealResponse,
    unseal_request,
};
use twinkeep_raft::Node;
use zeroize::Zeroizing;

use super::assembly::Assembly;
use crate::config::Role;
use crate::identity::DataDir;
use crate::ports::unseal::Unsealer;

/// Answers on the socket for as long as the process lives.
pub(crate) fn open(data: &DataDir, assembly: &Assembly, role: Role) -> anyhow::Result<()> {
    let listener = super::own_socket(data)?;
    let unsealer = (role == Role::Data).then(|| Arc::clone(&assembly.unsealer));
    let desk = LocalDesk { node: assembly.node().clone(), unsealer };
    let server = Server::builder().add_service(LocalServiceServer::new(desk));
    tokio::spawn(async move {
        let served = server.serve_with_incoming(UnixListenerStream::new(listener)).await;
        if let Err(error) = served.context("the node's own socket failed") {
            tracing::error!(
                error = format!("{error:#}"),
                "nobody can unseal this node at its machine"
            );
        }
    });
    Ok(())
}

/// Answers `LocalService`.
struct LocalDesk {
    node: Node,
    /// `None` on a witness, which has no keys.
    unsealer: Option<Arc<Unsealer>>,
}

#[tonic::async_trait]
impl LocalService for LocalDesk {
    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        Err(Status::failed_precondition("this node belongs to a cluster already"))
    }

    async fn unseal(
        &self,
        request: Request<UnsealRequest>,
    ) -> Result<Response<UnsealResponse>, Status> {
        let witness = || Status::failed_precondition("a witness holds no keys");
        let unsealer = Arc::clone(self.unsealer.as_ref().ok_or_else(witness)?);
        let missing = || Status::invalid_argument("secret: give a share or a passphrase");
        let secret = match request.into_inner().secret.ok_or_else(missing)? {
            unseal_request::Secret::Share(text) => UnsealSecret::Share(Zeroizing::new(text)),
            unseal_request::Secret::Passphrase(text) => {
                UnsealSecret::Passphrase(Zeroizing::new(text))
            }
        };
        let offered = tokio::task::spawn_blocking(move || unsealer.offer(secret)).await;
        let progress = offered.map_err(|_| Status::internal("unsealing panicked"))?;
        let UnsealProgress { sealed, shares_given, shares_needed } =
            progress.map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(UnsealResponse { sealed, shares_given, shares_needed }))
    }

    async fn go_alone(
        &self,
        _: Request<GoAloneRequest>,
    ) -> Result<Response<GoAloneResponse>, Status> {
        let took_part = self.node.takes_part();
        if !took_part {
            self.node.go_alone();
        }
        Ok(Response::new(GoAloneResponse { took_part }))
    }
}
