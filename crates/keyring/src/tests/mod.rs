//! A founded cluster, unsealed, joined and recovered, and everything that must be refused on the way.

mod founding;
mod joining;
mod records;
mod recovering;
mod sealing;
mod unsealing;

use twinkeep_core::id::{ClusterId, Incarnation, InstanceId, InstanceKeyVersion, NodeId, Revision};
use twinkeep_core::name::{CallerName, InstanceName};
use twinkeep_core::record::{
    ClusterRecord, ClusterVersion, InstanceKind, InstanceRecord, InstanceStatus, Operator, Record,
    RecordKind, Roots, SealedBlob, SealedRecord,
};
use twinkeep_core::state::{Read as _, Table, Write as _};
use twinkeep_sysmem::Arena;
use twinkeep_testkit::memory::Memory;

use crate::recovery::Identity;
use crate::{Founded, Founding, Keyring, NewSeal, Quorum, SealKey, Step, UnsealProgress, found};

const CLUSTER: ClusterId = ClusterId::from_bytes([0x10; 16]);
const INSTANCE: InstanceId = InstanceId::from_bytes([0x20; 16]);

fn arena() -> Arena {
    Arena::new(Keyring::SLOTS).unwrap()
}

fn caller(name: &str) -> CallerName {
    CallerName::parse(name).unwrap()
}

fn node_id(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// Three operators with a key each.
fn operators() -> (Vec<Operator>, Vec<Identity>) {
    let identities: Vec<_> = (0..3).map(|_| Identity::generate()).collect();
    let names = ["ann", "ben", "cho"].into_iter();
    let operator =
        |(name, identity): (&str, &Identity)| identity.public_key().operator(caller(name));
    (names.zip(&identities).map(operator).collect(), identities)
}

/// A cluster just founded: two of three shares, two of three operators.
struct Cluster {
    founded: Founded,
    state: Memory,
    identities: Vec<Identity>,
}

impl Cluster {
    fn new() -> Self {
        Self::with_id(CLUSTER)
    }

    fn with_id(cluster: ClusterId) -> Self {
        let quorum = Quorum::new(2, 3).unwrap();
        let (operators, identities) = operators();
        let seals = [NewSeal::Shamir(quorum)];
        let founding = Founding {
            cluster,
            seals: &seals,
            operators: &operators,
            recovery: quorum,
            dev: false,
        };
        let founded = found(&founding, arena()).unwrap();
        let mut state = Memory::default();
        let keyring = &founded.keyring;
        ClusterRecord {
            id: cluster,
            incarnation: Incarnation::FIRST,
            version: ClusterVersion::NEWEST,
            epoch: keyring.epoch(),
            command_keys: vec![keyring.command_key()],
            roots: Roots { node: vec![1], caller: vec![2], endpoint: vec![3] },
            operators,
            dev: false,
            preferred_zone: None,
            domain: "kms.test".to_owned(),
            revision: Revision::FIRST,
            approvals_min: quorum.threshold(),
            freshness_lease_ms: None,
        }
        .store(&mut state);
        founded.seals.iter().for_each(|seal| seal.store(&mut state));
        founded.sealed.iter().for_each(|record| record.store(&mut state));
        keyring.new_instance_key(&INSTANCE).unwrap().store(&mut state);
        Self { founded, state, identities }
    }

    fn keyring(&self) -> &Keyring {
        &self.founded.keyring
    }

    /// The key of the first seal, from its first two shares.
    fn seal_key(&self) -> SealKey {
        let mut progress = UnsealProgress::new(self.founded.seals[0].clone()).unwrap();
        let [first, second, _] = self.founded.shares.as_slice() else { panic!("three shares") };
        progress.offer(first.danger_expose()).unwrap();
        match progress.offer(second.danger_expose()).unwrap() {
            Step::Open(key) => key,
            Step::Waiting { .. } => panic!("two shares open"),
        }
    }

    fn sealed(&self, kind: RecordKind) -> SealedRecord {
        let prefix = SealedRecord::kind_prefix(kind);
        SealedRecord::list(&self.state, &prefix, &[], 9).unwrap().remove(0)
    }

    /// Flips a bit of the last byte of a record's envelope.
    fn damage(&mut self, kind: RecordKind) {
        let mut record = self.sealed(kind);
        record.blob = flipped(&record.blob);
        record.store(&mut self.state);
    }

    fn delete(&mut self, kind: RecordKind) {
        let row = self.sealed(kind).own_row();
        assert!(self.state.get(Table::Sealed, &row).unwrap().is_some());
        self.state.delete(Table::Sealed, &row);
    }

    fn change(&mut self, change: impl FnOnce(&mut ClusterRecord)) {
        let mut record = ClusterRecord::load(&self.state, &()).unwrap().unwrap();
        change(&mut record);
        record.store(&mut self.state);
    }
}

fn flipped(blob: &SealedBlob) -> SealedBlob {
    let mut bytes = blob.as_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    SealedBlob::from_envelope(bytes)
}

fn instance(id: InstanceId) -> InstanceRecord {
    InstanceRecord {
        id,
        name: InstanceName::parse("main").unwrap(),
        kind: InstanceKind::Software,
        status: InstanceStatus::Connected,
        key_version: InstanceKeyVersion::FIRST,
        created_by: caller("ann"),
        created_ms: 0,
        revision: Revision::FIRST,
        when_stale: None,
    }
}
