//! What this node has on disk, and what its state may say.

use std::sync::mpsc;
use std::time::Duration;

use openraft::storage::{EntryResponder, RaftStateMachine};
use tempfile::TempDir;
use tokio::time::sleep;
use twinkeep_raft::Opened;
use twinkeep_raft::codec::encode_entry;
use twinkeep_raft::types::{Entry, LeaderId, LogId, Payload, TypeConfig};

use crate::support::{Pen, stores};

fn blank(index: u64) -> Entry {
    Entry { log_id: LogId::new(LeaderId { term: 1, node_id: 2 }, index), payload: Payload::Blank }
}

/// Two other voters had entry 259 on disk, so it was committed, and this node applied it while its own
/// disk was still writing. The power cut in between left a state beyond the log, and the node refused
/// to start.
#[tokio::test(flavor = "multi_thread")]
async fn committed_entry_is_applied_once_this_disk_has_it() {
    let folder = TempDir::new().unwrap();
    let stores = stores(folder.path(), 1, Pen::new(1, false));
    let Opened { mut state_machine, .. } = stores.open().unwrap();
    let (release, released) = mpsc::channel::<()>();
    let row = |index| vec![(index, encode_entry(&blank(index)).into())];
    // The writer answers in order and one at a time: while it waits here, it syncs nothing else.
    let stall = Box::new(move |_| released.recv().unwrap());
    stores.log.append(row(0), stall).unwrap();
    stores.log.wait_synced(0).unwrap();
    stores.log.append(row(1), Box::new(|_| ())).unwrap();

    let applying = tokio::spawn(async move {
        let run: Vec<std::io::Result<EntryResponder<TypeConfig>>> =
            vec![Ok((blank(0), None)), Ok((blank(1), None))];
        state_machine.apply(futures::stream::iter(run)).await
    });
    sleep(Duration::from_millis(200)).await;
    assert_eq!(stores.state.applied().unwrap(), None);
    assert!(!applying.is_finished());
    release.send(()).unwrap();
    applying.await.unwrap().unwrap();
    assert_eq!(stores.state.applied().unwrap().map(|applied| applied.index), Some(1));
}
