//! Sign, Verify.

use twinkeep_core::key::KeyUsage;
use twinkeep_crypto::Message;
use twinkeep_proto::v1;

use super::{Crypto, Version, Want};
use crate::authorize::{Entered, Handle};
use crate::checksum;
use crate::convert::Wire as _;
use crate::error::{CallError, Invalid};
use crate::field;
use crate::limits::{MESSAGE_BYTES_MAX, SIGNATURE_BYTES_MAX, Work, check};
use crate::operation as op;

impl Handle<op::Sign> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::Sign>,
        request: &v1::SignRequest,
    ) -> Result<v1::SignResponse, CallError> {
        let message = message(&request.message, request.message_type)?;
        let verified = checksum::verify("message", &request.message, request.message_crc32c)?;
        let key = call.on_key(field::key("key_id", &request.key_id)?)?;
        let want = Want {
            usage: KeyUsage::SignVerify,
            version: Version::Primary,
            algorithm: request.algorithm,
            work: Work::Private,
        };
        let ready = self.ready(&key, want).await?;
        let signing = ready.backend.sign(ready.call, ready.handle(), ready.algorithm, message);
        let signature = signing.await?;
        self.settle(call, &ready)?;
        Ok(v1::SignResponse {
            signature_crc32c: checksum::of(&signature),
            signature: signature.into(),
            key_id: ready.key_id(),
            key_version_id: ready.version_id(),
            algorithm: ready.algorithm.to_wire(),
            verified_message_crc32c: verified,
            state_age_ms: 0,
            state_index: 0,
        })
    }
}

impl Handle<op::Verify> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::Verify>,
        request: &v1::VerifyRequest,
    ) -> Result<v1::VerifyResponse, CallError> {
        let message = message(&request.message, request.message_type)?;
        let way_out = "no key here makes a longer one";
        check("signature", request.signature.len(), SIGNATURE_BYTES_MAX, way_out)?;
        let verified = checksum::verify("message", &request.message, request.message_crc32c)?;
        let verified_signature =
            checksum::verify("signature", &request.signature, request.signature_crc32c)?;
        let key = call.on_key(field::key("key_id", &request.key_id)?)?;
        let want = Want {
            usage: KeyUsage::SignVerify,
            version: Version::Id(&request.key_version_id),
            algorithm: request.algorithm,
            work: Work::Light,
        };
        let ready = self.ready(&key, want).await?;
        let (handle, algorithm) = (ready.handle(), ready.algorithm);
        let verifying =
            ready.backend.verify(ready.call, handle, algorithm, message, &request.signature);
        let verdict = verifying.await?;
        self.settle(call, &ready)?;
        Ok(v1::VerifyResponse {
            valid: verdict.is_valid(),
            key_id: ready.key_id(),
            key_version_id: ready.version_id(),
            algorithm: ready.algorithm.to_wire(),
            verified_message_crc32c: verified,
            verified_signature_crc32c: verified_signature,
            state_age_ms: 0,
            state_index: 0,
        })
    }
}

fn message(bytes: &[u8], kind: i32) -> Result<Message<'_>, CallError> {
    let way_out = "hash it yourself and send the digest with message type DIGEST";
    check("message", bytes.len(), MESSAGE_BYTES_MAX, way_out)?;
    let unknown = |_| Invalid::UnknownValue { field: "message_type", number: kind };
    Ok(match v1::MessageType::try_from(kind).map_err(unknown)? {
        v1::MessageType::Unspecified | v1::MessageType::Raw => Message::Raw(bytes),
        v1::MessageType::Digest => Message::Digest(bytes),
    })
}
