//! What a key is to a backend: its template, its material, the handle it is used by.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};
use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};
use twinkeep_envelope::SecretBytes;

use super::{Error, Failure};

/// What a backend is told about a key version: which one it is, what it is made of, what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTemplate {
    /// The key; stands in ciphertexts.
    pub key_id: KeyId,
    /// The version's number; stands in ciphertexts.
    pub version: KeyVersionNumber,
    /// The version's id; a backend that keeps material finds it by this.
    pub version_id: KeyVersionId,
    /// What the material is.
    pub spec: KeySpec,
    /// What the key is for. One key, one usage.
    pub usage: KeyUsage,
}

impl KeyTemplate {
    /// Checks that a key of this template does `algorithm`.
    ///
    /// # Errors
    /// [`Error::Unsupported`], with the list of those it does.
    pub fn check(&self, algorithm: Algorithm) -> Result<(), Error> {
        if self.spec.algorithms(self.usage).contains(&algorithm) {
            return Ok(());
        }
        Err(Error::unsupported(self.spec, self.usage, algorithm.as_str()))
    }

    /// Checks that spec and usage go together.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where they do not.
    pub fn check_usage(&self) -> Result<(), Error> {
        if self.spec.usages().contains(&self.usage) {
            return Ok(());
        }
        Err(Error::unsupported(self.spec, self.usage, self.usage.as_str()))
    }
}

/// What has to be stored of a key version so that it can be used again.
///
/// Not `Clone`: it may hold a key.
#[derive(Debug)]
pub enum Material {
    /// The private or secret key itself: raw bytes for AES and HMAC, PKCS#8 DER for the rest. Whoever
    /// stores it seals it first.
    Sealable(SecretBytes),
    /// The backend keeps the key; these bytes help it to find it, and are no secret. At most 64 bytes.
    Kept(Vec<u8>),
    /// The public half alone, for verifying and for encrypting with RSA.
    Public(PublicKey),
}

/// New or imported material.
#[derive(Debug)]
pub struct Generated {
    /// What to store.
    pub material: Material,
    /// The public half; `None` for symmetric keys.
    pub public_key: Option<PublicKey>,
}

/// A public key: `SubjectPublicKeyInfo` in DER (RFC 5280, section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Box<[u8]>);

impl PublicKey {
    /// Longest DER that is looked at, in bytes. An RSA-4096 key has 550.
    pub const LEN_MAX: usize = 2048;

    /// Takes DER bytes. Whether they are a key is found out by opening them.
    #[must_use]
    pub fn from_der(der: impl Into<Box<[u8]>>) -> Self {
        Self(der.into())
    }

    /// Returns the DER bytes.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

/// A key version that a backend has made usable. Cheap to clone; the last clone to go wipes it.
///
/// Opaque: only the backend that made a handle can look inside.
#[derive(Clone)]
pub struct KeyHandle(Arc<Inner<dyn Any + Send + Sync>>);

struct Inner<K: ?Sized> {
    template: KeyTemplate,
    key: K,
}

impl KeyHandle {
    /// Wraps what a backend needs to use the key. For backends.
    #[must_use]
    pub fn new<K: Any + Send + Sync>(template: KeyTemplate, key: K) -> Self {
        Self(Arc::new(Inner { template, key }))
    }

    /// Returns what the key is.
    #[must_use]
    pub fn template(&self) -> &KeyTemplate {
        &self.0.template
    }

    /// Returns what the backend put in. For backends.
    ///
    /// # Errors
    /// [`Failure::ForeignHandle`] when another backend made the handle.
    pub fn key<K: Any>(&self) -> Result<&K, Error> {
        self.0.key.downcast_ref().ok_or_else(|| Failure::ForeignHandle.into())
    }
}

impl fmt::Debug for KeyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyHandle").field(self.template()).finish()
    }
}
