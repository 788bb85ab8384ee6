//! One network namespace: a network stack of its own, with nothing in it but what is put there.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps them.
pub(super) const FOLDER: &str = "/run/netns";

/// A namespace that this program made; whoever holds it removes it.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, with its loopback up: processes in it reach each other on their own addresses.
    pub(super) fn make(name: String) -> anyhow::Result<Self> {
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "dev", "lo", "up"])?;
        Ok(namespace)
    }

    /// One that another run of this program has left behind.
    pub(super) fn left_behind(name: String) -> Self {
        Self { name }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(FOLDER).join(&self.name)
    }

    /// Configures it by `ip`.
    pub(super) fn ip(&self, arguments: &[&str]) -> anyhow::Result<()> {
        ip(&[&["-n", &self.name], arguments].concat()).map(drop)
    }

    /// Returns a command that runs a program in it. The process has the id that spawning returns.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Moves the calling thread into it. Threads and processes that it starts later follow, others do not.
    pub(crate) fn enter(&self) -> anyhow::Result<()> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the network namespace {}", self.name))
    }

    /// Ends the processes that run in it, this one left out.
    fn end_processes(&self) -> anyhow::Result<()> {
        let own = rustix::process::getpid();
        let listed = ip(&["netns", "pids", &self.name])?;
        let ids = listed.lines().filter_map(|line| line.trim().parse().ok());
        for process in ids.filter_map(Pid::from_raw).filter(|process| *process != own) {
            // It may have ended by itself meanwhile.
            let _ = kill_process(process, Signal::KILL);
        }
        Ok(())
    }

    /// Ends the processes in it and removes it.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        self.end_processes()?;
        ip(&["netns", "del", &self.name]).map(drop)
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    output_of(Command::new("ip").args(arguments))
}

/// Runs a command to its end and returns what it printed.
pub(super) fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_os_string();
    let output = command.output().with_context(|| {
        format!("cannot run {}: `scripts/setup bench` installs it", program.display())
    })?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", complaint.trim());
    Ok(String::from_utf8(output.stdout)?)
}
