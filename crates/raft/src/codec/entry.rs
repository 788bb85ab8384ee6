//! Log entries.

use bytes::{Buf, Bytes};

use super::log_id::take_log_id;
use super::membership::{decode_membership, encode_membership};
use super::{LOG_ID_LEN, Malformed, at_end, encode_log_id, take, take_format};
use crate::types::{Entry, Payload, SignedBytes};

const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Format, kind and log id.
const HEAD_LEN: usize = 2 + LOG_ID_LEN;

/// Returns the bytes of an entry, as they stand in the log and go over the wire.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let membership;
    let (kind, body): (u8, &[u8]) = match &entry.payload {
        Payload::Blank => (BLANK, &[]),
        Payload::Normal(batch) => (BATCH, &batch.0),
        Payload::Membership(members) => {
            membership = encode_membership(members);
            (MEMBERSHIP, &membership)
        }
    };
    let mut out = Vec::with_capacity(HEAD_LEN + body.len());
    out.extend_from_slice(&[1, kind]);
    out.extend_from_slice(&encode_log_id(&entry.log_id));
    out.extend_from_slice(body);
    out
}

/// Reads an entry; the bytes of a batch are shared with `bytes`, not copied.
///
/// # Errors
/// [`Malformed`] when the bytes are no entry of format 1.
pub fn decode_entry(mut bytes: Bytes) -> Result<Entry, Malformed> {
    let mut head: &[u8] = &bytes;
    take_format(&mut head, "log entry")?;
    let [kind] = *take::<1>(&mut head, "log entry")?;
    let log_id = take_log_id(&mut head)?;
    bytes.advance(HEAD_LEN);
    let payload = match kind {
        BLANK => {
            at_end(&bytes, "log entry")?;
            Payload::Blank
        }
        BATCH => Payload::Normal(SignedBytes(bytes)),
        MEMBERSHIP => Payload::Membership(decode_membership(&bytes)?),
        _ => return Err(Malformed::new("log entry", "its kind is unknown")),
    };
    Ok(Entry { log_id, payload })
}
