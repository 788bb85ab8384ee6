//! Decrypting a file.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use twinkeep_envelope::OpenKey;
use twinkeep_envelope::ciphertext::Header;
use twinkeep_envelope::file::{PRELUDE_LEN, Preface, rest_len};
use twinkeep_proto::v1;

use super::pump::pump;
use super::{DecryptError, DecryptOptions, Decrypted};
use crate::client::Client;
use crate::wipe;

impl Client {
    /// Decrypts what [`Self::encrypt_file`] wrote, and flushes the writer.
    ///
    /// Each chunk is verified before any of it is written. See [`crate::file`] for memory, cancellation and threads.
    ///
    /// # Errors
    /// [`DecryptError`] says what is wrong, and for a chunk where. What has been written until then are whole
    /// chunks from the file's beginning, verified: a part of the plaintext, and never to be taken for all of it.
    pub async fn decrypt_file<R, W>(
        &self,
        mut reader: R,
        mut writer: W,
        options: DecryptOptions<'_>,
    ) -> Result<Decrypted, DecryptError>
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let DecryptOptions { context, key_id, progress } = options;
        let preface = read_preface(&mut reader).await?;
        check_key(&key_id, preface.wrapped_key())?;
        let Opened { data_key, key_id, key_version_id } =
            self.open_data_key(key_id, preface.wrapped_key(), context).await?;
        let (opener, metadata) = preface.open(&data_key)?;
        drop(data_key);
        let mut progress = progress.unwrap_or_else(|| Box::new(|_| ()));
        let bytes = pump(opener, &mut reader, &mut writer, &mut *progress).await?;
        Ok(Decrypted { bytes, metadata, key_id, key_version_id })
    }

    async fn open_data_key(
        &self,
        key_id: String,
        wrapped: &[u8],
        encryption_context: Vec<v1::ContextPair>,
    ) -> Result<Opened, DecryptError> {
        let request = v1::DecryptRequest {
            key_id,
            ciphertext: wrapped.to_vec().into(),
            encryption_context,
            ..Default::default()
        };
        let answer = self.decrypt(request).await.map_err(DecryptError::DataKey)?;
        let (open, len) = (OpenKey::from_slice(&answer.plaintext), answer.plaintext.len());
        wipe(answer.plaintext);
        let data_key = open.ok_or(DecryptError::DataKeyLen(len))?;
        let (key_id, key_version_id) = (answer.key_id, answer.key_version_id);
        Ok(Opened { data_key, key_id, key_version_id })
    }
}

/// A data key that the service opened.
struct Opened {
    data_key: OpenKey,
    key_id: String,
    key_version_id: String,
}

/// Refuses another key than was asked for before the service is called; it checks too. A wrapped key that
/// does not say whose it is goes to the service.
fn check_key(asked: &str, wrapped: &[u8]) -> Result<(), DecryptError> {
    let Ok(header) = Header::parse(wrapped) else { return Ok(()) };
    let found = header.key().to_string();
    if asked.is_empty() || asked == found {
        return Ok(());
    }
    Err(DecryptError::WrongKey { asked: asked.to_owned(), found })
}

/// Reads what stands in front of the chunks, which is at most a few KiB whatever it claims.
async fn read_preface<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Preface, DecryptError> {
    let mut bytes = Vec::new();
    read_up_to(reader, PRELUDE_LEN, &mut bytes).await.map_err(DecryptError::Read)?;
    let rest = rest_len(&bytes)?;
    read_up_to(reader, rest, &mut bytes).await.map_err(DecryptError::Read)?;
    Ok(Preface::parse(bytes)?)
}

async fn read_up_to<R: AsyncRead + Unpin>(
    reader: &mut R,
    len: usize,
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    reader.take(len as u64).read_to_end(bytes).await.map(drop)
}
