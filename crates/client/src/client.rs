//! The calls.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;
use twinkeep_pki::Credential;
use twinkeep_pki::credential::CredentialError;
use twinkeep_proto::v1;
use twinkeep_proto::v1::access_service_client::AccessServiceClient;
use twinkeep_proto::v1::audit_service_client::AuditServiceClient;
use twinkeep_proto::v1::cluster_service_client::ClusterServiceClient;
use twinkeep_proto::v1::crypto_service_client::CryptoServiceClient;
use twinkeep_proto::v1::instance_service_client::InstanceServiceClient;
use twinkeep_proto::v1::key_service_client::KeyServiceClient;

use crate::budget::Budget;
use crate::builder::{Builder, now_unix};
use crate::call::Terms;
use crate::error::Error;
use crate::exchange::Answers;
use crate::latency::Latency;
use crate::memory::Memory;
use crate::message::Ask;
use crate::metrics::{Activity, Totals};
use crate::node::Node;
use crate::pool::Pool;
use crate::safety::Safety;
use crate::trace::Trace;

/// Longest time of a call: a day stands for no limit, and clocks can be added to it.
const LIMIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// What all clones of a client share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    /// What may be tried again: calls that use keys or read, and changes.
    pub(crate) budget: Budget,
    pub(crate) change_budget: Budget,
    pub(crate) crypto_limit: Duration,
    pub(crate) control_limit: Duration,
    pub(crate) own: Option<Arc<Credential>>,
    /// The highest state that an answer rested on.
    pub(crate) seen: AtomicU64,
    pub(crate) single: Latency,
    pub(crate) batch: Latency,
    pub(crate) reading: Latency,
    pub(crate) writing: Latency,
    pub(crate) memory: Arc<Memory>,
    pub(crate) totals: Totals,
    /// The tasks that follow the topology and probe the nodes.
    pub(crate) tasks: OnceLock<Vec<AbortHandle>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.get().into_iter().flatten().for_each(AbortHandle::abort);
    }
}

impl Shared {
    /// Notes the state that an answer rested on.
    pub(crate) fn saw(&self, state_index: u64) {
        self.seen.fetch_max(state_index, Ordering::Relaxed);
    }

    /// Notes how long a call took.
    pub(crate) fn took(&self, safety: Safety, time: Duration) {
        match safety {
            Safety::Crypto => self.single.record(time),
            Safety::Batch => self.batch.record(time),
            Safety::Read => self.reading.record(time),
            Safety::Repeatable => self.writing.record(time),
            Safety::Laborious | Safety::Once => {}
        }
    }

    pub(crate) fn budget(&self, safety: Safety) -> &Budget {
        if safety.writes() { &self.change_budget } else { &self.budget }
    }

    /// Takes the token of a second attempt, if the budget has one.
    pub(crate) fn spend(&self, safety: Safety) -> bool {
        let spent = self.budget(safety).spend();
        if !spent {
            self.totals.budget_refusals.add();
        }
        spent
    }

    /// Returns the silence after which a second node is asked.
    ///
    /// A change that waits for the next leader has to get away from the last one first, so changes are quick too:
    /// what is left of the time without a leader must not be spent waiting for a node that is silent.
    pub(crate) fn hedge_after(&self, safety: Safety) -> Duration {
        const MS: Duration = Duration::from_millis(1);
        let twice = |latency: &Latency, least, most| (latency.p95() * 2).clamp(least, most);
        match safety {
            Safety::Crypto => twice(&self.single, 10 * MS, 250 * MS),
            Safety::Batch => twice(&self.batch, 50 * MS, 1000 * MS),
            Safety::Read => twice(&self.reading, 50 * MS, 250 * MS),
            Safety::Repeatable => twice(&self.writing, 50 * MS, 300 * MS),
            Safety::Laborious | Safety::Once => 600 * MS,
        }
    }

    fn limit(&self, safety: Safety) -> Duration {
        if safety.crypto() { self.crypto_limit } else { self.control_limit }
    }
}

/// A client of one cluster. Cheap to clone; all clones share connections and what was learnt.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    limit: Option<Duration>,
    only: Option<Arc<Node>>,
    any_state: bool,
    trace: Option<Trace>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("nodes", &self.shared.pool.len())
            .field("only", &self.only.as_ref().map(|node| &node.address))
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Begins to describe a client.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, limit: None, only: None, any_state: false, trace: None }
    }

    /// Returns a client whose calls have this much time from beginning to end, retries included; a day at
    /// most.
    #[must_use]
    pub fn with_deadline(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    /// Returns a client that asks this node alone, once, without retry or hedge: for calls about the
    /// answering node, such as [`Self::unseal`]. `None` if the address is none.
    #[must_use]
    pub fn at(&self, address: &str) -> Option<Self> {
        let node = self.shared.pool.at(address)?;
        Some(Self { only: Some(node), ..self.clone() })
    }

    /// Returns a client that takes answers from any state, however old: for looking at a node that may lag.
    #[must_use]
    pub fn any_state(&self) -> Self {
        Self { any_state: true, ..self.clone() }
    }

    /// Returns a client whose calls belong to the caller's trace: a W3C `traceparent` of version 00, which the
    /// nodes keep with their records. Any other text is not passed on. Without it a call belongs to the
    /// OpenTelemetry span that it is made in, if there is one, and else is a trace of its own.
    #[must_use]
    pub fn with_traceparent(&self, traceparent: &str) -> Self {
        Self { trace: Trace::parse(traceparent), ..self.clone() }
    }

    /// Returns the highest `state_index` that an answer had, which all further requests ask for.
    #[must_use]
    pub fn state_index(&self) -> u64 {
        self.shared.seen.load(Ordering::Relaxed)
    }

    /// Raises the state that all further requests ask for: for handing on what another process wrote.
    pub fn require_state_index(&self, state_index: u64) {
        self.shared.saw(state_index);
    }

    /// Returns what this client and its clones did so far, node by node: attempts, hedges, ejections.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let (shared, now) = (&self.shared, Instant::now());
        Activity {
            failed_calls: shared.totals.failed_calls.read(),
            budget_refusals: shared.totals.budget_refusals.read(),
            budget_left: shared.budget.left(),
            change_budget_left: shared.change_budget.left(),
            incarnation: shared.memory.met().map_or(0, |life| life.incarnation.get()),
            nodes: shared.pool.nodes().iter().map(|node| node.activity(now)).collect(),
        }
    }

    /// Returns the cluster that this client has met, `clu-` and 32 hex digits, and its newest incarnation; `None`
    /// before the first connection. Nodes of another cluster, or of an older incarnation, are refused.
    #[must_use]
    pub fn cluster(&self) -> Option<(String, u64)> {
        self.shared.memory.met().map(|life| (life.cluster.to_string(), life.incarnation.get()))
    }

    /// Reads the identity's files again. Further calls go over new connections, which show the new
    /// certificate; open ones end on the old ones.
    ///
    /// # Errors
    /// [`CredentialError`] with what is wrong with the files; the old certificate then stays in use.
    pub fn reload_identity(&self) -> Result<(), CredentialError> {
        let own = self.shared.own.as_ref().ok_or(CredentialError::NoFiles)?;
        own.reload(now_unix()).map(drop)?;
        self.shared.pool.redial();
        Ok(())
    }

    pub(crate) fn trace(&self) -> Trace {
        self.trace.clone().or_else(Trace::current).unwrap_or_else(Trace::draw)
    }

    pub(crate) fn terms(&self, safety: Safety) -> Terms {
        let limit = self.limit.unwrap_or_else(|| self.shared.limit(safety)).min(LIMIT_MAX);
        Terms { safety, limit, only: self.only.clone() }
    }

    pub(crate) fn fill<R: Ask>(&self, request: &mut R) {
        request.prepare();
        let wanted = request.min_state_index();
        if !self.any_state {
            *wanted = (*wanted).max(self.state_index());
        }
    }
}

/// Whether a change that names a revision may be sent twice: the second time it would be refused, and the
/// caller would take its own change for somebody else's.
const fn unless_pinned(expected_revision: u64) -> Safety {
    if expected_revision == 0 { Safety::Repeatable } else { Safety::Once }
}

/// Whether a call that makes something carries its token.
fn with_token(token: &[u8]) -> Safety {
    if token.is_empty() { Safety::Once } else { Safety::Repeatable }
}

/// The same of a new key: those of RSA take up to seconds to draw, and no node is to do so for nothing.
fn of_key(request: &v1::CreateKeyRequest) -> Safety {
    use v1::KeySpec::{Rsa2048, Rsa3072, Rsa4096};
    let is_rsa = matches!(request.spec(), Rsa2048 | Rsa3072 | Rsa4096);
    match with_token(&request.idempotency_token) {
        Safety::Repeatable if is_rsa => Safety::Laborious,
        safety => safety,
    }
}

/// Writes one method for each call: its documentation, name, messages and safety, and by which way it goes.
macro_rules! calls {
    ($stub:ident: $($(#[$doc:meta])* $method:ident($ask:ident) -> $answer:ident: $safety:expr;)*) => {
        calls! { $stub by exchange: $($(#[$doc])* $method($ask) -> $answer: $safety;)* }
    };
    ($stub:ident by $way:ident: $($(#[$doc:meta])* $method:ident($ask:ident) -> $answer:ident: $safety:expr;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`Error`] says why, whether to try again, and whether it may have happened.
                pub async fn $method(&self, request: v1::$ask) -> Result<v1::$answer, Error> {
                    self.$way($safety, request, |channel, request| async move {
                        $stub::new(channel).$method(request).await
                    })
                    .await
                }
            )*
        }
    };
}

calls! { KeyServiceClient:
    /// Makes a key. Without a token in the request the client draws one for this call.
    create_key(CreateKeyRequest) -> CreateKeyResponse: of_key;
    /// Says what a key is, with its versions.
    describe_key(DescribeKeyRequest) -> DescribeKeyResponse: |_| Safety::Read;
    /// Lists keys, one page.
    list_keys(ListKeysRequest) -> ListKeysResponse: |_| Safety::Read;
    /// Lets a disabled key be used again.
    enable_key(EnableKeyRequest) -> EnableKeyResponse: |r| unless_pinned(r.expected_revision);
    /// Stops all use of a key.
    disable_key(DisableKeyRequest) -> DisableKeyResponse: |r| unless_pinned(r.expected_revision);
    /// Changes the description of a key.
    update_key_description(UpdateKeyDescriptionRequest) -> UpdateKeyDescriptionResponse:
        |r| unless_pinned(r.expected_revision);
}

calls! { CryptoServiceClient by streamed:
    /// Encrypts under a key.
    encrypt(EncryptRequest) -> EncryptResponse: |_| Safety::Crypto;
    /// Decrypts.
    decrypt(DecryptRequest) -> DecryptResponse: |_| Safety::Crypto;
    /// Moves a ciphertext to another key.
    re_encrypt(ReEncryptRequest) -> ReEncryptResponse: |_| Safety::Crypto;
    /// Makes a data key.
    generate_data_key(GenerateDataKeyRequest) -> GenerateDataKeyResponse: |_| Safety::Crypto;
    /// Makes a data key and returns it encrypted alone.
    generate_data_key_without_plaintext(GenerateDataKeyWithoutPlaintextRequest)
        -> GenerateDataKeyWithoutPlaintextResponse: |_| Safety::Crypto;
    /// Signs.
    sign(SignRequest) -> SignResponse: |_| Safety::Crypto;
    /// Verifies a signature.
    verify(VerifyRequest) -> VerifyResponse: |_| Safety::Crypto;
    /// Makes a message authentication code.
    generate_mac(GenerateMacRequest) -> GenerateMacResponse: |_| Safety::Crypto;
    /// Verifies a message authentication code.
    verify_mac(VerifyMacRequest) -> VerifyMacResponse: |_| Safety::Crypto;
    /// Returns the public half of a key.
    get_public_key(GetPublicKeyRequest) -> GetPublicKeyResponse: |_| Safety::Crypto;
    /// Draws random bytes.
    generate_random(GenerateRandomRequest) -> GenerateRandomResponse: |_| Safety::Crypto;
}

calls! { CryptoServiceClient:
    /// Encrypts, many at once.
    encrypt_batch(EncryptBatchRequest) -> EncryptBatchResponse: |_| Safety::Batch;
    /// Decrypts, many at once.
    decrypt_batch(DecryptBatchRequest) -> DecryptBatchResponse: |_| Safety::Batch;
    /// Moves ciphertexts to another key, many at once.
    re_encrypt_batch(ReEncryptBatchRequest) -> ReEncryptBatchResponse: |_| Safety::Batch;
    /// Makes data keys, many at once.
    generate_data_key_batch(GenerateDataKeyBatchRequest) -> GenerateDataKeyBatchResponse:
        |_| Safety::Batch;
    /// Makes data keys and returns them encrypted alone, many at once.
    generate_data_key_without_plaintext_batch(GenerateDataKeyWithoutPlaintextBatchRequest)
        -> GenerateDataKeyWithoutPlaintextBatchResponse: |_| Safety::Batch;
    /// Signs, many at once.
    sign_batch(SignBatchRequest) -> SignBatchResponse: |_| Safety::Batch;
    /// Verifies signatures, many at once.
    verify_batch(VerifyBatchRequest) -> VerifyBatchResponse: |_| Safety::Batch;
    /// Makes message authentication codes, many at once.
    generate_mac_batch(GenerateMacBatchRequest) -> GenerateMacBatchResponse: |_| Safety::Batch;
    /// Verifies message authentication codes, many at once.
    verify_mac_batch(VerifyMacBatchRequest) -> VerifyMacBatchResponse: |_| Safety::Batch;
    /// Returns the public halves of keys, many at once.
    get_public_key_batch(GetPublicKeyBatchRequest) -> GetPublicKeyBatchResponse: |_| Safety::Batch;
    /// Draws random bytes, many times at once.
    generate_random_batch(GenerateRandomBatchRequest) -> GenerateRandomBatchResponse:
        |_| Safety::Batch;
}

calls! { ClusterServiceClient:
    /// Says how the cluster and the answering node are.
    get_status(GetStatusRequest) -> GetStatusResponse: |_| Safety::Read;
    /// Says what the answering node knows of its machine and its peers; see [`Self::at`].
    diagnose(DiagnoseRequest) -> DiagnoseResponse: |_| Safety::Read;
    /// Lists the members.
    list_members(ListMembersRequest) -> ListMembersResponse: |_| Safety::Read;
    /// Lets a node join. Each answer gives an id away, so it is not sent twice.
    admit_node(AdmitNodeRequest) -> AdmitNodeResponse: |_| Safety::Once;
    /// Gives learners a vote.
    promote_nodes(PromoteNodesRequest) -> PromoteNodesResponse: |_| Safety::Once;
    /// Takes a node out for ever.
    remove_node(RemoveNodeRequest) -> RemoveNodeResponse: |_| Safety::Once;
    /// Takes the lead out of a zone.
    drain_zone(DrainZoneRequest) -> DrainZoneResponse: |_| Safety::Once;
    /// Lets a drained zone lead again.
    undrain_zone(UndrainZoneRequest) -> UndrainZoneResponse: |_| Safety::Once;
    /// Keeps the lead in a zone, or in none in particular.
    prefer_zone(PreferZoneRequest) -> PreferZoneResponse: |_| Safety::Once;
    /// Gives the answering node a share or the passphrase; see [`Self::at`].
    unseal(UnsealRequest) -> UnsealResponse: |_| Safety::Once;
    /// Seals the answering node; see [`Self::at`].
    seal(SealRequest) -> SealResponse: |_| Safety::Once;
}

calls! { InstanceServiceClient:
    /// Makes an instance. Without a token in the request the client draws one for this call.
    create_instance(CreateInstanceRequest) -> CreateInstanceResponse:
        |r| with_token(&r.idempotency_token);
    /// Says what an instance is.
    describe_instance(DescribeInstanceRequest) -> DescribeInstanceResponse: |_| Safety::Read;
    /// Lists instances, one page.
    list_instances(ListInstancesRequest) -> ListInstancesResponse: |_| Safety::Read;
}

calls! { AccessServiceClient:
    /// Certifies a caller's key; a second certificate for the same key does no harm.
    issue_caller_certificate(IssueCallerCertificateRequest) -> IssueCallerCertificateResponse:
        |_| Safety::Repeatable;
    /// Gives roles to a caller.
    grant_roles(GrantRolesRequest) -> GrantRolesResponse: |r| unless_pinned(r.expected_revision);
    /// Takes roles from a caller.
    revoke_roles(RevokeRolesRequest) -> RevokeRolesResponse: |r| unless_pinned(r.expected_revision);
    /// Lists who holds which roles, one page.
    list_role_bindings(ListRoleBindingsRequest) -> ListRoleBindingsResponse: |_| Safety::Read;
}

impl Client {
    /// Follows which nodes serve where, as one node sees it. The client does so by itself; this is for
    /// showing it.
    ///
    /// # Errors
    /// [`Error`] when no node opens the stream.
    pub async fn watch_topology(
        &self,
        request: v1::WatchTopologyRequest,
    ) -> Result<Answers<v1::WatchTopologyResponse>, Error> {
        self.stream(request, |channel, request| async move {
            ClusterServiceClient::new(channel).watch_topology(request).await
        })
        .await
    }

    /// Reads the audit records of one node; see [`Self::at`].
    ///
    /// # Errors
    /// [`Error`] when the node does not open the stream.
    pub async fn tail_audit(
        &self,
        request: v1::TailAuditRequest,
    ) -> Result<Answers<v1::TailAuditResponse>, Error> {
        self.stream(request, |channel, request| async move {
            AuditServiceClient::new(channel).tail_audit(request).await
        })
        .await
    }
}
