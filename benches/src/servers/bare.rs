//! The libraries without any service around them, in a loop on the server's core.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use twinkeep_core::id::{KeyId, KeyVersionNumber};
use twinkeep_envelope::ciphertext::{self, Header};
use twinkeep_envelope::{Context, OpenKey};

use crate::load::sample::count;
use crate::system::cores;

/// The message that is signed.
pub(crate) const MESSAGE: &[u8; 32] = b"thirty-two bytes of some message";

/// A function of a library that is timed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bare {
    /// The envelope around a plaintext of so many bytes.
    Seal(usize),
    /// ECDSA on P-256 with SHA-256.
    SignP256,
    /// Ed25519.
    SignEd25519,
    /// RSA, PKCS#1 v1.5, SHA-256, 2048 bits.
    SignRsa2048,
    /// RSA, PKCS#1 v1.5, SHA-256, 4096 bits.
    SignRsa4096,
}

impl Bare {
    /// Times it for a while, alone on the server's core; returns how often a second it goes.
    pub(crate) fn rate(self, time: Duration) -> anyhow::Result<f64> {
        cores::pin_self(&[cores::SERVER])?;
        let rate = self.timed(time);
        cores::pin_self(&[cores::LOAD])?;
        rate
    }

    fn timed(self, time: Duration) -> anyhow::Result<f64> {
        let random = SystemRandom::new();
        match self {
            Self::Seal(len) => {
                let key = OpenKey::build(|bytes| bytes.fill(0x42));
                let header = Header::new(KeyId::from_bytes([7; 16]), KeyVersionNumber::FIRST);
                let plaintext = vec![0x5a; len];
                repeat(time, || {
                    Ok(ciphertext::seal(&key, &header, &Context::NONE, &plaintext)?.len())
                })
            }
            Self::SignP256 => {
                let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
                repeat(time, || Ok(key.sign(&random, MESSAGE)?.as_ref().len()))
            }
            Self::SignEd25519 => {
                let key = Ed25519KeyPair::generate()?;
                repeat(time, || Ok(key.sign(MESSAGE).as_ref().len()))
            }
            Self::SignRsa2048 => rsa(KeySize::Rsa2048, &random, time),
            Self::SignRsa4096 => rsa(KeySize::Rsa4096, &random, time),
        }
    }
}

fn rsa(size: KeySize, random: &SystemRandom, time: Duration) -> anyhow::Result<f64> {
    let key = RsaKeyPair::generate(size)?;
    let mut signature = vec![0; key.public_key().modulus_len()];
    repeat(time, || {
        key.sign(&RSA_PKCS1_SHA256, random, MESSAGE, &mut signature)?;
        Ok(signature.len())
    })
}

/// Repeats some work for a while, the first tenth of it uncounted; returns how often a second it was done.
pub(super) fn repeat(
    time: Duration,
    mut work: impl FnMut() -> anyhow::Result<usize>,
) -> anyhow::Result<f64> {
    let warm = Instant::now() + time / 10;
    while Instant::now() < warm {
        black_box(work()?);
    }
    let started = Instant::now();
    let mut done: u64 = 0;
    while started.elapsed() < time {
        black_box(work()?);
        done += 1;
    }
    Ok(count(done) / started.elapsed().as_secs_f64())
}
