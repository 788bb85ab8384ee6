//! `twinkeep encrypt` and `twinkeep decrypt`: files of any size, folders, pipes, bare ciphertexts.
//!
//! Files are encrypted under a data key each, on this machine ([`crate::file`]). What the service itself makes
//! of up to 64 KiB, a bare ciphertext, is for other programs and for RSA keys: `--raw`, or `--base64` as text.
//! `decrypt` tells the two apart by their first bytes.

use twinkeep_client::v1;

use crate::context::Context;
use crate::file::{self, Places, raw};

/// Encrypts files of any size.
///
/// `report.pdf` becomes `report.pdf.twinkeep` beside it, and stays. Of folders every regular file is taken, in
/// folders below too; symbolic links in them are not followed, and sockets, pipes and devices are left alone. Without FILE,
/// or with `-`, standard input goes to standard output. Mode and time of modification are kept.
#[derive(Debug, clap::Args)]
pub(crate) struct Encrypt {
    /// The key.
    #[arg(long)]
    key: String,
    /// Public words that the ciphertext is bound to: the same must be given to decrypt. They appear in the
    /// audit log. May be given several times.
    #[arg(long = "encryption-context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<v1::ContextPair>,
    #[command(flatten)]
    places: Places,
    /// Has the service encrypt up to 64 KiB, and writes the bare ciphertext: for other programs, and for RSA
    /// keys.
    #[arg(long)]
    raw: bool,
    /// Writes the bare ciphertext as base64 text.
    #[arg(long)]
    base64: bool,
}

/// Decrypts what `encrypt` made.
///
/// `report.pdf.twinkeep` becomes `report.pdf` beside it, with its mode and time, and only when all of it has been
/// verified. One FILE of another name goes to standard output, as does standard input; whoever reads there has
/// to see that the command ends well, since a file may be cut short. Of folders every file whose name
/// ends in `.twinkeep` is taken.
#[derive(Debug, clap::Args)]
pub(crate) struct Decrypt {
    /// Refuses what is under another key. RSA ciphertexts need it; others name their key.
    #[arg(long, default_value = "", hide_default_value = true)]
    key: String,
    /// The words that the ciphertext is bound to. May be given several times.
    #[arg(long = "encryption-context", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<v1::ContextPair>,
    #[command(flatten)]
    places: Places,
    /// Reads a bare ciphertext as base64 text.
    #[arg(long)]
    base64: bool,
}

fn pair(text: &str) -> Result<v1::ContextPair, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok(v1::ContextPair { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err("write KEY=VALUE, for example --encryption-context table=customers".to_owned()),
    }
}

impl Encrypt {
    /// Encrypts and writes what came of it.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Self { key, pairs, places, raw, base64 } = self;
        if raw || base64 {
            return raw::encrypt(context, key, pairs, &places, base64).await;
        }
        file::encrypt(context, &key, &pairs, places).await
    }
}

impl Decrypt {
    /// Decrypts and writes the plaintext.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Self { key, pairs, places, base64 } = self;
        if base64 {
            return raw::decrypt_text(context, key, pairs, &places).await;
        }
        file::decrypt(context, &key, &pairs, places).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_pairs_are_split_at_the_first_sign() {
        let read = pair("table=a=b").unwrap();
        assert_eq!((read.key.as_str(), read.value.as_str()), ("table", "a=b"));
        assert_eq!(pair("empty=").unwrap().value, "");
        assert!(pair("=value").is_err());
        assert!(pair("word").is_err());
    }
}
