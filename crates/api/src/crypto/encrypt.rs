//! Encrypt, Decrypt, ReEncrypt.

use bytes::Bytes;
use twinkeep_core::key::{KeySpec, KeyUsage};
use twinkeep_envelope::Context;
use twinkeep_envelope::ciphertext::Header;
use twinkeep_proto::v1;
use zeroize::Zeroizing;

use super::{Crypto, Ready, Version, Want};
use crate::authorize::{Entered, Handle};
use crate::checksum;
use crate::convert::Wire as _;
use crate::error::{CallError, Invalid};
use crate::field::{self, ContextFields};
use crate::limits::{CIPHERTEXT_BYTES_MAX, PLAINTEXT_BYTES_MAX, Work, check};
use crate::operation::{self as op, Operation};

/// What a caller sent to be opened.
struct Sealed<'a> {
    /// The field that names the key, for errors.
    field: &'static str,
    /// May be empty where the ciphertext names its key.
    key_id: &'a str,
    /// May be empty.
    version_id: &'a str,
    ciphertext: &'a [u8],
    context: Context<'a>,
    algorithm: i32,
}

impl Handle<op::Encrypt> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::Encrypt>,
        request: &v1::EncryptRequest,
    ) -> Result<v1::EncryptResponse, CallError> {
        let way_out = "encrypt the data with a data key (GenerateDataKey) and keep that beside it";
        check("plaintext", request.plaintext.len(), PLAINTEXT_BYTES_MAX, way_out)?;
        let context =
            field::context(ContextFields::PLAIN, &request.encryption_context, &request.aad)?;
        let verified = checksum::verify("plaintext", &request.plaintext, request.plaintext_crc32c)?;
        let verified_aad = checksum::verify("aad", &request.aad, request.aad_crc32c)?;
        let (ciphertext, ready) = self
            .seal(call, &request.key_id, request.algorithm, &request.plaintext, &context)
            .await?;
        self.settle(call, &ready)?;
        Ok(v1::EncryptResponse {
            ciphertext_crc32c: checksum::of(&ciphertext),
            ciphertext: ciphertext.into(),
            key_id: ready.key_id(),
            key_version_id: ready.version_id(),
            algorithm: ready.algorithm.to_wire(),
            verified_plaintext_crc32c: verified,
            verified_aad_crc32c: verified_aad,
            state_age_ms: 0,
            state_index: 0,
        })
    }
}

impl Handle<op::Decrypt> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::Decrypt>,
        request: &v1::DecryptRequest,
    ) -> Result<v1::DecryptResponse, CallError> {
        check_ciphertext(&request.ciphertext)?;
        let context =
            field::context(ContextFields::PLAIN, &request.encryption_context, &request.aad)?;
        let verified =
            checksum::verify("ciphertext", &request.ciphertext, request.ciphertext_crc32c)?;
        let verified_aad = checksum::verify("aad", &request.aad, request.aad_crc32c)?;
        let sealed = Sealed {
            field: "key_id",
            key_id: &request.key_id,
            version_id: &request.key_version_id,
            ciphertext: &request.ciphertext,
            context,
            algorithm: request.algorithm,
        };
        let (plaintext, ready) = self.open(call, sealed).await?;
        self.settle(call, &ready)?;
        Ok(v1::DecryptResponse {
            plaintext_crc32c: checksum::of(&plaintext),
            // Wiped when the last handle to these bytes goes.
            plaintext: Bytes::from_owner(plaintext),
            key_id: ready.key_id(),
            key_version_id: ready.version_id(),
            algorithm: ready.algorithm.to_wire(),
            verified_ciphertext_crc32c: verified,
            verified_aad_crc32c: verified_aad,
            state_age_ms: 0,
            state_index: 0,
        })
    }
}

impl Handle<op::ReEncrypt> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::ReEncrypt>,
        request: &v1::ReEncryptRequest,
    ) -> Result<v1::ReEncryptResponse, CallError> {
        check_ciphertext(&request.ciphertext)?;
        let context = field::context(
            ContextFields::SOURCE,
            &request.source_encryption_context,
            &request.source_aad,
        )?;
        let new_context = field::context(
            ContextFields::DESTINATION,
            &request.destination_encryption_context,
            &request.destination_aad,
        )?;
        let verified =
            checksum::verify("ciphertext", &request.ciphertext, request.ciphertext_crc32c)?;
        // Authorised before anything is opened: a caller who may not use the destination learns nothing of
        // the source.
        call.on_key(field::key("destination_key_id", &request.destination_key_id)?)?;
        let sealed = Sealed {
            field: "source_key_id",
            key_id: &request.source_key_id,
            version_id: &request.source_key_version_id,
            ciphertext: &request.ciphertext,
            context,
            algorithm: request.source_algorithm,
        };
        let (plaintext, source) = self.open(call, sealed).await?;
        let (key_id, algorithm) = (&request.destination_key_id, request.destination_algorithm);
        let (ciphertext, destination) =
            self.seal(call, key_id, algorithm, &plaintext, &new_context).await?;
        self.settle(call, &source)?;
        self.settle(call, &destination)?;
        Ok(v1::ReEncryptResponse {
            ciphertext_crc32c: checksum::of(&ciphertext),
            ciphertext: ciphertext.into(),
            source_key_id: source.key_id(),
            source_key_version_id: source.version_id(),
            destination_key_id: destination.key_id(),
            destination_key_version_id: destination.version_id(),
            verified_ciphertext_crc32c: verified,
            state_age_ms: 0,
            state_index: 0,
        })
    }
}

impl Crypto {
    async fn seal<O: Operation>(
        &self,
        call: &Entered<O>,
        key_id: &str,
        algorithm: i32,
        plaintext: &[u8],
        context: &Context<'_>,
    ) -> Result<(Vec<u8>, Ready<'_>), CallError> {
        let key = call.on_key(field::key("key_id", key_id)?)?;
        let usage = KeyUsage::EncryptDecrypt;
        let want = Want { usage, version: Version::Primary, algorithm, work: Work::Light };
        let ready = self.ready(&key, want).await?;
        let sealing =
            ready.backend.encrypt(ready.call, ready.handle(), ready.algorithm, plaintext, context);
        Ok((sealing.await?, ready))
    }

    async fn open<O: Operation>(
        &self,
        call: &Entered<O>,
        sealed: Sealed<'_>,
    ) -> Result<(Zeroizing<Vec<u8>>, Ready<'_>), CallError> {
        let key = match sealed.key_id {
            "" => call.on_key(header(sealed.ciphertext)?.key())?,
            named => call.on_key(field::key(sealed.field, named)?)?,
        };
        let version = match key.resource().spec {
            // Compared before anything is derived: a ciphertext of another key does not open.
            KeySpec::Aes256 => {
                let header = header(sealed.ciphertext)?;
                if header.key() != key.resource().id {
                    return Err(CallError::InvalidCiphertext);
                }
                Version::OfCiphertext(header.version().map_err(|_| CallError::InvalidCiphertext)?)
            }
            _ => Version::Id(sealed.version_id),
        };
        let usage = KeyUsage::EncryptDecrypt;
        let want = Want { usage, version, algorithm: sealed.algorithm, work: Work::Private };
        let ready = self.ready(&key, want).await?;
        if !sealed.version_id.is_empty() && sealed.version_id != ready.version_id() {
            return Err(CallError::InvalidCiphertext);
        }
        let (handle, algorithm) = (ready.handle(), ready.algorithm);
        let opening = ready.backend.decrypt(
            ready.call,
            handle,
            algorithm,
            sealed.ciphertext,
            &sealed.context,
        );
        Ok((opening.await?, ready))
    }
}

fn header(ciphertext: &[u8]) -> Result<Header, Invalid> {
    Header::parse(ciphertext).map_err(|error| Invalid::Text {
        field: "ciphertext",
        problem: format!(
            "{error}; send the bytes that Encrypt returned as they are, and key_id if the key is not of \
             spec AES_256"
        ),
    })
}

fn check_ciphertext(ciphertext: &[u8]) -> Result<(), CallError> {
    if ciphertext.is_empty() {
        let way_out = "send the bytes that Encrypt returned";
        return Err(Invalid::Missing { field: "ciphertext", way_out }.into());
    }
    let way_out = "no call makes a longer one";
    Ok(check("ciphertext", ciphertext.len(), CIPHERTEXT_BYTES_MAX, way_out)?)
}
