//! Profiles of a server under load, by `perf`.
//!
//! The processor's clock is what is sampled: virtual machines often show no hardware counters. Call stacks are
//! unwound by the tables that exceptions use, since release builds keep no frame pointers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use rustix::process::Pid;

/// Samples a second: no divisor or multiple of the kernel's own ticks.
const FREQUENCY: &str = "997";
/// How deep a stack is kept, in bytes.
const CALL_GRAPH: &str = "dwarf,16384";
/// How long is sampled, in seconds.
const SECONDS: &str = "3";

/// A profile that is being taken.
pub(crate) struct Profile {
    perf: Child,
    path: PathBuf,
}

impl Profile {
    /// Begins to sample a process; the file is named after what it does.
    pub(crate) fn start(process: Pid, folder: &Path, what: &str) -> anyhow::Result<Self> {
        let path = folder.join(slug(what)).with_extension("perf");
        let perf = Command::new("perf")
            .args(["record", "--quiet", "-e", "cpu-clock", "-F", FREQUENCY])
            .args(["--call-graph", CALL_GRAPH, "-p", &process.as_raw_nonzero().to_string(), "-o"])
            .arg(&path)
            .args(["--", "sleep", SECONDS])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start perf")?;
        Ok(Self { perf, path })
    }

    /// Tells whether perf still samples.
    pub(crate) fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.perf.try_wait()?.is_none())
    }

    /// Waits for the end and returns the file.
    pub(crate) fn finish(mut self) -> anyhow::Result<PathBuf> {
        let ended = self.perf.wait()?;
        ensure!(ended.success(), "perf failed: it needs root, or kernel.perf_event_paranoid = -1");
        Ok(self.path)
    }
}

/// A file name of letters, digits and hyphens.
fn slug(what: &str) -> String {
    let mut slug = String::new();
    for letter in what.chars().map(|letter| if letter == '×' { 'x' } else { letter }) {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter.to_ascii_lowercase());
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_name_has_no_spaces_and_no_signs() {
        assert_eq!(slug("twinkeepd Encrypt 1 KiB × 64"), "twinkeepd-encrypt-1-kib-x-64");
        assert_eq!(slug("echo, wiping"), "echo-wiping");
    }
}
