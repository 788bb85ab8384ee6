//! The `KeyBackend` trait and the software backend.
//!
//! [`backend`] says what any holder of keys has to do, [`software`] does it in this process, on ring
//! (randomness, AES-256-GCM, HMAC, key derivation) and aws-lc (RSA, ECDSA, Ed25519). What a caller gets:
//!
//! ```
//! # use std::time::Duration;
//! # use twinkeep_crypto::{Call, KeyBackend, KeyTemplate, SoftwareBackend};
//! # use twinkeep_core::{id::*, key::*};
//! # use twinkeep_envelope::Context;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), twinkeep_crypto::Error> {
//! # let template = KeyTemplate {
//! #     key_id: KeyId::from_bytes([1; 16]),
//! #     version: KeyVersionNumber::FIRST,
//! #     version_id: KeyVersionId::from_random([2; 16]),
//! #     spec: KeySpec::Aes256,
//! #     usage: KeyUsage::EncryptDecrypt,
//! # };
//! let backend = SoftwareBackend::new()?;
//! let call = Call::within(Duration::from_secs(1));
//! let generated = backend.generate(call, &template).await?; // its material is to be sealed and stored
//! let key = backend.open(call, &template, generated.material).await?;
//! let blob = backend
//!     .encrypt(call, &key, Algorithm::SymmetricDefault, b"hello", &Context::NONE)
//!     .await?;
//! let plaintext =
//!     backend.decrypt(call, &key, Algorithm::SymmetricDefault, &blob, &Context::NONE).await?;
//! assert_eq!(*plaintext, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! A process calls [`self_test`] before it takes any key in, and does not unseal when that fails.

pub mod backend;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod data_key;
pub mod limits;
pub mod random;
pub mod software;

pub use backend::{
    Call, Capabilities, Custody, Error, Failure, Generated, Health, InvalidInput, KeyBackend,
    KeyCapability, KeyHandle, KeyTemplate, Material, Message, PublicKey, Reply, Unavailable,
    Verdict,
};
pub use data_key::{DataKey, generate_data_key};

pub use software::SoftwareBackend;
pub use software::self_test::{Primitive, SelfTestFailed, self_test};
