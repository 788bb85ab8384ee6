//! A cluster of nodes in this process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};
use tonic::Extensions;
use tonic::transport::{Channel, Endpoint, Server};
use twinkeep_core::admission::Approval;
use twinkeep_core::apply::Trust;
use twinkeep_core::clock::Clock;
use twinkeep_core::command::{
    Batch, Command, Genesis, Proposal, Purpose, SignatureVerifier, SignedBatch, Signer,
    StandingChange,
};
use twinkeep_core::id::{ClusterId, Epoch, Incarnation, KeyId, KeyVersionNumber, NodeId, Revision};
use twinkeep_core::outcome::{Applied, Outcome};
use twinkeep_core::record::{
    Binding, ClusterRecord, ClusterVersion, CommandKey, KeyVersionRecord, NodeRecord, Operator,
    Record as _, Roots,
};
use twinkeep_core::topology::{NodeRole, Placement, Standing};
use twinkeep_pki::tls::PeerTls;
use twinkeep_pki::{
    Authority, Connector, Credential, Limits, Nodes, PeerTrust, PrivateKey, Validity, incoming,
};
use twinkeep_proto::peer::v1::peer_service_client::PeerServiceClient;
use twinkeep_raft::transport::InvalidAddress;
use twinkeep_raft::{
    CommandSigner, Config, Contact, Me, Node, OpenError, Parts, Pin, ProposeError, Proposed,
    Roster, Stores, TlsWire, Wire,
};
use twinkeep_storage::{Identity, LogDb, SnapshotStore, StateDb};

pub(crate) const CLUSTER: ClusterId = ClusterId::from_bytes([0xc1; 16]);

/// The command key of the first epoch.
pub(crate) static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());
/// Somebody else's.
pub(crate) static STRANGER: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap());
/// The only operator's: signs approvals of admissions.
static OPERATOR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap());

pub(crate) fn public(key: &Ed25519KeyPair) -> [u8; 32] {
    key.public_key().as_ref().try_into().unwrap()
}

pub(crate) struct Ed25519;

impl SignatureVerifier for Ed25519 {
    fn verify(&self, public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
    }
}

/// Signs for a node while it is unsealed.
pub(crate) struct Pen {
    node: NodeId,
    pub(crate) is_sealed: AtomicBool,
}

impl Pen {
    pub(crate) fn new(node: u64, is_sealed: bool) -> Arc<Self> {
        Arc::new(Self { node: id(node), is_sealed: AtomicBool::new(is_sealed) })
    }
}

impl CommandSigner for Pen {
    fn sign(&self, purpose: Purpose, payload: &[u8]) -> Option<(Epoch, [u8; 64])> {
        if self.is_sealed.load(Ordering::Relaxed) {
            return None;
        }
        Some((Epoch::FIRST, sign_with(&KEY, self.node, purpose, payload)))
    }

    fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Relaxed)
    }
}

pub(crate) fn sign_with(
    key: &Ed25519KeyPair,
    node: NodeId,
    purpose: Purpose,
    payload: &[u8],
) -> [u8; 64] {
    let (cluster, incarnation, epoch) = (CLUSTER, Incarnation::FIRST, Epoch::FIRST);
    let message = Signer { cluster, incarnation, epoch, node }.message(purpose, payload);
    key.sign(&message).as_ref().try_into().unwrap()
}

/// A batch signed with a key in the name of a node.
pub(crate) fn signed(key: &Ed25519KeyPair, node: u64, commands: Vec<Command>) -> Bytes {
    signed_for(key, node, None, commands)
}

/// A batch that a caller asked for.
pub(crate) fn signed_as(
    key: &Ed25519KeyPair,
    node: u64,
    caller: &str,
    commands: Vec<Command>,
) -> Bytes {
    signed_for(key, node, Some(caller), commands)
}

fn signed_for(
    key: &Ed25519KeyPair,
    node: u64,
    caller: Option<&str>,
    commands: Vec<Command>,
) -> Bytes {
    let actor = caller.map(|caller| caller.parse().unwrap());
    let commands = commands
        .into_iter()
        .map(|command| Proposal { actor: actor.clone(), token: None, command })
        .collect();
    let batch = Batch { not_after_ms: u64::MAX, commands }.to_bytes();
    let signature = sign_with(key, id(node), Purpose::Command, &batch);
    let (incarnation, epoch, signer) = (Incarnation::FIRST, Epoch::FIRST, id(node));
    SignedBatch { incarnation, epoch, signer, batch, signature }.to_bytes().into()
}

pub(crate) fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

/// The wall clock, moved by some seconds.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) ahead_ms: AtomicU64,
}

impl Clock for Watch {
    fn unix_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_millis() as u64 + self.ahead_ms.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
    }
}

/// Which nodes cannot hear which: `(from, to)`.
#[derive(Default)]
pub(crate) struct Cuts(Mutex<Vec<(u64, u64)>>);

impl Cuts {
    /// Cuts both directions between two groups.
    pub(crate) fn between(&self, one: &[u64], other: &[u64]) {
        let mut cuts = self.0.lock();
        for a in one {
            for b in other {
                cuts.extend([(*a, *b), (*b, *a)]);
            }
        }
    }

    /// Cuts one direction.
    pub(crate) fn one_way(&self, from: &[u64], to: u64) {
        self.0.lock().extend(from.iter().map(|from| (*from, to)));
    }

    pub(crate) fn heal(&self) {
        self.0.lock().clear();
    }

    fn has(&self, from: u64, to: u64) -> bool {
        self.0.lock().contains(&(from, to))
    }
}

/// TLS that refuses whoever is cut off.
struct CutWire {
    tls: Arc<TlsWire>,
    me: u64,
    cuts: Arc<Cuts>,
}

impl Wire for CutWire {
    fn channel(&self, node: NodeId, address: &str) -> Result<Channel, InvalidAddress> {
        self.tls.channel(node, address)
    }

    fn peer(&self, connection: &Extensions) -> Option<NodeId> {
        self.tls.peer(connection).filter(|from| !self.cuts.has(from.get(), self.me))
    }
}

/// What a node keeps while it is down.
pub(crate) struct Machine {
    pub(crate) number: u64,
    pub(crate) role: NodeRole,
    pub(crate) record: NodeRecord,
    pub(crate) folder: PathBuf,
    key: PrivateKey,
    address: SocketAddr,
    pub(crate) pen: Arc<Pen>,
    pub(crate) watch: Arc<Watch>,
}

/// A node that runs, on threads of its own.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) state: Arc<StateDb>,
    runtime: Runtime,
}

/// Log, state and snapshots in a folder.
pub(crate) fn stores(folder: &Path, number: u64, pen: Arc<Pen>) -> Stores {
    let identity = Identity { cluster: CLUSTER, node: id(number) };
    let log = LogDb::open(&folder.join("log"), identity).unwrap();
    let state = StateDb::open(&folder.join("state"), identity).unwrap();
    Stores {
        me: Me { cluster: CLUSTER, incarnation: Incarnation::FIRST, node: id(number) },
        log: Arc::new(log),
        state: Arc::new(state),
        snapshots: Arc::new(SnapshotStore::open(&folder.join("snapshots"), CLUSTER).unwrap()),
        roster: Roster::new(NodeId::FIRST, Vec::new()),
        trust: Trust { cluster: CLUSTER, genesis_key: public(&KEY) },
        verifier: Arc::new(Ed25519),
        signer: pen,
    }
}

/// Longest that a killed node may hold its databases.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits for the end of every node: a process that exits while RocksDB closes a database on another thread
/// aborts, since its locks are gone by then.
impl Drop for Cluster {
    fn drop(&mut self) {
        for number in self.running.keys().copied().collect::<Vec<_>>() {
            self.kill(number);
        }
        for (_, ending) in std::mem::take(self.ending.get_mut()) {
            let ended = ending.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a node did not end");
        }
    }
}

pub(crate) struct Cluster {
    _root: TempDir,
    authority: Authority<Nodes>,
    pub(crate) config: Config,
    pub(crate) cuts: Arc<Cuts>,
    pub(crate) machines: BTreeMap<u64, Machine>,
    pub(crate) running: BTreeMap<u64, Running>,
    /// The ends of nodes that were killed.
    ending: Mutex<BTreeMap<u64, JoinHandle<()>>>,
    is_trusting: bool,
}

/// Length of the nodes' freshness leases: the shortest that a cluster may have.
pub(crate) const LEASE_MS: u32 = 1_000;

/// The cluster as it begins.
fn record() -> ClusterRecord {
    ClusterRecord {
        id: CLUSTER,
        incarnation: Incarnation::FIRST,
        version: ClusterVersion::NEWEST,
        epoch: Epoch::FIRST,
        command_keys: vec![CommandKey { epoch: Epoch::FIRST, public: public(&KEY) }],
        roots: Roots { node: vec![1], caller: vec![2], endpoint: vec![3] },
        operators: vec![Operator {
            name: "operator".parse().unwrap(),
            recipient: "age1operator".to_owned(),
            signing_key: public(&OPERATOR),
        }],
        dev: true,
        preferred_zone: None,
        domain: "example".to_owned(),
        revision: Revision::FIRST,
        approvals_min: 1,
        freshness_lease_ms: Some(LEASE_MS),
    }
}

fn everybody() -> Arc<dyn PeerTrust> {
    Arc::new(|_, _, _: &[u8; 32]| true)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn validity() -> Validity {
    Validity::starting(now_s(), Duration::from_secs(3600))
}

impl Cluster {
    pub(crate) fn new(config: Config) -> Self {
        let lifetime = Validity::starting(now_s(), Duration::from_secs(7200));
        let authority = Authority::create(CLUSTER, lifetime).unwrap();
        let root = TempDir::new().unwrap();
        let (machines, running, ending) = Default::default();
        let cuts = Arc::default();
        Self { _root: root, authority, config, cuts, machines, running, ending, is_trusting: false }
    }

    /// A cluster of data nodes 1 and 2 in zone a, 3 and 4 in zone b, and the witness 5, all voting.
    pub(crate) async fn five(config: Config) -> Self {
        let mut cluster = Self::new(config);
        cluster.begin().await;
        for (number, zone) in [(2, "a"), (3, "b"), (4, "b")] {
            cluster.join(number, zone, NodeRole::Data).await;
        }
        cluster.join(5, "w", NodeRole::Witness).await;
        cluster.set_standings(&[2, 3, 4, 5], Standing::Voter).await;
        cluster.followed().await;
        cluster
    }

    /// Lets nodes that start from now on take connections from any certificate of the cluster.
    pub(crate) fn trust_everybody(&mut self) {
        self.is_trusting = true;
    }

    /// Prepares a node that is not started.
    pub(crate) async fn machine(&mut self, number: u64, zone: &str, role: NodeRole) {
        let net = match zone {
            "a" => 1,
            "b" => 2,
            _ => 3,
        };
        let ip = Ipv4Addr::new(127, 0, net, u8::try_from(number).unwrap());
        // The port stays free for this node: nobody else uses its address.
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = PrivateKey::generate().unwrap();
        let record = NodeRecord {
            id: id(number),
            role,
            standing: if number == 1 { Standing::Voter } else { Standing::Learner },
            placement: Placement {
                zone: format!("zone-{zone}").parse().unwrap(),
                vpc: "vpc".parse().unwrap(),
                vswitch: format!("vsw-{zone}").parse().unwrap(),
                cidr: format!("127.0.{net}.0/24").parse().unwrap(),
                client_address: SocketAddr::new(ip.into(), 1),
                peer_address: address,
            },
            spki_sha256: key.public_key().sha256(),
            incarnation: Incarnation::FIRST,
            revision: Revision::FIRST,
            removed_ms: None,
        };
        let folder = self._root.path().join(number.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let pen = Pen::new(number, role == NodeRole::Witness);
        let machine =
            Machine { number, role, record, folder, key, address, pen, watch: Arc::default() };
        self.machines.insert(number, machine);
    }

    /// Opens a node on what its folder has, on a runtime of its own.
    pub(crate) async fn open(&self, number: u64) -> Result<(Running, Arc<PeerTls>), OpenError> {
        self.ended(number).await;
        let machine = &self.machines[&number];
        // What a join answer names: the node that took this one in.
        let pins = self.machines.values().filter(|m| m.number <= 5).map(|m| Pin {
            node: m.record.id,
            incarnation: Incarnation::FIRST,
            spki_sha256: m.record.spki_sha256,
        });
        let roster = Roster::new(NodeId::FIRST, pins.collect());
        let trust: Arc<dyn PeerTrust> =
            if self.is_trusting { everybody() } else { Arc::clone(&roster) as _ };
        let tls = self.tls(machine, trust);
        let clock: Arc<dyn Clock> = machine.watch.clone();
        let incarnation = Incarnation::FIRST;
        let wire = TlsWire::new(tls.clone(), CLUSTER, incarnation, clock.clone(), &self.config);
        let wire = Arc::new(CutWire { tls: wire, me: number, cuts: Arc::clone(&self.cuts) });
        let stores = Stores { roster, ..stores(&machine.folder, number, machine.pen.clone()) };
        let state = Arc::clone(&stores.state);
        let (role, config) = (machine.role, self.config.clone());
        let boot_id = [7; 16];
        let parts = Parts { role, config, stores, wire, clock, boot_id };
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        match runtime.spawn(Node::open(parts)).await.unwrap() {
            Ok(node) => Ok((Running { node, runtime, state }, Arc::new(tls))),
            Err(error) => {
                self.end_runtime(number, runtime);
                Err(error)
            }
        }
    }

    /// Starts a node on what its folder has.
    pub(crate) async fn start(&mut self, number: u64) {
        let (running, tls) = self.open(number).await.unwrap();
        let address = self.machines[&number].address;
        let service = running.node.peer_service();
        let starting = running.node.clone();
        let started = running.runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            let connections = incoming(listener, tls.server().unwrap(), Limits::default());
            let server = Server::builder().add_service(service);
            tokio::spawn(async move { server.serve_with_incoming(connections).await.unwrap() });
            starting.run();
        });
        started.await.unwrap();
        self.running.insert(number, running);
    }

    /// Ends a node in the middle of whatever it does: every task of it and every connection.
    pub(crate) fn kill(&mut self, number: u64) {
        let Running { node, runtime, state } = self.running.remove(&number).unwrap();
        drop((node, state));
        self.end_runtime(number, runtime);
    }

    fn end_runtime(&self, number: u64, runtime: Runtime) {
        // Waiting blocks, which a thread of the test's own runtime may not.
        let ending = std::thread::spawn(move || {
            let began = Instant::now();
            // It does not say whether the time was enough.
            runtime.shutdown_timeout(END_TIMEOUT);
            assert!(began.elapsed() < END_TIMEOUT, "a node did not end within {END_TIMEOUT:?}");
        });
        self.ending.lock().insert(number, ending);
    }

    /// Waits until nothing of a killed node is left: no database, no file that it writes, no listener.
    pub(crate) async fn ended(&self, number: u64) {
        let ending = self.ending.lock().remove(&number);
        if let Some(ending) = ending {
            tokio::task::spawn_blocking(move || ending.join()).await.unwrap().unwrap();
        }
    }

    pub(crate) fn node(&self, number: u64) -> &Node {
        &self.running[&number].node
    }

    /// Begins the cluster on node 1.
    pub(crate) async fn begin(&mut self) {
        self.machine(1, "a", NodeRole::Data).await;
        self.start(1).await;
        let machine = &self.machines[&1];
        let contact = Contact::new(machine.address.to_string());
        self.node(1).initialize(contact).await.unwrap();
        let genesis = Genesis {
            cluster: record(),
            node: machine.record.clone(),
            seals: Vec::new(),
            sealed: Vec::new(),
            admin: Binding {
                caller: "admin".parse().unwrap(),
                grants: Vec::new(),
                revision: Revision::FIRST,
            },
            unix_ms: machine.watch.unix_ms(),
        };
        self.apply(1, vec![Command::Genesis(Box::new(genesis))]).await;
    }

    /// Proposes on a node and expects every command to be done.
    pub(crate) async fn apply(&self, number: u64, commands: Vec<Command>) -> Vec<Outcome> {
        let count = commands.len();
        let done = self.propose(number, commands).await.unwrap();
        assert_eq!(done.outcomes.len(), count);
        for outcome in &done.outcomes {
            assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
        }
        done.outcomes
    }

    pub(crate) async fn propose(
        &self,
        number: u64,
        commands: Vec<Command>,
    ) -> Result<Proposed, ProposeError> {
        let node = self.node(number).clone();
        let batch = signed(&KEY, number, commands);
        // On the node's own threads, which are gone when it is.
        let call = async move { node.propose(batch, soon()).await };
        self.running[&number].runtime.spawn(call).await.unwrap()
    }

    /// Moves the replicated clock through a node: the smallest write there is, and one that may be
    /// made twice. A proposal whose leader dies under it has an unknown end and is made again.
    pub(crate) async fn tick(&self, number: u64) -> u64 {
        let deadline = soon();
        loop {
            match self.propose(number, vec![Command::Clock { unix_ms: 1 }]).await {
                Ok(done) => return done.index,
                Err(ProposeError::Timeout) if Instant::now() < deadline => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Admits, records and starts a learner.
    pub(crate) async fn join(&mut self, number: u64, zone: &str, role: NodeRole) {
        self.machine(number, zone, role).await;
        self.admit(number).await;
        self.start(number).await;
    }

    pub(crate) async fn admit(&mut self, number: u64) {
        let machine = &self.machines[&number];
        let through =
            *self.running.keys().find(|n| self.machines[n].role == NodeRole::Data).unwrap();
        let (spki_sha256, role) = (machine.record.spki_sha256, machine.role);
        let zone = machine.record.placement.zone.clone();
        let expires_ms = machine.watch.unix_ms() + 60_000;
        let order = record().admission_order(spki_sha256, role, zone.clone(), expires_ms);
        let signature = OPERATOR.sign(&order.message()).as_ref().try_into().unwrap();
        let approvals = vec![Approval { operator: "operator".parse().unwrap(), signature }];
        let admit = Command::AdmitNode { spki_sha256, role, zone, expires_ms, approvals };
        let outcomes = self.apply(through, vec![admit]).await;
        let [Outcome::Applied(Applied::Admission(admission))] = outcomes.as_slice() else {
            panic!("{outcomes:?}")
        };
        assert_eq!(admission.node, id(number));
        let join = Command::JoinNode { node: Box::new(machine.record.clone()) };
        self.apply(through, vec![join]).await;
    }

    pub(crate) async fn set_standings(&self, numbers: &[u64], to: Standing) {
        let changes = numbers.iter().map(|number| (*number, to)).collect::<Vec<_>>();
        self.change_standings(&changes).await;
    }

    pub(crate) async fn change_standings(&self, changes: &[(u64, Standing)]) {
        let through =
            *self.running.keys().find(|n| self.machines[n].role == NodeRole::Data).unwrap();
        let records = self.node(through).roster().records();
        let changes = changes
            .iter()
            .map(|(node, to)| StandingChange {
                node: id(*node),
                to: *to,
                expected: records[node].revision,
            })
            .collect();
        self.apply(through, vec![Command::SetStandings { changes }]).await;
    }

    /// A peer's client that says whatever the test wants, with the certificate of a node.
    pub(crate) fn client(&self, from: u64, to: u64) -> PeerServiceClient<Channel> {
        let machine = &self.machines[&from];
        let tls = self.tls(machine, everybody());
        let connector = Connector::new(tls.client(Some(id(to))).unwrap(), Duration::from_secs(2));
        let endpoint = Endpoint::from_shared(format!("http://{}", self.machines[&to].address));
        PeerServiceClient::new(endpoint.unwrap().connect_with_connector_lazy(connector))
    }

    fn tls(&self, machine: &Machine, trust: Arc<dyn PeerTrust>) -> PeerTls {
        let (public_key, node) = (machine.key.public_key(), id(machine.number));
        let certificate =
            self.authority.issue_node(&public_key, node, Incarnation::FIRST, validity()).unwrap();
        let credential = Credential::new(vec![certificate], &machine.key, now_s()).unwrap();
        let root = vec![self.authority.root().clone()];
        PeerTls::new(Arc::new(credential), root, CLUSTER, trust)
    }

    /// Returns the first version of a key as a node has it.
    pub(crate) fn find_version(&self, number: u64, key: KeyId) -> Option<KeyVersionRecord> {
        let state = &self.running[&number].state;
        KeyVersionRecord::load(&state.latest(), &(key, KeyVersionNumber::FIRST)).unwrap()
    }

    pub(crate) fn version(&self, number: u64, key: KeyId) -> KeyVersionRecord {
        self.find_version(number, key).unwrap()
    }

    /// Waits until the membership is what the records say, on every running node.
    pub(crate) async fn followed(&self) {
        for running in self.running.values() {
            running.node.membership_followed(soon()).await.unwrap();
        }
    }

    /// Waits until a running node leads that the predicate likes, and returns it.
    pub(crate) async fn leader_among(&self, numbers: &[u64]) -> u64 {
        let deadline = soon();
        loop {
            for number in numbers {
                let status = self.running.get(number).map(|running| running.node.status());
                if status.is_some_and(|status| status.part == twinkeep_raft::Part::Leader) {
                    return *number;
                }
            }
            assert!(Instant::now() < deadline, "nobody of {numbers:?} leads");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all running nodes have applied an entry.
    pub(crate) async fn all_applied(&self, index: u64) {
        for running in self.running.values() {
            running.node.wait_applied(index, soon()).await.unwrap();
        }
    }
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(8)
}

/// Timing for a machine that runs many nodes at once.
pub(crate) fn config() -> Config {
    Config::default()
}
