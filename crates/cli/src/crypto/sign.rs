//! Sign and Verify.

use std::path::PathBuf;

use anyhow::bail;
use twinkeep_client::v1;

use super::ciphertext::names;
use super::input::{self, Input, MESSAGE_MAX, SIGNATURE_MAX, beside};
use super::item::by_input;
use super::product::{Facts, Kind, Out, Product, verdicts};
use crate::context::Context;
use crate::names::Named;

/// What a signature is kept in.
const ENDING: &str = "sig";

/// Signs messages.
#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    how: How,
    /// Files to sign; standard input without them.
    files: Vec<PathBuf>,
    /// Writes the signature as base64 text.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    out: Out,
}

/// Verifies signatures.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    how: How,
    /// Files that were signed; standard input without them.
    files: Vec<PathBuf>,
    /// File with the signature; without it FILE.sig for each FILE.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// The version that signed, as `twinkeep key describe` shows it; the primary one without it.
    #[arg(
        long = "key-version",
        value_name = "VERSION",
        default_value = "",
        hide_default_value = true
    )]
    version: String,
    /// Reads the signature as base64 text.
    #[arg(long)]
    base64: bool,
}

/// With what, and what the files hold.
#[derive(Debug, clap::Args)]
struct How {
    /// The key.
    #[arg(long)]
    key: String,
    /// The algorithm; the key's default without it.
    #[arg(long, value_parser = v1::Algorithm::parse)]
    algorithm: Option<v1::Algorithm>,
    /// The files hold digests, made with the algorithm's hash function, in place of messages.
    #[arg(long)]
    digest: bool,
}

impl How {
    fn message_type(&self) -> v1::MessageType {
        if self.digest { v1::MessageType::Digest } else { v1::MessageType::Raw }
    }
}

impl Sign {
    /// Signs and writes the signatures.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let kind = Kind {
            what: "signature",
            ending: ENDING,
            secret: false,
            text: false,
            base64: self.base64,
        };
        self.out.check(context, kind, &names(&self.files))?;
        let inputs = input::all(self.files, MESSAGE_MAX, false)?;
        let request = |input: &Input| {
            Ok(v1::SignRequest {
                key_id: self.how.key.clone(),
                message: input.bytes.clone(),
                message_type: self.how.message_type().into(),
                algorithm: self.how.algorithm.unwrap_or_default().into(),
                ..Default::default()
            })
        };
        let product = |answer: v1::SignResponse| Product {
            facts: Facts::of(answer.key_id, answer.key_version_id, Some(answer.algorithm)),
            bytes: answer.signature,
        };
        self.out.deliver(context, kind, by_input(context, inputs, request, product).await?)
    }
}

impl Verify {
    /// Verifies and says which signatures are right.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        if self.signature.is_none() && self.files.is_empty() {
            bail!("for standard input, name the signature's file with `--signature`");
        }
        if self.signature.is_some() && self.files.len() > 1 {
            bail!(
                "one signature is of one file: leave `--signature` out, and FILE.sig is read for each"
            );
        }
        let inputs = input::all(self.files, MESSAGE_MAX, false)?;
        let request = |input: &Input| {
            let signature = self.signature.clone().unwrap_or_else(|| beside(&input.name, ENDING));
            Ok(v1::VerifyRequest {
                key_id: self.how.key.clone(),
                message: input.bytes.clone(),
                message_type: self.how.message_type().into(),
                signature: input::one(&signature, SIGNATURE_MAX, self.base64)?,
                algorithm: self.how.algorithm.unwrap_or_default().into(),
                key_version_id: self.version.clone(),
                ..Default::default()
            })
        };
        let facts = |answer: v1::VerifyResponse| Facts {
            valid: Some(answer.valid),
            ..Facts::of(answer.key_id, answer.key_version_id, Some(answer.algorithm))
        };
        verdicts(context, by_input(context, inputs, request, facts).await?)
    }
}
