//! Ids, lifecycles, commands and their deterministic application.
//!
//! Everything that all nodes must agree on lives here: what a key is ([`record`]), what may
//! happen to it ([`key::KeyState::on`]), how a change is written down ([`command`]) and what it does
//! ([`apply`]). The crate does no I/O, reads no clock and draws no random number: time is the
//! replicated clock, key material arrives sealed inside the command.
//!
//! What may break: stored and signed bytes. Field numbers, table numbers and kinds are never
//! reused; `tests/golden.rs` holds the bytes.

pub mod access;
pub mod admission;
pub mod apply;
pub mod clock;
pub mod command;
pub mod freshness;
pub mod id;
pub mod key;
pub mod leadership;
pub mod name;
pub mod outcome;
pub mod record;
pub mod recovery;
pub mod replication;
pub mod state;
pub mod topology;
