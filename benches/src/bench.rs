//! What cells work with: the servers, how long to measure, and the report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;
use tempfile::TempDir;
use twinkeep_report::{Report, Target};
use twinkeep_tests::Node;

use crate::cells::Cell;
use crate::load::window::Timing;
use crate::run::Options;
use crate::servers::certificates;
use crate::servers::cluster::Nodes;
use crate::servers::echo::Echo;

/// What cells work with.
pub(crate) struct Bench {
    /// The cluster.
    pub(crate) nodes: Nodes,
    /// The node that leads, and one that follows.
    pub(crate) leader: Node,
    /// A node of the other zone.
    pub(crate) follower: Node,
    /// The empty service.
    pub(crate) echo: Echo,
    /// Room for files on the cluster's disk.
    pub(crate) folder: TempDir,
    /// What was found.
    pub(crate) report: Report,
    quick: bool,
    profiles: Option<PathBuf>,
}

/// How thorough a comparison is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Effort {
    /// For figures without a target.
    Glance,
    /// For figures with one.
    Gate,
}

impl Bench {
    /// Starts the cluster and the echo servers.
    pub(crate) async fn start(options: &Options) -> anyhow::Result<Self> {
        println!("starting a cluster of five nodes, and the echo servers");
        let nodes = Nodes::start().await?;
        let folder = tempfile::Builder::new().prefix("twinkeep-bench-").tempdir()?;
        certificates::make(folder.path())?;
        let echo = Echo::start(folder.path())?;
        let (leader, follower) = nodes.leader_and_follower().await?;
        let report = Report::new();
        println!("{} at {}", report.machine(), report.commit());
        let (quick, profiles) = (options.quick, options.profiles.clone());
        Ok(Self { nodes, leader, follower, echo, folder, report, quick, profiles })
    }

    /// Runs one cell.
    pub(crate) async fn run_cell(&mut self, cell: &Cell) -> anyhow::Result<()> {
        println!("\n== {}: {}", cell.name, cell.what);
        // The cell before may have moved the lead.
        (self.leader, self.follower) = self.nodes.leader_and_follower().await?;
        (cell.run)(self).await.with_context(|| format!("cell {}", cell.name))
    }

    /// Tells whether only the way through the code counts.
    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    /// How long to measure once.
    pub(crate) fn timing(&self, effort: Effort) -> Timing {
        let ms = Duration::from_millis;
        let (warm_up, measure) = match (self.quick, effort) {
            (true, _) => (ms(30), ms(120)),
            (false, Effort::Glance) => (ms(200), ms(600)),
            (false, Effort::Gate) => (ms(300), ms(1700)),
        };
        Timing { warm_up, measure }
    }

    /// How often to measure.
    pub(crate) fn rounds(&self, effort: Effort) -> usize {
        match (self.quick, effort) {
            (true, _) => 1,
            (false, Effort::Glance) => 2,
            (false, Effort::Gate) => 5,
        }
    }

    /// Where profiles go, if they are wanted.
    pub(crate) fn profiles(&self) -> Option<&Path> {
        self.profiles.as_deref()
    }

    /// Everything that runs for the benchmarks, beside this process and the subject of the moment.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<Pid>> {
        let mut processes = self.nodes.processes()?;
        processes.push(self.echo.server().process);
        Ok(processes)
    }

    /// Adds a figure that is shown for its own sake.
    pub(crate) fn show(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.report.add(name, value, unit, Target::None);
    }
}
