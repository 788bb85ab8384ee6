//! What calls brought, and where it goes: a file, a folder, a pipe, or a document.

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use twinkeep_client::{Error, v1, wipe};

use super::input::beside;
use crate::context::Context;
use crate::names::Named;
use crate::output::{Show, columns, replace, show};

/// Where bytes go.
#[derive(Debug, clap::Args)]
pub(super) struct Out {
    /// File to write instead of standard output; for several results a folder. Files are replaced as a whole.
    #[arg(short = 'o', long = "out", value_name = "FILE|FOLDER")]
    path: Option<PathBuf>,
}

/// What one call brought: what is known of it, and its bytes.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) facts: Facts,
    pub(super) bytes: Bytes,
}

/// What all results of a command have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// What the bytes are: `signature`.
    pub(super) what: &'static str,
    /// The ending of a file with them: `sig`.
    pub(super) ending: &'static str,
    /// Whether they are secret: never in a document, and in files for their owner alone.
    pub(super) secret: bool,
    /// Whether they are text.
    pub(super) text: bool,
    /// Whether to write base64.
    pub(super) base64: bool,
}

/// What is known of a result.
#[derive(Debug, Default, Serialize)]
pub(super) struct Facts {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) key_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) key_version_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) algorithm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) valid: Option<bool>,
}

impl Facts {
    /// What an answer says of its key, and of the algorithm by its number.
    pub(super) fn of(key_id: String, key_version_id: String, algorithm: Option<i32>) -> Self {
        let algorithm = algorithm.map(v1::Algorithm::name);
        Self { key_id, key_version_id, algorithm, valid: None }
    }
}

/// One input and what became of it.
#[derive(Debug, Serialize)]
struct Row {
    input: PathBuf,
    #[serde(flatten)]
    facts: Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(flatten)]
    bytes: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Bytes in a document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Shown {
    CiphertextBase64(String),
    SignatureBase64(String),
    MacBase64(String),
    PublicKeyPem(String),
}

impl Shown {
    fn of(kind: Kind, bytes: &[u8]) -> Option<Self> {
        Some(match kind.what {
            "ciphertext" => Self::CiphertextBase64(STANDARD.encode(bytes)),
            "signature" => Self::SignatureBase64(STANDARD.encode(bytes)),
            "code" => Self::MacBase64(STANDARD.encode(bytes)),
            "public key" => Self::PublicKeyPem(String::from_utf8_lossy(bytes).into_owned()),
            _ => return None,
        })
    }
}

#[derive(Debug, Serialize)]
struct Rows {
    results: Vec<Row>,
}

impl Show for Rows {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |row: &Row| {
            let result = match (row.facts.valid, &row.error) {
                (Some(true), _) => "valid".to_owned(),
                (Some(false), _) => "WRONG".to_owned(),
                (None, Some(error)) => crate::output::plain(error),
                (None, None) => "done".to_owned(),
            };
            [row.input.display().to_string(), result]
        };
        columns(out, ["INPUT", "RESULT"], &self.results.iter().map(row).collect::<Vec<_>>())
    }
}

impl Out {
    /// Refuses what cannot be delivered, before anything is called.
    pub(super) fn check(
        &self,
        context: &Context,
        kind: Kind,
        inputs: &[&Path],
    ) -> anyhow::Result<()> {
        if self.path.is_some() {
            let names: HashSet<_> = inputs.iter().map(|input| input.file_name()).collect();
            if names.len() < inputs.len() {
                bail!("several inputs have the same name; call for each, with a folder of its own");
            }
            return Ok(());
        }
        let what = kind.what;
        if context.format().is_document() {
            if kind.secret {
                bail!("a document holds no {what}: add `-o` with where it shall go");
            }
        } else if inputs.len() > 1 && !kind.text && !kind.base64 {
            bail!("several results: add `-o FOLDER`, `--base64`, or `--output json`");
        } else if !kind.text && !kind.base64 && io::stdout().is_terminal() {
            bail!("a {what} is binary: add `-o FILE` or `--base64`");
        }
        Ok(())
    }

    /// Writes all results where they belong, and fails if a call did.
    pub(super) fn deliver(
        &self,
        context: &Context,
        kind: Kind,
        results: Vec<(PathBuf, Result<Product, Error>)>,
    ) -> anyhow::Result<()> {
        let count = results.len();
        if let Some(folder) = self.path.as_ref().filter(|_| count > 1) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let document = context.format().is_document();
        let (mut rows, mut failed) = (Vec::new(), Vec::new());
        for (input, result) in results {
            let mut row =
                Row { input, facts: Facts::default(), file: None, bytes: None, error: None };
            match result {
                Ok(Product { facts, bytes }) => {
                    row.facts = facts;
                    row.file = self.file(&row.input, kind, count);
                    let written = self.write(&row, kind, &bytes, document);
                    row.bytes =
                        (document && row.file.is_none()).then(|| Shown::of(kind, &bytes)).flatten();
                    if kind.secret {
                        wipe(bytes);
                    }
                    written?;
                }
                Err(error) => {
                    row.error = Some(error.to_string());
                    if count > 1 {
                        eprintln!("twinkeep: {}: {error}", row.input.display());
                    }
                    failed.push(error);
                }
            }
            rows.push(row);
        }
        let failures = failed.len();
        match failed.into_iter().next() {
            Some(error) if count == 1 => Err(error.into()),
            Some(error) => {
                if document {
                    show(context.format(), &Rows { results: rows })?;
                }
                Err(anyhow::Error::from(error).context(format!("{failures} of {count} failed")))
            }
            None if document => show(context.format(), &Rows { results: rows }),
            None => Ok(()),
        }
    }

    /// Returns where the bytes of an input go; `None` is standard output.
    fn file(&self, input: &Path, kind: Kind, count: usize) -> Option<PathBuf> {
        let path = self.path.as_ref()?;
        let name = input.file_name().unwrap_or(input.as_os_str());
        Some(match count {
            1 => path.clone(),
            _ => path.join(beside(Path::new(name), kind.ending)),
        })
    }

    fn write(&self, row: &Row, kind: Kind, bytes: &[u8], document: bool) -> anyhow::Result<()> {
        let encoded;
        let bytes = match kind.base64 {
            true => {
                encoded = zeroize::Zeroizing::new(STANDARD.encode(bytes) + "\n");
                encoded.as_bytes()
            }
            false => bytes,
        };
        match &row.file {
            Some(path) => replace(path, bytes, if kind.secret { 0o600 } else { 0o644 }),
            None if document => Ok(()),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                Ok(out.flush()?)
            }
        }
    }
}

/// Shows which signatures or codes are right, and fails unless all are.
pub(super) fn verdicts(
    context: &Context,
    results: Vec<(PathBuf, Result<Facts, Error>)>,
) -> anyhow::Result<()> {
    let count = results.len();
    let (mut rows, mut failed, mut wrong) = (Vec::new(), None, 0);
    for (input, result) in results {
        let (facts, error) = match result {
            Ok(facts) => (facts, None),
            Err(error) => (Facts::default(), Some(failed.insert(error).to_string())),
        };
        wrong += usize::from(facts.valid == Some(false));
        rows.push(Row { input, facts, file: None, bytes: None, error });
    }
    match failed {
        Some(error) if count == 1 => return Err(error.into()),
        _ => show(context.format(), &Rows { results: rows })?,
    }
    match failed {
        Some(error) => Err(anyhow::Error::from(error).context("not all were verified")),
        None if wrong > 0 => bail!(
            "{wrong} of {count} are wrong: another message, key, version or algorithm, or a forgery"
        ),
        None => Ok(()),
    }
}
