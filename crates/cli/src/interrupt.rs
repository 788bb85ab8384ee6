//! Ctrl-C and its kin: SIGINT, SIGTERM and SIGHUP, for commands that have something to put right before they end.

use std::future::{Future, pending};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for signals; from then on they end the process no more.
#[derive(Debug)]
pub(crate) struct Interrupts {
    /// Without a handler a signal ends the process as it always did.
    heard: [(SignalKind, Option<Signal>); 3],
}

/// Why work was not done to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A signal came, with this number.
    Signal(i32),
    /// It failed.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl Interrupts {
    /// Begins to listen.
    pub(crate) fn listen() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Self { heard: kinds.map(|kind| (kind, signal(kind).ok())) }
    }

    /// Waits for the next signal and returns its number.
    pub(crate) async fn next(&mut self) -> i32 {
        let [(int, a), (term, b), (hup, c)] = &mut self.heard;
        tokio::select! {
            () = came(a) => int.as_raw_value(),
            () = came(b) => term.as_raw_value(),
            () = came(c) => hup.as_raw_value(),
        }
    }

    /// Does work to its end, unless a signal comes first; the work is dropped then.
    pub(crate) async fn unless<T>(
        &mut self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> Result<T, Stop> {
        tokio::select! {
            biased;
            done = work => Ok(done?),
            number = self.next() => Err(Stop::Signal(number)),
        }
    }
}

async fn came(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => pending().await,
    }
}
