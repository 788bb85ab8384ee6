//! Encrypt, Decrypt and ReEncrypt.

use std::path::{Path, PathBuf};

use twinkeep_client::v1;

use super::input::{self, CIPHERTEXT_MAX, Input, MESSAGE_MAX, pair};
use super::item::by_input;
use super::product::{Facts, Kind, Out, Product};
use crate::context::Context;
use crate::names::Named;

/// Encrypts messages.
#[derive(Debug, clap::Args)]
pub(crate) struct Encrypt {
    /// The key.
    #[arg(long)]
    key: String,
    /// Public words that the ciphertext is bound to: the same must be given to decrypt. They appear in the
    /// audit log. May be given several times.
    #[arg(long = "encryption-context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<v1::ContextPair>,
    /// The algorithm, for RSA keys; the key's default without it.
    #[arg(long, value_parser = v1::Algorithm::parse)]
    algorithm: Option<v1::Algorithm>,
    /// Files to encrypt; standard input without them.
    files: Vec<PathBuf>,
    /// Writes the ciphertext as base64 text.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    out: Out,
}

/// Decrypts ciphertexts.
#[derive(Debug, clap::Args)]
pub(crate) struct Decrypt {
    /// The key; needed for RSA alone, other ciphertexts name theirs.
    #[arg(long, default_value = "", hide_default_value = true)]
    key: String,
    /// The words that the ciphertext is bound to. May be given several times.
    #[arg(long = "encryption-context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<v1::ContextPair>,
    /// The algorithm, for RSA keys; the key's default without it.
    #[arg(long, value_parser = v1::Algorithm::parse)]
    algorithm: Option<v1::Algorithm>,
    /// Files to decrypt; standard input without them.
    files: Vec<PathBuf>,
    /// Reads the ciphertext as base64 text.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    out: Out,
}

/// Moves ciphertexts to another key.
#[derive(Debug, clap::Args)]
pub(crate) struct ReEncrypt {
    /// The key to encrypt under.
    #[arg(long, value_name = "KEY")]
    to: String,
    /// The key of the ciphertexts; needed for RSA alone, other ciphertexts name theirs.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    from: String,
    /// The words that the ciphertext is bound to. May be given several times.
    #[arg(long = "encryption-context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<v1::ContextPair>,
    /// The words that the new ciphertext shall be bound to. May be given several times.
    #[arg(long = "to-encryption-context", value_name = "KEY=VALUE", value_parser = pair)]
    to_pairs: Vec<v1::ContextPair>,
    /// Files with ciphertexts; standard input without them.
    files: Vec<PathBuf>,
    /// Reads and writes ciphertexts as base64 text.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    out: Out,
}

/// What comes of encryption.
pub(super) const fn ciphertexts(base64: bool) -> Kind {
    Kind { what: "ciphertext", ending: "enc", secret: false, text: false, base64 }
}

/// What comes of decryption. Plaintext may go to a screen: it may well be text.
const PLAINTEXTS: Kind =
    Kind { what: "plaintext", ending: "plain", secret: true, text: true, base64: false };

pub(super) fn names(files: &[PathBuf]) -> Vec<&Path> {
    files.iter().map(PathBuf::as_path).collect()
}

impl Encrypt {
    /// Encrypts and writes the ciphertexts.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let kind = ciphertexts(self.base64);
        self.out.check(context, kind, &names(&self.files))?;
        let inputs = input::all(self.files, MESSAGE_MAX, false)?;
        let request = |input: &Input| {
            Ok(v1::EncryptRequest {
                key_id: self.key.clone(),
                plaintext: input.bytes.clone(),
                encryption_context: self.pairs.clone(),
                algorithm: self.algorithm.unwrap_or_default().into(),
                ..Default::default()
            })
        };
        let product = |answer: v1::EncryptResponse| Product {
            facts: Facts::of(answer.key_id, answer.key_version_id, Some(answer.algorithm)),
            bytes: answer.ciphertext,
        };
        self.out.deliver(context, kind, by_input(context, inputs, request, product).await?)
    }
}

impl Decrypt {
    /// Decrypts and writes the plaintexts.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        // Several plaintexts in one pipe could not be told apart.
        let kind = Kind { text: self.files.len() < 2, ..PLAINTEXTS };
        self.out.check(context, kind, &names(&self.files))?;
        let inputs = input::all(self.files, CIPHERTEXT_MAX, self.base64)?;
        let request = |input: &Input| {
            Ok(v1::DecryptRequest {
                key_id: self.key.clone(),
                ciphertext: input.bytes.clone(),
                encryption_context: self.pairs.clone(),
                algorithm: self.algorithm.unwrap_or_default().into(),
                ..Default::default()
            })
        };
        let product = |answer: v1::DecryptResponse| Product {
            facts: Facts::of(answer.key_id, answer.key_version_id, Some(answer.algorithm)),
            bytes: answer.plaintext,
        };
        self.out.deliver(context, kind, by_input(context, inputs, request, product).await?)
    }
}

impl ReEncrypt {
    /// Has ciphertexts moved and writes the new ones.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let kind = ciphertexts(self.base64);
        self.out.check(context, kind, &names(&self.files))?;
        let inputs = input::all(self.files, CIPHERTEXT_MAX, self.base64)?;
        let request = |input: &Input| {
            Ok(v1::ReEncryptRequest {
                ciphertext: input.bytes.clone(),
                source_key_id: self.from.clone(),
                source_encryption_context: self.pairs.clone(),
                destination_key_id: self.to.clone(),
                destination_encryption_context: self.to_pairs.clone(),
                ..Default::default()
            })
        };
        let product = |answer: v1::ReEncryptResponse| Product {
            facts: Facts::of(answer.destination_key_id, answer.destination_key_version_id, None),
            bytes: answer.ciphertext,
        };
        self.out.deliver(context, kind, by_input(context, inputs, request, product).await?)
    }
}
