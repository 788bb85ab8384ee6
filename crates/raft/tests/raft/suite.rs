//! openraft's own suite over our log and state machine.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use twinkeep_raft::Opened;
use twinkeep_raft::log_store::LogStore;
use twinkeep_raft::state_machine::StateMachine;
use twinkeep_raft::types::TypeConfig;

use crate::support::{Pen, stores};

struct Stores;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let folder = TempDir::new().unwrap();
        let stores = stores(folder.path(), 1, Pen::new(1, false));
        let Opened { log, state_machine, .. } = stores.open().unwrap();
        Ok((folder, log, state_machine))
    }
}

#[test]
fn openrafts_suite_passes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { Suite::test_all(Stores).await.unwrap() });
}
