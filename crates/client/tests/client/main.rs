//! The client against nodes that die, stall, lie and move, over real TLS.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, in helpers too")]

mod certificates;
mod data_keys;
mod failover;
mod fake;
mod finding;
mod health;
mod incarnation;
mod retries;
mod streams;
mod zone_loss;
