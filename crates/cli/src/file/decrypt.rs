//! Decrypting one file, or a bare ciphertext in one.

use std::io::Cursor;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use twinkeep_client::file::{DecryptOptions, Decrypted, Metadata, begins_file};
use twinkeep_client::{Client, v1};

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
    let ciphertext = raw::read(reader, max)
        .await
        .with_context(|| format!("cannot read {name}"))?
        .with_context(|| {
        format!(
            "{name} is not a file that Twinkeep encrypted, nor a ciphertext of at most {} KiB",
            max >> 10
        )
    })?;
    let answer = raw::open(client, key_id, pairs, ciphertext.to_vec(), file).await?;
    Ok(Decrypted {
        bytes: answer.bytes,
        metadata: Metadata::default(),
        key_id: answer.key_id,
        key_version_id: answer.key_version_id,
    })
}
