//! Encrypting one file.

use std::io::ErrorKind;

use anyhow::{Context as _, anyhow};
use twinkeep_client::file::{EncryptError, EncryptOptions, Metadata};
use twinkeep_client::{Client, v1};

use super::places::{Source, Target};
use super::stream::{Input, Output};
use super::{Done, attributes, progress};

/// Encrypts from a source to a target.
pub(super) async fn one(
    client: &Client,
    key_id: &str,
    pairs: &[v1::ContextPair],
    source: Source,
    target: Target,
    force: bool,
) -> anyhow::Result<Done> {
    let input = Input::open(&source)?;
    let Output { mut file, draft } = Output::open(&target, force)?;
    let metadata = match (&source, &input.metadata) {
        (Source::File { path, .. }, Some(lying)) => attributes::noted(path, lying),
        _ => Metadata::default(),
    };
    let options = EncryptOptions {
        context: pairs.to_vec(),
        metadata,
        progress: progress::shown(source.shown(), input.len()),
        ..EncryptOptions::default()
    };
    let lying = input.metadata;
    let encrypted = client.encrypt_file(key_id, input.file, &mut file, options).await;
    let encrypted = encrypted.map_err(unread)?;
    if let Some(draft) = draft {
        attributes::show_encrypted(draft.file(), lying.as_ref())
            .with_context(|| format!("cannot write {}", target.shown()))?;
        draft.finish(file).await?;
    }
    Ok(Done {
        input: source.shown(),
        output: target.shown(),
        bytes: encrypted.bytes,
        key_id: encrypted.key_id,
        key_version_id: encrypted.key_version_id,
        stored_name: None,
    })
}

/// A reader who leaves has seen enough of other commands; half an encrypted file is none.
fn unread(error: EncryptError) -> anyhow::Error {
    match error {
        EncryptError::Write(cause) if cause.kind() == ErrorKind::BrokenPipe => {
            anyhow!("standard output was closed before the file was whole")
        }
        error => error.into(),
    }
}
