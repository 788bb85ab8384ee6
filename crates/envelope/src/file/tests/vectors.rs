//! Files made by Python's hmac and hashlib and pyca's AES-GCM (`tests/vectors/file.py`), without our code.

use ring::digest;
use serde::Deserialize;

use super::{content, opened_with, seal_chunks};
use crate::OpenKey;
use crate::file::chunk::{FileKey, Part};
use crate::file::{ChunkSize, Metadata, Modified, Sealer};
use crate::tests::vectors::Hex;

#[derive(Deserialize)]
struct Vectors {
    data_key: Hex,
    salt: Hex,
    wrapped_key: Hex,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    name: String,
    chunk_size_exponent: u8,
    metadata: Hex,
    plaintext_bytes: usize,
    file_key: Hex,
    commitment: Hex,
    sha256: Hex,
    file: Option<Hex>,
}

fn load() -> (OpenKey, Vectors) {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../../../tests/vectors/file.json")).unwrap();
    (vectors.data_key.key(), vectors)
}

fn seal(key: &OpenKey, vectors: &Vectors, file: &File) -> Vec<u8> {
    let chunk_size = ChunkSize::from_exponent(file.chunk_size_exponent).unwrap();
    let metadata = Metadata::decode(&file.metadata.0).unwrap();
    let salt = vectors.salt.array();
    let wrapped_key = &vectors.wrapped_key.0;
    let begun = Sealer::begin_with(key, wrapped_key, chunk_size, &metadata, &salt);
    let (sealer, preface) = begun.unwrap();
    seal_chunks(sealer, preface, &content(file.plaintext_bytes))
}

#[test]
fn files_seal_to_the_published_bytes_and_open() {
    let (key, vectors) = load();
    assert_eq!(vectors.files.len(), 6);
    for file in &vectors.files {
        let sealed = seal(&key, &vectors, file);
        if let Some(published) = &file.file {
            assert_eq!(hex::encode(&sealed), hex::encode(&published.0), "{}", file.name);
        }
        let sum = digest::digest(&digest::SHA256, &sealed);
        assert_eq!(hex::encode(sum), hex::encode(&file.sha256.0), "{}", file.name);
        let (out, metadata) = opened_with(&key, &sealed);
        assert!(out == content(file.plaintext_bytes), "{}", file.name);
        assert_eq!(metadata.unwrap().encode(), file.metadata.0, "{}", file.name);
    }
}

#[test]
fn file_keys_are_the_published_ones() {
    let (key, vectors) = load();
    for file in &vectors.files {
        let sealed = seal(&key, &vectors, file);
        let header = &sealed[..46 + vectors.wrapped_key.0.len()];
        let derived = FileKey::derive(&key, header);
        assert_eq!(derived.commitment(), file.commitment.0, "{}", file.name);
        // What one key seals the other opens: the file keys are the same.
        let published = aead(&file.file_key.0);
        let mut part = b"part".to_vec();
        derived.seal(Part::Last(3), &mut part);
        let nonce = ring::aead::Nonce::assume_unique_for_key(Part::Last(3).nonce());
        let opened = published.open_in_place(nonce, ring::aead::Aad::empty(), &mut part);
        assert_eq!(opened.unwrap(), b"part", "{}", file.name);
    }
}

fn aead(key: &[u8]) -> ring::aead::LessSafeKey {
    ring::aead::LessSafeKey::new(
        ring::aead::UnboundKey::new(&ring::aead::AES_256_GCM, key).unwrap(),
    )
}

#[test]
fn published_metadata_is_what_the_script_was_given() {
    let (_, vectors) = load();
    let metadata = Metadata::decode(&vectors.files[1].metadata.0).unwrap();
    assert_eq!(metadata.name.unwrap().as_bytes(), b"report.pdf");
    assert_eq!(metadata.mode, Some(0o640));
    let modified = Modified { seconds: 1_800_000_000, nanos: 123_456_789 };
    assert_eq!(metadata.modified, Some(modified));
    assert_eq!(Metadata::decode(&vectors.files[0].metadata.0), Some(Metadata::default()));
}
