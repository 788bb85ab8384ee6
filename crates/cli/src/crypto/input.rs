//! What a call is made for: files, or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use twinkeep_client::v1;
use zeroize::Zeroizing;

/// Largest message or plaintext, in bytes.
pub(super) const MESSAGE_MAX: usize = 64 << 10;
/// Largest ciphertext, in bytes: that of the largest plaintext, in base64, and then some.
pub(super) const CIPHERTEXT_MAX: usize = 128 << 10;
/// Largest signature or code, in bytes, in base64.
pub(super) const SIGNATURE_MAX: usize = 2 << 10;

/// One input.
pub(super) struct Input {
    /// The file, or `-` for standard input.
    pub(super) name: PathBuf,
    pub(super) bytes: Bytes,
}

/// Reads each file, or standard input if there is none.
pub(super) fn all(files: Vec<PathBuf>, max: usize, base64: bool) -> anyhow::Result<Vec<Input>> {
    let files = if files.is_empty() { vec![PathBuf::from("-")] } else { files };
    if files.iter().filter(|file| is_stdin(file)).count() > 1 {
        bail!("standard input, `-`, can be read once");
    }
    let read = |name: PathBuf| {
        let bytes = one(&name, max, base64)?;
        Ok(Input { name, bytes })
    };
    files.into_iter().map(read).collect()
}

/// Reads one file, or standard input for `-`. The buffer never grows, so that no copy of a secret is left
/// behind, and is wiped.
pub(super) fn one(path: &Path, max: usize, base64: bool) -> anyhow::Result<Bytes> {
    let (name, source): (_, Box<dyn Read>) = match is_stdin(path) {
        true => ("standard input".to_owned(), Box::new(io::stdin().lock())),
        false => {
            let file =
                File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            (path.display().to_string(), Box::new(file))
        }
    };
    let mut bytes = Zeroizing::new(vec![0; max + 1]);
    let len = fill(source, &mut bytes).with_context(|| format!("cannot read {name}"))?;
    if len > max {
        bail!(
            "{name} holds more than {} KiB; for larger files there are `twinkeep encrypt`, and `--digest` to sign",
            max >> 10
        );
    }
    bytes.truncate(len);
    match base64 {
        true => decode(&bytes).with_context(|| format!("{name} is not base64")).map(Bytes::from),
        false => Ok(Bytes::from_owner(bytes)),
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn fill(mut source: impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < bytes.len() {
        match source.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn decode(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(digits).context("leave `--base64` out for binary input")
}

/// Returns a file's name with one more ending: `report.pdf` has its signature in `report.pdf.sig`.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Reads a pair of an encryption context.
pub(super) fn pair(text: &str) -> Result<v1::ContextPair, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok(v1::ContextPair { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err("write KEY=VALUE, for example table=customers".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_over_the_limit_is_refused_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        std::fs::write(&path, vec![7; MESSAGE_MAX]).unwrap();
        assert_eq!(one(&path, MESSAGE_MAX, false).unwrap().len(), MESSAGE_MAX);
        std::fs::write(&path, vec![7; MESSAGE_MAX + 1]).unwrap();
        let error = one(&path, MESSAGE_MAX, false).unwrap_err().to_string();
        assert!(error.contains("more than 64 KiB") && error.contains("--digest"), "{error}");
    }

    #[test]
    fn base64_is_read_across_lines_and_binary_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        std::fs::write(&path, "aGVs\nbG8=\n").unwrap();
        assert_eq!(one(&path, 100, true).unwrap(), "hello");
        std::fs::write(&path, [0xce, 1, 1]).unwrap();
        let error = format!("{:#}", one(&path, 100, true).unwrap_err());
        assert!(error.contains("input is not base64: leave `--base64` out"), "{error}");
    }

    #[test]
    fn standard_input_is_read_once() {
        let twice = vec![PathBuf::from("-"), PathBuf::from("-")];
        assert!(all(twice, 10, false).is_err());
    }

    #[test]
    fn pairs_are_split_at_the_first_sign_and_need_a_key() {
        let read = pair("table=a=b").unwrap();
        assert_eq!((read.key.as_str(), read.value.as_str()), ("table", "a=b"));
        assert!(pair("=value").is_err() && pair("word").is_err());
        assert_eq!(beside(Path::new("a/b.pdf"), "sig"), Path::new("a/b.pdf.sig"));
    }
}
