//! The tests that every backend has to pass, written once against [`KeyBackend`].
//!
//! A backend's crate makes one [`Subject`] and names its maker:
//!
//! ```text
//! async fn subject() -> &'static Subject { … }
//! twinkeep_crypto::conformance_tests!(subject);
//! ```
//!
//! Each case claims one line of the contract in [`crate::backend`]. What a backend does not offer is left
//! out; what it offers is tried for every spec, usage and algorithm of its [`Capabilities`].
//!
//! [`Capabilities`]: crate::Capabilities

mod contract;
mod encryption;
mod macs;
mod material;
mod signatures;

use std::time::Duration;

use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};
use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};

pub use self::contract::*;
pub use self::encryption::*;
pub use self::macs::*;
pub use self::material::*;
pub use self::signatures::*;
use crate::backend::{Call, KeyBackend, KeyHandle, KeyTemplate, PublicKey};
use crate::random;

/// A backend under test, with two keys of every kind that it offers.
pub struct Subject {
    backend: Box<dyn KeyBackend>,
    keys: Vec<TestKey>,
}

/// A key made for the test.
pub struct TestKey {
    handle: KeyHandle,
    public: Option<PublicKey>,
}

impl TestKey {
    fn template(&self) -> &KeyTemplate {
        self.handle.template()
    }

    fn algorithms(&self) -> &'static [Algorithm] {
        self.template().spec.algorithms(self.template().usage)
    }
}

impl Subject {
    /// Makes the keys, which takes seconds where there is RSA.
    pub async fn new(backend: impl KeyBackend + 'static) -> Self {
        let mut subject = Self { backend: Box::new(backend), keys: Vec::new() };
        for kind in subject.backend.capabilities().keys.clone() {
            for _ in 0..2 {
                let key = subject.make(&template(kind.spec, kind.usage)).await;
                subject.keys.push(key);
            }
        }
        assert!(
            !subject.keys.is_empty(),
            "a backend that offers no key at all has nothing to test"
        );
        subject
    }

    async fn make(&self, template: &KeyTemplate) -> TestKey {
        let generated = self.backend.generate(soon(), template).await.expect("a key it offers");
        let handle = self.backend.open(soon(), template, generated.material).await;
        TestKey { handle: handle.expect("its own material"), public: generated.public_key }
    }

    /// Two different keys of each kind for which there is a usage like this.
    fn pairs(&self, usage: KeyUsage) -> impl Iterator<Item = (&TestKey, &TestKey)> {
        let pairs = self.keys.chunks_exact(2).map(|pair| (&pair[0], &pair[1]));
        pairs.filter(move |(key, _)| key.template().usage == usage)
    }
}

/// A template of a key that nobody has.
fn template(spec: KeySpec, usage: KeyUsage) -> KeyTemplate {
    let mut id = [0; 32];
    random::fill(&mut id).expect("the operating system gives random bytes");
    let (key, version) = id.split_at(16);
    KeyTemplate {
        key_id: KeyId::from_bytes(key.try_into().expect("half of 32 bytes")),
        version: KeyVersionNumber::FIRST,
        version_id: KeyVersionId::from_random(version.try_into().expect("half of 32 bytes")),
        spec,
        usage,
    }
}

/// Long enough for the slowest generation on a busy machine.
fn soon() -> Call {
    Call::within(Duration::from_secs(120))
}

/// Makes a test of each case for a function `async fn() -> &'static Subject`.
#[macro_export]
macro_rules! conformance_tests {
    ($subject:path) => {
        $crate::conformance_tests! { $subject:
            probe_does_an_operation
            spent_deadline_is_refused_before_any_work
            algorithm_of_another_key_is_unsupported
            usage_that_a_spec_does_not_have_is_unsupported
            handle_of_another_backend_is_refused
            one_handle_serves_many_calls_at_once
            destroying_twice_is_no_error
            ciphertext_opens_to_its_plaintext
            equal_plaintexts_have_different_ciphertexts
            ciphertext_that_does_not_fit_gives_one_error
            plaintext_at_the_limit_passes_and_one_byte_more_names_the_way_out
            asymmetric_keys_take_no_context
            data_key_opens_to_itself
            signature_holds_raw_and_as_digest
            signature_that_does_not_fit_is_invalid_and_no_error
            message_at_the_limit_passes_and_one_byte_more_names_the_way_out
            digest_of_wrong_length_is_refused_by_name
            ed25519_takes_no_digest
            mac_holds_and_has_full_length
            mac_that_does_not_fit_is_invalid_and_no_error
            material_serves_again_after_it_was_stored
            public_key_is_the_same_every_time_asked
            symmetric_key_has_no_public_key
            material_of_wrong_kind_is_refused
        }
    };
    ($subject:path: $($case:ident)+) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::conformance::$case($subject().await).await;
            }
        )+
    };
}
