//! The boot handshake: a node that starts takes part once others have said what it may have forgotten.
//!
//! Raft rests on disks that forget nothing. A disk that went back in time, from a copy or a restored machine,
//! breaks it silently: the node votes a second time in a term it has voted in, and a leader goes on counting
//! copies that are gone. openraft does not notice. So:
//!
//! - A node that starts grants nothing, acknowledges nothing and stands for no election until an election lease
//!   has passed and enough others have answered with what *their* disks show ([`handshake`]). Whatever was
//!   committed is on the disk of enough of them, so their answers bound what this node may have forgotten
//!   ([`floor`]): until its own log reaches that floor, it refuses candidates whose log ends below it, and votes
//!   and leaders below the floor's vote.
//! - Each start has a number, greater than those of all starts before it. Messages of the log carry the newest
//!   starts that their sender knows. Who knows of a newer one neither acknowledges nor grants, and answers of an
//!   earlier life are not counted ([`ledger`]).
//! - Heartbeats carry what each node has acknowledged, peers remember it on their disks, and a node that shows
//!   less than anybody remembers is refused for good: it joins again as a fresh node. A leader that has counted
//!   what such a node no longer has counts nothing more and hands over.
//!
//! - A zone that was given up and whose cluster was recovered without it must not come back and go on as if nothing had
//!   happened. So a node that starts takes part only in company that was there all the time ([`company`]).
//!
//! What cannot be noticed: all disks that remember going back together, and a disk that went back by less
//! than one heartbeat while every node that counted its acknowledgement is lost. The gate of the zones waits for
//! two voters outside the leader's zone because of the second.

mod company;
mod floor;
mod handshake;
mod ledger;
mod phase;
mod shown;

pub(crate) use ledger::{Ledger, NODES_MAX, Uncounted, Unheard};
pub use phase::RolledBack;
pub(crate) use phase::{Boot, NotYet};
pub(crate) use shown::{Acknowledged, Shown, Start};

/// Whether the handshake is switched off, so that a test can show what is lost without it.
pub(crate) const fn is_off() -> bool {
    cfg!(twinkeep_break = "boot-handshake")
}
