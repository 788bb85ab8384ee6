//! `twinkeep doctor`: what the cluster can survive right now, and what needs care.
//!
//! [`gather`] asks every node; [`judge`] and [`survival`] only think.

mod facts;
mod gather;
mod judge;
mod survival;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::bail;
use serde::Serialize;

use super::status::Status;
use crate::context::Context;
use crate::output::{Show, columns, plain, show};
use judge::{Finding, Level, findings};
use survival::{Survival, survivals};

/// Says what the cluster can and cannot survive right now, and what needs care.
///
/// Asks every node. Ends with 0 if nothing needs care and with 1 if there is a warning; notes tell of what is as it was
/// set up. Warns of: voters that are dead, sealed nodes, zones that are not in sync or drained, a preferred zone that
/// does not lead, clocks that differ, disks and links that are slow for the timers, full disks, certificates that end,
/// software that differs.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {}

impl Doctor {
    /// Asks, judges, prints, and says how it is by the exit code.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        if context.pinned().is_some() {
            bail!("the doctor asks every node: leave `--endpoint` out, or give several");
        }
        let client = context.client()?;
        let status = Status::of(&client, false).await?;
        let facts = gather::facts(&client, &status, context.certificate_file()?.as_deref()).await?;
        let report = Report::of(&facts);
        show(context.format(), &report)?;
        Ok(ExitCode::from(u8::from(!report.healthy)))
    }
}

/// What the doctor says.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether there is no warning.
    healthy: bool,
    survives: Vec<Survival>,
    findings: Vec<Finding>,
}

impl Report {
    fn of(facts: &facts::Facts) -> Self {
        let findings = findings(facts);
        let healthy = findings.iter().all(|finding| finding.level != Level::Warning);
        Self { healthy, survives: survivals(facts), findings }
    }
}

impl Show for Report {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let of = |level| self.findings.iter().filter(move |finding| finding.level == level);
        match of(Level::Warning).count() {
            0 => writeln!(out, "healthy: nothing needs care\n")?,
            1 => writeln!(out, "1 warning\n")?,
            count => writeln!(out, "{count} warnings\n")?,
        }
        for finding in of(Level::Warning) {
            writeln!(out, "! {}\n  {}", plain(&finding.text), plain(&finding.way_out))?;
        }
        if !self.healthy {
            writeln!(out)?;
        }
        let row = |survival: &Survival| [survival.loss.clone(), survival.sentence.clone()];
        let rows: Vec<_> = self.survives.iter().map(row).collect();
        columns(out, ["IF THIS IS LOST", "THEN"], &rows)?;
        if of(Level::Note).next().is_some() {
            writeln!(out)?;
        }
        for finding in of(Level::Note) {
            writeln!(out, "- {}\n  {}", plain(&finding.text), plain(&finding.way_out))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::judge::tests::{facts, two_two_one};
    use super::*;

    fn printed(facts: &facts::Facts) -> String {
        let mut out = Vec::new();
        Report::of(facts).table(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn healthy_cluster_is_called_so_and_what_it_survives_is_listed() {
        let text = printed(&facts(two_two_one()));
        assert!(text.starts_with("healthy: nothing needs care\n\nIF THIS IS LOST"), "{text}");
        for loss in
            ["any one node ", "zone a ", "zone b ", "the witness ", "zone a and the witness "]
        {
            assert!(text.lines().any(|line| line.starts_with(loss)), "{loss} is not in\n{text}");
        }
    }

    #[test]
    fn warning_comes_first_with_its_way_out_and_makes_the_exit_code() {
        let mut nodes = two_two_one();
        nodes[3].is_up = Some(false);
        nodes[3].own = None;
        let facts = facts(nodes);
        assert!(!Report::of(&facts).healthy);
        let text = printed(&facts);
        assert!(text.contains("warnings\n\n! node 4 is silent"), "{text}");
        assert!(text.contains("twinkeep cluster remove 4 --yes"), "{text}");
    }
}
