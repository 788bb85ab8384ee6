//! Ciphertext and record formats, derived keys and secret types; `ring` alone.
//!
//! One envelope serves two purposes that cannot be confused: the *ciphertext* that callers keep
//! ([`ciphertext`]) and the *stored record* that the cluster keeps ([`record`]). Each message has a key
//! of its own, derived from the wrapping key, a random salt and everything the message is bound to
//! ([`kdf`]), and commits to that key, so that no blob opens under two keys.
//!
//! What may break: stored bytes. The published vectors in `tests/vectors` are frozen. The format of
//! encrypted files will be a module beside these two.

pub mod ciphertext;
pub mod context;
mod frame;
pub mod kdf;
pub mod record;
pub mod secret;

#[cfg(test)]
mod tests;

pub use context::{Context, InvalidContext};
pub use frame::{Malformed, OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX, SealError};
pub use secret::{ExposeKey, OpenKey, RandomnessFailed, SecretBytes};
