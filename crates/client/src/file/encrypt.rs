//! Encrypting a file.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use twinkeep_envelope::OpenKey;
use twinkeep_envelope::file::Sealer;
use twinkeep_proto::v1;

use super::pump::pump;
use super::{EncryptError, EncryptOptions, Encrypted};
use crate::client::Client;
use crate::wipe;

impl Client {
    /// Encrypts everything that a reader gives, under a fresh data key of a key of spec AES_256, and flushes the
    /// writer.
    ///
    /// See [`crate::file`] for memory, cancellation and threads.
    ///
    /// # Errors
    /// [`EncryptError`] says why. What has been written until then is not a whole file, and no part of it opens
    /// as one.
    pub async fn encrypt_file<R, W>(
        &self,
        key_id: &str,
        mut reader: R,
        mut writer: W,
        options: EncryptOptions<'_>,
    ) -> Result<Encrypted, EncryptError>
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let EncryptOptions { context, metadata, chunk_size, progress } = options;
        let DataKey { open, wrapped, key_id, key_version_id } =
            self.data_key(key_id, context).await?;
        let (sealer, preface) = Sealer::begin(&open, &wrapped, chunk_size, &metadata)?;
        drop(open);
        writer.write_all(&preface).await.map_err(EncryptError::Write)?;
        let mut progress = progress.unwrap_or_else(|| Box::new(|_| ()));
        let bytes = pump(sealer, &mut reader, &mut writer, &mut *progress).await?;
        Ok(Encrypted { bytes, key_id, key_version_id })
    }

    async fn data_key(
        &self,
        key_id: &str,
        encryption_context: Vec<v1::ContextPair>,
    ) -> Result<DataKey, EncryptError> {
        let request = v1::GenerateDataKeyRequest {
            key_id: key_id.to_owned(),
            length_bytes: 32,
            encryption_context,
            ..Default::default()
        };
        let answer = self.generate_data_key(request).await.map_err(EncryptError::DataKey)?;
        // Copied and let go first: both halves of an answer may share a buffer, which is wiped when nobody
        // else holds it; the transport of a stream mostly does.
        let wrapped = answer.ciphertext.to_vec();
        drop(answer.ciphertext);
        let (open, len) = (OpenKey::from_slice(&answer.plaintext), answer.plaintext.len());
        wipe(answer.plaintext);
        let open = open.ok_or(EncryptError::DataKeyLen(len))?;
        let (key_id, key_version_id) = (answer.key_id, answer.key_version_id);
        Ok(DataKey { open, wrapped, key_id, key_version_id })
    }
}

/// A fresh data key, open and encrypted.
struct DataKey {
    open: OpenKey,
    wrapped: Vec<u8>,
    key_id: String,
    key_version_id: String,
}
