//! Decrypting one file, or a bare ciphertext in one.

use std::io::Cursor;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use twinkeep_client::file::{DecryptOptions, Decrypted, Metadata, begins_file};
use twinkeep_client::{Client, Error, begins_ciphertext, v1};

use super::places::{Source, Target};
use super::stream::{Input, Output};
use super::{Done, attributes, progress, raw};
use crate::output::plain;

/// Bytes that tell an encrypted file from a bare ciphertext.
const MAGIC_BYTES: u64 = 8;

/// Decrypts from a source to a target.
pub(super) async fn one(
    client: &Client,
    key_id: &str,
    pairs: &[v1::ContextPair],
    source: Source,
    target: Target,
    force: bool,
) -> anyhow::Result<Done> {
    let mut input = Input::open(&source)?;
    let Output { mut file, draft } = Output::open(&target, force)?;
    let (len, name) = (input.len(), source.shown());
    let mut head = Vec::new();
    let reading = (&mut input.file).take(MAGIC_BYTES).read_to_end(&mut head).await;
    reading.with_context(|| format!("cannot read {name}"))?;
    let whole_file = begins_file(&head);
    let reader = Cursor::new(head).chain(input.file);
    let decrypted = if whole_file {
        let options = DecryptOptions {
            context: pairs.to_vec(),
            key_id: key_id.to_owned(),
            progress: progress::shown(name.clone(), len),
        };
        client.decrypt_file(reader, &mut file, options).await?
    } else {
        bare(client, key_id, pairs, reader, &name, &mut file).await?
    };
    if let Some(draft) = draft {
        attributes::restore(draft.file(), &decrypted.metadata)
            .with_context(|| format!("cannot write {}", target.shown()))?;
        draft.finish(file).await?;
    }
    let stored_name = decrypted.metadata.name.as_ref();
    Ok(Done {
        input: name,
        output: target.shown(),
        bytes: decrypted.bytes,
        key_id: decrypted.key_id,
        key_version_id: decrypted.key_version_id,
        stored_name: stored_name.map(|name| plain(&String::from_utf8_lossy(name.as_bytes()))),
    })
}

async fn bare(
    client: &Client,
    key_id: &str,
    pairs: &[v1::ContextPair],
    reader: impl AsyncRead + Unpin,
    name: &str,
    file: &mut tokio::fs::File,
) -> anyhow::Result<Decrypted> {
    let max = raw::CIPHERTEXT_BYTES_MAX;
    let ciphertext = raw::read(reader, max).await.with_context(|| format!("cannot read {name}"))?;
    let ciphertext = ciphertext.with_context(|| too_long(name))?;
    // Only a key that was named may be an RSA key, whose ciphertexts look like anything.
    if !begins_ciphertext(&ciphertext) && key_id.is_empty() {
        bail!(not_encrypted(name));
    }
    let opened = raw::open(client, key_id, pairs, ciphertext.to_vec(), file).await;
    let answer = opened.map_err(|error| explained(error, name, &ciphertext))?;
    Ok(Decrypted {
        bytes: answer.bytes,
        metadata: Metadata::default(),
        key_id: answer.key_id,
        key_version_id: answer.key_version_id,
    })
}

/// What is wrong with an input that somebody else encrypted, or nobody.
fn not_encrypted(name: &str) -> String {
    format!(
        "{name} is not encrypted by Twinkeep: it begins neither as a file that `twinkeep encrypt` made nor as a \
         ciphertext of the service; add `--base64` if it is one written as text, `--key` if it is one of an RSA key"
    )
}

/// What is wrong with an input that is longer than a ciphertext is, whatever key it may be of.
fn too_long(name: &str) -> String {
    let max = raw::CIPHERTEXT_BYTES_MAX / 1024;
    format!(
        "{name} is not encrypted by Twinkeep: it does not begin as a file that `twinkeep encrypt` made, and is longer \
         than the {max} KiB that a ciphertext of the service has at most"
    )
}

/// Says of an input that did not open whether it looks like a ciphertext at all. An RSA key's may look like anything.
fn explained(error: anyhow::Error, name: &str, input: &[u8]) -> anyhow::Error {
    let called = error.chain().find_map(|cause| cause.downcast_ref());
    if begins_ciphertext(input) || !matches!(called, Some(Error::Invalid(_))) {
        return error;
    }
    error.context(format!(
        "{name} begins neither as a file that `twinkeep encrypt` made nor as a ciphertext of an AES key, and the \
         key that was named does not open it"
    ))
}

#[cfg(test)]
mod tests {
    use twinkeep_core::id::ClusterId;
    use twinkeep_pki::{Authority, Endpoints, Validity, pem};

    use super::*;

    /// Decrypts with a client that reaches nobody.
    async fn refused(key_id: &str, input: &[u8]) -> anyhow::Error {
        let validity = Validity::starting(1_800_000_000, std::time::Duration::from_secs(3600));
        let authority = Authority::<Endpoints>::create(ClusterId::from_bytes([7; 16]), validity);
        let root = pem::certificates(&[authority.unwrap().root().clone()]);
        let builder = Client::builder().endpoint("127.0.0.1:1").root(root).follow_topology(false);
        let client = builder.build().unwrap().at("127.0.0.1:1").unwrap();
        let mut file = tokio::fs::File::from_std(tempfile::tempfile().unwrap());
        bare(&client, key_id, &[], input, "notes.txt", &mut file).await.err().unwrap()
    }

    #[tokio::test]
    async fn plain_file_is_said_to_be_one_and_no_node_is_asked() {
        for plain in [&b"attack at dawn\n"[..], b"", b"eyB9"] {
            let error = format!("{:#}", refused("", plain).await);
            assert!(error.starts_with("notes.txt is not encrypted by Twinkeep: "), "{error}");
            for part in ["`twinkeep encrypt`", "`--base64`", "`--key`"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn input_that_is_too_long_is_told_the_limit_and_no_option_that_does_not_help() {
        for key_id in ["", "key-00112233445566778899aabbccddeeff"] {
            let error = refused(key_id, &[b'x'; raw::CIPHERTEXT_BYTES_MAX + 1]).await;
            let error = format!("{error:#}");
            assert!(error.contains("longer than the 128 KiB"), "{error}");
            assert!(!error.contains("--"), "{error}");
        }
    }

    #[tokio::test]
    async fn ciphertexts_go_to_the_service() {
        let error = refused("", &[0xcb; 120]).await;
        assert!(error.downcast_ref::<Error>().is_some(), "{error:#}");
        let error = refused("key-00112233445566778899aabbccddeeff", &[7; 256]).await;
        assert!(error.downcast_ref::<Error>().is_some(), "of an RSA key: {error:#}");
    }

    #[test]
    fn input_that_a_named_key_does_not_open_is_said_to_be_no_ciphertext_if_it_looks_like_none() {
        let refused = || anyhow::Error::from(Error::Invalid("it does not open".to_owned()));
        let said = format!("{:#}", explained(refused(), "notes.txt", b"attack at dawn"));
        assert!(said.starts_with("notes.txt begins neither"), "{said}");
        assert!(said.ends_with(": it does not open"), "{said}");
        let said = format!("{:#}", explained(refused(), "notes.enc", &[0xcb; 120]));
        assert_eq!(said, "it does not open");
        let other = Error::NotFound("no such key".to_owned()).into();
        assert_eq!(format!("{:#}", explained(other, "notes.txt", b"x")), "no such key");
    }
}
