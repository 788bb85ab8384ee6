//! The time in which calls count: after the warm-up, and not a moment longer.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tokio::time::sleep;

use crate::system::cores;
use crate::system::process::cpu_time;
use crate::system::weather::{Reading, Weather};

/// How long to warm up and how long to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Calls that end in this time are not counted.
    pub(crate) warm_up: Duration,
    /// How long is measured after that.
    pub(crate) measure: Duration,
}

/// The window. Loads look at it; [`Window::run`] opens and shuts it.
#[derive(Debug)]
pub(crate) struct Window {
    phase: Cell<Phase>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    WarmUp,
    Open,
    Over,
}

/// What was read on the clocks when the window was shut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    /// How long the window was open.
    pub(crate) time: Duration,
    /// The processor time that the server used meanwhile.
    pub(crate) server: Duration,
    /// The processor time that the load generator used meanwhile.
    pub(crate) load: Duration,
    /// How long the server's core had nothing to do, also where a subject is spread over both.
    pub(crate) idle: Duration,
    /// What others did to the machine.
    pub(crate) weather: Weather,
}

impl Window {
    /// Makes a window that is not open yet.
    pub(crate) fn new() -> Self {
        Self { phase: Cell::new(Phase::WarmUp) }
    }

    /// Tells whether what ends now counts.
    pub(crate) fn is_open(&self) -> bool {
        self.phase.get() == Phase::Open
    }

    /// Tells whether nothing more is to be sent.
    pub(crate) fn is_over(&self) -> bool {
        self.phase.get() == Phase::Over
    }

    /// Begins to count.
    pub(crate) fn open(&self) {
        self.phase.set(Phase::Open);
    }

    /// Ends a load, whether its calls were counted or not.
    pub(crate) fn end(&self) {
        self.phase.set(Phase::Over);
    }

    /// Warms up, opens the window, shuts it. `ours` are all processes of the measurement.
    pub(crate) async fn run(
        &self,
        timing: Timing,
        server: &[Pid],
        ours: &[Pid],
    ) -> anyhow::Result<Passed> {
        let used = || server.iter().map(|process| cpu_time(*process)).sum::<anyhow::Result<_>>();
        sleep(timing.warm_up).await;
        let (weather, server_before, load_before): (_, Duration, _) =
            (Reading::take(ours)?, used()?, cpu_time(rustix::process::getpid())?);
        let idle_before = cores::idle(cores::SERVER)?;
        let opened = Instant::now();
        self.phase.set(Phase::Open);
        sleep(timing.measure).await;
        self.phase.set(Phase::Over);
        let time = opened.elapsed();
        let server_after: Duration = used()?;
        Ok(Passed {
            time,
            server: server_after.saturating_sub(server_before),
            load: cpu_time(rustix::process::getpid())?.saturating_sub(load_before),
            idle: cores::idle(cores::SERVER)?.saturating_sub(idle_before),
            weather: Weather::between(&weather, &Reading::take(ours)?),
        })
    }
}
