//! A handle that is gone leaves no key behind: the memory of this process is searched for it.
//!
//! Key objects of aws-lc live in handles, so that this has to hold for them as for our own types. The
//! stacks of the threads that did the work are searched as well; what a library leaves there for a
//! while stays a stated limit all the same. Linux only, by `/proc/self/mem`; alone in its process.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, in helper functions too"
)]

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::time::Duration;

use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};
use twinkeep_core::key::{KeySpec, KeyUsage};
use twinkeep_crypto::{
    Call, KeyBackend as _, KeyHandle, KeyTemplate, Material, Message, SoftwareBackend,
};
use twinkeep_envelope::Context;

/// What the pattern is kept under, so that the search does not find the pattern itself.
const MASK: u8 = 0xa5;

/// Bytes of the secret to search for: too many to be there by chance.
const PATTERN_LEN: usize = 20;

/// Where in the material a stretch of the secret number lies, whatever its exact offset.
fn secret_part(spec: KeySpec) -> Range<usize> {
    let at = match spec {
        KeySpec::Aes256 | KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512 => 6,
        // The scalar of a curve, behind 36 bytes of PKCS#8 (one or two less for longer ones).
        KeySpec::EcP256 | KeySpec::EcP384 | KeySpec::EcP521 | KeySpec::EcP256k1 => 40,
        KeySpec::Ed25519 => 20,
        // The first prime: behind modulus, exponent and private exponent, each of known length.
        KeySpec::Rsa2048 => 600,
        KeySpec::Rsa3072 => 880,
        KeySpec::Rsa4096 => 1150,
    };
    at..at + PATTERN_LEN
}

/// The secret as it stands in its encoding, and backwards, as numbers stand in memory.
struct Pattern([Vec<u8>; 2]);

impl Pattern {
    fn of(secret: &[u8]) -> Self {
        let masked: Vec<u8> = secret.iter().map(|byte| byte ^ MASK).collect();
        let backwards = masked.iter().rev().copied().collect();
        Self([masked, backwards])
    }

    fn count(&self, haystack: &[u8]) -> usize {
        let is_here = |window: &[u8], masked: &[u8]| {
            window.iter().zip(masked).all(|(byte, masked)| byte ^ MASK == *masked)
        };
        haystack
            .windows(PATTERN_LEN)
            .map(|window| self.0.iter().filter(|masked| is_here(window, masked)).count())
            .sum()
    }
}

/// Writable memory of the process. The main thread's stack, where no test runs, is left out.
fn heaps() -> Vec<Range<usize>> {
    let mut heaps = Vec::new();
    for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (from, to) = range.split_once('-').unwrap();
        let range =
            usize::from_str_radix(from, 16).unwrap()..usize::from_str_radix(to, 16).unwrap();
        if rights.starts_with("rw") && fields.nth(3) != Some("[stack]") {
            heaps.push(range);
        }
    }
    heaps
}

/// Counts the pattern in the process's memory, the buffer of the search apart.
fn occurrences(pattern: &Pattern) -> usize {
    const STEP: usize = 1 << 16;
    let mut memory = File::open("/proc/self/mem").unwrap();
    let mut buffer = vec![0; STEP + PATTERN_LEN];
    let own = buffer.as_ptr().addr()..buffer.as_ptr().addr() + buffer.len();
    let mut found = 0;
    for heap in heaps() {
        for at in heap.clone().step_by(STEP) {
            let end = heap.end.min(at + STEP + PATTERN_LEN - 1);
            memory.seek(SeekFrom::Start(at as u64)).unwrap();
            let chunk = &mut buffer[..end - at];
            // Guard pages and device memory cannot be read.
            if memory.read_exact(chunk).is_err() {
                continue;
            }
            // What of the chunk is the search's own buffer may hold what was read before.
            let overlap = own.start.max(at)..own.end.min(end);
            if !overlap.is_empty() {
                chunk[overlap.start - at..overlap.end - at].fill(0);
            }
            found += pattern.count(chunk);
        }
    }
    found
}

fn call() -> Call {
    Call::within(Duration::from_secs(120))
}

async fn use_once(backend: &SoftwareBackend, key: &KeyHandle) {
    let algorithm = key.template().spec.algorithms(key.template().usage)[0];
    match key.template().usage {
        KeyUsage::EncryptDecrypt => {
            let blob = backend.encrypt(call(), key, algorithm, b"m", &Context::NONE).await.unwrap();
            backend.decrypt(call(), key, algorithm, &blob, &Context::NONE).await.unwrap();
        }
        KeyUsage::SignVerify => {
            backend.sign(call(), key, algorithm, Message::Raw(b"m")).await.unwrap();
        }
        KeyUsage::GenerateVerifyMac => {
            backend.mac(call(), key, algorithm, b"m").await.unwrap();
        }
    }
}

#[tokio::test]
async fn dropped_handles_leave_no_key_in_memory() {
    let backend = SoftwareBackend::new().unwrap();
    for spec in KeySpec::ALL.iter().copied() {
        for usage in spec.usages().iter().copied() {
            let template = KeyTemplate {
                key_id: KeyId::from_bytes([1; 16]),
                version: KeyVersionNumber::FIRST,
                version_id: KeyVersionId::from_random([2; 16]),
                spec,
                usage,
            };
            let generated = backend.generate(call(), &template).await.unwrap();
            let Material::Sealable(secret) = &generated.material else { panic!("software seals") };
            let pattern = Pattern::of(&secret.danger_expose()[secret_part(spec)]);
            let key = backend.open(call(), &template, generated.material).await.unwrap();
            use_once(&backend, &key).await;
            let alive = occurrences(&pattern);
            assert!(alive > 0, "{spec} for {usage}: the search does not even find an open key");
            drop(key);
            let left = occurrences(&pattern);
            println!("{spec} for {usage}: {alive} times while open, {left} times after");
            assert_eq!(left, 0, "{spec} for {usage}");
        }
    }
}
