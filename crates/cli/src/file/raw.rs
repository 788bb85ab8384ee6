//! Bare ciphertexts: what the service makes of up to 64 KiB, without a file around it.

use std::io;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use twinkeep_client::{Client, v1, wipe};
use zeroize::Zeroizing;

use super::places::{Places, Source, Target};
use super::stream::{Input, Output};
use super::{Direction, attributes, interrupt};
use crate::context::Context;
use crate::output::{Format, line};

/// Largest plaintext, in bytes.
const PLAINTEXT_BYTES_MAX: usize = 64 << 10;
/// Largest input of `decrypt`, in bytes: a ciphertext of the largest plaintext, in base64, and then some.
pub(super) const CIPHERTEXT_BYTES_MAX: usize = 128 << 10;

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

/// Which key opened a ciphertext, and how many bytes came out.
pub(super) struct Opened {
    pub(super) bytes: u64,
    pub(super) key_id: String,
    pub(super) key_version_id: String,
}

/// Has the service encrypt, and writes the ciphertext, as text where asked.
pub(crate) async fn encrypt(
    context: &Context,
    key_id: String,
    pairs: Vec<v1::ContextPair>,
    places: &Places,
    as_text: bool,
) -> anyhow::Result<()> {
    let json = context.format() == Format::Json;
    let (source, target) = places.bare()?;
    if !json && !as_text {
        target.check(Direction::Encrypt, false)?;
    }
    let in_json = json && target == Target::Stdout;
    let client = context.client()?;
    let work = async {
        let plaintext = plaintext(&source).await?;
        let answer = encrypted(&client, key_id, pairs, plaintext).await?;
        let text = || STANDARD.encode(&answer.ciphertext);
        if !in_json {
            let bytes = if as_text { (text() + "\n").into() } else { answer.ciphertext.clone() };
            put(&target, places.force(), &bytes).await?;
        }
        let ciphertext_base64 = in_json.then(text);
        Ok(Encrypted {
            key_id: answer.key_id,
            key_version_id: answer.key_version_id,
            ciphertext_base64,
        })
    };
    let done: anyhow::Result<_> = interrupt::until(work).await;
    report(json, &done?)
}

/// Decrypts a ciphertext that is written as base64 text.
pub(crate) async fn decrypt_text(
    context: &Context,
    key_id: String,
    pairs: Vec<v1::ContextPair>,
    places: &Places,
) -> anyhow::Result<()> {
    let json = context.format() == Format::Json;
    let (source, target) = places.bare()?;
    target.check(Direction::Decrypt, json)?;
    let client = context.client()?;
    let work = async {
        let name = source.shown();
        let text = read(Input::open(&source)?.file, CIPHERTEXT_BYTES_MAX)
            .await
            .with_context(|| format!("cannot read {name}"))?
            .with_context(|| format!("{name} is too long for a ciphertext as text"))?;
        let ciphertext = decode(&text)?;
        let Output { mut file, draft } = Output::open(&target, places.force())?;
        let opened = open(&client, &key_id, &pairs, ciphertext, &mut file).await?;
        if let Some(draft) = draft {
            draft.finish(file).await?;
        }
        Ok(Decrypted { key_id: opened.key_id, key_version_id: opened.key_version_id })
    };
    let done: anyhow::Result<_> = interrupt::until(work).await;
    report(json, &done?)
}

fn report(json: bool, done: &impl Serialize) -> anyhow::Result<()> {
    if json { line(&serde_json::to_string(done)?) } else { Ok(()) }
}

async fn plaintext(source: &Source) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let name = source.shown();
    let plaintext = read(Input::open(source)?.file, PLAINTEXT_BYTES_MAX).await;
    plaintext.with_context(|| format!("cannot read {name}"))?.with_context(|| {
        format!(
            "{name} holds more than {} KiB: leave `--raw` and `--base64` out, files have any size",
            PLAINTEXT_BYTES_MAX >> 10
        )
    })
}

async fn encrypted(
    client: &Client,
    key_id: String,
    encryption_context: Vec<v1::ContextPair>,
    plaintext: Zeroizing<Vec<u8>>,
) -> Result<v1::EncryptResponse, twinkeep_client::Error> {
    let request = v1::EncryptRequest {
        key_id,
        plaintext: Bytes::from_owner(plaintext),
        encryption_context,
        ..Default::default()
    };
    client.encrypt(request).await
}

/// Has the service decrypt, and writes the plaintext.
pub(super) async fn open(
    client: &Client,
    key_id: &str,
    pairs: &[v1::ContextPair],
    ciphertext: Vec<u8>,
    file: &mut File,
) -> anyhow::Result<Opened> {
    let request = v1::DecryptRequest {
        key_id: key_id.to_owned(),
        ciphertext: ciphertext.into(),
        encryption_context: pairs.to_vec(),
        ..Default::default()
    };
    let answer = client.decrypt(request).await?;
    let written = async {
        file.write_all(&answer.plaintext).await?;
        file.flush().await
    };
    let written = written.await;
    let bytes = answer.plaintext.len() as u64;
    wipe(answer.plaintext);
    written.context("the plaintext cannot be written")?;
    Ok(Opened { bytes, key_id: answer.key_id, key_version_id: answer.key_version_id })
}

/// Reads everything, which may be a secret: the buffer never grows, so no copy of it is left behind, and is
/// wiped. `None` if there is more than `max`.
pub(super) async fn read(
    mut reader: impl AsyncRead + Unpin,
    max: usize,
) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut bytes = Zeroizing::new(vec![0; max + 1]);
    let mut len = 0;
    while len < bytes.len() {
        match reader.read(&mut bytes[len..]).await? {
            0 => break,
            count => len += count,
        }
    }
    if len > max {
        return Ok(None);
    }
    bytes.truncate(len);
    Ok(Some(bytes))
}

async fn put(target: &Target, force: bool, ciphertext: &[u8]) -> anyhow::Result<()> {
    let Output { mut file, draft } = Output::open(target, force)?;
    let cannot = || format!("cannot write {}", target.shown());
    file.write_all(ciphertext).await.with_context(cannot)?;
    file.flush().await.with_context(cannot)?;
    let Some(draft) = draft else { return Ok(()) };
    attributes::show_encrypted(draft.file(), None).with_context(cannot)?;
    draft.finish(file).await
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

    #[tokio::test]
    async fn input_over_the_limit_is_refused_before_it_is_sent() {
        let input = vec![7; PLAINTEXT_BYTES_MAX + 1];
        let within = &input[..PLAINTEXT_BYTES_MAX];
        let read_all = read(within, PLAINTEXT_BYTES_MAX).await.unwrap();
        assert_eq!(read_all.unwrap().len(), PLAINTEXT_BYTES_MAX);
        assert!(read(input.as_slice(), PLAINTEXT_BYTES_MAX).await.unwrap().is_none());
    }

    #[test]
    fn base64_is_read_across_lines_and_binary_is_told_apart() {
        assert_eq!(decode(b"aGVs\nbG8=\n").unwrap(), b"hello");
        assert!(decode(&[0xce, 1, 1]).unwrap_err().to_string().contains("--base64"));
    }
}
