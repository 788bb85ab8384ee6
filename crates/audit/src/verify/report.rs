//! What a verification found.

use std::{fmt, io};

use crate::frame::Head;
use crate::json::rfc3339;
use crate::record::InvalidRecord;
use crate::segment::InvalidHeader;

/// Most findings that a report lists; the reading stops there.
pub const FINDINGS_MAX: usize = 1000;

/// Something in a log that is not as it was written.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    /// Segments are missing before the first or between two.
    #[error("segments {from} to {to} are missing")]
    MissingSegments {
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// A file cannot be read.
    #[error("segment {segment} cannot be read: {source}")]
    Unreadable {
        /// The segment.
        segment: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A segment's header does not hold.
    #[error("segment {segment}: {source}")]
    Header {
        /// The segment.
        segment: u64,
        /// What is wrong.
        source: InvalidHeader,
    },
    /// A segment's file name and header differ.
    #[error("segment {segment} is segment {header} by its header")]
    Misnamed {
        /// The number in the file name.
        segment: u64,
        /// The number in the header.
        header: u64,
    },
    /// A segment is of another cluster or node than the first.
    #[error("segment {segment} belongs to another log")]
    Foreign {
        /// The segment.
        segment: u64,
    },
    /// A segment does not begin where the one before ends.
    #[error("segment {segment} does not continue the one before")]
    Unlinked {
        /// The segment.
        segment: u64,
    },
    /// Bytes are no record.
    #[error("segment {segment} is damaged at byte {offset}, where record {sequence} should stand")]
    Damaged {
        /// The segment.
        segment: u64,
        /// Where in the file.
        offset: u64,
        /// The record that should stand there.
        sequence: u64,
    },
    /// The log ends in an unfinished commit, as a power cut leaves it.
    #[error(
        "segment {segment} ends in an unfinished commit at byte {offset}, after record {sequence}"
    )]
    Torn {
        /// The segment.
        segment: u64,
        /// Where in the file.
        offset: u64,
        /// The last whole record.
        sequence: u64,
    },
    /// A record does not follow the one before.
    #[error("segment {segment}: record {found} stands where record {expected} should")]
    Sequence {
        /// The segment.
        segment: u64,
        /// The sequence that should stand there.
        expected: u64,
        /// The sequence that stands there.
        found: u64,
    },
    /// A record's chain does not hold: it, or one before it, was changed, removed or moved.
    #[error("segment {segment}: the chain breaks at record {sequence}")]
    Chain {
        /// The segment.
        segment: u64,
        /// The record.
        sequence: u64,
    },
    /// A record's bytes are whole, and cannot be read.
    #[error("record {sequence} cannot be read: {source}")]
    Record {
        /// The record.
        sequence: u64,
        /// What is wrong.
        source: InvalidRecord,
    },
    /// A record's stamp is of another place, node or cluster.
    #[error("record {sequence} bears the stamp of another place or node")]
    Stamp {
        /// The record.
        sequence: u64,
    },
    /// A run begins although the one before did not end, and no mark tells of the crash; or a record
    /// stands outside any run.
    #[error(
        "record {sequence} stands where no run allows it: a crash mark or the end of a run is missing"
    )]
    Run {
        /// The record.
        sequence: u64,
    },
    /// The log ends without the mark of its end, and no process has it open: the node crashed and has
    /// not started again, or the end was cut off.
    #[error(
        "the log ends at record {sequence} without being closed: a crash, or the end was cut off"
    )]
    NotClosed {
        /// The last record.
        sequence: u64,
    },
    /// The log does not hold the head that was kept elsewhere.
    #[error("the log does not hold record {sequence} as it was when its head was kept")]
    Anchor {
        /// The record of that head.
        sequence: u64,
    },
    /// A file that no log makes.
    #[error("file {name:?} does not belong to the log")]
    Stranger {
        /// Its name.
        name: String,
    },
}

/// A crash that the log tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The mark.
    pub sequence: u64,
    /// When the next run found it, in nanoseconds since the Unix epoch, UTC.
    pub time_unix_ns: u64,
    /// The span of time whose records may be missing, at its longest, in milliseconds.
    pub window_ms: u32,
}

/// What a log holds and what is wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    /// Segment files.
    pub segments: u64,
    /// Records that could be read.
    pub records: u64,
    /// The newest record. Keep it elsewhere to compare the next report with it.
    pub head: Option<Head>,
    /// Whether a process had the log open; then its end may be in the making.
    pub in_use: bool,
    /// Crashes that the log tells of. They are no findings.
    pub losses: Vec<Loss>,
    /// What is wrong, in the order of the log, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

impl Report {
    /// Tells whether nothing is wrong.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} segments, {} records", self.segments, self.records)?;
        if let Some(head) = self.head {
            writeln!(f, "head {head}")?;
        }
        if self.in_use {
            writeln!(f, "a node has the log open; its newest records may be in the making")?;
        }
        for Loss { sequence, time_unix_ns, window_ms } in &self.losses {
            let time = rfc3339(*time_unix_ns);
            writeln!(
                f,
                "crash before record {sequence}, found {time}: records of at most {window_ms} ms may be missing"
            )?;
        }
        for finding in &self.findings {
            writeln!(f, "finding: {finding}")?;
        }
        match self.findings.len() {
            0 => f.write_str("intact"),
            FINDINGS_MAX => {
                write!(f, "not intact: {FINDINGS_MAX} findings or more, reading stopped")
            }
            findings => write!(f, "not intact: {findings} findings"),
        }
    }
}
