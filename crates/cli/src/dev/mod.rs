//! `twinkeep dev`: a whole cluster as five processes on this machine.

mod demo;
pub(crate) mod layout;
pub(crate) mod load;
pub(crate) mod loss;
pub(crate) mod process;
mod removed;
mod topology;
pub(crate) mod up;
mod view;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use rustix::process::Signal;

use crate::output::{Format, said, show};
use layout::{DevNode, Layout, Settings};
use view::{Processes, Ready};

/// A cluster of five processes on this machine, for trying things out.
#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// Folder of the cluster.
    #[arg(long, env = "TWINKEEP_HOME", default_value = ".dev", global = true)]
    home: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Starts the cluster; makes it first if there is none.
    Up(Settings),
    /// Stops the cluster; it keeps its keys.
    Down,
    /// Shows which processes run.
    Status,
    /// Kills all nodes of a zone, as a power cut would.
    KillZone {
        /// `a`, `b` or `w`.
        zone: String,
    },
    /// Starts the nodes of a zone again.
    StartZone {
        /// `a`, `b` or `w`.
        zone: String,
    },
    /// Kills one node.
    KillNode {
        /// `a1`, `a2`, `b1`, `b2` or `w`.
        node: String,
    },
    /// Starts one node again.
    StartNode {
        /// `a1`, `a2`, `b1`, `b2` or `w`.
        node: String,
    },
    /// Adds a data node to a zone and has it join as a learner.
    AddNode {
        /// Its name, for example `a3`.
        node: String,
        /// Its zone: `a` or `b`.
        #[arg(long)]
        zone: String,
    },
    /// Loses a zone under load and measures what callers notice.
    Demo,
}

impl Dev {
    /// Does what was asked.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<()> {
        // Processes are known by the paths on their command lines, which must not depend on where we stand.
        let home = &std::path::absolute(&self.home)?;
        let done = match self.command {
            Command::Up(settings) => {
                let started = Instant::now();
                let layout = up::up(home, settings).await?;
                return show(format, &Ready::of(&layout, started.elapsed()));
            }
            Command::Status => return show(format, &Processes::of(&existing(home)?)),
            Command::Demo => return demo::demo(home, format).await,
            Command::Down => stop_all(&existing(home)?)?,
            Command::KillZone { zone } => kill(&existing(home)?, &zone)?,
            Command::StartZone { zone } => start(&existing(home)?, &zone).await?,
            Command::KillNode { node } => {
                let layout = existing(home)?;
                process::stop(&layout, named(&layout, &node)?, Signal::KILL)?;
                format!("node {node} is dead; `twinkeep dev start-node {node}` brings it back")
            }
            Command::StartNode { node } => {
                let layout = existing(home)?;
                start_nodes(&layout, &[named(&layout, &node)?]).await?;
                format!("node {node} runs again")
            }
            Command::AddNode { node, zone } => add(home, &node, &zone).await?,
        };
        said(format, done)
    }
}

/// Returns the cluster of a folder.
pub(crate) fn existing(home: &Path) -> anyhow::Result<Layout> {
    Layout::load(home)?.with_context(|| {
        format!("there is no cluster in {}; `twinkeep dev up` makes one", home.display())
    })
}

fn named<'a>(layout: &'a Layout, name: &str) -> anyhow::Result<&'a DevNode> {
    let names =
        || layout.nodes().iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
    layout
        .nodes()
        .iter()
        .find(|node| node.name == name)
        .with_context(|| format!("there is no node `{name}`; there are {}", names()))
}

fn stop_all(layout: &Layout) -> anyhow::Result<String> {
    // All are told before any is waited for: one after the other, the last ones would elect in vain.
    for node in layout.nodes() {
        process::signal_only(layout, node, Signal::TERM)?;
    }
    for node in layout.nodes() {
        process::stop(layout, node, Signal::TERM)?;
    }
    Ok("stopped; `twinkeep dev up` starts it again with its keys".to_owned())
}

fn kill(layout: &Layout, zone: &str) -> anyhow::Result<String> {
    for node in layout.zone(zone)? {
        process::signal_only(layout, node, Signal::KILL)?;
    }
    Ok(format!("zone {zone} is dead; `twinkeep dev start-zone {zone}` brings it back"))
}

async fn start(layout: &Layout, zone: &str) -> anyhow::Result<String> {
    start_nodes(layout, &layout.zone(zone)?).await?;
    Ok(format!("zone {zone} serves again"))
}

async fn start_nodes(layout: &Layout, nodes: &[&DevNode]) -> anyhow::Result<()> {
    for node in nodes {
        process::start(layout, node)?;
    }
    for node in nodes.iter().filter(|node| !node.witness) {
        up::wait_until_serving(layout, node).await?;
    }
    Ok(())
}

async fn add(home: &Path, name: &str, zone: &str) -> anyhow::Result<String> {
    let _lock = process::lock(home)?;
    let mut layout = existing(home)?;
    let node = layout.beside(name, zone)?;
    let admin = up::client(&layout, up::ADMIN)?;
    let id = up::join(&layout, &admin, &node).await?;
    layout.add(node.clone())?;
    up::wait_until_serving(&layout, &node).await?;
    Ok(format!(
        "node {name} has joined as node {id}, a serving learner; `twinkeep cluster promote {id}` gives it a vote"
    ))
}
