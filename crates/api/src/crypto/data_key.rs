//! GenerateDataKey, with and without the plaintext.

use bytes::Bytes;
use twinkeep_core::key::KeyUsage;
use twinkeep_crypto::{DataKey, generate_data_key};
use twinkeep_envelope::Context;
use twinkeep_proto::v1;

use super::{Crypto, Ready, Version, Want};
use crate::authorize::{Entered, Handle};
use crate::checksum;
use crate::error::CallError;
use crate::field::{self, ContextFields};
use crate::limits::{DATA_KEY_BYTES_DEFAULT, DATA_KEY_BYTES_MAX, Work, check};
use crate::operation::{self as op, Operation};

impl Handle<op::GenerateDataKey> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::GenerateDataKey>,
        request: &v1::GenerateDataKeyRequest,
    ) -> Result<v1::GenerateDataKeyResponse, CallError> {
        let context =
            field::context(ContextFields::PLAIN, &request.encryption_context, &request.aad)?;
        let verified = checksum::verify("aad", &request.aad, request.aad_crc32c)?;
        let (key, ready) =
            self.data_key(call, &request.key_id, request.length_bytes, &context).await?;
        Ok(v1::GenerateDataKeyResponse {
            plaintext_crc32c: checksum::of(&key.plaintext),
            plaintext: Bytes::from_owner(key.plaintext),
            ciphertext_crc32c: checksum::of(&key.ciphertext),
            ciphertext: key.ciphertext.into(),
            key_id: ready.key_id(),
            key_version_id: ready.version_id(),
            verified_aad_crc32c: verified,
            state_age_ms: 0,
            state_index: 0,
        })
    }
}

impl Handle<op::GenerateDataKeyWithoutPlaintext> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::GenerateDataKeyWithoutPlaintext>,
        request: &v1::GenerateDataKeyWithoutPlaintextRequest,
    ) -> Result<v1::GenerateDataKeyWithoutPlaintextResponse, CallError> {
        let context =
            field::context(ContextFields::PLAIN, &request.encryption_context, &request.aad)?;
        let verified = checksum::verify("aad", &request.aad, request.aad_crc32c)?;
        let (key, ready) =
            self.data_key(call, &request.key_id, request.length_bytes, &context).await?;
        Ok(v1::GenerateDataKeyWithoutPlaintextResponse {
            ciphertext_crc32c: checksum::of(&key.ciphertext),
            ciphertext: key.ciphertext.into(),
            key_id: ready.key_id(),
            key_version_id: ready.version_id(),
            verified_aad_crc32c: verified,
            state_age_ms: 0,
            state_index: 0,
        })
    }
}

impl Crypto {
    async fn data_key<O: Operation>(
        &self,
        call: &Entered<O>,
        key_id: &str,
        length_bytes: u32,
        context: &Context<'_>,
    ) -> Result<(DataKey, Ready<'_>), CallError> {
        let len = match usize::try_from(length_bytes).unwrap_or(usize::MAX) {
            0 => DATA_KEY_BYTES_DEFAULT,
            len => len,
        };
        check("length_bytes", len, DATA_KEY_BYTES_MAX, "derive longer keys from a shorter one")?;
        let key = call.on_key(field::key("key_id", key_id)?)?;
        let want = Want {
            usage: KeyUsage::EncryptDecrypt,
            version: Version::Primary,
            algorithm: 0,
            work: Work::Light,
        };
        let ready = self.ready(&key, want).await?;
        let data_key =
            generate_data_key(ready.backend, ready.call, ready.handle(), len, context).await?;
        self.settle(call, &ready)?;
        Ok((data_key, ready))
    }
}
