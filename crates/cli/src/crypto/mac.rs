//! GenerateMac and VerifyMac.

use std::path::PathBuf;

use anyhow::bail;
use twinkeep_client::v1;

use super::ciphertext::names;
use super::input::{self, Input, MESSAGE_MAX, SIGNATURE_MAX, beside};
use super::item::by_input;
use super::product::{Facts, Kind, Out, Product, verdicts};
use crate::context::Context;

/// What a code is kept in.
const ENDING: &str = "mac";

/// Makes codes.
#[derive(Debug, clap::Args)]
pub(crate) struct Mac {
    /// The key.
    #[arg(long)]
    key: String,
    /// Files to make a code of; standard input without them.
    files: Vec<PathBuf>,
    /// Writes the code as base64 text.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    out: Out,
}

/// Verifies codes.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyMac {
    /// The key.
    #[arg(long)]
    key: String,
    /// Files that a code was made of; standard input without them.
    files: Vec<PathBuf>,
    /// File with the code; without it FILE.mac for each FILE.
    #[arg(long, value_name = "FILE")]
    mac: Option<PathBuf>,
    /// The version that made the code, as `twinkeep key describe` shows it; the primary one without it.
    #[arg(
        long = "key-version",
        value_name = "VERSION",
        default_value = "",
        hide_default_value = true
    )]
    version: String,
    /// Reads the code as base64 text.
    #[arg(long)]
    base64: bool,
}

impl Mac {
    /// Makes codes and writes them.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let kind =
            Kind { what: "code", ending: ENDING, secret: false, text: false, base64: self.base64 };
        self.out.check(context, kind, &names(&self.files))?;
        let inputs = input::all(self.files, MESSAGE_MAX, false)?;
        let request = |input: &Input| {
            Ok(v1::GenerateMacRequest {
                key_id: self.key.clone(),
                message: input.bytes.clone(),
                ..Default::default()
            })
        };
        let product = |answer: v1::GenerateMacResponse| Product {
            facts: Facts::of(answer.key_id, answer.key_version_id, Some(answer.algorithm)),
            bytes: answer.mac,
        };
        self.out.deliver(context, kind, by_input(context, inputs, request, product).await?)
    }
}

impl VerifyMac {
    /// Verifies and says which codes are right.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        if self.mac.is_none() && self.files.is_empty() {
            bail!("for standard input, name the code's file with `--mac`");
        }
        if self.mac.is_some() && self.files.len() > 1 {
            bail!("one code is of one file: leave `--mac` out, and FILE.mac is read for each");
        }
        let inputs = input::all(self.files, MESSAGE_MAX, false)?;
        let request = |input: &Input| {
            let mac = self.mac.clone().unwrap_or_else(|| beside(&input.name, ENDING));
            Ok(v1::VerifyMacRequest {
                key_id: self.key.clone(),
                message: input.bytes.clone(),
                mac: input::one(&mac, SIGNATURE_MAX, self.base64)?,
                key_version_id: self.version.clone(),
                ..Default::default()
            })
        };
        let facts = |answer: v1::VerifyMacResponse| Facts {
            valid: Some(answer.valid),
            ..Facts::of(answer.key_id, answer.key_version_id, Some(answer.algorithm))
        };
        verdicts(context, by_input(context, inputs, request, facts).await?)
    }
}
