//! Unsealing over the node's own socket, for a node whose endpoint cannot open before it has keys.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::Notify;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use twinkeep_api::ports::{UnsealProgress, UnsealSecret};
use twinkeep_proto::local::v1::local_service_server::{LocalService, LocalServiceServer};
use twinkeep_proto::local::v1::{
    InitRequest, InitResponse, UnsealRequest, UnsealResponse, unseal_request,
};
use zeroize::Zeroizing;

use crate::identity::DataDir;
use crate::ports::unseal::Unsealer;

/// Waits until the node is unsealed over its own socket.
pub(crate) async fn wait(data: &DataDir, unsealer: Arc<Unsealer>) -> anyhow::Result<()> {
    let listener = super::own_socket(data)?;
    tracing::warn!(
        socket = ?listener.local_addr()?,
        "the endpoint has no valid certificate, and a sealed node cannot issue one; waiting for `twinkeep unseal --socket`"
    );
    let unsealed = Arc::new(Notify::new());
    let desk = UnsealDesk { unsealer, unsealed: Arc::clone(&unsealed) };
    Server::builder()
        .add_service(LocalServiceServer::new(desk))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), unsealed.notified())
        .await
        .context("the node's own socket failed")
}

/// Answers `LocalService`.
struct UnsealDesk {
    unsealer: Arc<Unsealer>,
    unsealed: Arc<Notify>,
}

#[tonic::async_trait]
impl LocalService for UnsealDesk {
    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        Err(Status::failed_precondition("this node belongs to a cluster already"))
    }

    async fn unseal(
        &self,
        request: Request<UnsealRequest>,
    ) -> Result<Response<UnsealResponse>, Status> {
        let missing = || Status::invalid_argument("secret: give a share or a passphrase");
        let secret = match request.into_inner().secret.ok_or_else(missing)? {
            unseal_request::Secret::Share(text) => UnsealSecret::Share(Zeroizing::new(text)),
            unseal_request::Secret::Passphrase(text) => {
                UnsealSecret::Passphrase(Zeroizing::new(text))
            }
        };
        let unsealer = Arc::clone(&self.unsealer);
        let offered = tokio::task::spawn_blocking(move || unsealer.offer(secret)).await;
        let progress = offered.map_err(|_| Status::internal("unsealing panicked"))?;
        let UnsealProgress { sealed, shares_given, shares_needed } =
            progress.map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !sealed {
            self.unsealed.notify_one();
        }
        Ok(Response::new(UnsealResponse { sealed, shares_given, shares_needed }))
    }
}
