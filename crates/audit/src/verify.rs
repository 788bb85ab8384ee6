//! Checking a log from its files alone, on the node or on a copy.
//!
//! Every byte of every segment is read: headers, links between segments, checksums, the chain,
//! sequences, stamps, the marks of runs and crashes, and the zeros behind the last record. What is
//! wrong is a [`Finding`] and the reading goes on behind it.
//!
//! A chain by itself proves that nothing in it was changed by somebody who did not compute it anew, and
//! not that its end is the newest. For both, compare with a [`Head`] that was kept elsewhere.

use std::io;
use std::path::{Path, PathBuf};

use crate::directory::Directory;
use crate::frame::{self, Chain, Frame, Head, Parsed};
use crate::record::{Entry, MarkEvent, Record};
use crate::segment::{self, Header, SEGMENT_BYTES_MAX};

pub use self::report::{FINDINGS_MAX, Finding, Loss, Report};

mod report;

/// Why a directory cannot be checked at all.
#[derive(Debug, thiserror::Error)]
#[error("audit directory {path} cannot be read")]
pub struct Unreadable {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Checks the log in a directory, and that it holds `anchor`, the head of an earlier report.
///
/// Changes nothing, and may run while the node writes. Blocks for as long as reading the log takes.
///
/// # Errors
/// [`Unreadable`] if the directory cannot be read; everything else is a finding.
pub fn verify(path: &Path, anchor: Option<Head>) -> Result<Report, Unreadable> {
    let unreadable = |source| Unreadable { path: path.to_owned(), source };
    let directory = Directory::open(path).map_err(unreadable)?;
    let in_use = directory.is_locked().map_err(unreadable)?;
    let listing = directory.list().map_err(unreadable)?;
    let mut reader = Reader {
        report: Report { in_use, ..Report::default() },
        anchor,
        owner: None,
        end: Some(Head::START),
        run: Run::Closed,
    };
    for name in listing.strangers {
        reader.find(Finding::Stranger { name });
    }
    let newest = listing.segments.last().copied();
    let mut expected = 1;
    for number in listing.segments {
        if reader.is_full() {
            break;
        }
        reader.next_segment(&directory, expected, number, newest == Some(number));
        expected = number + 1;
    }
    Ok(reader.finish())
}

/// The marks of runs, as a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// Records are missing: anything may follow.
    Unknown,
    /// Nothing is open.
    Closed,
    /// A crash was marked; the next run is about to open.
    Lost,
    /// Calls may follow.
    Open,
}

impl Run {
    fn after(self, entry: &Entry) -> Option<Self> {
        let mark = match entry {
            Entry::Call(_) => None,
            Entry::Mark(mark) => Some(mark.event),
        };
        match (self, mark) {
            (Self::Unknown | Self::Open, None) => Some(Self::Open),
            (Self::Unknown | Self::Closed | Self::Lost, Some(MarkEvent::Opened)) => {
                Some(Self::Open)
            }
            (Self::Unknown | Self::Open, Some(MarkEvent::Closed)) => Some(Self::Closed),
            (Self::Unknown | Self::Open | Self::Lost, Some(MarkEvent::LossPossible { .. })) => {
                Some(Self::Lost)
            }
            (Self::Closed | Self::Lost, None | Some(MarkEvent::Closed))
            | (Self::Closed, Some(MarkEvent::LossPossible { .. }))
            | (Self::Open, Some(MarkEvent::Opened)) => None,
        }
    }
}

struct Reader {
    report: Report,
    anchor: Option<Head>,
    /// The first segment's header, which names the log's owner.
    owner: Option<Header>,
    /// The end of what was read; `None` behind a gap.
    end: Option<Head>,
    run: Run,
}

impl Reader {
    fn find(&mut self, finding: Finding) {
        if !self.is_full() {
            self.report.findings.push(finding);
        }
    }

    fn is_full(&self) -> bool {
        self.report.findings.len() >= FINDINGS_MAX
    }

    fn gap(&mut self, finding: Finding) {
        self.find(finding);
        self.end = None;
        self.run = Run::Unknown;
    }

    fn next_segment(&mut self, directory: &Directory, expected: u64, number: u64, newest: bool) {
        self.report.segments += 1;
        if number > expected {
            self.gap(Finding::MissingSegments { from: expected, to: number - 1 });
        }
        let bytes = match directory.contents(&segment::file_name(number), SEGMENT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(source) => return self.gap(Finding::Unreadable { segment: number, source }),
        };
        match Header::from_bytes(&bytes) {
            Ok(header) => self.frames(&bytes, number, &header, newest),
            Err(source) => self.gap(Finding::Header { segment: number, source }),
        }
    }

    fn frames(&mut self, bytes: &[u8], number: u64, header: &Header, newest: bool) {
        self.link(number, header);
        let mut walk = Walk {
            segment: number,
            at: segment::HEADER_BYTES,
            chain: Some(header.chain()),
            expected: header.first_sequence,
        };
        while !self.is_full() {
            match frame::parse(&bytes[walk.at..]) {
                Parsed::Frame(frame) => self.frame(&mut walk, &frame),
                Parsed::End if bytes[walk.at..].iter().all(|byte| *byte == 0) => break,
                Parsed::End | Parsed::Partial | Parsed::Damaged => {
                    if !self.skip_damage(&mut walk, bytes, newest) {
                        break;
                    }
                }
            }
        }
        self.end = walk.chain.map(|chain| Head { sequence: walk.expected - 1, chain });
    }

    fn link(&mut self, number: u64, header: &Header) {
        if header.number != number {
            self.find(Finding::Misnamed { segment: number, header: header.number });
        }
        let owner = self.owner.get_or_insert_with(|| header.clone());
        if (owner.cluster, owner.node) != (header.cluster, header.node) {
            self.find(Finding::Foreign { segment: number });
        }
        let begins =
            Head { sequence: header.first_sequence.wrapping_sub(1), chain: header.previous };
        if self.end.is_some_and(|end| end != begins) {
            self.gap(Finding::Unlinked { segment: number });
        }
    }

    fn frame(&mut self, walk: &mut Walk, frame: &Frame<'_>) {
        let Walk { segment, expected, .. } = *walk;
        let sequence = frame.sequence;
        if sequence != expected {
            self.gap(Finding::Sequence { segment, expected, found: sequence });
        }
        let holds = walk.chain.is_none_or(|before| frame.chain_after(before) == frame.chain);
        if !holds {
            self.find(Finding::Chain { segment, sequence });
        }
        walk.chain = Some(frame.chain);
        walk.expected = sequence.saturating_add(1);
        walk.at += frame.bytes();

        let head = Head { sequence, chain: frame.chain };
        self.report.head = Some(head);
        if self.anchor == Some(head) {
            self.anchor = None;
        }
        match Record::from_bytes(frame.record) {
            Ok(record) => self.record(sequence, &record),
            Err(source) => self.gap(Finding::Record { sequence, source }),
        }
    }

    fn record(&mut self, sequence: u64, record: &Record) {
        self.report.records += 1;
        let stamp = &record.stamp;
        let owner = self.owner.as_ref().expect("the first header names the owner");
        if (stamp.sequence, stamp.cluster, stamp.node) != (sequence, owner.cluster, owner.node) {
            self.find(Finding::Stamp { sequence });
        }
        if let Entry::Mark(mark) = record.entry
            && let MarkEvent::LossPossible { window_ms, .. } = mark.event
        {
            let time_unix_ns = mark.time_unix_ns;
            self.report.losses.push(Loss { sequence, time_unix_ns, window_ms });
        }
        self.run = self.run.after(&record.entry).unwrap_or_else(|| {
            self.find(Finding::Run { sequence });
            Run::Unknown
        });
    }

    /// Goes on behind bytes that are no frame; `false` if no frame follows.
    fn skip_damage(&mut self, walk: &mut Walk, bytes: &[u8], newest: bool) -> bool {
        let Walk { segment, at, expected, .. } = *walk;
        let offset = at as u64;
        let next = frame::find(bytes, at + 1, 0);
        let later = next.is_some_and(|(_, frame)| frame.commit_first() > expected);
        if newest && !later && next.is_none_or(|(_, frame)| frame.sequence > expected) {
            // In a log that is being written this is a commit on its way.
            if !self.report.in_use {
                let sequence = expected.saturating_sub(1);
                self.find(Finding::Torn { segment, offset, sequence });
            }
            return false;
        }
        self.gap(Finding::Damaged { segment, offset, sequence: expected });
        walk.chain = None;
        let Some((at, frame)) = next else { return false };
        walk.at = at;
        walk.expected = frame.sequence;
        true
    }

    fn finish(mut self) -> Report {
        if let Some(anchor) = self.anchor {
            self.find(Finding::Anchor { sequence: anchor.sequence });
        }
        if let (Run::Open | Run::Lost, false, Some(head)) =
            (self.run, self.report.in_use, self.report.head)
        {
            self.find(Finding::NotClosed { sequence: head.sequence });
        }
        self.report
    }
}

struct Walk {
    segment: u64,
    at: usize,
    /// `None` behind damage: the next chain is taken as it stands.
    chain: Option<Chain>,
    expected: u64,
}

#[cfg(test)]
mod tests;
