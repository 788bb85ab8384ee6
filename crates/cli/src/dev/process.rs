//! Starts and stops the processes of a development cluster, by the ids that it wrote down itself.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::layout::{DevNode, Layout};

/// Longest wait for a process to end after it was told to.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Finds the node binary: beside this one.
pub(crate) fn twinkeepd() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    let path = own.with_file_name("twinkeepd");
    if !path.exists() {
        bail!("{} is missing; `make build` builds it", path.display());
    }
    Ok(path)
}

/// Starts a node's process unless it runs. One that was stopped with SIGSTOP goes on.
pub(crate) fn start(layout: &Layout, node: &DevNode) -> anyhow::Result<()> {
    if running(layout, node).is_some() {
        return signal_only(layout, node, Signal::CONT);
    }
    let folder = layout.folder(node);
    let messages =
        OpenOptions::new().create(true).append(true).open(folder.join("messages.log"))?;
    let mut command = layout.program(node, &twinkeepd()?);
    command
        .arg("run")
        .arg("--config")
        .arg(folder.join("twinkeepd.toml"))
        .stdin(Stdio::null())
        .stdout(messages.try_clone()?)
        .stderr(messages)
        // A group of its own: Ctrl-C in the terminal is for the command line, not for the cluster.
        .process_group(0);
    let mut child = command.spawn().context("cannot start twinkeepd")?;
    std::fs::write(folder.join("pid"), child.id().to_string())
        .context("cannot write a pid file")?;
    // A fresh process shows its command line only once the kernel has loaded the program.
    while running(layout, node).is_none() && child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Sends a signal to a node's process and waits for its end.
pub(crate) fn stop(layout: &Layout, node: &DevNode, signal: Signal) -> anyhow::Result<()> {
    signal_only(layout, node, signal)?;
    let started = Instant::now();
    while let Some(pid) = running(layout, node) {
        if started.elapsed() > STOP_MAX {
            bail!(
                "node {} has not ended within {STOP_MAX:?}: `kill -9 {}` ends it; see {}",
                node.name,
                pid.as_raw_nonzero(),
                messages(layout, node)
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Sends a signal to a node's process, if it runs.
pub(crate) fn signal_only(layout: &Layout, node: &DevNode, signal: Signal) -> anyhow::Result<()> {
    let Some(pid) = running(layout, node) else { return Ok(()) };
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot signal node {}", node.name)),
    }
}

/// Returns the id of a node's process while it runs.
///
/// An id that was written down may belong to another process by now, so its command line has to name
/// this node's configuration. A killed process loses its command line with its first thread; the others
/// hold its files and ports a little longer, and until they are gone it cannot be started again.
pub(crate) fn running(layout: &Layout, node: &DevNode) -> Option<Pid> {
    let folder = layout.folder(node);
    let id: i32 = std::fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()?;
    let command_line = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let config = folder.join("twinkeepd.toml");
    let is_ours = command_line
        .split(|byte| *byte == 0)
        .any(|arg| arg == config.as_os_str().as_encoded_bytes());
    let is_dying = || command_line.is_empty() && threads(id) > 1;
    (is_ours || is_dying()).then(|| Pid::from_raw(id)).flatten()
}

/// Tells whether a process that runs was stopped with SIGSTOP and does nothing until it is told to go on.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // The state stands behind the name, which may hold anything.
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

fn threads(id: i32) -> usize {
    std::fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count)
}

/// Returns where a node's messages are, for an error text.
pub(crate) fn messages(layout: &Layout, node: &DevNode) -> String {
    layout.folder(node).join("messages.log").display().to_string()
}

/// Returns the last lines of a node's messages.
pub(crate) fn last_messages(layout: &Layout, node: &DevNode, lines: usize) -> String {
    let text =
        std::fs::read_to_string(layout.folder(node).join("messages.log")).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Runs an offline command of the node binary and returns what it printed.
pub(crate) fn offline(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(twinkeepd()?).args(args).output().context("cannot run twinkeepd")?;
    if !output.status.success() {
        bail!("twinkeepd {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Takes the cluster's lock for a command that changes it, so that two of them do not mix.
pub(crate) fn lock(home: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    let file = File::create(home.join("lock")).context("cannot make the cluster's lock file")?;
    file.try_lock().map_err(|_| {
        anyhow::anyhow!("another command is at work on {}; wait for it", home.display())
    })?;
    Ok(file)
}
