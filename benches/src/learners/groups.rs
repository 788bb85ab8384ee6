//! A share of the processor for each node: control groups of the kernel, of either version (cgroups(7)).
//!
//! | what                | version 1                              | version 2     |
//! |---------------------|----------------------------------------|---------------|
//! | quota and period    | `cpu.cfs_quota_us`, `cpu.cfs_period_us` | `cpu.max`    |
//! | the others go first | `cpu.idle`                             | the same      |
//! | weight beside others | `cpu.shares`, 1,024 unless set         | `cpu.weight`, 100 unless set |
//! | periods that were cut short | `cpu.stat`, `nr_throttled`     | the same      |
//!
//! Ours lie in one group that is named after this process and goes ahead of everything else on the machine.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;

/// What the names of our groups begin with.
const BEGINNING: &str = "twinkeep-learners-";
/// Length of a period in microseconds: a node that has used its quota waits until the next one, and no heartbeat may
/// wait long.
const PERIOD_US: u32 = 10_000;
/// The largest weights there are: others get what ours leave.
const SHARES: u32 = 262_144;
const WEIGHT: u32 = 10_000;
/// Those of groups unless others are set.
const SHARES_USUAL: u32 = 1024;
const WEIGHT_USUAL: u32 = 100;
/// Those of groups that stand back.
const SHARES_BACK: u32 = 2;
const WEIGHT_BACK: u32 = 1;
/// How often a group whose processes have just ended is tried to be removed.
const REMOVALS_MAX: usize = 50;
const REMOVAL_PACE: Duration = Duration::from_millis(20);

/// This machine or this user cannot give a process a share of the processor.
#[derive(Debug, thiserror::Error)]
#[error(
    "no node can be given a CPU quota here: {0}; it takes root and the kernel's control groups with the cpu controller"
)]
pub struct NoQuotas(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// All groups of this process; they are removed when this is dropped, which must be after the nodes have ended.
#[derive(Debug)]
pub(crate) struct Groups {
    version: Version,
    /// The group around ours.
    folder: PathBuf,
    /// Where this process was before.
    home: PathBuf,
}

/// One group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    version: Version,
    folder: PathBuf,
}

/// How many periods there were, and in how many the quota was used up before their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Periods {
    pub(crate) all: u64,
    pub(crate) cut_short: u64,
}

impl Groups {
    /// Makes the group around all others, and removes what killed runs have left of theirs.
    pub(crate) fn make() -> anyhow::Result<Self> {
        Self::try_make().map_err(|error| NoQuotas(format!("{error:#}")).into())
    }

    fn try_make() -> anyhow::Result<Self> {
        let mounts = read(Path::new("/proc/self/mounts"))?;
        let (mount, version) = hierarchy(&mounts).context("no control groups are mounted")?;
        let own = read(Path::new("/proc/self/cgroup"))?;
        let own = place_in(&own, version).context("this process is in no control group")?;
        // Within a namespace of groups the path may lie outside of what is mounted.
        let home = [mount.join(own.trim_start_matches('/')), mount.clone()];
        let home = home.into_iter().find(|home| home.is_dir()).context("nothing is mounted")?;
        remove_left_behind(&mount)?;
        let folder = mount.join(format!("{BEGINNING}{}", std::process::id()));
        if version == Version::Two {
            write(&mount.join("cgroup.subtree_control"), "+cpu")?;
        }
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let groups = Self { version, folder, home };
        if version == Version::Two {
            write(&groups.folder.join("cgroup.subtree_control"), "+cpu")?;
        }
        Group { version, folder: groups.folder.clone() }.go_ahead()?;
        // Says at once whether the kernel has quotas.
        groups.group("load")?;
        Ok(groups)
    }

    /// Makes a group, or returns the one that has this name.
    pub(crate) fn group(&self, name: &str) -> anyhow::Result<Group> {
        let folder = self.folder.join(name);
        let made = std::fs::create_dir(&folder);
        if let Err(error) = made
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(error).with_context(|| format!("cannot make {}", folder.display()));
        }
        let group = Group { version: self.version, folder };
        // As it is from the beginning, whatever became of it before.
        group.limit(None)?;
        let idle = group.folder.join("cpu.idle");
        if idle.exists() {
            write(&idle, 0)?;
        }
        group.weigh(SHARES_USUAL, WEIGHT_USUAL)?;
        Ok(group)
    }

    /// Puts this process into a group of its own.
    pub(crate) fn enter(&self) -> anyhow::Result<()> {
        self.group("load")?.add(rustix::process::getpid())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // What is still in a group keeps it from being removed, and that is told.
        let _ = write(&self.home.join("cgroup.procs"), std::process::id());
        if let Err(error) = remove(&self.folder) {
            eprintln!("the control group {} stays behind: {error}", self.folder.display());
        }
    }
}

impl Group {
    /// Moves a process, with all its threads, into the group.
    pub(crate) fn add(&self, process: Pid) -> anyhow::Result<()> {
        write(&self.folder.join("cgroup.procs"), process.as_raw_nonzero())
    }

    /// Gives the group so many percent of a core, or as much as there is.
    pub(crate) fn limit(&self, percent: Option<u32>) -> anyhow::Result<()> {
        let quota_us = percent.map(|percent| PERIOD_US * percent / 100);
        match self.version {
            Version::One => {
                write(&self.folder.join("cpu.cfs_period_us"), PERIOD_US)?;
                let quota = quota_us.map_or_else(|| "-1".to_owned(), |quota| quota.to_string());
                write(&self.folder.join("cpu.cfs_quota_us"), quota)
            }
            Version::Two => {
                let quota = quota_us.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                write(&self.folder.join("cpu.max"), format!("{quota} {PERIOD_US}"))
            }
        }
    }

    fn go_ahead(&self) -> anyhow::Result<()> {
        self.weigh(SHARES, WEIGHT)
    }

    /// Lets the others of our groups go first: whoever of them wakes interrupts this one. Kernels before 5.15 cannot
    /// do that, and give it the smallest weight.
    pub(crate) fn stand_back(&self) -> anyhow::Result<()> {
        let idle = self.folder.join("cpu.idle");
        if idle.exists() { write(&idle, 1) } else { self.weigh(SHARES_BACK, WEIGHT_BACK) }
    }

    fn weigh(&self, shares: u32, weight: u32) -> anyhow::Result<()> {
        match self.version {
            Version::One => write(&self.folder.join("cpu.shares"), shares),
            Version::Two => write(&self.folder.join("cpu.weight"), weight),
        }
    }

    /// Returns how many periods there have been.
    pub(crate) fn periods(&self) -> anyhow::Result<Periods> {
        let text = read(&self.folder.join("cpu.stat"))?;
        periods_in(&text).context("cpu.stat does not count periods")
    }
}

/// Returns where the groups that share out the processor are mounted; of both versions the one that does.
fn hierarchy(mounts: &str) -> Option<(PathBuf, Version)> {
    let fields = |line: &str| {
        let mut fields = line.split(' ').skip(1).map(str::to_owned);
        Some((fields.next()?, fields.next()?, fields.next()?))
    };
    let mounts: Vec<_> = mounts.lines().filter_map(fields).collect();
    let one = mounts.iter().find(|(_, kind, options)| {
        kind == "cgroup" && options.split(',').any(|option| option == "cpu")
    });
    let two = || mounts.iter().find(|(_, kind, _)| kind == "cgroup2");
    let (mount, version) = match one {
        Some(one) => (one, Version::One),
        None => (two()?, Version::Two),
    };
    Some((PathBuf::from(&mount.0), version))
}

/// Returns the group that a process is in, as `/proc/PID/cgroup` has it.
fn place_in(text: &str, version: Version) -> Option<&str> {
    text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match version {
            Version::One => controllers.split(',').any(|controller| controller == "cpu"),
            Version::Two => controllers.is_empty(),
        };
        is_it.then_some(path)
    })
}

fn periods_in(text: &str) -> Option<Periods> {
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.trim().parse().ok()
    };
    Some(Periods { all: number("nr_periods")?, cut_short: number("nr_throttled")? })
}

/// Removes the groups of processes that have ended without doing so. Where nodes still run in one, it stays.
fn remove_left_behind(mount: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(mount).context("cannot look at control groups")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(BEGINNING);
        if owner.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            println!("removing the control group {name}, which a killed run has left");
            if let Err(error) = remove(&mount.join(&name)) {
                println!("it stays: {error}; end the nodes in it (cgroup.procs) and remove it");
            }
        }
    }
    Ok(())
}

/// Removes a group and those in it.
fn remove(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_one(&entry.path())?;
        }
    }
    remove_one(folder)
}

fn remove_one(folder: &Path) -> std::io::Result<()> {
    let mut tries = 0;
    loop {
        match std::fs::remove_dir(folder) {
            // Processes that have ended may not have left yet.
            Err(error)
                if error.kind() == std::io::ErrorKind::ResourceBusy && tries < REMOVALS_MAX =>
            {
                tries += 1;
                std::thread::sleep(REMOVAL_PACE);
            }
            done => return done,
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, value: impl Display) -> anyhow::Result<()> {
    let value = value.to_string();
    std::fs::write(path, &value)
        .with_context(|| format!("cannot write {value} to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_share_out_the_processor_are_found_in_either_version() {
        let both = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                    cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
                    cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n\
                    cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let one = PathBuf::from("/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(hierarchy(both), Some((one, Version::One)));
        let two = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(hierarchy(two), Some((PathBuf::from("/sys/fs/cgroup"), Version::Two)));
        assert_eq!(hierarchy("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn own_group_is_that_of_the_version() {
        let text = "9:name=systemd:/s\n3:cpuset:/set\n1:cpu,cpuacct:/mine\n0::/two\n";
        assert_eq!(place_in(text, Version::One), Some("/mine"));
        assert_eq!(place_in(text, Version::Two), Some("/two"));
        assert_eq!(place_in("3:cpuset:/set\n", Version::One), None);
    }

    #[test]
    fn periods_are_read_and_damage_is_none() {
        let text = "usage_usec 7\nnr_periods 304\nnr_throttled 301\nthrottled_usec 2\n";
        assert_eq!(periods_in(text), Some(Periods { all: 304, cut_short: 301 }));
        assert_eq!(periods_in("nr_periods 304\n"), None);
    }
}
