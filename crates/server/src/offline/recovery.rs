//! `twinkeepd recovery-verify`: tries a recovery bundle in a process of its own, which holds the root
//! key for an instant and ends.

use std::path::PathBuf;

use anyhow::Context;
use twinkeep_keyring::Bundle;

use super::operator::identity;

/// Opens a recovery bundle with operators' keys.
#[derive(Debug, clap::Args)]
pub(crate) struct RecoveryVerify {
    /// The recovery bundle.
    bundle: PathBuf,
    /// An operator's key file; as many as the bundle needs.
    #[arg(long = "identity", required = true)]
    identities: Vec<PathBuf>,
}

impl RecoveryVerify {
    /// Opens the bundle and says whose keys did it.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(&self.bundle)
            .with_context(|| format!("cannot read {}", self.bundle.display()))?;
        let bundle = Bundle::parse(&text).context("this is no recovery bundle")?;
        let identities = self
            .identities
            .iter()
            .map(|path| identity(path))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let holders = bundle.verify(&identities).context("the bundle does not open")?;
        let names: Vec<_> = holders.iter().map(ToString::to_string).collect();
        println!(
            "the bundle opens with the keys of {}; the root key's check value holds",
            names.join(", ")
        );
        Ok(())
    }
}
