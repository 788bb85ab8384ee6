//! How far a state has been applied: stored with it in one batch, and signed with a snapshot.

use super::log_id::take_log_id;
use super::membership::{decode_membership, encode_membership};
use super::{Malformed, encode_log_id, take, take_format};
use crate::types::{LogId, SnapshotMeta, StoredMembership};

/// The last entry that a state holds and the membership in force there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last applied entry; `None` before the first.
    pub last_log_id: Option<LogId>,
    /// The last applied membership.
    pub membership: StoredMembership,
}

impl Applied {
    /// Returns the bytes: format `1`, two optional log ids, each behind a byte that is `0` for
    /// none and `1` for one, then the membership.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        put_option(&mut out, self.last_log_id.as_ref());
        put_option(&mut out, self.membership.log_id().as_ref());
        out.extend_from_slice(&encode_membership(self.membership.membership()));
        out
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`Malformed`] when they are no record of format 1.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        take_format(&mut bytes, "applied state")?;
        let last_log_id = take_option(&mut bytes)?;
        let membership_log_id = take_option(&mut bytes)?;
        let membership = decode_membership(bytes)?;
        let membership = StoredMembership::new(membership_log_id, membership);
        Ok(Self { last_log_id, membership })
    }

    /// Returns the same facts as openraft takes them.
    #[must_use]
    pub fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_log_id, last_membership: self.membership.clone() }
    }
}

fn put_option(out: &mut Vec<u8>, id: Option<&LogId>) {
    match id {
        None => out.push(0),
        Some(id) => {
            out.push(1);
            out.extend_from_slice(&encode_log_id(id));
        }
    }
}

fn take_option(bytes: &mut &[u8]) -> Result<Option<LogId>, Malformed> {
    match take::<1>(bytes, "applied state")? {
        [0] => Ok(None),
        [1] => take_log_id(bytes).map(Some),
        _ => Err(Malformed::new("applied state", "an option is neither 0 nor 1")),
    }
}
