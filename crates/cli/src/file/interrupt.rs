//! Ctrl-C and its kin: what is unfinished is removed before the command ends.

use std::future::{Future, pending};
use std::process::exit;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs work to its end. On SIGINT, SIGTERM or SIGHUP it is dropped, which removes unfinished files, and the
/// process ends with 128 and the signal's number, as shells expect.
pub(super) async fn until<T>(work: impl Future<Output = T>) -> T {
    let (mut int, mut term, mut hup) = (
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
        listen(SignalKind::hangup()),
    );
    let number = tokio::select! {
        biased;
        done = work => return done,
        () = next(&mut int) => SignalKind::interrupt(),
        () = next(&mut term) => SignalKind::terminate(),
        () = next(&mut hup) => SignalKind::hangup(),
    }
    .as_raw_value();
    // The work is gone with the select. The runtime is not waited for: a thread of it may read from a
    // terminal for ever.
    eprintln!("twinkeep: interrupted; nothing unfinished was left");
    exit(128 + number)
}

fn listen(kind: SignalKind) -> Option<Signal> {
    // Without a handler the signal ends the process as it always did.
    signal(kind).ok()
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => pending().await,
    }
}
