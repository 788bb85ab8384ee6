//! Certificates for callers.

use std::time::Duration;

use twinkeep_core::name::CallerName;
use twinkeep_core::state::Read;

/// Signs certificates with the cluster's caller authority.
pub trait CallerIssuer: Send + Sync {
    /// Signs the public key of a request for a caller. Names in the request are ignored.
    ///
    /// # Errors
    /// [`IssueError`].
    fn issue(
        &self,
        state: &dyn Read,
        caller: &CallerName,
        csr_pem: &str,
        lifetime: Duration,
    ) -> Result<Issued, IssueError>;
}

/// A certificate and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate and those above it, PEM.
    pub certificate_chain_pem: String,
    /// The roots to trust when a node is called, PEM.
    pub endpoint_trust_pem: String,
    /// When the certificate ends, milliseconds since the Unix epoch.
    pub not_after_unix_ms: u64,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The node holds no keys.
    #[error("this node is sealed; unseal it or call another node")]
    Sealed,
    /// The signing request is not one, or its key is not of a kind that is certified.
    #[error("csr_pem: {0}")]
    BadRequest(String),
    /// The certificate would outlive the authority.
    #[error("lifetime_s: the caller authority itself ends at {not_after_unix_ms} ms since 1970")]
    OutlivesAuthority {
        /// When the authority ends.
        not_after_unix_ms: u64,
    },
    /// The library or the store failed.
    #[error("issuing failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
