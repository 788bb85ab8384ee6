//! Following a log while it is written.
//!
//! A tail reads the files; it takes no lock that the writer takes and holds nothing for it. It shows
//! what is on the disk, and nothing that a crash could take back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use tokio::sync::watch;

use crate::frame::{self, Parsed};
use crate::log::Shared;
use crate::queue::Progress;
use crate::record::{InvalidRecord, RECORD_BYTES_MAX, Record};
use crate::segment::{self, Header};

/// Most records that one [`Tail::read`] returns.
pub const TAIL_RECORDS_MAX: usize = 1000;
/// Bytes read at a time; every frame fits.
const WINDOW_BYTES: usize = 256 * 1024;
const _: () = assert!(WINDOW_BYTES > frame::HEADER_BYTES + RECORD_BYTES_MAX);

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// A file cannot be read.
    #[error("audit segment {segment} cannot be read")]
    Io {
        /// The segment.
        segment: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The log does not hold what it held: run audit-verify.
    #[error("audit record {sequence} is not where it was written: run audit-verify")]
    Damaged {
        /// The record.
        sequence: u64,
    },
    /// The record was written by other software, or was damaged.
    #[error("audit record {sequence} cannot be read")]
    Record {
        /// The record.
        sequence: u64,
        /// What is wrong with it.
        #[source]
        source: InvalidRecord,
    },
}

/// Follows a log from a record on.
pub struct Tail {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    next_sequence: u64,
    place: Option<Place>,
    window: Vec<u8>,
}

struct Place {
    file: File,
    segment: u64,
    offset: u64,
}

impl Tail {
    pub(crate) fn new(shared: Arc<Shared>, from_sequence: u64) -> Self {
        let progress = shared.queue.watch();
        let next_sequence = from_sequence.max(1);
        Self { shared, progress, next_sequence, place: None, window: Vec::new() }
    }

    /// Returns the sequence of the next record.
    #[must_use]
    pub const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Waits until there are records to read. `false` if the log ended and no more will come.
    pub async fn ready(&mut self) -> bool {
        let next = self.next_sequence;
        let settled = |progress: &Progress| {
            let over = matches!(progress.outage, Some(outage) if !outage.passes());
            progress.head.sequence >= next || over
        };
        match self.progress.wait_for(settled).await {
            Ok(progress) => progress.head.sequence >= next,
            Err(_) => false,
        }
    }

    /// Returns the next records, at most `records_max` and [`TAIL_RECORDS_MAX`], and none if there are
    /// none yet.
    ///
    /// Blocks for the disk, for a few hundred KiB at most once the place is found: call it where
    /// blocking is allowed.
    ///
    /// # Errors
    /// [`TailError`] if the files do not hold what was written to them.
    pub fn read(&mut self, records_max: usize) -> Result<Vec<Record>, TailError> {
        let head = self.shared.queue.progress().head.sequence;
        let wanted = records_max.min(TAIL_RECORDS_MAX);
        let mut records = Vec::new();
        while records.len() < wanted && self.next_sequence <= head {
            let mut place = match self.place.take() {
                Some(place) => place,
                None => self.find_segment()?,
            };
            let found = self.read_window(&mut place, wanted, head, &mut records)?;
            self.place = Some(if found { place } else { self.next_segment(&place)? });
            if !records.is_empty() && found {
                break;
            }
        }
        Ok(records)
    }

    /// Reads one window of frames; `false` if the segment ends here.
    fn read_window(
        &mut self,
        place: &mut Place,
        wanted: usize,
        head: u64,
        records: &mut Vec<Record>,
    ) -> Result<bool, TailError> {
        self.window.resize(WINDOW_BYTES, 0);
        let len = read_at(&place.file, &mut self.window, place.offset)
            .map_err(|source| TailError::Io { segment: place.segment, source })?;
        let mut at = 0;
        loop {
            if records.len() >= wanted || self.next_sequence > head {
                break;
            }
            match frame::parse(&self.window[at..len]) {
                Parsed::Frame(frame) => {
                    let sequence = frame.sequence;
                    if sequence > self.next_sequence {
                        return Err(self.damaged());
                    }
                    if sequence == self.next_sequence {
                        let record = Record::from_bytes(frame.record);
                        records
                            .push(record.map_err(|source| TailError::Record { sequence, source })?);
                        self.next_sequence += 1;
                    }
                    at += frame.bytes();
                }
                Parsed::End if at == 0 => return Ok(false),
                Parsed::Partial | Parsed::End if at > 0 => break,
                Parsed::End | Parsed::Partial | Parsed::Damaged => return Err(self.damaged()),
            }
        }
        place.offset += at as u64;
        Ok(true)
    }

    const fn damaged(&self) -> TailError {
        TailError::Damaged { sequence: self.next_sequence }
    }

    /// Finds the segment that holds the next record: the last one that does not begin behind it.
    fn find_segment(&self) -> Result<Place, TailError> {
        let list = self.shared.directory.list();
        let segments = list.map_err(|source| TailError::Io { segment: 0, source })?.segments;
        let mut low = 0;
        let mut high = segments.len();
        while high - low > 1 {
            let middle = low.midpoint(high);
            let (_, header) = self.open(segments[middle])?;
            if header.first_sequence <= self.next_sequence { low = middle } else { high = middle }
        }
        let segment = *segments.get(low).ok_or_else(|| self.damaged())?;
        self.at_beginning(segment)
    }

    fn next_segment(&self, place: &Place) -> Result<Place, TailError> {
        self.at_beginning(place.segment + 1)
    }

    fn at_beginning(&self, segment: u64) -> Result<Place, TailError> {
        let (file, header) = self.open(segment)?;
        if header.first_sequence > self.next_sequence {
            return Err(self.damaged());
        }
        Ok(Place { file, segment, offset: segment::HEADER_BYTES as u64 })
    }

    fn open(&self, segment: u64) -> Result<(File, Header), TailError> {
        let error = |source| TailError::Io { segment, source };
        let file = self.shared.directory.read(&segment::file_name(segment)).map_err(error)?;
        let mut header = [0; segment::HEADER_BYTES];
        file.read_exact_at(&mut header, 0).map_err(error)?;
        let header = Header::from_bytes(&header).map_err(|_| self.damaged())?;
        Ok((file, header))
    }
}

/// Reads as much as there is.
fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < into.len() {
        match file.read_at(&mut into[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests;
