//! What the lives of a cluster leave in a node's data folder.
//!
//! A forced recovery ends a life. On each node that is to go on, what belongs to that life moves to `ended-<n>/`, where
//! it stays for whoever wants to look, and `ended.toml` says so from before the first move on:
//!
//! | `state`   | the node                                                                      |
//! |-----------|-------------------------------------------------------------------------------|
//! | `moving`  | was about to move its files; the recovery has to be run again                  |
//! | `empty`   | has moved them, and joins once it has its pass, `recovery-pass.toml`          |
//! | `begun`   | has begun the next life                                                       |
//! | `lost`    | was given up: it heard of an order that names it, and never starts again      |
//!
//! A folder whose `identity.toml` is of the life that began is one of that life, whatever else lies there.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use twinkeep_core::recovery::RecoveryOrder;

use crate::identity::{DataDir, Identity};

/// The file that says that a life has ended here.
const ENDED: &str = "ended.toml";
/// Where the pass of a node that joins the next life goes.
pub(crate) const RECOVERY_PASS: &str = "recovery-pass.toml";
/// Where the first node of a life is put together.
pub(crate) const NEXT: &str = "next";
/// What belongs to one life, in the order in which it is moved: the identity last, so that whoever looks knows
/// whether everything was. The keys of node and endpoint are not among it: they stay.
const OF_ONE_LIFE: [&str; 10] = [
    "node.pem",
    "node-root.pem",
    "pass.toml",
    RECOVERY_PASS,
    "endpoint.pem",
    "log",
    "state",
    "snapshots",
    "audit",
    "identity.toml",
];

/// How far a node has come with the end of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Progress {
    /// Its files are about to be moved.
    Moving,
    /// They are moved, and it waits for a pass.
    Empty,
    /// They are moved, and it has begun the next life.
    Begun,
    /// It was given up.
    Lost,
}

/// The end of a life, as the folder says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Ended {
    /// How far this node has come.
    pub(crate) state: Progress,
    /// The life that ended.
    ends: u64,
    /// The life that begins.
    begins: u64,
    /// SHA-256 of what the operators signed, hex.
    order: String,
}

impl Ended {
    /// Describes the end of a life by an order.
    pub(crate) fn new(state: Progress, order: &RecoveryOrder) -> Self {
        let (ends, begins) = (order.ends.get(), order.ends.get().saturating_add(1));
        Self { state, ends, begins, order: name_of(order) }
    }

    /// Reads what the folder says; `None` in one that has seen one life only.
    pub(crate) fn read(data: &DataDir) -> anyhow::Result<Option<Self>> {
        let path = data.path(ENDED);
        if !path.exists() {
            return Ok(None);
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let ended = toml::from_str(&text);
        ended.map(Some).with_context(|| format!("{} is damaged; restore it", path.display()))
    }

    /// Writes down, durably, how far this node has come now.
    pub(crate) fn save_as(&self, state: Progress, data: &DataDir) -> anyhow::Result<()> {
        Self { state, ..self.clone() }.save(data)
    }

    /// Writes it down, durably.
    pub(crate) fn save(&self, data: &DataDir) -> anyhow::Result<()> {
        data.write(ENDED, toml::to_string(self)?.as_bytes())
    }

    /// Tells whether it is about the same order.
    pub(crate) fn is_by(&self, order: &RecoveryOrder) -> bool {
        self.order == name_of(order)
    }

    /// Tells whether a node of this identity belongs to the life that began, or to a later one.
    pub(crate) fn is_over(&self, identity: &Identity) -> anyhow::Result<bool> {
        Ok(identity.incarnation()?.get() >= self.begins)
    }

    /// Returns where the ended life's files are.
    pub(crate) fn folder(&self, data: &DataDir) -> PathBuf {
        data.path(&format!("ended-{}", self.ends))
    }

    /// Moves what belongs to the ended life away and what is in `next/` into its place. Goes on where an earlier
    /// try was cut off.
    pub(crate) fn switch(&self, data: &DataDir) -> anyhow::Result<()> {
        let (ended, next) = (self.folder(data), data.path(NEXT));
        fs::create_dir_all(&ended).with_context(|| format!("cannot make {}", ended.display()))?;
        for name in OF_ONE_LIFE {
            let (here, away, new) = (data.path(name), ended.join(name), next.join(name));
            // What lies here already is the next life's once the former one's was moved.
            if here.exists() && !away.exists() {
                rename(&here, &away)?;
            }
            if new.exists() {
                rename(&new, &here)?;
            }
        }
        if next.exists() {
            fs::remove_dir_all(&next)
                .with_context(|| format!("cannot remove {}", next.display()))?;
        }
        data.sync()
    }
}

fn name_of(order: &RecoveryOrder) -> String {
    hex::encode(digest(&SHA256, &order.message()))
}

fn rename(from: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
    fs::rename(from, to)
        .with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

/// Refuses to start a node of a life that has ended.
pub(crate) fn check(data: &DataDir, identity: Option<&Identity>) -> anyhow::Result<()> {
    let Some(ended) = Ended::read(data)? else { return Ok(()) };
    if let Some(identity) = identity
        && ended.is_over(identity)?
    {
        return Ok(());
    }
    let Ended { ends, begins, .. } = ended;
    match ended.state {
        Progress::Lost => bail!(
            "this node was given up: the cluster was recovered without it and lives on as incarnation {begins}. Its \
             data stay as they are; `twinkeep recover export` shows what only it has. To use the machine again, \
             give it an empty data folder and admit it as a fresh node"
        ),
        Progress::Empty if data.path(RECOVERY_PASS).exists() => Ok(()),
        Progress::Empty => bail!(
            "incarnation {ends} of the cluster has ended here. Put the pass that `twinkeep recover apply` wrote on the \
             node that brings the state into {}, and start again",
            data.path(RECOVERY_PASS).display()
        ),
        Progress::Moving | Progress::Begun => bail!(
            "a recovery of this node was begun and not finished: run `twinkeep recover apply` again with the same order"
        ),
    }
}

#[cfg(test)]
mod tests {
    use twinkeep_core::apply::Trust;
    use twinkeep_core::id::{ClusterId, Incarnation, NodeId};
    use twinkeep_core::recovery::LastEntry;

    use super::*;

    fn identity(incarnation: u64) -> Identity {
        let trust = Trust { cluster: ClusterId::from_bytes([7; 16]), genesis_key: [9; 32] };
        let identity = Identity::new(&trust, NodeId::FIRST, NodeId::FIRST);
        identity.in_life(Incarnation::new(incarnation).unwrap(), NodeId::FIRST)
    }

    fn folder() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("n")).unwrap();
        for name in ["log", "state", "snapshots", "audit"] {
            fs::create_dir(data.path(name)).unwrap();
            fs::write(data.path(name).join("of"), "1").unwrap();
        }
        data.save_identity(&identity(1)).unwrap();
        data.write("node.key", b"key").unwrap();
        data.write(RECOVERY_PASS, b"of an earlier recovery").unwrap();
        (dir, data)
    }

    fn next(data: &DataDir) {
        let next = data.path(NEXT);
        for name in ["log", "state", "snapshots"] {
            fs::create_dir_all(next.join(name)).unwrap();
            fs::write(next.join(name).join("of"), "2").unwrap();
        }
        fs::write(next.join("identity.toml"), fs::read(data.path("identity.toml")).unwrap())
            .unwrap();
    }

    fn ended(state: Progress) -> Ended {
        let order = RecoveryOrder {
            cluster: ClusterId::from_bytes([7; 16]),
            ends: Incarnation::FIRST,
            last: LastEntry { term: 3, leader: 1, index: 77 },
            complete_until_ms: 0,
            expires_ms: 1,
            survivors: Vec::new(),
            lost: Vec::new(),
        };
        Ended::new(state, &order)
    }

    #[test]
    fn switch_that_was_cut_off_anywhere_is_finished_by_the_next() {
        // Each step is one rename; what is left after any number of them has to lead to the same.
        for steps in 0..=14 {
            let (_dir, data) = folder();
            next(&data);
            let (away, new) = (data.path("ended-1"), data.path(NEXT));
            fs::create_dir_all(&away).unwrap();
            let moves = OF_ONE_LIFE.iter().flat_map(|name| {
                [(data.path(name), away.join(name)), (new.join(name), data.path(name))]
            });
            let moves = moves.filter(|(from, _)| from.exists()).collect::<Vec<_>>();
            for (from, to) in moves.into_iter().take(steps) {
                fs::rename(from, to).unwrap();
            }
            ended(Progress::Moving).switch(&data).unwrap();
            for name in ["log", "state", "snapshots"] {
                let of =
                    |folder: PathBuf| fs::read_to_string(folder.join(name).join("of")).unwrap();
                assert_eq!(
                    (of(data.path("")), of(away.clone())),
                    ("2".into(), "1".into()),
                    "{steps}"
                );
            }
            assert!(!data.path("audit").exists() && away.join("audit").exists());
            assert!(data.path("node.key").exists() && !new.exists());
            assert!(!data.path(RECOVERY_PASS).exists(), "it is for no later life");
        }
    }

    #[test]
    fn folder_of_an_ended_life_does_not_start_and_says_what_to_do() {
        let (_dir, data) = folder();
        fs::remove_file(data.path(RECOVERY_PASS)).unwrap();
        check(&data, Some(&identity(1))).unwrap();
        for (state, part) in [
            (Progress::Lost, "this node was given up"),
            (Progress::Empty, "recovery-pass.toml"),
            (Progress::Moving, "run `twinkeep recover apply` again"),
        ] {
            ended(state).save(&data).unwrap();
            let error = check(&data, Some(&identity(1))).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            check(&data, Some(&identity(2))).unwrap();
        }
        ended(Progress::Empty).save(&data).unwrap();
        data.write(RECOVERY_PASS, b"").unwrap();
        check(&data, None).unwrap();
    }
}
