//! `twinkeep encrypt` and `twinkeep decrypt`: small data from a file or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use twinkeep_client::{v1, wipe};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::output::{Format, Sink, line};

/// Largest plaintext, in bytes.
const PLAINTEXT_MAX: usize = 64 << 10;
/// Largest input of `decrypt`, in bytes: a ciphertext of the largest plaintext, in base64, and then some.
const CIPHERTEXT_MAX: usize = 128 << 10;

/// Encrypts.
#[derive(Debug, clap::Args)]
pub(crate) struct Encrypt {
    /// The key.
    #[arg(long)]
    key: String,
    /// Public words that the ciphertext is bound to: the same must be given to decrypt. They appear in the
    /// audit log. May be given several times.
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<v1::ContextPair>,
    /// File to encrypt; standard input without it.
    file: Option<PathBuf>,
    /// Writes the ciphertext as base64 text.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    sink: Sink,
}

/// Decrypts.
#[derive(Debug, clap::Args)]
pub(crate) struct Decrypt {
    /// The key; needed for RSA alone, other ciphertexts name theirs.
    #[arg(long, default_value = "", hide_default_value = true)]
    key: String,
    /// The words that the ciphertext is bound to. May be given several times.
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<v1::ContextPair>,
    /// File to decrypt; standard input without it.
    file: Option<PathBuf>,
    /// Reads the ciphertext as base64 text.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    sink: Sink,
}

fn pair(text: &str) -> Result<v1::ContextPair, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok(v1::ContextPair { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err("write KEY=VALUE, for example --context table=customers".to_owned()),
    }
}

#[derive(Debug, Serialize)]
struct Encrypted {
    key_id: String,
    key_version_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_base64: Option<String>,
}

#[derive(Debug, Serialize)]
struct Decrypted {
    key_id: String,
    key_version_id: String,
}

impl Encrypt {
    /// Encrypts and writes the ciphertext.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let json = context.format() == Format::Json;
        if !json && !self.base64 && self.sink.is_screen() {
            bail!("a ciphertext is binary: add `-o FILE` or `--base64`");
        }
        let plaintext = read(self.file.as_ref(), PLAINTEXT_MAX)?;
        let request = v1::EncryptRequest {
            key_id: self.key,
            plaintext: Bytes::from_owner(plaintext),
            encryption_context: self.pairs,
            ..Default::default()
        };
        let answer = context.client()?.encrypt(request).await?;
        let text = || STANDARD.encode(&answer.ciphertext);
        if self.sink.is_file() || !json {
            match self.base64 {
                true => self.sink.write((text() + "\n").as_bytes(), false)?,
                false => self.sink.write(&answer.ciphertext, false)?,
            }
        }
        if json {
            let ciphertext_base64 = (!self.sink.is_file()).then(text);
            let (key_id, key_version_id) = (answer.key_id, answer.key_version_id);
            line(&serde_json::to_string(&Encrypted {
                key_id,
                key_version_id,
                ciphertext_base64,
            })?)?;
        }
        Ok(())
    }
}

impl Decrypt {
    /// Decrypts and writes the plaintext.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let json = context.format() == Format::Json;
        if json && !self.sink.is_file() {
            bail!("JSON says which key decrypted, not what: add `-o FILE` for the plaintext");
        }
        let input = read(self.file.as_ref(), CIPHERTEXT_MAX)?;
        let ciphertext = if self.base64 { decode(&input)? } else { input.to_vec() };
        let request = v1::DecryptRequest {
            key_id: self.key,
            ciphertext: ciphertext.into(),
            encryption_context: self.pairs,
            ..Default::default()
        };
        let answer = context.client()?.decrypt(request).await?;
        let written = self.sink.write(&answer.plaintext, true);
        wipe(answer.plaintext);
        written?;
        if json {
            let (key_id, key_version_id) = (answer.key_id, answer.key_version_id);
            line(&serde_json::to_string(&Decrypted { key_id, key_version_id })?)?;
        }
        Ok(())
    }
}

/// Reads a file or standard input, which may hold a secret: the buffer never grows, so no copy of it is
/// left behind, and is wiped.
fn read(path: Option<&PathBuf>, max: usize) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let (name, source): (_, Box<dyn Read>) = match path {
        Some(path) => {
            let file =
                File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            (path.display().to_string(), Box::new(file))
        }
        None => ("standard input".to_owned(), Box::new(io::stdin().lock())),
    };
    let limit = max + 1;
    let mut bytes = Zeroizing::new(vec![0; limit]);
    let mut len = 0;
    let mut source = source.take(limit.try_into().unwrap_or(u64::MAX));
    loop {
        match source.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
        }
    }
    if len > max {
        bail!(
            "{name} holds more than {} KiB; encrypt larger data yourself under a data key",
            max >> 10
        );
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn decode(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD
        .decode(digits)
        .context("the input is not base64; leave `--base64` out for binary input")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_pairs_are_split_at_the_first_sign() {
        let read = pair("table=a=b").unwrap();
        assert_eq!((read.key.as_str(), read.value.as_str()), ("table", "a=b"));
        assert_eq!(pair("empty=").unwrap().value, "");
        assert!(pair("=value").is_err());
        assert!(pair("word").is_err());
    }

    #[test]
    fn input_over_the_limit_is_refused_before_it_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        std::fs::write(&path, vec![7; PLAINTEXT_MAX]).unwrap();
        assert_eq!(read(Some(&path), PLAINTEXT_MAX).unwrap().len(), PLAINTEXT_MAX);
        std::fs::write(&path, vec![7; PLAINTEXT_MAX + 1]).unwrap();
        let error = read(Some(&path), PLAINTEXT_MAX).unwrap_err().to_string();
        assert!(error.contains("more than 64 KiB"), "{error}");
    }

    #[test]
    fn base64_is_read_across_lines_and_binary_is_told_apart() {
        assert_eq!(decode(b"aGVs\nbG8=\n").unwrap(), b"hello");
        assert!(decode(&[0xce, 1, 1]).unwrap_err().to_string().contains("--base64"));
    }
}
