//! Blobs that must not open, each with the cause that is expected inside the crate.

use proptest::prelude::*;
use twinkeep_core::id::{ClusterId, InstanceId, Revision};
use twinkeep_core::record::{RecordKind, SealedBlob};

use super::vectors::{Ciphertexts, Record};
use crate::ciphertext::{self, Header, InvalidCiphertext, open_or_cause};
use crate::frame::{Cause, Malformed};
use crate::record::{self, RecordBinding, Wrap, WrapLevel};
use crate::{Context, OVERHEAD_BYTES, OpenKey, PLAINTEXT_BYTES_MAX, SealError};

/// Key and blob of V2: no context, "key management".
fn v2() -> (OpenKey, Vec<u8>) {
    let mut vectors = Ciphertexts::load();
    (vectors.key.key(), vectors.messages.remove(1).blob.0)
}

fn cause(key: &OpenKey, context: &Context<'_>, blob: &[u8]) -> Cause {
    assert_eq!(ciphertext::open(key, context, blob).unwrap_err(), InvalidCiphertext);
    open_or_cause(key, context, blob).unwrap_err()
}

#[test]
fn each_of_the_912_bit_flips_is_refused() {
    let (key, blob) = v2();
    let [mut format, mut commitment, mut tag] = [0; 3];
    for bit in 0..blob.len() * 8 {
        let mut flipped = blob.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match cause(&key, &Context::NONE, &flipped) {
            Cause::Format => format += 1,
            Cause::Commitment => commitment += 1,
            Cause::Tag => tag += 1,
        }
    }
    let expected = Ciphertexts::load().bit_flips;
    assert_eq!((format, commitment, tag), (expected.format, expected.commitment, expected.tag));
    assert_eq!(format + commitment + tag, 912);
}

#[test]
fn empty_map_is_not_no_context() {
    let (key, blob) = v2();
    assert_eq!(cause(&key, &Context::EMPTY_MAP, &blob), Cause::Commitment);
}

#[test]
fn another_key_fails_by_commitment() {
    let (_, blob) = v2();
    let zero = OpenKey::build(|_| ());
    assert_eq!(cause(&zero, &Context::NONE, &blob), Cause::Commitment);
}

#[test]
fn wrong_lengths_are_refused() {
    let (key, blob) = v2();
    for len in [0, 1, OVERHEAD_BYTES - 1] {
        assert_eq!(cause(&key, &Context::NONE, &blob[..len]), Cause::Format, "{len} bytes");
    }
    for len in [OVERHEAD_BYTES, blob.len() - 1] {
        assert_eq!(cause(&key, &Context::NONE, &blob[..len]), Cause::Tag, "{len} bytes");
    }
    let longer = [blob.as_slice(), &[0]].concat();
    assert_eq!(cause(&key, &Context::NONE, &longer), Cause::Tag);
}

#[test]
fn what_is_not_a_ciphertext_is_told_apart_before_any_key() {
    let (_, blob) = v2();
    let with = |at: usize, byte| {
        let mut changed = blob.clone();
        changed[at] = byte;
        Header::parse(&changed)
    };
    assert_eq!(Header::parse(b"ywEBAKCh"), Err(Malformed::Magic));
    assert_eq!(Header::parse(b"{\"CiphertextBlob\":"), Err(Malformed::Magic));
    assert_eq!(Header::parse(&[]), Err(Malformed::TooShort));
    assert_eq!(Header::parse(&blob[..99]), Err(Malformed::TooShort));
    assert_eq!(with(1, 2), Err(Malformed::Version(2)));
    assert_eq!(with(2, 0x10), Err(Malformed::Suite(0x10)));
    assert_eq!(with(3, 1), Err(Malformed::Fourth));
}

#[test]
fn key_version_zero_is_refused_outside_the_format() {
    let (_, mut blob) = v2();
    blob[23] = 0;
    let header = Header::parse(&blob).unwrap();
    assert!(header.version().is_err());
}

#[test]
fn record_opens_in_its_own_place_alone() {
    let vector = Record::load();
    let key = vector.key.key();
    let own = vector.binding();
    let elsewhere = [
        RecordBinding { cluster: ClusterId::from_bytes([0; 16]), ..own },
        RecordBinding { kind: RecordKind::SecretVersion, ..own },
        RecordBinding { instance: InstanceId::CLUSTER, ..own },
        RecordBinding { record_key: &own.record_key[..19], ..own },
        RecordBinding { revision: Revision::new(8).unwrap(), ..own },
        RecordBinding { schema: 2, ..own },
    ];
    for binding in elsewhere {
        let opened = record::open_or_cause(&key, &vector.wrap(), &binding, &vector.sealed());
        assert_eq!(opened.unwrap_err(), Cause::Commitment, "{binding:?}");
    }
}

#[test]
fn record_wrapped_by_another_key_than_asked_for_is_refused() {
    let vector = Record::load();
    let key = vector.key.key();
    let own = vector.wrap();
    for wrap in [
        Wrap { level: WrapLevel::Epoch, ..own },
        Wrap { key: [0; 16], ..own },
        Wrap { version: 2, ..own },
    ] {
        let opened = record::open(&key, &wrap, &vector.binding(), &vector.sealed());
        assert!(opened.is_err(), "{wrap:?}");
        // Also where the blob claims what is asked for.
        let mut claimed = vector.blob.0.clone();
        claimed[3] = wrap.level as u8;
        claimed[4..20].copy_from_slice(&wrap.key);
        claimed[20..24].copy_from_slice(&wrap.version.to_be_bytes());
        let claimed = SealedBlob::from_envelope(claimed);
        let opened = record::open_or_cause(&key, &wrap, &vector.binding(), &claimed);
        assert_eq!(opened.unwrap_err(), Cause::Commitment, "{wrap:?}");
    }
}

#[test]
fn each_bit_flip_of_a_record_is_refused() {
    let vector = Record::load();
    let key = vector.key.key();
    for bit in 0..vector.blob.0.len() * 8 {
        let mut flipped = vector.blob.0.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let flipped = SealedBlob::from_envelope(flipped);
        assert!(record::open(&key, &vector.wrap(), &vector.binding(), &flipped).is_err());
    }
}

#[test]
fn wrap_level_without_meaning_is_malformed() {
    let mut blob = Record::load().blob.0;
    blob[3] = 4;
    assert_eq!(Wrap::parse(&SealedBlob::from_envelope(blob)), Err(Malformed::Fourth));
}

#[test]
fn neither_format_opens_as_the_other() {
    let vector = Record::load();
    let key = vector.key.key();
    assert_eq!(cause(&key, &Context::NONE, &vector.blob.0), Cause::Format);
    let mut relabelled = vector.blob.0.clone();
    relabelled[0] = 0xcb;
    relabelled[3] = 0;
    assert_eq!(cause(&key, &Context::NONE, &relabelled), Cause::Commitment);
}

#[test]
fn record_of_another_length_is_no_key() {
    let vector = Record::load();
    let key = vector.key.key();
    for (len, opens) in [(31, false), (32, true), (33, false)] {
        let sealed = record::seal(&key, &vector.wrap(), &vector.binding(), &vec![7; len]).unwrap();
        let opened = record::open_key(&key, &vector.wrap(), &vector.binding(), &sealed);
        assert_eq!(opened.is_ok(), opens, "{len} bytes");
    }
}

#[test]
fn what_is_too_long_is_not_sealed() {
    let (key, _) = v2();
    let header = Ciphertexts::load().header();
    let plaintext = vec![0; PLAINTEXT_BYTES_MAX + 1];
    let refused = ciphertext::seal(&key, &header, &Context::NONE, &plaintext).unwrap_err();
    assert!(matches!(refused, SealError::TooLong { max: PLAINTEXT_BYTES_MAX, .. }));

    let vector = Record::load();
    let record_key = vec![0; 65_536];
    let binding = RecordBinding { record_key: &record_key, ..vector.binding() };
    let refused = record::seal(&key, &vector.wrap(), &binding, b"").unwrap_err();
    assert!(matches!(refused, SealError::TooLong { max: 65_535, .. }));
    assert!(record::open(&key, &vector.wrap(), &binding, &vector.sealed()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(blob: Vec<u8>, magic in 0..3usize) {
        let (key, v2) = v2();
        // Some with a good beginning, so that the code past the parser is reached.
        let blob = [&v2[..[0, 4, 84][magic]], &blob].concat();
        prop_assert!(ciphertext::open(&key, &Context::NONE, &blob).is_err());
        let vector = Record::load();
        let blob = SealedBlob::from_envelope(blob);
        prop_assert!(record::open(&key, &vector.wrap(), &vector.binding(), &blob).is_err());
    }

    #[test]
    fn messages_open_to_what_was_sealed(
        plaintext in proptest::collection::vec(any::<u8>(), 0..512),
        pairs in proptest::collection::btree_map(".{0,12}", ".{0,12}", 0..6),
    ) {
        let (key, _) = v2();
        let header = Ciphertexts::load().header();
        let context =
            Context::from_pairs(pairs.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes()))).unwrap();
        let blob = ciphertext::seal(&key, &header, &context, &plaintext).unwrap();
        prop_assert_eq!(blob.len(), plaintext.len() + OVERHEAD_BYTES);
        prop_assert_eq!(&*ciphertext::open(&key, &context, &blob).unwrap(), &plaintext);
    }
}
