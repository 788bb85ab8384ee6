//! Who calls: from the certificate that the transport has verified.

use std::net::SocketAddr;

use tonic::Extensions;
use twinkeep_audit::Text;
use twinkeep_audit::call::{Principal, PrincipalKind};
use twinkeep_core::id::ClusterId;
use twinkeep_core::name::CallerName;
use twinkeep_pki::{ConnectInfo, Facts, Identity};

use crate::error::Unauthenticated;

/// The other end of a connection, as the transport has verified it.
///
/// Requests carry it in their extensions: either as [`ConnectInfo`], which `twinkeep_pki` puts
/// there, or as this type, which a transport of another kind puts there. Nothing that a client
/// sends gets into the extensions.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The address; `None` on a local socket.
    pub remote: Option<SocketAddr>,
    /// What the verified certificate says; `None` when none was shown.
    pub certificate: Option<Facts>,
}

impl Peer {
    /// Returns who is at the other end of the connection that a request came over.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        if let Some(info) = extensions.get::<ConnectInfo>() {
            return Self { remote: Some(info.remote()), certificate: info.peer().cloned() };
        }
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Returns the caller, if the certificate is a caller's of this cluster and valid now. Asked for
    /// each message: a connection may outlive its certificate.
    pub(crate) fn caller(
        &self,
        cluster: ClusterId,
        now_unix_s: u64,
    ) -> Result<CallerName, Unauthenticated> {
        let facts = self.certificate.as_ref().ok_or(Unauthenticated::NoCertificate)?;
        if facts.identity.cluster() != cluster {
            return Err(Unauthenticated::OtherCluster);
        }
        let Identity::Caller { name, .. } = &facts.identity else {
            return Err(Unauthenticated::NotACaller);
        };
        if !facts.valid_at(now_unix_s) {
            return Err(Unauthenticated::NotValidNow);
        }
        Ok(name.clone())
    }

    /// Returns the principal of an audit record.
    pub(crate) fn principal(&self, caller: Option<&CallerName>) -> Principal {
        let credential = self.certificate.as_ref().map(|facts| facts.spki_sha256);
        match caller {
            Some(name) => Principal {
                kind: PrincipalKind::Caller,
                name: Text::shared(name.to_shared()),
                credential,
            },
            None => Principal { kind: PrincipalKind::Nobody, name: Text::new(""), credential },
        }
    }
}

#[cfg(test)]
mod tests {
    use twinkeep_core::id::{Incarnation, NodeId};

    use super::*;

    const OURS: ClusterId = ClusterId::from_bytes([1; 16]);
    const OTHER: ClusterId = ClusterId::from_bytes([2; 16]);

    fn peer(identity: Identity) -> Peer {
        let certificate =
            Facts { identity, spki_sha256: [7; 32], not_before_unix: 100, not_after_unix: 200 };
        Peer { remote: None, certificate: Some(certificate) }
    }

    fn caller(cluster: ClusterId) -> Peer {
        peer(Identity::Caller { cluster, name: CallerName::parse("app").unwrap() })
    }

    #[test]
    fn only_a_valid_caller_certificate_of_this_cluster_names_a_caller() {
        assert_eq!(caller(OURS).caller(OURS, 150).unwrap().as_str(), "app");
        let node =
            Identity::Node { cluster: OURS, node: NodeId::FIRST, incarnation: Incarnation::FIRST };
        for (peer, now, refused) in [
            (Peer::default(), 150, Unauthenticated::NoCertificate),
            (peer(node), 150, Unauthenticated::NotACaller),
            (caller(OTHER), 150, Unauthenticated::OtherCluster),
            (caller(OURS), 99, Unauthenticated::NotValidNow),
            (caller(OURS), 201, Unauthenticated::NotValidNow),
        ] {
            assert_eq!(peer.caller(OURS, now), Err(refused));
        }
    }
}
