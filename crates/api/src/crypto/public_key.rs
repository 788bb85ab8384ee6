//! GetPublicKey: from the key version's record, no key is opened.

use twinkeep_core::key::KeyState;
use twinkeep_proto::v1;

use super::{Crypto, Version, durable, ground, version};
use crate::authorize::{Entered, Handle};
use crate::checksum;
use crate::convert::{Wire as _, algorithms};
use crate::error::{CallError, Invalid};
use crate::field;
use crate::operation as op;

impl Handle<op::GetPublicKey> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::GetPublicKey>,
        request: &v1::GetPublicKeyRequest,
    ) -> Result<v1::GetPublicKeyResponse, CallError> {
        let authorized = call.on_key(field::key("key_id", &request.key_id)?)?;
        let key = authorized.resource().clone();
        if key.state != KeyState::Enabled {
            return Err(CallError::KeyUnusable { key: key.id, state: key.state });
        }
        let version = version(call, &key, Version::Id(&request.key_version_id))?;
        // What others encrypt to the public half needs the private one.
        durable(call, &version)?;
        call.draft().tell(|about| about.version(key.id, version.number));
        call.charge(1)?;
        let Some(public_key) = &version.public_key else {
            let problem = format!("{} is of spec {}, which has no public half", key.id, key.spec);
            return Err(Invalid::Text { field: "key_id", problem }.into());
        };
        ground(call, &key, None)?.check(call, &self.handles)?;
        Ok(v1::GetPublicKeyResponse {
            public_key_der: public_key.clone().into(),
            public_key_der_crc32c: checksum::of(public_key),
            key_id: key.id.to_string(),
            key_version_id: version.id.to_string(),
            spec: key.spec.to_wire(),
            usage: key.usage.to_wire(),
            algorithms: algorithms(&key),
            state_age_ms: 0,
            state_index: 0,
        })
    }
}
