//! Stored and sent bytes of log entries, votes, memberships and what a snapshot covers.
//!
//! | form        | bytes                                                                   |
//! |-------------|-------------------------------------------------------------------------|
//! | log id      | term (8), leader's node id (8), index (8)                               |
//! | vote        | format `1`, term (8), node id (8), committed `0` or `1`                 |
//! | entry       | format `1`, kind, log id (24), body                                     |
//! | applied     | format `1`, last log id, membership's log id, membership; an id is behind `1`, none is `0` |
//! | membership  | CBOR `[[[voter…]…], {node: address}]`                                   |
//!
//! Numbers are big-endian and below 2^62: what follows adds to them, and a term or index near the end
//! of the range, which only a forger would send, must not overflow there. Kinds: `0` blank, `1` signed batch (the body is its exact bytes),
//! `2` membership. An unknown format or kind is refused, never skipped, and so is anything left
//! over at the end. Checksums are the store's and the transport's; these bytes come from a disk or
//! a peer, so nothing here panics on them.

mod applied;
mod entry;
mod log_id;
mod membership;

pub use applied::Applied;
pub use entry::{decode_entry, encode_entry};
pub use log_id::{LOG_ID_LEN, decode_log_id, decode_vote, encode_log_id, encode_vote};
pub(crate) use log_id::{checked_log_id, checked_vote};
pub(crate) use membership::{decode_membership, encode_membership};

#[cfg(test)]
mod tests;

/// Bytes that are no record of the kind they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {why}")]
pub struct Malformed {
    /// The kind of record, for a person.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Malformed {
    const fn new(what: &'static str, why: &'static str) -> Self {
        Self { what, why }
    }
}

/// Takes `N` bytes off the front.
fn take<'a, const N: usize>(
    bytes: &mut &'a [u8],
    what: &'static str,
) -> Result<&'a [u8; N], Malformed> {
    let (head, rest) =
        bytes.split_first_chunk::<N>().ok_or(Malformed::new(what, "it ends too early"))?;
    *bytes = rest;
    Ok(head)
}

/// Takes a big-endian number off the front.
fn take_u64(bytes: &mut &[u8], what: &'static str) -> Result<u64, Malformed> {
    take::<8>(bytes, what).and_then(|raw| checked(u64::from_be_bytes(*raw), what))
}

/// Passes a number below 2^62.
fn checked(number: u64, what: &'static str) -> Result<u64, Malformed> {
    if number < 1 << 62 { Ok(number) } else { Err(Malformed::new(what, "a number is too great")) }
}

/// Takes the format byte off the front and compares it.
fn take_format(bytes: &mut &[u8], what: &'static str) -> Result<(), Malformed> {
    match take::<1>(bytes, what)? {
        [1] => Ok(()),
        _ => Err(Malformed::new(what, "its format is unknown")),
    }
}

/// Refuses what is left over.
fn at_end(bytes: &[u8], what: &'static str) -> Result<(), Malformed> {
    if bytes.is_empty() { Ok(()) } else { Err(Malformed::new(what, "it goes on after its end")) }
}
