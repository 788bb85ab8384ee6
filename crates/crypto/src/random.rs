//! Random bytes from the operating system, by ring.
//!
//! Every call goes to the kernel: a pool in user space would be repeated by a cloned virtual machine.

use ring::rand::{SecureRandom as _, SystemRandom};
use twinkeep_envelope::SecretBytes;
use zeroize::Zeroizing;

use crate::backend::{Error, Failure};

/// Fills `bytes` in one call of the generator.
///
/// # Errors
/// [`Failure::Randomness`] when the operating system gives none.
pub fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new().fill(bytes).map_err(|_| Failure::Randomness.into())
}

/// Draws `len` bytes for a caller: wiped on drop, and taken out by whoever hands them on.
///
/// # Errors
/// As [`fill`].
pub fn bytes(len: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(vec![0; len]);
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Draws `len` bytes of key material.
pub(crate) fn secret(len: usize) -> Result<SecretBytes, Error> {
    Ok(SecretBytes::generate(len, &SystemRandom::new())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ_and_have_the_length_asked_for() {
        let (one, other) = (bytes(32).unwrap(), bytes(32).unwrap());
        assert_eq!((one.len(), other.len()), (32, 32));
        assert_ne!(*one, *other);
        assert!(bytes(0).unwrap().is_empty());
    }
}
