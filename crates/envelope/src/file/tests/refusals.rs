//! What must not open, and how much comes out before it is noticed.

use proptest::prelude::*;
use proptest::sample::Index;

use super::{Refused, content, key, open_into, opened, opened_with, sealed};
use crate::OpenKey;
use crate::file::{
    BadChunk, BadPreface, ChunkSize, Malformed, Metadata, PREFACE_LEN_MAX, PRELUDE_LEN, SealError,
    Sealer, WRAPPED_KEY_LEN_MAX, rest_len,
};

const CHUNK: usize = 1 << 16;
const SEALED: usize = CHUNK + 16;
/// Length of the preface with the wrapped key of these tests.
const PREFACE: usize = 382 + super::WRAPPED_KEY.len();

fn refused(file: &[u8]) -> (usize, Refused) {
    let (out, result) = opened(file);
    (out.len(), result.unwrap_err())
}

fn malformed(file: &[u8]) -> Malformed {
    match refused(file) {
        (0, Refused::Malformed(malformed)) => malformed,
        other => panic!("{other:?}"),
    }
}

fn chunk(file: &[u8]) -> (usize, BadChunk) {
    match refused(file) {
        (len, Refused::Chunk(bad)) => (len, bad),
        other => panic!("{other:?}"),
    }
}

fn offset(chunk: usize) -> u64 {
    (PREFACE + chunk * SEALED) as u64
}

#[test]
fn files_of_sizes_around_the_chunk_bounds_come_back() {
    for chunks in 0..3 {
        for len in [chunks * CHUNK, chunks * CHUNK + 1, (chunks + 1) * CHUNK - 1] {
            let (file, content) = (sealed(&content(len)), content(len));
            let count = len.div_ceil(CHUNK).max(1);
            assert_eq!(file.len(), PREFACE + len + 16 * count, "{len} bytes");
            let (out, result) = opened(&file);
            assert_eq!(result, Ok(Metadata::default()), "{len} bytes");
            assert!(out == content, "{len} bytes");
        }
    }
}

#[test]
fn file_cut_between_chunks_is_known_to_be_cut_short() {
    let file = sealed(&content(3 * CHUNK + 10));
    for kept in 1..=3 {
        let cut = &file[..PREFACE + kept * SEALED];
        let here = BadChunk::Truncated { chunk: kept as u64, offset: offset(kept) };
        assert_eq!(chunk(cut), ((kept - 1) * CHUNK, here), "{kept} chunks");
    }
    let none = BadChunk::Truncated { chunk: 0, offset: offset(0) };
    assert_eq!(chunk(&file[..PREFACE]), (0, none));
}

#[test]
fn file_cut_within_a_chunk_gives_the_chunks_before_alone() {
    let file = sealed(&content(2 * CHUNK + 10));
    for (len, whole) in [
        (PREFACE + 1, 0),
        (PREFACE + SEALED - 1, 0),
        (PREFACE + SEALED + 1, 1),
        (PREFACE + SEALED + 15, 1),
        (file.len() - 1, 2),
    ] {
        let end = BadChunk::End { chunk: whole as u64, offset: offset(whole) };
        assert_eq!(chunk(&file[..len]), (whole * CHUNK, end), "{len} bytes");
    }
}

#[test]
fn file_cut_within_the_header_is_cut_short() {
    let file = sealed(b"content");
    for len in 1..PREFACE {
        assert_eq!(malformed(&file[..len]), Malformed::TooShort, "{len} bytes");
    }
    assert_eq!(malformed(&[]), Malformed::Magic);
}

#[test]
fn appended_bytes_are_refused() {
    for (len, behind) in [(0, 1), (10, 1), (10, SEALED), (CHUNK, 1), (CHUNK, SEALED)] {
        let file = [sealed(&content(len)), vec![0; behind]].concat();
        let (out, _) = chunk(&file);
        assert_eq!(out, 0, "{behind} bytes behind {len}");
    }
    // Also when what is appended is a good last chunk, the file's own.
    let file = sealed(&content(2 * CHUNK));
    let twice = [file.as_slice(), &file[PREFACE + SEALED..]].concat();
    let here = BadChunk::Damaged { chunk: 1, offset: offset(1) };
    assert_eq!(chunk(&twice), (CHUNK, here));
}

#[test]
fn chunks_in_another_order_are_refused() {
    let file = sealed(&content(4 * CHUNK));
    let chunks: Vec<_> = file[PREFACE..].chunks(SEALED).collect();
    for order in [[1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2], [3, 1, 2, 0], [0, 0, 2, 3]] {
        let moved: Vec<_> = order.iter().map(|number| chunks[*number]).collect();
        let moved = [&file[..PREFACE], &moved.concat()].concat();
        let first = (0..4).find(|at| order[*at] != *at).unwrap();
        let (out, _) = chunk(&moved);
        assert_eq!(out, first * CHUNK, "{order:?}");
    }
}

#[test]
fn missing_chunk_is_refused() {
    let file = sealed(&content(3 * CHUNK));
    let without = [&file[..PREFACE + SEALED], &file[PREFACE + 2 * SEALED..]].concat();
    let end = BadChunk::End { chunk: 1, offset: offset(1) };
    assert_eq!(chunk(&without), (CHUNK, end));
}

#[test]
fn chunk_of_another_file_under_the_same_data_key_is_refused() {
    // The same content and the same data key: only the salts differ.
    let (one, other) = (sealed(&content(3 * CHUNK)), sealed(&content(3 * CHUNK)));
    for number in 0..3 {
        let at = PREFACE + number * SEALED;
        let mut mixed = one.clone();
        mixed[at..at + SEALED].copy_from_slice(&other[at..at + SEALED]);
        let (out, _) = chunk(&mixed);
        assert_eq!(out, number * CHUNK, "chunk {number}");
    }
    let mixed = [&other[..PREFACE], &one[PREFACE..]].concat();
    assert_eq!(chunk(&mixed).0, 0);
}

#[test]
fn each_bit_flip_in_front_of_the_chunks_is_refused() {
    let file = sealed(b"content");
    for bit in 0..PREFACE * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (out, result) = opened(&flipped);
        assert!(out.is_empty() && result.is_err(), "bit {bit}");
    }
}

#[test]
fn each_bit_flip_of_a_chunk_is_refused() {
    let file = sealed(b"content");
    for bit in PREFACE * 8..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let end = BadChunk::End { chunk: 0, offset: offset(0) };
        assert_eq!(chunk(&flipped), (0, end), "bit {bit}");
    }
}

#[test]
fn what_is_wrong_with_a_header_is_said() {
    let file = sealed(b"content");
    let with = |at: usize, byte| {
        let mut changed = file.clone();
        changed[at] = byte;
        malformed(&changed)
    };
    assert_eq!(malformed(b"age-encryption.org/v1"), Malformed::Magic);
    assert_eq!(with(0, 0xcb), Malformed::Magic);
    assert_eq!(with(7, b'F'), Malformed::Magic);
    assert_eq!(with(8, 2), Malformed::Version(2));
    assert_eq!(with(9, 0x10), Malformed::Suite(0x10));
    assert_eq!(with(10, 15), Malformed::ChunkSize(15));
    assert_eq!(with(10, 23), Malformed::ChunkSize(23));
    assert_eq!(with(11, 1), Malformed::Flags(1));
    assert_eq!(with(12, 0xff), Malformed::WrappedKeyLen(0xff84));
    let mut without_key = file.clone();
    without_key[12..14].fill(0);
    assert_eq!(malformed(&without_key), Malformed::WrappedKeyLen(0));
}

#[test]
fn length_that_a_header_claims_is_bounded() {
    let mut prelude = sealed(b"")[..PRELUDE_LEN].to_vec();
    let max = u16::try_from(WRAPPED_KEY_LEN_MAX).unwrap();
    prelude[12..14].copy_from_slice(&max.to_be_bytes());
    assert_eq!(PRELUDE_LEN + rest_len(&prelude).unwrap(), PREFACE_LEN_MAX);
    prelude[12..14].copy_from_slice(&(max + 1).to_be_bytes());
    assert_eq!(rest_len(&prelude), Err(Malformed::WrappedKeyLen(1025)));
}

#[test]
fn another_data_key_is_noticed_before_any_chunk() {
    let file = sealed(b"content");
    let other = OpenKey::build(|bytes| bytes.fill(8));
    let (out, result) = opened_with(&other, &file);
    assert_eq!((out.len(), result), (0, Err(Refused::Preface(BadPreface::Damaged))));
}

#[test]
fn wrapped_key_that_does_not_fit_the_header_is_refused() {
    for len in [0, WRAPPED_KEY_LEN_MAX + 1] {
        let begun = Sealer::begin(&key(), &vec![1; len], ChunkSize::MIN, &Metadata::default());
        assert_eq!(begun.unwrap_err(), SealError::WrappedKeyLen(len));
    }
}

/// The format has one form for each plaintext; a sealer that adds an empty last chunk would make another.
#[test]
fn empty_last_chunk_behind_others_is_refused() {
    use crate::file::chunk::{FileKey, Part};
    let file = sealed(&content(2 * CHUNK));
    let derived = FileKey::derive(&key(), &file[..PRELUDE_LEN + super::WRAPPED_KEY.len()]);
    let mut second = content(2 * CHUNK)[CHUNK..].to_vec();
    derived.seal(Part::Next(1), &mut second);
    let mut third = Vec::new();
    derived.seal(Part::Last(2), &mut third);
    let longer = [&file[..PREFACE + SEALED], &second, &third].concat();
    let end = BadChunk::End { chunk: 2, offset: offset(2) };
    assert_eq!(chunk(&longer), (2 * CHUNK, end));
}

#[test]
fn two_files_never_share_their_salt() {
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        assert!(seen.insert(sealed(b"")[14..46].to_vec()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn files_open_to_what_was_sealed(len in 0..4 * CHUNK) {
        let (out, result) = opened(&sealed(&content(len)));
        prop_assert_eq!(result, Ok(Metadata::default()));
        prop_assert!(out == content(len));
    }

    #[test]
    fn damage_releases_whole_chunks_before_it_alone(at: Index, mask in 1..=u8::MAX) {
        let content = content(3 * CHUNK + 100);
        let mut file = sealed(&content);
        let at = at.index(file.len());
        file[at] ^= mask;
        let (out, result) = opened(&file);
        prop_assert!(result.is_err());
        prop_assert_eq!(out.len(), at.saturating_sub(PREFACE) / SEALED * CHUNK);
        prop_assert!(out == content[..out.len()]);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>, kept in 0..PREFACE + 40) {
        // Some with a good beginning, so that the code past the parser is reached.
        let file = [&sealed(b"some content of the file")[..kept], &bytes].concat();
        let mut out = Vec::new();
        let whole = kept == PREFACE + 40 && bytes.is_empty();
        prop_assert!(whole || open_into(&key(), &file, &mut out).is_err());
        prop_assert!(out.is_empty());
    }
}
