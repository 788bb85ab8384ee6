//! TLS configurations of the four ends: peers calling and answering, endpoints, callers.
//!
//! All of them: TLS 1.3 alone, X25519MLKEM768 before the classical groups, no session tickets, no
//! resumption, no early data, ALPN `h2`. So every connection proves its identity by certificate, and
//! removing a node or caller ends with closing its connections.

use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use twinkeep_core::id::{ClusterId, NodeId};

use crate::credential::Credential;
use crate::verify::{
    AnsweringEndpoint, AnsweringPeer, Caller, CallingPeer, EndpointTrust, PeerRules, PeerTrust,
    client_chain, roots,
};

/// Why a TLS configuration cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no root, or one of them is no certificate that can be trusted.
    #[error("there is no root certificate, or one that cannot be used")]
    Root,
    /// The library refuses the combination of algorithms.
    #[error("the TLS library refuses the configuration")]
    Library,
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..default_provider()
    })
});

/// Both ends of connections between nodes.
#[derive(Clone)]
pub struct PeerTls {
    own: Arc<Credential>,
    roots: Vec<CertificateDer<'static>>,
    rules: Arc<PeerRules>,
}

impl PeerTls {
    /// Takes the node's own credential, the roots of the node authority (two while it is replaced) and
    /// who is trusted.
    #[must_use]
    pub fn new(
        own: Arc<Credential>,
        roots: Vec<CertificateDer<'static>>,
        cluster: ClusterId,
        trust: Arc<dyn PeerTrust>,
    ) -> Self {
        Self { own, roots, rules: Arc::new(PeerRules { cluster, trust }) }
    }

    /// Returns the same with others who are trusted.
    #[must_use]
    pub fn trusting(&self, trust: Arc<dyn PeerTrust>) -> Self {
        Self::new(Arc::clone(&self.own), self.roots.clone(), self.rules.cluster, trust)
    }

    /// Makes the configuration of the peer port: the caller has to be a trusted node.
    ///
    /// # Errors
    /// [`ConfigError`] when a root is unusable.
    pub fn server(&self) -> Result<Arc<ServerConfig>, ConfigError> {
        let chain = client_chain(&self.roots, &PROVIDER, false)?;
        let rules = Arc::clone(&self.rules);
        server(Arc::new(CallingPeer { chain, rules }), Arc::clone(&self.own))
    }

    /// Makes the configuration for calling a node: it has to be the expected one and trusted.
    ///
    /// `None` accepts any trusted node and is for joining, when ids are not known yet.
    ///
    /// # Errors
    /// [`ConfigError`] when a root is unusable.
    pub fn client(&self, expected: Option<NodeId>) -> Result<Arc<ClientConfig>, ConfigError> {
        let verifier = AnsweringPeer {
            roots: Arc::new(roots(&self.roots)?),
            provider: Arc::clone(&PROVIDER),
            rules: Arc::clone(&self.rules),
            expected,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&[&TLS13])
            .map_err(|_| ConfigError::Library)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        Ok(client(builder.with_client_cert_resolver(Arc::<Credential>::clone(&self.own))))
    }
}

/// Makes the configuration of a public endpoint: callers show a certificate of the caller authority
/// or none at all, which the service answers with `UNAUTHENTICATED`.
///
/// # Errors
/// [`ConfigError`] when a root is unusable.
pub fn endpoint(
    own: Arc<Credential>,
    caller_roots: &[CertificateDer<'static>],
    cluster: ClusterId,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let chain = client_chain(caller_roots, &PROVIDER, true)?;
    server(Arc::new(Caller { chain, cluster }), own)
}

/// Makes the configuration of a caller: the endpoint has to show a certificate of the endpoint
/// authority for the host that was dialled.
///
/// # Errors
/// [`ConfigError`] when a root is unusable.
pub fn caller(
    own: Option<Arc<Credential>>,
    endpoint_roots: &[CertificateDer<'static>],
) -> Result<Arc<ClientConfig>, ConfigError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])
        .map_err(|_| ConfigError::Library)?
        .with_root_certificates(roots(endpoint_roots)?);
    Ok(client(match own {
        Some(own) => builder.with_client_cert_resolver(own),
        None => builder.with_no_client_auth(),
    }))
}

/// Makes the configuration of a caller that remembers whom it has met: as [`caller`], and the endpoint has to be one
/// that `trust` admits. Endpoints whose certificate has no identity of ours are not asked about.
///
/// # Errors
/// [`ConfigError`] when a root is unusable.
pub fn wary_caller(
    own: Option<Arc<Credential>>,
    endpoint_roots: &[CertificateDer<'static>],
    trust: Arc<dyn EndpointTrust>,
) -> Result<Arc<ClientConfig>, ConfigError> {
    let verifier = AnsweringEndpoint::new(endpoint_roots, &PROVIDER, trust)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])
        .map_err(|_| ConfigError::Library)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(client(match own {
        Some(own) => builder.with_client_cert_resolver(own),
        None => builder.with_no_client_auth(),
    }))
}

const ALPN: &[u8] = b"h2";

fn server(
    verifier: Arc<dyn ClientCertVerifier>,
    own: Arc<Credential>,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])
        .map_err(|_| ConfigError::Library)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn client(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Arc::new(config)
}
