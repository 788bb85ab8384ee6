//! Finding the end of a log that an earlier run left.
//!
//! Only the newest two segments are read: the newest to find its end, the one before to see that the
//! newest continues it. [`mod@crate::verify`] reads all.
//!
//! An unfinished last commit is cut off: nobody was told that it is on the disk. Anything else that is
//! wrong is a log that was damaged or altered, and it is refused rather than mended.

use std::fs::File;
use std::io;

use crate::device::Device;
use crate::directory::Directory;
use crate::error::OpenError;
use crate::frame::{self, Chain, Frame, Head, Parsed};
use crate::log::Identity;
use crate::record::{Entry, MarkEvent, Record};
use crate::segment::{self, Header, SEGMENT_BYTES_MAX};
use crate::writer::Open;

/// Where an earlier run stopped.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) file: File,
    pub(crate) number: u64,
    /// Where the next frame goes.
    pub(crate) offset: u64,
    /// Bytes that the file has, all of them allocated.
    pub(crate) capacity: u64,
    pub(crate) chain: Chain,
    pub(crate) next_sequence: u64,
    /// Bytes of an unfinished commit that were cut off, if the run ended in a crash.
    pub(crate) crashed: Option<u64>,
}

impl End {
    /// Returns the newest record.
    pub(crate) const fn head(&self) -> Head {
        Head { sequence: self.next_sequence - 1, chain: self.chain }
    }
}

impl From<End> for Open {
    fn from(end: End) -> Self {
        let End { file, number, offset, capacity, .. } = end;
        Self { file, number, offset, capacity, ready: offset }
    }
}

/// A segment, read until its frames end.
struct Walk {
    header: Header,
    at: usize,
    chain: Chain,
    next_sequence: u64,
    /// Whether the last frame is [`MarkEvent::Closed`].
    closed: bool,
}

/// Returns where the log of `segments` ends, or `None` if it has none.
pub(crate) fn find_end(
    directory: &Directory,
    device: &dyn Device,
    identity: &Identity,
    segments: &[u64],
) -> Result<Option<End>, OpenError> {
    let Some((&number, before)) = segments.split_last() else {
        return Ok(None);
    };
    let bytes = read(directory, number)?;
    let newest = walk(&bytes, number, identity)?;
    let mut closed = newest.closed;
    let header = &newest.header;
    match before.last().filter(|before| **before + 1 == number) {
        Some(&before) => {
            let bytes = read(directory, before)?;
            let older = walk(&bytes, before, identity)?;
            let whole = bytes[older.at..].iter().all(|byte| *byte == 0);
            if !whole
                || older.chain != header.previous
                || older.next_sequence != header.first_sequence
            {
                return Err(OpenError::Unlinked { segment: number });
            }
            closed |= newest.next_sequence == header.first_sequence && older.closed;
        }
        // A log of one segment without a frame never was open: nothing can be missing.
        None if before.is_empty() => closed |= newest.next_sequence == 1,
        None => return Err(OpenError::Unlinked { segment: number }),
    }
    let name = segment::file_name(number);
    let file = directory.write(&name).map_err(io_error("open", number))?;
    let cut_bytes = cut(device, &file, &bytes, &newest)?;
    Ok(Some(End {
        file,
        number,
        offset: newest.at as u64,
        capacity: bytes.len() as u64,
        chain: newest.chain,
        next_sequence: newest.next_sequence,
        crashed: (!closed || cut_bytes > 0).then_some(cut_bytes),
    }))
}

fn read(directory: &Directory, number: u64) -> Result<Vec<u8>, OpenError> {
    directory
        .contents(&segment::file_name(number), SEGMENT_BYTES_MAX)
        .map_err(io_error("read", number))
}

fn io_error(verb: &'static str, number: u64) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { what: format!("{verb} audit segment {number}"), source }
}

fn walk(bytes: &[u8], number: u64, identity: &Identity) -> Result<Walk, OpenError> {
    let header = Header::from_bytes(bytes)
        .map_err(|source| OpenError::Header { segment: number, source })?;
    if (header.cluster, header.node) != (identity.cluster, identity.node) {
        let Header { cluster, node, .. } = header;
        return Err(OpenError::Foreign { segment: number, cluster, node });
    }
    if header.number != number {
        return Err(OpenError::Unlinked { segment: number });
    }
    let mut walk = Walk {
        at: segment::HEADER_BYTES,
        chain: header.chain(),
        next_sequence: header.first_sequence,
        closed: false,
        header,
    };
    let mut newest = None;
    while let Parsed::Frame(frame) = frame::parse(&bytes[walk.at..]) {
        let chain = frame.chain_after(walk.chain);
        if frame.sequence != walk.next_sequence || frame.chain != chain {
            return Err(walk.damaged());
        }
        newest = Some(frame);
        walk.chain = chain;
        walk.next_sequence += 1;
        walk.at += frame.bytes();
    }
    walk.refuse_later_commits(bytes)?;
    if let Some(Frame { sequence, record, .. }) = newest {
        let record = Record::from_bytes(record);
        let record = record.map_err(|source| OpenError::Record { sequence, source })?;
        walk.closed = matches!(record.entry, Entry::Mark(mark) if mark.event == MarkEvent::Closed);
    }
    Ok(walk)
}

impl Walk {
    fn damaged(&self) -> OpenError {
        OpenError::Damaged {
            segment: self.header.number,
            offset: self.at as u64,
            sequence: self.next_sequence,
        }
    }

    /// Refuses the segment if a commit stands behind the end that began after it. See
    /// [`crate::frame`] for why frames of the same commit may.
    fn refuse_later_commits(&self, bytes: &[u8]) -> Result<(), OpenError> {
        let mut from = self.at;
        while let Some((at, frame)) = frame::find(bytes, from, self.next_sequence) {
            if frame.commit_first() > self.next_sequence {
                return Err(self.damaged());
            }
            from = at + frame.bytes();
        }
        Ok(())
    }
}

/// Clears what stands behind the end, so that no later run can take it for records, and returns how
/// many bytes that were.
fn cut(device: &dyn Device, file: &File, bytes: &[u8], end: &Walk) -> Result<u64, OpenError> {
    let rest = &bytes[end.at..];
    let Some(last) = rest.iter().rposition(|byte| *byte != 0) else {
        return Ok(0);
    };
    let number = end.header.number;
    device
        .write(file, &vec![0; last + 1], end.at as u64)
        .and_then(|()| device.sync(file))
        .map_err(io_error("clear the end of", number))?;
    Ok(last as u64 + 1)
}
