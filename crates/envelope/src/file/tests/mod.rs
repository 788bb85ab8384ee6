//! Published files, and everything that must not open.

mod refusals;
mod vectors;

use super::{
    BadChunk, ChunkSize, Malformed, Metadata, Opener, PRELUDE_LEN, Preface, Sealer, rest_len,
};
use crate::OpenKey;

const WRAPPED_KEY: [u8; 132] = [0xcb; 132];

/// Why a file did not open.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Malformed(Malformed),
    Preface(super::BadPreface),
    Chunk(BadChunk),
}

fn key() -> OpenKey {
    OpenKey::build(|bytes| bytes.fill(7))
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + (i >> 8)).to_le_bytes()[0]).collect()
}

fn sealed(content: &[u8]) -> Vec<u8> {
    let begun = Sealer::begin(&key(), &WRAPPED_KEY, ChunkSize::MIN, &Metadata::default());
    let (sealer, preface) = begun.unwrap();
    seal_chunks(sealer, preface, content)
}

fn seal_chunks(mut sealer: Sealer, mut file: Vec<u8>, content: &[u8]) -> Vec<u8> {
    let mut chunks = content.chunks(sealer.chunk_size().bytes()).peekable();
    while let Some(chunk) = chunks.next() {
        let mut chunk = chunk.to_vec();
        if chunks.peek().is_none() {
            sealer.last(&mut chunk).unwrap();
            file.extend(chunk);
            return file;
        }
        sealer.next(&mut chunk).unwrap();
        file.extend(chunk);
    }
    let mut empty = Vec::new();
    sealer.last(&mut empty).unwrap();
    file.extend(empty);
    file
}

/// Takes a file apart as a reader does; returns what had come out by the end, and how it ended.
fn opened_with(key: &OpenKey, file: &[u8]) -> (Vec<u8>, Result<Metadata, Refused>) {
    let mut out = Vec::new();
    let result = open_into(key, file, &mut out);
    (out, result)
}

fn opened(file: &[u8]) -> (Vec<u8>, Result<Metadata, Refused>) {
    opened_with(&key(), file)
}

fn open_into(key: &OpenKey, file: &[u8], out: &mut Vec<u8>) -> Result<Metadata, Refused> {
    let prelude = &file[..file.len().min(PRELUDE_LEN)];
    let len = PRELUDE_LEN + rest_len(prelude).map_err(Refused::Malformed)?;
    let preface = file[..file.len().min(len)].to_vec();
    let preface = Preface::parse(preface).map_err(Refused::Malformed)?;
    let (opener, metadata) = preface.open(key).map_err(Refused::Preface)?;
    open_chunks(opener, &file[len..], out).map_err(Refused::Chunk)?;
    Ok(metadata)
}

fn open_chunks(mut opener: Opener, mut rest: &[u8], out: &mut Vec<u8>) -> Result<(), BadChunk> {
    let size = opener.chunk_size().sealed_bytes();
    while rest.len() > size {
        let mut chunk = rest[..size].to_vec();
        rest = &rest[size..];
        take(opener.next(&mut chunk), &chunk, out)?;
    }
    let mut chunk = rest.to_vec();
    take(opener.last(&mut chunk), &chunk, out)
}

fn take(opened: Result<(), BadChunk>, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), BadChunk> {
    // Whatever is left of a refused chunk, nothing of it may be readable.
    assert!(opened.is_ok() || chunk.is_empty(), "a refused chunk is wiped");
    out.extend_from_slice(chunk);
    opened
}
