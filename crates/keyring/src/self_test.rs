//! Known answers, computed before any key is taken in: a machine that gets one of them wrong would seal
//! what nobody can open, or sign what nobody believes.

use twinkeep_core::command::{Purpose, SignatureVerifier as _, Signer};
use twinkeep_core::id::{
    ClusterId, Epoch, Incarnation, InstanceId, KeyId, KeyVersionNumber, NodeId, Revision,
};
use twinkeep_core::record::{KeyVersionRecord, RecordKind, SealId, SealedBlob};
use twinkeep_envelope::record::{RecordBinding, Wrap, WrapLevel, open, seal};
use twinkeep_envelope::{Context, OpenKey, ciphertext};

use crate::kem::{PrivateHalf, encapsulate};
use crate::seal::check_value;
use crate::shamir::{Point, combine};
use crate::signing::{self, CommandVerifier};

/// A primitive gives wrong answers on this machine; no key may be used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("self-test failed: {0}")]
pub struct SelfTestFailed(pub &'static str);

/// Checks key derivation, both envelopes, secret sharing, signatures and the hybrid encapsulation.
/// Takes a few milliseconds.
pub fn self_test() -> Result<(), SelfTestFailed> {
    let checks: [Check; 6] = [
        ("key derivation", derives),
        ("ciphertext envelope", opens_ciphertext),
        ("record envelope", seals_and_opens_record),
        ("secret sharing", shares),
        ("command signature", signs),
        ("key encapsulation", encapsulates),
    ];
    match checks.into_iter().find(|(_, holds)| !holds()) {
        Some((what, _)) => Err(SelfTestFailed(what)),
        None => Ok(()),
    }
}

/// What is checked, and whether it holds.
type Check = (&'static str, fn() -> bool);

/// 00, 01, … 1f.
fn key() -> OpenKey {
    counting_from(0)
}

fn counting_from(first: u8) -> OpenKey {
    OpenKey::build(|bytes| bytes.iter_mut().zip(first..).for_each(|(byte, value)| *byte = value))
}

const CLUSTER: ClusterId = ClusterId::from_bytes([
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
]);
const INSTANCE: InstanceId = InstanceId::from_bytes([
    0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f,
]);
const WRAPPING_KEY: [u8; 16] = [
    0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f,
];
const KEY_ID: KeyId = KeyId::from_bytes([
    0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
]);

fn derives() -> bool {
    let set = SealId([0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7]);
    check_value(&key(), set) == [0x28, 0x97, 0x75, 0xf9, 0x69, 0xc9, 0xc3, 0x82]
}

/// Vector V2: no context, "key management".
const CIPHERTEXT: &[u8; 114] = b"\xcb\x01\x01\x00\
    \xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf\x00\x00\x00\x01\
    \xb0\xb1\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xbb\xbc\xbd\xbe\xbf\
    \x40\x04\xd8\x99\xda\xfc\xb4\x6f\xee\xd6\xd2\x86\x9f\x1f\xf6\xcf\
    \x46\x60\xf1\xae\xdd\x0d\x63\x37\x35\x19\x46\x3a\xa9\x23\xf9\x64\
    \xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xcb\
    \x10\xa4\x25\x0b\xe2\xfe\xfb\xdf\xe2\xdd\x9e\x0e\xec\xf2\
    \x65\xcc\xfc\x5c\x78\x51\xe7\x9f\xe4\x34\x64\x29\x07\xba\x82\x17";

fn opens_ciphertext() -> bool {
    let opened = ciphertext::open(&key(), &Context::NONE, CIPHERTEXT);
    let mut flipped = *CIPHERTEXT;
    flipped[113] ^= 1;
    opened.is_ok_and(|plaintext| *plaintext == b"key management")
        && ciphertext::open(&key(), &Context::NONE, &flipped).is_err()
        && ciphertext::open(&key(), &Context::EMPTY_MAP, CIPHERTEXT).is_err()
}

/// Vector R1: 40, 41, … 5f.
const RECORD: &[u8; 132] = b"\xce\x01\x01\x03\
    \x30\x31\x32\x33\x34\x35\x36\x37\x38\x39\x3a\x3b\x3c\x3d\x3e\x3f\x00\x00\x00\x01\
    \xb0\xb1\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xbb\xbc\xbd\xbe\xbf\
    \x2e\xc4\xe0\xae\x41\x92\xb9\x0f\x52\x97\xfa\x50\x96\x0c\x9f\x84\
    \x41\x7d\x71\x0f\x2f\xb6\x34\xc3\x75\xe9\x7a\x52\xb3\x64\xf8\x56\
    \xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xcb\
    \xd8\x77\x11\x6c\x1a\x00\x08\x8e\xfe\x04\xec\xca\x9e\x3a\x55\xf1\
    \x47\xd7\xde\xe5\xba\x72\xf0\x91\x12\x8e\xc2\x04\x00\x2a\xab\x4c\
    \x01\x33\x03\xb7\xcc\x72\x82\x06\x60\x28\x47\x06\x2e\xab\x63\x24";

fn seals_and_opens_record() -> bool {
    let wrap = Wrap { level: WrapLevel::Instance, key: WRAPPING_KEY, version: 1 };
    let Ok(revision) = Revision::new(7) else { return false };
    let record_key = KeyVersionRecord::material_key(&KEY_ID, KeyVersionNumber::FIRST);
    let binding = RecordBinding {
        cluster: CLUSTER,
        kind: RecordKind::KeyMaterial,
        instance: INSTANCE,
        record_key: &record_key,
        revision,
        schema: 1,
    };
    let expected = counting_from(0x40);
    let opens = |blob: &SealedBlob| {
        let opened = open(&key(), &wrap, &binding, blob);
        opened.is_ok_and(|plaintext| plaintext.danger_expose() == expected.danger_expose())
    };
    let elsewhere = RecordBinding { revision: Revision::FIRST, ..binding };
    let known = SealedBlob::from_envelope(RECORD.to_vec());
    let sealed = seal(&key(), &wrap, &binding, expected.danger_expose());
    opens(&known)
        && sealed.is_ok_and(|sealed| opens(&sealed) && sealed != known)
        && open(&key(), &wrap, &elsewhere, &known).is_err()
}

/// The published shares x = 1, 2 and 5; three open, two do not.
fn shares() -> bool {
    const SHARES: [(u8, &[u8; 32]); 3] = [
        (
            1,
            b"\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xcb\xcc\xcd\xce\xcf\
              \xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xdb\xdc\xdd\xde\xdf",
        ),
        (
            2,
            b"\xb6\xb1\xb8\xbf\xaa\xad\xa4\xa3\x8e\x89\x80\x87\x92\x95\x9c\x9b\
              \xc6\xc1\xc8\xcf\xda\xdd\xd4\xd3\xfe\xf9\xf0\xf7\xe2\xe5\xec\xeb",
        ),
        (
            5,
            b"\x03\x16\x29\x3c\x57\x42\x7d\x68\xab\xbe\x81\x94\xff\xea\xd5\xc0\
              \x48\x5d\x62\x77\x1c\x09\x36\x23\xe0\xf5\xca\xdf\xb4\xa1\x9e\x8b",
        ),
    ];
    let points = SHARES.map(|(x, y)| Point { x, y: OpenKey::build(|to| to.copy_from_slice(y)) });
    combine(&points).same_as(&key()) && !combine(&points[..2]).same_as(&key())
}

fn signs() -> bool {
    const SIGNATURE: &[u8; 64] =
        b"\xf2\x72\xb8\x34\xfb\x90\xf0\x7b\x90\x81\xed\x6e\xac\x3f\x97\x0f\
          \x8b\x29\x93\x72\x96\x60\x63\xd2\x71\xd4\x04\x0f\xf3\x99\x54\x5b\
          \x8f\x2f\xdc\x6c\x0f\xfd\x4f\x96\x7c\xa2\xd0\xd1\xf2\x1b\x7a\xd6\
          \x2f\x84\xa9\x6a\x38\x26\x95\x82\x4e\x41\xd0\x37\x8e\x4d\x1b\x0e";
    let Ok(node) = NodeId::new(2) else { return false };
    let (cluster, incarnation, epoch) = (CLUSTER, Incarnation::FIRST, Epoch::FIRST);
    let signer = Signer { cluster, incarnation, epoch, node };
    let message = signer.message(Purpose::Command, b"batch");
    let other = signer.message(Purpose::Snapshot, b"batch");
    let public = signing::public_key(&key(), cluster, epoch);
    CommandVerifier.verify(&public, &message, SIGNATURE)
        && !CommandVerifier.verify(&public, &other, SIGNATURE)
        && signing::sign(&key(), &signer, Purpose::Command, b"batch") == *SIGNATURE
}

fn encapsulates() -> bool {
    let agreed = || {
        let private = PrivateHalf::generate().ok()?;
        let (key, ciphertext) = encapsulate(private.public()).ok()?;
        Some(private.decapsulate(&ciphertext).ok()?.same_as(&key))
    };
    agreed() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_are_given() {
        assert_eq!(self_test(), Ok(()));
    }
}
