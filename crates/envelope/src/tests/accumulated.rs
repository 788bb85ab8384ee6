//! Ten thousand messages drawn from one SHAKE-128 stream, as one hash; on ring and on AWS-LC.

use ring::digest;
use shake::Shake128;
use shake::digest::{ExtendableOutput as _, XofReader};
use twinkeep_core::id::KeyId;

use super::aws_lc;
use super::vectors::Ciphertexts;
use crate::ciphertext::{self, Header};
use crate::frame::Draw;
use crate::{Context, OpenKey};

struct Stream(shake::Shake128Reader);

impl Stream {
    fn new() -> Self {
        Self(Shake128::default().finalize_xof())
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.read(&mut out);
        out
    }

    fn prefixed(&mut self) -> Vec<u8> {
        let [len] = self.array();
        let mut out = vec![0; usize::from(len)];
        self.0.read(&mut out);
        out
    }
}

/// Everything random about one message of the stream.
struct Case {
    key: [u8; 32],
    key_id: [u8; 16],
    version: u32,
    draw: Draw,
    plaintext: Vec<u8>,
    raw: Vec<u8>,
}

fn cases() -> impl Iterator<Item = Case> {
    let mut stream = Stream::new();
    std::iter::repeat_with(move || Case {
        key: stream.array(),
        key_id: stream.array(),
        version: u32::from_be_bytes(stream.array()),
        draw: Draw { salt: stream.array(), iv: stream.array() },
        plaintext: stream.prefixed(),
        raw: stream.prefixed(),
    })
}

fn ours(case: Case) -> Vec<u8> {
    let key = OpenKey::from_slice(&case.key).unwrap();
    let header = Header::with_raw_version(KeyId::from_bytes(case.key_id), case.version);
    let context = Context::raw_unchecked(&case.raw);
    let blob = ciphertext::seal_with(&key, &header, &context, &case.plaintext, case.draw).unwrap();
    assert_eq!(*ciphertext::open(&key, &context, &blob).unwrap(), case.plaintext);
    blob
}

fn aws_lc(case: Case) -> Vec<u8> {
    let version = case.version.to_be_bytes();
    let prefix = [&[0xcb, 1, 1, 0], case.key_id.as_slice(), &version].concat();
    let raw_len = u32::try_from(case.raw.len()).unwrap().to_be_bytes();
    let encoded = [&[2], raw_len.as_slice(), &case.raw].concat();
    let hash = digest::digest(&digest::SHA256, &encoded);
    let drawn = (&case.draw.salt, &case.draw.iv);
    aws_lc::seal(&case.key, b"kms-ciphertext-v1", &prefix, hash.as_ref(), drawn, &case.plaintext)
}

fn check(seal: impl Fn(Case) -> Vec<u8>) {
    for sum in Ciphertexts::load().accumulated.sums {
        let mut digest = digest::Context::new(&digest::SHA256);
        for case in cases().take(sum.iterations.try_into().unwrap()) {
            digest.update(&seal(case));
        }
        let found = hex::encode(digest.finish());
        assert_eq!(found, hex::encode(&sum.sha256.0), "{} iterations", sum.iterations);
    }
}

#[test]
fn accumulated_hashes_are_the_published_ones() {
    check(ours);
}

#[test]
fn aws_lc_accumulates_the_same_hashes() {
    check(aws_lc);
}
