//! Seals, root, epoch and instance keys, command signing, the recovery bundle, operators' keys.
//!
//! ```text
//! seal key ── root key ── epoch key ── instance key ── key material
//! (a seal)    (level 0)   (level 1)    (level 2)        (level 3)
//! ```
//!
//! How a node comes by its [`Keyring`]:
//!
//! - **the first node** calls [`found`], hands out the shares and the recovery bundle, and puts the records
//!   into the first command;
//! - **a restarted node** collects shares ([`UnsealProgress`]) or takes a passphrase
//!   ([`seal::passphrase::open`]), and opens its stored records ([`Keyring::open`]);
//! - **a joining data node** receives the root key ([`join`]) and opens its copy of the records
//!   ([`Keyring::open_with_root`]).
//!
//! Once open it lies in the node's [`KeyringSlot`] and seals, opens and signs. Sealing the node drops it,
//! which wipes every key. A process calls [`self_test()`] before it takes a key in.
//!
//! What may break: labels, record keys and wraps are stored; share texts and bundles are on paper.

mod founding;
mod instances;
pub mod join;
mod kem;
mod keyring;
mod label;
pub mod operator;
mod protected;
mod random;
mod records;
pub mod recovery;
pub mod seal;
mod self_test;
mod shamir;
mod signing;
mod slot;

#[cfg(test)]
mod tests;

pub use founding::{FoundError, Founded, Founding, NewSeal, OPERATORS_MIN, found};
pub use keyring::{EPOCHS_MAX, FreshError, Keyring, UnsealError};
pub use operator::{InvalidOperatorKey, OperatorKey};
pub use records::{AuthorityName, RecordError};
pub use recovery::Bundle;
pub use seal::SealKey;
pub use seal::progress::{OfferError, Step, UnsealProgress};
pub use seal::share::ShareText;
pub use self_test::{SelfTestFailed, self_test};
pub use shamir::{InvalidQuorum, Quorum};
pub use signing::CommandVerifier;
pub use slot::{KeyringSlot, Sealed};
