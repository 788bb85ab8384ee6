//! GetPublicKey.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use twinkeep_client::v1;

use super::item::each;
use super::product::{Facts, Kind, Out, Product};
use crate::context::Context;

/// Columns of base64 in PEM (RFC 7468, 2).
const PEM_COLUMNS: usize = 64;

/// Prints public keys.
#[derive(Debug, clap::Args)]
pub(crate) struct PublicKey {
    /// The keys.
    #[arg(required = true)]
    keys: Vec<String>,
    /// The version, as `twinkeep key describe` shows it; the primary one without it.
    #[arg(
        long = "key-version",
        value_name = "VERSION",
        default_value = "",
        hide_default_value = true
    )]
    version: String,
    #[command(flatten)]
    out: Out,
}

const KIND: Kind =
    Kind { what: "public key", ending: "pem", secret: false, text: true, base64: false };

impl PublicKey {
    /// Fetches public keys and writes them.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let paths: Vec<_> = self.keys.iter().map(Path::new).collect();
        self.out.check(context, KIND, &paths)?;
        let request = |key: &String| v1::GetPublicKeyRequest {
            key_id: key.clone(),
            key_version_id: self.version.clone(),
            ..Default::default()
        };
        let requests = self.keys.iter().map(request).collect();
        let answers = each(&context.client()?, requests).await;
        let product = |answer: v1::GetPublicKeyResponse| Product {
            facts: Facts::of(
                answer.key_id,
                answer.key_version_id,
                answer.algorithms.first().copied(),
            ),
            bytes: pem(&answer.public_key_der).into(),
        };
        let answers = answers.into_iter().map(|answer| answer.map(product));
        let names = self.keys.iter().map(PathBuf::from);
        self.out.deliver(context, KIND, names.zip(answers).collect())
    }
}

/// Writes a SubjectPublicKeyInfo as PEM (RFC 7468, 13).
fn pem(der: &[u8]) -> String {
    let digits = STANDARD.encode(der);
    let mut text = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    let mut left = digits.as_str();
    while !left.is_empty() {
        let (line, rest) = left.split_at(left.len().min(PEM_COLUMNS));
        text += line;
        text.push('\n');
        left = rest;
    }
    text + "-----END PUBLIC KEY-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_lines_of_64_columns() {
        let text = pem(&[0; 91]);
        let lines: Vec<_> = text.lines().map(str::len).collect();
        assert_eq!(lines, [26, 64, 60, 24]);
        assert!(text.ends_with("-----END PUBLIC KEY-----\n"));
    }
}
