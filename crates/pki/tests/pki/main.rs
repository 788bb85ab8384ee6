//! Certificates, credentials and connections of a small cluster, through the public API.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, in helpers too")]

mod authority;
mod common;
mod credential;
mod handshake;
mod server;
