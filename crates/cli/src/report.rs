//! Reports of commands that measure: figures for programs, beside the text for people.

use std::path::Path;

use crate::output::say;
use anyhow::Context;
use serde::Serialize;

/// What a command measured, and on what.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    commit: String,
    figures: Vec<Figure>,
}

/// One figure with its target.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    target: String,
    holds: bool,
}

/// What a figure has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Target {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "<= {limit}"),
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
        }
    }
}

impl Report {
    /// Begins a report for this machine and the commit that the working folder stands at.
    pub(crate) fn new() -> Self {
        Self { machine: machine(), commit: commit(), figures: Vec::new() }
    }

    /// Adds a figure.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        value: f64,
        unit: &'static str,
        target: Target,
    ) {
        let holds = target.holds(value);
        self.figures.push(Figure { name, value, unit, target: target.to_string(), holds });
    }

    /// Tells whether every figure is as it has to be.
    pub(crate) fn holds(&self) -> bool {
        self.figures.iter().all(|figure| figure.holds)
    }

    /// Prints the figures for people.
    pub(crate) fn print(&self) {
        let name_len = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
        for Figure { name, value, unit, target, holds } in &self.figures {
            let verdict = if *holds { "holds" } else { "MISSED" };
            say!("  {name:name_len$}  {value:>10.1} {unit:<8}  target {target:<10}  {verdict}");
        }
    }

    /// Writes `reports/<command>.json` in the working folder.
    pub(crate) fn write(&self, command: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all("reports").context("cannot make the folder reports")?;
        let path = Path::new("reports").join(format!("{command}.json"));
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(&path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
        say!("written to {}", path.display());
        Ok(())
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} × {cores}", model.map_or("unknown processor", |(_, model)| model.trim()))
}

fn commit() -> String {
    let output =
        std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(
        || "unknown".to_owned(),
        |text| String::from_utf8_lossy(&text).trim().to_owned(),
    )
}
