//! Who is let in: verifiers of peers and callers.
//!
//! Chain, validity, purpose and the handshake's signature are rustls' and webpki's work. Ours comes
//! after it: one identity, of this cluster, of the right kind, and for nodes a key that the cluster's
//! records know. A refusal reaches the other side as a TLS alert without detail; the log has the reason.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible,
    RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use twinkeep_core::id::{ClusterId, Incarnation, NodeId};

use crate::certificate::{Facts, InvalidCertificate, SpkiSha256};
use crate::identity::Identity;
use crate::tls::ConfigError;

/// Says which nodes the cluster knows; asked in each handshake, so it must answer without waiting.
///
/// An implementation must refuse nodes that were removed, keys other than the recorded one and
/// incarnations other than the current one.
pub trait PeerTrust: Send + Sync + 'static {
    /// Tells whether a node with this key belongs to the cluster now.
    fn trusts(&self, node: NodeId, incarnation: Incarnation, spki_sha256: &SpkiSha256) -> bool;
}

impl<F> PeerTrust for F
where
    F: Fn(NodeId, Incarnation, &SpkiSha256) -> bool + Send + Sync + 'static,
{
    fn trusts(&self, node: NodeId, incarnation: Incarnation, spki_sha256: &SpkiSha256) -> bool {
        self(node, incarnation, spki_sha256)
    }
}

/// Says which endpoints a caller takes; asked in each handshake, before the caller has shown a certificate of its
/// own, so it must answer without waiting for anybody.
pub trait EndpointTrust: fmt::Debug + Send + Sync + 'static {
    /// Tells whether this endpoint may be called. Its chain and host have been verified.
    ///
    /// # Errors
    /// [`Fenced`], which ends the handshake.
    fn admit(&self, endpoint: &Identity) -> Result<(), Fenced>;
}

/// Why a caller refuses an endpoint of a good chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// It is of another cluster than the caller has been at.
    #[error("a node of {found} answers, and this caller knows {known}")]
    OtherCluster {
        /// The endpoint's cluster.
        found: ClusterId,
        /// The cluster that the caller knows.
        known: ClusterId,
    },
    /// The cluster has been recovered since the endpoint's certificate was issued.
    #[error("a node of incarnation {found} answers, and this caller has met {newest}")]
    OldIncarnation {
        /// The endpoint's incarnation.
        found: Incarnation,
        /// The newest incarnation that the caller has seen.
        newest: Incarnation,
    },
}

impl From<Fenced> for rustls::Error {
    fn from(fenced: Fenced) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fenced))))
    }
}

/// Why a certificate with a good chain is refused all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The certificate is not one of ours.
    #[error(transparent)]
    Certificate(#[from] InvalidCertificate),
    /// The identity belongs to another cluster.
    #[error("{0} is of another cluster")]
    OtherCluster(Identity),
    /// A caller came where nodes talk, or a node where callers do.
    #[error("{0} has no business at this port")]
    WrongKind(Identity),
    /// Another node answers than the one that was called.
    #[error("node {found} answered for node {expected}")]
    OtherNode {
        /// Which node was called.
        expected: NodeId,
        /// Which node answered.
        found: NodeId,
    },
    /// The cluster does not know the node with this key and incarnation.
    #[error("the cluster knows no {0} with this key")]
    Untrusted(Identity),
}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

/// What both directions of peer verification share.
pub(crate) struct PeerRules {
    pub(crate) cluster: ClusterId,
    pub(crate) trust: Arc<dyn PeerTrust>,
}

impl PeerRules {
    /// Returns the node that a certificate with a good chain belongs to.
    fn admit(&self, certificate: &CertificateDer<'_>) -> Result<NodeId, Refusal> {
        let facts = Facts::of(certificate)?;
        let identity = of_cluster(self.cluster, facts.identity)?;
        let Identity::Node { node, incarnation, .. } = identity else {
            return Err(Refusal::WrongKind(identity));
        };
        if self.trust.trusts(node, incarnation, &facts.spki_sha256) {
            Ok(node)
        } else {
            Err(Refusal::Untrusted(identity))
        }
    }
}

fn of_cluster(cluster: ClusterId, identity: Identity) -> Result<Identity, Refusal> {
    if identity.cluster() == cluster { Ok(identity) } else { Err(Refusal::OtherCluster(identity)) }
}

/// Makes webpki's verifier of client certificates below these roots.
pub(crate) fn client_chain(
    trusted: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
    optional: bool,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    let roots = Arc::new(roots(trusted)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|_| ConfigError::Root)
}

/// Makes a store that trusts these roots; none at all is refused.
pub(crate) fn roots(trusted: &[CertificateDer<'static>]) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(root.clone()).map_err(|_| ConfigError::Root)?;
    }
    if roots.is_empty() { Err(ConfigError::Root) } else { Ok(roots) }
}

/// The signatures of a handshake, checked by the verifier of its chain: TLS 1.3 alone.
macro_rules! signatures_by_chain {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(PeerIncompatible::Tls12NotOffered.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.chain.verify_tls13_signature(message, certificate, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.chain.supported_verify_schemes()
        }
    };
}

/// Checks chains as webpki does, and then by a rule of ours.
macro_rules! client_verifier {
    ($name:ident, $shown:literal, |$this:ident, $certificate:ident| $check:expr) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($shown)
            }
        }

        impl ClientCertVerifier for $name {
            fn offer_client_auth(&self) -> bool {
                self.chain.offer_client_auth()
            }

            fn client_auth_mandatory(&self) -> bool {
                self.chain.client_auth_mandatory()
            }

            fn root_hint_subjects(&self) -> &[DistinguishedName] {
                self.chain.root_hint_subjects()
            }

            fn verify_client_cert(
                &self,
                certificate: &CertificateDer<'_>,
                intermediates: &[CertificateDer<'_>],
                now: UnixTime,
            ) -> Result<ClientCertVerified, rustls::Error> {
                let verified = self.chain.verify_client_cert(certificate, intermediates, now)?;
                let ($this, $certificate) = (self, certificate);
                $check?;
                Ok(verified)
            }

            signatures_by_chain!();
        }
    };
}

/// Lets nodes of this cluster call; a certificate is required.
pub(crate) struct CallingPeer {
    pub(crate) chain: Arc<dyn ClientCertVerifier>,
    pub(crate) rules: Arc<PeerRules>,
}

client_verifier!(CallingPeer, "CallingPeer", |this, certificate| this.rules.admit(certificate));

/// Lets callers of this cluster call; a certificate is requested and may be missing.
pub(crate) struct Caller {
    pub(crate) chain: Arc<dyn ClientCertVerifier>,
    pub(crate) cluster: ClusterId,
}

impl Caller {
    fn admit(&self, certificate: &CertificateDer<'_>) -> Result<(), Refusal> {
        match of_cluster(self.cluster, Facts::of(certificate)?.identity)? {
            Identity::Caller { .. } => Ok(()),
            node @ Identity::Node { .. } => Err(Refusal::WrongKind(node)),
        }
    }
}

client_verifier!(Caller, "Caller", |this, certificate| this.admit(certificate));

/// Checks chain and host of an endpoint as any caller does, and then whether it may be called.
#[derive(Debug)]
pub(crate) struct AnsweringEndpoint {
    chain: Arc<WebPkiServerVerifier>,
    trust: Arc<dyn EndpointTrust>,
}

impl AnsweringEndpoint {
    pub(crate) fn new(
        trusted: &[CertificateDer<'static>],
        provider: &Arc<CryptoProvider>,
        trust: Arc<dyn EndpointTrust>,
    ) -> Result<Self, ConfigError> {
        let roots = Arc::new(roots(trusted)?);
        let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
        Ok(Self { chain: builder.build().map_err(|_| ConfigError::Root)?, trust })
    }
}

impl ServerCertVerifier for AnsweringEndpoint {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.chain.verify_server_cert(certificate, intermediates, host, ocsp, now)?;
        // A proxy that ends TLS shows a certificate of its own, which says nothing of the cluster behind it. Nobody
        // is misled by that: the endpoint authority of a cluster issues none without an identity.
        if let Ok(Facts { identity: identity @ Identity::Node { .. }, .. }) = Facts::of(certificate)
        {
            self.trust.admit(&identity)?;
        }
        Ok(verified)
    }

    signatures_by_chain!();
}

/// Checks that the node that answers is the one that was called.
pub(crate) struct AnsweringPeer {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) rules: Arc<PeerRules>,
    /// The node that is called; `None` while joining, when ids are not known yet.
    pub(crate) expected: Option<NodeId>,
}

impl fmt::Debug for AnsweringPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnsweringPeer")
    }
}

impl ServerCertVerifier for AnsweringPeer {
    // The host's name and address play no part: a node is who its certificate says it is.
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let found = self.rules.admit(certificate)?;
        match self.expected {
            Some(expected) if expected != found => {
                Err(Refusal::OtherNode { expected, found }.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
