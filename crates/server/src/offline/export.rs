//! `twinkeepd recover-export`: what a node that was given up has and the recovered cluster has not.
//!
//! The log of the lost node goes on where the order says that the recovered one ends, or parts from it before. Every
//! change from there on is listed, as the node would have applied it; secrets in it are sealed and are not shown.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Serialize;
use twinkeep_pki::RecoveryOrderFile;
use twinkeep_raft::rebirth::Beyond;

use super::recover::former;
use crate::config::Config;
use crate::identity::DataDir;

/// Which node, and by which order it was given up.
#[derive(Debug, clap::Args)]
pub(crate) struct RecoverExport {
    /// The lost node's configuration.
    #[arg(long, default_value = "/etc/twinkeep/twinkeepd.toml")]
    config: PathBuf,
    /// The order by which the cluster was recovered.
    order: PathBuf,
}

/// One change, a line of JSON.
#[derive(Serialize)]
struct Line {
    /// Its place in the log.
    index: u64,
    /// The term of the leader that wrote it.
    term: u64,
    /// Who asked for it; absent where the cluster acted by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    /// What was to be changed.
    change: String,
    /// Of what.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    /// Whether the node knew it to be committed: such a change may have been acknowledged to whoever asked.
    committed: bool,
}

impl RecoverExport {
    /// Prints the changes.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config)?;
        let data = DataDir::open(&config.node.data_dir)?;
        let Some(identity) = data.identity()? else {
            bail!("{} holds no node of a cluster", config.node.data_dir.display());
        };
        let text = fs::read_to_string(&self.order)
            .with_context(|| format!("cannot read {}", self.order.display()))?;
        let file = RecoveryOrderFile::parse(&text)
            .with_context(|| format!("{} is no order", self.order.display()))?;
        let order = file.order();
        if (order.cluster, order.ends) != (identity.cluster()?, identity.incarnation()?) {
            bail!("the order is about another cluster, or about another life of this one");
        }
        let former = former(&data, &identity)?;
        let changes = former.beyond(&order.last)?;
        let mut count = 0;
        for Beyond { at, committed, proposals } in changes {
            for proposal in proposals {
                let (change, of) = proposal.command.summary();
                let actor = proposal.actor.map(|actor| actor.to_string());
                let (index, term) = (at.index, at.term);
                let line = Line { index, term, actor, change: change.to_owned(), of, committed };
                println!("{}", serde_json::to_string(&line)?);
                count += 1;
            }
        }
        eprintln!(
            "{count} changes are in the log of node {} alone, after entry {} of term {}",
            identity.node()?,
            order.last.index,
            order.last.term
        );
        Ok(())
    }
}
