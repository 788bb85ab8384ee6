//! The calling end of `JoinService`: each call has a connection of its own, whose keying material the
//! caller sees.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use tonic::transport::{Channel, Endpoint};
use twinkeep_core::id::NodeId;
use twinkeep_keyring::join::Exporter;
use twinkeep_pki::Connector;
use twinkeep_pki::tls::PeerTls;
use twinkeep_proto::peer::v1::join_service_client::JoinServiceClient;

/// A connection to a member's desk.
pub(crate) struct Desk {
    /// Makes the calls.
    pub(crate) client: JoinServiceClient<Channel>,
    exporter: Arc<OnceLock<Exporter>>,
}

impl Desk {
    /// Connects to a member; `limit` bounds the connection and each call.
    pub(crate) async fn of(
        tls: &PeerTls,
        node: NodeId,
        address: SocketAddr,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let exporter = Arc::new(OnceLock::new());
        let seen = Arc::clone(&exporter);
        let connector = Connector::new(tls.client(Some(node))?, limit).on_connect(move |end| {
            // A second connection would be another one than the calls go over; the first counts.
            let _ = seen.set(*end.exporter());
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.timeout(limit);
        let channel = endpoint.connect_with_connector(connector).await?;
        Ok(Self { client: JoinServiceClient::new(channel), exporter })
    }

    /// Returns the keying material that this end of the connection has exported.
    pub(crate) fn exporter(&self) -> anyhow::Result<Exporter> {
        self.exporter.get().copied().context("the connection has exported no keying material")
    }
}
