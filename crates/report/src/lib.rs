//! Reports of commands that measure: figures for programs, beside the text for people.
//!
//! A report is `{machine, commit, figures: [{name, value, unit, target, holds}]}`. A figure that is shown
//! for its own sake has the target `none` and holds.

mod figure;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

pub use figure::{Figure, Target};

/// What a command measured, and on what.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: String,
    commit: String,
    figures: Vec<Figure>,
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

impl Report {
    /// Begins a report for this machine and the commit that the working folder stands at.
    #[must_use]
    pub fn new() -> Self {
        Self { machine: machine(), commit: commit(), figures: Vec::new() }
    }

    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, target: Target) {
        self.figures.push(Figure::new(name.into(), value, unit, target));
    }

    /// Tells whether every figure is as it has to be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.figures.iter().all(Figure::holds)
    }

    /// Returns the figures in the order in which they were added.
    #[must_use]
    pub fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// Returns the processor and the number of its cores.
    #[must_use]
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// Returns the first digits of the commit, or `unknown` outside a repository.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Writes `<command>.json` into a folder, which is made if need be, and returns its path.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path, command: &str) -> io::Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(command).with_extension("json");
        let json = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        std::fs::write(&path, json + "\n")?;
        Ok(path)
    }
}

/// One line for each figure.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.figures.iter().map(|figure| figure.name().chars().count()).max();
        for (i, figure) in self.figures.iter().enumerate() {
            let end = if i + 1 == self.figures.len() { "" } else { "\n" };
            write!(f, "  {figure:width$}{end}", width = width.unwrap_or(0))?;
        }
        Ok(())
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{} × {cores}", model.map_or("unknown processor", |(_, model)| model.trim()))
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(
        || "unknown".to_owned(),
        |text| String::from_utf8_lossy(&text).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_holds_only_when_every_figure_does() {
        let mut report = Report::new();
        report.add("calls failed", 0.0, "calls", Target::AtMost(0.0));
        report.add("memory", 12.0, "MiB", Target::None);
        assert!(report.holds());
        report.add("ratio", 0.84, "×", Target::AtLeast(0.85));
        assert!(!report.holds());
        let text = report.to_string();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.ends_with("MISSED"), "{text}");
    }

    #[test]
    fn file_has_the_form_that_programs_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::new();
        report.add("ratio", 0.9, "×", Target::AtLeast(0.85));
        let path = report.write(&folder.path().join("reports"), "bench").unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(json["machine"].is_string() && json["commit"].is_string());
        let expected = serde_json::json!([
            {"name": "ratio", "value": 0.9, "unit": "×", "target": ">= 0.85", "holds": true}
        ]);
        assert_eq!(json["figures"], expected);
    }

    #[test]
    fn figure_that_could_not_be_measured_is_a_miss() {
        let mut report = Report::new();
        report.add("ratio", f64::NAN, "×", Target::AtLeast(0.85));
        assert!(!report.holds());
    }
}
