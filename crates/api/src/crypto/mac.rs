//! GenerateMac, VerifyMac.

use twinkeep_core::key::KeyUsage;
use twinkeep_proto::v1;

use super::{Crypto, Version, Want};
use crate::authorize::{Entered, Handle};
use crate::checksum;
use crate::convert::Wire as _;
use crate::error::CallError;
use crate::field;
use crate::limits::{MAC_BYTES_MAX, MESSAGE_BYTES_MAX, Work, check};
use crate::operation as op;

impl Handle<op::GenerateMac> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::GenerateMac>,
        request: &v1::GenerateMacRequest,
    ) -> Result<v1::GenerateMacResponse, CallError> {
        check_message(&request.message)?;
        let verified = checksum::verify("message", &request.message, request.message_crc32c)?;
        let key = call.on_key(field::key("key_id", &request.key_id)?)?;
        let want = Want {
            usage: KeyUsage::GenerateVerifyMac,
            version: Version::Primary,
            algorithm: request.algorithm,
            work: Work::Private,
        };
        let ready = self.ready(&key, want).await?;
        let (handle, algorithm) = (ready.handle(), ready.algorithm);
        let mac = ready.backend.mac(ready.call, handle, algorithm, &request.message).await?;
        self.settle(call, &ready)?;
        Ok(v1::GenerateMacResponse {
            mac_crc32c: checksum::of(&mac),
            mac: mac.into(),
            key_id: ready.key_id(),
            key_version_id: ready.version_id(),
            algorithm: ready.algorithm.to_wire(),
            verified_message_crc32c: verified,
            state_age_ms: 0,
            state_index: 0,
        })
    }
}

impl Handle<op::VerifyMac> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::VerifyMac>,
        request: &v1::VerifyMacRequest,
    ) -> Result<v1::VerifyMacResponse, CallError> {
        check_message(&request.message)?;
        check("mac", request.mac.len(), MAC_BYTES_MAX, "send the code as it was made")?;
        let verified = checksum::verify("message", &request.message, request.message_crc32c)?;
        let verified_mac = checksum::verify("mac", &request.mac, request.mac_crc32c)?;
        let key = call.on_key(field::key("key_id", &request.key_id)?)?;
        let want = Want {
            usage: KeyUsage::GenerateVerifyMac,
            version: Version::Id(&request.key_version_id),
            algorithm: request.algorithm,
            work: Work::Private,
        };
        let ready = self.ready(&key, want).await?;
        let (handle, algorithm) = (ready.handle(), ready.algorithm);
        let verifying =
            ready.backend.verify_mac(ready.call, handle, algorithm, &request.message, &request.mac);
        let verdict = verifying.await?;
        self.settle(call, &ready)?;
        Ok(v1::VerifyMacResponse {
            valid: verdict.is_valid(),
            key_id: ready.key_id(),
            key_version_id: ready.version_id(),
            algorithm: ready.algorithm.to_wire(),
            verified_message_crc32c: verified,
            verified_mac_crc32c: verified_mac,
            state_age_ms: 0,
            state_index: 0,
        })
    }
}

fn check_message(message: &[u8]) -> Result<(), CallError> {
    let way_out = "authenticate a hash of the data";
    Ok(check("message", message.len(), MESSAGE_BYTES_MAX, way_out)?)
}
