//! The recovery bundle, on the day when every seal is lost.

use super::{CLUSTER, Cluster, arena, caller};
use crate::recovery::{BEGIN, Bundle, END, EncryptedShare, Identity, RecoveryError};
use crate::{Founding, Keyring, NewSeal, Quorum, found};

/// The chosen operators' identities.
fn some(cluster: &Cluster, which: &[usize]) -> Vec<Identity> {
    which
        .iter()
        .map(|at| Identity::parse(&cluster.identities[*at].danger_to_text()).unwrap())
        .collect()
}

#[test]
fn any_two_of_three_operators_get_every_key_back() {
    let cluster = Cluster::new();
    let bundle = Bundle::parse(&cluster.founded.bundle.to_text()).unwrap();
    assert_eq!(bundle, cluster.founded.bundle);
    for which in [[0, 1], [2, 0], [1, 2]] {
        let root = bundle.recover(&some(&cluster, &which)).unwrap();
        let opened = Keyring::open_with_root(&cluster.state, root, arena()).unwrap();
        assert_eq!(opened.command_key(), bundle.command_key);
    }
}

#[test]
fn verify_names_whose_shares_opened() {
    let cluster = Cluster::new();
    let opened = cluster.founded.bundle.verify(&some(&cluster, &[2, 0])).unwrap();
    assert_eq!(opened, [caller("ann"), caller("cho")]);
}

#[test]
fn too_few_or_strange_keys_are_told() {
    let cluster = Cluster::new();
    let bundle = &cluster.founded.bundle;
    let too_few = |opened| RecoveryError::TooFew { opened, threshold: 2 };
    assert_eq!(bundle.verify(&[]).unwrap_err(), too_few(0));
    assert_eq!(bundle.verify(&some(&cluster, &[1])).unwrap_err(), too_few(1));
    assert_eq!(bundle.verify(&some(&cluster, &[1, 1])).unwrap_err(), too_few(1));
    let strangers = [Identity::generate(), Identity::generate()];
    assert_eq!(bundle.verify(&strangers).unwrap_err(), too_few(0));
}

#[test]
fn bundle_tells_nothing_without_its_keys() {
    let cluster = Cluster::new();
    let bundle = &cluster.founded.bundle;
    let root = bundle.recover(&some(&cluster, &[0, 1])).unwrap();
    let all: Vec<u8> = bundle.shares.iter().flat_map(|share| share.age.clone()).collect();
    let windows = |needle: &[u8]| all.windows(needle.len()).any(|window| window == needle);
    assert!(!windows(root.danger_expose()));
    assert!(!windows(b"tkshare1"));
}

#[test]
fn damaged_text_is_told_from_a_wrong_key() {
    let cluster = Cluster::new();
    let text = cluster.founded.bundle.to_text();
    let refused = |text: &str| match Bundle::parse(text).unwrap_err() {
        RecoveryError::Text(why) => why,
        other => panic!("{other}"),
    };
    assert_eq!(refused(""), "its first or last line is missing");
    assert_eq!(refused(text.trim_end().trim_end_matches(END)), "its first or last line is missing");
    assert_eq!(refused(&text.replacen(BEGIN, "", 1)), "its first or last line is missing");
    assert_eq!(refused(&format!("{BEGIN}\n{END}\n")), "it is too short");
    assert_eq!(refused(&text.replacen('A', "*", 1).replacen('A', "*", 9)), "it is not Base64");
    let lines: Vec<_> = text.lines().collect();
    let cut = [&lines[..4], &lines[5..]].concat().join("\n");
    assert_eq!(refused(&cut), "its checksum does not fit");
    assert_eq!(refused(&"x".repeat(70_000)), "it is too long");
    assert!(Bundle::parse(&text.replace('\n', "\r\n  ")).is_ok(), "mail programs do this");
}

#[test]
fn share_of_another_bundle_is_refused() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let mut mixed = cluster.founded.bundle.clone();
    mixed.shares[1] = other.founded.bundle.shares[1].clone();
    let mut identities = some(&cluster, &[0]);
    identities.extend(some(&other, &[1]));
    let refused = mixed.verify(&identities).unwrap_err();
    assert_eq!(refused, RecoveryError::WrongShare(caller("ben")));
}

#[test]
fn same_share_in_two_places_counts_once() {
    let cluster = Cluster::new();
    let mut doubled = cluster.founded.bundle.clone();
    doubled.shares[1] = EncryptedShare { operator: caller("ben"), ..doubled.shares[0].clone() };
    let refused = doubled.verify(&some(&cluster, &[0])).unwrap_err();
    assert_eq!(refused, RecoveryError::WrongShare(caller("ben")));
}

#[test]
fn shares_of_another_key_are_told_by_the_check_value() {
    let cluster = Cluster::new();
    let mut bundle = cluster.founded.bundle.clone();
    bundle.kcv[0] ^= 1;
    let refused = bundle.verify(&some(&cluster, &[0, 1])).unwrap_err();
    assert_eq!(refused, RecoveryError::WrongKey);
}

#[test]
fn bundle_that_asks_for_no_share_does_not_open() {
    let cluster = Cluster::new();
    let mut bundle = cluster.founded.bundle.clone();
    bundle.threshold = 0;
    let refused = bundle.verify(&some(&cluster, &[0, 1])).unwrap_err();
    assert_eq!(refused, RecoveryError::TooFew { opened: 0, threshold: 0 });
}

#[test]
fn single_operator_of_a_development_cluster_opens_alone() {
    let cluster = Cluster::new();
    let operators = super::operators();
    let quorum = Quorum::new(2, 2).unwrap();
    let seals = [NewSeal::Shamir(quorum)];
    let founding = Founding {
        cluster: CLUSTER,
        seals: &seals,
        operators: &operators.0[..1],
        recovery: Quorum::SINGLE,
        dev: true,
    };
    let founded = found(&founding, arena()).unwrap();
    founded.bundle.verify(&operators.1).unwrap();
    assert!(founded.bundle.verify(&cluster.identities).is_err());
}

#[test]
fn identity_files_are_read_as_age_writes_them() {
    let identity = Identity::generate();
    let text = identity.danger_to_text();
    assert!(text.starts_with("# public key: age1"));
    assert_eq!(Identity::parse(&text).unwrap().recipient(), identity.recipient());
    let with_more = format!("# created: 2026\r\n\r\n{}", text.replace('\n', "\r\n"));
    assert_eq!(Identity::parse(&with_more).unwrap().recipient(), identity.recipient());
    for none in ["", "# AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1QQQ", &identity.recipient()] {
        assert!(Identity::parse(none).is_none(), "{none}");
    }
    assert!(!format!("{identity:?}").contains("SECRET"));
}
