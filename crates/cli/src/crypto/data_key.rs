//! GenerateDataKey and GenerateDataKeyWithoutPlaintext.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use twinkeep_client::{Client, Error, v1, wipe};

use super::ciphertext::ciphertexts;
use super::input::{beside, pair};
use super::item::each;
use super::product::{Facts, Out, Product};
use crate::context::Context;
use crate::output::replace;

/// Most data keys of one command.
const COUNT_MAX: u16 = 1000;

/// Makes data keys.
#[derive(Debug, clap::Args)]
pub(crate) struct DataKey {
    /// The key to encrypt the data keys under; of spec AES_256.
    #[arg(long)]
    key: String,
    /// How long the data keys shall be, in bytes; at most 1024.
    #[arg(long, value_name = "BYTES", default_value_t = 32)]
    length: u32,
    /// How many to make.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(COUNT_MAX)))]
    count: u16,
    /// File for the data key in clear, mode 0600; for several a folder. Without it, it stays in the service,
    /// and `twinkeep crypto decrypt` shows it later.
    #[arg(long, value_name = "FILE|FOLDER")]
    plaintext_out: Option<PathBuf>,
    /// Public words that the encrypted form is bound to. May be given several times.
    #[arg(long = "encryption-context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<v1::ContextPair>,
    /// Writes the encrypted form as base64 text.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    out: Out,
}

impl DataKey {
    /// Makes data keys and writes them.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let names: Vec<_> =
            (1..=self.count).map(|number| PathBuf::from(format!("data-key-{number}"))).collect();
        let kind = ciphertexts(self.base64);
        let paths: Vec<_> = names.iter().map(PathBuf::as_path).collect();
        self.out.check(context, kind, &paths)?;
        let client = context.client()?;
        let products = match &self.plaintext_out {
            Some(path) => self.with_plaintext(&client, path, &names).await?,
            None => self.without_plaintext(&client).await,
        };
        self.out.deliver(context, kind, names.into_iter().zip(products).collect())
    }

    async fn without_plaintext(&self, client: &Client) -> Vec<Result<Product, Error>> {
        let request = v1::GenerateDataKeyWithoutPlaintextRequest {
            key_id: self.key.clone(),
            length_bytes: self.length,
            encryption_context: self.pairs.clone(),
            ..Default::default()
        };
        let product = |answer: v1::GenerateDataKeyWithoutPlaintextResponse| Product {
            facts: Facts::of(answer.key_id, answer.key_version_id, None),
            bytes: answer.ciphertext,
        };
        let answers = each(client, vec![request; self.count.into()]).await;
        answers.into_iter().map(|answer| answer.map(product)).collect()
    }

    /// Writes what is in clear at once: it passes through nothing else.
    async fn with_plaintext(
        &self,
        client: &Client,
        path: &Path,
        names: &[PathBuf],
    ) -> anyhow::Result<Vec<Result<Product, Error>>> {
        let request = v1::GenerateDataKeyRequest {
            key_id: self.key.clone(),
            length_bytes: self.length,
            encryption_context: self.pairs.clone(),
            ..Default::default()
        };
        if names.len() > 1 {
            crate::init::private_folder(path)?;
        }
        let answers = each(client, vec![request; names.len()]).await;
        let mut products = Vec::with_capacity(answers.len());
        for (answer, name) in answers.into_iter().zip(names) {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    products.push(Err(error));
                    continue;
                }
            };
            let file = if names.len() > 1 { path.join(beside(name, "key")) } else { path.into() };
            let written = replace(&file, &answer.plaintext, 0o600);
            wipe(answer.plaintext);
            written.context("the data key in clear")?;
            products.push(Ok(Product {
                facts: Facts::of(answer.key_id, answer.key_version_id, None),
                bytes: answer.ciphertext,
            }));
        }
        Ok(products)
    }
}
