//! `twinkeepd audit-verify`: checks a node's audit log from its files alone.

use std::path::PathBuf;

use anyhow::Context;
use twinkeep_audit::Head;

/// Checks the audit log in a folder.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditVerify {
    /// The folder: `audit` in the node's data folder, or a copy of it.
    folder: PathBuf,
    /// The head that an earlier report printed: the log has to hold it still, so that a log that was cut
    /// short is noticed.
    #[arg(long)]
    head: Option<Head>,
}

impl AuditVerify {
    /// Checks the log and prints what is wrong with it.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let report = twinkeep_audit::verify(&self.folder, self.head)
            .with_context(|| format!("{} cannot be checked", self.folder.display()))?;
        println!("{report}");
        anyhow::ensure!(report.is_intact(), "the audit log is not intact");
        Ok(())
    }
}
