//! Certificates, signed with the cluster's authorities.

use std::sync::Arc;
use std::time::Duration;

use twinkeep_api::ports::{CallerIssuer, IssueError, Issued, VaultError};
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{ClusterId, NodeId};
use twinkeep_core::name::CallerName;
use twinkeep_core::record::{ClusterRecord, Record};
use twinkeep_core::state::{Fault, Read};
use twinkeep_keyring::{AuthorityName, Keyring};
use twinkeep_pki::authority::{AuthorityError, Purpose};
use twinkeep_pki::{Authority, Callers, Endpoints, Nodes, PublicKey, Validity, pem};

use super::vault::{NodeVault, vault_error};

/// Longest life of a node's certificates. Renewed by the node itself well before (`node::renewal`).
pub(crate) const NODE_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Opens the cluster's authorities and signs with them.
pub(crate) struct Issuer {
    vault: Arc<NodeVault>,
    clock: Arc<dyn Clock>,
}

impl Issuer {
    /// Takes the keys and the clock.
    pub(crate) fn new(vault: Arc<NodeVault>, clock: Arc<dyn Clock>) -> Self {
        Self { vault, clock }
    }

    /// Returns a validity that begins now.
    pub(crate) fn validity(&self, lifetime: Duration) -> Validity {
        Validity::starting(self.clock.unix_ms() / 1000, lifetime)
    }

    /// Certifies a node's key; returns the chain, PEM.
    pub(crate) fn certify_node(
        &self,
        state: &dyn Read,
        key: &PublicKey,
        node: NodeId,
    ) -> Result<String, IssueError> {
        let (authority, incarnation) = (self.nodes(state)?, cluster(state)?.incarnation);
        let validity = self.validity(NODE_LIFETIME);
        let certificate = authority.issue_node(key, node, incarnation, validity).map_err(failed)?;
        Ok(pem::certificates(&[certificate]))
    }

    /// Opens the authority that certifies nodes.
    pub(crate) fn nodes(&self, state: &dyn Read) -> Result<Authority<Nodes>, IssueError> {
        self.open(state, AuthorityName::Nodes, |cluster| cluster.roots.node.clone())
    }

    /// Opens the authority that certifies endpoints.
    pub(crate) fn endpoints(&self, state: &dyn Read) -> Result<Authority<Endpoints>, IssueError> {
        self.open(state, AuthorityName::Endpoints, |cluster| cluster.roots.endpoint.clone())
    }

    fn callers(&self, state: &dyn Read) -> Result<Authority<Callers>, IssueError> {
        self.open(state, AuthorityName::Callers, |cluster| cluster.roots.caller.clone())
    }

    fn open<P: Purpose>(
        &self,
        state: &dyn Read,
        name: AuthorityName,
        root: impl Fn(&ClusterRecord) -> Vec<u8>,
    ) -> Result<Authority<P>, IssueError> {
        let keyring = self.vault.keyring().map_err(issue_error)?;
        let cluster = cluster(state)?;
        open_authority(state, &keyring, name, cluster.id, root(&cluster))
    }
}

fn open_authority<P: Purpose>(
    state: &dyn Read,
    keyring: &Keyring,
    name: AuthorityName,
    cluster: ClusterId,
    root: Vec<u8>,
) -> Result<Authority<P>, IssueError> {
    let key = keyring.open_authority(state, name).map_err(|e| issue_error(vault_error(e)))?;
    let key = key.ok_or_else(|| failed(Fault::new("the cluster holds no such authority")))?;
    Authority::load(cluster, root.into(), key.danger_expose()).map_err(failed)
}

fn cluster(state: &dyn Read) -> Result<ClusterRecord, IssueError> {
    let record = ClusterRecord::load(state, &()).map_err(failed)?;
    record.ok_or_else(|| failed(Fault::new("the cluster has not begun")))
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> IssueError {
    IssueError::Failed(error.into())
}

fn issue_error(error: VaultError) -> IssueError {
    match error {
        VaultError::Sealed => IssueError::Sealed,
        error => failed(error),
    }
}

/// Reads the public key out of a signing request.
pub(crate) fn requested_key(csr_pem: &str) -> Result<PublicKey, IssueError> {
    let request = pem::read_certificate_request(csr_pem.as_bytes())
        .map_err(|e| IssueError::BadRequest(e.to_string()))?;
    PublicKey::of_request(&request).map_err(|e| IssueError::BadRequest(e.to_string()))
}

impl CallerIssuer for Issuer {
    fn issue(
        &self,
        state: &dyn Read,
        caller: &CallerName,
        csr_pem: &str,
        lifetime: Duration,
    ) -> Result<Issued, IssueError> {
        let key = requested_key(csr_pem)?;
        let authority = self.callers(state)?;
        let validity = self.validity(lifetime);
        let certificate = authority.issue_caller(&key, caller.clone(), validity).map_err(
            |error| match error {
                AuthorityError::Validity { .. } => IssueError::OutlivesAuthority {
                    not_after_unix_ms: authority.not_after_unix().saturating_mul(1000),
                },
                error => failed(error),
            },
        )?;
        let endpoint_root = cluster(state)?.roots.endpoint.into();
        Ok(Issued {
            certificate_chain_pem: pem::certificates(&[certificate]),
            endpoint_trust_pem: pem::certificates(&[endpoint_root]),
            not_after_unix_ms: validity.not_after_unix().saturating_mul(1000),
        })
    }
}
