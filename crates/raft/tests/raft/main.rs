//! Whole nodes in one process: real logs and states on disk, real TLS over loopback.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failed unwrap is a failed test, and the nodes run by the machine's clock"
)]

mod support;

mod company;
mod durability;
mod failover;
mod forgery;
mod freshness;
mod leadership;
mod membership;
mod rollback;
mod snapshots;
mod suite;
mod witness;
mod zones;
