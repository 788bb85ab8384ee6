//! What the two formats share: one frame, one derivation, one cipher.
//!
//! | offset | size | field                                                        |
//! |-------:|-----:|--------------------------------------------------------------|
//! | 0      | 24   | prefix, see [`crate::ciphertext`] and [`crate::record`]      |
//! | 24     | 16   | salt, random                                                 |
//! | 40     | 32   | commitment                                                   |
//! | 72     | 12   | IV, random                                                   |
//! | 84     | n    | AES-256-GCM ciphertext                                       |
//! | 84 + n | 16   | tag                                                          |
//!
//! `message key || commitment = KDF(key, label, prefix || salt || h)`, 64 bytes, where `h` is the SHA-256 of
//! what the message is bound to; the cipher's associated data is `blob[0..72] || h`. A message key
//! serves one message unless a 16-byte salt repeats, and even then the IVs differ: no number of
//! messages under one key is too many, and no counter has to be kept.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::kdf;
use crate::secret::ExposeKey;

/// Bytes that a frame adds to its plaintext.
pub const OVERHEAD_BYTES: usize = BODY_AT + TAG_LEN;

/// Longest plaintext, in bytes. Surfaces have tighter limits of their own.
pub const PLAINTEXT_BYTES_MAX: usize = 1 << 24;

pub(crate) const PREFIX_LEN: usize = 24;
const SALT_LEN: usize = 16;
const COMMITMENT_AT: usize = PREFIX_LEN + SALT_LEN;
const COMMITMENT_LEN: usize = 32;
const IV_AT: usize = COMMITMENT_AT + COMMITMENT_LEN;
const BODY_AT: usize = IV_AT + NONCE_LEN;
const TAG_LEN: usize = 16;

/// SHA-256 of what a message is bound to.
pub(crate) type BindingHash = [u8; 32];

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The operating system's generator gave no bytes.
    #[error("the operating system's random generator failed")]
    Randomness,
    /// The plaintext, or the name of the record, is longer than the format carries.
    #[error("{len} bytes are over the limit of {max}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
}

/// What is wrong with the first bytes of a blob. Tells nothing that the blob's owner cannot see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than the frame around an empty plaintext.
    #[error("shorter than {OVERHEAD_BYTES} bytes")]
    TooShort,
    /// The first byte is that of something else, such as base64 text or JSON.
    #[error("does not begin with the format's first byte")]
    Magic,
    /// A format version that this release does not know.
    #[error("format version {0} is not known")]
    Version(u8),
    /// A cipher suite that this release does not know.
    #[error("suite {0} is not known")]
    Suite(u8),
    /// The fourth byte, flags or wrap level, has no meaning.
    #[error("the fourth byte has no meaning")]
    Fourth,
}

/// Why a blob did not open. Stays inside the crate: callers get one error for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Format,
    Commitment,
    Tag,
}

/// The random part of one message.
pub(crate) struct Draw {
    pub(crate) salt: [u8; SALT_LEN],
    pub(crate) iv: [u8; NONCE_LEN],
}

impl Draw {
    /// Draws salt and IV in one call of the operating system's generator. No user-space pool: a cloned
    /// virtual machine would repeat it.
    pub(crate) fn fresh() -> Result<Self, SealError> {
        let mut bytes = [0; SALT_LEN + NONCE_LEN];
        SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::Randomness)?;
        Ok(Self { salt: part(&bytes, 0), iv: part(&bytes, SALT_LEN) })
    }
}

/// Seals into one buffer of the final size. The caller vouches for a fresh `draw`.
pub(crate) fn seal(
    key: &impl ExposeKey,
    label: &'static str,
    prefix: &[u8; PREFIX_LEN],
    bound_to: &BindingHash,
    draw: Draw,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    if plaintext.len() > PLAINTEXT_BYTES_MAX {
        return Err(SealError::TooLong { len: plaintext.len(), max: PLAINTEXT_BYTES_MAX });
    }
    let derived = Derived::new(key, label, prefix, &draw.salt, bound_to);
    let mut blob = Vec::with_capacity(OVERHEAD_BYTES + plaintext.len());
    blob.extend_from_slice(prefix);
    blob.extend_from_slice(&draw.salt);
    blob.extend_from_slice(derived.commitment());
    let aad = associated_data(&blob, bound_to);
    blob.extend_from_slice(&draw.iv);
    blob.extend_from_slice(plaintext);
    let tag = derived
        .cipher()
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(draw.iv),
            Aad::from(aad),
            &mut blob[BODY_AT..],
        )
        .expect("plaintexts are far shorter than what GCM takes");
    blob.extend_from_slice(tag.as_ref());
    Ok(blob)
}

/// Opens a blob whose prefix has been parsed. The output is wiped on drop, whatever happens.
pub(crate) fn open(
    key: &impl ExposeKey,
    label: &'static str,
    bound_to: &BindingHash,
    blob: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Cause> {
    if blob.len() < OVERHEAD_BYTES {
        return Err(Cause::Format);
    }
    let derived = Derived::new(key, label, &part(blob, 0), &part(blob, PREFIX_LEN), bound_to);
    if !bool::from(derived.commitment().ct_eq(&blob[COMMITMENT_AT..IV_AT])) {
        return Err(Cause::Commitment);
    }
    let tag_at = blob.len() - TAG_LEN;
    let mut plaintext = Zeroizing::new(blob[BODY_AT..tag_at].to_vec());
    derived
        .cipher()
        .open_in_place_separate_tag(
            Nonce::assume_unique_for_key(part(blob, IV_AT)),
            Aad::from(associated_data(&blob[..IV_AT], bound_to)),
            Tag::from(part::<TAG_LEN>(blob, tag_at)),
            &mut plaintext,
            0..,
        )
        .map_err(|_| Cause::Tag)?;
    Ok(plaintext)
}

/// Checks length, magic, version and suite; the fourth byte is the format's own.
pub(crate) fn parse_prefix(blob: &[u8], magic: u8) -> Result<[u8; PREFIX_LEN], Malformed> {
    // A text given by mistake is recognised as such even where it is short.
    if blob.first().is_some_and(|first| *first != magic) {
        return Err(Malformed::Magic);
    }
    if blob.len() < OVERHEAD_BYTES {
        return Err(Malformed::TooShort);
    }
    match blob[1..3] {
        [VERSION, SUITE] => Ok(part(blob, 0)),
        [VERSION, suite] => Err(Malformed::Suite(suite)),
        _ => Err(Malformed::Version(blob[1])),
    }
}

/// Puts a prefix together: magic, version, suite, the fourth byte, an id and a number.
pub(crate) fn prefix(magic: u8, fourth: u8, id: &[u8; 16], number: u32) -> [u8; PREFIX_LEN] {
    let mut prefix = [0; PREFIX_LEN];
    prefix[..4].copy_from_slice(&[magic, VERSION, SUITE, fourth]);
    prefix[4..20].copy_from_slice(id);
    prefix[20..].copy_from_slice(&number.to_be_bytes());
    prefix
}

const VERSION: u8 = 1;
const SUITE: u8 = 1;

/// Copies `N` bytes out of a blob whose length has been checked.
pub(crate) fn part<const N: usize>(blob: &[u8], at: usize) -> [u8; N] {
    blob[at..at + N].try_into().expect("the slice has the length asked for")
}

fn associated_data(
    header: &[u8],
    bound_to: &BindingHash,
) -> [u8; IV_AT + size_of::<BindingHash>()] {
    let mut aad = [0; IV_AT + size_of::<BindingHash>()];
    aad[..IV_AT].copy_from_slice(header);
    aad[IV_AT..].copy_from_slice(bound_to);
    aad
}

/// Message key and commitment.
struct Derived(Zeroizing<[u8; 64]>);

impl Derived {
    fn new(
        key: &impl ExposeKey,
        label: &'static str,
        prefix: &[u8; PREFIX_LEN],
        salt: &[u8; SALT_LEN],
        bound_to: &BindingHash,
    ) -> Self {
        let mut bytes = Zeroizing::new([0; 64]);
        kdf::expand(key, label, &[prefix, salt, bound_to], bytes.as_mut_slice());
        Self(bytes)
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, &self.0[..32]);
        LessSafeKey::new(key.expect("the key has 32 bytes"))
    }

    fn commitment(&self) -> &[u8] {
        &self.0[32..]
    }
}
