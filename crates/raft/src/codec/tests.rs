use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::membership::{decode_membership, encode_membership};
use super::*;
use crate::types::{Contact, Entry, LeaderId, LogId, Membership, Payload, SignedBytes, Vote};
use crate::types::{SnapshotMeta, StoredMembership};

fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id }, index)
}

fn members() -> Membership {
    let sets = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
    let nodes =
        BTreeMap::from([1, 2, 3, 9].map(|n| (n, Contact::new(format!("127.0.1.{n}:7401")))));
    Membership::new(sets, nodes).unwrap()
}

fn entries() -> [Entry; 3] {
    [
        Entry { log_id: log_id(1, 2, 3), payload: Payload::Blank },
        Entry {
            log_id: log_id((1 << 62) - 1, 2, 3),
            payload: Payload::Normal(SignedBytes(Bytes::from_static(b"signed"))),
        },
        Entry { log_id: log_id(4, 5, 6), payload: Payload::Membership(members()) },
    ]
}

#[test]
fn entries_come_back_as_they_were() {
    for entry in entries() {
        let bytes = encode_entry(&entry);
        assert_eq!(decode_entry(bytes.into()).unwrap(), entry);
    }
}

/// Golden bytes: a log that an older binary wrote must stay readable.
#[test]
fn entry_bytes_stay_what_they_are() {
    let [blank, batch, _] = entries();
    let head = "0000000000000001".to_owned() + "0000000000000002" + "0000000000000003";
    assert_eq!(hex(&encode_entry(&blank)), format!("0100{head}"));
    let head = "3fffffffffffffff".to_owned() + "0000000000000002" + "0000000000000003";
    assert_eq!(hex(&encode_entry(&batch)), format!("0101{head}7369676e6564"));
    assert_eq!(
        hex(&encode_membership(&members())),
        "82828201028202".to_owned()
            + "03a4"
            + "016e3132372e302e312e313a37343031"
            + "026e3132372e302e312e323a37343031"
            + "036e3132372e302e312e333a37343031"
            + "096e3132372e302e312e393a37343031"
    );
}

#[test]
fn vote_bytes_stay_what_they_are() {
    let vote = Vote { leader_id: LeaderId { term: 7, node_id: 3 }, committed: true };
    assert_eq!(hex(&encode_vote(&vote)), "010000000000000007000000000000000301");
    assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
}

#[test]
fn applied_state_comes_back_as_it_was() {
    let membership = StoredMembership::new(Some(log_id(1, 1, 0)), members());
    for applied in [Applied::default(), Applied { last_log_id: Some(log_id(3, 1, 9)), membership }]
    {
        assert_eq!(Applied::decode(&applied.encode()).unwrap(), applied);
        let SnapshotMeta { last_log_id, last_membership } = applied.snapshot_meta();
        assert_eq!((last_log_id, last_membership), (applied.last_log_id, applied.membership));
    }
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    for entry in [&entries()[0], &entries()[2]] {
        let bytes = encode_entry(entry);
        for len in 0..bytes.len() {
            decode_entry(Bytes::copy_from_slice(&bytes[..len])).unwrap_err();
        }
        decode_entry([&bytes[..], &[0]].concat().into()).unwrap_err();
    }
    let vote = encode_vote(&Vote::new(1, 1));
    for len in 0..vote.len() {
        decode_vote(&vote[..len]).unwrap_err();
    }
    decode_vote(&[&vote[..], &[0]].concat()).unwrap_err();
    let applied = Applied { last_log_id: Some(log_id(1, 1, 1)), ..Applied::default() }.encode();
    for len in 0..applied.len() {
        Applied::decode(&applied[..len]).unwrap_err();
    }
}

#[test]
fn unknown_formats_kinds_and_flags_are_refused() {
    let bytes = encode_entry(&entries()[0]);
    for (place, value) in [(0, 0), (0, 2), (1, 3), (1, 255)] {
        let mut bytes = bytes.clone();
        bytes[place] = value;
        decode_entry(bytes.into()).unwrap_err();
    }
    let mut vote = encode_vote(&Vote::new(1, 1));
    vote[17] = 2;
    decode_vote(&vote).unwrap_err();
}

#[test]
fn numbers_that_would_overflow_are_refused() {
    for huge in [1 << 62, u64::MAX] {
        for id in [log_id(huge, 1, 1), log_id(1, huge, 1), log_id(1, 1, huge)] {
            decode_log_id(&encode_log_id(&id)).unwrap_err();
            checked_log_id(id.leader_id.term, id.leader_id.node_id, id.index).unwrap_err();
        }
        decode_vote(&encode_vote(&Vote::new(huge, 1))).unwrap_err();
        checked_vote(1, huge, true).unwrap_err();
    }
}

#[test]
fn memberships_beyond_the_limits_are_refused() {
    // A voter set that names no node, a voter without an address, three sets, an endless array.
    for bytes in [
        "828180a0",
        "828181 01a0",
        "8283810181018101a1016161",
        "829fffa0",
        "82819b0000000100000000",
    ] {
        let bytes = unhex(&bytes.replace(' ', ""));
        decode_membership(&bytes).unwrap_err();
    }
    let long = Contact::new("a".repeat(Contact::ADDRESS_LEN_MAX + 1));
    let members = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, long)])).unwrap();
    decode_membership(&encode_membership(&members)).unwrap_err();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}
