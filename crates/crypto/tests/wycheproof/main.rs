//! Project Wycheproof's vectors, through the software backend.
//!
//! Verification and decryption run through [`KeyBackend`] as a caller's would. HMAC runs at the function
//! that the backend calls, since the vectors' keys have lengths that no key spec has, and where a key
//! fits also through the backend. AES-256-GCM runs at the ring primitive that the envelope calls, with
//! the envelope's parameters: its keys are derived per message and cannot be chosen.
//!
//! Every test case is either run or skipped for a stated reason. Both are counted per algorithm, printed,
//! and compared with `wycheproof.expected.toml`: a set that shrinks, a new set that nobody looked at and
//! a new reason to skip are red.
//!
//! [`KeyBackend`]: twinkeep_crypto::KeyBackend

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, in helper functions too"
)]

mod oaep;
mod signatures;
mod symmetric;
mod tally;

use std::time::Duration;

use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};
use twinkeep_core::key::{KeySpec, KeyUsage};
use twinkeep_crypto::{Call, KeyBackend, KeyHandle, KeyTemplate, Material, SoftwareBackend};

fn template(spec: KeySpec, usage: KeyUsage) -> KeyTemplate {
    KeyTemplate {
        key_id: KeyId::from_bytes([1; 16]),
        version: KeyVersionNumber::FIRST,
        version_id: KeyVersionId::from_random([2; 16]),
        spec,
        usage,
    }
}

fn call() -> Call {
    Call::within(Duration::from_secs(60))
}

async fn open(
    backend: &SoftwareBackend,
    spec: KeySpec,
    usage: KeyUsage,
    material: Material,
) -> KeyHandle {
    backend.open(call(), &template(spec, usage), material).await.expect("a sound key of the set")
}

const fn rsa_spec(bits: usize) -> Option<KeySpec> {
    match bits {
        2048 => Some(KeySpec::Rsa2048),
        3072 => Some(KeySpec::Rsa3072),
        4096 => Some(KeySpec::Rsa4096),
        _ => None,
    }
}
