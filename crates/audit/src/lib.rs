//! Audit records and the tamper-evident log of a node.
//!
//! Every answered call of a caller, refusals too, leaves a [`Record`] in its node's [`Log`]. This crate
//! says what a record holds ([`call`], [`record`]), keeps records in hash-chained segment files
//! ([`Log`]), lets others follow them ([`Tail`]) and checks them later from the files alone
//! ([`verify()`]). Who writes a record, and what the answer waits for, is the API's business.
//!
//! The log falls on the safe side: a record that cannot be kept is an error before the key is used
//! ([`Log::permit`]), never a wait without end and never a record dropped in silence.
//!
//! Layers, each in its own module: `frame` and `segment` have the stored bytes, `directory` and
//! `device` the files, `reserve` the room kept for bad days, `recover` the end of an earlier run,
//! `queue` and `writer` the way of a record to the disk, `waiters` those whose answers wait for it.

pub mod call;
mod device;
mod directory;
mod error;
mod frame;
mod json;
mod log;
pub mod metrics;
mod queue;
pub mod record;
mod recover;
mod reserve;
mod segment;
mod tail;
mod text;
mod ticket;
mod verify;
mod waiters;
mod writer;

#[cfg(test)]
mod testing;

pub use crate::call::Call;
pub use crate::error::{AppendError, OpenError, Outage};
pub use crate::frame::{Chain, Head, InvalidHead};
pub use crate::log::{Identity, LOSS_WINDOW, Log, Options, Permit, Status};
pub use crate::record::Record;
pub use crate::segment::{InvalidHeader, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use crate::tail::{TAIL_RECORDS_MAX, Tail, TailError};
pub use crate::text::Text;
pub use crate::ticket::{Ticket, Wait};
pub use crate::verify::{FINDINGS_MAX, Finding, Loss, Report, Unreadable, verify};
