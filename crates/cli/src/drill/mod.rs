//! `twinkeep drill …`: losses, rehearsed and measured on a development cluster of this machine.

mod check;
mod figures;
mod keys;
mod marks;
mod picture;
mod story;
mod svg;
mod watch;
mod zone_loss;

use std::process::ExitCode;

use crate::context::Context;
use zone_loss::ZoneLoss;

/// Rehearses losses on a development cluster of this machine.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Drill {
    ZoneLoss(ZoneLoss),
}

impl Drill {
    /// Does what was asked.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::ZoneLoss(drill) => drill.run(context).await,
        }
    }
}
