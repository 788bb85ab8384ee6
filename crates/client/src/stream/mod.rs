//! Calls over one stream per node.
//!
//! A single gRPC call costs its two sides 30 to 45 µs, a message on a stream that is open a tenth of it. So
//! the calls that use keys share one `CryptoStream` per node:
//!
//! ```text
//! call ── places its message ─► Desk ◄─ takes messages ── Outgoing ── h2 ──► node
//!   ▲                            │ ▲
//!   └── answer, late or ended ───┘ └── places answers ─── reader ◄─── h2 ─── node
//! ```
//!
//! - [`board`]: which calls are open and what leaves next; no time, no tasks, no locks.
//! - [`desk`]: the board of one stream under its lock, and who is woken.
//! - [`waiting`]: one call that waits; dropped, it gives the call up.
//! - [`reader`]: the task of a stream: takes answers in, wakes who waits too long, says how it ended.
//! - [`lane`]: one node's stream, and when its calls go one by one instead.
//! - [`kind`]: which call travels as which message.
//!
//! **Bounds.** At most [`board::OPEN_MAX`] calls are open on a stream, which is what a node works on at a
//! time; further callers wait in order, without a message of theirs in memory. A call that was given up
//! counts until the node has answered it.
//!
//! **Writes.** Messages that are there when the connection is ready leave in one write, and answers that are
//! there are handed out under one lock. No call has a timer: the reader looks every [`reader::TICK`] at who
//! has waited for too long.
//!
//! **Ends.** A stream that ends ends all its open calls at once, with an error after which they go on at
//! another node. The next call to the node opens the stream again.

mod board;
mod desk;
mod kind;
mod lane;
mod reader;
mod waiting;

pub(crate) use board::OPEN_MAX;
pub(crate) use kind::{Streamed, answer_of};
pub(crate) use lane::{Lane, Parcel, attempt, status_of};
pub(crate) use waiting::{Progress, Waiting};
