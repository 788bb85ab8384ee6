//! What is measured: calls to a server, and the stage that it stands on meanwhile.

use rustix::process::Pid;

use crate::bench::Bench;
use crate::load::closed::Call;
use crate::load::tally::Tally;
use crate::load::window::{Passed, Timing, Window};
use crate::load::wire::Connection;
use crate::load::{closed, streamed};
use crate::servers::Server;
use crate::system::cores;

/// A call to a server, and how many of them at a time.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// Who answers.
    pub(crate) server: Server,
    /// What is asked.
    pub(crate) call: Call,
    /// How it is asked.
    pub(crate) load: Load,
    /// Processes that share both cores with the load, where one node alone is not the point.
    pub(crate) spread: Vec<Pid>,
}

/// How calls are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// Each on its own, so many in flight, sixteen of them on each connection.
    Unary(usize),
    /// Messages on one bidirectional stream, so many in flight.
    Stream(usize),
}

impl Subject {
    /// A subject that has the server's core to itself.
    pub(crate) fn alone(server: Server, call: Call, load: Load) -> Self {
        Self { server, call, load, spread: Vec::new() }
    }

    /// Connects as many times as the load wants.
    pub(crate) async fn connect(&self) -> anyhow::Result<Vec<Connection>> {
        self.server.connect(self.load.connections()).await
    }

    /// Calls until the window is over.
    pub(crate) async fn drive(
        &self,
        connections: &[Connection],
        tally: &Tally<'_>,
    ) -> anyhow::Result<()> {
        match self.load {
            Load::Unary(in_flight) => closed::run(connections, &self.call, in_flight, tally).await,
            Load::Stream(in_flight) => {
                streamed::run(&connections[0], &self.call, in_flight, tally).await
            }
        }
    }

    fn processes(&self) -> Vec<Pid> {
        if self.spread.is_empty() { vec![self.server.process] } else { self.spread.clone() }
    }
}

impl Load {
    fn connections(self) -> usize {
        match self {
            Self::Unary(in_flight) => in_flight.div_ceil(16).max(1),
            Self::Stream(_) => 1,
        }
    }
}

/// Processes on stage; they go back beside the load generator when this is dropped.
pub(crate) struct Stage {
    processes: Vec<Pid>,
    ours: Vec<Pid>,
}

impl Stage {
    /// Gives a subject its cores until the stage is dropped.
    pub(crate) fn set(bench: &Bench, subject: &Subject) -> anyhow::Result<Self> {
        let processes = subject.processes();
        let cores: &[usize] = match subject.spread.is_empty() {
            true => &[cores::SERVER],
            false => &[cores::SERVER, cores::LOAD],
        };
        for process in &processes {
            cores::pin(*process, cores)?;
        }
        let mut ours = [bench.processes()?, processes.clone()].concat();
        ours.sort_unstable_by_key(|process| process.as_raw_nonzero());
        ours.dedup();
        Ok(Self { processes, ours })
    }

    /// Opens a window and reads the clocks of those on stage.
    pub(crate) async fn run(&self, window: &Window, timing: Timing) -> anyhow::Result<Passed> {
        window.run(timing, &self.processes, &self.ours).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for process in &self.processes {
            // A process that has ended meanwhile needs no core.
            let _ = cores::pin(*process, &[cores::LOAD]);
        }
    }
}
