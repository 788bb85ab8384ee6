//! The native gRPC API: `twinkeep.v1` over the ports of a node.
//!
//! A call's way: `authorize` finds out who calls and whether they may, a service handler does
//! the work with proof of that in its hands, `ground` checks that what the result rests on has not
//! moved, the audit record is written, and `status` gives every failure its code. What the services
//! need from outside stands in [`ports`].
//!
//! What must not break: no handler reaches a key without `Authorized`; no answer leaves before its
//! audit record; a caller without permission learns nothing.

mod access;
pub mod arrival;
mod audit_log;
mod authorize;
mod cache;
mod change;
mod checksum;
mod cluster;
mod convert;
mod crypto;
mod deadline;
mod error;
mod field;
mod ground;
mod handles;
pub mod health;
mod instances;
mod keys;
pub mod limits;
mod message;
mod meter;
pub mod metrics;
mod operation;
mod page;
pub mod ports;
mod records;
mod services;
mod status;
mod stream;
mod trace;
mod turns;

pub use authorize::Peer;
pub use error::{CallError, Invalid, OverLimit, Unauthenticated};
pub use services::{Services, reflection};
pub use trace::{StreamSpans, trace_streams};
