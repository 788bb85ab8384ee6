//! `twinkeep crypto …`: one call to the service for each input, or a batch of them for several.
//!
//! What is secret comes from files or standard input and leaves as bytes, to a file or a pipe. Files of
//! any size are for `twinkeep encrypt` and `twinkeep decrypt`.

mod ciphertext;
mod data_key;
mod input;
mod item;
mod mac;
mod product;
mod public_key;
mod random;
mod sign;

use crate::context::Context;

/// Uses keys: encrypts, signs, makes codes, data keys and random bytes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Crypto {
    /// Encrypts messages of up to 64 KiB each inside the service.
    Encrypt(ciphertext::Encrypt),
    /// Decrypts ciphertexts inside the service.
    Decrypt(ciphertext::Decrypt),
    /// Moves ciphertexts to another key; the plaintext stays inside the service.
    ReEncrypt(ciphertext::ReEncrypt),
    /// Makes data keys: the encrypted form to store and, if asked for, the one to use.
    DataKey(data_key::DataKey),
    /// Signs messages of up to 64 KiB each, or digests.
    Sign(sign::Sign),
    /// Verifies signatures; ends with 1 if one is wrong.
    Verify(sign::Verify),
    /// Makes message authentication codes.
    Mac(mac::Mac),
    /// Verifies message authentication codes; ends with 1 if one is wrong.
    VerifyMac(mac::VerifyMac),
    /// Prints the public halves of asymmetric keys as PEM.
    PublicKey(public_key::PublicKey),
    /// Draws random bytes.
    Random(random::Random),
}

impl Crypto {
    /// Does what was asked.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Encrypt(command) => command.run(context).await,
            Self::Decrypt(command) => command.run(context).await,
            Self::ReEncrypt(command) => command.run(context).await,
            Self::DataKey(command) => command.run(context).await,
            Self::Sign(command) => command.run(context).await,
            Self::Verify(command) => command.run(context).await,
            Self::Mac(command) => command.run(context).await,
            Self::VerifyMac(command) => command.run(context).await,
            Self::PublicKey(command) => command.run(context).await,
            Self::Random(command) => command.run(context).await,
        }
    }
}
