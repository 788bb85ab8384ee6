//! [`Wire`] over mutual TLS.

use std::sync::Arc;
use std::time::Duration;

use tonic::Extensions;
use tonic::transport::{Channel, Endpoint};
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{ClusterId, Incarnation, NodeId};
use twinkeep_pki::tls::PeerTls;
use twinkeep_pki::{ConnectInfo, Connector, Identity};

use super::links::{InvalidAddress, Wire};
use crate::config::Config;
use crate::metrics;

/// Longest time for a connection, its handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that a peer may send ahead on one stream: a full message.
const WINDOW_BYTES: u32 = 8 << 20;

/// Mutual TLS between nodes: both certificates name nodes of this cluster that are trusted now.
pub struct TlsWire {
    tls: PeerTls,
    cluster: ClusterId,
    incarnation: Incarnation,
    clock: Arc<dyn Clock>,
    keep_alive: Duration,
}

impl TlsWire {
    /// Takes both ends' TLS configurations.
    #[must_use]
    pub fn new(
        tls: PeerTls,
        cluster: ClusterId,
        incarnation: Incarnation,
        clock: Arc<dyn Clock>,
        config: &Config,
    ) -> Arc<Self> {
        // A ping and its answer's deadline together stay under half an election lease.
        let keep_alive = config.election_max / 5;
        Arc::new(Self { tls, cluster, incarnation, clock, keep_alive })
    }
}

impl Wire for TlsWire {
    fn channel(&self, node: NodeId, address: &str) -> Result<Channel, InvalidAddress> {
        let invalid = || InvalidAddress(address.to_owned());
        let tls = self.tls.client(Some(node)).map_err(|_| invalid())?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| invalid())?
            .http2_keep_alive_interval(self.keep_alive)
            .keep_alive_timeout(self.keep_alive)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let sent = metrics::sent_bytes(node);
        let count = move |bytes| sent.increment(bytes as u64);
        let connector = Connector::new(tls, CONNECT_TIMEOUT).on_sent(count);
        Ok(endpoint.connect_with_connector_lazy(connector))
    }

    // Trust was checked in the handshake, and whether the node was removed since is checked by
    // whoever asks; what may have passed meanwhile is the certificate's time.
    fn peer(&self, connection: &Extensions) -> Option<NodeId> {
        let facts = connection.get::<ConnectInfo>()?.peer()?;
        let is_valid = facts.valid_at(self.clock.unix_ms() / 1_000);
        match facts.identity {
            Identity::Node { cluster, node, incarnation } if is_valid => {
                (cluster == self.cluster && incarnation == self.incarnation).then_some(node)
            }
            _ => None,
        }
    }
}
