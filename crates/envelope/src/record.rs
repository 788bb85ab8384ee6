//! The stored record that the cluster keeps: record format 1.
//!
//! | offset | size | field                                                                 |
//! |-------:|-----:|-----------------------------------------------------------------------|
//! | 0      | 1    | magic 0xCE                                                            |
//! | 1      | 1    | version 1                                                             |
//! | 2      | 1    | suite 1, as in [`crate::ciphertext`]                                  |
//! | 3      | 1    | wrap level, see [`WrapLevel`]                                         |
//! | 4      | 16   | wrapping key id                                                       |
//! | 20     | 4    | epoch or version of the wrapping key, big-endian                      |
//! | 24     | 76+n | salt, commitment, IV, ciphertext, tag                                 |
//!
//! Label `kms-record-v1`. Bound to `0x03 || cluster 16 || u16 kind || instance 16 || u16 length || record key
//! || u64 revision || u16 schema`: a record opens in its own place alone, not under another name, in another
//! cluster, or at another revision.

use ring::digest;
use twinkeep_core::id::{ClusterId, InstanceId, Revision};
use twinkeep_core::record::{RecordKind, SealedBlob};

use crate::frame::{self, BindingHash, Cause, Draw, Malformed, PREFIX_LEN, SealError};
use crate::secret::{ExposeKey, OpenKey, SecretBytes};

const MAGIC: u8 = 0xce;
const LABEL: &str = "kms-record-v1";

/// The record does not open: damaged, moved from another place, or wrapped by another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed record does not open in this place with this key")]
pub struct InvalidRecord;

/// Which step of the hierarchy wraps a record. Numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WrapLevel {
    /// A seal's key-encryption key; the id is the seal's, padded with zeros.
    Seal = 0,
    /// The root key.
    Root = 1,
    /// An epoch key.
    Epoch = 2,
    /// An instance key.
    Instance = 3,
}

impl WrapLevel {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Seal, Self::Root, Self::Epoch, Self::Instance].into_iter().find(|l| *l as u8 == byte)
    }
}

/// Which key wraps a record; readable by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wrap {
    /// Step of the hierarchy.
    pub level: WrapLevel,
    /// Id of the wrapping key.
    pub key: [u8; 16],
    /// Epoch or version of the wrapping key.
    pub version: u32,
}

impl Wrap {
    /// Reads which key a record needs, strictly; needs no key.
    pub fn parse(sealed: &SealedBlob) -> Result<Self, Malformed> {
        let prefix = frame::parse_prefix(sealed.as_bytes(), MAGIC)?;
        Ok(Self {
            level: WrapLevel::from_byte(prefix[3]).ok_or(Malformed::Fourth)?,
            key: frame::part(&prefix, 4),
            version: u32::from_be_bytes(frame::part(&prefix, 20)),
        })
    }

    fn prefix(&self) -> [u8; PREFIX_LEN] {
        frame::prefix(MAGIC, self.level as u8, &self.key, self.version)
    }
}

/// The one place where a record opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordBinding<'a> {
    /// The cluster.
    pub cluster: ClusterId,
    /// What the record holds.
    pub kind: RecordKind,
    /// The instance, or [`InstanceId::CLUSTER`].
    pub instance: InstanceId,
    /// Logical key of the record, at most 65,535 bytes; not the storage's.
    pub record_key: &'a [u8],
    /// Revision of the sealed record alone.
    pub revision: Revision,
    /// Version of the layout of the plaintext.
    pub schema: u16,
}

impl RecordBinding<'_> {
    /// `None` where the record key is too long.
    fn hash(&self) -> Option<BindingHash> {
        let record_key_len = u16::try_from(self.record_key.len()).ok()?;
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(&[0x03]);
        digest.update(self.cluster.as_bytes());
        digest.update(&(self.kind as u16).to_be_bytes());
        digest.update(self.instance.as_bytes());
        digest.update(&record_key_len.to_be_bytes());
        digest.update(self.record_key);
        digest.update(&self.revision.get().to_be_bytes());
        digest.update(&self.schema.to_be_bytes());
        Some(digest.finish().as_ref().try_into().expect("SHA-256 gives 32 bytes"))
    }
}

/// Seals a record. Salt and IV come from the operating system, one call.
pub fn seal(
    key: &impl ExposeKey,
    wrap: &Wrap,
    binding: &RecordBinding<'_>,
    plaintext: &[u8],
) -> Result<SealedBlob, SealError> {
    seal_with(key, wrap, binding, plaintext, Draw::fresh()?)
}

/// Opens a record that has to be wrapped by `wrap` and to be bound to `binding`.
pub fn open(
    key: &impl ExposeKey,
    wrap: &Wrap,
    binding: &RecordBinding<'_>,
    sealed: &SealedBlob,
) -> Result<SecretBytes, InvalidRecord> {
    open_or_cause(key, wrap, binding, sealed).map_err(|_: Cause| InvalidRecord)
}

/// Opens a record that holds a 32-byte key.
pub fn open_key(
    key: &impl ExposeKey,
    wrap: &Wrap,
    binding: &RecordBinding<'_>,
    sealed: &SealedBlob,
) -> Result<OpenKey, InvalidRecord> {
    let plaintext = open(key, wrap, binding, sealed)?;
    OpenKey::from_slice(plaintext.danger_expose()).ok_or(InvalidRecord)
}

pub(crate) fn seal_with(
    key: &impl ExposeKey,
    wrap: &Wrap,
    binding: &RecordBinding<'_>,
    plaintext: &[u8],
    draw: Draw,
) -> Result<SealedBlob, SealError> {
    let bound_to = binding
        .hash()
        .ok_or(SealError::TooLong { len: binding.record_key.len(), max: usize::from(u16::MAX) })?;
    frame::seal(key, LABEL, &wrap.prefix(), &bound_to, draw, plaintext)
        .map(SealedBlob::from_envelope)
}

pub(crate) fn open_or_cause(
    key: &impl ExposeKey,
    wrap: &Wrap,
    binding: &RecordBinding<'_>,
    sealed: &SealedBlob,
) -> Result<SecretBytes, Cause> {
    if Wrap::parse(sealed) != Ok(*wrap) {
        return Err(Cause::Format);
    }
    let bound_to = binding.hash().ok_or(Cause::Format)?;
    let mut plaintext = frame::open(key, LABEL, &bound_to, sealed.as_bytes())?;
    Ok(SecretBytes::from_vec(std::mem::take(&mut *plaintext)))
}
