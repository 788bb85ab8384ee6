//! What a snapshot holds, as it is signed. Format 1.
//!
//! The signed bytes are `TWKSNAP`, the format byte 0x01 and a CBOR array (deterministic: fixed
//! order, shortest numbers):
//!
//! | field | type  | holds                                                                   |
//! |------:|-------|-------------------------------------------------------------------------|
//! | 0     | bytes | cluster id                                                              |
//! | 1     | uint  | node that took the snapshot                                             |
//! | 2     | uint  | cluster version under which it was taken                                |
//! | 3     | uint  | index of the last entry                                                 |
//! | 4     | bytes | what the consensus library keeps with it, see [`crate::state::Applied`] |
//! | 5     | array | files: name, length in bytes, SHA-256 of each chunk, one after another  |
//!
//! Chunks have [`CHUNK_BYTES`]; the last one of a file is what is left. They are counted through all
//! files, in the order of the manifest.

use std::error::Error;
use std::fs;
use std::path::Path;

use minicbor::{Decode, Encode};
use ring::digest;
use twinkeep_core::id::{ClusterId, NodeId};

use super::SnapshotError;
use crate::disk::At;
use crate::record::{self, Damaged};

/// Bytes of a chunk, the unit in which snapshots are hashed and sent.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of a signed manifest. Enough for a state of some 2 TiB.
const MANIFEST_BYTES_MAX: usize = 64 << 20;
/// Files in a snapshot.
const FILES_MAX: usize = 100_000;
const DIGEST_BYTES: usize = digest::SHA256_OUTPUT_LEN;
const MAGIC: &[u8] = b"TWKSNAP\x01";
const SIGNED_KEY: &[u8] = b"snapshot";

/// Why bytes are not the manifest of a snapshot that we would use.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// The bytes do not open as manifests of this format do.
    #[error("not a snapshot manifest of format 1")]
    Format,
    /// The bytes are not the CBOR described above.
    #[error("the manifest cannot be decoded")]
    Encoding(#[source] minicbor::decode::Error),
    /// The file that keeps the manifest is torn.
    #[error("the stored manifest is torn")]
    Torn(#[from] Damaged),
    /// More bytes or files than a snapshot has.
    #[error("{what}: {found} is over the limit of {max}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much there may be.
        max: usize,
    },
    /// A file name that no checkpoint has, or that is there twice.
    #[error("the file name {0:?} does not belong into a snapshot")]
    FileName(String),
    /// The number of checksums does not fit the length of the file.
    #[error("{file} of {bytes} bytes does not have {chunks} chunks")]
    Checksums {
        /// The file.
        file: String,
        /// Its length.
        bytes: u64,
        /// Checksums given.
        chunks: usize,
    },
    /// A file has another length than the manifest says.
    #[error("{file} has {found} bytes and not {bytes}")]
    Length {
        /// The file.
        file: String,
        /// Its length as signed.
        bytes: u64,
        /// Its length as found.
        found: u64,
    },
    /// The snapshot is another cluster's.
    #[error("the snapshot is of cluster {found}, not of cluster {expected}")]
    Foreign {
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Manifest {
    #[n(0)]
    cluster: ClusterId,
    #[n(1)]
    node: NodeId,
    #[n(2)]
    cluster_version: u32,
    #[n(3)]
    index: u64,
    #[cbor(n(4), with = "minicbor::bytes")]
    meta: Vec<u8>,
    #[n(5)]
    files: Vec<File>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct File {
    #[n(0)]
    pub(super) name: String,
    #[n(1)]
    pub(super) bytes: u64,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(super) digests: Vec<u8>,
}

/// Where the state of a manifest comes from.
pub(super) struct Origin {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    pub(super) cluster_version: u32,
    pub(super) applied: crate::state::Applied,
}

impl Manifest {
    pub(super) fn new(origin: Origin, files: Vec<File>) -> Self {
        let Origin { cluster, node, cluster_version, applied } = origin;
        Self { cluster, node, cluster_version, index: applied.index, meta: applied.meta, files }
    }

    /// Returns the cluster whose state it is.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns the node that took the snapshot.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns the cluster version under which it was taken.
    #[must_use]
    pub fn cluster_version(&self) -> u32 {
        self.cluster_version
    }

    /// Returns the index of the last entry in it.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Returns what the consensus library keeps with the last entry.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        &self.meta
    }

    /// Returns the length of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Returns the number of chunks of all files together.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.files.iter().map(File::chunks).sum()
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// Refuses the snapshot of another cluster.
    pub(crate) fn check_cluster(&self, expected: ClusterId) -> Result<(), SnapshotError> {
        if self.cluster == expected {
            return Ok(());
        }
        Err(InvalidManifest::Foreign { found: self.cluster, expected }.into())
    }

    /// Refuses files that are missing or of another length.
    pub(super) fn check_lengths(&self, folder: &Path) -> Result<(), SnapshotError> {
        for file in &self.files {
            let path = folder.join(&file.name);
            let bytes = fs::metadata(&path).at("look at", &path)?.len();
            if bytes != file.bytes {
                return Err(InvalidManifest::Length {
                    file: file.name.clone(),
                    bytes: file.bytes,
                    found: bytes,
                }
                .into());
            }
        }
        Ok(())
    }

    /// Returns where a chunk is, if there is one of that number.
    pub(super) fn chunk(&self, number: u64) -> Option<ChunkAt<'_>> {
        let mut before = 0;
        for file in &self.files {
            if number - before < file.chunks() {
                return Some(file.chunk(number - before));
            }
            before += file.chunks();
        }
        None
    }

    /// Returns the bytes that are signed.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        minicbor::encode(self, &mut bytes).expect("writing to memory does not fail");
        bytes
    }

    /// Reads a manifest and checks that it can be that of a checkpoint.
    fn decode(bytes: &[u8]) -> Result<Self, InvalidManifest> {
        let cbor = bytes.strip_prefix(MAGIC).ok_or(InvalidManifest::Format)?;
        let manifest: Self = minicbor::decode(cbor).map_err(InvalidManifest::Encoding)?;
        limit("files", manifest.files.len(), FILES_MAX)?;
        let mut names: Vec<_> = manifest.files().collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        if let Some(name) = names.into_iter().find(|name| !is_checkpoint_file(name)).or(twice) {
            return Err(InvalidManifest::FileName(name.to_owned()));
        }
        manifest.files.iter().try_for_each(File::check)?;
        Ok(manifest)
    }
}

impl File {
    pub(super) fn chunks(&self) -> u64 {
        self.bytes.div_ceil(CHUNK_BYTES as u64)
    }

    fn check(&self) -> Result<(), InvalidManifest> {
        if u64::try_from(self.digests.len()).ok() == self.chunks().checked_mul(DIGEST_BYTES as u64)
        {
            return Ok(());
        }
        let chunks = self.digests.len() / DIGEST_BYTES;
        Err(InvalidManifest::Checksums { file: self.name.clone(), bytes: self.bytes, chunks })
    }

    fn chunk(&self, within: u64) -> ChunkAt<'_> {
        let offset = within * CHUNK_BYTES as u64;
        let at = within as usize * DIGEST_BYTES;
        ChunkAt {
            file: &self.name,
            offset,
            len: (self.bytes - offset).min(CHUNK_BYTES as u64) as usize,
            digest: &self.digests[at..at + DIGEST_BYTES],
        }
    }
}

/// Where a chunk is and what it must be.
pub(super) struct ChunkAt<'a> {
    pub(super) file: &'a str,
    /// In bytes, within the file.
    pub(super) offset: u64,
    pub(super) len: usize,
    digest: &'a [u8],
}

impl ChunkAt<'_> {
    pub(super) fn fits(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.len && digest_of(bytes).as_ref() == self.digest
    }

    /// Says whether the file ends with this chunk.
    pub(super) fn ends(&self, manifest: &Manifest) -> bool {
        let file = manifest.files.iter().find(|file| file.name == self.file);
        file.is_some_and(|file| self.offset + self.len as u64 == file.bytes)
    }
}

pub(super) fn digest_of(chunk: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, chunk)
}

/// Says whether a file of this name belongs into a snapshot. A list of what is allowed: an OPTIONS
/// file could make RocksDB load what it names, and a path could lead elsewhere.
pub(super) fn is_checkpoint_file(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match name.split_once('.') {
        Some((number, "sst" | "log")) => is_number(number),
        Some(_) => false,
        None => name == "CURRENT" || name.strip_prefix("MANIFEST-").is_some_and(is_number),
    }
}

fn limit(what: &'static str, found: usize, max: usize) -> Result<(), InvalidManifest> {
    if found > max { Err(InvalidManifest::TooLarge { what, found, max }) } else { Ok(()) }
}

/// A manifest's bytes with their signature, to be stored and sent as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    manifest: Vec<u8>,
    signature: Vec<u8>,
}

impl Signed {
    pub(super) fn new(manifest: Vec<u8>, signature: Vec<u8>) -> Self {
        Self { manifest, signature }
    }

    /// Returns the bytes as they are stored and sent: a record ([`crate::record`]) of the manifest's
    /// length (4, big-endian), the manifest and the signature.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let len = u32::try_from(self.manifest.len()).expect("checked when it was made");
        let payload = [&len.to_be_bytes()[..], &self.manifest, &self.signature].concat();
        record::frame(SIGNED_KEY, &payload)
    }

    /// Reads what [`Self::encode`] wrote, with the manifest in it. The signature is not judged yet.
    ///
    /// # Errors
    /// Any [`InvalidManifest`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, Manifest), InvalidManifest> {
        limit("bytes of manifest", bytes.len(), MANIFEST_BYTES_MAX)?;
        let payload = record::unframe("manifest", SIGNED_KEY, bytes)?;
        let (len, rest) = payload.split_first_chunk::<4>().ok_or(InvalidManifest::Format)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| InvalidManifest::Format)?;
        let (manifest, signature) = rest.split_at_checked(len).ok_or(InvalidManifest::Format)?;
        let signed = Self::new(manifest.to_vec(), signature.to_vec());
        let manifest = Manifest::decode(manifest)?;
        Ok((signed, manifest))
    }

    pub(super) fn authenticate<E>(
        &self,
        manifest: &Manifest,
        verify: impl FnOnce(&Manifest, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), SnapshotError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        verify(manifest, &self.manifest, &self.signature).map_err(|source| {
            SnapshotError::Signature { name: self.name(manifest), source: source.into() }
        })
    }

    /// Returns the name of the snapshot's folder: its last entry, and what tells apart two that end
    /// with the same one.
    pub(super) fn name(&self, manifest: &Manifest) -> String {
        let digest = digest_of(&self.manifest);
        let tag: String = digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:020}-{tag}", manifest.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: Vec<File>) -> Manifest {
        let origin = Origin {
            cluster: ClusterId::from_bytes([3; 16]),
            node: NodeId::new(2).unwrap(),
            cluster_version: 1,
            applied: crate::state::Applied { index: 77, meta: b"meta".to_vec() },
        };
        Manifest::new(origin, files)
    }

    fn file(name: &str, bytes: u64) -> File {
        let chunks = bytes.div_ceil(CHUNK_BYTES as u64) as usize;
        File { name: name.into(), bytes, digests: vec![0; chunks * DIGEST_BYTES] }
    }

    fn decode(manifest: &Manifest) -> Result<Manifest, InvalidManifest> {
        let signed = Signed::new(manifest.encode(), b"signature".to_vec());
        Signed::decode(&signed.encode()).map(|(back, manifest)| {
            assert_eq!(back, signed);
            manifest
        })
    }

    #[test]
    fn manifest_comes_back() {
        let manifest = manifest(vec![file("CURRENT", 16), file("000009.sst", 3 << 20)]);
        assert_eq!(decode(&manifest).unwrap(), manifest);
    }

    #[test]
    fn chunks_are_counted_through_all_files() {
        let manifest = manifest(vec![
            file("000007.log", 0),
            file("000008.sst", (1 << 20) + 5),
            file("CURRENT", 9),
        ]);
        assert_eq!(manifest.chunks(), 3);
        let places: Vec<_> = (0..4)
            .map(|n| manifest.chunk(n).map(|at| (at.file, at.offset, at.len, at.ends(&manifest))))
            .collect();
        assert_eq!(
            places,
            [
                Some(("000008.sst", 0, 1 << 20, false)),
                Some(("000008.sst", 1 << 20, 5, true)),
                Some(("CURRENT", 0, 9, true)),
                None,
            ]
        );
    }

    #[test]
    fn names_that_no_checkpoint_has_are_refused() {
        for name in [
            "OPTIONS-000007",
            "../CURRENT",
            "/etc/passwd",
            "a.sst",
            ".sst",
            "1.sst/x",
            "1.so",
            "",
            "MANIFEST-",
            "IDENTITY",
            "manifest",
            "1.2.sst",
        ] {
            let refused = decode(&manifest(vec![file(name, 1)])).unwrap_err();
            assert!(matches!(refused, InvalidManifest::FileName(_)), "{name}: {refused}");
        }
        decode(&manifest(vec![file("CURRENT", 1), file("CURRENT", 1)])).unwrap_err();
    }

    #[test]
    fn checksums_that_do_not_fit_the_length_are_refused() {
        for bytes in [0, (1 << 20) + 1, u64::MAX] {
            let odd = File { bytes, ..file("CURRENT", 5) };
            let refused = decode(&manifest(vec![odd])).unwrap_err();
            assert!(matches!(refused, InvalidManifest::Checksums { .. }), "{refused}");
        }
    }

    #[test]
    fn torn_or_strange_bytes_are_refused() {
        let good = Signed::new(manifest(vec![file("CURRENT", 1)]).encode(), vec![1; 64]).encode();
        for len in 0..good.len() {
            Signed::decode(&good[..len]).unwrap_err();
        }
        let unframed = |payload: &[u8]| Signed::decode(&record::frame(SIGNED_KEY, payload));
        unframed(&[0, 0, 0, 9, 1]).unwrap_err();
        unframed(b"\0\0\0\x08TWKSNAP\x02").unwrap_err();
        unframed(b"\0\0\0\x08TWKSNAP\x01").unwrap_err();
    }
}
