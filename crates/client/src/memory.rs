//! Which cluster this client has been at, and in which of its lives.
//!
//! When a quorum is lost for good, operators recover the cluster by hand: a new *incarnation* of it begins, and the
//! nodes that were given up must serve nobody any more, even if they come back and do not know. So a client remembers
//! the cluster and the newest incarnation that it has met, and refuses nodes of an older one, or of another cluster.
//!
//! Where that is read from: a node's endpoint certificate names cluster, node and incarnation
//! (`spiffe://<cluster>/node/<id>/<incarnation>`) under the signature of the endpoint authority. It is looked at in
//! each handshake, before this client shows who it is. A connection that was open when the client met a newer life is
//! replaced ([`crate::probe`]).
//!
//! A client that is started anew has forgotten, unless it was given a file for it: three lines of text,
//!
//! ```text
//! twinkeep-client-memory 1
//! cluster clu-00112233445566778899aabbccddeeff
//! incarnation 2
//! ```
//!
//! that several processes may share. It holds no secret. Who can write to it can keep this client from its cluster, or
//! make it forget, and nothing else.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tokio::sync::watch;
use twinkeep_core::id::{ClusterId, Incarnation};
use twinkeep_pki::{EndpointTrust, Fenced, Identity};

/// First line of the file; the number is that of the format.
const TITLE: &str = "twinkeep-client-memory 1";
/// Longest file that is read, in bytes: ours have less than 100.
const FILE_BYTES_MAX: u64 = 1024;

/// A cluster in one of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: Incarnation,
}

/// Why a file is no memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRead {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("it is not three lines `{TITLE}`, `cluster clu-…`, `incarnation NUMBER`")]
    Text,
}

/// What a client has met.
#[derive(Debug)]
pub(crate) struct Memory {
    met: Mutex<Option<Life>>,
    file: Option<PathBuf>,
    /// The newest incarnation, 0 before the first; who watches it replaces older connections.
    newest: watch::Sender<u64>,
}

impl Memory {
    /// Begins with nothing.
    pub(crate) fn fresh() -> Self {
        Self { met: Mutex::new(None), file: None, newest: watch::Sender::new(0) }
    }

    /// Begins with what a file says; one that does not exist says nothing yet.
    pub(crate) fn at(file: PathBuf) -> Result<Self, NotRead> {
        let met = read(&file)?;
        let newest = watch::Sender::new(met.map_or(0, |life| life.incarnation.get()));
        Ok(Self { met: Mutex::new(met), file: Some(file), newest })
    }

    /// Returns what was met.
    pub(crate) fn met(&self) -> Option<Life> {
        *self.met.lock()
    }

    /// Returns the newest incarnation as it changes; 0 before the first node was met.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn note(&self, life: Life) {
        self.newest.send_replace(life.incarnation.get());
        let Some(file) = &self.file else { return };
        // Once in a cluster's life, in the thread that shakes hands: nobody calls a node before its life is written
        // down. A disk that refuses must not keep the client from its cluster.
        if let Err(error) = write(file, life) {
            let file = file.display();
            tracing::warn!(%file, %error, "the cluster's incarnation was not written down");
        }
    }
}

impl EndpointTrust for Memory {
    fn admit(&self, endpoint: &Identity) -> Result<(), Fenced> {
        let Identity::Node { cluster, incarnation, .. } = *endpoint else { return Ok(()) };
        let mut met = self.met.lock();
        if let Some(known) = *met {
            if cluster != known.cluster {
                return Err(Fenced::OtherCluster { found: cluster, known: known.cluster });
            }
            if incarnation < known.incarnation {
                let newest = known.incarnation;
                return Err(Fenced::OldIncarnation { found: incarnation, newest });
            }
            if incarnation == known.incarnation {
                return Ok(());
            }
        }
        let life = Life { cluster, incarnation };
        *met = Some(life);
        self.note(life);
        Ok(())
    }
}

fn read(file: &Path) -> Result<Option<Life>, NotRead> {
    match fs::metadata(file) {
        Ok(found) if found.len() > FILE_BYTES_MAX => Err(NotRead::Text),
        Ok(_) => parse(&fs::read_to_string(file)?).map(Some).ok_or(NotRead::Text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn parse(text: &str) -> Option<Life> {
    let mut lines = text.lines();
    if lines.next()? != TITLE {
        return None;
    }
    let cluster = lines.next()?.strip_prefix("cluster ")?.parse().ok()?;
    let incarnation = lines.next()?.strip_prefix("incarnation ")?.parse().ok()?;
    let life = Life { cluster, incarnation };
    lines.next().is_none().then_some(life)
}

/// Writes a life down, unless the file has a newer one by now: another process may have met it first.
fn write(file: &Path, life: Life) -> io::Result<()> {
    let beside = |ending: &str| {
        let mut path = file.as_os_str().to_owned();
        path.push(ending);
        PathBuf::from(path)
    };
    // Of its own, since the file itself is replaced.
    let lock = File::create(beside(".lock"))?;
    lock.lock()?;
    let newer = |known: Life| known.cluster == life.cluster && known.incarnation > life.incarnation;
    if read(file).ok().flatten().is_some_and(newer) {
        return Ok(());
    }
    let fresh = beside(".new");
    let mut out = File::create(&fresh)?;
    let Life { cluster, incarnation } = life;
    write!(out, "{TITLE}\ncluster {cluster}\nincarnation {incarnation}\n")?;
    out.sync_all()?;
    fs::rename(&fresh, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use twinkeep_core::id::NodeId;

    use super::*;

    const OURS: ClusterId = ClusterId::from_bytes([7; 16]);

    fn node(cluster: ClusterId, incarnation: u64) -> Identity {
        let incarnation = Incarnation::new(incarnation).unwrap();
        Identity::Node { cluster, node: NodeId::FIRST, incarnation }
    }

    #[test]
    fn older_life_and_other_cluster_are_refused_and_a_newer_life_is_taken() {
        let memory = Memory::fresh();
        let newest = memory.newest();
        memory.admit(&node(OURS, 2)).unwrap();
        memory.admit(&node(OURS, 2)).unwrap();
        assert!(matches!(memory.admit(&node(OURS, 1)), Err(Fenced::OldIncarnation { .. })));
        let other = ClusterId::from_bytes([8; 16]);
        for incarnation in [1, 2, 3] {
            let refused = memory.admit(&node(other, incarnation));
            assert!(matches!(refused, Err(Fenced::OtherCluster { .. })), "{refused:?}");
        }
        memory.admit(&node(OURS, 3)).unwrap();
        assert!(matches!(memory.admit(&node(OURS, 2)), Err(Fenced::OldIncarnation { .. })));
        assert_eq!(*newest.borrow(), 3);
    }

    #[test]
    fn what_was_met_outlives_the_process_and_the_older_of_two_writers_does_not_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory");
        let (one, other) = (Memory::at(file.clone()).unwrap(), Memory::at(file.clone()).unwrap());
        assert_eq!(one.met(), None);
        one.admit(&node(OURS, 3)).unwrap();
        // The second process met a node of the old life, and did not read what the first has written.
        other.admit(&node(OURS, 2)).unwrap();
        let third = Memory::at(file).unwrap();
        assert_eq!(third.met().unwrap().incarnation.get(), 3);
        assert!(third.admit(&node(OURS, 2)).is_err());
    }

    #[test]
    fn file_that_says_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory");
        let good = format!("{TITLE}\ncluster {OURS}\nincarnation 4\n");
        fs::write(&file, &good).unwrap();
        assert_eq!(Memory::at(file.clone()).unwrap().met().unwrap().incarnation.get(), 4);
        for bad in [
            String::new(),
            good.replace(" 1\n", " 2\n"),
            good.replace(" 4", " 0"),
            good.replace(" 4", " -1"),
            good.replace("clu-", "key-"),
            good.clone() + "more\n",
            good.replace("incarnation 4\n", ""),
            good.clone() + &" ".repeat(2000),
        ] {
            fs::write(&file, &bad).unwrap();
            assert!(matches!(Memory::at(file.clone()), Err(NotRead::Text)), "{bad}");
        }
    }

    #[test]
    fn disk_that_refuses_keeps_nobody_from_the_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::at(folder.path().join("nowhere/memory")).unwrap();
        memory.admit(&node(OURS, 1)).unwrap();
        assert!(memory.met().is_some());
    }
}
