//! What the kernel says of the process and of the disk under its data.
//!
//! Source: proc(5), `/proc/self/stat` and `/proc/self/fd`. What cannot be read is not shown.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::param::{clock_ticks_per_second, page_size};

/// Fields of `/proc/self/stat`, counted from the one after the program's name, which is in parentheses and
/// may hold anything.
const UTIME: usize = 11;
const STIME: usize = 12;
const RSS_PAGES: usize = 21;

/// What the process uses now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Process {
    pub(crate) resident_bytes: u64,
    pub(crate) cpu: Duration,
    pub(crate) open_files: u64,
}

impl Process {
    /// Reads what the process uses now.
    pub(crate) fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let (resident_bytes, cpu) = parse(&stat, page_size() as u64, clock_ticks_per_second())?;
        let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        Some(Self { resident_bytes, cpu, open_files })
    }
}

fn parse(stat: &str, page_bytes: u64, ticks_per_second: u64) -> Option<(u64, Duration)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let field = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let ticks = field(UTIME)?.checked_add(field(STIME)?)?;
    let millis = ticks.checked_mul(1000)?.checked_div(ticks_per_second)?;
    Some((field(RSS_PAGES)?.checked_mul(page_bytes)?, Duration::from_millis(millis)))
}

/// Returns the time of day in seconds since 1970; taken once, when the process starts.
#[expect(
    clippy::disallowed_methods,
    reason = "the process's start is shown, nothing depends on it"
)]
pub(crate) fn started_unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The file system under a folder.
#[derive(Clone, Debug)]
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    /// Returns its size and what of it the process may still use, in bytes.
    pub(crate) fn size_and_free(&self) -> Option<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.0).ok()?;
        Some((stat.f_blocks.checked_mul(stat.f_frsize)?, stat.f_bavail.checked_mul(stat.f_frsize)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4 5 0 0 0 150 50 0 0 20 0 9 0 99 1000 3 1844 1";
        assert_eq!(parse(stat, 4096, 100), Some((3 * 4096, Duration::from_secs(2))));
        assert_eq!(parse("7 (twinkeepd) S 1", 4096, 100), None);
    }

    #[test]
    fn this_process_uses_memory_files_and_a_disk() {
        let now = Process::now().unwrap();
        assert!(now.resident_bytes > 1 << 20 && now.open_files > 2, "{now:?}");
        let (size, free) = Disk("/".into()).size_and_free().unwrap();
        assert!(size >= free && size > 0);
    }
}
