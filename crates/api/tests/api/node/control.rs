//! The replicated state in a map, changed by the core's own `apply`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use twinkeep_api::ports::{
    Committed, ControlError, ControlPlane, Freshness, Laggard, Leader, Reached, ReplicationStatus,
    Vault as _,
};
use twinkeep_core::access::{Grant, Role, Scope};
use twinkeep_core::apply::{Trust, apply_entry};
use twinkeep_core::command::{
    Batch, Command, CreateInstance, Genesis, Proposal, SignatureVerifier, SignedBatch,
};
use twinkeep_core::id::{Epoch, Incarnation, InstanceId, KeyId, NodeId, Revision};
use twinkeep_core::key::KeyEvent;
use twinkeep_core::name::InstanceName;
use twinkeep_core::outcome::{Applied, Outcome};
use twinkeep_core::record::{
    Binding, ClusterRecord, ClusterVersion, CommandKey, InstanceKind, KeyRecord, NodeRecord,
    Operator, Record as _, Roots,
};
use twinkeep_core::replication::{Durability, Mode};
use twinkeep_core::state::Read;
use twinkeep_core::topology::{NodeRole, Placement, Standing};
use twinkeep_testkit::memory::Memory;

use super::{CLUSTER, START_MS, TestVault, caller};

/// Who approves admissions; any two of them.
pub(crate) const OPERATORS: [&str; 3] = ["ann", "bob", "cho"];

fn operator(name: &str) -> Operator {
    let mut signing_key = [0; 32];
    signing_key[..3].copy_from_slice(name.as_bytes());
    Operator { name: caller(name), recipient: format!("age1{name}"), signing_key }
}

/// A signature that nobody believes.
pub(crate) const FORGED: [u8; 64] = [0xff; 64];

/// Signatures are the core's matter; here all are believed but one.
struct BelieveMost;

impl SignatureVerifier for BelieveMost {
    fn verify(&self, _: &[u8; 32], _: &[u8], signature: &[u8; 64]) -> bool {
        *signature != FORGED
    }
}

type Hook = Box<dyn FnOnce(&MemoryControl) + Send>;

pub(crate) struct MemoryControl {
    state: Mutex<Arc<Memory>>,
    applied: AtomicU64,
    no_leader: AtomicBool,
    usable_up_to: AtomicU64,
    freshness: Mutex<Freshness>,
    laggards: Mutex<Vec<Laggard>>,
    /// Runs once, before the next proposal is applied: the change that comes first.
    before_next: Mutex<Option<Hook>>,
    /// How many changes were proposed.
    pub(crate) proposals: AtomicU64,
}

impl MemoryControl {
    pub(crate) fn begun() -> Self {
        let control = Self {
            state: Mutex::default(),
            applied: AtomicU64::new(0),
            no_leader: AtomicBool::new(false),
            usable_up_to: AtomicU64::new(u64::MAX),
            freshness: Mutex::new(Freshness::Fresh),
            laggards: Mutex::default(),
            before_next: Mutex::default(),
            proposals: AtomicU64::new(0),
        };
        let admin = Binding {
            caller: caller("admin"),
            grants: vec![Grant { role: Role::Admin, scope: Scope::Cluster }],
            revision: Revision::FIRST,
        };
        let genesis = Genesis {
            cluster: ClusterRecord {
                id: CLUSTER,
                incarnation: Incarnation::FIRST,
                version: ClusterVersion::NEWEST,
                epoch: Epoch::FIRST,
                command_keys: vec![CommandKey { epoch: Epoch::FIRST, public: [1; 32] }],
                roots: Roots { node: vec![1], caller: vec![2], endpoint: vec![3] },
                operators: OPERATORS.map(operator).to_vec(),
                dev: true,
                preferred_zone: None,
                domain: "twinkeep.example".into(),
                revision: Revision::FIRST,
                approvals_min: 2,
                freshness_lease_ms: None,
            },
            node: node_record(),
            seals: vec![],
            sealed: vec![],
            admin,
            unix_ms: START_MS,
        };
        let outcome = control.apply(None, Command::Genesis(Box::new(genesis))).outcome;
        assert_eq!(outcome, Outcome::Applied(Applied::Cluster));
        control
    }

    pub(crate) fn create_instance(&self, name: &str, id: InstanceId, vault: &TestVault) {
        let command = CreateInstance {
            id,
            name: InstanceName::parse(name).unwrap(),
            kind: InstanceKind::Software,
            sealed: vault.seal_instance_key(&*self.view(), id).unwrap(),
            when_stale: None,
        };
        let done = self.apply(Some("admin"), Command::CreateInstance(Box::new(command)));
        assert!(matches!(done.outcome, Outcome::Applied(_)), "{done:?}");
    }

    pub(crate) fn bind(&self, name: &str, grants: &[Grant]) {
        let held = Binding::load(&*self.view(), &caller(name)).unwrap();
        let command = Command::SetBinding {
            caller: caller(name),
            grants: grants.to_vec(),
            expected: held.map(|held| held.revision),
        };
        let done = self.apply(Some("admin"), command);
        assert!(matches!(done.outcome, Outcome::Applied(_)), "{done:?}");
    }

    /// Moves a key in its life, past the API.
    pub(crate) fn move_key(&self, key_id: &str, event: KeyEvent) {
        let key: KeyId = key_id.parse().unwrap();
        let expected = KeyRecord::load(&*self.view(), &key).unwrap().unwrap().revision;
        let done = self.apply(Some("key-admin"), Command::MoveKey { key, event, expected });
        assert!(matches!(done.outcome, Outcome::Applied(_)), "{done:?}");
    }

    pub(crate) fn apply(&self, actor: Option<&str>, command: Command) -> Committed {
        self.commit(Proposal { actor: actor.map(caller), token: None, command })
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Runs a change right before the next proposal.
    pub(crate) fn before_next(&self, hook: impl FnOnce(&Self) + Send + 'static) {
        *self.before_next.lock() = Some(Box::new(hook));
    }

    /// Lets key versions be used that were created up to an entry, and no later ones.
    pub(crate) fn mark_durable(&self, index: u64) {
        self.usable_up_to.store(index, Ordering::Release);
    }

    /// Lets the state grow old, or be new again.
    pub(crate) fn set_freshness(&self, freshness: Freshness) {
        *self.freshness.lock() = freshness;
    }

    /// Lets nodes lag behind whatever is changed.
    pub(crate) fn set_laggards(&self, laggards: Vec<Laggard>) {
        *self.laggards.lock() = laggards;
    }

    pub(crate) fn lose_leader(&self) {
        self.no_leader.store(true, Ordering::Relaxed);
    }

    fn commit(&self, proposal: Proposal) -> Committed {
        let mut state = self.state.lock();
        let index = self.applied.load(Ordering::Relaxed) + 1;
        let batch = Batch { not_after_ms: u64::MAX, commands: vec![proposal] }.to_bytes();
        let signed = SignedBatch {
            incarnation: Incarnation::FIRST,
            epoch: Epoch::FIRST,
            signer: NodeId::FIRST,
            batch,
            signature: [0; 64],
        };
        let trust = Trust { cluster: CLUSTER, genesis_key: [1; 32] };
        let mut next = Memory::clone(&state);
        let mut outcomes =
            apply_entry(&mut next, index, &signed.to_bytes(), &trust, &BelieveMost).unwrap();
        *state = Arc::new(next);
        self.applied.store(index, Ordering::Release);
        let reached = Reached { index, durability: Some(Durability::EveryZone) };
        Committed { outcome: outcomes.remove(0), reached }
    }
}

struct View(Arc<Memory>);

impl Read for View {
    fn get(
        &self,
        table: twinkeep_core::state::Table,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, twinkeep_core::state::Fault> {
        self.0.get(table, key)
    }

    fn scan(
        &self,
        table: twinkeep_core::state::Table,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<twinkeep_core::state::Rows, twinkeep_core::state::Fault> {
        self.0.scan(table, prefix, from, limit)
    }
}

#[tonic::async_trait]
impl ControlPlane for MemoryControl {
    fn view(&self) -> Box<dyn Read + Send + '_> {
        Box::new(View(Arc::clone(&self.state.lock())))
    }

    fn applied_index(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    fn usable_up_to(&self) -> u64 {
        self.usable_up_to.load(Ordering::Acquire)
    }

    fn replication(&self) -> Option<ReplicationStatus> {
        let (mode, zone_complete_until_ms) = (Mode::Sync, Some(START_MS));
        Some(ReplicationStatus { mode, since_ms: 0, revision: 0, zone_complete_until_ms })
    }

    fn freshness(&self) -> Freshness {
        *self.freshness.lock()
    }

    async fn everywhere(&self, _: u64, _: Instant) -> Result<Vec<Laggard>, ControlError> {
        Ok(self.laggards.lock().clone())
    }

    async fn acknowledged(&self, _: Instant) -> Result<Reached, ControlError> {
        Ok(Reached { index: self.applied_index(), durability: Some(Durability::EveryZone) })
    }

    fn leader(&self) -> Option<Leader> {
        let address: SocketAddr = "127.0.1.11:7101".parse().unwrap();
        Some(Leader { node: NodeId::FIRST, address })
    }

    async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), ControlError> {
        while self.applied_index() < index {
            if Instant::now() >= deadline {
                let applied = self.applied_index();
                return Err(ControlError::Lagging { wanted: index, applied });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn propose(&self, proposal: Proposal, _: Instant) -> Result<Committed, ControlError> {
        if self.no_leader.load(Ordering::Relaxed) {
            return Err(ControlError::NoLeader);
        }
        self.proposals.fetch_add(1, Ordering::Relaxed);
        let hook = self.before_next.lock().take();
        if let Some(hook) = hook {
            hook(self);
        }
        Ok(self.commit(proposal))
    }
}

fn node_record() -> NodeRecord {
    let name = |text: &str| text.parse().unwrap();
    NodeRecord {
        id: NodeId::FIRST,
        role: NodeRole::Data,
        standing: Standing::Voter,
        placement: Placement {
            zone: name("zone-a"),
            vpc: "vpc-1".parse().unwrap(),
            vswitch: "vsw-a".parse().unwrap(),
            cidr: "127.0.1.0/24".parse().unwrap(),
            client_address: "127.0.1.11:7101".parse().unwrap(),
            peer_address: "127.0.1.11:7201".parse().unwrap(),
        },
        spki_sha256: [5; 32],
        incarnation: Incarnation::FIRST,
        revision: Revision::FIRST,
        removed_ms: None,
    }
}
