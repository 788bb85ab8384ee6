//! A hybrid key encapsulation of X25519 and ML-KEM-768 for keys that live for one message.
//!
//! This is X-Wing (draft-connolly-cfrg-xwing-kem) with a private key that is never written down. It
//! stays secret while either of the two does. The secrets are combined by SHA3-256 over both, over the
//! X25519 ciphertext and public key, and over a label; the ML-KEM ciphertext need not be hashed, since
//! ML-KEM binds it itself. Chosen over a plain concatenation because its proof is for exactly this pair.
//!
//! | bytes      | size | content                                    |
//! |------------|-----:|--------------------------------------------|
//! | public key | 1216 | ML-KEM encapsulation key 1184, X25519 32   |
//! | ciphertext | 1120 | ML-KEM ciphertext 1088, X25519 32          |

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::digest::{Context, SHA3_256};
use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};
use twinkeep_envelope::OpenKey;

/// Length of a public key in bytes.
pub(crate) const PUBLIC_LEN: usize = ML_KEM_PUBLIC_LEN + X25519_LEN;
/// Length of a ciphertext in bytes.
pub(crate) const CIPHERTEXT_LEN: usize = ML_KEM_CIPHERTEXT_LEN + X25519_LEN;

const ML_KEM_PUBLIC_LEN: usize = 1184;
const ML_KEM_CIPHERTEXT_LEN: usize = 1088;
const X25519_LEN: usize = 32;
const X_WING_LABEL: &[u8] = br"\.//^\";

/// The bytes from the other side are no key, or the library failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KemFailed;

impl From<aws_lc_rs::error::Unspecified> for KemFailed {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

impl From<aws_lc_rs::error::KeyRejected> for KemFailed {
    fn from(_: aws_lc_rs::error::KeyRejected) -> Self {
        Self
    }
}

/// A private key for one message.
#[derive(Debug)]
pub(crate) struct PrivateHalf {
    ml_kem: DecapsulationKey,
    x25519: PrivateKey,
    public: Vec<u8>,
}

impl PrivateHalf {
    pub(crate) fn generate() -> Result<Self, KemFailed> {
        let ml_kem = DecapsulationKey::generate(&ML_KEM_768)?;
        let x25519 = PrivateKey::generate(&X25519)?;
        let mut public = ml_kem.encapsulation_key()?.key_bytes()?.as_ref().to_vec();
        public.extend_from_slice(x25519.compute_public_key()?.as_ref());
        Ok(Self { ml_kem, x25519, public })
    }

    /// [`PUBLIC_LEN`] bytes.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Takes the key, since it serves one message.
    pub(crate) fn decapsulate(self, ciphertext: &[u8]) -> Result<OpenKey, KemFailed> {
        let (ml_kem, x25519) =
            ciphertext.split_at_checked(ML_KEM_CIPHERTEXT_LEN).ok_or(KemFailed)?;
        let shared = self.ml_kem.decapsulate(ml_kem.into())?;
        let own_public = &self.public[ML_KEM_PUBLIC_LEN..];
        agree(&self.x25519, x25519, |agreed| combine(shared.as_ref(), agreed, x25519, own_public))
    }
}

/// Returns a fresh secret and the ciphertext that tells it to the holder of the private key.
pub(crate) fn encapsulate(public: &[u8]) -> Result<(OpenKey, Vec<u8>), KemFailed> {
    let (ml_kem, x25519) = public.split_at_checked(ML_KEM_PUBLIC_LEN).ok_or(KemFailed)?;
    let (mut ciphertext, shared) = {
        let (ciphertext, shared) = EncapsulationKey::new(&ML_KEM_768, ml_kem)?.encapsulate()?;
        (ciphertext.as_ref().to_vec(), shared)
    };
    let own = PrivateKey::generate(&X25519)?;
    let own_public = own.compute_public_key()?;
    let key = agree(&own, x25519, |agreed| {
        combine(shared.as_ref(), agreed, own_public.as_ref(), x25519)
    })?;
    ciphertext.extend_from_slice(own_public.as_ref());
    Ok((key, ciphertext))
}

fn agree(
    own: &PrivateKey,
    their_public: &[u8],
    use_secret: impl FnOnce(&[u8]) -> OpenKey,
) -> Result<OpenKey, KemFailed> {
    let theirs = UnparsedPublicKey::new(&X25519, their_public);
    agreement::agree(own, theirs, KemFailed, |secret| Ok(use_secret(secret)))
}

/// `SHA3-256(ML-KEM secret || X25519 secret || X25519 ciphertext || X25519 public key || label)`.
fn combine(ml_kem: &[u8], x25519: &[u8], ciphertext: &[u8], public: &[u8]) -> OpenKey {
    let mut digest = Context::new(&SHA3_256);
    for part in [ml_kem, x25519, ciphertext, public, X_WING_LABEL] {
        digest.update(part);
    }
    OpenKey::build(|key| key.copy_from_slice(digest.finish().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_have_the_same_secret() {
        let private = PrivateHalf::generate().unwrap();
        assert_eq!(private.public().len(), PUBLIC_LEN);
        let (key, ciphertext) = encapsulate(private.public()).unwrap();
        assert_eq!(ciphertext.len(), CIPHERTEXT_LEN);
        assert!(private.decapsulate(&ciphertext).unwrap().same_as(&key));
    }

    /// Reads a line of the draft's vector.
    fn draft(name: &str) -> Vec<u8> {
        let lines = include_str!("../tests/vectors/x_wing.txt").lines();
        let mut pairs = lines.filter_map(|line| line.split_once(" = "));
        hex::decode(pairs.find(|(found, _)| *found == name).unwrap().1).unwrap()
    }

    /// Makes the private key of a seed, as the draft expands it.
    fn expand(seed: &[u8]) -> PrivateHalf {
        use ml_kem::{EncodedSizeUser as _, KemCore as _};
        use shake::digest::{ExtendableOutput as _, Update as _, XofReader as _};

        let mut stream = shake::Shake256::default().chain(seed).finalize_xof();
        let mut next = || {
            let mut bytes = [0; 32];
            stream.read(&mut bytes);
            bytes
        };
        let (d, z) = (next().into(), next().into());
        let (private, public) = ml_kem::MlKem768::generate_deterministic(&d, &z);
        let x25519 = PrivateKey::from_private_key(&X25519, &next()).unwrap();
        let x25519_public = x25519.compute_public_key().unwrap();
        PrivateHalf {
            ml_kem: DecapsulationKey::new(&ML_KEM_768, &private.as_bytes()).unwrap(),
            public: [public.as_bytes().as_slice(), x25519_public.as_ref()].concat(),
            x25519,
        }
    }

    #[test]
    fn secret_is_that_of_the_draft() {
        let private = expand(&draft("seed"));
        assert_eq!(hex::encode(private.public()), hex::encode(draft("pk")));
        let secret = private.decapsulate(&draft("ct")).unwrap();
        assert_eq!(hex::encode(secret.danger_expose()), hex::encode(draft("ss")));
    }

    #[test]
    fn either_half_of_another_message_gives_another_secret() {
        for at in [0, ML_KEM_CIPHERTEXT_LEN] {
            let private = PrivateHalf::generate().unwrap();
            let (key, mut ciphertext) = encapsulate(private.public()).unwrap();
            let (_, other) = encapsulate(private.public()).unwrap();
            let end = if at == 0 { ML_KEM_CIPHERTEXT_LEN } else { CIPHERTEXT_LEN };
            ciphertext[at..end].copy_from_slice(&other[at..end]);
            assert!(!private.decapsulate(&ciphertext).unwrap().same_as(&key), "half at {at}");
        }
    }

    #[test]
    fn keys_and_ciphertexts_of_other_lengths_are_refused() {
        let public = PrivateHalf::generate().unwrap().public().to_vec();
        for len in [0, 32, 1184, 1215] {
            assert!(encapsulate(&public[..len]).is_err(), "{len} bytes");
        }
        assert!(encapsulate(&[public.as_slice(), &[0]].concat()).is_err());
        let (_, ciphertext) = encapsulate(&public).unwrap();
        for len in [0, 32, 1088, 1119] {
            let private = PrivateHalf::generate().unwrap();
            assert!(private.decapsulate(&ciphertext[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn x25519_key_of_small_order_is_refused() {
        let mut public = PrivateHalf::generate().unwrap().public().to_vec();
        public[ML_KEM_PUBLIC_LEN..].fill(0);
        assert!(encapsulate(&public).is_err());
    }
}
