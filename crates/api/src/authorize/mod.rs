//! Who calls, and may they: the one way from a request to a handler.
//!
//! | file          | holds                                                                          |
//! |---------------|--------------------------------------------------------------------------------|
//! | `identity.rs` | [`Peer`]: the other end of a connection, and the caller that it is             |
//! | `gate.rs`     | [`Gate`]: every call's way in and out                                          |
//! | `entered.rs`  | [`Entered`], [`Authorized`]: what a handler needs to get at anything           |
//! | `session.rs`  | [`Session`]: a stream of calls that a caller was let open                      |
//! | `places.rs`   | [`places::Places`]: how many calls a caller has open                           |
//! | `together.rs` | the calls of a batch, one after the other or side by side                      |
//! | `draft.rs`    | [`draft::Draft`]: the call's audit record until it is written                  |
//!
//! The order is: audit permit, identity, a place among the caller's open calls, the state that the caller
//! has seen, the permission anywhere, then the handler, which has to authorise each resource that it touches. A caller without the
//! permission learns nothing about its request, be it well formed or not.

mod draft;
mod entered;
mod gate;
mod identity;
mod places;
mod session;
mod together;

pub use identity::Peer;

pub(crate) use entered::{Authorized, Entered};
pub(crate) use gate::{Answers, Gate, Handle, HandleStream, Outgoing};
pub(crate) use session::{Session, Terms};
