//! Secrets in types: [`OpenKey`] and [`SecretBytes`] are open, wiped, and cannot be stored; what can be
//! stored is a [`SealedBlob`](twinkeep_core::record::SealedBlob), made by [`crate::record::seal`] alone.
//!
//! Open types have no `Clone`, no `PartialEq`, no `Display` and no encoding of any kind, and they share
//! no field type with the sealed one: plaintext key bytes cannot reach a record by accident, which
//! `tests/compile_fail` holds. Their bytes live on the heap, so that moving leaves no copy behind, and
//! are wiped on drop. What a provider leaves on the stack or in its key schedules is a stated limit.

use std::fmt;

use ring::rand::SecureRandom;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

/// Thirty-two key bytes, wherever they live: on the heap ([`OpenKey`]) or in protected memory. Lets a key
/// wrap and derive without leaving its place.
pub trait ExposeKey {
    /// Shows the key bytes. For handing them to a cipher; whoever copies them has to wipe the copy.
    fn danger_expose(&self) -> &[u8; OpenKey::LEN];
}

impl ExposeKey for OpenKey {
    fn danger_expose(&self) -> &[u8; Self::LEN] {
        Self::danger_expose(self)
    }
}

/// The operating system's generator gave no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system's random generator failed")]
pub struct RandomnessFailed;

/// Plaintext key bytes. Boxed, so that moving leaves no copy behind; wiped on drop. No `Clone`,
/// no serde, no `PartialEq` (compare in constant time). `Debug` shows the length alone.
pub struct OpenKey(Box<Zeroizing<[u8; Self::LEN]>>);

impl OpenKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Copies a slice of exactly 32 bytes; `None` for any other length. The caller wipes the source.
    #[must_use]
    pub fn from_slice(source: &[u8]) -> Option<Self> {
        (source.len() == Self::LEN).then(|| Self::build(|bytes| bytes.copy_from_slice(source)))
    }

    /// Draws a fresh key in one call of the generator.
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, RandomnessFailed> {
        let mut key = Self::build(|_| ());
        random.fill(key.0.as_mut_slice()).map_err(|_| RandomnessFailed)?;
        Ok(key)
    }

    /// Lets `write` put the bytes where they will stay, so that none pass over the stack.
    #[must_use]
    pub fn build(write: impl FnOnce(&mut [u8; Self::LEN])) -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; Self::LEN]));
        write(&mut bytes);
        Self(bytes)
    }

    /// Shows the key bytes. For handing them to a cipher; whoever copies them has to wipe the copy.
    #[must_use]
    pub fn danger_expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Compares in constant time.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenKey({} bytes)", Self::LEN)
    }
}

/// A secret of any length: a private key as PKCS#8, an HMAC key. Never grows, since a growing buffer
/// leaves copies. Wiped on drop; the same absences as [`OpenKey`].
pub struct SecretBytes(Zeroizing<Box<[u8]>>);

impl SecretBytes {
    /// Copies the bytes to their place and wipes the source.
    #[must_use]
    pub fn take(source: &mut [u8]) -> Self {
        let secret = Self::copy_of(source);
        source.zeroize();
        secret
    }

    /// Takes over a vector. Where its capacity is its length nothing is copied; otherwise the bytes
    /// are copied and the vector is wiped over its whole capacity.
    #[must_use]
    pub fn from_vec(mut source: Vec<u8>) -> Self {
        if source.capacity() == source.len() {
            return Self(Zeroizing::new(source.into_boxed_slice()));
        }
        let secret = Self::copy_of(&source);
        source.zeroize();
        secret
    }

    /// Copies borrowed bytes. The caller wipes the source.
    #[must_use]
    pub fn copy_of(source: &[u8]) -> Self {
        Self(Zeroizing::new(Box::from(source)))
    }

    /// Draws `len` fresh bytes in one call of the generator.
    pub fn generate(len: usize, random: &dyn SecureRandom) -> Result<Self, RandomnessFailed> {
        let mut secret = Self(Zeroizing::new(vec![0; len].into_boxed_slice()));
        random.fill(&mut secret.0).map_err(|_| RandomnessFailed)?;
        Ok(secret)
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Shows the bytes. For handing them to a provider; whoever copies them has to wipe the copy.
    #[must_use]
    pub fn danger_expose(&self) -> &[u8] {
        &self.0
    }

    /// Compares in constant time, the lengths apart, which are no secret.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn debug_shows_lengths_alone() {
        let key = OpenKey::build(|bytes| bytes.fill(0xab));
        let secret = SecretBytes::copy_of(&[0xab; 7]);
        assert_eq!(format!("{key:?}"), "OpenKey(32 bytes)");
        assert_eq!(format!("{secret:?}"), "SecretBytes(7 bytes)");
    }

    #[test]
    fn taking_a_secret_wipes_the_source() {
        let mut source = [0xab; 40];
        let secret = SecretBytes::take(&mut source);
        assert_eq!(source, [0; 40]);
        assert_eq!(secret.danger_expose(), [0xab; 40]);
    }

    #[test]
    fn vectors_of_any_capacity_become_the_same_secret() {
        let exact = SecretBytes::from_vec(vec![7; 5]);
        let mut roomy = Vec::with_capacity(64);
        roomy.extend_from_slice(&[7; 5]);
        assert!(exact.same_as(&SecretBytes::from_vec(roomy)));
        assert!(!exact.same_as(&SecretBytes::copy_of(&[7; 4])));
        assert!(!exact.same_as(&SecretBytes::copy_of(&[7, 7, 7, 7, 8])));
    }

    #[test]
    fn generated_keys_differ() {
        let random = SystemRandom::new();
        let one = OpenKey::generate(&random).unwrap();
        let other = OpenKey::generate(&random).unwrap();
        assert!(!one.same_as(&other));
        assert!(one.same_as(&OpenKey::from_slice(one.danger_expose()).unwrap()));
        assert_eq!(SecretBytes::generate(48, &random).unwrap().len(), 48);
    }

    #[test]
    fn slice_of_another_length_is_no_key() {
        assert!(OpenKey::from_slice(&[0; 31]).is_none());
        assert!(OpenKey::from_slice(&[0; 33]).is_none());
    }
}
