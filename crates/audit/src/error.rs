//! Why a log cannot be opened and why it takes no record.

use std::io;
use std::path::PathBuf;

use twinkeep_core::id::{ClusterId, NodeId};

use crate::record::InvalidRecord;
use crate::segment::{InvalidHeader, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

/// Why a log was not opened. No record in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A segment would be too small or too large.
    #[error(
        "audit segments of {0} bytes: give {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} (96 KiB to 256 MiB)"
    )]
    SegmentBytes(u64),
    /// The directory cannot be made or opened.
    #[error("audit directory {path} cannot be opened")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may enter the directory.
    #[error("audit directory {path} has mode {mode:o}; it is for its owner alone: chmod 700")]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process has the log open.
    #[error("audit directory {path} is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The files belong to another cluster or node.
    #[error(
        "audit segment {segment} is of {cluster}, node {node}: this is another node's directory"
    )]
    Foreign {
        /// The segment.
        segment: u64,
        /// The cluster in its header.
        cluster: ClusterId,
        /// The node in its header.
        node: NodeId,
    },
    /// A segment's header does not hold.
    #[error("audit segment {segment} is refused")]
    Header {
        /// The segment.
        segment: u64,
        /// What is wrong.
        #[source]
        source: InvalidHeader,
    },
    /// A record is damaged although it was on the disk whole: a later commit stands behind it.
    #[error(
        "audit segment {segment} is damaged or altered at byte {offset}, where record {sequence} stood: \
         keep a copy, run audit-verify on it, and move the directory away to begin a new log"
    )]
    Damaged {
        /// The segment.
        segment: u64,
        /// Where in the file.
        offset: u64,
        /// The record that should stand there.
        sequence: u64,
    },
    /// The newest record is whole and cannot be read: later software wrote it.
    #[error("audit record {sequence} is refused")]
    Record {
        /// The record.
        sequence: u64,
        /// What is wrong with it.
        #[source]
        source: InvalidRecord,
    },
    /// The newest segment does not continue the one before.
    #[error(
        "audit segment {segment} does not continue the one before: records were removed or altered; \
         keep a copy, run audit-verify on it, and move the directory away to begin a new log"
    )]
    Unlinked {
        /// The newest segment.
        segment: u64,
    },
    /// The disk did not do what was asked.
    #[error("the disk failed to {what}")]
    Io {
        /// What was asked, as "read segment 3".
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The opening records could not be written.
    #[error("the audit log does not take records")]
    Outage(#[source] Outage),
}

/// Why a record was not taken. The call that it belongs to must not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// More calls wait for their record than the queue holds. Passes by itself.
    #[error("{records} audit records wait for the disk, which is all that may")]
    QueueFull {
        /// The queue's limit.
        records: usize,
    },
    /// The log cannot promise to keep a record.
    #[error("audit log unavailable")]
    Unavailable(#[source] Outage),
}

/// Why a log cannot promise to keep a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outage {
    /// The disk has no room and the reserve is used up. The log tries again by itself.
    #[error("the disk is full and the audit reserve is used up: make room")]
    Full,
    /// The disk failed. What reached it is unknown, so only a restart, which reads it, can go on.
    #[error("the disk failed to {what} ({kind}): repair it and restart the node")]
    Io {
        /// What was asked.
        what: &'static str,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The disk has not answered for [`crate::Options::stall_limit`]. The log goes on when it does.
    #[error("the disk does not answer")]
    Stalled,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The thread that writes ended by a fault of this software; restart the node.
    #[error("the audit thread ended unexpectedly: restart the node")]
    Crashed,
}

impl From<Outage> for AppendError {
    fn from(outage: Outage) -> Self {
        Self::Unavailable(outage)
    }
}

impl Outage {
    /// Takes what the system said of a write. A want of room passes; nothing else is taken to.
    pub(crate) fn of_write(what: &'static str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full,
            kind => Self::Io { what, kind },
        }
    }

    /// Takes what the system said of a sync. Nothing passes here: the kernel may have dropped the
    /// bytes that it could not write, and a second sync would then succeed without them.
    pub(crate) fn of_sync(error: &io::Error) -> Self {
        Self::Io { what: "sync an audit segment", kind: error.kind() }
    }

    /// Tells whether the log may go on without a restart.
    pub(crate) const fn passes(self) -> bool {
        matches!(self, Self::Full)
    }
}
