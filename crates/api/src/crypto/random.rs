//! GenerateRandom.

use bytes::Bytes;
use twinkeep_proto::v1;

use super::Crypto;
use crate::authorize::{Entered, Handle};
use crate::checksum;
use crate::error::{CallError, Invalid};
use crate::limits::{RANDOM_BYTES_MAX, check};
use crate::operation as op;
use crate::ports::Freshness;

/// Bytes that cost one unit: more than the work, so that the answer of a batch stays near 1 MiB.
const BYTES_PER_UNIT: usize = 64;

impl Handle<op::GenerateRandom> for Crypto {
    async fn handle(
        &self,
        call: &Entered<op::GenerateRandom>,
        request: &v1::GenerateRandomRequest,
    ) -> Result<v1::GenerateRandomResponse, CallError> {
        let len = usize::try_from(request.length_bytes).unwrap_or(usize::MAX);
        if len == 0 {
            let (field, range) = ("length_bytes", "ask for 1 to 65536");
            return Err(Invalid::OutOfRange { field, number: 0, range }.into());
        }
        check("length_bytes", len, RANDOM_BYTES_MAX, "ask several times")?;
        call.charge(u32::try_from(len.div_ceil(BYTES_PER_UNIT)).unwrap_or(u32::MAX))?;
        let data = twinkeep_crypto::random::bytes(len)?;
        // No key is used. The answer says all the same how old the roles are that allowed it.
        if let Freshness::Stale { age: Some(age) } = call.records().control().freshness() {
            call.draft().stale(age);
        }
        Ok(v1::GenerateRandomResponse {
            data_crc32c: checksum::of(&data),
            data: Bytes::from_owner(data),
            state_age_ms: 0,
            state_index: 0,
        })
    }
}
