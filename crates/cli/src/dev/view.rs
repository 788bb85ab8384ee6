//! What the commands of a development cluster show.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::layout::Layout;
use super::process;
use crate::output::Show;

/// The processes of a cluster.
#[derive(Debug, Serialize)]
pub(super) struct Processes {
    nodes: Vec<Process>,
}

#[derive(Debug, Serialize)]
struct Process {
    node: String,
    zone: String,
    /// None of a witness, which serves no callers.
    client_address: Option<String>,
    /// The process id while it runs.
    process: Option<i32>,
}

/// A cluster that is up.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    home: PathBuf,
    first_key: String,
    seconds: f64,
    #[serde(flatten)]
    processes: Processes,
}

impl Processes {
    pub(super) fn of(layout: &Layout) -> Self {
        let process = |node| Process {
            process: process::running(layout, node).map(|pid| pid.as_raw_nonzero().get()),
            node: node.name.clone(),
            zone: node.zone.clone(),
            client_address: (!node.witness).then(|| node.client_address.to_string()),
        };
        Self { nodes: layout.nodes().iter().map(process).collect() }
    }
}

impl Ready {
    pub(super) fn of(layout: &Layout, took: Duration) -> Self {
        let first_key = std::fs::read_to_string(layout.path("first-key")).unwrap_or_default();
        let home = layout.path("");
        Self { home, first_key, seconds: took.as_secs_f64(), processes: Processes::of(layout) }
    }
}

impl Show for Processes {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        for Process { node, zone, client_address, process } in &self.nodes {
            let state = process.map_or_else(|| "stopped".to_owned(), |id| format!("process {id}"));
            let address = client_address.as_deref().unwrap_or("serves no callers");
            writeln!(out, "zone {zone}  {node:3}  {address:22}  {state}")?;
        }
        Ok(())
    }
}

impl Show for Ready {
    /// Prints commands that work as they are printed, from the folder that this one was called in.
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { home, first_key, seconds, processes } = self;
        let has_witness = processes.nodes.iter().any(|node| node.client_address.is_none());
        let third = if has_witness { "and a witness" } else { "without a third place" };
        let own = env::current_exe().unwrap_or_else(|_| PathBuf::from("twinkeep"));
        let own = own.display();
        writeln!(
            out,
            "A cluster of two zones {third} runs, with a first key, after {seconds:.2} s:\n"
        )?;
        processes.table(out)?;
        writeln!(out, "\nTry next:\n")?;
        // What is set for this command alone is not set for those.
        let here = env::current_dir()?.join(".dev");
        if !home.components().eq(here.components()) {
            writeln!(out, "  export TWINKEEP_HOME='{}'", home.display())?;
        }
        writeln!(out, "  {own} cluster status")?;
        writeln!(out, "  echo 'attack at dawn' | {own} encrypt --key {first_key} -o message.enc")?;
        writeln!(out, "  {own} decrypt message.enc")?;
        writeln!(out, "  {own} key create --spec EC_P256 --usage SIGN_VERIFY")?;
        writeln!(
            out,
            "  {own} dev kill-zone a && {own} decrypt message.enc && {own} dev start-zone a"
        )?;
        writeln!(
            out,
            "\nIf another context is in use, say `export TWINKEEP_CONTEXT=dev` first. `make demo` measures the loss of a \
             zone; `{own} dev down` stops the cluster."
        )
    }
}
