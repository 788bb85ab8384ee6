//! Ciphertext and record formats, derived keys and secret types; `ring` alone.
//!
//! One envelope serves two purposes that cannot be confused: the *ciphertext* that callers keep
//! ([`ciphertext`]) and the *stored record* that the cluster keeps ([`record`]). Each message has a key
//! of its own, derived from the wrapping key, a random salt and everything the message is bound to
//! ([`kdf`]), and commits to that key, so that no blob opens under two keys.
//!
//! Messages under a data key that the service has wrapped carry that along ([`message`]). Files of any size
//! have a format of their own ([`mod@file`]), in chunks under a data key.
//!
//! What may break: stored bytes. The published vectors in `tests/vectors` are frozen.

pub mod ciphertext;
pub mod context;
pub mod file;
mod frame;
pub mod kdf;
pub mod message;
pub mod record;
pub mod secret;

#[cfg(test)]
mod tests;

pub use context::{Context, InvalidContext};
pub use frame::{Malformed, OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX, SealError};
pub use secret::{ExposeKey, OpenKey, RandomnessFailed, SecretBytes};
