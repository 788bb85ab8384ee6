//! The API over ports in memory, called through real gRPC on loopback.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

mod access;
mod audit;
mod batch;
mod cluster;
mod crypto;
mod ground;
mod keys;
mod limits;
mod node;
mod permissions;
mod scopes;
mod stale;
mod stream;
