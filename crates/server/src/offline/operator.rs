//! `twinkeepd operator-key`: an operator's key for the recovery bundle.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use twinkeep_keyring::recovery::Identity;

/// Makes an operator's key and prints its recipient. The key file is an ordinary age identity.
#[derive(Debug, clap::Args)]
pub(crate) struct OperatorKey {
    /// Where the key goes; mode 0600, never overwritten.
    #[arg(long)]
    out: PathBuf,
}

impl OperatorKey {
    /// Makes the key.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let identity = Identity::generate();
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&self.out);
        let mut file = file.with_context(|| format!("cannot make {}", self.out.display()))?;
        writeln!(file, "{}", *identity.danger_to_text())?;
        file.sync_all()?;
        println!("{}", identity.recipient());
        Ok(())
    }
}
