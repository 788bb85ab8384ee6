//! The load generator: sends gRPC calls over bare HTTP/2 and times them.
//!
//! It has to keep a server core busy from one core of its own, so it does less than a client library: requests
//! are encoded once, answers are counted and not decoded, and one thread does everything.

pub(crate) mod closed;
pub(crate) mod open;
pub(crate) mod sample;
pub(crate) mod streamed;
pub(crate) mod tally;
#[cfg(test)]
mod tests;
pub(crate) mod window;
pub(crate) mod wire;
