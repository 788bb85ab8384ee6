//! Room kept for the log, so that a full disk warns long before it stops the node.
//!
//! The reserve is spare files of a segment's size, allocated and empty. A new segment is a spare that
//! gets its header and its name; then the reserve is filled again. When that fails the log goes on
//! with the spares that are left, and says so.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crate::device::Device;
use crate::directory::{Directory, spare_name};
use crate::segment::{self, Header};

/// The spare files of a log.
pub(crate) struct Reserve {
    directory: Arc<Directory>,
    device: Arc<dyn Device>,
    segment_bytes: u64,
    /// How many spares there should be, one at least.
    wanted: usize,
    spares: Vec<String>,
    next: u64,
}

impl Reserve {
    /// Takes over the spares that an earlier run left, if they are whole and empty, and removes them
    /// otherwise.
    pub(crate) fn open(
        directory: Arc<Directory>,
        device: Arc<dyn Device>,
        segment_bytes: u64,
        reserve_bytes: u64,
        found: Vec<String>,
    ) -> io::Result<Self> {
        let wanted = usize::try_from(reserve_bytes.div_ceil(segment_bytes)).unwrap_or(usize::MAX);
        let spares = Vec::new();
        let wanted = wanted.max(1);
        let mut this = Self { directory, device, segment_bytes, wanted, spares, next: 1 };
        for name in found {
            if this.usable(&name)? {
                this.spares.push(name);
            } else {
                this.directory.remove(&name)?;
            }
        }
        Ok(this)
    }

    /// A spare that a crash left with a header, or half made, is not one.
    fn usable(&self, name: &str) -> io::Result<bool> {
        let file = self.directory.read(name)?;
        if file.metadata()?.len() != self.segment_bytes || self.spares.len() >= self.wanted {
            return Ok(false);
        }
        let mut header = [0; segment::HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        Ok(header == [0; segment::HEADER_BYTES])
    }

    /// Returns how many spares there are.
    pub(crate) fn spares(&self) -> usize {
        self.spares.len()
    }

    /// Returns how many spares are missing.
    pub(crate) fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.spares.len())
    }

    /// Tells whether the reserve is smaller than it should be.
    pub(crate) fn is_short(&self) -> bool {
        self.missing() > 0
    }

    /// Makes the spares that are missing. After an error the reserve has what could be made.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        while self.is_short() {
            let name = spare_name(self.next);
            self.next += 1;
            let file = match self.directory.create(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            let made = self.device.allocate(&file, self.segment_bytes);
            if let Err(error) = made {
                self.directory.remove(&name)?;
                return Err(error);
            }
            self.spares.push(name);
        }
        Ok(())
    }

    /// Turns a spare into the segment of that header, on the disk with header and name.
    ///
    /// The header is synced before the file gets its name: a segment always has one.
    pub(crate) fn take(&mut self, header: &Header) -> io::Result<File> {
        if self.spares.is_empty() {
            // One is enough here; what else is missing is made after the commit, not before it.
            let wanted = std::mem::replace(&mut self.wanted, 1);
            let filled = self.fill();
            self.wanted = wanted;
            filled?;
        }
        let spare = self.spares.last().expect("the reserve was just filled");
        let file = self.directory.write(spare)?;
        self.device.write(&file, &header.to_bytes(), 0)?;
        self.device.sync(&file)?;
        self.directory.rename(spare, &segment::file_name(header.number))?;
        self.spares.pop();
        self.directory.sync()?;
        Ok(file)
    }
}
