//! The key of one file, and what it does to one part of it.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::kdf;
use crate::secret::ExposeKey;

/// Bytes that each chunk grows by.
pub const TAG_LEN: usize = 16;

/// Most chunks of a file: 2^48 bytes in the smallest chunks. Far below what GCM bears under one key.
pub const CHUNKS_MAX: u64 = 1 << 32;

pub(super) const COMMITMENT_LEN: usize = 32;

const LABEL: &str = "twinkeep-file-v1";

/// Length of all chunks of a file but the last, in bytes of plaintext: a power of two.
///
/// A reader holds a few chunks, so the largest bounds what a file can make it allocate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChunkSize(u8);

impl ChunkSize {
    /// 64 KiB.
    pub const MIN: Self = Self(16);
    /// 4 MiB.
    pub const MAX: Self = Self(22);

    /// Takes the exponent: 16 for 64 KiB to 22 for 4 MiB.
    #[must_use]
    pub const fn from_exponent(exponent: u8) -> Option<Self> {
        match exponent {
            16..=22 => Some(Self(exponent)),
            _ => None,
        }
    }

    /// The exponent.
    #[must_use]
    pub const fn exponent(self) -> u8 {
        self.0
    }

    /// Bytes of plaintext in a full chunk.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << self.0
    }

    /// Bytes of a full chunk in the file.
    #[must_use]
    pub const fn sealed_bytes(self) -> usize {
        self.bytes() + TAG_LEN
    }
}

impl Default for ChunkSize {
    /// 256 KiB: beyond it calls cost nothing against copies, and pieces still fit into a core's cache.
    fn default() -> Self {
        Self(18)
    }
}

impl fmt::Debug for ChunkSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkSize({} KiB)", self.bytes() >> 10)
    }
}

/// Which part of a file is sealed; no two have the same nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A chunk that others follow.
    Next(u64),
    /// The chunk that ends the file.
    Last(u64),
    Metadata,
}

impl Part {
    pub(super) fn nonce(self) -> [u8; NONCE_LEN] {
        let (number, kind) = match self {
            Self::Next(number) => (number, 0),
            Self::Last(number) => (number, 1),
            Self::Metadata => (0, 2),
        };
        let mut nonce = [0; NONCE_LEN];
        nonce[3..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = kind;
        nonce
    }
}

/// The part does not open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotOpened;

/// File key and commitment, wiped on drop. ring's key schedule lives for one part and on the stack.
pub(super) struct FileKey(Box<Zeroizing<[u8; 64]>>);

impl FileKey {
    /// Derives both from the data key and the header up to the wrapped key's end.
    pub(super) fn derive(data_key: &impl ExposeKey, header: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, header);
        let mut derived = Box::new(Zeroizing::new([0; 64]));
        kdf::expand(data_key, LABEL, &[hash.as_ref()], derived.as_mut_slice());
        Self(derived)
    }

    pub(super) fn commitment(&self) -> &[u8] {
        &self.0[64 - COMMITMENT_LEN..]
    }

    pub(super) fn commits_to(&self, commitment: &[u8]) -> bool {
        self.commitment().ct_eq(commitment).into()
    }

    /// Encrypts in place and appends the tag.
    pub(super) fn seal(&self, part: Part, bytes: &mut Vec<u8>) {
        self.cipher()
            .seal_in_place_append_tag(nonce(part), Aad::empty(), bytes)
            .expect("parts are far shorter than what GCM takes");
    }

    /// Verifies, decrypts in place and cuts the tag off. What does not open is wiped.
    pub(super) fn open(&self, part: Part, bytes: &mut Vec<u8>) -> Result<(), NotOpened> {
        let opened = self.cipher().open_in_place(nonce(part), Aad::empty(), bytes);
        if let Ok(plaintext) = opened {
            let len = plaintext.len();
            bytes.truncate(len);
            return Ok(());
        }
        bytes.zeroize();
        Err(NotOpened)
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, &self.0[..32]);
        LessSafeKey::new(key.expect("the key has 32 bytes"))
    }
}

fn nonce(part: Part) -> Nonce {
    Nonce::assume_unique_for_key(part.nonce())
}
