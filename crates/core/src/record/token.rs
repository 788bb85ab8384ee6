//! Idempotency tokens: a repeated command is answered with the first outcome.
//!
//! The token is bound to principal, operation and a keyed digest of the request, so that a guessed
//! or reused token shows nobody else's outcome. The record holds outcome and ids, never a secret that
//! was shown once.

use crate::access::Permission;
use crate::clock::UnixMs;
use crate::name::CallerName;
use crate::outcome::Outcome;
use crate::record::Record;
use crate::state::Table;

/// Keyed digest of a request (HMAC-SHA-256 under `twinkeep-request-v1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Digest(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

/// A token as a command carries it.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Token {
    /// What the caller drew.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub token: [u8; 16],
    /// The operation that it was drawn for.
    #[n(1)]
    pub operation: Permission,
    /// Digest of the request that it was drawn for.
    #[n(2)]
    pub digest: Digest,
}

/// What a token led to. Row: token, 16 bytes; principal's name.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct TokenRecord {
    /// The token.
    #[n(0)]
    pub token: Token,
    /// Who drew it.
    #[n(1)]
    pub principal: CallerName,
    /// What came of the command.
    #[n(2)]
    pub outcome: Outcome,
    /// When the record lapses, by the replicated clock.
    #[n(3)]
    pub expires_ms: UnixMs,
}

impl TokenRecord {
    /// How long an outcome is kept, in milliseconds: a day.
    pub const LIFE_MS: u64 = 24 * 60 * 60 * 1000;

    /// Returns the row that finds the record by the time it lapses: u64 big-endian, then its own row.
    #[must_use]
    pub fn expiry_row(&self) -> Vec<u8> {
        [self.expires_ms.to_be_bytes().as_slice(), &self.own_row()].concat()
    }
}

impl Record for TokenRecord {
    const TABLE: Table = Table::Tokens;
    type Id = ([u8; 16], CallerName);

    fn row((token, principal): &Self::Id) -> Vec<u8> {
        [token.as_slice(), principal.as_str().as_bytes()].concat()
    }

    fn own_row(&self) -> Vec<u8> {
        [self.token.token.as_slice(), self.principal.as_str().as_bytes()].concat()
    }
}
