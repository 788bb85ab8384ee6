//! Begins a cluster: waits on the node's own socket for `twinkeep init`, draws everything, and proposes
//! the genesis command.
//!
//! Nothing is handed out before the genesis command is applied: a beginning that was cut short leaves a
//! data folder that no start accepts, and nobody holds a share of it.

use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use twinkeep_core::access::{Grant, Role, Scope};
use twinkeep_core::apply::Trust;
use twinkeep_core::clock::Clock;
use twinkeep_core::command::{Batch, Command, Genesis, Proposal};
use twinkeep_core::freshness::{LEASE_MAX, LEASE_MIN};
use twinkeep_core::id::{ClusterId, Epoch, Incarnation, NodeId, Revision};
use twinkeep_core::name::{CallerName, ZoneName};
use twinkeep_core::outcome::Outcome;
use twinkeep_core::record::{
    Binding, ClusterRecord, ClusterVersion, NodeRecord, Operator, Roots, SealedRecord,
};
use twinkeep_core::topology::{NodeRole, Standing};
use twinkeep_envelope::SecretBytes;
use twinkeep_keyring::{
    AuthorityName, Founded, Founding, Keyring, NewSeal, OperatorKey, Quorum, found,
};
use twinkeep_pki::{Authority, Callers, Endpoints, Nodes, PublicKey, Validity, pem};
use twinkeep_proto::local::v1::local_service_server::{LocalService, LocalServiceServer};
use twinkeep_proto::local::v1::{
    GoAloneRequest, GoAloneResponse, InitRequest, InitResponse, UnsealRequest, UnsealResponse,
    init_request,
};
use twinkeep_raft::Contact;
use twinkeep_sysmem::Arena;

use super::assembly::{Assembly, assemble};
use super::node_key;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::identity::{DataDir, Identity};
use crate::ports::issuer::NODE_LIFETIME;

/// How long the authorities' roots are good: ten years.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long the first administrator's certificate is good: a year.
const ADMIN_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Longest time for the first election and the genesis command.
const GENESIS_MAX: Duration = Duration::from_secs(30);
/// Fewest characters of a passphrase.
const PASSPHRASE_LEN_MIN: usize = 12;

/// Waits for `init` and begins the cluster; `None` when the process was told to stop first.
pub(crate) async fn begin(config: &Config, data: &DataDir) -> anyhow::Result<Option<Assembly>> {
    let listener = super::own_socket(data)?;
    tracing::info!(socket = ?listener.local_addr()?, "no cluster yet; waiting for `twinkeep init`");
    let (begun, mut assemblies) = mpsc::channel(1);
    let desk =
        BeginDesk { config: config.clone(), data: data.clone(), begun: Mutex::new(Some(begun)) };
    let server = Server::builder().add_service(LocalServiceServer::new(desk));
    // Goes on after the beginning, to answer that there is a cluster now.
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    tokio::select! {
        begun = assemblies.recv() => begun.context("nobody can begin a cluster here any more")?.map(Some),
        () = super::serve::told_to_stop() => Ok(None),
    }
}

/// Answers `LocalService`.
struct BeginDesk {
    config: Config,
    data: DataDir,
    begun: Mutex<Option<mpsc::Sender<anyhow::Result<Assembly>>>>,
}

#[tonic::async_trait]
impl LocalService for BeginDesk {
    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let mut begun = self.begun.lock().await;
        let Some(sender) = begun.take() else {
            return Err(Status::failed_precondition("this node belongs to a cluster already"));
        };
        let plan = match Plan::of(&self.config, request.into_inner()) {
            Ok(plan) => plan,
            Err(error) => {
                *begun = Some(sender);
                return Err(Status::invalid_argument(format!("{error:#}")));
            }
        };
        // A task of its own: somebody who asks and goes away must not leave half a beginning.
        let (config, data) = (self.config.clone(), self.data.clone());
        let beginning = tokio::spawn(async move {
            let (ended, answer) = match plan.carry_out(&config, &data).await {
                Ok((assembly, response)) => (Ok(assembly), Ok(response)),
                Err(error) => {
                    let text =
                        format!("{error:#}; give the node an empty data folder and begin again");
                    (Err(anyhow::anyhow!("no cluster has begun: {text}")), Err(text))
                }
            };
            (sender.send(ended).await, answer)
        });
        match beginning.await {
            Ok((Ok(()), Ok(response))) => Ok(Response::new(response)),
            Ok((_, Err(text))) => Err(Status::internal(text)),
            Ok((Err(_), Ok(_))) => Err(Status::aborted("the node was told to stop")),
            Err(_) => Err(Status::internal("the beginning panicked; see the node's messages")),
        }
    }

    async fn unseal(&self, _: Request<UnsealRequest>) -> Result<Response<UnsealResponse>, Status> {
        Err(no_cluster())
    }

    async fn go_alone(
        &self,
        _: Request<GoAloneRequest>,
    ) -> Result<Response<GoAloneResponse>, Status> {
        Err(no_cluster())
    }
}

fn no_cluster() -> Status {
    Status::failed_precondition("there is no cluster yet; begin it with `twinkeep init`")
}

/// A checked request.
struct Plan {
    admin: CallerName,
    admin_key: PublicKey,
    operators: Vec<Operator>,
    recovery: Quorum,
    seal: Seal,
    dev: bool,
    domain: String,
    /// `None` takes the default.
    freshness_lease_ms: Option<u32>,
    preferred_zone: Option<ZoneName>,
}

enum Seal {
    Passphrase(SecretBytes),
    Shamir(Quorum),
}

impl Plan {
    fn of(config: &Config, request: InitRequest) -> anyhow::Result<Self> {
        config.placement()?.check()?;
        let csr = pem::read_certificate_request(request.admin_csr_pem.as_bytes())
            .context("admin_csr_pem")?;
        let operators = request.operators.into_iter().map(|operator| {
            let name = CallerName::parse(&operator.name).context("operators.name")?;
            let key: OperatorKey = operator.public_key.parse().context("operators.public_key")?;
            Ok(key.operator(name))
        });
        let operators = operators.collect::<anyhow::Result<Vec<_>>>()?;
        for (at, one) in operators.iter().enumerate() {
            let same = |other: &Operator| {
                other.name == one.name
                    || other.recipient == one.recipient
                    || other.signing_key == one.signing_key
            };
            anyhow::ensure!(
                !operators[..at].iter().any(same),
                "operators: {} occurs twice, by name or by key; name different people",
                one.name
            );
        }
        let number = |n: u32, field: &'static str| u8::try_from(n).context(field);
        let threshold = number(request.recovery_threshold, "recovery_threshold")?;
        let holders = u8::try_from(operators.len()).context("operators: at most 16")?;
        let seal = match request.seal.context("seal: name shares or a passphrase")? {
            init_request::Seal::Shamir(shamir) => {
                let (k, n) =
                    (number(shamir.threshold, "threshold")?, number(shamir.shares, "shares")?);
                Seal::Shamir(Quorum::new(k, n).context("seal.shamir")?)
            }
            init_request::Seal::Passphrase(secret) => {
                let passphrase = zeroize::Zeroizing::new(secret.passphrase);
                anyhow::ensure!(
                    passphrase.chars().count() >= PASSPHRASE_LEN_MIN,
                    "seal.passphrase: at least {PASSPHRASE_LEN_MIN} characters"
                );
                Seal::Passphrase(SecretBytes::copy_of(passphrase.as_bytes()))
            }
        };
        let zone = request.preferred_zone;
        Ok(Self {
            admin: CallerName::parse(&request.admin).context("admin")?,
            admin_key: PublicKey::of_request(&csr).context("admin_csr_pem")?,
            recovery: Quorum::new(threshold, holders).context("recovery_threshold")?,
            operators,
            seal,
            dev: request.dev,
            domain: request.domain,
            freshness_lease_ms: lease_ms(request.freshness_lease_ms)?,
            preferred_zone: (!zone.is_empty())
                .then(|| ZoneName::parse(&zone))
                .transpose()
                .context("preferred_zone")?,
        })
    }

    async fn carry_out(
        self,
        config: &Config,
        data: &DataDir,
    ) -> anyhow::Result<(Assembly, InitResponse)> {
        let cluster = ClusterId::from_bytes(random()?);
        let founded = self.found(cluster)?;
        let now_ms = SystemClock.unix_ms();
        let authorities = Authorities::create(cluster, now_ms / 1000)?;
        let genesis_key = founded.keyring.command_key();
        let trust = Trust { cluster, genesis_key: genesis_key.public };
        let identity = Identity::new(&trust, NodeId::FIRST, NodeId::FIRST);
        let node = self.node(config, data, &authorities, now_ms)?;
        let admin = self.admin_certificate(&authorities, now_ms)?;
        let genesis = Genesis {
            cluster: ClusterRecord {
                id: cluster,
                incarnation: Incarnation::FIRST,
                version: ClusterVersion::NEWEST,
                epoch: Epoch::FIRST,
                command_keys: vec![genesis_key],
                roots: authorities.roots(),
                operators: self.operators,
                dev: self.dev,
                preferred_zone: self.preferred_zone,
                domain: self.domain,
                revision: Revision::FIRST,
                // Who can take the root key out together may let a node in that is given it.
                approvals_min: self.recovery.threshold(),
                freshness_lease_ms: self.freshness_lease_ms,
            },
            node,
            seals: founded.seals,
            sealed: [founded.sealed, authorities.sealed(&founded.keyring)?].concat(),
            admin: Binding {
                caller: self.admin,
                grants: vec![Grant { role: Role::Admin, scope: Scope::Cluster }],
                revision: Revision::FIRST,
            },
            unix_ms: now_ms,
        };
        let assembly = assemble(config, data, &identity).await?;
        propose(&assembly, &founded.keyring, genesis, now_ms).await?;
        assembly.vault.unseal(founded.keyring);
        data.save_identity(&identity)?;
        tracing::info!(%cluster, "the cluster has begun");
        let response = InitResponse {
            cluster_id: cluster.to_string(),
            shares: founded.shares.iter().map(|share| share.danger_expose().to_owned()).collect(),
            recovery_bundle: founded.bundle.to_text().into_bytes().into(),
            admin_certificate_pem: admin,
            endpoint_root_pem: pem::certificates(&[authorities.endpoints.root().clone()]),
        };
        Ok((assembly, response))
    }

    fn found(&self, cluster: ClusterId) -> anyhow::Result<Founded> {
        let seal = match &self.seal {
            Seal::Passphrase(words) => NewSeal::Passphrase(words),
            Seal::Shamir(quorum) => NewSeal::Shamir(*quorum),
        };
        let founding = Founding {
            cluster,
            seals: &[seal],
            operators: &self.operators,
            recovery: self.recovery,
            dev: self.dev,
        };
        Ok(found(&founding, Arena::new(Keyring::SLOTS)?)?)
    }

    /// Certifies the first node and describes it.
    fn node(
        &self,
        config: &Config,
        data: &DataDir,
        authorities: &Authorities,
        now_ms: u64,
    ) -> anyhow::Result<NodeRecord> {
        let key = node_key(data)?.public_key();
        let validity = Validity::starting(now_ms / 1000, NODE_LIFETIME);
        let (id, incarnation) = (NodeId::FIRST, Incarnation::FIRST);
        let certificate = authorities.nodes.issue_node(&key, id, incarnation, validity)?;
        data.write("node.pem", pem::certificates(&[certificate]).as_bytes())?;
        let root = pem::certificates(&[authorities.nodes.root().clone()]);
        data.write("node-root.pem", root.as_bytes())?;
        Ok(NodeRecord {
            id,
            role: NodeRole::Data,
            standing: Standing::Voter,
            placement: config.placement()?,
            spki_sha256: key.sha256(),
            incarnation,
            revision: Revision::FIRST,
            removed_ms: None,
        })
    }

    fn admin_certificate(&self, authorities: &Authorities, now_ms: u64) -> anyhow::Result<String> {
        let validity = Validity::starting(now_ms / 1000, ADMIN_LIFETIME);
        let certificate =
            authorities.callers.issue_caller(&self.admin_key, self.admin.clone(), validity)?;
        Ok(pem::certificates(&[certificate]))
    }
}

/// The three authorities of a new cluster.
struct Authorities {
    nodes: Authority<Nodes>,
    callers: Authority<Callers>,
    endpoints: Authority<Endpoints>,
}

impl Authorities {
    fn create(cluster: ClusterId, now_unix: u64) -> anyhow::Result<Self> {
        let validity = Validity::starting(now_unix, ROOT_LIFETIME);
        Ok(Self {
            nodes: Authority::create(cluster, validity)?,
            callers: Authority::create(cluster, validity)?,
            endpoints: Authority::create(cluster, validity)?,
        })
    }

    fn roots(&self) -> Roots {
        Roots {
            node: self.nodes.root().to_vec(),
            caller: self.callers.root().to_vec(),
            endpoint: self.endpoints.root().to_vec(),
        }
    }

    fn sealed(&self, keyring: &Keyring) -> anyhow::Result<Vec<SealedRecord>> {
        let keys = [
            (AuthorityName::Nodes, self.nodes.private_key()),
            (AuthorityName::Callers, self.callers.private_key()),
            (AuthorityName::Endpoints, self.endpoints.private_key()),
        ];
        let seal = |(name, key): (AuthorityName, &twinkeep_pki::PrivateKey)| {
            let secret = SecretBytes::copy_of(key.danger_pkcs8());
            Ok(keyring.seal_authority(name, Revision::FIRST, &secret)?)
        };
        keys.into_iter().map(seal).collect()
    }
}

/// Checks the length of freshness leases; 0 takes the default.
fn lease_ms(asked_ms: u32) -> anyhow::Result<Option<u32>> {
    let lease = Duration::from_millis(asked_ms.into());
    anyhow::ensure!(
        asked_ms == 0 || (LEASE_MIN..=LEASE_MAX).contains(&lease),
        "freshness_lease_ms: {asked_ms} is not between {} and {}",
        LEASE_MIN.as_millis(),
        LEASE_MAX.as_millis()
    );
    Ok((asked_ms != 0).then_some(asked_ms))
}

/// Elects this node, the only voter, and has the genesis command applied.
async fn propose(
    assembly: &Assembly,
    keyring: &Keyring,
    genesis: Genesis,
    now_ms: u64,
) -> anyhow::Result<()> {
    let (me, node) = (assembly.me, assembly.node());
    let address = genesis.node.placement.peer_address.to_string();
    assembly.run();
    node.initialize(Contact::new(address)).await?;
    let command = Command::Genesis(Box::new(genesis));
    let batch = Batch {
        not_after_ms: now_ms.saturating_add(Batch::LIFE_MS),
        commands: vec![Proposal { actor: None, token: None, command }],
    };
    let signed = keyring.sign_batch(me.incarnation, me.node, &batch);
    let deadline = Instant::now() + GENESIS_MAX;
    let proposed = node.propose(signed.to_bytes().into(), deadline).await?;
    match proposed.outcomes.as_slice() {
        [Outcome::Applied(_)] => Ok(()),
        [Outcome::Refused(refusal), ..] => Err(refusal.clone().into()),
        _ => anyhow::bail!("the genesis command led to something else"),
    }
}

fn random() -> anyhow::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    anyhow::ensure!(filled == bytes.len(), "the system gave too few random bytes");
    Ok(bytes)
}
