//! Rust client: endpoints, leader hints, deadlines, retries, read-your-writes.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use twinkeep_client::{Client, v1};
//!
//! let client = Client::builder()
//!     .endpoint_in("zone-a", "127.0.1.1:7100")
//!     .endpoint_in("zone-b", "127.0.2.1:7100")
//!     .zone("zone-a")
//!     .root_file("roots.pem")
//!     .identity_files("app.pem", "app.key")
//!     .build()?;
//! let request = v1::EncryptRequest {
//!     key_id: "key-00112233445566778899aabbccddeeff".into(),
//!     plaintext: "a secret".into(),
//!     ..Default::default()
//! };
//! let ciphertext = client.encrypt(request).await?.ciphertext;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is cheap to clone and shared between tasks. Its calls take and give the messages of
//! [`v1`]; on top of them it does the following.
//!
//! - **Finds nodes.** The endpoints given at the start, and what the cluster says of itself ([`topology`](Client::watch_topology)).
//! - **Shares streams.** Calls that use keys are messages on one stream per node, at a tenth of what single calls
//!   cost; where a proxy breaks streams they go one by one ([`Builder::crypto_stream`]).
//! - **Prefers the near zone**, and among its nodes the one with the fewest open calls; what the near zone cannot bear
//!   spills over.
//! - **Avoids failing nodes.** Three failures in a row, a refused connection, or a health answer other than `SERVING`
//!   eject a node, until a probe finds it well.
//! - **Knows a cluster that was recovered** from what was given up: nodes of an older incarnation are refused
//!   ([`Builder::memory_file`]).
//! - **Counts** what it does ([`Client::activity`]).
//! - **Says at once which certificate is refused**, where, by whom and why, if it is at every node, or the
//!   caller's at every node that is up ([`Error::CertificateRefused`]); no time mends that.
//! - **Tries again where that is safe** ([`Safety`]): on another node, in another zone first, within a
//!   retry budget that keeps a brown-out from being amplified.
//! - **Hedges.** A crypto call without an answer after max(10 ms, 2 × p95) is sent to the other zone as
//!   well; the first answer counts.
//! - **Reads its own writes.** The highest `state_index` seen so far goes into each request.
//! - **Checks sums.** CRC-32C of what is sent and received; damage on the way is tried again.
//! - **Encrypts files** of any size under data keys, in constant memory ([`mod@file`]).
//! - **Names control writes.** A call that makes something carries an idempotency token, so that it can
//!   be sent twice and happen once. A leader that is silent is left within 50 ms or so.
//!
//! docs/clients.md has all of this with its numbers, and what to do in other languages.
//!
//! [`Client::data_keys`] encrypts here, under data keys that serve many messages ([`DataKeys`]).
//!
//! What the client does not do: it wipes no buffer inside tonic and h2. What comes back in clear can be
//! wiped with [`wipe`] once it is used.

mod budget;
mod builder;
mod call;
mod chance;
mod client;
mod connect;
mod data_keys;
mod error;
mod exchange;
pub mod file;
mod latency;
mod memory;
mod message;
mod metrics;
mod node;
mod pool;
mod probe;
mod refusal;
mod safety;
mod spill;
mod stream;
mod sums;
mod topology;
mod trace;

pub use builder::{BuildError, Builder};
pub use client::Client;
pub use data_keys::{DataKeyError, DataKeyOptions, DataKeys};
pub use error::{Error, Outcome};
pub use exchange::Answers;
pub use metrics::{Activity, NodeActivity};
pub use refusal::{Fault, Refusal, Refuser};
pub use safety::Safety;
/// What a message under a data key is bound to.
pub use twinkeep_envelope::Context;
/// The messages of the service.
pub use twinkeep_proto::v1;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

use bytes::Bytes;
use zeroize::Zeroize;

/// Tells whether bytes begin as a ciphertext of a key of spec AES_256; one is enough. Those of RSA keys begin with
/// anything.
///
/// ```
/// assert!(twinkeep_client::begins_ciphertext(b"\xcb"));
/// assert!(!twinkeep_client::begins_ciphertext(b"a plain text"));
/// ```
#[must_use]
pub fn begins_ciphertext(bytes: &[u8]) -> bool {
    use twinkeep_envelope::{Malformed, ciphertext::Header};
    !bytes.is_empty() && Header::parse(bytes) != Err(Malformed::Magic)
}

/// Overwrites secret bytes of an answer, if nobody else holds them.
///
/// Returns whether it did: other clones of the same [`Bytes`] keep them alive. An answer that came over a stream
/// shares its buffer with the transport, so its bytes mostly stay until that buffer is used again.
pub fn wipe(secret: Bytes) -> bool {
    secret.try_into_mut().map(|mut bytes| bytes.as_mut().zeroize()).is_ok()
}
