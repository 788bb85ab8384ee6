//! `twinkeep recover …`: a new life for a cluster that has lost its quorum for good.
//!
//! [`plan`] asks what is left and writes the order, operators approve it (`twinkeep operator approve`), and
//! `twinkeepd` applies it offline on each node that goes on.

mod plan;
mod statement;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use twinkeep_proto::local::v1::GoAloneRequest;
use twinkeep_proto::local::v1::local_service_client::LocalServiceClient;

use crate::context::Context;
use crate::init;
use crate::offline::twinkeepd;
use crate::output::said;

/// Begins a new life of a cluster that has lost its quorum for good.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Recover {
    /// Says what would be kept and what may be lost if a zone went on alone, and writes the order for the operators.
    Plan(plan::Plan),
    /// Ends the present life on a stopped node that goes on, by an approved order. First on those that join empty, last
    /// on the one that brings the state.
    Apply(Apply),
    /// Lets a node that has started take part though it has met nobody who would know of a recovery.
    Override(Override),
    /// Lists the changes in the log of a lost node that the recovered cluster does not have, a line of JSON for each.
    Export(Export),
}

/// By which order, and approved by whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/twinkeep/twinkeepd.toml")]
    config: PathBuf,
    /// The order, as `twinkeep recover plan` wrote it.
    order: PathBuf,
    /// An approval, as `twinkeep operator approve` printed it, or a file with approvals, one in a line; as many as the
    /// cluster needs.
    #[arg(long = "approval", value_name = "FILE|TEXT", required = true)]
    approvals: Vec<String>,
    /// What this command printed on another node that goes on: of all of them, on the node that brings the state.
    #[arg(long = "receipt", value_name = "NODE:DIGITS")]
    receipts: Vec<String>,
    /// A file with the passphrase or with a share of the unseal key, on the node that brings the state; without it
    /// what its configuration names.
    #[arg(long = "unseal-from", value_name = "FILE")]
    unseal_from: Vec<PathBuf>,
    /// Folder for the passes of the nodes that join empty.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
}

/// Which node, and that it is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Override {
    /// The node's socket: `admin.sock` in its data folder.
    #[arg(long, value_name = "FILE")]
    socket: PathBuf,
    /// Says that nobody has recovered the cluster without this node: otherwise two clusters would go on.
    #[arg(long)]
    yes: bool,
}

/// Which node, and by which order it was given up.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// The lost node's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/twinkeep/twinkeepd.toml")]
    config: PathBuf,
    /// The order by which the cluster was recovered.
    order: PathBuf,
}

impl Recover {
    /// Does what was asked.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Plan(plan) => plan.run(context).await.map(|()| ExitCode::SUCCESS),
            Self::Apply(apply) => apply.run(context),
            Self::Override(asked) => asked.run(context).await.map(|()| ExitCode::SUCCESS),
            Self::Export(export) => {
                let mut arguments: Vec<OsString> = vec!["recover-export".into()];
                arguments.extend(["--config".into(), export.config.into(), export.order.into()]);
                twinkeepd(context.format(), "changes", arguments)
            }
        }
    }
}

impl Apply {
    fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut arguments: Vec<OsString> = vec!["recover-apply".into()];
        arguments.extend(["--config".into(), self.config.into(), self.order.into()]);
        for argument in &self.approvals {
            for approval in crate::admission::approvals_of(argument)? {
                arguments.extend(["--approval".into(), approval.to_string().into()]);
            }
        }
        for receipt in self.receipts {
            arguments.extend(["--receipt".into(), receipt.into()]);
        }
        for file in self.unseal_from {
            arguments.extend(["--unseal-from".into(), file.into()]);
        }
        arguments.extend(["--out".into(), self.out.into()]);
        twinkeepd(context.format(), "applied", arguments)
    }
}

impl Override {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        if !self.yes {
            bail!(
                "if the cluster was recovered without this node, two clusters would go on beside each other: ask, and then \
                 `twinkeep recover override --socket {} --yes`",
                self.socket.display()
            );
        }
        let channel = init::connect(&self.socket).await?;
        let answer = LocalServiceClient::new(channel).go_alone(GoAloneRequest {}).await;
        let answer = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
        said(
            context.format(),
            match answer.into_inner().took_part {
                true => "the node takes part already; nothing was changed",
                false => "the node takes part as soon as a quorum answers, until it starts again",
            },
        )
    }
}
