//! A random workload on a log, and what the log may be after a crash.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use twinkeep_core::id::{ClusterId, NodeId};
use twinkeep_storage::log::{Done, OpenError, WriteError};
use twinkeep_storage::{Identity, LogDb};
use twinkeep_testkit::crashfs::{CrashFs, Rng};

/// How the log is opened.
pub(crate) type Opened = fn(&Path, Identity) -> Result<LogDb, OpenError>;

/// Changes of the disk until the power goes.
const CHANGES_MAX: u64 = 160;
/// Changes of the log in one go, if the power does not go before.
const STEPS_MAX: u64 = 200;
/// An entry of this size crosses the blocks of RocksDB's log.
const BIG_ENTRY_BYTES: u64 = 100_000;
/// Entries of this size fill a memtable within one go, which then has fewer steps.
const HUGE_ENTRY_BYTES: usize = 600_000;
const HUGE_STEPS_MAX: u64 = 50;

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    vote: Option<Bytes>,
    purged: Option<u64>,
    entries: BTreeMap<u64, Bytes>,
}

impl Model {
    fn last(&self) -> u64 {
        let last = self.entries.last_key_value().map(|(index, _)| *index);
        last.max(self.purged).unwrap_or(0)
    }

    fn of(log: &LogDb) -> Result<Self, String> {
        let entries = log.read(0..u64::MAX).map_err(|e| format!("entries cannot be read: {e}"))?;
        Ok(Self {
            vote: log.vote(),
            purged: log.purged().map(|(index, _)| index),
            entries: entries.into_iter().collect(),
        })
    }
}

/// What one seed brought to light.
pub(crate) struct Violation {
    seed: u64,
    what: Broken,
}

/// How a log broke its promise.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It does not open, though nothing was damaged.
    Refused(OpenError),
    /// It opens, and is not what it was after any change since the last acknowledged one.
    Lost(String),
}

impl Violation {
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self.what, Broken::Lost(_))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: ", self.seed)?;
        match &self.what {
            Broken::Refused(error) => write!(f, "refused: {error}"),
            Broken::Lost(what) => write!(f, "lost: {what}"),
        }
    }
}

/// A disk, a log on it, and everything that was asked of it.
pub(crate) struct Run {
    seed: u64,
    rng: Rng,
    open: Opened,
    fs: CrashFs,
    /// What the log holds after each change, from the last crash on.
    history: Vec<Model>,
    /// How many of these changes were acknowledged. They are in order.
    acknowledged: Arc<AtomicUsize>,
    written: u64,
}

impl Run {
    /// Makes an empty disk.
    pub(crate) fn new(seed: u64, open: Opened) -> Self {
        Self {
            seed,
            rng: Rng::new(seed),
            open,
            fs: CrashFs::mount().expect("the test looked before"),
            history: vec![Model::default()],
            acknowledged: Arc::default(),
            written: 0,
        }
    }

    /// Cuts the power again and again and looks at what is left. Returns how many changes were
    /// acknowledged.
    pub(crate) fn cut_power(mut self, times: usize) -> Result<usize, Violation> {
        let mut acknowledged = 0;
        for _ in 0..times {
            self.work_until_cut();
            let seed = self.rng.bits();
            self.fs.crash(seed).expect("the disk comes back");
            acknowledged += self.look().map_err(|what| Violation { seed: self.seed, what })?;
        }
        Ok(acknowledged)
    }

    fn open(&self) -> Result<LogDb, OpenError> {
        let identity = Identity { cluster: ClusterId::from_bytes([9; 16]), node: NodeId::FIRST };
        (self.open)(&self.fs.path().join("log"), identity)
    }

    fn work_until_cut(&mut self) {
        let changes = self.rng.below(CHANGES_MAX);
        // Sometimes while the log opens, mostly later.
        let during_open = self.rng.once_in(4);
        if during_open {
            self.fs.cut_after(changes);
        }
        let Ok(log) = self.open() else {
            assert!(self.fs.is_cut(), "only a power cut keeps a log from opening here");
            return;
        };
        if !during_open {
            self.fs.cut_after(changes);
        }
        let steps = if self.is_huge() { HUGE_STEPS_MAX } else { STEPS_MAX };
        for _ in 0..steps {
            if self.step(&log).is_err() {
                return;
            }
        }
    }

    /// Opens the log after a crash, compares, and goes on from what is there.
    fn look(&mut self) -> Result<usize, Broken> {
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        let log = self.open().map_err(Broken::Refused)?;
        let found = Model::of(&log).map_err(Broken::Lost)?;
        if !self.history[acknowledged..].contains(&found) {
            return Err(Broken::Lost(describe(&found, &self.history[acknowledged])));
        }
        self.history = vec![found];
        self.acknowledged = Arc::default();
        Ok(acknowledged)
    }

    fn step(&mut self, log: &LogDb) -> Result<(), WriteError> {
        match self.rng.below(12) {
            0 | 1 => self.vote(log),
            2 => self.truncate(log),
            3 => self.purge(log),
            4 => {
                std::thread::yield_now();
                Ok(())
            }
            _ => self.append(log),
        }
    }

    /// Notes what the log holds after the next change; returns what notes its acknowledgement.
    fn note(&mut self, model: Model) -> Done {
        self.history.push(model);
        let (number, acknowledged) = (self.history.len() - 1, self.acknowledged.clone());
        Box::new(move |fate| {
            if fate.is_ok() {
                let before = acknowledged.swap(number, Ordering::AcqRel);
                assert!(before < number, "answers came out of order");
            }
        })
    }

    fn now(&self) -> Model {
        self.history.last().expect("never empty").clone()
    }

    fn vote(&mut self, log: &LogDb) -> Result<(), WriteError> {
        let vote = Bytes::from(format!("vote {}", self.fresh()));
        let done = self.note(Model { vote: Some(vote.clone()), ..self.now() });
        log.save_vote_then(vote, done)
    }

    fn append(&mut self, log: &LogDb) -> Result<(), WriteError> {
        let mut model = self.now();
        let entries: Vec<_> = (0..=self.rng.below(3))
            .map(|_| {
                let (index, entry) = (model.last() + 1, self.entry());
                model.entries.insert(index, entry.clone());
                (index, entry)
            })
            .collect();
        let done = self.note(model);
        log.append(entries, done)
    }

    fn truncate(&mut self, log: &LogDb) -> Result<(), WriteError> {
        let mut model = self.now();
        let keep = model.purged.unwrap_or(0).max(model.last().saturating_sub(self.rng.below(4)));
        model.entries.retain(|index, _| *index <= keep);
        let done = self.note(model);
        log.truncate_after_then(Some(keep), done)
    }

    fn purge(&mut self, log: &LogDb) -> Result<(), WriteError> {
        let mut model = self.now();
        let upto = model.purged.unwrap_or(0) + self.rng.below(3);
        model.purged = model.purged.max(Some(upto));
        model.entries.retain(|index, _| *index > upto);
        let done = self.note(model);
        log.purge(upto, Bytes::new())?;
        done(Ok(()));
        Ok(())
    }

    fn entry(&mut self) -> Bytes {
        let number = self.fresh();
        let len = match self.is_huge() {
            true => HUGE_ENTRY_BYTES,
            false if self.rng.once_in(6) => self.rng.below(BIG_ENTRY_BYTES) as usize,
            false => 20,
        };
        let mut entry = format!("entry {number} ").into_bytes();
        let mut fill = Rng::new(number);
        entry.resize_with(len.max(entry.len()), || fill.bits() as u8);
        Bytes::from(entry)
    }

    fn is_huge(&self) -> bool {
        self.seed.is_multiple_of(8)
    }

    fn fresh(&mut self) -> u64 {
        self.written += 1;
        self.written
    }
}

fn describe(found: &Model, expected: &Model) -> String {
    let span = |model: &Model| (model.purged, model.last(), model.vote.clone());
    let (found, expected) = (span(found), span(expected));
    format!("(purged, last, vote) is {found:?}, acknowledged was {expected:?}")
}
