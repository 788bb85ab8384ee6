//! What a cluster may be founded with.

use twinkeep_core::record::{Operator, RecordKind};
use twinkeep_envelope::SecretBytes;

use super::{CLUSTER, arena, caller, operators};
use crate::recovery::{BundleError, Identity};
use crate::{FoundError, Founding, NewSeal, Quorum, found};

fn refusal(change: impl FnOnce(&mut Founding<'_>)) -> FoundError {
    let (operators, _) = operators();
    let recovery = Quorum::new(2, 3).unwrap();
    let seals = [NewSeal::Shamir(recovery)];
    let mut founding =
        Founding { cluster: CLUSTER, seals: &seals, operators: &operators, recovery, dev: false };
    change(&mut founding);
    found(&founding, arena()).unwrap_err()
}

#[test]
fn cluster_without_a_seal_is_refused() {
    assert!(matches!(refusal(|founding| founding.seals = &[]), FoundError::NoSeal));
}

#[test]
fn passphrase_is_refused_outside_development() {
    let words = SecretBytes::copy_of(b"correct horse");
    let seals = [NewSeal::Passphrase(&words)];
    let (operators, _) = operators();
    let recovery = Quorum::new(2, 3).unwrap();
    let founding =
        Founding { cluster: CLUSTER, seals: &seals, operators: &operators, recovery, dev: false };
    let refused = found(&founding, arena()).unwrap_err();
    assert!(matches!(refused, FoundError::PassphraseOutsideDev));
}

#[test]
fn single_operator_is_refused_outside_development() {
    let (operators, _) = operators();
    let recovery = Quorum::SINGLE;
    let seals = [NewSeal::Shamir(Quorum::new(2, 3).unwrap())];
    let mut founding = Founding {
        cluster: CLUSTER,
        seals: &seals,
        operators: &operators[..1],
        recovery,
        dev: false,
    };
    let refused = found(&founding, arena()).unwrap_err();
    assert!(matches!(refused, FoundError::TooFewOperators));
    founding.dev = true;
    found(&founding, arena()).unwrap();
}

#[test]
fn each_operator_gets_one_share() {
    let refused = refusal(|founding| founding.operators = &founding.operators[..2]);
    let FoundError::Bundle(BundleError::OperatorCount { shares: 3, operators: 2 }) = refused else {
        panic!("{refused}")
    };
}

fn refusal_of(operators: &[Operator]) -> BundleError {
    let recovery = Quorum::new(2, u8::try_from(operators.len()).unwrap()).unwrap();
    let seals = [NewSeal::Shamir(recovery)];
    let founding = Founding { cluster: CLUSTER, seals: &seals, operators, recovery, dev: false };
    match found(&founding, arena()).unwrap_err() {
        FoundError::Bundle(refused) => refused,
        other => panic!("{other}"),
    }
}

#[test]
fn operator_with_two_shares_is_refused() {
    let (mut operators, _) = operators();
    operators[2].recipient = operators[0].recipient.clone();
    let refused = refusal_of(&operators);
    assert!(matches!(refused, BundleError::Duplicate { operator } if operator == caller("cho")));

    operators[2].recipient = Identity::generate().recipient();
    operators[2].name = caller("ann");
    assert!(matches!(refusal_of(&operators), BundleError::Duplicate { .. }));

    operators[2].name = caller("cho");
    operators[2].signing_key = operators[0].signing_key;
    assert!(matches!(refusal_of(&operators), BundleError::Duplicate { .. }));
}

#[test]
fn key_that_is_not_ages_is_refused() {
    let (mut operators, identities) = operators();
    for wrong in ["", "age1qqqq", "ssh-ed25519 AAAA", &identities[1].danger_to_text()] {
        operators[1].recipient = wrong.to_owned();
        let refused = refusal_of(&operators);
        assert!(
            matches!(refused, BundleError::Recipient { operator, .. } if operator == caller("ben"))
        );
    }
}

#[test]
fn every_seal_gets_a_record_of_the_root_key() {
    let words = SecretBytes::copy_of(b"correct horse");
    let (operators, _) = operators();
    let recovery = Quorum::new(2, 3).unwrap();
    let seals = [NewSeal::Passphrase(&words), NewSeal::Shamir(recovery)];
    let founding =
        Founding { cluster: CLUSTER, seals: &seals, operators: &operators, recovery, dev: true };
    let founded = found(&founding, arena()).unwrap();
    let roots = founded.sealed.iter().filter(|record| record.kind == RecordKind::RootKey);
    let names: Vec<_> = roots.map(|record| record.record_key.clone()).collect();
    let ids: Vec<_> = founded.seals.iter().map(|seal| seal.id.0.to_vec()).collect();
    assert_eq!(names, ids);
    assert_eq!(founded.shares.len(), 3);
}
