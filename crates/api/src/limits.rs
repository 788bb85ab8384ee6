//! Sizes and counts that are checked before any work. Bytes, unless a name says otherwise.

use std::time::Duration;

use twinkeep_core::key::KeySpec;

use crate::error::OverLimit;

/// Longest plaintext to encrypt. RSA takes less, see [`twinkeep_crypto::limits`].
pub const PLAINTEXT_BYTES_MAX: usize = twinkeep_crypto::limits::PLAINTEXT_BYTES_MAX;
/// Longest ciphertext: the longest plaintext and its envelope.
pub const CIPHERTEXT_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + twinkeep_envelope::OVERHEAD_BYTES;
/// Longest encryption context or associated data, encoded.
pub const CONTEXT_BYTES_MAX: usize = twinkeep_envelope::Context::ENCODED_BYTES_MAX;
/// Longest message to sign or authenticate.
pub const MESSAGE_BYTES_MAX: usize = twinkeep_crypto::limits::MESSAGE_BYTES_MAX;
/// Longest signature to verify: twice that of RSA-4096.
pub const SIGNATURE_BYTES_MAX: usize = 1024;
/// Longest authentication code to verify: that of SHA-512.
pub const MAC_BYTES_MAX: usize = 64;
/// Longest data key.
pub const DATA_KEY_BYTES_MAX: usize = twinkeep_crypto::data_key::LEN_MAX;
/// Data key that a length of 0 asks for: 256 bits.
pub const DATA_KEY_BYTES_DEFAULT: usize = 32;
/// Most random bytes of one call.
pub const RANDOM_BYTES_MAX: usize = 64 * 1024;
/// Longest certificate signing request, PEM. One for RSA-4096 has about 1,800.
pub const CSR_BYTES_MAX: usize = 16 * 1024;
/// Longest share or passphrase.
pub const UNSEAL_SECRET_BYTES_MAX: usize = 1024;
/// Exact length of an idempotency token.
pub const TOKEN_BYTES: usize = 16;

/// Most items of a batch.
pub const BATCH_ITEMS_MAX: usize = 256;
/// Most bytes of a batch's items, payloads and contexts together.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// What the items of a batch may cost together, in units of about 5 µs of one core: a tenth of a second.
pub const BATCH_COST_MAX: u32 = 20_000;
/// How many items of a batch are worked on side by side.
pub const BATCH_PARALLEL: usize = 16;
/// Largest message that is decoded at all: tonic refuses a longer one by its length prefix.
pub const REQUEST_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

/// Most calls of one crypto stream that are worked on at a time; the node reads no further until one is
/// answered.
pub const STREAM_CALLS_MAX: usize = 256;
/// Longest time that a crypto stream works without letting others of its thread have their turn.
pub const STREAM_TURN: Duration = Duration::from_micros(200);
/// Longest trace that a caller may give its request, in bytes.
pub const TRACE_BYTES_MAX: usize = 64;
/// Most calls of one caller that are worked on at a time, over all of its streams and single calls.
pub const CALLER_CALLS_MAX: u32 = 1024;
/// Most crypto streams of one caller that are open on a node at a time.
pub const CALLER_STREAMS_MAX: u32 = 1024;
/// Longest that a call for keys may have waited when it is begun; later it is refused.
pub const BEGUN_WITHIN_MAX: Duration = Duration::from_millis(250);
/// When a caller whose call came too late is asked to come back.
pub const OVERLOADED_RETRY: Duration = Duration::from_millis(250);
/// When a caller that was refused as too busy is asked to come back.
pub const BUSY_RETRY: Duration = Duration::from_millis(20);

/// Entries of a page where the caller names no number.
pub const PAGE_SIZE_DEFAULT: usize = 100;
/// Most entries of a page.
pub const PAGE_SIZE_MAX: usize = 1000;
/// Most rows that one page looks at: with filters a page may be short.
pub const PAGE_ROWS_MAX: usize = 2000;
/// Most nodes promoted in one call.
pub const PROMOTE_NODES_MAX: usize = 16;

/// Life of a caller's certificate where the caller names none.
pub const CERTIFICATE_LIFE_DEFAULT: Duration = Duration::from_hours(30 * 24);
/// Longest life of a caller's certificate.
pub const CERTIFICATE_LIFE_MAX: Duration = Duration::from_hours(397 * 24);

/// Time for a call whose caller sets no deadline.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// Longest time for a call, whatever its caller says.
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// How often a call is worked on again because what it rested on changed meanwhile.
pub const GROUND_ATTEMPTS_MAX: usize = 3;
/// How often a change without an expected revision is proposed again because another came first.
pub const CHANGE_ATTEMPTS_MAX: usize = 5;

/// Records of each kind that are kept decoded; half as many are sure to stay.
pub const RECORDS_CACHED_MAX: usize = 16_384;
/// Key versions that are kept open; half as many are sure to stay. Where more are in use, each call for one that is not opens it anew: two
/// microseconds for a symmetric key, up to a quarter of a millisecond for RSA.
pub const OPEN_KEYS_CACHED_MAX: usize = 8192;

/// What is done with a key, for its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Uses the public half, or a symmetric key.
    Light,
    /// Uses the private half.
    Private,
}

/// Returns the cost of an item in units of about 5 µs of one core, from measured rates of aws-lc.
pub(crate) const fn cost(spec: KeySpec, work: Work) -> u32 {
    match (spec, work) {
        (KeySpec::Aes256 | KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512, _) => 1,
        (KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096, Work::Light) => 5,
        (KeySpec::Rsa2048, Work::Private) => 90,
        (KeySpec::Rsa3072, Work::Private) => 230,
        (KeySpec::Rsa4096, Work::Private) => 530,
        (KeySpec::EcP256 | KeySpec::Ed25519, _) => 10,
        (KeySpec::EcP384 | KeySpec::EcP521 | KeySpec::EcP256k1, _) => 50,
    }
}

/// Checks a length before the bytes are looked at.
pub(crate) fn check(
    field: &'static str,
    len: usize,
    max: usize,
    way_out: &'static str,
) -> Result<(), OverLimit> {
    if len <= max { Ok(()) } else { Err(OverLimit { field, len, max, way_out }) }
}
