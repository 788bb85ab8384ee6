//! Puts a node together: databases, Raft, the peer port, and what signs and opens.

use std::sync::{Arc, Once, Weak};

use anyhow::{Context, ensure};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tower::util::option_layer;
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{Incarnation, NodeId};
use twinkeep_core::record::{Admission, NodeRecord, Record};
use twinkeep_keyring::CommandVerifier;
use twinkeep_pki::certificate::SpkiSha256;
use twinkeep_pki::tls::PeerTls;
use twinkeep_pki::{Credential, Limits, PeerTrust, incoming, pem};
use twinkeep_proto::peer::v1::fence_service_server::FenceServiceServer;
use twinkeep_proto::peer::v1::join_service_server::JoinServiceServer;
use twinkeep_raft::{Me, Node, Parts, ProposalQueue, Roster, Stores, TlsWire};
use twinkeep_storage::{LogDb, SnapshotStore, StateDb};

use super::fence::FenceDesk;
use super::join_desk::JoinDesk;
use super::possession::Possession;
use crate::clock::{SystemClock, boot_id};
use crate::config::Config;
use crate::identity::{DataDir, Identity, Pass};
use crate::ports::control::Control;
use crate::ports::issuer::Issuer;
use crate::ports::unseal::Unsealer;
use crate::ports::vault::NodeVault;
use crate::telemetry::{Begin, TraceCalls};

/// A node that is put together and not running yet.
pub(crate) struct Assembly {
    pub(crate) me: Me,
    pub(crate) identity: Identity,
    pub(crate) control: Arc<Control>,
    pub(crate) state: Arc<StateDb>,
    /// Raft's, for whoever shows their sizes.
    pub(crate) log: Weak<LogDb>,
    /// Raft's, like the log.
    pub(crate) snapshots: Weak<SnapshotStore>,
    pub(crate) vault: Arc<NodeVault>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) unsealer: Arc<Unsealer>,
    pub(crate) possession: Possession,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) credential: Arc<Credential>,
    pub(crate) tls: PeerTls,
    /// Cancelled when this node has learned that the cluster was recovered without it.
    pub(crate) fenced: CancellationToken,
    /// Cancelled when the peer port has closed: without it nobody may count on this node.
    pub(crate) peer_port_closed: CancellationToken,
    started: Once,
}

impl Assembly {
    /// Returns the Raft node.
    pub(crate) fn node(&self) -> &Node {
        self.control.node()
    }

    /// Begins to take part in Raft. A node that has begun a cluster does already.
    pub(crate) fn run(&self) {
        self.started.call_once(|| self.node().run());
    }
}

/// Opens everything on disk and the peer port. Nothing is sent before [`Node::run`].
pub(crate) async fn assemble(
    config: &Config,
    data: &DataDir,
    identity: &Identity,
) -> anyhow::Result<Assembly> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (cluster, incarnation, id) =
        (identity.cluster()?, identity.incarnation()?, identity.node()?);
    let me = Me { cluster, incarnation, node: id };
    let credential = credential(data, identity, &*clock)?;
    let owner = twinkeep_storage::Identity { cluster, node: id };
    let log = Arc::new(LogDb::open(&data.path("log"), owner).context("the log cannot be opened")?);
    let state =
        Arc::new(StateDb::open(&data.path("state"), owner).context("the state cannot be opened")?);
    check_placement(config, &state, id)?;
    let snapshots = SnapshotStore::open(&data.path("snapshots"), cluster)
        .context("the snapshots cannot be opened")?;
    let snapshots = Arc::new(snapshots);
    let roster = Roster::new(identity.genesis_node()?, pins(data)?);
    let trust = KnownOrAdmitted {
        roster: Arc::clone(&roster),
        state: Arc::clone(&state),
        clock: Arc::clone(&clock),
        incarnation,
    };
    let root = std::fs::read(data.path("node-root.pem")).context("cannot read node-root.pem")?;
    let roots = pem::read_certificates(&root).context("node-root.pem holds no certificate")?;
    let tls = PeerTls::new(Arc::clone(&credential), roots, cluster, Arc::new(trust));
    let raft_config = raft_config(config);
    let wire = TlsWire::new(tls.clone(), cluster, incarnation, Arc::clone(&clock), &raft_config);
    let vault = Arc::new(NodeVault::new(incarnation, id));
    let shown = (Arc::downgrade(&log), Arc::downgrade(&snapshots));
    let stores = Stores {
        me,
        log,
        state: Arc::clone(&state),
        snapshots,
        roster,
        trust: identity.trust()?,
        verifier: Arc::new(CommandVerifier),
        signer: Arc::<NodeVault>::clone(&vault),
    };
    let role = config.node.role.into();
    let boot_id = boot_id().context("the kernel's boot id cannot be read")?;
    let parts =
        Parts { role, config: raft_config, stores, wire, clock: Arc::clone(&clock), boot_id };
    let node = Node::open(parts).await.context("the node cannot start")?;
    let queue =
        ProposalQueue::start(node.clone(), me, Arc::<NodeVault>::clone(&vault), Arc::clone(&clock));
    let control = Arc::new(Control::new(node, queue, Arc::clone(&state)));
    let assembly = Assembly {
        me,
        identity: identity.clone(),
        issuer: Arc::new(Issuer::new(Arc::clone(&vault), Arc::clone(&clock))),
        unsealer: Arc::new(Unsealer::new(Arc::clone(&vault), Arc::clone(&state))),
        possession: Possession::new(tls.clone(), me, Arc::clone(&vault)),
        control,
        state,
        log: shown.0,
        snapshots: shown.1,
        vault,
        clock,
        credential,
        tls: tls.clone(),
        fenced: CancellationToken::new(),
        peer_port_closed: CancellationToken::new(),
        started: Once::new(),
    };
    serve_peers(config, data, &assembly, &tls).await?;
    Ok(assembly)
}

/// Reads the node's certificate and key. No peer would speak to a node with somebody else's.
pub(crate) fn credential(
    data: &DataDir,
    identity: &Identity,
    clock: &dyn Clock,
) -> anyhow::Result<Arc<Credential>> {
    let (chain, now_unix) = (data.path("node.pem"), clock.unix_ms() / 1000);
    let credential = Credential::from_files(&chain, data.path("node.key"), now_unix)
        .context("the node's certificate cannot be used")?;
    let own = twinkeep_pki::Identity::Node {
        cluster: identity.cluster()?,
        node: identity.node()?,
        incarnation: identity.incarnation()?,
    };
    let found = credential.facts().identity;
    ensure!(
        found == own,
        "the node's certificate cannot be used: {} is for {found}, and this node is {own}",
        chain.display()
    );
    Ok(Arc::new(credential))
}

/// Refuses a node that stands somewhere else than the cluster has recorded: nobody would find it there,
/// and the zones would not be what the members count on.
fn check_placement(config: &Config, state: &StateDb, node: NodeId) -> anyhow::Result<()> {
    let Some(record) = NodeRecord::load(&state.latest(), &node)? else { return Ok(()) };
    let (recorded, configured) = (record.placement, config.placement()?);
    let fields = [
        ("zone", recorded.zone.to_string(), configured.zone.to_string()),
        ("vpc", recorded.vpc.to_string(), configured.vpc.to_string()),
        ("vswitch", recorded.vswitch.to_string(), configured.vswitch.to_string()),
        ("cidr", recorded.cidr.to_string(), configured.cidr.to_string()),
        (
            "client-address",
            recorded.client_address.to_string(),
            configured.client_address.to_string(),
        ),
        ("peer-address", recorded.peer_address.to_string(), configured.peer_address.to_string()),
    ];
    for (field, recorded, configured) in fields {
        ensure!(
            recorded == configured,
            "node.{field} is {configured}, and the cluster has recorded node {node} with {recorded}: put it back, or join as a fresh node with an empty folder"
        );
    }
    Ok(())
}

/// Returns the members that the node was told of when it was admitted.
fn pins(data: &DataDir) -> anyhow::Result<Vec<twinkeep_raft::Pin>> {
    let path = data.path("pass.toml");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let pins = Pass::load(&path)?.peers;
    pins.iter().map(|peer| peer.pin().with_context(|| format!("{}", path.display()))).collect()
}

fn raft_config(config: &Config) -> twinkeep_raft::Config {
    twinkeep_raft::Config {
        snapshot_every: config.snapshot.every_entries,
        log_kept: config.snapshot.kept_entries,
        fail_back_after: config.leadership.fail_back_after,
        ..twinkeep_raft::Config::default()
    }
}

/// Opens the peer port and serves it until the process ends.
async fn serve_peers(
    config: &Config,
    data: &DataDir,
    assembly: &Assembly,
    tls: &PeerTls,
) -> anyhow::Result<()> {
    let address = config.node.peer_address;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("node.peer-address {address} cannot be listened on"))?;
    let connections = incoming(listener, tls.server()?, Limits::default());
    let server = Server::builder()
        .tcp_nodelay(true)
        .layer(option_layer(TraceCalls::of(config, Begin::Never)))
        .add_service(assembly.node().peer_service())
        .add_service(JoinServiceServer::new(JoinDesk::new(assembly)))
        .add_service(FenceServiceServer::new(FenceDesk::new(data, assembly)));
    let closed = assembly.peer_port_closed.clone();
    tokio::spawn(async move {
        // Also when it panics.
        let _closed = closed.drop_guard();
        let served = server.serve_with_incoming(connections).await;
        tracing::error!(error = ?served.err(), "the peer port has closed");
    });
    Ok(())
}

/// Trusts recorded members, and two kinds of others so far as they may knock, for the roster does not know them: what an
/// admitted key may call is `Join` alone, and a node of a later life may tell of the recovery, which proves itself.
struct KnownOrAdmitted {
    roster: Arc<Roster>,
    state: Arc<StateDb>,
    clock: Arc<dyn Clock>,
    incarnation: Incarnation,
}

impl PeerTrust for KnownOrAdmitted {
    fn trusts(&self, node: NodeId, incarnation: Incarnation, spki_sha256: &SpkiSha256) -> bool {
        if self.roster.trusts(node, incarnation, spki_sha256) || incarnation > self.incarnation {
            return true;
        }
        let admission = Admission::load(&self.state.latest(), spki_sha256);
        let is_open = |admission: &Admission| {
            admission.node == node && admission.expires_ms > self.clock.unix_ms()
        };
        admission.ok().flatten().as_ref().is_some_and(is_open)
    }
}
